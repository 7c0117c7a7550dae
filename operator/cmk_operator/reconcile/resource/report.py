"""Computes the status of an `EncryptedResource` from the outcome of a pass; pure."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.conditions import Aspect, Progress, Truth, dated, find
from cmk_operator.api.customer_managed_key import RotationReport
from cmk_operator.api.encrypted_resource import (
    AppliedKey,
    DetailsReport,
    EffectiveResource,
    EncryptedResourceStatus,
    GeoReplicaReport,
    LostAccessReport,
    NotCoveredReport,
    OperationReport,
    PlanReport,
    RememberedReport,
)
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.coverage import NOT_READ
from cmk_operator.core.encryption.decide import PLAN_ONLY
from cmk_operator.core.encryption.protection import OnKey, text_in_force, version_in_force
from cmk_operator.core.faults.fault import FaultKind
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.protocol import Remembered, Shown
from cmk_operator.providers.registry import timing_of
from cmk_operator.reconcile.resource.contentions import contention_report, contested_message
from cmk_operator.reconcile.resource.coverage_report import coverage_of
from cmk_operator.reconcile.resource.outcome import (
    CallRefused,
    Obstructed,
    Operating,
    OperationUnknown,
    Planned,
    Refused,
    Settled,
    Waiting,
    facts_of,
)

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.encrypted_resource import EncryptedResource, TargetReport
    from cmk_operator.core.encryption.contention import Contention
    from cmk_operator.core.encryption.coverage import NotCovered, PartsSeen
    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.providers.protocol import Plan, ResourceFacts
    from cmk_operator.reconcile.resource.authorship import OwnChange
    from cmk_operator.reconcile.resource.outcome import ResourceOutcome

ROTATIONS_KEPT: Final = 10
NAMES_SHOWN: Final = 50


def effective_resource_policy(resource: EncryptedResource) -> EffectiveResource:
    """The values in force: from the manifest, or the defaults."""
    return EffectiveResource(mode=resource.spec.mode or "Enforce", deletion_policy=resource.spec.deletion_policy or "Orphan")


def resource_status(
    resource: EncryptedResource,
    outcome: ResourceOutcome,
    now: datetime,
    *,
    target: TargetReport,
    key: CustomerManagedKey | None,
    own: OwnChange | None,
    parts: PartsSeen = NOT_READ,
    contention: Contention | None = None,
) -> EncryptedResourceStatus:
    """The status after one pass.

    `own` is the change of key that this operator made, if the pass shows one; `parts` are those of the resource, from reads of
    their own.
    """
    before, seen = resource.status, facts_of(outcome)
    applied = _applied(before.applied, seen.protection, now) if seen is not None else before.applied
    on_key = key is not None and applied is not None and _is_on(key, applied)
    accessible = _for_service(_key_accessible(key, applied), resource)
    encrypted = _encrypted(outcome, resource, on_key=on_key)
    coverage = coverage_of(resource, key, encrypted, seen, parts, on_key=on_key)
    aspects = (encrypted, accessible, _key_current(key, applied, seen), coverage.aspect)
    details = _details(seen.shown, coverage.entries) if seen is not None else before.details
    summary, progress = _fully_covered(*_summary(outcome, aspects), resource, coverage.aspect)
    if isinstance(outcome, Planned) or resource.metadata.deletion_timestamp is not None:
        contention = None
    summary, progress = _uncontested(summary, progress, outcome, contention)
    generation = resource.metadata.generation
    return EncryptedResourceStatus(
        observed_generation=generation,
        conditions=dated((summary, *aspects), progress, before.conditions, generation, now),
        last_handled_reconcile_at=resource.metadata.annotations.get(RECONCILE_REQUESTED_AT),
        effective=effective_resource_policy(resource),
        target=target,
        applied=applied,
        access=_lost_access(resource, key, applied, accessible, details),
        operation=_operation(before.operation, outcome, now),
        details=details,
        remembered=_remembered(seen.remembered) if seen is not None and seen.remembered is not None else before.remembered,
        plan=_plan(outcome.plan) if isinstance(outcome, Planned) else None,
        rotations=_rotations(resource, applied, own, now),
        contention=contention_report(contention),
    )


def _applied(before: AppliedKey | None, protection: Protection, now: datetime) -> AppliedKey | None:
    uri = text_in_force(protection)
    if not uri:
        # Microsoft's key, or an answer that cannot be read and changes nothing that status says.
        return before if uri is None else None
    version = version_in_force(protection) or ""
    if before is not None and (before.key_uri, before.version) == (uri, version):
        return before
    return AppliedKey(key_uri=uri, version=version, since=now)


def _operation(before: OperationReport | None, outcome: ResourceOutcome, now: datetime) -> OperationReport | None:
    match outcome:
        case Operating(running):
            if before is not None and before.url == running.token:
                return before
            return OperationReport(url=running.token, purpose=running.purpose, started_at=now, request_id=running.request_id)
        case Refused() | OperationUnknown():
            return before
        case CallRefused() | Obstructed() | Waiting() | Planned() | Settled():
            # A pass ends in one of these only after the operation has ended.
            return None


def _details(shown: Shown, not_covered: tuple[NotCovered, ...]) -> DetailsReport | None:
    """The details, with at most `NAMES_SHOWN` names each, so that no status exceeds etcd's limit."""
    if shown == Shown() and not not_covered:
        return None
    entries = tuple(
        NotCoveredReport(part=one.part, covered=one.covered, protected_by=one.protected_by or None, remedy=one.remedy or None)
        for one in not_covered[:NAMES_SHOWN]
    )
    known = {
        field.name: value[:NAMES_SHOWN] if isinstance(value := getattr(shown, field.name), tuple) else value
        for field in fields(shown)
    }
    known["geo_replicas"] = tuple(GeoReplicaReport(**asdict(one)) for one in shown.geo_replicas[:NAMES_SHOWN])
    count = len(not_covered) if len(not_covered) > NAMES_SHOWN else None
    return DetailsReport(**known, not_covered=entries, not_covered_count=count)


def _remembered(remembered: Remembered) -> RememberedReport | None:
    if remembered == Remembered():
        return None
    return RememberedReport(**asdict(remembered))


def _plan(plan: Plan[Any]) -> PlanReport:
    return PlanReport(summary=tuple(str(change) for change in plan.changes), patch=json.dumps(plan.body, sort_keys=True))


def _rotations(
    resource: EncryptedResource, applied: AppliedKey | None, own: OwnChange | None, now: datetime
) -> tuple[RotationReport, ...]:
    before = resource.status
    old, new = before.applied, applied
    if (old.key_uri if old else None) == (new.key_uri if new else None):
        return before.rotations
    entry = RotationReport(
        from_=old.key_uri if old is not None else None,
        to=new.key_uri if new is not None else resource.platform_key,
        at=now,
        by="cmk-operator" if own is not None else f"found in {resource.service}",
        request_id=own.request_id if own is not None else None,
    )
    return (entry, *before.rotations)[:ROTATIONS_KEPT]


def _encrypted(outcome: ResourceOutcome, resource: EncryptedResource, *, on_key: bool) -> Aspect:
    """Whether the wanted key protects the resource; `on_key`: the resource was last observed on a version of it."""
    kind, seen = ConditionType.ENCRYPTED, facts_of(outcome)
    if on_key and seen is not None and _keeps_key(outcome):
        return _on_its_key(seen.protection, resource)
    match outcome:
        case Settled(found):
            return _on_its_key(found.protection, resource)
        case Refused(fault) | OperationUnknown(fault) | CallRefused(fault) | Obstructed(fault):
            # A refused manifest or a failed call says nothing about the key that protects the resource.
            return Aspect(kind, "Unknown" if seen is None else "False", fault.reason, fault.message)
        case Operating():
            if seen is None:
                return Aspect(
                    kind, "Unknown", Reason.NOT_OBSERVED, f"the resource has not been read from {resource.service} yet"
                )
            return Aspect(kind, "False", _operating_reason(outcome), _operating(outcome))
        case Waiting():
            return Aspect(kind, "False", outcome.reason, outcome.message)
        case Planned():
            return Aspect(kind, "False", Reason.PLAN_ONLY, PLAN_ONLY)


def _on_its_key(protection: Protection, resource: EncryptedResource) -> Aspect:
    if not isinstance(protection, OnKey):
        message = f"{resource.service} reports no customer's key for the resource"
        return Aspect(ConditionType.ENCRYPTED, "False", Reason.NOT_ON_KEY, message)
    message = f"{resource.service} reports that the resource is on {protection.uri}"
    return Aspect(ConditionType.ENCRYPTED, "True", Reason.CUSTOMER_MANAGED_KEY, message)


def _keeps_key(outcome: ResourceOutcome) -> bool:
    """Whether a resource on the wanted key stays on it while the remaining changes are made."""
    match outcome:
        case Obstructed() | Operating() | Settled():
            return True
        case Waiting():
            return outcome.keeps_key
        case Planned():
            return outcome.plan.keeps_key
        case Refused() | OperationUnknown() | CallRefused():
            return False


def _operating(outcome: Operating) -> str:
    waiting = f"waiting for the service to finish an operation: {outcome.operation.purpose}"
    return waiting if outcome.not_visible is None else f"{waiting}; {outcome.not_visible}"


def _operating_reason(outcome: Operating) -> Reason:
    return Reason.OPERATION_IN_PROGRESS if outcome.not_visible is None else Reason.OPERATION_NOT_VISIBLE


def _key_accessible(key: CustomerManagedKey | None, applied: AppliedKey | None) -> Aspect:
    """The state of the version that protects the resource now, or else of the key as a whole."""
    kind = ConditionType.KEY_ACCESSIBLE
    if key is None or key.status.access is None:
        return Aspect(kind, "Unknown", Reason.NOT_PROBED, "the key has not been probed yet")
    condition = find(key.status.conditions, kind)
    if applied is not None:
        own = next((entry for entry in key.status.versions if entry.version == applied.version), None)
        if own is not None and own.access == AccessState.ACCESSIBLE and _is_on(key, applied):
            return Aspect(kind, "True", Reason.ACCESSIBLE, f"version {own.version}, which protects the resource, is accessible")
    if condition is None:
        return Aspect(kind, "Unknown", Reason.NOT_PROBED, "the key has not been probed yet")
    return Aspect(kind, condition.status, condition.known_reason, condition.message)


def _for_service(accessible: Aspect, resource: EncryptedResource) -> Aspect:
    """The state of the key for this service: a loss for the provider's application says nothing about a service that has its own."""
    timing = timing_of(resource.spec.target.resource_type)
    ours = accessible.status == "False" and AccessState.read(accessible.reason).spares_other_applications
    if not (ours and timing.own_application):
        return accessible
    message = f"{accessible.message}; {timing.service} uses an application of its own to reach the key, so this says nothing about its data"
    return Aspect(accessible.type, "Unknown", accessible.reason, message)


def _lost_access(
    resource: EncryptedResource,
    key: CustomerManagedKey | None,
    applied: AppliedKey | None,
    accessible: Aspect,
    details: DetailsReport | None,
) -> LostAccessReport | None:
    """When this kind of resource stops, counted from the loss in the key's status; None if it does not."""
    lost = key.status.access.lost_since if key is not None and key.status.access is not None else None
    if key is None or lost is None or accessible.status == "True" or applied is None or not _is_on(key, applied):
        return None
    timing = timing_of(resource.spec.target.resource_type)
    if timing.own_application and AccessState.read(accessible.reason).spares_other_applications:
        return None
    return LostAccessReport(
        state=accessible.reason.value,
        lost_since=lost,
        inaccessible_expected_at=lost + timing.cut_off_after,
        effect=timing.effect,
        recovery=timing.recovery,
        virtual_machines=details.attached_to if details is not None else (),
    )


def _is_on(key: CustomerManagedKey, applied: AppliedKey) -> bool:
    """Whether `applied` is a version of this key."""
    wanted, now = key.spec.uri, applied.uri
    return wanted is not None and now is not None and now.versionless == wanted.versionless


def _key_current(key: CustomerManagedKey | None, applied: AppliedKey | None, seen: ResourceFacts[Any] | None) -> Aspect:
    kind = ConditionType.KEY_CURRENT
    active = key.status.active_version if key is not None else None
    if active is None or key is None:
        return Aspect(kind, "Unknown", Reason.NO_ACTIVE_VERSION, "no version of the key has passed the probe yet")
    if applied is None or not _is_on(key, applied):
        return Aspect(kind, "False", Reason.NOT_ON_KEY, "the resource is not on this key")
    if not applied.version:
        return Aspect(kind, "Unknown", Reason.VERSION_NOT_TOLD, "Azure does not report which version of the key is in force")
    if applied.version == active:
        return Aspect(kind, "True", Reason.CURRENT, f"the resource is on the active version {active}")
    effective = key.status.effective
    following = effective is not None and effective.rotation == "Following" and effective.apply != "Immediately"
    following = following and (seen is None or seen.follows_by_itself)
    if following and seen is not None and seen.shown.rotation_error is not None:
        message = (
            f"the resource is on version {applied.version}, but the active version is {active}, and Azure does not move it: "
            f"{seen.shown.rotation_error}"
        )
        return Aspect(kind, "False", Reason.ROTATION_HELD_BACK, message)
    waiting = (
        "Azure moves the resource within a day" if following else "the operator moves the resource as soon as nothing blocks it"
    )
    reason = Reason.AZURE_WILL_ROTATE if following else Reason.OUTDATED
    return Aspect(
        kind, "False", reason, f"the resource is on version {applied.version}, but the active version is {active}: {waiting}"
    )


def _summary(outcome: ResourceOutcome, aspects: tuple[Aspect, ...]) -> tuple[Aspect, Progress]:
    encrypted, accessible = aspects[0], aspects[1]
    match outcome:
        case Refused(fault) | OperationUnknown(fault) | CallRefused(fault) | Obstructed(fault):
            # Without an answer from Azure the state is unknown. After an answer or a refused manifest, the resource is not ready.
            unanswered = fault.kind is FaultKind.BUSY and not fault.awaited and facts_of(outcome) is None
            status: Truth = "Unknown" if unanswered else "False"
            return Aspect(ConditionType.READY, status, fault.reason, fault.message), Progress.of(fault)
        case Operating():
            reason, message = _operating_reason(outcome), _operating(outcome)
            progress = Progress(reconciling=True, reason=reason, message=message)
            return Aspect(ConditionType.READY, "False", reason, message), progress
        case Waiting(reason, message):
            stalled = reason.needs_a_person(accessible.reason)
            progress = Progress(reconciling=not stalled, stalled=stalled, reason=reason, message=message)
            return Aspect(ConditionType.READY, "False", reason, message), progress
        case Planned() if encrypted.status != "True":
            # All that the manifest asks for is the plan, and that is there; `Encrypted` says that the key protects nothing yet.
            return Aspect(ConditionType.READY, "True", encrypted.reason, encrypted.message), Progress()
        case Planned() | Settled():
            return _on_key_summary(encrypted, accessible)


def _fully_covered(
    summary: Aspect, progress: Progress, resource: EncryptedResource, covered: Aspect
) -> tuple[Aspect, Progress]:
    """The summary; if the manifest asks for full coverage, Ready also needs `DataCovered`."""
    asked = resource.spec.require_full_coverage and summary.reason is not Reason.PLAN_ONLY
    if not asked or summary.status != "True" or covered.status == "True":
        return summary, progress
    stalled = not covered.reason.passes_by_itself
    progress = Progress(reconciling=not stalled, stalled=stalled, reason=covered.reason, message=covered.message)
    return Aspect(ConditionType.READY, covered.status, covered.reason, covered.message), progress


def _uncontested(
    summary: Aspect, progress: Progress, outcome: ResourceOutcome, contention: Contention | None
) -> tuple[Aspect, Progress]:
    """The summary; a resource that somebody else keeps changing back is not Ready, unless something else already says so."""
    contested = contention is not None and contention.is_contested
    if contention is None or not contested or not (isinstance(outcome, Operating) or summary.status == "True"):
        return summary, progress
    message = contested_message(contention)
    progress = Progress(stalled=True, reason=Reason.CONTESTED, message=message)
    return Aspect(ConditionType.READY, "False", Reason.CONTESTED, message), progress


def _on_key_summary(encrypted: Aspect, accessible: Aspect) -> tuple[Aspect, Progress]:
    """Ready if the key that protects the resource is accessible."""
    if accessible.status == "True":
        return Aspect(ConditionType.READY, "True", Reason.READY, encrypted.message), Progress()
    stalled = not accessible.reason.passes_by_itself
    progress = Progress(reconciling=not stalled, stalled=stalled, reason=accessible.reason, message=accessible.message)
    return Aspect(ConditionType.READY, accessible.status, accessible.reason, accessible.message), progress
