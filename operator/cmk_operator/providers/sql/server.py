"""A SQL server as it is read: its identities, protector, geo-secondaries and inaccessible databases.

Source: azure-mgmt-sql, `Server`, `EncryptionProtector`, `FailoverGroup`, `Database`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from cmk_operator.core.encryption.coverage import shown_protection
from cmk_operator.core.encryption.protection import (
    LONGEST_NAME,
    MicrosoftManaged,
    OnAnotherKey,
    OnKey,
    Unreadable,
    named,
)
from cmk_operator.core.encryption.reported import Reported, protection_of
from cmk_operator.core.identifiers.arm_id import ArmId, InvalidArmIdError, parse_arm_id
from cmk_operator.core.text.foreign_text import cleaned
from cmk_operator.providers.protocol import GeoReplica, ResourceFacts, Shown
from cmk_operator.providers.sql.database import read_protection
from cmk_operator.providers.sql.wire import (
    AZURE_KEY_VAULT,
    SERVICE_MANAGED,
    is_inaccessible,
    read_identities,
    wire_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azure.mgmt.sql.models import Database, EncryptionProtector, FailoverGroup, ReplicationLink, Server

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.faults.azure_failure import AzureFailure


_ON_ROTATION: Final = (
    "a geo-secondary does not follow its primary: each server rotates by its own encryption protector, so the platform engineer must "
    "apply an EncryptedResource with the same key for each of them"
)
_PRIMARY: Final = frozenset({"primary", "source"})


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The identities of a server, and the identity and application with which it accesses its key."""

    kind: str = "None"
    user_assigned: tuple[ArmId, ...] = ()
    primary: ArmId | None = None
    application_client_id: str = ""

    def reaches_as(self, identity: ArmId, application_client_id: str) -> bool:
        """Whether the server accesses its key with this identity and application."""
        return self.primary == identity and self.application_client_id.lower() == application_client_id.lower()


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The names of the keys that were added to a server, in lower case, and how many of them cannot be read."""

    names: frozenset[str] = frozenset()
    unread: int = 0

    def has(self, name: str) -> bool | None:
        """Whether the server has a key of that name; None if the answer does not show it."""
        if name.lower() in self.names:
            return True
        return None if self.unread else False


EntryT = TypeVar("EntryT")


@dataclass(frozen=True, slots=True)
class Listed(Generic[EntryT]):
    """One list of a server: what can be read of it, and the names of the entries that cannot be, for people."""

    found: tuple[EntryT, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Secondary:
    """A geo-secondary with its keys (None: not read), or why it could not be read."""

    id: ArmId
    identity: ServerIdentity | None = None
    known_keys: ServerKeys | None = None
    failure: AzureFailure | None = None


@dataclass(frozen=True, slots=True)
class SqlServerDetail:
    """What a plan needs to know of a server. `known_keys` is None if it was not read."""

    identity: ServerIdentity
    server_key_name: str = SERVICE_MANAGED
    auto_rotation: bool = False
    known_keys: ServerKeys | None = None
    secondaries: tuple[Secondary, ...] = ()
    inaccessible: tuple[str, ...] = ()
    """Databases under the server's own protector that cannot use it."""
    recovering: bool = False
    """Whether the operator recently asked SQL to open them again."""
    primaries: tuple[Partner, ...] = ()
    """The servers of which databases are replicated to this one."""


Facts = ResourceFacts[SqlServerDetail]


@dataclass(frozen=True, slots=True)
class Protector:
    """The encryption protector of a server."""

    protection: Protection = field(default_factory=MicrosoftManaged)
    server_key_name: str = SERVICE_MANAGED
    auto_rotation: bool = False


def is_readable(protector: Protector) -> bool:
    """Whether the answer says what protects the server."""
    return not isinstance(protector.protection, Unreadable)


@dataclass(frozen=True, slots=True)
class Partner:
    """The other server of a failover group, or of the geo-replication of one database."""

    id: ArmId
    secondary: bool
    protector: Protector | None = None
    """Its own protector; None: not read."""
    failure: AzureFailure | None = None
    """Why its protector could not be read."""


@dataclass(frozen=True, slots=True)
class ClosedDatabase:
    """A database that cannot use its key."""

    name: str
    own_key: bool


def read_server(server: Server) -> ServerIdentity:
    """Read the identities from the SDK's model of a server."""
    kind, assigned = read_identities(server.identity)
    properties = server.properties
    if properties is None:
        return ServerIdentity(kind, assigned)
    primary = properties.primary_user_assigned_identity_id
    return ServerIdentity(kind, assigned, ArmId(primary) if primary else None, properties.federated_client_id or "")


def check_server(server: Server) -> Server:
    """The SDK's model of a server. Raises `ShapeError` for an answer that is not about one: a plan would add what it lacks."""
    answer = Reported(server)
    answer.check_identity()
    properties = answer.inner("properties")
    properties.required("fullyQualifiedDomainName")  # of every server
    for name in ("primaryUserAssignedIdentityId", "federatedClientId"):
        properties.text(name)
    return server


def read_protector(protector: EncryptionProtector) -> Protector:
    """Read the SDK's model of a protector; enum values are case-insensitive."""
    protection = protection_of(protector, _protection)
    properties = protector.properties
    if isinstance(protection, MicrosoftManaged | Unreadable) or properties is None:
        return Protector(protection)
    return Protector(protection, properties.server_key_name or "", bool(properties.auto_rotation_enabled))


def _protection(protector: Reported) -> Protection:
    properties = protector.inner("properties")
    kind = properties.required("serverKeyType")
    if kind.lower() == SERVICE_MANAGED.lower():
        return MicrosoftManaged()
    if kind.lower() != AZURE_KEY_VAULT.lower():
        return OnAnotherKey(f"protector of type {kind} {properties.text('uri') or properties.text('serverKeyName')}")
    following = properties.flag("autoRotationEnabled")
    return named(properties.required("uri"), version=properties.text("keyVersion"), following=following)


def server_keys(ids: Iterable[str]) -> ServerKeys:
    """The keys of a server by their ids, which have the name; `name` is not always set. An empty id cannot be read."""
    names = [one.rsplit("/", 1)[-1].lower() for one in ids]
    return ServerKeys(frozenset(filter(None, names)), names.count(""))


def listed_of(what: str, entries: Iterable[tuple[str, Listed[EntryT] | None]]) -> Listed[EntryT]:
    """A list from its entries, each of which was read by itself; one that cannot be read is named."""
    found: list[EntryT] = []
    unread: list[str] = []
    for entry_id, read in entries:
        if read is None:
            unread.append(f"{what} {cleaned(ArmId(entry_id).name, LONGEST_NAME)}" if entry_id else f"a {what} without an id")
        else:
            found += read.found
            unread += read.unread
    return Listed(tuple(found), tuple(sorted(unread)))


def read_partners(group: FailoverGroup) -> Listed[Partner]:
    """The other servers of a failover group. Raises LookupError if it does not show whether this one is its primary."""
    properties = group.properties
    primary = _role(properties.replication_role if properties is not None else None) == "primary"
    found, unread = [], 0
    for partner in (properties.partner_servers if properties is not None else None) or ():
        try:
            found.append(Partner(parse_arm_id(partner.id or ""), primary))
        except InvalidArmIdError:
            unread += 1
    return Listed(tuple(found), (f"a partner server of failover group {cleaned(group.name or '', LONGEST_NAME)}",) * unread)


def read_linked(server: ArmId, link: ReplicationLink) -> Listed[Partner]:
    """The server with a replica, or the primary, of one of this server's databases; active geo-replication has no group.

    Raises LookupError or ValueError if the link does not show which server that is, or its role.
    """
    properties = link.properties
    if properties is None:
        raise LookupError("properties")
    role, partner = _role(properties.role), parse_arm_id((properties.partner_database_id or "").partition("/databases/")[0])
    return Listed((Partner(partner, role in _PRIMARY),) if partner != server else ())


def _role(role: object) -> str:
    found = wire_value(role).lower()
    if not found:
        raise LookupError("role")
    return found


def merged(*partners: Iterable[Partner]) -> tuple[Partner, ...]:
    """Each server once; it is a secondary if one of its entries says so."""
    found: dict[ArmId, Partner] = {}
    for partner in chain(*partners):
        known = found.get(partner.id)
        found[partner.id] = Partner(partner.id, partner.secondary or (known is not None and known.secondary))
    return tuple(sorted(found.values(), key=lambda partner: partner.id.key))


def read_closed(database: Database) -> Listed[ClosedDatabase]:
    """The database if it is inaccessible; `own_key` marks one that does not depend on the server's key.

    Raises LookupError if its own key or its status cannot be read.
    """
    own = protection_of(database, read_protection)
    if isinstance(own, Unreadable) or database.properties is None:
        raise LookupError("properties")
    closed = ClosedDatabase(database.name or "", not isinstance(own, MicrosoftManaged))
    return Listed((closed,) if is_inaccessible(database.properties) else ())


def facts_of(
    identity: ServerIdentity, protector: Protector, closed_databases: Listed[ClosedDatabase], all_partners: Listed[Partner]
) -> Facts:
    """The facts of a server, without what is read only before a write."""
    closed = sorted(closed_databases.found, key=lambda database: database.name)
    partners = all_partners.found
    detail = SqlServerDetail(
        identity,
        protector.server_key_name,
        protector.auto_rotation,
        secondaries=tuple(Secondary(partner.id) for partner in partners if partner.secondary),
        inaccessible=tuple(database.name for database in closed if not database.own_key),
        primaries=tuple(partner for partner in partners if not partner.secondary),
    )
    shown = Shown(
        inaccessible_databases=tuple(database.name for database in closed),
        geo_secondaries=tuple(partner.id.name for partner in partners),
        geo_replicas=tuple(map(_replica, partners)),
        rotation_error=_held_back(protector, partners),
        not_readable=(*closed_databases.unread, *all_partners.unread),
        on_rotation=_ON_ROTATION if any(partner.secondary for partner in partners) else None,
    )
    return ResourceFacts(protector.protection, detail, shown)


def _replica(partner: Partner) -> GeoReplica:
    role: Literal["Primary", "Secondary"] = "Secondary" if partner.secondary else "Primary"
    if partner.protector is None:
        failure = partner.failure
        problem = f"its encryption protector cannot be read ({failure.shown_code})" if failure is not None else None
        return GeoReplica(partner.id.name, role, problem=problem)
    protection = partner.protector.protection
    if isinstance(protection, Unreadable):
        return GeoReplica(partner.id.name, role, problem=f"its encryption protector cannot be read ({protection.what})")
    return GeoReplica(partner.id.name, role, _versionless(protection), partner.protector.auto_rotation)


def _versionless(protection: Protection) -> str:
    """What protects a server, without the version, which differs between servers while they rotate."""
    return str(protection.uri.versionless) if isinstance(protection, OnKey) else shown_protection(protection)


def _held_back(protector: Protector, partners: tuple[Partner, ...]) -> str | None:
    """Why Azure does not rotate the server's key by itself: a geo-secondary must take each version first, and takes none."""
    if not protector.auto_rotation or not isinstance(protector.protection, OnKey):
        return None
    key = protector.protection.uri.versionless
    for partner in partners:
        own = partner.protector
        if not partner.secondary or own is None or isinstance(own.protection, Unreadable):
            continue
        if not isinstance(own.protection, OnKey) or own.protection.uri.versionless != key:
            what = f"is on {_versionless(own.protection)}"
        elif not own.auto_rotation:
            what = "does not rotate its key automatically (autoRotationEnabled is false)"
        else:
            continue
        return (
            f"geo-secondary {partner.id.name} {what}, so it takes no new version of the key, and Azure then rotates neither server: the "
            f"platform engineer must apply an EncryptedResource for {partner.id.name} with the same key, or the provider's administrator "
            "set its encryption protector to that key with automatic rotation"
        )
    return None


def with_keys(facts: Facts, known_keys: ServerKeys, secondaries: tuple[Secondary, ...]) -> Facts:
    """The facts with the keys on the server, and with its geo-secondaries as they were read."""
    return replace(facts, detail=replace(facts.detail, known_keys=known_keys, secondaries=secondaries))
