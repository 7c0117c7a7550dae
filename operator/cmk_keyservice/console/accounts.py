"""Break-glass accounts: entries of one Secret, each with a person, the organizations that it administers, and a hash by argon2id.

Nothing of an account is under an organization's key or at an identity provider. Sources: RFC 9106, section 4 (second recommended
option); NIST SP 800-63B-4, section 3.1.1.2 (15 characters and more when a password is the only factor, no rules of composition).
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ACCOUNT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
ORGANIZATION: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""An OrganizationKey as NAMESPACE/NAME: an id alone could be claimed by another namespace."""
SHORTEST_PASSWORD: Final = 15
LONGEST_PASSWORD: Final = 256
LONGEST_PERSON: Final = 120
MOST_ORGANIZATIONS: Final = 20
MOST_ACCOUNTS: Final = 1000
LARGEST_ENTRY: Final = 16 * 1024
STRENGTH: Final = argon2.Parameters(
    type=argon2.Type.ID,
    version=0x13,
    salt_len=16,
    hash_len=32,
    time_cost=3,
    memory_cost=64 * 1024,
    parallelism=4,
)
"""What every hash must have, no less and no more: hashes of different cost would tell which names exist."""
_HASHER: Final = argon2.PasswordHasher.from_parameters(STRENGTH)
_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without letters and digits that look alike: people type the password from paper."""
_GROUPS: Final = 7


class AccountError(ValueError):
    """An account that cannot be made or used; the sentence says why, and holds no password and no hash."""


@dataclass(frozen=True)
class Account:
    """One entry of the Secret. `since`: when the entry was made; a use from before it proves nothing of it."""

    name: str
    person: str
    organizations: frozenset[str]
    since: datetime
    hash: str = field(repr=False)

    @property
    def entry(self) -> str:
        """The entry as the Secret holds it."""
        parts = {
            "person": self.person,
            "organizations": sorted(self.organizations),
            "since": to_rfc3339(self.since),
            "hash": self.hash,
        }
        return json.dumps(parts, ensure_ascii=False)


def new_account(name: str, person: str, organizations: Sequence[str], password: str, now: datetime) -> Account:
    """An account with a hash of the password, which takes about 0.3 s and 64 MiB. Raises AccountError."""
    if ACCOUNT_NAME.fullmatch(name) is None:
        raise AccountError("the name of an account has lower-case letters, digits and hyphens, and at most 63 of them")
    checked = _checked(name, person, organizations, now, "")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters: it is the only factor")
    if not password.isprintable() or name in password.lower():
        raise AccountError("a password has printable characters only, and does not contain the name of its account")
    return Account(checked.name, checked.person, checked.organizations, checked.since, _HASHER.hash(password))


def new_password() -> str:
    """A random password of 138 bits, in groups that people can type."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(_GROUPS))


def read_account(name: str, text: str) -> Account:
    """The account of an entry. Raises AccountError, also for a hash that is weaker or stronger than `STRENGTH`."""
    try:
        found = json.loads(text)
        person, organizations, made, hashed = (found[one] for one in ("person", "organizations", "since", "hash"))
        since = datetime.fromisoformat(made)
        parameters = argon2.extract_parameters(hashed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidHashError) as error:
        raise AccountError("its entry is not as cmk-keyservice break-glass writes it: write it anew") from error
    if not isinstance(person, str) or not isinstance(organizations, list) or since.tzinfo is None:
        raise AccountError("its entry is not as cmk-keyservice break-glass writes it: write it anew")
    account = _checked(name, person, organizations, since, hashed)
    if parameters != STRENGTH:
        raise AccountError("its hash is not of the strength that this release asks for: write its entry anew")
    return account


def _checked(name: str, person: str, organizations: Sequence[object], since: datetime, hashed: str) -> Account:
    if not person.strip() or len(person) > LONGEST_PERSON or not person.isprintable():
        raise AccountError(f"an account names the person whose it is, in at most {LONGEST_PERSON} printable characters")
    named = frozenset(one for one in organizations if isinstance(one, str) and ORGANIZATION.fullmatch(one))
    if not organizations or len(organizations) > MOST_ORGANIZATIONS or len(named) != len(organizations):
        raise AccountError(
            f"an account names 1 to {MOST_ORGANIZATIONS} OrganizationKeys, each once and as NAMESPACE/NAME, such as acme/acme"
        )
    return Account(name, person, named, since, hashed)


@dataclass(frozen=True)
class Unusable:
    """An entry that nobody can sign in with; `organizations` as far as they can be read."""

    name: str
    organizations: frozenset[str]
    why: str


class Accounts:
    """The Secret as it is mounted; read anew each time, so that a change takes effect without a restart."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._decoy = _HASHER.hash(new_password())

    @property
    def offered(self) -> bool:
        """Whether the provider has mounted accounts."""
        return self._folder is not None and self._folder.is_dir()

    async def find(self, name: str) -> Account | None:
        """The account of this name, if it can be used. Raises OSError if a file is there and cannot be read."""
        return await asyncio.to_thread(self._find, name)

    async def all(self) -> list[Account | Unusable]:
        """All entries. Raises OSError."""
        return await asyncio.to_thread(self._all)

    async def verified(self, name: str, password: str) -> Account | None:
        """The account, if the password is its own. An unknown name costs as much time as a known one. Raises OSError."""
        return await asyncio.to_thread(self._verified, name, password)

    def _find(self, name: str) -> Account | None:
        found = self._read(name)
        return found if isinstance(found, Account) else None

    def _read(self, name: str) -> Account | Unusable | None:
        if self._folder is None or ACCOUNT_NAME.fullmatch(name) is None:
            return None
        try:
            with (self._folder / name).open("rb") as file:
                text = file.read(LARGEST_ENTRY).decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        try:
            return read_account(name, text)
        except AccountError as error:
            return Unusable(name, _organizations_in(text), str(error))

    def _all(self) -> list[Account | Unusable]:
        if self._folder is None or not self._folder.is_dir():
            return []
        names = sorted(one.name for one in self._folder.iterdir() if ACCOUNT_NAME.fullmatch(one.name))
        return [found for name in names[:MOST_ACCOUNTS] if (found := self._read(name)) is not None]

    def _verified(self, name: str, password: str) -> Account | None:
        account = self._find(name)
        try:
            _HASHER.verify(account.hash if account is not None else self._decoy, password)
        except (Argon2Error, InvalidHashError):
            return None
        return account


def _organizations_in(text: str) -> frozenset[str]:
    try:
        found = json.loads(text)["organizations"]
        return frozenset(one for one in found if isinstance(one, str) and ORGANIZATION.fullmatch(one))
    except (ValueError, KeyError, TypeError, RecursionError):
        return frozenset()
