"""Computes the status of a `CustomerManagedKey` from a probe; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import Aspect, Progress, Truth, dated, find, truth
from cmk_operator.api.customer_managed_key import (
    AccessReport,
    CustomerManagedKey,
    CustomerManagedKeyStatus,
    EffectiveKey,
    PrerequisiteReport,
    RotationReport,
    StopReport,
    UserReport,
    VersionReport,
)
from cmk_operator.api.durations import parse_duration
from cmk_operator.api.model import APPROVED_VERSION, RECONCILE_REQUESTED_AT
from cmk_operator.core.access.key_verdict import KeyVerdict, judge_key_probe, lost_since
from cmk_operator.core.access.state import AccessState, KeyAttributes, KeyProbe
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.kinds.service_timing import (
    ServiceTiming,
    Stop,
    longest_use_of_an_old_version,
    restores_under,
    stops,
)
from cmk_operator.core.prerequisites.check import (
    ALL_PREREQUISITES,
    Prerequisite,
    PrerequisiteFacts,
    Result,
    check_prerequisites,
    failed,
)
from cmk_operator.core.prerequisites.prerequisite import PrerequisiteName
from cmk_operator.core.rotation.azure_use import UseInAzure
from cmk_operator.core.rotation.versions import (
    HOLD_SUPERSEDED_FOR,
    HoldTerms,
    KeyVersion,
    Retirement,
    VersionFacts,
    VersionHistory,
    advance,
    retire,
    shortened,
    users_by_version,
    watched,
)
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.providers.registry import timing_of
from cmk_operator.reconcile.key.policy import effective_key_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.core.rotation.azure_use import AzureUser

ROTATIONS_KEPT: Final = 10
_ALL_LISTED: Final = "every list of the tenant's subscriptions was read"
MOST_WITHOUT_MANIFEST: Final = 20
"""Most resources without an EncryptedResource that status names; it also holds their number."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The EncryptedResources that name a key, and every resource that is on it, with the version.

    A resource that no EncryptedResource names has its Azure resource id as its name.
    """

    names: tuple[str, ...] = ()
    by_version: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unversioned: tuple[str, ...] = ()
    """Resources on the key for which Azure does not report the version."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Resource types in lower case, by resource name."""
    machines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Virtual machines that use each disk, by resource name."""
    without_manifest: tuple[AzureUser, ...] = ()
    """The resources on the key that no EncryptedResource names, in the order of their ids."""

    @staticmethod
    def of(
        names: tuple[str, ...],
        standing: list[tuple[str, str]],
        types: Mapping[str, str] | None = None,
        machines: Mapping[str, tuple[str, ...]] | None = None,
        without_manifest: tuple[AzureUser, ...] = (),
    ) -> Usage:
        """Group `(name, version)` pairs by version; an empty version means that Azure reports none."""
        by_version = users_by_version((name, version) for name, version in standing if version)
        unversioned = tuple(name for name, version in standing if not version)
        return Usage(tuple(sorted(names)), by_version, unversioned, types or {}, machines or {}, without_manifest)


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What one pass observed."""

    prerequisite_facts: PrerequisiteFacts
    usage: Usage
    pending: str | None = None
    """A newer version that passed the probe and awaits approval."""
    azure: UseInAzure | None = field(default_factory=UseInAzure)
    """What Azure's lists show on the key; None: this process has not read them yet, and what status says of them stays."""

    @property
    def key_uri(self) -> KeyUri:
        """The key URI; it includes the version if the manifest pins one."""
        return self.prerequisite_facts.key

    @property
    def probe(self) -> KeyProbe:
        """The result of probing the key in its vault."""
        return self.prerequisite_facts.probe


def refused_key_status(key: CustomerManagedKey, fault: Fault, usage: Usage, now: datetime) -> CustomerManagedKeyStatus:
    """The status of a key that must not be probed; it keeps what is known of the key's versions."""
    unprobed = "the key was not probed"
    aspects = (
        Aspect(ConditionType.READY, "False", fault.reason, fault.message),
        Aspect(ConditionType.KEY_ACCESSIBLE, "Unknown", fault.reason, unprobed),
        Aspect(ConditionType.PREREQUISITES_MET, "Unknown", fault.reason, unprobed),
        Aspect(ConditionType.ROTATION_CURRENT, "Unknown", fault.reason, unprobed),
        Aspect(ConditionType.CONSENT_GRANTED, "Unknown", fault.reason, unprobed),
        Aspect(ConditionType.USERS_KNOWN, "Unknown", fault.reason, "Azure's lists were not read"),
    )
    generation = key.metadata.generation
    before = key.status
    return before.model_copy(
        update={
            "observed_generation": generation,
            "conditions": dated(aspects, Progress.of(fault), before.conditions, generation, now),
            "last_handled_reconcile_at": key.metadata.annotations.get(RECONCILE_REQUESTED_AT),
            "effective": effective_key_policy(key),
            "versions": tuple(_not_known(entry, before.active_version, fault) for entry in before.versions),
            "access": _unprobed_access(before, fault, now),
            "used_by": shortened(usage.names),
            "used_by_count": len(usage.names),
        }
    )


def key_status(key: CustomerManagedKey, facts: KeyFacts, now: datetime) -> CustomerManagedKeyStatus:
    """The status that follows from one probe."""
    before = key.status
    prerequisites = check_prerequisites(facts.prerequisite_facts)
    verdict = judge_key_probe(
        facts.probe,
        facts.usage.by_version,
        unversioned=bool(facts.usage.unversioned),
        services_blocked=_services_blocked(prerequisites),
        lost_before=before.access is not None and before.access.lost_since is not None,
    )
    attributes = facts.probe.wanted.attributes
    accessible = verdict.wanted.state is AccessState.ACCESSIBLE and attributes is not None
    history = advance(_history(before), _version_facts(facts, attributes if accessible else None), now)
    effective = effective_key_policy(key)
    aspects = (
        _key_accessible(verdict),
        _prerequisites_met(prerequisites, effective, readable=attributes is not None),
        _old_version_lost(verdict, watched_versions(before, now)) or _rotation_current(history, facts, effective),
        _consent_granted(verdict, facts.probe),
        _users_known(before, facts.azure),
    )
    summary, progress = _summary(verdict, aspects)
    users = _losing(verdict, facts.usage)
    lost = lost_since(verdict, before.access.lost_since if before.access is not None else None, now) if users else None
    timings = frozenset(map(timing_of, facts.usage.types.values()))
    generation = key.metadata.generation
    return CustomerManagedKeyStatus(
        observed_generation=generation,
        conditions=dated((summary, *aspects), progress, before.conditions, generation, now),
        last_handled_reconcile_at=key.metadata.annotations.get(RECONCILE_REQUESTED_AT),
        effective=effective,
        access=_access(before, verdict, stops(users, lost, facts.usage.machines) if lost is not None else (), lost, now),
        vault_region=facts.prerequisite_facts.vault_region,
        active_version=history.active,
        pending_version=facts.pending,
        versions=tuple(
            _version_report(entry, verdict, _retirement(key, entry, history.active, facts.azure, timings))
            for entry in history.versions
        ),
        prerequisites=_prerequisite_reports(before, prerequisites),
        rotations=_rotations(before, history, facts.key_uri, now),
        used_by=shortened(facts.usage.names),
        used_by_count=len(facts.usage.names),
        without_manifest=tuple(
            UserReport(resource_id=str(one.id), version=one.version or None)
            for one in facts.usage.without_manifest[:MOST_WITHOUT_MANIFEST]
        ),
        without_manifest_count=len(facts.usage.without_manifest),
    )


def _not_known(entry: VersionReport, active: str | None, fault: Fault) -> VersionReport:
    """A version of a key that was not checked: nothing is said to be safe."""
    if entry.version == active or entry.in_use_by_count:
        return entry
    reason = f"whether anything in Azure is still on this version is not known: {fault.message}"
    return entry.model_copy(update={"safe_to_disable_after": None, "keep_until": None, "reason": reason})


def watched_versions(status: CustomerManagedKeyStatus, now: datetime) -> frozenset[str]:
    """Versions that no resource uses any more but that must not be disabled yet."""
    retired = (
        (
            KeyVersion(entry.version, superseded_at=entry.superseded_at),
            Retirement(entry.safe_to_disable_after, entry.keep_until, entry.reason),
        )
        for entry in status.versions
        if entry.version != status.active_version and not entry.in_use_by
    )
    return watched(retired, now)


def _dated_access(before: CustomerManagedKeyStatus, state: AccessState, now: datetime) -> AccessReport:
    same = before.access is not None and before.access.state == state.value
    return AccessReport(state=state.value, since=before.access.since if same and before.access is not None else now)


def _unprobed_access(before: CustomerManagedKeyStatus, fault: Fault, now: datetime) -> AccessReport:
    """Nothing is known, but what was lost before Azure's delay is still lost."""
    unknown = _dated_access(before, AccessState.UNKNOWN, now)
    if fault.reason is not Reason.SETTLING or before.access is None:
        return unknown
    return before.access.model_copy(update={"state": unknown.state, "since": unknown.since})


def _services_blocked(prerequisites: tuple[Prerequisite, ...]) -> str | None:
    """The message on a firewall that blocks Azure's services; None if none is known to."""
    found = (one for one in prerequisites if one.name is PrerequisiteName.TRUSTED_SERVICES_BYPASS and one.result is Result.FAIL)
    return next((one.message for one in found), None)


def _losing(verdict: KeyVerdict, usage: Usage) -> list[tuple[str, ServiceTiming]]:
    """Names and timings of the resources that stop if the loss persists.

    A service with an application of its own is unaffected when only the provider's application loses access.
    """
    names = [name for version, users in usage.by_version.items() if verdict.stops(version) for name in users]
    timed = [(name, timing_of(usage.types.get(name, ""))) for name in (*names, *usage.unversioned)]
    spared = verdict.access.state.spares_other_applications
    return [(name, timing) for name, timing in timed if not (spared and timing.own_application)]


def _access(
    before: CustomerManagedKeyStatus, verdict: KeyVerdict, found: tuple[Stop, ...], lost: datetime | None, now: datetime
) -> AccessReport:
    """The access state and what stops because of it; nothing stops while every version in use is accessible."""
    dated = _dated_access(before, verdict.access.state, now)
    if lost is None:
        return dated
    return dated.model_copy(
        update={
            "lost_since": lost,
            "inaccessible_expected_at": found[0].expected_at,
            "stops": tuple(
                StopReport(
                    service=stop.service,
                    expected_at=stop.expected_at,
                    resources=shortened(stop.resources),
                    resource_count=len(stop.resources),
                    effect=stop.effect,
                    recovery=stop.recovery,
                    virtual_machines=shortened(stop.machines),
                )
                for stop in found
            ),
        }
    )


def _history(before: CustomerManagedKeyStatus) -> VersionHistory:
    return VersionHistory(
        before.active_version,
        tuple(
            KeyVersion(
                version=entry.version,
                enabled=entry.enabled,
                created=entry.created,
                expires=datetime.fromisoformat(entry.expires) if entry.expires else None,
                users=entry.in_use_by,
                superseded_at=entry.superseded_at,
            )
            for entry in before.versions
        ),
    )


def _version_facts(facts: KeyFacts, active: KeyAttributes | None) -> VersionFacts:
    probes = [facts.probe.wanted, *facts.probe.in_use.values()]
    details = {
        probe.attributes.version: KeyVersion(
            version=probe.attributes.version,
            enabled=probe.attributes.enabled,
            created=probe.attributes.created,
            expires=probe.attributes.expires,
        )
        for probe in probes
        if probe.attributes is not None
    }
    return VersionFacts(
        active.version if active is not None else None, details, facts.usage.by_version, facts.usage.unversioned
    )


def _retirement(
    key: CustomerManagedKey,
    entry: KeyVersion,
    active: str | None,
    azure: UseInAzure | None,
    timings: frozenset[ServiceTiming],
) -> Retirement:
    """When a version may be disabled. Until this process has read Azure's lists, what status says of an unchanged version stays."""
    rotation = key.spec.rotation
    hold = parse_duration(rotation.hold_superseded_for) if rotation and rotation.hold_superseded_for else HOLD_SUPERSEDED_FOR
    retention = parse_duration(rotation.backup_retention) if rotation and rotation.backup_retention else None
    terms = HoldTerms(hold + longest_use_of_an_old_version(timings), retention, restores_under(timings))
    if azure is None and _users_were_known(key.status):
        said = next((one for one in key.status.versions if one.version == entry.version), None)
        if said is not None and said.superseded_at is not None and said.superseded_at == entry.superseded_at:
            return Retirement(said.safe_to_disable_after, said.keep_until, said.reason)
    return retire(entry, active, terms, azure or UseInAzure())


def _version_report(entry: KeyVersion, verdict: KeyVerdict, retirement: Retirement) -> VersionReport:
    own = verdict.by_version.get(entry.version)
    return VersionReport(
        version=entry.version,
        access=own.state.value if own is not None else None,
        enabled=entry.enabled,
        created=entry.created,
        expires=to_rfc3339(entry.expires) if entry.expires is not None else None,
        in_use_by=shortened(entry.users),
        in_use_by_count=len(entry.users),
        superseded_at=entry.superseded_at,
        safe_to_disable_after=retirement.safe_to_disable_after,
        keep_until=retirement.keep_until,
        reason=retirement.reason,
    )


def _rotations(
    before: CustomerManagedKeyStatus, history: VersionHistory, key_uri: KeyUri, now: datetime
) -> tuple[RotationReport, ...]:
    if history.active is None or history.active == before.active_version:
        return before.rotations
    by = "manifest" if key_uri.version is not None else "Key Vault"
    entry = RotationReport(from_=before.active_version, to=history.active, at=now, by=by)
    return (entry, *before.rotations)[:ROTATIONS_KEPT]


def _key_accessible(verdict: KeyVerdict) -> Aspect:
    state = verdict.access.state
    status: Truth = "True" if state is AccessState.ACCESSIBLE else "False" if state.is_known_loss else "Unknown"
    return Aspect(ConditionType.KEY_ACCESSIBLE, status, state.reason, verdict.access.message)


def _prerequisite_reports(
    before: CustomerManagedKeyStatus, prerequisites: tuple[Prerequisite, ...]
) -> tuple[PrerequisiteReport, ...]:
    """All known verdicts; a prerequisite that cannot be checked because the key is not readable keeps its last verdict."""
    now = {
        entry.name: PrerequisiteReport(name=entry.name, result=entry.result.value, message=entry.message, command=entry.command)
        for entry in prerequisites
    }
    merged = {entry.name: entry for entry in before.prerequisites if entry.name in ALL_PREREQUISITES} | now
    return tuple(merged[name] for name in ALL_PREREQUISITES if name in merged)


def _prerequisites_met(prerequisites: tuple[Prerequisite, ...], effective: EffectiveKey, *, readable: bool) -> Aspect:
    kind = ConditionType.PREREQUISITES_MET
    if not readable:
        return Aspect(kind, "Unknown", Reason.KEY_NOT_READABLE, "the key could not be read")
    enforced = failed(prerequisites, enforce=effective.prerequisites == "Enforce")
    if enforced:
        message = "; ".join(f"{entry.name}: {entry.message}" for entry in enforced)
        return Aspect(kind, "False", enforced[0].name.failed, message)
    warnings = [entry for entry in prerequisites if entry.result is Result.FAIL]
    if warnings:
        message = "; ".join(f"{entry.name}: {entry.message}" for entry in warnings)
        return Aspect(kind, "True", Reason.WARNED, f"every enforced prerequisite is met, but some others are not: {message}")
    unknown = ", ".join(entry.name for entry in prerequisites if entry.result is Result.UNKNOWN)
    message = (
        f"no prerequisite is known to fail; not visible with the current grants: {unknown}"
        if unknown
        else "all prerequisites are met"
    )
    return Aspect(kind, "True", Reason.MET, message)


def _old_version_lost(verdict: KeyVerdict, superseded: frozenset[str]) -> Aspect | None:
    """Report a superseded version that was disabled or lost too early; None while the key itself is lost, which matters more."""
    if verdict.wanted.state is not AccessState.ACCESSIBLE:
        return None
    lost = sorted(one for one in superseded if one in verdict.by_version and verdict.by_version[one].state.is_known_loss)
    if not lost:
        return None
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    message = (
        f"version {lost[0]}{more}, which no resource uses any more, was lost while services or backups still needed it, so backups "
        f"made under it cannot be restored: {verdict.by_version[lost[0]].message}"
    )
    return Aspect(ConditionType.ROTATION_CURRENT, "False", Reason.OLD_VERSION_LOST, message)


def _rotation_current(history: VersionHistory, facts: KeyFacts, effective: EffectiveKey) -> Aspect:
    kind = ConditionType.ROTATION_CURRENT
    if history.active is None:
        return Aspect(kind, "Unknown", Reason.NO_ACTIVE_VERSION, "no version has passed the probe yet")
    unnamed = {str(one.id) for one in facts.usage.without_manifest}
    old = sorted(name for version, names in facts.usage.by_version.items() if version != history.active for name in names)
    behind, left = [name for name in old if name not in unnamed], [name for name in old if name in unnamed]
    if behind:
        pace = (
            "this operator moves them"
            if effective.apply != "AzureSchedule"
            else "Azure's services check for new versions daily"
        )
        message = f"{_these(behind)} still on an older version than {history.active}; {pace}"
        return Aspect(kind, "False", Reason.RESOURCES_ON_OLDER_VERSION, message)
    if left:
        message = (
            f"{_these(left)} still on an older version than {history.active}, and no EncryptedResource names {'them' if left[1:] else 'it'}: "
            "the platform engineer must apply one, unless Azure's service follows by itself"
        )
        return Aspect(kind, "False", Reason.RESOURCES_ON_OLDER_VERSION, message)
    if facts.pending is not None:
        message = (
            f"version {facts.pending} waits for approval: the platform engineer must set the annotation {APPROVED_VERSION} of this "
            "object to it"
        )
        return Aspect(kind, "False", Reason.APPROVAL_PENDING, message)
    return Aspect(kind, "True", Reason.CURRENT, f"every resource that is known to use the key is on version {history.active}")


def _these(names: list[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more are" if names[1:] else f"{names[0]} is"


def _users_were_known(before: CustomerManagedKeyStatus) -> bool:
    said = find(before.conditions, ConditionType.USERS_KNOWN)
    return said is not None and said.status == "True"


def _users_known(before: CustomerManagedKeyStatus, azure: UseInAzure | None) -> Aspect:
    """Whether the lists of Azure show everything that is on the key."""
    kind = ConditionType.USERS_KNOWN
    if azure is None:
        if _users_were_known(before):
            return Aspect(kind, "True", Reason.LISTED, _ALL_LISTED)
        return Aspect(kind, "Unknown", Reason.NOT_LISTED_YET, "Azure's lists have not been read yet")
    if azure.is_complete:
        return Aspect(kind, "True", Reason.LISTED, _ALL_LISTED)
    reason = azure.found.unlisted[0].reason if azure.found.unlisted else Reason.NOT_LISTED_YET
    return Aspect(kind, "Unknown", reason, f"what uses the key is not known: {azure.why_unknown}")


def _consent_granted(verdict: KeyVerdict, probe: KeyProbe) -> Aspect:
    kind = ConditionType.CONSENT_GRANTED
    state = verdict.wanted.state
    if state.tells_nothing:
        return Aspect(kind, "Unknown", state.reason, "the customer's tenant could not be checked")
    if state is AccessState.CONSENT_MISSING:
        return Aspect(kind, "False", Reason.CONSENT_MISSING, verdict.wanted.message)
    no_token = probe.wanted.failure is not None and probe.wanted.failure.stage is not Stage.SERVICE
    if no_token or state in {AccessState.IDENTITY_BROKEN, AccessState.VAULT_IN_ANOTHER_TENANT}:
        return Aspect(kind, "Unknown", state.reason, verdict.wanted.message)
    return Aspect(kind, truth(value=True), Reason.GRANTED, "the application may sign in to the customer's tenant")


def _summary(verdict: KeyVerdict, aspects: tuple[Aspect, ...]) -> tuple[Aspect, Progress]:
    accessible, met = aspects[0], aspects[1]
    for aspect in (accessible, met):
        if aspect.status == "True":
            continue
        waiting = verdict.access.state.reason.passes_by_itself
        progress = Progress(reconciling=waiting, stalled=not waiting, reason=aspect.reason, message=aspect.message)
        return Aspect(ConditionType.READY, aspect.status, aspect.reason, aspect.message), progress
    return Aspect(ConditionType.READY, "True", Reason.READY, accessible.message), Progress()
