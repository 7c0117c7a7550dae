"""Plans how a SQL server gets to the wanted key: identity, then server key (also on its geo-secondaries), then protector.

Source: "Cross-tenant customer-managed keys with transparent data encryption" (also for a server that has another key by another
application); "Azure SQL transparent data encryption with customer-managed key" (geo-replication, inaccessible databases).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.protection import FieldChange, OnKey, key_in_force, start_of
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.names import names_shown
from cmk_operator.providers.sql.bodies import planned
from cmk_operator.providers.sql.faults import judge_sql_failure
from cmk_operator.providers.sql.kind import SQL_SERVER
from cmk_operator.providers.sql.options import SqlServerOptions
from cmk_operator.providers.sql.requests import (
    AddServerKey,
    RevalidateServer,
    SetProtector,
    SetServerIdentity,
    SetServiceManagedProtector,
)
from cmk_operator.providers.sql.wire import (
    SERVICE_MANAGED,
    on_key,
    server_key_name,
    unfit,
    wire_key,
)

if TYPE_CHECKING:
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Plan, Target
    from cmk_operator.providers.sql.requests import SqlRequest
    from cmk_operator.providers.sql.server import Facts, Secondary

_UNSET: Final = ""


def plan_server(target: Target, want: KeyChoice, seen: Facts) -> Plan[SqlRequest] | Fault | None:
    """The next request with all remaining changes; None if the server is right and its databases are accessible.

    A fault says what must happen first.
    """
    start = start_of(seen.protection, SQL_SERVER.off_another_key)
    if isinstance(start, Fault):
        return start
    identity, key = _identity_changes(want, seen), _key_changes(want, seen)
    changes = (*identity, *key)
    closed = seen.detail.inaccessible
    same_key = _same_key(want, seen)
    if not changes and not closed:
        return None
    if closed and not same_key:
        return _closed_on_another_key(target, seen)
    wrong = unfit(want, f"server {target.id.name}") if changes else None
    if wrong is not None:
        return wrong
    if identity and isinstance(start, OnKey) and not same_key:
        return _switch(target, seen, changes)
    if identity:
        return _identify(target, want, seen, changes)
    if closed:
        return _reopen(target, seen, changes)
    return _protect(target, want, seen, changes)


def plan_server_revert(target: Target, seen: Facts) -> Plan[SqlRequest] | Fault | None:
    """The next request back to a Microsoft-managed key; the server keeps its identities and old keys.

    Azure refuses that while a database is inaccessible. A revert is planned only after the key has passed the probe, so the
    database is opened first: Azure itself never opens one that was inaccessible for longer than half an hour.
    """
    start = start_of(seen.protection, SQL_SERVER.off_another_key)
    if not isinstance(start, OnKey):
        return start if isinstance(start, Fault) else None
    change = FieldChange("encryptionProtector.serverKeyName", seen.detail.server_key_name, SERVICE_MANAGED)
    if seen.detail.inaccessible:
        return _reopen(target, seen, (change,))
    return _service_managed(target, (change,), "put the server back on a Microsoft-managed key")


def _same_key(want: KeyChoice, seen: Facts) -> bool:
    now = key_in_force(seen.protection)
    return now is not None and now.versionless == want.key_uri.versionless


def _identity_changes(want: KeyChoice, seen: Facts) -> tuple[FieldChange, ...]:
    identity = seen.detail.identity
    present = want.managed_identity in identity.user_assigned
    pairs = (
        ("identity.type", identity.kind, _identity_type(identity.kind)),
        ("identity.userAssignedIdentities", "present" if present else _UNSET, "present"),
        (
            "properties.primaryUserAssignedIdentityId",
            identity.primary.key if identity.primary else _UNSET,
            want.managed_identity.key,
        ),
        ("properties.federatedClientId", identity.application_client_id, want.application_client_id),
    )
    return tuple(FieldChange(*pair) for pair in pairs if pair[1].lower() != pair[2].lower())


def _identity_type(present: str) -> str:
    """Add UserAssigned and keep SystemAssigned; SQL writes the pair without a space."""
    return "SystemAssigned,UserAssigned" if "systemassigned" in present.lower() else "UserAssigned"


def _key_changes(want: KeyChoice, seen: Facts) -> tuple[FieldChange, ...]:
    detail, name = seen.detail, _wanted_name(want, seen)
    known = detail.known_keys
    missing = name != detail.server_key_name and (known is None or known.has(name) is False)
    following = want.key_uri.version is None
    pairs = (
        (f"keys/{name}", _UNSET, str(wire_key(want)) if missing else _UNSET),
        *(
            (f"{one.id.name}: keys/{name}", _UNSET, str(wire_key(want)))
            for one in detail.secondaries
            if one.known_keys is not None and one.known_keys.has(name) is False
        ),
        ("encryptionProtector.serverKeyName", detail.server_key_name, name),
        (
            "encryptionProtector.autoRotationEnabled",
            "true" if detail.auto_rotation else "false",
            "true" if following else "false",
        ),
    )
    right = on_key(want, seen.protection) and detail.auto_rotation == following
    return () if right else tuple(FieldChange(*pair) for pair in pairs if pair[1].lower() != pair[2].lower())


def _wanted_name(want: KeyChoice, seen: Facts) -> str:
    """The name of the wanted key on the server: the one in force if that is right, whatever its version."""
    return seen.detail.server_key_name if on_key(want, seen.protection) else server_key_name(wire_key(want))


def _identify(target: Target, want: KeyChoice, seen: Facts, changes: tuple[FieldChange, ...]) -> Plan[SqlRequest]:
    """Set identity and application; the server's other identities stay, because others may use them."""
    identity = seen.detail.identity
    present = identity.user_assigned
    kept = present if want.managed_identity in present else (*present, want.managed_identity)
    request = SetServerIdentity(
        target.id, _identity_type(identity.kind), kept, want.managed_identity, want.application_client_id
    )
    return planned(request, changes, "set the server's identity", keeps_key=on_key(want, seen.protection))


def _switch(target: Target, seen: Facts, changes: tuple[FieldChange, ...]) -> Plan[SqlRequest] | Fault:
    """Another key with another identity or application: nothing could unwrap the old key then.

    So Azure needs a Microsoft-managed key in between.
    """
    options = target.options
    if isinstance(options, SqlServerOptions) and options.switch_through_service_managed_key:
        between = FieldChange("encryptionProtector.serverKeyName", seen.detail.server_key_name, SERVICE_MANAGED)
        return _service_managed(
            target, (between, *changes), "put the server on a Microsoft-managed key to change its application"
        )
    present = seen.detail.identity.application_client_id or "no application"
    message = (
        f"server {target.id.name} accesses its current key {key_in_force(seen.protection)} with {present}, and with another identity or "
        "application it would lose that key before it has the new one: the platform engineer must allow a Microsoft-managed key for a "
        "moment with spec.sqlServer.switchThroughServiceManagedKey, or the provider's administrator must put the server on the new key"
    )
    return blocked(Reason.SWITCH_NEEDS_SERVICE_MANAGED_KEY, message, Actor.PLATFORM_ENGINEER)


def _service_managed(target: Target, changes: tuple[FieldChange, ...], purpose: str) -> Plan[SqlRequest]:
    return planned(SetServiceManagedProtector(target.id), changes, purpose)


def _closed_on_another_key(target: Target, seen: Facts) -> Fault:
    message = (
        f"databases of server {target.id.name} cannot use its current key {key_in_force(seen.protection)} "
        f"({names_shown(seen.detail.inaccessible)}), and Azure cannot move them to another key before they can: the provider's "
        "administrator must have the owner of that key restore the access"
    )
    return blocked(Reason.DATABASES_INACCESSIBLE, message, Actor.PROVIDER_ADMINISTRATOR)


def _reopen(target: Target, seen: Facts, changes: tuple[FieldChange, ...]) -> Plan[SqlRequest] | Fault:
    """Revalidate at once instead of waiting for Azure: the key has just passed the probe, so the databases open sooner."""
    closed = seen.detail.inaccessible
    if seen.detail.recovering:
        return busy(Reason.DATABASES_RECOVERING, f"SQL is opening databases of server {target.id.name}: {names_shown(closed)}")
    opened = FieldChange(f"status of databases {names_shown(closed)}", "Inaccessible", "Online")
    return planned(RevalidateServer(target.id), (opened, *changes), "revalidate the key", keeps_key=True)


def _protect(target: Target, want: KeyChoice, seen: Facts, changes: tuple[FieldChange, ...]) -> Plan[SqlRequest] | Fault:
    detail, name = seen.detail, _wanted_name(want, seen)
    moves = name.lower() != detail.server_key_name.lower()
    present = detail.known_keys.has(name) if detail.known_keys is not None else False
    if moves and present is None:
        return _unreadable_keys(f"server {target.id.name}")
    if moves and not present:
        return _add_key(target.id, want, changes, "add the key to the server")
    if moves:
        for secondary in detail.secondaries:
            first = _secondary_first(target, want, secondary, changes)
            if first is not None:
                return first
    request = SetProtector(target.id, name, want.key_uri.version is None)
    purpose = "protect the server with the key" if moves else "correct the automatic rotation of the key"
    return planned(request, changes, purpose, keeps_key=on_key(want, seen.protection))


def _add_key(server: ArmId, want: KeyChoice, changes: tuple[FieldChange, ...], purpose: str) -> Plan[SqlRequest]:
    key = wire_key(want)
    return planned(AddServerKey(server, server_key_name(key), key), changes, purpose)


def _secondary_first(
    target: Target, want: KeyChoice, secondary: Secondary, changes: tuple[FieldChange, ...]
) -> Plan[SqlRequest] | Fault | None:
    """What a geo-secondary needs first: the key must be on it before it protects the primary. None if it is there.

    A geo-secondary is read in every scope, because others may add the key; it is changed only in the tenant's scopes. Its own
    protector is set by its own manifest.
    """
    name, server = secondary.id.name, target.id.name
    if secondary.failure is not None:
        return _unread(server, name, secondary.failure)
    present = secondary.known_keys.has(server_key_name(wire_key(want))) if secondary.known_keys is not None else True
    if present is None:
        return _unreadable_keys(f"geo-secondary {name} of server {server}")
    if present:
        return None
    if not target.in_scope(secondary.id):
        message = (
            f"geo-secondary {name} of server {server} needs the key first, but is outside the tenant's allowedScopes: the "
            "provider's administrator must add the key to it, or its scope to the CustomerTenant"
        )
        return blocked(Reason.GEO_SECONDARY_OUT_OF_SCOPE, message, Actor.PROVIDER_ADMINISTRATOR)
    if secondary.identity is None or not secondary.identity.reaches_as(want.managed_identity, want.application_client_id):
        message = (
            f"geo-secondary {name} of server {server} needs the key first, but does not use the same identity and application "
            f"yet: the platform engineer must apply an EncryptedResource for {name} with the same key"
        )
        return blocked(Reason.GEO_SECONDARY_NOT_READY, message, Actor.PLATFORM_ENGINEER)
    return _add_key(secondary.id, want, changes, f"add the key to geo-secondary {name}")


def _unreadable_keys(server: str) -> Fault:
    """The wanted key may be the one that cannot be read: adding it would repeat a write for as long as that lasts."""
    message = (
        f"the list of the keys of {server} has entries that cannot be read, and the wanted key is none of the others, so nothing is "
        "concluded from it and nothing is written"
    )
    return busy(Reason.UNREADABLE, message)


def _unread(server: str, name: str, failure: AzureFailure) -> Fault:
    fault = judge_sql_failure(failure, f"geo-secondary {name} of server {server}")
    return Fault(Reason.GEO_SECONDARY_UNREACHABLE, fault.message, fault.actor, fault.retry_after, cause=fault.kind)
