"""Reconciles a `CustomerManagedKey`: probes it and reports what the result means for everything it protects."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from cmk_operator.api.conditions import awaited, find, is_awaited
from cmk_operator.api.customer_managed_key import CustomerManagedKey, CustomerManagedKeyStatus
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.model import APPROVED_VERSION
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import may_be_replication
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Fault, busy
from cmk_operator.core.faults.reason import EventReason, Reason
from cmk_operator.core.rotation.adoption import probe_of_adopted
from cmk_operator.core.schedule import BUSY, Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.audit import key_changes
from cmk_operator.reconcile.collaborators.intervals import jittered
from cmk_operator.reconcile.collaborators.revert_finalizer import release_if_not_needed
from cmk_operator.reconcile.collaborators.wake import is_requested, wake_below
from cmk_operator.reconcile.identity.loss import provider_lost_application
from cmk_operator.reconcile.identity.report import SETTLING
from cmk_operator.reconcile.key.azure_lists import lists_of
from cmk_operator.reconcile.key.known_times import known_state_of, with_known_times
from cmk_operator.reconcile.key.policy import adoption_policy
from cmk_operator.reconcile.key.prerequisite_facts import prerequisite_facts_of
from cmk_operator.reconcile.key.report import KeyFacts, key_status, refused_key_status, watched_versions
from cmk_operator.reconcile.key.usage import usage_of, use_in_azure
from cmk_operator.reconcile.key.user_counts import AT_ONCE, NEVER
from cmk_operator.reconcile.notifications.announcements import announce_key
from cmk_operator.reconcile.notifications.delivery import wake_delivery
from cmk_operator.reconcile.references import KeyPath, resolve_key

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.core.rotation.azure_use import UseInAzure
    from cmk_operator.reconcile.key.context import KeyContext

ASKED_AGAIN_AFTER: Final = 5.0
"""Seconds until a key is probed again that Azure shows within seconds."""
_SETTLES: Final = busy(Reason.SETTLING, f"the identity of the key's tenant {SETTLING}")


async def reconcile_key(context: KeyContext, reference: ObjectReference) -> Next:
    """Check one key, report, and enqueue what depends on it.

    A requested pass runs the whole probe; any other pass runs a probe step if one is due.
    """
    key = context.cluster.inventory.get(CustomerManagedKey, reference.name, reference.namespace)
    if key is None:
        context.telemetry.forget_key(reference.namespace, reference.name)
        context.user_counts.forget(reference)
        return Next()
    if await release_if_not_needed(context.cluster, context.reporting, key):
        return Next()
    path = resolve_key(context.cluster.inventory, key)
    if isinstance(path, Fault):
        # Only Kubernetes objects decide this, and each change to one enqueues the key. The slow pass covers a missed event.
        now = context.reporting.now()
        fault = awaited(path, key.status.conditions, now, context.intervals.reference_grace)
        held = await _write(context, key, refused_key_status(key, fault, usage_of(context.cluster.inventory, key, None), now))
        return Next(after=min(held, fault.retry_after or jittered(context.intervals.identity_check)))
    azure = use_in_azure(context.cluster.inventory, path, context.lists.of(path.tenant.metadata.name, path.key_uri))
    usage = usage_of(context.cluster.inventory, key, path, azure)
    interval = context.intervals.key_check
    known_state = known_state_of(key)
    # What Azure shows within seconds is probed anew, however short ago the last probe was.
    requested = is_requested(key) or known_state.shows_soon
    policy, known = adoption_policy(key), key.status.active_version
    in_use = frozenset(usage.by_version) | (frozenset({known} if known else ()) if policy.needs_approval else frozenset())
    in_use |= watched_versions(key.status, context.reporting.now())
    prober, wake = context.reading.prober, partial(context.cluster.wake, reference, 0.0)
    probed, _ = await asyncio.gather(
        prober.probe(path.probed, in_use, 0.0) if requested else prober.check(path.probed, in_use, interval, reference, wake),
        context.reading.vaults.read(path.vault, _settings_max_age(context, known_state, requested=requested)),
    )
    if _newly_blocked_by_firewall(key, probed):
        # Only the vault's current settings show whether its firewall blocks Azure's services too.
        await context.reading.vaults.read(path.vault, 0.0)
    approved = key.metadata.annotations.get(APPROVED_VERSION)
    probed = with_known_times(key, path, probed)
    probed = replace(probed, application_missing=await _application_is_gone(context, key, path, probed))
    probe, adoption = probe_of_adopted(probed, policy, active=known, approved=approved)
    if _settling(path, probe, context.reporting.now()):
        await _write(context, key, refused_key_status(key, _SETTLES, usage, context.reporting.now()))
        return Next(backoff=BUSY)
    # Count manifests that arrived meanwhile, but keep the versions in use as they were probed.
    usage = replace(usage, names=tuple(context.cluster.inventory.names_on(reference.namespace, reference.name)))
    status = key_status(
        key,
        KeyFacts(
            prerequisite_facts_of(context.cluster.inventory, context.reading, key, path, probe), usage, adoption.pending, azure
        ),
        context.reporting.now(),
    )
    accessible = status.access is not None and status.access.state == AccessState.ACCESSIBLE
    proven = (probe.proven_at or probe.at).timestamp() if accessible else None
    context.telemetry.probed(reference.namespace, reference.name, probe.at.timestamp(), proven)
    held = await _write(context, key, status, probe, probe.at if _is_answered(status) else None)
    _wake_tenant(context, path, status)
    _request_lists(context, key, path, status, azure, is_written=held == NEVER)
    _wake_identity(context, path, probe, changed=_says(key.status) != _says(status))
    remaining = max(0.0, _until_next(interval) - context.reading.prober.age(path.probed))
    if status.access is not None and AccessState.read(status.access.state).shows_soon:
        remaining = min(remaining, ASKED_AGAIN_AFTER)
    return Next(after=min(held, max(remaining, interval * 0.05)))


def _settings_max_age(context: KeyContext, known: AccessState, *, requested: bool) -> float:
    """How old the vault's settings may be: while they are the cause of a loss, no older than a probe."""
    if requested:
        return 0.0
    if known is AccessState.FIREWALL_BLOCKS_SERVICES:
        return context.intervals.key_check * 0.5
    return jittered(context.intervals.identity_check)


def _says(status: CustomerManagedKeyStatus) -> str | None:
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    return accessible.message if accessible is not None else None


def _wake_identity(context: KeyContext, path: KeyPath, probe: KeyProbe, *, changed: bool) -> None:
    """Check the identity now if Entra newly refuses its credential: only that check shows whether the credential is new or gone."""
    failure = probe.wanted.failure
    if changed and failure is not None and may_be_replication(failure):
        context.cluster.wake(reference_of(path.identity), 0.0)


def _is_answered(status: CustomerManagedKeyStatus) -> bool:
    """Whether the probe shows anything about the key, good or bad."""
    return status.access is not None and not AccessState.read(status.access.state).tells_nothing


def _until_next(interval: float) -> float:
    """Seconds between two passes: slightly more than the interval, so that keys spread out and each costs at most one call."""
    return interval * random.uniform(1.0, 1.15)  # noqa: S311 - jitter, not cryptography


def _newly_blocked_by_firewall(key: CustomerManagedKey, probe: KeyProbe) -> bool:
    """Whether the vault's firewall blocks the operator for the first time."""
    known = key.status.access.state if key.status.access is not None else ""
    blocked = {AccessState.FIREWALL_BLOCKS_PROBE, AccessState.FIREWALL_BLOCKS_SERVICES}
    return judge_access(probe).state is AccessState.FIREWALL_BLOCKS_PROBE and known not in blocked


async def _application_is_gone(context: KeyContext, key: CustomerManagedKey, path: KeyPath, probe: KeyProbe) -> bool:
    """Whether the provider lost the application, which is checked before a loss is attributed to the customer."""
    known = key.status.access.state if key.status.access is not None else None
    return await provider_lost_application(
        context.cluster,
        context.session,
        path.identity,
        path.chain,
        probe.wanted.failure,
        consent_was_there=known != AccessState.CONSENT_MISSING,
    )


def _settling(path: KeyPath, probe: KeyProbe, now: datetime) -> bool:
    """Whether the token request may have failed only because Entra has not replicated a recent registration yet."""
    failure = probe.wanted.failure
    return failure is not None and path.identity.settles(now) and may_be_replication(failure)


def _request_lists(
    context: KeyContext,
    key: CustomerManagedKey,
    path: KeyPath,
    status: CustomerManagedKeyStatus,
    azure: UseInAzure | None,
    *,
    is_written: bool,
) -> None:
    """Have Azure's lists read if the last user of a version, or a manifest, has left since the last ones were requested.

    A manifest has left when the status says so: while that waits to be written, each pass would request newer lists.
    """
    old = [entry for entry in status.versions if entry.version != status.active_version]
    left_at = max((entry.superseded_at for entry in old if entry.superseded_at is not None), default=None)
    moments = [left_at] if left_at is not None else []
    if is_written and status.used_by_count < key.status.used_by_count:
        moments.append(context.reporting.now())
    tenant = path.tenant.metadata.name
    moving = azure is not None and any(entry.in_use_by_count for entry in old)
    if context.lists.request(tenant, max(moments, default=None), moving=moving, left_at=left_at):
        context.cluster.wake(lists_of(tenant), 0.0)


async def _write(
    context: KeyContext,
    key: CustomerManagedKey,
    status: CustomerManagedKeyStatus,
    probe: KeyProbe | None = None,
    observed_at: datetime | None = None,
) -> float:
    """Write the status if it changed; return the seconds for which a change of user counts alone can wait."""
    reference = reference_of(key)
    audience = context.deliveries.audience(context.cluster.inventory, key, key)
    status = announce_key(key, status, audience, context.reporting.now())
    held = context.user_counts.hold(reference, key.status, status)
    if AT_ONCE < held < NEVER:
        if observed_at is not None:
            context.reporting.writer.observations.saw(reference, observed_at)
        return held
    for change in key_changes(key, status, _request_id(probe), context.reporting.now()):
        context.reporting.journal.note(change)
    written = await context.reporting.writer.write(key, status, observed_at)
    wake_delivery(context.cluster, key, status.notifications)
    if not written:
        return NEVER
    context.user_counts.written(reference)
    await _record_events(context, key, status)
    await _record_unnamed(context, key, status)
    if _relevant_to_resources(key.status) != _relevant_to_resources(status):
        wake_below(context.cluster, reference, recursive=False)
    return NEVER


def _request_id(probe: KeyProbe | None) -> str | None:
    """Azure's id of the request that showed the state of the key."""
    if probe is None:
        return None
    failure, attributes = probe.wanted.failure, probe.wanted.attributes
    return failure.request_id if failure is not None else attributes.request_id if attributes is not None else None


def _relevant_to_resources(status: CustomerManagedKeyStatus) -> tuple[object, ...]:
    """The parts of a status that resources depend on; a change to any other part must not enqueue thousands of resources."""
    met = find(status.conditions, ConditionType.PREREQUISITES_MET)
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    return (
        status.observed_generation,
        (status.access.state, status.access.lost_since) if status.access is not None else None,
        (accessible.reason, accessible.message) if accessible is not None else None,
        status.active_version,
        (met.status, met.message) if met is not None else None,
        tuple((entry.version, entry.access) for entry in status.versions),
    )


async def _record_unnamed(context: KeyContext, key: CustomerManagedKey, status: CustomerManagedKeyStatus) -> None:
    """Record an event for what is on the key and not named by any EncryptedResource, such as what a deleted one left behind."""
    known = {(one.resource_id.lower(), one.version) for one in key.status.without_manifest}
    new = [one for one in status.without_manifest if (one.resource_id.lower(), one.version) not in known]
    if not new:
        return
    more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
    on = f"version {new[0].version}" if new[0].version else "a version of the key that its service does not report"
    note = f"{new[0].resource_id} is on {on}, and no EncryptedResource names it{more}"
    await context.reporting.events.record(key, "Normal", EventReason.USER_WITHOUT_MANIFEST, note, "ListUsers")


def _is_news(key: CustomerManagedKey, status: CustomerManagedKeyStatus, reason: str) -> bool:
    """Whether the state of access is another than before; nobody is told of what is still on its way."""
    before = key.status.access.state if key.status.access is not None else None
    after = status.access.state if status.access is not None else None
    return not is_awaited(status.conditions, reason) and (after != before or is_awaited(key.status.conditions, reason))


async def _record_events(context: KeyContext, key: CustomerManagedKey, status: CustomerManagedKeyStatus) -> None:
    after = status.access.state if status.access is not None else None
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    first = status.active_version if key.status.active_version is None else None
    first_version_recorded = False
    if accessible is not None and _is_news(key, status, accessible.reason):
        kind: Literal["Normal", "Warning"] = "Normal" if after == AccessState.ACCESSIBLE else "Warning"
        first_version_recorded = first is not None
        note = f"{accessible.message}; version {first} is the active version" if first is not None else accessible.message
        reason = EventReason.of_access(AccessState.read(after or "").reason)
        await context.reporting.events.record(key, kind, reason, note, "ProbeKey")
    rotated = find(status.conditions, ConditionType.ROTATION_CURRENT)
    rotated_before = find(key.status.conditions, ConditionType.ROTATION_CURRENT)
    newly_lost = rotated_before is None or rotated_before.reason != Reason.OLD_VERSION_LOST
    if rotated is not None and rotated.reason == Reason.OLD_VERSION_LOST and newly_lost:
        await context.reporting.events.record(key, "Warning", rotated.known_reason, rotated.message, "ProbeKey")
    if len(status.rotations) and status.rotations != key.status.rotations and not first_version_recorded:
        newest = status.rotations[0]
        note = (
            f"version {newest.to} replaces {newest.from_}"
            if newest.from_
            else f"version {newest.to} is the first active version"
        )
        await context.reporting.events.record(key, "Normal", EventReason.KEY_VERSION_CHANGED, note, "ProbeKey")


def _wake_tenant(context: KeyContext, path: KeyPath, status: CustomerManagedKeyStatus) -> None:
    """Enqueue the tenant if the probe shows that consent was granted or withdrawn; a probe often sees that first."""
    consent = path.tenant.status.consent
    if consent is None or status.access is None:
        return
    missing = status.access.state == AccessState.CONSENT_MISSING
    accessible = status.access.state == AccessState.ACCESSIBLE
    if (missing and consent.state == "Granted") or (accessible and consent.state != "Granted"):
        context.cluster.wake(ObjectReference(CustomerTenant.plural, "", path.tenant.metadata.name), 0.0)
