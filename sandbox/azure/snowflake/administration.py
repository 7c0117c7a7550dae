"""What people do outside of SQL: Snowflake opens an account, its administrators and approvers click in Snowsight."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Literal

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import BaseModel, ConfigDict

from sandbox.azure.certificates import SNOWFLAKE_REGION
from sandbox.azure.key_vault.crypto import new_data_key
from sandbox.azure.key_vault.service_access import KeyUnreachableError
from sandbox.azure.snowflake.approvals import Approvals
from sandbox.azure.snowflake.model import ACCOUNT_ADMIN, Account, Accounts, Edition, MasterKey, User

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.snowflake.custody import Custody

_ADMINISTRATION = frozenset({"ADMINISTRATION"})


class UserSettings(BaseModel):
    """A user, and the public keys (PEM) that the user signs in with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    public_keys: list[str]
    roles: list[str] = [ACCOUNT_ADMIN, "PUBLIC"]
    default_role: str = "PUBLIC"
    disabled: bool = False
    locked: bool = False


class AccountSettings(BaseModel):
    """What may be set; what is not named stays. `approvers` turns Multi-party Approval on, an empty list off.

    `information` is what SYSTEM$GET_CMK_INFO() says instead of its own words, until it is set to an empty text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    edition: Literal["STANDARD", "ENTERPRISE", "BUSINESS_CRITICAL", "VIRTUAL_PRIVATE_SNOWFLAKE"] | None = None
    suspended: bool | None = None
    users: dict[str, UserSettings] | None = None
    roles: dict[str, list[str]] | None = None
    tables: dict[str, list[list[str]]] | None = None
    approvers: list[str] | None = None
    information: str | None = None


class Vote(BaseModel):
    """An approver's vote on one request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: str
    approver: str
    vote: Literal["APPROVE", "REJECT"]


class Administration:
    """Accounts from outside."""

    def __init__(self, accounts: Accounts, custody: Custody, clock: Clock) -> None:
        self._accounts = accounts
        self._custody = custody
        self._clock = clock

    def put(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Open an account, or change one. Raises ValueError."""
        settings = AccountSettings.model_validate(body)
        account = self._accounts.find(name)
        if account is None:
            locator = secrets.choice("ABCDEFGH") + secrets.choice("ABCDEFGH") + str(10_000 + secrets.randbelow(90_000))
            account = Account(name.upper(), locator, Edition.BUSINESS_CRITICAL, MasterKey(new_data_key()), Approvals())
            account.roles |= {ACCOUNT_ADMIN: _ADMINISTRATION, "PUBLIC": frozenset()}
            self._accounts.add(account)
        if settings.edition is not None:
            account.edition = Edition[settings.edition]
        if settings.suspended is not None:
            account.suspended = settings.suspended
        for role, privileges in (settings.roles or {}).items():
            account.roles[role.upper()] = frozenset(privileges)
        for user, about in (settings.users or {}).items():
            account.users[user.upper()] = _user(user.upper(), about)
        if settings.information is not None:
            account.information = settings.information
        self._fill(account, settings)
        if settings.approvers is not None:
            account.approvals.approvers = tuple(settings.approvers)
            account.approvals.since = self._clock.now() if settings.approvers else None
        return self.shown(account.name)

    def _fill(self, account: Account, settings: AccountSettings) -> None:
        try:
            for table, rows in (settings.tables or {}).items():
                account.tables[table.upper()] = self._custody.seal(account, rows)
        except KeyUnreachableError as error:
            raise ValueError(f"the account's data cannot be written: {error}") from error

    def vote(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """In Snowsight. Raises ValueError."""
        vote = Vote.model_validate(body)
        account = self._found(name)
        account.approvals.vote(vote.request_id, vote.approver, vote.vote, self._clock.now())
        return self.shown(name)

    def shown(self, name: str) -> dict[str, Any]:
        """What only Snowflake itself knows: versions, mails, requests. Raises ValueError."""
        account = self._found(name)
        self._custody.settle(account)
        change = account.change
        return {
            "name": account.name,
            "locator": f"{account.locator}.{SNOWFLAKE_REGION}",
            "edition": account.edition.name,
            "registered": account.registration.key.uri if account.registration else None,
            "active": account.master.key.uri if account.master.key else None,
            "active_version": account.master.version or None,
            "changing_to": (change.to.key.uri if change.to.key else "platform") if change else None,
            "changing_to_version": (change.to.version or None) if change else None,
            "approvals": account.approvals.shown(),
            "emails": list(account.emails),
        }

    def _found(self, name: str) -> Account:
        account = self._accounts.find(name)
        if account is None:
            raise ValueError(f"there is no Snowflake account {name!r}")
        return account


def _user(name: str, about: UserSettings) -> User:
    keys: list[rsa.RSAPublicKey] = []
    for text in about.public_keys:
        key = load_pem_public_key(text.encode())
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
            raise ValueError("a user's public key must be RSA with at least 2048 bits")
        keys.append(key)
    if not 1 <= len(keys) <= 2:
        raise ValueError("a user has one public key or two")
    roles = tuple(dict.fromkeys([*(role.upper() for role in about.roles), "PUBLIC"]))
    return User(name, keys, roles, about.default_role.upper(), about.disabled, about.locked)
