"""Servers, keys, databases and failover groups as they are kept in memory; times are virtual seconds."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.assigned_identities import IdentitySettings
from sandbox.azure.key_vault.service_access import ServiceIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE_MANAGED = "ServiceManaged"
AZURE_KEY_VAULT = "AzureKeyVault"
DAY = 86_400.0
ONLINE, INACCESSIBLE = "Online", "Inaccessible"


@dataclass(frozen=True)
class KeyLocation:
    """A key of a vault as it is named in a key identifier; `version` is empty for the latest."""

    vault_uri: str
    name: str
    version: str = ""

    @property
    def vault(self) -> str:
        """The vault's name: the first label of its host."""
        return self.vault_uri.removeprefix("https://").split(".")[0]

    @property
    def uri(self) -> str:
        """The key identifier."""
        return f"{self.vault_uri}/keys/{self.name}" + (f"/{self.version}" if self.version else "")

    @property
    def server_key_name(self) -> str:
        """How a server names this key: vault_key_version, or vault_key without a version."""
        return "_".join(filter(None, (self.vault, self.name, self.version)))

    def at(self, version: str) -> KeyLocation:
        """The same key at one version."""
        return KeyLocation(self.vault_uri, self.name, version)

    def same_key(self, other: KeyLocation) -> bool:
        """Whether it is the same key, at whatever version."""
        return (self.vault_uri.lower(), self.name.lower()) == (other.vault_uri.lower(), other.name.lower())


@dataclass(frozen=True)
class ServerKey:
    """A key that a server, or a database of its own, may use."""

    location: KeyLocation
    version: str
    thumbprint: str
    created: float
    auto_rotated: bool = False

    @property
    def name(self) -> str:
        """As the server names it."""
        return self.location.server_key_name


@dataclass
class Protection:
    """What protects a server's databases, or one database of its own; without a key it is Microsoft's.

    `identity` says who goes to the vault.
    """

    key: ServerKey | None = None
    auto_rotation: bool = False


@dataclass
class DataKey:
    """A database's encryption key: `plain` is what the engine holds in memory, and drops once the key is lost."""

    plain: bytes | None
    wrapped: bytes | None = None
    under: ServerKey | None = None


@dataclass
class Database:
    """One database. `own` is set when a key of its own protects it; `lost` is when its key was found to be out of reach."""

    server: Server
    name: str
    location: str
    created: float
    data_key: DataKey
    id_number: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = ONLINE
    lost: float | None = None
    sku: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    federated_client_id: str | None = None
    own: Protection | None = None
    keys: dict[str, ServerKey] = field(default_factory=dict)
    replica_of: Database | None = None
    encrypted: bool = True
    """Whether transparent data encryption is on."""
    backup_days: int = 7
    long_term_backups: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The ARM id."""
        return f"{self.server.id}/databases/{self.name}"

    @property
    def who(self) -> ServiceIdentity:
        """Who goes to the vault for this database: itself if it has a key of its own, else its server."""
        if self.own is None:
            return self.server.who
        return ServiceIdentity(self.server.tenant_id, self.identity.user_assigned[0], None, self.federated_client_id)

    @property
    def protection(self) -> Protection:
        """What protects it: its own, its server's, or for a geo-secondary what protects the primary."""
        if self.replica_of is not None and self.own is None:
            return self.replica_of.protection
        return self.own or self.server.protection


@dataclass(frozen=True)
class DroppedDatabase:
    """A deleted database that can be restored until its retention ends."""

    name: str
    location: str
    created: float
    deleted: float
    backup_days: int


@dataclass
class Server:
    """A logical server."""

    id: str
    name: str
    location: str
    tenant_id: str
    created: float
    administrator_login: str
    tags: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    primary_identity: str | None = None
    federated_client_id: str | None = None
    protection: Protection = field(default_factory=Protection)
    keys: dict[str, ServerKey] = field(default_factory=dict)
    databases: dict[str, Database] = field(default_factory=dict)
    dropped: list[DroppedDatabase] = field(default_factory=list)

    @property
    def who(self) -> ServiceIdentity:
        """Who the server is on its way to a vault."""
        return ServiceIdentity(self.tenant_id, self.primary_identity, self.identity.system_principal, self.federated_client_id)


@dataclass
class FailoverGroup:
    """A primary server, its partners, and the databases that are replicated."""

    name: str
    primary: Server
    partners: list[Server]
    databases: list[str]
    read_write: dict[str, Any]
    read_only: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)


class Servers:
    """All servers by name, which is unique over all of Azure, and all failover groups."""

    def __init__(self) -> None:
        self._by_name: dict[str, Server] = {}
        self.groups: list[FailoverGroup] = []

    def find(self, name: str) -> Server | None:
        """By name."""
        return self._by_name.get(name.lower())

    def with_id(self, resource_id: str) -> Server | None:
        """By ARM id."""
        found = self.find(resource_id.rsplit("/", 1)[-1])
        return found if found is not None and found.id.lower() == resource_id.lower() else None

    def add(self, server: Server) -> None:
        """A new server."""
        self._by_name[server.name.lower()] = server

    def remove(self, server: Server) -> None:
        """Gone with its databases."""
        del self._by_name[server.name.lower()]
        self.groups = [one for one in self.groups if server is not one.primary and server not in one.partners]

    def under(self, scope: str) -> list[Server]:
        """Those in a subscription or a group, in the order of creation."""
        prefix = scope.lower() + "/"
        return [one for one in self._by_name.values() if one.id.lower().startswith(prefix)]

    def groups_of(self, server: Server) -> Iterator[FailoverGroup]:
        """The groups in which the server is on either side."""
        return (one for one in self.groups if one.primary is server or server in one.partners)

    def partners_of(self, server: Server) -> list[Server]:
        """The geo-secondaries of a primary: in its failover groups, and of its databases that are replicated one by one."""
        grouped = [partner for one in self.groups if one.primary is server for partner in one.partners]
        return [*grouped, *(one for one in self.replicating(server) if one not in grouped)]

    def replicating(self, server: Server) -> list[Server]:
        """The servers that hold a replica of one of its databases."""
        return [
            one
            for one in self._by_name.values()
            if one is not server
            and any(held.replica_of and held.replica_of.server is server for held in one.databases.values())
        ]

    def links_of(self, server: Server) -> list[tuple[Database, Database]]:
        """The databases of a server that are replicated, each with its partner: from a primary and from a secondary."""
        everywhere = [held for one in self._by_name.values() for held in one.databases.values() if held.replica_of is not None]
        outward = [(held.replica_of, held) for held in everywhere if held.replica_of and held.replica_of.server is server]
        inward = [(held, held.replica_of) for held in everywhere if held.replica_of and held.server is server]
        return outward + inward
