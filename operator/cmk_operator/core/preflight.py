"""The verdicts of a preflight, stage by stage, from the checks that precede a write; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.encryption.coverage import named
from cmk_operator.core.encryption.decide import NextAction
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.kinds.required_actions import Permission, missing_actions
from cmk_operator.core.prerequisites.check import Result, failed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cmk_operator.core.access.state import Access, KeyProbe
    from cmk_operator.core.encryption.coverage import NotCovered
    from cmk_operator.core.encryption.decide import Decision, KeyState
    from cmk_operator.core.prerequisites.check import Prerequisite
    from cmk_operator.core.prerequisites.prerequisite import PrerequisiteName


class CheckStage(StrEnum):
    """What is checked, in order."""

    ADMISSION = "Admission"
    TOKEN = "Token"  # noqa: S105 - a stage's name, not a secret
    CONSENT = "Consent"
    GET = "Get"
    WRAP = "Wrap"
    UNWRAP = "Unwrap"
    OLD_KEY = "OldKey"
    PREREQUISITE = "Prerequisite"
    READ = "Read"
    WRITE = "Write"
    EFFECT = "Effect"
    COVERAGE = "Coverage"
    DELETION = "Deletion"


class CheckResult(StrEnum):
    """How a stage ended."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    WARN = "Warn"
    """Reported, but blocks nothing."""
    FAIL = "Fail"
    """If applied as it is, the manifest has no effect until somebody acts."""
    NOT_VISIBLE = "NotVisible"
    """The current grants do not show it, and writes do not wait for it."""
    UNCHECKED = "Unchecked"
    """An earlier stage failed, or Azure gave no usable answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on one stage, with a sentence that says who must do what."""

    stage: CheckStage
    result: CheckResult
    reason: Reason | PrerequisiteName
    message: str
    command: str | None = None
    changes: tuple[str, ...] = ()


KEY_STAGES: Final = (CheckStage.TOKEN, CheckStage.CONSENT, CheckStage.GET, CheckStage.WRAP, CheckStage.UNWRAP)
ORGANIZATION_STAGES: Final = (CheckStage.TOKEN, CheckStage.WRAP, CheckStage.UNWRAP, CheckStage.OLD_KEY)
RESOURCE_STAGES: Final = (
    CheckStage.READ,
    CheckStage.WRITE,
    CheckStage.EFFECT,
    CheckStage.COVERAGE,
    CheckStage.DELETION,
)
_OPERATIONS: Final = {"get": CheckStage.GET, "wrapKey": CheckStage.WRAP, "unwrapKey": CheckStage.UNWRAP}
_DECIDED_BY_CUSTOMER: Final = frozenset({AccessState.CONSENT_MISSING, AccessState.PERMISSION_DENIED})
"""States that depend on the customer's tenant, not on the identity."""
_PASSED: Final = {
    CheckStage.TOKEN: "the operator signs in as the managed identity, which the application trusts",
    CheckStage.CONSENT: "the application signs in to the customer's tenant",
    CheckStage.GET: "the key was read",
    CheckStage.WRAP: "the vault wrapped test bytes with the key",
    CheckStage.UNWRAP: "the vault unwrapped the same bytes",
    CheckStage.OLD_KEY: "the key in force can be unwrapped too, or no data key is on it",
}
_SIGNED_IN: Final = "Entra gives a token for the vault's tenant"


def passed(stage: CheckStage, message: str) -> Check:
    """A stage that passed."""
    return Check(stage, CheckResult.PASS, Reason.PASSED, message)


def not_reached(stages: Iterable[CheckStage], why: str) -> tuple[Check, ...]:
    """The stages after one that failed."""
    return tuple(Check(stage, CheckResult.UNCHECKED, Reason.NOT_REACHED, why) for stage in stages)


def of_fault(stage: CheckStage, fault: Fault) -> Check:
    """A blocked stage; it fails only if a person must act."""
    result = CheckResult.FAIL if fault.needs_a_person else CheckResult.UNCHECKED
    return Check(stage, result, fault.reason, fault.message)


def key_checks(probe: KeyProbe) -> tuple[Check, ...]:
    """Token, consent, get, wrap and unwrap of the wanted version, from one probe."""
    access = judge_access(probe)
    if access.state is AccessState.ACCESSIBLE:
        return tuple(passed(stage, _PASSED[stage]) for stage in KEY_STAGES)
    at = _failing_stage(probe, access)
    position = KEY_STAGES.index(at)
    before = tuple(passed(stage, _PASSED[stage]) for stage in KEY_STAGES[:position])
    person = access.actor is not None and access.actor is not Actor.AZURE
    result = CheckResult.FAIL if person else CheckResult.UNCHECKED
    here = Check(at, result, access.state.reason, access.message)
    return (*before, here, *not_reached(KEY_STAGES[position + 1 :], f"{at.value} must pass first"))


def organization_checks(
    failed_at: CheckStage | None = None, reason: Reason = Reason.PASSED, message: str = "", *, needs_a_person: bool = False
) -> tuple[Check, ...]:
    """Token, wrap, unwrap and old key of an organization's settings, from one test; `failed_at` None: it has passed."""
    stages = [passed(stage, _SIGNED_IN if stage is CheckStage.TOKEN else _PASSED[stage]) for stage in ORGANIZATION_STAGES]
    if failed_at is None:
        return tuple(stages)
    position = ORGANIZATION_STAGES.index(failed_at)
    result = CheckResult.FAIL if needs_a_person else CheckResult.UNCHECKED
    here = Check(failed_at, result, reason, message)
    return (*stages[:position], here, *not_reached(ORGANIZATION_STAGES[position + 1 :], f"{failed_at.value} must pass first"))


def advice_check(advice: tuple[str, ...]) -> Check:
    """What protects an organization's key badly, as far as it is visible."""
    if not advice:
        return passed(CheckStage.PREREQUISITE, "nothing is visible that protects the key badly")
    return Check(CheckStage.PREREQUISITE, CheckResult.WARN, Reason.WARNED, "; ".join(advice))


def organization_effect(in_force: str, wanted: str, data_keys: int | None) -> Check:
    """What applying the manifest does: `in_force` is the key version in force (empty: none), `wanted` the one that was tried."""
    if in_force == wanted:
        return passed(CheckStage.EFFECT, "the key version in force stays")
    moved = (
        "the key service wraps its data keys anew" if data_keys is None else f"the key service wraps {data_keys} data keys anew"
    )
    what = f"{moved}, and touches no data" if in_force else "it becomes the key of an organization that has none yet"
    return Check(
        CheckStage.EFFECT,
        CheckResult.PASS,
        Reason.WOULD_CHANGE,
        f"{wanted} would be in force: {what}",
        changes=(f"kid: {in_force or '(none)'} -> {wanted}",),
    )


def _failing_stage(probe: KeyProbe, access: Access) -> CheckStage:
    failure = probe.wanted.failure
    if failure is None:
        attributes = probe.wanted.attributes
        if probe.vault_tenant is not None or attributes is None:
            return CheckStage.GET
        return CheckStage.UNWRAP if access.state is AccessState.UNKNOWN else CheckStage.WRAP
    if failure.stage is Stage.OPERATOR_TOKEN:
        return CheckStage.TOKEN
    if failure.stage is Stage.APPLICATION_TOKEN:
        return CheckStage.CONSENT if access.state in _DECIDED_BY_CUSTOMER else CheckStage.TOKEN
    return _OPERATIONS.get(probe.wanted.operation, CheckStage.GET)


def prerequisite_checks(prerequisites: Iterable[Prerequisite], *, enforce: bool) -> tuple[Check, ...]:
    """One check for each prerequisite; a failure that does not block writes is a warning."""
    known = tuple(prerequisites)
    forbidding = failed(known, enforce=enforce)
    results = {Result.PASS: CheckResult.PASS, Result.UNKNOWN: CheckResult.NOT_VISIBLE, Result.FAIL: CheckResult.WARN}
    return tuple(
        Check(
            CheckStage.PREREQUISITE,
            CheckResult.FAIL if entry in forbidding else results[entry.result],
            entry.name,
            entry.message,
            entry.command if entry.result is not Result.PASS else None,
        )
        for entry in known
    )


@dataclass(frozen=True, slots=True)
class Rights:
    """The actions that a write needs at one scope, and the permissions that Azure reports there."""

    scope: str
    needed: tuple[str, ...]
    permissions: tuple[Permission, ...] | AzureFailure
    polls: tuple[str, ...] = ()
    """Actions that only show how far an operation is."""


def write_check(rights: Iterable[Rights]) -> Check:
    """Whether the operator's roles allow the writes; only a real write shows locks, policies and deny assignments."""
    missing: list[str] = []
    unseen: list[Rights] = []
    known = tuple(rights)
    for entry in known:
        if isinstance(entry.permissions, AzureFailure):
            unseen.append(entry)
            continue
        lacking = missing_actions(entry.permissions, entry.needed)
        missing += [f"{action} on {entry.scope}" for action in lacking]
    if missing:
        message = (
            f"the operator's managed identity lacks {', '.join(missing)}: the provider's administrator must assign it a role that "
            "allows this (a new assignment takes some minutes)"
        )
        return Check(CheckStage.WRITE, CheckResult.FAIL, Reason.ROLE_MISSING, message)
    if unseen:
        scopes = ", ".join(entry.scope for entry in unseen)
        message = f"Azure does not show the operator what its managed identity may do on {scopes}"
        return Check(CheckStage.WRITE, CheckResult.NOT_VISIBLE, Reason.RIGHTS_NOT_VISIBLE, message)
    blind = [
        action
        for entry in known
        if not isinstance(entry.permissions, AzureFailure)
        for action in missing_actions(entry.permissions, entry.polls)
    ]
    if blind:
        message = (
            f"the roles of the operator's managed identity allow the write, but not to poll its operations, for which it lacks "
            f"{', '.join(blind)}: the operator then decides by the resource itself, which takes longer; the provider's administrator "
            "may assign it a role that allows this"
        )
        return Check(CheckStage.WRITE, CheckResult.WARN, Reason.ROLE_MISSING, message)
    message = "the roles of the operator's managed identity allow the write; only a real write shows locks and policies"
    return passed(CheckStage.WRITE, message)


def effect_check(decision: Decision, key: KeyState, changes: tuple[str, ...]) -> Check:
    """What applying the manifest does to the resource."""
    if decision.action is NextAction.SETTLED:
        return passed(CheckStage.EFFECT, "nothing changes: the resource is as wanted")
    if decision.action is NextAction.WRITE:
        return Check(
            CheckStage.EFFECT, CheckResult.PASS, Reason.WOULD_CHANGE, "the operator would make these changes", changes=changes
        )
    if decision.action is NextAction.SHOW_PLAN:
        message = "the manifest asks to observe only: status.plan would show these changes, and none is made"
        return Check(CheckStage.EFFECT, CheckResult.PASS, Reason.PLAN_ONLY, message, changes=changes)
    access = key.access
    passes = access is not None and access.state is not AccessState.ACCESSIBLE and access.actor in {None, Actor.AZURE}
    result = CheckResult.UNCHECKED if passes else CheckResult.FAIL
    return Check(CheckStage.EFFECT, result, decision.reason, f"these changes wait: {decision.message}", changes=changes)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What protects a resource once its manifest is applied, for the check of a later deletion."""

    name: str
    stays_on: str
    """The key, or what else the resource is on then, in its service's words."""
    on_wanted_key: bool
    leaves: str = ""
    """Another key that the resource is on now and that applying the manifest takes it off; empty if there is none."""
    restores: str = ""
    """What still needs that other key."""


def deletion_check(outlook: Outlook, platform_key: str, *, reverts: bool, obstacle: Fault | None) -> Check:
    """What deleting the manifest leaves behind; `obstacle` is what would block a revert of the resource as it is now."""
    name, result, reason = outlook.name, CheckResult.PASS, Reason.PASSED
    if not reverts:
        needs = ", whose version must stay enabled, and status of the key goes on naming it (withoutManifest)"
        message = f"deleting the manifest changes nothing in Azure: {name} stays on {outlook.stays_on}"
        message += needs if outlook.on_wanted_key else ""
    elif obstacle is not None:
        result, reason = CheckResult.WARN, obstacle.reason
        message = f"deleting the manifest would wait, because {name} must revert to {platform_key} first: {obstacle.message}"
    else:
        message = f"deleting the manifest puts {name} back on {platform_key} first"
    if outlook.leaves:
        needing = f", which {outlook.restores} still need" if outlook.restores else ""
        message += f"; applying it takes {name} off {outlook.leaves}{needing}"
    return Check(CheckStage.DELETION, result, reason, message)


def coverage_check(uncovered: tuple[NotCovered, ...], *, required: bool, never: str = "") -> Check:
    """Which data of the resource its key would not protect; a failure only if the manifest asks for full coverage."""
    if not uncovered:
        but = f", but {never}" if never else ""
        return passed(CheckStage.COVERAGE, f"no data of the resource is visible that the key would not protect{but}")
    remedies = tuple(f"{one}: {one.remedy}" if one.remedy else str(one) for one in uncovered)
    certain = tuple(one for one in uncovered if one.covered == "No")
    if certain:
        message = f"the key would not protect: {named(certain)}"
        result = CheckResult.FAIL if required else CheckResult.WARN
        return Check(CheckStage.COVERAGE, result, Reason.DATA_NOT_COVERED, message, changes=remedies)
    message = f"it is not visible whether the key would protect: {named(uncovered)}"
    result = CheckResult.FAIL if required else CheckResult.NOT_VISIBLE
    return Check(CheckStage.COVERAGE, result, Reason.COVERAGE_NOT_SHOWN, message, changes=remedies)


def overall(results: Iterable[CheckResult]) -> CheckResult:
    """The verdict on all: Fail, else Unchecked, else Pass."""
    found = set(results)
    return next((one for one in (CheckResult.FAIL, CheckResult.UNCHECKED) if one in found), CheckResult.PASS)
