"""Computes the status of an `OrganizationKey` from what one pass found; pure."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import Aspect, Progress, dated, truth
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import FaultKind, Reason
from cmk_operator.core.organization.break_glass import REPORT_MAX_AGE, KnownAccount, Readiness, readiness
from cmk_operator.core.organization.licence import NOT_USED
from cmk_operator.core.organization.safe_to_disable import COUNT_MAX_AGE, CountOfDataKeys, is_recent, trusted_count
from cmk_operator.core.organization.verdict import VerdictKind
from cmk_operator.reconcile.organization.settings import PLATFORM_KEY, effective_settings, version_of
from cmk_operator.reconcile.organization.versions import platform_key_needed_until, version_reports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cmk_operator.api.conditions import Truth
    from cmk_operator.api.organization_key import (
        AcceptedKey,
        BreakGlassReport,
        CredentialReport,
        DataKeysReport,
        OrganizationKey,
        OrganizationKeyStatus,
    )
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.organization.licence import Standing
    from cmk_operator.reconcile.organization.acceptance import Refused

REPORT_SEEN_EVERY: Final = 30.0
"""Least seconds between two passes that only look whether the key service still reports: its report's time asks for no pass."""
_GONE_SEEN_EVERY: Final = 300.0
"""The same for a console that has stopped: its next report may be the same as the last, and starts no pass."""
_WARNS: Final = (Reason.KEY_EXPIRED, Reason.WRAP_REFUSED, Reason.COASTING, Reason.CREDENTIAL_EXPIRES_SOON)
"""Reasons of a condition that is True, which Ready shows too."""
_LICENCE_WARNS: Final = frozenset(
    {
        *(Reason.LICENCE_GRACE, Reason.LICENCE_FREE, Reason.LICENCE_VIEW_ONLY, Reason.LICENCE_EXPIRED),
        *(Reason.LICENCE_MISSING, Reason.PLAN_WITHOUT_KEYS, Reason.LICENCE_NOT_READ),
    }
)
"""Reasons of LicenceAllowsChange that Ready shows: what is in force works, but not everything may be changed."""
_SERVING: Final[Mapping[str, tuple[bool, Reason, str]]] = MappingProxyType(
    {
        "Serving": (True, Reason.SERVING, "the key service serves the organization's data"),
        "Coasting": (
            True,
            Reason.COASTING,
            "the vault gives the key service no answer, and known data keys are served until the ceiling (outageGrace)",
        ),
        "Refused": (
            False,
            Reason.SERVING_REFUSED,
            "the key service refuses the organization's data, because the vault refuses the key: the customer's administrator must "
            "restore access to the key, or leave it withdrawn to keep the data cut off",
        ),
        "NotServing": (
            False,
            Reason.NOT_SERVING,
            "the key service cannot serve the organization's data: the provider's administrator must look at its log",
        ),
    }
)


_BREAK_GLASS: Final[Mapping[Readiness, tuple[Truth, Reason, str]]] = MappingProxyType(
    {
        Readiness.NOT_REPORTED: (
            "Unknown",
            Reason.BREAK_GLASS_NOT_REPORTED,
            "the console has not reported on break-glass accounts in the last 30 minutes: the provider's administrator must see "
            "whether it runs and may write organizationkeys/status, or leave it if there is no console",
        ),
        Readiness.NO_ACCOUNT: (
            "False",
            Reason.NO_BREAK_GLASS_ACCOUNT,
            "if the identity provider is down, nobody can sign in to the console for this organization: the provider's administrator "
            "must make a break-glass account (cmk-keyservice break-glass)",
        ),
        Readiness.UNUSABLE: (
            "False",
            Reason.BREAK_GLASS_UNUSABLE,
            "status.breakGlass says why: the provider's administrator must write its entry anew (cmk-keyservice break-glass)",
        ),
        Readiness.NOT_TRIED: (
            "False",
            Reason.BREAK_GLASS_NOT_TRIED,
            "whether it works is not known: the person whose account it is must sign in with it once in 180 days",
        ),
        Readiness.READY: (
            "True",
            Reason.BREAK_GLASS_TRIED,
            "somebody has signed in with a break-glass account in the last 180 days",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class OrganizationFacts:
    """What one pass found."""

    status: OrganizationKeyStatus
    """The status before, with what has been accepted, tested and checked since."""
    in_force: bool
    """Whether the settings in force are those of the manifest."""
    refused: Refused | None = None
    """Why the settings of the manifest have failed their test."""
    unprobed: Fault | None = None
    """Why the key in force was not probed."""
    probe: Refused | None = None
    """Why the probe of the key in force failed; None if it unwrapped its canary."""
    probed: bool = False
    credentials: tuple[CredentialReport, ...] = ()
    held: Fault | None = None
    """Why the deletion of the object waits."""
    licence: Standing = NOT_USED


def reported_lately(data_keys: DataKeysReport | None, now: datetime) -> bool:
    """Whether the key service has reported within three of its intervals."""
    return data_keys is not None and is_recent(data_keys.observed_at, now)


def report_seen_within(data_keys: DataKeysReport | None, now: datetime) -> float:
    """Seconds within which it must be seen whether the key service still reports, or reports again."""
    if data_keys is None or data_keys.observed_at is None or not reported_lately(data_keys, now):
        return REPORT_SEEN_EVERY
    return max(REPORT_SEEN_EVERY, (data_keys.observed_at + COUNT_MAX_AGE - now).total_seconds())


def break_glass_seen_within(report: BreakGlassReport | None, now: datetime) -> float:
    """Seconds within which it must be seen whether the console still reports. Its first report starts a pass by itself."""
    if report is None or report.observed_at is None:
        return float("inf")
    age = now - report.observed_at
    return max(REPORT_SEEN_EVERY, (REPORT_MAX_AGE - age).total_seconds()) if age <= REPORT_MAX_AGE else _GONE_SEEN_EVERY


def counted_data_keys(status: OrganizationKeyStatus, now: datetime) -> Mapping[str, int] | None:
    """The data keys by key version; None if nothing may be concluded from the key service's report."""
    found, accepted = status.data_keys, status.accepted
    if found is None or accepted is None:
        return None
    by_kid = tuple((entry.kid, entry.data_keys) for entry in found.by_kid)
    return trusted_count(CountOfDataKeys(by_kid, found.total, found.revision, found.observed_at), accepted.revision, now)


def no_data_key_on(status: OrganizationKeyStatus, kid: str, now: datetime) -> bool:
    """Whether the key service is known to have no data key on a key version."""
    counted = counted_data_keys(status, now)
    return counted is not None and not counted.get(kid)


def organization_status(organization: OrganizationKey, facts: OrganizationFacts, now: datetime) -> OrganizationKeyStatus:
    """The status of this pass."""
    status, generation = facts.status, organization.metadata.generation
    effective = effective_settings(organization)
    counted = counted_data_keys(status, now)
    aspects = (
        _configuration(facts),
        _accessible(facts),
        _serving(status.data_keys, now),
        _credential(status.accepted, facts.credentials),
        _rotation(organization, status),
        _rewrap(status, counted),
    )
    licence, break_glass = _licence(facts.licence), _break_glass(status.break_glass, now)
    ready, progress = _summary(aspects, facts)
    versions = version_reports(status, counted, effective.backup_retention, now)
    return status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": dated(
                (ready, *aspects, licence, break_glass), progress, organization.status.conditions, generation, now
            ),
            "last_handled_reconcile_at": organization.metadata.annotations.get(RECONCILE_REQUESTED_AT),
            "effective": effective,
            "versions": versions,
            "credentials": facts.credentials,
            "platform_key_needed_until": platform_key_needed_until(versions),
            "recorded_break_glass_uses": status.break_glass.uses if status.break_glass else status.recorded_break_glass_uses,
        }
    )


def _summary(aspects: tuple[Aspect, ...], facts: OrganizationFacts) -> tuple[Aspect, Progress]:
    """Ready, from the first condition that is not True; what is False comes before what is unknown."""
    kind = ConditionType.READY
    if facts.held is not None:
        return Aspect(kind, "False", facts.held.reason, facts.held.message), Progress.of(facts.held)
    worst = next((one for one in aspects if one.status == "False"), None) or next(
        (one for one in aspects if one.status == "Unknown"), None
    )
    if worst is None:
        warned = next((one for one in aspects if one.reason in _WARNS), None)
        if warned is not None:
            return Aspect(kind, "True", warned.reason, warned.message), Progress()
        if facts.licence.reason in _LICENCE_WARNS:
            return Aspect(kind, "True", facts.licence.reason, facts.licence.message), Progress()
        return Aspect(
            kind, "True", Reason.READY, "the settings of the manifest are in force, and the key is accessible"
        ), Progress()
    by_itself = _passes_by_itself(worst, facts)
    progress = Progress(reconciling=by_itself, stalled=not by_itself, reason=worst.reason, message=worst.message)
    return Aspect(kind, worst.status, worst.reason, worst.message), progress


def _licence(found: Standing) -> Aspect:
    status = truth(value=found.allowed) if found.known else "Unknown"
    return Aspect(ConditionType.LICENCE_ALLOWS_CHANGE, status, found.reason, found.message)


def _break_glass(report: BreakGlassReport | None, now: datetime) -> Aspect:
    accounts = tuple(KnownAccount(one.problem is None, one.last_used_at) for one in report.accounts) if report else ()
    status, reason, message = _BREAK_GLASS[readiness(accounts, report.observed_at if report else None, now)]
    return Aspect(ConditionType.BREAK_GLASS_READY, status, reason, message)


def _passes_by_itself(worst: Aspect, facts: OrganizationFacts) -> bool:
    causes = {ConditionType.CONFIGURATION_ACCEPTED: facts.refused, ConditionType.KEY_ACCESSIBLE: facts.probe}
    cause = causes.get(worst.type)
    return cause.passes_by_itself if cause is not None else worst.reason.kind in {None, FaultKind.BUSY}


def _configuration(facts: OrganizationFacts) -> Aspect:
    kind, accepted, refused = ConditionType.CONFIGURATION_ACCEPTED, facts.status.accepted, facts.refused
    if facts.in_force and accepted is not None:
        return Aspect(kind, "True", Reason.ACCEPTED, f"revision {accepted.revision} is in force: {accepted.kid}")
    stays = f"revision {accepted.revision} stays in force" if accepted is not None else "no settings are in force yet"
    if refused is None:
        return Aspect(kind, "Unknown", Reason.NOT_TESTED, f"the settings have not been tested yet; {stays}")
    return Aspect(kind, "False", refused.reason, f"stage {refused.stage} of the test failed: {refused.message}; {stays}")


def _accessible(facts: OrganizationFacts) -> Aspect:
    kind, accepted, probe = ConditionType.KEY_ACCESSIBLE, facts.status.accepted, facts.probe
    if accepted is None:
        return Aspect(kind, "Unknown", Reason.NOT_TESTED, "no settings are in force yet, so no key was probed")
    if accepted.kid == PLATFORM_KEY:
        return Aspect(kind, "True", Reason.PLATFORM_MANAGED, "the platform's own key is in force, which the key service holds")
    if facts.unprobed is not None:
        lost = facts.unprobed.reason is Reason.CREDENTIAL_EXPIRED
        return Aspect(
            kind,
            "False" if lost else "Unknown",
            facts.unprobed.reason,
            f"the key in force was not probed: {facts.unprobed.message}",
        )
    if probe is not None:
        refuses = probe.kind in {VerdictKind.DENIED, VerdictKind.LOST}
        return Aspect(kind, "False" if refuses else "Unknown", probe.reason, probe.message)
    if not facts.probed:
        return Aspect(kind, "Unknown", Reason.NOT_PROBED, "the key in force has not been probed yet")
    check = facts.status.check
    reason = Reason.read(check.reason) if check is not None and check.reason else None
    if check is not None and reason in {Reason.KEY_EXPIRED, Reason.WRAP_REFUSED}:
        return Aspect(kind, "True", reason, check.message)
    return Aspect(kind, "True", Reason.ACCESSIBLE, "the vault unwraps what the key in force once wrapped")


def _serving(data_keys: DataKeysReport | None, now: datetime) -> Aspect:
    kind = ConditionType.SERVING
    serving = data_keys.serving if data_keys is not None else None
    if serving is None or not reported_lately(data_keys, now):
        how = "has not reported on the organization yet" if data_keys is None else "has not reported on the organization lately"
        return Aspect(
            kind,
            "Unknown",
            Reason.NOT_REPORTED,
            f"the key service {how}: the provider's administrator must see whether it runs",
        )
    serves, reason, message = _SERVING[serving.state]
    return Aspect(
        kind, "True" if serves else "False", reason, f"{message}; it says: {serving.message}" if serving.message else message
    )


def _credential(accepted: AcceptedKey | None, credentials: tuple[CredentialReport, ...]) -> Aspect:
    kind = ConditionType.CREDENTIAL_VALID
    if not credentials:
        if accepted is None:
            return Aspect(kind, "Unknown", Reason.NOT_TESTED, "no settings are in force yet")
        if accepted.access is not None and accepted.access.method == "Registration":
            message = (
                "a registration's credentials are in force, and the manifest names none now or is not admitted, so when they expire is "
                "not known"
            )
            return Aspect(kind, "Unknown", Reason.NOT_TESTED, message)
        return Aspect(kind, "True", Reason.NO_CREDENTIAL_NEEDED, "the vault is reached without a secret or certificate")
    usable = [one for one in credentials if one.message is None]
    if not usable:
        expired = all(one.warned_days == 0 for one in credentials)
        reason = Reason.CREDENTIAL_EXPIRED if expired else Reason.CREDENTIAL_UNUSABLE
        return Aspect(kind, "False", reason, str(credentials[0].message))
    living = [one for one in usable if one.warned_days != 0]
    if not living:
        message = (
            f"{_named(usable)} has expired: the customer's administrator must create a new credential on its registration and "
            "store it in the Secret that spec.access.registration names"
        )
        return Aspect(kind, "False", Reason.CREDENTIAL_EXPIRED, message)
    if any(one.days_left is None for one in living):
        unknown = [one for one in living if one.days_left is None]
        message = (
            f"nobody has said when {_named(unknown)} expires, so that nobody can be warned: the platform engineer may write its end "
            "into expires"
        )
        return Aspect(kind, "True", Reason.CREDENTIAL_EXPIRY_UNKNOWN, message)
    last = max(living, key=lambda one: one.days_left or 0)
    if last.warned_days is not None:
        message = (
            f"{_named([last])} expires within {last.warned_days} days: the customer's administrator must create a new one and name "
            "it as the second credential"
        )
        return Aspect(kind, "True", Reason.CREDENTIAL_EXPIRES_SOON, message)
    return Aspect(kind, "True", Reason.CREDENTIAL_CURRENT, f"{_named([last])} does not expire soon")


def _named(credentials: list[CredentialReport]) -> str:
    return " and ".join(f"the credential in Secret {one.secret} ({one.key})" for one in credentials)


def _rotation(organization: OrganizationKey, status: OrganizationKeyStatus) -> Aspect:
    kind, accepted, check = ConditionType.ROTATION_CURRENT, status.accepted, status.check
    if accepted is None:
        return Aspect(kind, "Unknown", Reason.NOT_TESTED, "no settings are in force yet")
    version = version_of(accepted)
    if version is None:
        return Aspect(kind, "True", Reason.CURRENT, "the platform's key is in force")
    if status.pending_version is not None:
        message = (
            f"version {status.pending_version} waits for approval: the platform engineer must approve it (kubectl annotate orgkey "
            f"{organization.metadata.name} cmk-operator.dev/approved-version={status.pending_version}) or leave it"
        )
        return Aspect(kind, "False", Reason.APPROVAL_PENDING, message)
    if check is not None and check.reason == Reason.ROTATION_BLOCKED:
        return Aspect(kind, "False", Reason.ROTATION_BLOCKED, check.message)
    if check is None:
        return Aspect(kind, "Unknown", Reason.NOT_PROBED, "the vault has not been asked for the latest version yet")
    return Aspect(kind, "True", Reason.CURRENT, f"version {version.version} is in force")


def _rewrap(status: OrganizationKeyStatus, counted: Mapping[str, int] | None) -> Aspect:
    kind, accepted = ConditionType.REWRAP_COMPLETE, status.accepted
    rewrap = status.data_keys.rewrap if status.data_keys is not None else None
    if accepted is None:
        return Aspect(kind, "Unknown", Reason.NOT_TESTED, "no settings are in force yet")
    if counted is None:
        message = (
            "the key service has not reported by the settings in force, or not lately, so where its data keys are is not known"
        )
        return Aspect(kind, "Unknown", Reason.NOT_REPORTED, message)
    left = sum(data_keys for kid, data_keys in counted.items() if kid != accepted.kid)
    if rewrap is not None and rewrap.failed:
        message = f"data keys could not be wrapped with the key in force; the key service says: {rewrap.message}"
        return Aspect(kind, "False", Reason.REWRAP_FAILED, message)
    if left or (rewrap is not None and rewrap.pending):
        return Aspect(
            kind, "False", Reason.REWRAPPING, "data keys are still on an earlier key: the key service wraps them again"
        )
    return Aspect(kind, "True", Reason.REWRAPPED, "every data key is on the key in force")
