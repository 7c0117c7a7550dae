"""Which statements of status are false, and what status must say once nothing changes any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import find
from cmk_operator.core.audit.chain import parse_entry
from cmk_operator.core.audit.layout import head_of, kept_of, lines_of
from cmk_operator.core.audit.verification import verify
from cmk_operator.core.conditions import ConditionType
from sandbox.operator_process import NAMESPACE
from tests.soak.world import ViolationError

if TYPE_CHECKING:
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from tests.soak.ledger import Change, Ledger
    from tests.soak.targets import Truth
    from tests.soak.world import KeyManifest, Manifest, World

_KEY_EVENTS: Final = frozenset({"KeyChanged", "KeyChangeFound"})


def lies(world: World, ledger: Ledger) -> set[str]:
    """The false statements of all statuses; a statement may be false for one interval, until the next check."""
    found: set[str] = set()
    for key in world.keys.values():
        known = world.key_status(key.name) if key.there else None
        access = known.status.access if known is not None else None
        if known is None or access is None:
            continue
        active = known.status.active_version
        if access.state == "Accessible" and active and _lost(world, key.name, active):
            found.add(f"key {key.name} is said to be Accessible, and {active} is not")
        for version in known.status.versions:
            if version.access == "Accessible" and _lost(world, key.name, version.version):
                found.add(f"version {version.version} of {key.name} is said to be Accessible, and is not")
    for manifest in world.manifests.values():
        resource = world.status_of(manifest) if manifest.there else None
        if resource is not None:
            found |= _lies_of(world, manifest, resource, ledger.truths[manifest.target.name])
    return found


def _lost(world: World, key: str, version: str) -> bool:
    """Whether a version cannot be wrapped with, and that can be known: tokens outlive a consent while Entra answers nobody."""
    return world.vault.accessible(key, version) is False and not world.consent_is_hidden


def _lies_of(world: World, manifest: Manifest, resource: EncryptedResource, truth: Truth) -> set[str]:
    found: set[str] = set()
    conditions, applied = resource.status.conditions, resource.status.applied
    encrypted, accessible = find(conditions, ConditionType.ENCRYPTED), find(conditions, ConditionType.KEY_ACCESSIBLE)
    key = world.vault.uri(resource.spec.key_ref.name)
    if encrypted is not None and encrypted.status == "True" and truth.key != key:
        found.add(f"{manifest.name} is said to be Encrypted ({encrypted.reason}) on {key}, and is on {truth.uri}")
    asked = encrypted is not None and encrypted.status != "Unknown" and not world.faults
    if applied is not None and asked and applied.key_uri.lower() != (truth.uri or "").lower():
        found.add(f"{manifest.name} is said to be on {applied.key_uri}, and is on {truth.uri}")
    if accessible is not None and accessible.status == "True" and applied is not None:
        name, _, version = applied.key_uri.partition("/keys/")[2].partition("/")
        if name == manifest.key and _lost(world, name, version):
            found.add(
                f"the key of {manifest.name} is said to be accessible ({accessible.reason}), and {applied.key_uri} is not"
            )
    return found


def unsettled(world: World, ledger: Ledger) -> list[str]:
    """What is not yet in its final state; for the time when nothing changes any more."""
    found: list[str] = []
    for key in world.keys.values():
        if key.there:
            found += _unsettled_key(world, key)
            found += _unsafe(world, key, ledger)
    for manifest in world.manifests.values():
        if manifest.deleting:
            if _can_be_written(world, manifest, ledger.truths[manifest.target.name]):
                found.append(f"{manifest.name} is on its way out and does not go: {_ready(world, manifest)}")
        elif manifest.live:
            found += _unsettled_resource(world, manifest, ledger.truths[manifest.target.name])
    return found


def _unsettled_key(world: World, key: KeyManifest) -> list[str]:
    known = world.key_status(key.name)
    if known is None or known.status.observed_generation != known.metadata.generation or known.status.access is None:
        return [f"key {key.name} has no status of its present generation"]
    said = known.status.access.state
    wanted = key.pin or world.vault.keys[key.name].latest.id
    if key.approval == "Manual" and known.status.active_version:
        wanted = known.status.active_version
    is_so = world.vault.accessible(key.name, wanted)
    if is_so is False and said == "Accessible":
        return [f"key {key.name} is said to be Accessible, and {wanted} is not"]
    if world.vault.whole and said != "Accessible":
        return [f"key {key.name} is said to be {said}, and nothing is in its way"]
    return []


def _unsafe(world: World, key: KeyManifest, ledger: Ledger) -> list[str]:
    """Versions that are called safe to disable while something is on them, and resources without a manifest that are not named."""
    known = world.key_status(key.name)
    if known is None:
        return []
    found: list[str] = []
    safe = {entry.version for entry in known.status.versions if entry.safe_to_disable_after is not None}
    named = {(one.resource_id.lower(), one.version) for one in known.status.without_manifest}
    manifests = {manifest.target.name for manifest in world.manifests.values() if manifest.there}
    for target in (*world.targets, world.bystander):
        truth = ledger.truths[target.name]
        if truth.key != world.vault.uri(key.name):
            continue
        if truth.version in safe:
            found.append(
                f"12 (safe is what Azure shows): {truth.version} of {key.name} is said to be safe, and {target.name} is on it"
            )
        # What no list shows, a server's protector, is read only while a version waits to be called safe (docs/decisions/0100).
        must_be_named = "/servers/" not in target.id or truth.version != known.status.active_version
        if must_be_named and target.name not in manifests and (target.id.lower(), truth.version) not in named:
            found.append(f"12 (safe is what Azure shows): {target.name} is on {truth.version} of {key.name}, and is not named")
    return found


def _can_be_written(world: World, manifest: Manifest, truth: Truth) -> bool:
    """Whether nothing blocks a change: neither Azure nor the operator has to wait."""
    return world.vault.whole and manifest.target.name not in world.locks and world.in_scope and world.keys[manifest.key].there


def _unsettled_resource(world: World, manifest: Manifest, truth: Truth) -> list[str]:
    resource = world.status_of(manifest)
    if resource is None or resource.status.observed_generation != resource.metadata.generation:
        return [f"{manifest.name} has no status of its present generation"]
    found = sorted(_lies_of(world, manifest, resource, truth))
    key = world.keys[manifest.key]
    applied, rotations = resource.status.applied, resource.status.rotations
    if rotations and applied is not None and rotations[0].to != applied.key_uri:
        found.append(f"the last of the rotations of {manifest.name} is {rotations[0].to}, and it is on {applied.key_uri}")
    if not _can_be_written(world, manifest, truth) or manifest.mode == "Observe":
        return found
    uri = world.vault.uri(manifest.key)
    if truth.key != uri and "DatabasesInaccessible" in _ready(world, manifest):
        # Only whoever owns the present key can have SQL look at it again, and the status says so.
        return found
    if truth.key != uri:
        return [*found, f"{manifest.name} is on {truth.uri} and not on {uri}: {_ready(world, manifest)}"]
    known = world.key_status(manifest.key)
    wanted = key.pin or (world.vault.keys[key.name].latest.id if key.apply == "Immediately" else None)
    if key.approval == "Manual" and known is not None:
        wanted = known.status.active_version
        if key.approved == world.vault.keys[key.name].latest.id != wanted:
            found.append(f"key {key.name} stays on {wanted} although {key.approved} is approved")
    if wanted is not None and truth.version != wanted:
        found.append(f"{manifest.name} is on {truth.version} and not on {wanted}")
    if not _ready(world, manifest).startswith("True"):
        found.append(f"{manifest.name} is not Ready: {_ready(world, manifest)}")
    return found


def _ready(world: World, manifest: Manifest) -> str:
    """What the manifest says of itself."""
    resource = world.status_of(manifest)
    ready = find(resource.status.conditions, ConditionType.READY) if resource is not None else None
    return f"{ready.status} {ready.reason}: {ready.message}" if ready is not None else "no condition"


async def recorded(world: World, changes: list[Change]) -> None:
    """Each change of key is in the audit record, which is whole. Raises ViolationError."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    items = (await world.ground.objects.call("GET", path))["items"]
    found = [one for one in items if one["metadata"]["name"].startswith("cmk-operator-audit")]
    head = head_of(found)
    if head is None:
        raise ViolationError("3 (no lost record): the audit record has no head")
    verdict = verify(lines_of(found), head, kept=kept_of(found))
    if not verdict.whole:
        raise ViolationError(f"3 (no lost record): the audit record is damaged: {verdict}")
    entries = [parse_entry(line.text) for line in lines_of(found)]
    known = {
        (entry.body["object"].get("uid"), str(entry.body.get("to", "")).lower())
        for entry in entries
        if entry is not None and entry.body.get("event") in _KEY_EVENTS
    }
    manifests = {manifest.uid for manifest in world.manifests.values() if manifest.live}
    for change in changes:
        if not change.told and change.uid not in manifests:
            continue  # its manifest went before anybody could look
        if (change.uid, change.to.lower()) not in known:
            others = sorted(to for uid, to in known if uid == change.uid)
            raise ViolationError(
                f"3 (no lost record): the change of {change.target} to {change.to} is in no entry; there are {others}"
            )
