"""The az commands of the documents: those of the installation run as they are, all others parsed by the az CLI itself."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from sandbox.administrators import ProviderAdministrator
from sandbox.az_cli import Az, find_or_install
from tests.conftest import ROOT
from tests.documents.blocks import arguments_of, blocks, commands_to_try
from tests.sandbox.issuer import SERVICE_ACCOUNT
from tests.sandbox.test_az_identity import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.sandbox.issuer import Issuer

pytestmark = [pytest.mark.az, pytest.mark.timeout(900)]
INSTALLATION = ROOT / "docs" / "installation.md"
PARSES = """
import contextlib, io, json, sys
from azure.cli.core import get_default_cli
from knack.events import EVENT_INVOKER_POST_PARSE_ARGS

class Parsed(BaseException):
    "The command is whole: it is not sent."

def parsed(_, **__):
    raise Parsed

cli = get_default_cli()
cli.register_event(EVENT_INVOKER_POST_PARSE_ARGS, parsed)
answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cli.invoke(arguments, out_file=io.StringIO())
        answers.append("it was not parsed")
    except Parsed:
        answers.append("")
    except SystemExit:
        answers.append(said.getvalue() or "it was refused")
json.dump(answers, sys.stdout)
"""


def _refusals(calls: list[list[str]], directory: Path) -> list[str]:
    """What the az CLI says of each command line, without sending anything; empty if it takes it."""
    python = find_or_install()[0]
    home = {"HOME": str(directory), "AZURE_CONFIG_DIR": str(directory), "AZURE_CORE_COLLECT_TELEMETRY": "no"}
    done = subprocess.run(
        [python, "-c", PARSES], input=json.dumps(calls), env=home, capture_output=True, text=True, check=True, timeout=300
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


def test_az_accepts_every_documented_command(tmp_path: Path) -> None:
    here = "test_documented_az_commands.py::test_az_accepts"
    found = [block for block in commands_to_try(ROOT / "docs" / "tutorial.md") if here in block.marker or not block.marker]
    called = {" ".join(arguments): (str(block), arguments) for block, arguments in arguments_of("az", found)}
    wrong = [["keyvault", "key", "rotate", "--vault-name", "x", "--key", "y"], ["keyvault", "key", "revoke"]]
    answers = _refusals([*(arguments for _, arguments in called.values()), *wrong], tmp_path)
    assert all(answers[len(called) :]), "what is wrong is refused"
    assert len(called) > 12
    assert {where: answer for (where, _), answer in zip(called.values(), answers, strict=False) if answer} == {}


async def test_the_installation_makes_what_the_operator_needs(env: Mapping[str, str], issuer: Issuer, tmp_path: Path) -> None:
    az = Az(tmp_path, env)
    az(
        "login", "--service-principal", "--tenant", env["PROVIDER_TENANT_ID"],
        "--username", env["PROVIDER_ADMIN_CLIENT_ID"], "--password", env["PROVIDER_ADMIN_CLIENT_SECRET"],
    )  # fmt: skip
    steps = [block.text for block in blocks(INSTALLATION) if "::test_the_installation_makes" in block.marker]
    configuration = json.dumps({"issuer": issuer.url}, separators=(",", ":"))
    # A person signs in with a browser; here the administrator is signed in already. There is no cluster beside the issuer.
    stubs = f'az() {{ if [ "$*" != login ]; then command az "$@"; fi; }}\nkubectl() {{ echo \'{configuration}\'; }}\n'
    shown = "\nenv | grep -E '^(MANAGED_IDENTITY|APPLICATION|PROVIDER|SUBSCRIPTION|AUDIENCE|ISSUER)'"
    # az takes an application of the same name for the one to change, and other tests have one of the documents' name.
    script = "".join(steps).replace("Contoso CMK", f"Contoso CMK {tmp_path.name}")
    lines = run(az, stubs + script + shown, {}).splitlines()
    made = dict(line.split("=", 1) for line in lines if line.split("=", 1)[0].isupper())
    assert (made["PROVIDER_TENANT_ID"], made["SUBSCRIPTION_ID"]) == (env["PROVIDER_TENANT_ID"], env["SUBSCRIPTION_ID"])
    async with ProviderAdministrator(env) as provider:
        identity = made["MANAGED_IDENTITY_RESOURCE_ID"]
        (trusted,) = (await provider.arm.json("GET", f"{identity}/federatedIdentityCredentials?api-version=2024-11-30"))[
            "value"
        ]
        assert trusted["properties"] == {"issuer": issuer.url, "subject": SERVICE_ACCOUNT, "audiences": [made["AUDIENCE"]]}
        principal = await provider.principal_id(made["MANAGED_IDENTITY_CLIENT_ID"])
        path = f"/applications(appId='{made['APPLICATION_CLIENT_ID']}')/federatedIdentityCredentials"
        (credential,) = (await provider.graph.json("GET", path))["value"]
        assert credential["subject"] == principal
        assert credential["issuer"] == f"https://login.microsoftonline.com/{env['PROVIDER_TENANT_ID']}/v2.0"
        query = f"?$filter=principalId eq '{principal}'&api-version=2022-04-01"
        roles = await provider.arm.json(
            "GET", f"{provider.subscription}/providers/Microsoft.Authorization/roleAssignments{query}"
        )
        assert len(roles["value"]) == 5
