"""Storage accounts as they are kept in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.azure.arm.assigned_identities import IdentitySettings
from sandbox.azure.endpoints import here
from sandbox.azure.key_vault.identifiers import vault_of

PLATFORM = "Microsoft.Storage"
KEY_VAULT = "Microsoft.Keyvault"


@dataclass(frozen=True)
class CustomerKey:
    """Which key protects the account, and as whom the service goes to it; `version` is empty for automatic."""

    vault_uri: str
    name: str
    version: str
    user_assigned_identity: str | None
    federated_client_id: str | None

    def same_key(self, other: CustomerKey) -> bool:
        """Whether it is the same key at the same version."""
        mine, others = ((vault_of(one.vault_uri), one.name.lower(), one.version) for one in (self, other))
        return mine == others

    def same_identity(self, other: CustomerKey) -> bool:
        """Whether the service goes to the vault as the same identity and application."""
        mine, others = (
            ((one.user_assigned_identity or "").lower(), (one.federated_client_id or "").lower()) for one in (self, other)
        )
        return mine == others


@dataclass
class DataKey:
    """The account's data encryption key: plain under the platform's key, wrapped under the customer's.

    `plain` is what the service holds in memory: it drops it once it can no longer unwrap.
    """

    plain: bytes | None
    wrapped: bytes | None = None
    key_version: str = ""
    key_id: str = ""
    expires: int | None = None
    rotated: float = 0.0
    verified: float = 0.0
    version_checked: float = 0.0


@dataclass
class Blob:
    """One block blob, encrypted under the account's data key."""

    nonce: bytes
    sealed: bytes
    size: int
    content_type: str
    etag: str
    created: float
    modified: float
    metadata: dict[str, str] = field(default_factory=dict)
    scope: str | None = None
    """The encryption scope under whose key it is; None: under the account's."""


@dataclass
class Container:
    """One container."""

    name: str
    etag: str
    modified: float
    metadata: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)


@dataclass
class EncryptionScope:
    """A key of its own for blobs and containers; `key_uri` is None while the platform's key protects it."""

    account_id: str
    name: str
    source: str
    created: float
    modified: float
    state: str = "Enabled"
    key_uri: str | None = None
    key: CustomerKey | None = None
    data_key: DataKey | None = None
    infrastructure_encryption: bool | None = None


@dataclass
class StorageAccount:
    """A storage account; times are virtual seconds."""

    id: str
    name: str
    location: str
    sku: dict[str, str]
    kind: str
    tenant_id: str
    created: float
    ready: float
    data_key: DataKey
    customer_key: CustomerKey | None = None
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    services: dict[str, str] = field(default_factory=dict)
    infrastructure_encryption: bool | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    scopes: dict[str, EncryptionScope] = field(default_factory=dict)

    @property
    def has_queues_and_tables(self) -> bool:
        """Whether accounts of this kind have queues and tables at all."""
        return self.kind in {"Storage", "StorageV2"} and not self.sku["name"].startswith("Premium")

    @property
    def host(self) -> str:
        """The blob endpoint's DNS name."""
        return f"{self.name}{here().blob_suffix}"


class StorageAccounts:
    """All accounts by name, which is unique over all of Azure, and by their place."""

    def __init__(self) -> None:
        self._by_name: dict[str, StorageAccount] = {}

    def find(self, name: str) -> StorageAccount | None:
        """By name."""
        return self._by_name.get(name.lower())

    def add(self, account: StorageAccount) -> None:
        """A new account."""
        self._by_name[account.name.lower()] = account

    def remove(self, account: StorageAccount) -> None:
        """Gone with its data."""
        del self._by_name[account.name.lower()]

    def under(self, scope: str) -> list[StorageAccount]:
        """Those in a subscription or a group, in the order of creation."""
        prefix = scope.lower() + "/"
        return [one for one in self._by_name.values() if one.id.lower().startswith(prefix)]
