"""Snowflake accounts as they are kept in memory; times are virtual seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sandbox.azure.certificates import SNOWFLAKE_REGION

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from sandbox.azure.snowflake.approvals import Approvals

ACCOUNT_ADMIN = "ACCOUNTADMIN"


class Edition(Enum):
    """In the order of what they may do (https://docs.snowflake.com/en/user-guide/intro-editions)."""

    STANDARD = 1
    ENTERPRISE = 2
    BUSINESS_CRITICAL = 3
    VIRTUAL_PRIVATE_SNOWFLAKE = 4


@dataclass
class User:
    """A user of one account, who signs in with one of at most two key pairs."""

    name: str
    public_keys: list[rsa.RSAPublicKey]
    roles: tuple[str, ...]
    default_role: str
    disabled: bool = False
    locked: bool = False


@dataclass(frozen=True)
class KeyLocation:
    """A customer's key as it was registered: without a version, because Snowflake takes none."""

    vault_host: str
    name: str

    @property
    def uri(self) -> str:
        """As Snowflake prints it."""
        return f"https://{self.vault_host}/keys/{self.name}"


@dataclass
class Registration:
    """The one key that is registered, and when."""

    key: KeyLocation
    at: float


@dataclass
class MasterKey:
    """An account master key: Snowflake's alone, or composed with a customer's key and then wrapped under one version of it.

    `plain` is what the service holds in memory: it drops it once it can no longer unwrap.
    """

    plain: bytes | None
    key: KeyLocation | None = None
    version: str = ""
    wrapped: bytes = b""
    verified: float = 0.0


@dataclass
class Change:
    """The background service re-encrypts everything under `to`; until `ends`, and until it can, the old key is needed as well."""

    to: MasterKey
    ends: float


@dataclass
class Table:
    """Rows of text, encrypted under the account master key."""

    nonce: bytes
    sealed: bytes


@dataclass
class Account:
    """One Snowflake account."""

    name: str
    locator: str
    edition: Edition
    master: MasterKey
    approvals: Approvals
    users: dict[str, User] = field(default_factory=dict)
    roles: dict[str, frozenset[str]] = field(default_factory=dict)
    suspended: bool = False
    registration: Registration | None = None
    change: Change | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    emails: list[str] = field(default_factory=list)
    """What was sent to the account's administrators."""
    information: str = ""
    """What SYSTEM$GET_CMK_INFO() says instead of its own words."""


class Accounts:
    """All accounts, by their name `<organization>-<account>` and by locator and region."""

    def __init__(self) -> None:
        self._by_label: dict[str, Account] = {}

    def find(self, host: str) -> Account | None:
        """By host; underscores and hyphens are the same there (https://docs.snowflake.com/en/user-guide/admin-account-identifier)."""
        return self._by_label.get(host.lower().removesuffix(".snowflakecomputing.com").replace("_", "-"))

    def add(self, account: Account) -> None:
        """A new account."""
        self._by_label[account.name.lower().replace("_", "-")] = account
        self._by_label[f"{account.locator.lower()}.{SNOWFLAKE_REGION}"] = account
