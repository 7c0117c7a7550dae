"""`cmk-keyservice break-glass`: writes the entry of one account as a manifest, for `kubectl apply --server-side`."""

from __future__ import annotations

import argparse
import getpass
import sys
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import yaml

from cmk_keyservice.console.accounts import AccountError, new_account, new_password

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_keyservice.console.accounts import Account

DEFAULT_NAME: Final = "cmk-break-glass"
_DESCRIPTION: Final = """\
Write the Secret's entry of a break-glass account, new or with another password, to standard output. Apply it with

  kubectl apply --server-side --field-manager=break-glass-NAME --filename -

Each account has a field manager of its own, so that the other accounts of the Secret stay. Without --password-stdin the password is
generated and shown on this terminal, once; it is nowhere else.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cmk-keyservice break-glass", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="NAME", help="name of the account: lower-case letters, digits and hyphens")
    parser.add_argument("--person", required=True, help="whose account it is, as the audit record names them")
    parser.add_argument(
        "--organization",
        required=True,
        action="append",
        metavar="NAMESPACE/NAME",
        help="an OrganizationKey that the account administers; may be given again",
    )
    parser.add_argument("--namespace", required=True, help="namespace of the console")
    parser.add_argument("--secret", default=DEFAULT_NAME, help=f"name of the Secret ({DEFAULT_NAME})")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from the first line of standard input")
    return parser


def _manifest(account: Account, namespace: str, secret: str) -> str:
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret, "namespace": namespace},
        "data": {account.name: b64encode(account.entry.encode()).decode()},
    }
    return yaml.safe_dump(manifest, sort_keys=False)


def break_glass(arguments: Sequence[str]) -> int:
    """Write the entry; returns the exit status. 2: the arguments or the password cannot be used, and the last line says why."""
    asked = _parser().parse_args(arguments)
    generated = not asked.password_stdin
    if generated and not sys.stderr.isatty():
        sys.stderr.write(
            "cmk-keyservice: a generated password is shown on a terminal only, so that it is in no log: run this in one, or give "
            "--password-stdin\n"
        )
        return 2
    if generated:
        password = new_password()
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        account = new_account(asked.name, asked.person, asked.organization, password, datetime.now(UTC))
    except AccountError as error:
        sys.stderr.write(f"cmk-keyservice: {error}\n")
        return 2
    sys.stdout.write(_manifest(account, asked.namespace, asked.secret))
    sys.stdout.flush()
    if generated:
        sys.stderr.write(
            f"password of {account.name}: {password}\nWrite it down now, and keep it where {account.person} finds it.\n"
        )
    return 0
