"""What customers, providers and platform engineers do; each action returns what it did, or None if it was not possible."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from azure.core.exceptions import HttpResponseError

from tests.soak.customer import Key, Version
from tests.soak.world import AT_ONCE, SLOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from tests.soak.steps import Picks
    from tests.soak.world import KeyManifest, Manifest, World

HOUR: Final = timedelta(hours=1)
CENTURY: Final = timedelta(days=36_500)


@asynccontextmanager
async def _inside(world: World) -> AsyncIterator[None]:
    """Within the vault's firewall, as the customer's own network is."""
    customer, vault = world.ground.customer, world.vault
    if not vault.open:
        await customer.set_firewall(vault.name, default_action="Allow")
    yield
    if not vault.open:
        await customer.set_firewall(vault.name, default_action="Deny")


def _key(world: World, picks: Picks) -> Key:
    keys = list(world.vault.keys.values())
    return keys[0] if picks.of(3) else keys[1]


async def new_version(world: World, picks: Picks) -> str | None:
    key = _key(world, picks)
    if key.deleted or world.vault.deleted or len(key.versions) > 12:
        return None
    async with _inside(world):
        made = (await world.ground.customer.new_version(world.vault.name, key.name)).rsplit("/", 1)[-1]
    key.versions.append(Version(made, world.ground.time.now()))
    return f"{key.name} has version {made}"


async def _set_enabled(world: World, picks: Picks, *, enabled: bool) -> str | None:
    key = _key(world, picks)
    found = [version for version in key.versions if version.enabled != enabled]
    if key.deleted or world.vault.deleted or not found:
        return None
    version = found[-1] if picks.of(2) else found[picks.of(found)]
    act = world.ground.customer.enable if enabled else world.ground.customer.disable
    async with _inside(world):
        await act(world.vault.name, key.name, version.id)
    version.enabled = enabled
    return f"{key.name} {version.id}: enabled={enabled}"


async def disable(world: World, picks: Picks) -> str | None:
    return await _set_enabled(world, picks, enabled=False)


async def enable(world: World, picks: Picks) -> str | None:
    return await _set_enabled(world, picks, enabled=True)


async def expire(world: World, picks: Picks) -> str | None:
    key = _key(world, picks)
    if key.deleted or world.vault.deleted:
        return None
    version = key.versions[picks.of(key.versions)]
    await _set_expired(world, key, version, expired=not version.expired)
    return f"{key.name} {version.id}: expired={version.expired}"


async def _set_expired(world: World, key: Key, version: Version, *, expired: bool) -> None:
    expires = world.ground.time.moment() + (-HOUR if expired else CENTURY)
    async with _inside(world):
        await world.ground.customer.set_validity(world.vault.name, key.name, version.id, expires=expires)
    version.expired = expired


async def delete_key(world: World, picks: Picks) -> str | None:
    key = _key(world, picks)
    if key.deleted or world.vault.deleted:
        return None
    async with _inside(world):
        await world.ground.customer.delete_key(world.vault.name, key.name)
    key.deleted = True
    world.vault.begin_lag()
    return key.name


async def recover_key(world: World, picks: Picks) -> str | None:
    lost = [key for key in world.vault.keys.values() if key.deleted]
    if not lost or world.vault.deleted:
        return None
    key = lost[picks.of(lost)]
    async with _inside(world):
        await world.ground.customer.recover_key(world.vault.name, key.name)
    key.deleted = False
    world.vault.begin_lag()
    return key.name


async def delete_vault(world: World, picks: Picks) -> str | None:
    if world.vault.deleted or world.vault.locked is not None:
        return None
    await world.ground.customer.delete_vault(world.vault.name)
    # Its role assignments are deleted with it: after a recovery the role must be assigned again.
    world.vault.deleted, world.vault.granted = True, False
    return world.vault.name


async def recover_vault(world: World, picks: Picks) -> str | None:
    if not world.vault.deleted:
        return None
    customer, vault = world.ground.customer, world.vault
    await customer.recover_vault(vault.name)
    vault.deleted = False
    vault.begin_lag()
    return vault.name


async def revoke_role(world: World, picks: Picks) -> str | None:
    vault = world.vault
    if not vault.granted or not vault.consent or vault.deleted or vault.locked is not None:
        return None
    await world.ground.customer.revoke_grant(world.ground.identity.application_client_id, vault.name)
    vault.grant_changed(granted=False)
    return "the role is gone"


async def grant_role(world: World, picks: Picks) -> str | None:
    vault = world.vault
    if vault.granted or not vault.consent or vault.deleted:
        return None
    await world.ground.customer.grant(world.ground.identity.application_client_id, vault.name)
    vault.grant_changed(granted=True)
    return "the role is back"


async def withdraw_consent(world: World, picks: Picks) -> str | None:
    if not world.vault.consent:
        return None
    await world.ground.customer.withdraw_consent(world.ground.identity.application_client_id)
    # A new consent makes another service principal, to which nothing is assigned.
    world.vault.consent = world.vault.granted = False
    return "consent is withdrawn"


async def consent(world: World, picks: Picks) -> str | None:
    if world.vault.consent:
        return None
    await world.ground.customer.consent(world.ground.identity.application_client_id)
    world.vault.consent = True
    return "consent is given"


async def _firewall(world: World, *, is_open: bool) -> str | None:
    if world.vault.deleted or world.vault.open == is_open:
        return None
    await world.ground.customer.set_firewall(world.vault.name, default_action="Allow" if is_open else "Deny")
    world.vault.open = is_open
    world.vault.begin_lag()
    return f"open={is_open}"


async def firewall_on(world: World, picks: Picks) -> str | None:
    return await _firewall(world, is_open=False)


async def firewall_off(world: World, picks: Picks) -> str | None:
    return await _firewall(world, is_open=True)


async def fail_over(world: World, picks: Picks) -> str | None:
    """Microsoft lets the paired region serve the vault, read-only, or its own again."""
    vault = world.vault
    if vault.deleted:
        return None
    vault.failed_over = not vault.failed_over
    await world.ground.control.fail_over(vault.name, to_the_pair=vault.failed_over)
    return f"read-only={vault.failed_over}"


async def end_failover(world: World, picks: Picks) -> str | None:
    return await fail_over(world, picks) if world.vault.failed_over else None


async def lock_vault(world: World, picks: Picks) -> str | None:
    customer, vault = world.ground.customer, world.vault
    if vault.deleted:
        return None
    if vault.locked is None:
        vault.locked = await customer.lock(customer.vault_id(vault.name))
    else:
        await customer.unlock(vault.locked)
        vault.locked = None
    return f"lock: {vault.locked is not None}"


async def drift(world: World, picks: Picks) -> str | None:
    target = world.targets[picks.of(world.targets)]
    key = _key(world, picks)
    uri = world.vault.uri(key.name, key.versions[picks.of(key.versions)].id) if picks.of(2) else None
    await world.ground.control.set_timings(**AT_ONCE)
    try:
        await target.drift(uri)
    except HttpResponseError as error:
        return f"{target.name} to {uri} refused: {error.error.code if error.error else error.status_code}"
    finally:
        await world.ground.control.set_timings(**SLOW)
    return f"somebody puts {target.name} on {uri or 'a Microsoft-managed key'}"


async def lock_resource(world: World, picks: Picks) -> str | None:
    target = world.targets[picks.of(world.targets)]
    if target.name in world.locks or not (await target.truth()).exists:
        return None
    world.locks[target.name] = await world.ground.provider.lock(target.id, level="ReadOnly")
    return target.name


async def unlock_resource(world: World, picks: Picks) -> str | None:
    if not world.locks:
        return None
    name = sorted(world.locks)[picks.of(world.locks)]
    await world.ground.provider.unlock(world.locks.pop(name))
    return name


def _living_key(world: World, picks: Picks) -> KeyManifest | None:
    key = list(world.keys.values())[0 if picks.of(3) else 1]
    return key if key.live else None


async def pin(world: World, picks: Picks) -> str | None:
    key = _living_key(world, picks)
    if key is None:
        return None
    versions = world.vault.keys[key.name].versions
    key.pin, key.apply, key.approval = versions[picks.of(versions)].id, None, None
    await world.put_key(key)
    return f"{key.name} is pinned to {key.pin}"


async def follow(world: World, picks: Picks) -> str | None:
    key = _living_key(world, picks)
    if key is None:
        return None
    ways = ((None, None), ("AzureSchedule", None), ("Immediately", None), ("Immediately", "Manual"), ("Immediately", "Manual"))
    key.pin, (key.apply, key.approval) = None, ways[picks.of(ways)]
    await world.put_key(key)
    return f"{key.name} is followed: {key.apply} {key.approval}"


async def approve(world: World, picks: Picks) -> str | None:
    key = _living_key(world, picks)
    if key is None or key.approval != "Manual":
        return None
    versions = world.vault.keys[key.name].versions
    key.approved = versions[-1 if picks.of(4) else picks.of(versions)].id
    await world.put_key(key)
    return f"{key.name}: version {key.approved} is approved"


def _living(world: World, picks: Picks) -> Manifest | None:
    found = [manifest for manifest in world.manifests.values() if manifest.live]
    return found[picks.of(found)] if found else None


async def _edit(world: World, picks: Picks, **changes: str) -> str | None:
    manifest = _living(world, picks)
    if manifest is None:
        return None
    for name, value in changes.items():
        one, other = value.split("|")
        setattr(manifest, name, other if getattr(manifest, name) == one else one)
    await world.put(manifest, withheld=not picks.of(3))
    return f"{manifest.name}: {', '.join(f'{name}={getattr(manifest, name)}' for name in changes)}"


async def mode(world: World, picks: Picks) -> str | None:
    return await _edit(world, picks, mode="Observe|Enforce")


async def deletion_policy(world: World, picks: Picks) -> str | None:
    return await _edit(world, picks, policy="RevertToPlatformKey|Orphan")


async def other_key(world: World, picks: Picks) -> str | None:
    return await _edit(world, picks, key="other|cmk")


async def delete_manifest(world: World, picks: Picks) -> str | None:
    manifest = _living(world, picks)
    if manifest is None:
        return None
    gone = await world.delete("EncryptedResource", manifest.name, withheld=not picks.of(3))
    manifest.live, manifest.deleting = False, not gone
    world.changed()
    return f"{manifest.name}, gone={gone}"


async def create_manifest(world: World, picks: Picks) -> str | None:
    await world.refresh()
    found = [manifest for manifest in world.manifests.values() if not manifest.there]
    if not found:
        return None
    manifest = found[picks.of(found)]
    manifest.key = ("cmk", "other")[not picks.of(3)]
    manifest.mode = ("Enforce", "Observe")[not picks.of(4)]
    manifest.policy = ("Orphan", "RevertToPlatformKey")[picks.of(2)]
    await world.put(manifest)
    return f"{manifest.name}: {manifest.key} {manifest.mode} {manifest.policy}"


async def delete_key_manifest(world: World, picks: Picks) -> str | None:
    key = _living_key(world, picks)
    if key is None:
        return None
    gone = await world.delete("CustomerManagedKey", key.name)
    key.live, key.deleting = False, not gone
    world.changed()
    return f"{key.name}, gone={gone}"


async def create_key_manifest(world: World, picks: Picks) -> str | None:
    await world.refresh()
    gone = [key for key in world.keys.values() if not key.there]
    if not gone:
        return None
    gone[0].approved = None
    await world.put_key(gone[0])
    return gone[0].name


async def scope(world: World, picks: Picks) -> str | None:
    world.in_scope = not world.in_scope
    await world.put_tenant()
    return f"in scope: {world.in_scope}"


async def ask_for_a_pass(world: World, picks: Picks) -> str | None:
    manifest = _living(world, picks)
    if manifest is None:
        return None
    patch = {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": str(world.passes)}}}
    body = await world.ground.objects.merge("EncryptedResource", manifest.name, patch, world.name)
    world.seen("EncryptedResource", body)
    return manifest.name


def _raw(content: bytes) -> dict[str, Any]:
    return {"kind": "status", "status": 200, "raw": base64.b64encode(content).decode()}


UNREADABLE: Final[tuple[dict[str, Any], ...]] = tuple(
    _raw(content)
    for content in (
        *(
            b"<html>a proxy's page</html>",
            b"null",
            b"[]",
            b"{}",
            b"",
            b'{"value": 5}',
            b'{"value": [null]}',
            b'{"properties": null}',
        ),
        *(b'{"value": 1e999}', b'{"id": NaN}', b'{"value": "\xff"}', b'{"value":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    )
)
"""Answers with status 200 that nobody can read."""
ENDED: Final = {
    "kind": "status",
    "status": 400,
    "code": "NoRegisteredProviderFound",
    "message": "No registered resource provider found for API version '2031-01-01'. The supported api-versions are '2032-01-01'.",
}
"""Resource Manager's refusal of an api-version that has ended."""
UNLISTED: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "management.azure.com": (
        ENDED,
        {"kind": "status", "status": 409, "code": "HeldIn2031", "message": "The resource is under a legal hold."},
        {
            "kind": "status",
            "status": 400,
            "code": "2-odd.code",
            "message": "\x1b[31mThe account is\u202e not in a state for that.",
        },
    ),
    "*.vault.azure.net": (
        {
            "kind": "status",
            "status": 403,
            "body": {
                "error": {"code": "Forbidden", "message": "A rule of 2031.", "innererror": {"code": "ForbiddenByRuleOf2031"}}
            },
        },
        {"kind": "status", "status": 400, "code": "RetiredIn2031", "message": "The api-version has been retired."},
    ),
    "login.microsoftonline.com": (
        {
            "kind": "status",
            "status": 400,
            "body": {
                "error": "invalid_request",
                "error_description": "AADSTS7999999: A rule of 2031.",
                "error_codes": [7999999],
            },
        },
        {"kind": "status", "status": 401, "body": {"error": "invalid_client", "error_description": "", "error_codes": []}},
    ),
}
"""Refusals with codes that no table lists, by host; those of an api-version that has ended are among them."""


async def fault(world: World, picks: Picks) -> str | None:
    if len(world.faults) >= 3:
        return None
    places: tuple[dict[str, Any], ...] = (
        {"host": "management.azure.com", "method": "GET"},
        {"host": "management.azure.com", "method": "PATCH"},
        {"host": "management.azure.com", "method": "PUT"},
        {"host": "*.vault.azure.net"},
        {"host": "*.vault.azure.net", "path": "wrapkey"},
        {"host": "*.vault.azure.net", "method": "GET"},
        {"host": "login.microsoftonline.com"},
    )
    throttled = {"kind": "status", "status": 429, "code": "TooManyRequests", "headers": {"retry-after-ms": "5"}}
    kinds: tuple[dict[str, Any], ...] = (
        throttled,
        {"kind": "status", "status": 503, "code": "ServiceUnavailable"},
        {"kind": "status", "status": 500, "code": "InternalServerError"},
        {"kind": "reset"},
        {"kind": "hang", "seconds": 0.03},
        {"kind": "truncate"},
    )
    place = places[picks.of(places)]
    among = (kinds, UNREADABLE, UNLISTED[place["host"]])[picks.of(3)]
    kind = among[picks.of(among)]
    lasting = kind["kind"] == "status" and not picks.of(3)
    late = kind["kind"] != "truncate" and place.get("method") in {"PATCH", "PUT"} and not picks.of(2)
    made = {**place, **kind, "times": None if lasting else 1 + picks.of(4), "after_effect": late}
    world.faults.append(made)
    return str(made)


async def operation_fault(world: World, picks: Picks) -> str | None:
    if all(target.at_once for target in world.targets) or len(world.faults) >= 3:
        return None
    slow = {"kind": "slow_operation", "seconds": 300.0}
    failing = {"kind": "failing_operation", "code": "InternalServerError", "message": "An unexpected error occurred."}
    made = {**(slow, failing)[picks.of(2)], "host": "management.azure.com", "times": 1}
    world.faults.append(made)
    return str(made)


async def faults_end(world: World, picks: Picks) -> str | None:
    ended = len(world.faults)
    world.faults.clear()
    return f"{ended} end" if ended else None


async def events_arrive(world: World, picks: Picks) -> str | None:
    return f"{world.events_arrive()} events" if world.withheld else None


async def refused_manifests(world: World, picks: Picks) -> str | None:
    return await world.neighbour.refused_manifests(picks.of(world.targets))


async def missing_keys(world: World, picks: Picks) -> str | None:
    return await world.neighbour.missing_keys()


async def neighbours_resource(world: World, picks: Picks) -> str | None:
    return await world.neighbour.own_resource()


async def annotation_storm(world: World, picks: Picks) -> str | None:
    return await world.neighbour.storm()


async def neighbour_leaves(world: World, picks: Picks) -> str | None:
    return await world.neighbour.leave()


async def restore(world: World, picks: Picks) -> str:
    """The customer and the provider undo everything that blocks the operator."""
    for act in (end_failover, recover_vault, consent, grant_role, firewall_off):
        await act(world, picks)
    for key in world.vault.keys.values():
        if key.deleted:
            await world.ground.customer.recover_key(world.vault.name, key.name)
            key.deleted = False
            world.vault.begin_lag()
        for version in key.versions:
            if not version.enabled:
                await world.ground.customer.enable(world.vault.name, key.name, version.id)
                version.enabled = True
            if version.expired:
                await _set_expired(world, key, version, expired=False)
    while world.locks:
        await unlock_resource(world, picks)
    if not world.in_scope:
        await scope(world, picks)
    await world.refresh()
    while any(not key.there for key in world.keys.values()):
        await create_key_manifest(world, picks)
    return "everything is restored"


IN_ITS_OWN_REGION: Final = frozenset(
    {
        *("new version", "disable", "enable", "expire", "delete key", "recover key"),
        *("delete vault", "recover vault", "firewall on", "firewall off"),
    }
)
"""What a customer cannot do while the paired region serves the vault."""


async def act(what: str, world: World, picks: Picks) -> str | None:
    """Do it; what it did, or None if it was not possible."""
    return None if what in IN_ITS_OWN_REGION and world.vault.failed_over else await ACTIONS[what](world, picks)


ACTIONS: Final[Mapping[str, Callable[[World, Picks], Awaitable[str | None]]]] = {
    "new version": new_version,
    "disable": disable,
    "enable": enable,
    "expire": expire,
    "delete key": delete_key,
    "recover key": recover_key,
    "delete vault": delete_vault,
    "recover vault": recover_vault,
    "revoke role": revoke_role,
    "grant role": grant_role,
    "withdraw consent": withdraw_consent,
    "consent": consent,
    "firewall on": firewall_on,
    "firewall off": firewall_off,
    "lock vault": lock_vault,
    "fail over": fail_over,
    "drift": drift,
    "lock resource": lock_resource,
    "unlock resource": unlock_resource,
    "fault": fault,
    "operation fault": operation_fault,
    "faults end": faults_end,
    "pin": pin,
    "follow": follow,
    "approve": approve,
    "mode": mode,
    "deletion policy": deletion_policy,
    "other key": other_key,
    "delete manifest": delete_manifest,
    "create manifest": create_manifest,
    "delete key manifest": delete_key_manifest,
    "create key manifest": create_key_manifest,
    "scope": scope,
    "ask for a pass": ask_for_a_pass,
    "events arrive": events_arrive,
    "refused manifests": refused_manifests,
    "missing keys": missing_keys,
    "neighbour's resource": neighbours_resource,
    "annotation storm": annotation_storm,
    "neighbour leaves": neighbour_leaves,
}
