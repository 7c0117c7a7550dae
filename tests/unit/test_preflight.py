"""The verdicts of a preflight, stage by stage, and the exit code that they come to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cmk_operator.core.access.state import Access, AccessState, KeyProbe
from cmk_operator.core.encryption.coverage import NotCovered
from cmk_operator.core.encryption.decide import Decision, KeyState, NextAction
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.kinds.required_actions import Permission
from cmk_operator.core.preflight import (
    KEY_STAGES,
    CheckResult,
    CheckStage,
    Outlook,
    Rights,
    coverage_check,
    deletion_check,
    effect_check,
    key_checks,
    of_fault,
    overall,
    prerequisite_checks,
    write_check,
)
from cmk_operator.core.prerequisites.check import check_prerequisites
from tests.unit.samples import KEY, NOW, attributes, entra, forbidden, guard, healthy, probe, refused, states

PASS, FAIL, UNCHECKED = CheckResult.PASS, CheckResult.FAIL, CheckResult.UNCHECKED
STORAGE = "Microsoft.Storage/storageAccounts/write"

FIRST_NOT_PASSED = {
    "Disabled": (CheckStage.WRAP, FAIL),
    "Expired": (CheckStage.WRAP, FAIL),
    "NotYetValid": (CheckStage.WRAP, FAIL),
    "Deleted": (CheckStage.GET, FAIL),
    "BeingDeletedOrRecovered": (CheckStage.GET, FAIL),
    "Missing": (CheckStage.GET, FAIL),
    "Purged": (CheckStage.GET, FAIL),
    "CredentialReplicating": (CheckStage.TOKEN, UNCHECKED),
    "VersionReplicating": (CheckStage.WRAP, UNCHECKED),
    "VersionMissing": (CheckStage.GET, FAIL),
    "PermissionDenied": (CheckStage.GET, FAIL),
    "ConsentMissing": (CheckStage.CONSENT, FAIL),
    "VaultInAnotherTenant": (CheckStage.GET, FAIL),
    "IdentityBroken": (CheckStage.TOKEN, FAIL),
    "EntraRefused": (CheckStage.TOKEN, FAIL),
    "OperatorNotAuthenticated": (CheckStage.TOKEN, FAIL),
    "FirewallBlocksProbe": (CheckStage.GET, FAIL),
    "VaultRefused": (CheckStage.GET, FAIL),
    "VaultUnreachable": (CheckStage.GET, UNCHECKED),
    "Unknown": (CheckStage.GET, UNCHECKED),
}


def test_every_access_state_that_a_probe_finds_has_its_stage() -> None:
    assert set(FIRST_NOT_PASSED) | {"Accessible"} == set(states())


@pytest.mark.parametrize("state", sorted(FIRST_NOT_PASSED))
def test_the_stage_that_does_not_hold_is_named_and_what_comes_after_is_not_judged(state: str) -> None:
    checks = key_checks(states()[state])
    stage, result = FIRST_NOT_PASSED[state]
    position = KEY_STAGES.index(stage)
    assert [check.stage for check in checks] == list(KEY_STAGES)
    assert [check.result for check in checks] == [PASS] * position + [result] + [UNCHECKED] * (4 - position)
    assert checks[position].reason == state


def test_a_key_that_was_wrapped_and_unwrapped_passes_every_stage() -> None:
    assert {check.result for check in key_checks(probe())} == {PASS}


@pytest.mark.parametrize(
    ("found", "stage", "result"),
    [
        (probe(refused(forbidden("ForbiddenByRbac"), "wrapKey", attributes())), CheckStage.WRAP, FAIL),
        (probe(refused(forbidden("ForbiddenByRbac"), "unwrapKey", attributes())), CheckStage.UNWRAP, FAIL),
        (probe(replace(healthy(), round_trip=False)), CheckStage.UNWRAP, FAIL),
        (probe(refused(entra(53003))), CheckStage.CONSENT, FAIL),
        (probe(refused(entra(90033, status=503))), CheckStage.TOKEN, UNCHECKED),
        (probe(refused(AzureFailure(None, "Timeout", "", stage=Stage.OPERATOR_TOKEN))), CheckStage.TOKEN, UNCHECKED),
    ],
    ids=["wrap", "unwrap", "other bytes", "conditional access", "Entra is busy", "no answer"],
)
def test_the_operation_or_hop_that_was_refused_is_the_stage(found: KeyProbe, stage: CheckStage, result: CheckResult) -> None:
    first = next(check for check in key_checks(found) if check.result is not PASS)
    assert (first.stage, first.result) == (stage, result)


def test_a_prerequisite_fails_only_where_it_keeps_writes_back() -> None:
    facts = guard(probe(healthy(key_size=3072, expires=NOW + timedelta(days=10))))
    enforced = {str(check.reason): check for check in prerequisite_checks(check_prerequisites(facts), enforce=True)}
    warned = {str(check.reason): check.result for check in prerequisite_checks(check_prerequisites(facts), enforce=False)}
    assert (enforced["KeySize"].result, warned["KeySize"]) == (FAIL, CheckResult.WARN)
    assert enforced["KeySize"].command is not None
    assert (enforced["KeyType"].result, enforced["KeyType"].command) == (PASS, None)
    assert enforced["VaultLock"].result is CheckResult.NOT_VISIBLE


def test_a_role_that_lacks_is_named_with_its_scope() -> None:
    reader = (Permission(("*/read",)),)
    check = write_check([Rights("/a", (STORAGE,), reader), Rights("/b", ("x/assign/action",), (Permission(("*",)),))])
    assert (check.result, check.reason) == (FAIL, "RoleMissing")
    assert f"lacks {STORAGE} on /a:" in check.message
    assert "/b" not in check.message


def test_a_right_to_poll_that_is_missing_is_a_warning_that_names_it() -> None:
    polls = ("Microsoft.Sql/locations/*/read",)
    blind = write_check([Rights("/a", (STORAGE,), (Permission((STORAGE,)),), polls)])
    assert (blind.result, blind.reason) == (CheckResult.WARN, "RoleMissing")
    assert polls[0] in blind.message
    assert write_check([Rights("/a", (STORAGE,), (Permission((STORAGE, *polls)),), polls)]).result is PASS
    assert write_check([Rights("/a", (STORAGE,), (), polls)]).result is FAIL


def test_rights_that_cannot_be_seen_are_not_called_missing() -> None:
    refusal = AzureFailure(403, "AuthorizationFailed", "")
    allowed = Rights("/b", (STORAGE,), (Permission((STORAGE,)),))
    check = write_check([Rights("/a", (STORAGE,), refusal), allowed])
    assert (check.result, check.reason) == (CheckResult.NOT_VISIBLE, "RightsNotVisible")
    assert write_check([allowed]).result is PASS


@pytest.mark.parametrize(
    ("decision", "access", "result", "reason"),
    [
        pytest.param(Decision(NextAction.SETTLED), None, PASS, "Passed", id="settled"),
        pytest.param(Decision(NextAction.WRITE), None, PASS, "WouldChange", id="write"),
        pytest.param(Decision(NextAction.SHOW_PLAN, Reason.PLAN_ONLY, ""), None, PASS, "PlanOnly", id="observe"),
        pytest.param(Decision(NextAction.WAIT, Reason.DISABLED, ""), Access(AccessState.DISABLED, "", Actor.CUSTOMER_ADMINISTRATOR), FAIL, "Disabled", id="lost"),
        pytest.param(Decision(NextAction.WAIT, Reason.KEY_SIZE_FAILED, ""), Access(AccessState.ACCESSIBLE, ""), FAIL, "KeySizeFailed", id="prerequisite"),
        pytest.param(Decision(NextAction.WAIT, Reason.VAULT_UNREACHABLE, ""), Access(AccessState.VAULT_UNREACHABLE, "", Actor.AZURE), UNCHECKED, "VaultUnreachable", id="outage"),
    ],
)  # fmt: skip
def test_the_effect_on_a_resource_is_what_a_pass_would_decide(
    decision: Decision, access: Access | None, result: CheckResult, reason: str
) -> None:
    check = effect_check(decision, KeyState(access), ("a: b -> c",))
    assert (check.result, check.reason) == (result, reason)
    assert check.changes == (() if decision.action is NextAction.SETTLED else ("a: b -> c",))


def test_a_fault_fails_a_stage_only_when_somebody_must_act() -> None:
    waiting = Fault(Reason.TOO_MANY_REQUESTS, "wait", Actor.AZURE)
    assert of_fault(CheckStage.READ, waiting).result is UNCHECKED
    assert of_fault(CheckStage.READ, replace(waiting, reason=Reason.SCOPE_LOCKED)).result is FAIL


def test_one_failure_outweighs_what_could_not_be_checked() -> None:
    told = {CheckResult.WARN, CheckResult.NOT_VISIBLE, PASS}
    assert overall(told) is PASS
    assert overall(told | {UNCHECKED}) is UNCHECKED
    assert overall(told | {UNCHECKED, FAIL}) is FAIL


def outlook(stays_on: str = f"{KEY}/v", *, on_wanted_key: bool = True, **more: str) -> Outlook:
    return Outlook("docs", stays_on, on_wanted_key=on_wanted_key, **more)


@pytest.mark.parametrize("reverts", [False, True])
def test_what_a_deletion_leaves_behind_is_told_beforehand(*, reverts: bool) -> None:
    check = deletion_check(outlook(), PLATFORM_KEY, reverts=reverts, obstacle=None)
    assert check.result is CheckResult.PASS
    assert (f"docs stays on {KEY}/v, whose version must stay enabled" in check.message) != reverts
    assert ("puts docs back on a Microsoft-managed key" in check.message) == reverts


def test_the_key_that_a_resource_leaves_is_named_with_what_still_needs_it() -> None:
    left = outlook(leaves=f"{KEY}-old/v", restores="restores to a moment before")
    check = deletion_check(left, PLATFORM_KEY, reverts=False, obstacle=None)
    assert f"takes docs off {KEY}-old/v, which restores to a moment before still need" in check.message


def test_what_stays_on_something_else_does_not_stay_on_the_key() -> None:
    check = deletion_check(outlook("a key elsewhere", on_wanted_key=False), PLATFORM_KEY, reverts=False, obstacle=None)
    assert check.message == "deleting the manifest changes nothing in Azure: docs stays on a key elsewhere"


def test_a_deletion_that_would_wait_is_a_warning_with_what_must_be_done() -> None:
    obstacle = invalid(Reason.NO_PLATFORM_KEY_FOR_SETS, "the set cannot")
    check = deletion_check(outlook(), PLATFORM_KEY, reverts=True, obstacle=obstacle)
    assert (check.result, check.reason) == (CheckResult.WARN, Reason.NO_PLATFORM_KEY_FOR_SETS)
    assert "would wait, because docs must revert to a Microsoft-managed key first: the set cannot" in check.message


PLATFORM_KEY = "a Microsoft-managed key"
NO = NotCovered("queues", "No", "a Microsoft-managed key", "somebody must act")
UNKNOWN = NotCovered("encryption scopes", "Unknown", "", "somebody must grant it")


@pytest.mark.parametrize(
    ("uncovered", "required", "result", "reason"),
    [
        ((), False, CheckResult.PASS, Reason.PASSED),
        ((), True, CheckResult.PASS, Reason.PASSED),
        ((NO,), False, CheckResult.WARN, Reason.DATA_NOT_COVERED),
        ((NO, UNKNOWN), True, CheckResult.FAIL, Reason.DATA_NOT_COVERED),
        ((UNKNOWN,), False, CheckResult.NOT_VISIBLE, Reason.COVERAGE_NOT_SHOWN),
        ((UNKNOWN,), True, CheckResult.FAIL, Reason.COVERAGE_NOT_SHOWN),
    ],
)
def test_data_beside_the_key_fails_a_preflight_only_if_the_manifest_asks_for_full_coverage(
    uncovered: tuple[NotCovered, ...], *, required: bool, result: CheckResult, reason: Reason
) -> None:
    check = coverage_check(uncovered, required=required)
    assert (check.stage, check.result, check.reason) == (CheckStage.COVERAGE, result, reason)
    assert all(any(one.part in change and one.remedy in change for change in check.changes) for one in uncovered)
