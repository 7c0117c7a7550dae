"""A database with a key of its own: how it is read, and the PATCH that puts it on the wanted key.

Source: azure-mgmt-sql, `Database`; "Transparent data encryption with customer-managed keys at the database level".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cmk_operator.core.encryption.protection import (
    FieldChange,
    KeyChoice,
    MicrosoftManaged,
    OnAnotherKey,
    OnKey,
    Unreadable,
    key_in_force,
    named,
    start_of,
)
from cmk_operator.core.encryption.reported import protection_of
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.protocol import Plan, ResourceFacts, Shown
from cmk_operator.providers.sql.bodies import planned
from cmk_operator.providers.sql.kind import SQL_DATABASE
from cmk_operator.providers.sql.requests import RevalidateDatabase, RevertDatabase, SetDatabaseKey
from cmk_operator.providers.sql.wire import is_inaccessible, on_key, read_identities, unfit, wire_key

if TYPE_CHECKING:
    from azure.mgmt.sql.models import Database

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.encryption.reported import Reported
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Target
    from cmk_operator.providers.sql.requests import SqlRequest


@dataclass(frozen=True, slots=True)
class SqlDatabaseDetail:
    """What a plan needs to know of a database."""

    identity: tuple[ArmId, ...] = ()
    application_client_id: str = ""
    auto_rotation: bool = False
    inaccessible: bool = False
    recovering: bool = False
    """Whether the operator recently asked SQL to open the database again."""
    server: Protection | None = None
    """What protects its server; None if that was not read."""


Facts = ResourceFacts[SqlDatabaseDetail]


def read_database(database: Database) -> Facts:
    """Read the SDK's model of a database. A database without a key of its own is protected by its server's protector."""
    protection = protection_of(database, read_protection)
    properties = database.properties
    if isinstance(protection, Unreadable) or properties is None:
        return ResourceFacts(protection, SqlDatabaseDetail())
    _, identities = read_identities(database.identity)
    following = bool(properties.encryption_protector_auto_rotation)
    closed = is_inaccessible(properties)
    detail = SqlDatabaseDetail(identities, properties.federated_client_id or "", following, closed)
    shown = Shown(inaccessible_databases=(database.name or "",) if closed else ())
    return ResourceFacts(protection, detail, shown)


def read_protection(database: Reported) -> Protection:
    """The database's own key, or that of its server; raises `ShapeError`, also for identities that cannot be read."""
    database.check_identity()
    properties = database.inner("properties")
    properties.text("federatedClientId")
    # Every database has a status; without it, the answer is not one about a database.
    properties.required("status")
    own, following = properties.text("encryptionProtector"), properties.flag("encryptionProtectorAutoRotation")
    return named(own, following=following) if own else MicrosoftManaged()


def with_server(facts: Facts, server: Protection) -> Facts:
    """The facts with what protects the database's server."""
    return replace(facts, detail=replace(facts.detail, server=server))


def recovering(facts: Facts) -> Facts:
    """The facts of a database that SQL was recently asked to open."""
    return replace(facts, detail=replace(facts.detail, recovering=True))


def plan_database(target: Target, want: KeyChoice, seen: Facts) -> Plan[SqlRequest] | Fault | None:
    """The PATCH of identity, application and key, or the revalidation of an inaccessible database.

    A fault says what must happen first; None if nothing is to change.
    """
    start = start_of(seen.protection, SQL_DATABASE.off_another_key)
    if isinstance(start, Fault):
        return start
    changes = _changes(want, seen)
    if not changes and not seen.detail.inaccessible:
        return None
    if seen.detail.inaccessible:
        return _reopen(target, want, seen, changes)
    wrong = unfit(want, f"database {target.id.shown_name}")
    if wrong is not None:
        return wrong
    moves = not on_key(want, seen.protection)
    request = SetDatabaseKey(
        database=target.id,
        identity=want.managed_identity,
        dropped=tuple(one for one in seen.detail.identity if one != want.managed_identity),
        application_client_id=want.application_client_id,
        key=wire_key(want) if moves else None,
        follow_latest=want.key_uri.version is None,
    )
    purpose = "protect the database with the key" if moves else "correct the database's access to its key"
    return planned(request, changes, purpose, keeps_key=not moves)


def plan_database_revert(target: Target, seen: Facts) -> Plan[SqlRequest] | Fault | None:
    """The request back to the server's protector, which Azure accepts only if the server is on a Microsoft-managed key."""
    start = start_of(seen.protection, SQL_DATABASE.off_another_key)
    if not isinstance(start, OnKey):
        return start if isinstance(start, Fault) else None
    name = target.id.shown_name
    change = FieldChange("properties.encryptionProtector", str(start.in_force), "")
    if seen.detail.inaccessible:
        # Azure reverts only a database that can use its key. The key has passed the probe before a revert is planned.
        return _revalidate(target, seen, (change,))
    if isinstance(seen.detail.server, Unreadable):
        message = (
            f"the answer about the server of database {name} cannot be read ({seen.detail.server.what}), so nothing is written"
        )
        return busy(Reason.UNREADABLE, message)
    if isinstance(seen.detail.server, OnKey | OnAnotherKey):
        message = (
            f"database {name} cannot return to its server's protector while the server is on a customer's key: the platform engineer must "
            "revert the server first, or set deletionPolicy to Orphan"
        )
        return blocked(Reason.SERVER_ON_CUSTOMER_KEY, message, Actor.PLATFORM_ENGINEER)
    return planned(RevertDatabase(target.id), (change,), "put the database back on its server's protector")


def _changes(want: KeyChoice, seen: Facts) -> tuple[FieldChange, ...]:
    detail, now = seen.detail, key_in_force(seen.protection)
    following = want.key_uri.version is None
    pairs = (
        (
            "identity.userAssignedIdentities",
            ", ".join(sorted(one.key for one in detail.identity)),
            want.managed_identity.key,
        ),
        ("properties.federatedClientId", detail.application_client_id, want.application_client_id),
        (
            "properties.encryptionProtector",
            str(now or ""),
            str(now) if on_key(want, seen.protection) else str(wire_key(want)),
        ),
        (
            "properties.encryptionProtectorAutoRotation",
            "true" if detail.auto_rotation else "false",
            "true" if following else "false",
        ),
    )
    return tuple(FieldChange(*pair) for pair in pairs if pair[1].lower() != pair[2].lower())


def _reopen(target: Target, want: KeyChoice, seen: Facts, changes: tuple[FieldChange, ...]) -> Plan[SqlRequest] | Fault:
    """Revalidate at once, because the key has just passed the probe. Azure changes nothing on an inaccessible database."""
    name, now = target.id.shown_name, key_in_force(seen.protection)
    if now is None or now.versionless != want.key_uri.versionless:
        key = "its server's key" if now is None else f"its current key {now}"
        message = (
            f"database {name} cannot use {key}, and Azure cannot move it to another key before it can: the provider's administrator must "
            "have the owner of that key restore the access"
        )
        return blocked(Reason.DATABASES_INACCESSIBLE, message, Actor.PROVIDER_ADMINISTRATOR)
    return _revalidate(target, seen, changes)


def _revalidate(target: Target, seen: Facts, changes: tuple[FieldChange, ...]) -> Plan[SqlRequest] | Fault:
    if seen.detail.recovering:
        return busy(Reason.DATABASES_RECOVERING, f"SQL is opening database {target.id.shown_name}")
    opened = FieldChange("properties.status", "Inaccessible", "Online")
    return planned(RevalidateDatabase(target.id), (opened, *changes), "revalidate the key", keeps_key=True)
