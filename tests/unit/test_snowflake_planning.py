"""The next statement on the way of a Snowflake account to its key, and who must act on what Snowflake refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged, OnKey
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import Plan, ResourceFacts, Shown
from cmk_operator.providers.snowflake import statements
from cmk_operator.providers.snowflake.account import SnowflakeAccount
from cmk_operator.providers.snowflake.answers import CmkInfo, Verification
from cmk_operator.providers.snowflake.facts import Facts, SnowflakeDetail
from cmk_operator.providers.snowflake.faults import judge_snowflake_failure
from cmk_operator.providers.snowflake.planning import plan_key, plan_platform_key
from cmk_operator.providers.snowflake.requests import Activate, Deactivate, Rekey, operation_token, version_begun
from cmk_operator.providers.snowflake.target import SnowflakeTarget
from tests.unit.samples import CLIENT, CUSTOMER, IDENTITY, V1, V2

OURS = KeyUri("contoso.vault.azure.net", "snowflake")
OTHER = KeyUri("contoso.vault.azure.net", "other")
TARGET = SnowflakeTarget(SnowflakeAccount("contoso-acme"), "CMK", "ACCOUNTADMIN", b"", None, CUSTOMER, network_rules=False)
SHOWN = Shown(consent_url="https://login.microsoftonline.com/x", service_principal_name="trisec_cmk_azure")


def want(version: str = V1, *, pinned: bool = False) -> KeyChoice:
    return KeyChoice(OURS.at(version) if pinned else OURS, version, ArmId(IDENTITY), CLIENT)


def seen(info: CmkInfo, **detail: Any) -> Facts:
    protection = OnKey(info.active) if info.active is not None else MicrosoftManaged()
    return ResourceFacts(protection, SnowflakeDetail(info, **detail), SHOWN)


def statement(plan: Plan[Any] | Fault | None) -> str:
    assert isinstance(plan, Plan), plan
    return str(plan.body["statement"])


PASSED = Verification.PASSED


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (seen(CmkInfo()), statements.register(OURS)),
        (seen(CmkInfo(OURS), verification=PASSED), statements.ACTIVATE),
        (seen(CmkInfo(None, OTHER)), statements.register(OURS)),
        (seen(CmkInfo(OTHER, OTHER), verification=PASSED), statements.register(OURS)),
        (seen(CmkInfo(OURS, OTHER), verification=PASSED), statements.ACTIVATE),
        (seen(CmkInfo(OURS, OURS), verification=PASSED, in_force=OURS.at(V2)), statements.REKEY),
        (seen(CmkInfo(None, OURS), in_force=OURS.at(V2)), statements.REKEY),
    ],
)
def test_each_state_has_its_next_statement(facts: Facts, expected: str) -> None:
    plan = plan_key(TARGET, want(), facts)
    assert statement(plan) == expected
    assert isinstance(plan, Plan)
    assert plan.body["keyVersion"] == str(OURS.at(V1))


@pytest.mark.parametrize(
    ("facts", "choice"),
    [
        (seen(CmkInfo(OURS, OURS), verification=PASSED, in_force=OURS.at(V1)), want()),
        # What version an adopted account is under, nobody tells.
        (seen(CmkInfo(OURS, OURS), verification=PASSED), want()),
        # Without a probe there is nothing to compare with.
        (seen(CmkInfo(OURS, OURS), verification=PASSED, in_force=OURS.at(V1)), want("")),
        # A key that the operator's own probe misses is told by the key itself.
        (seen(CmkInfo(OURS, OURS), verification=Verification.KEY_UNUSABLE, in_force=OURS.at(V1)), want()),
    ],
)
def test_an_account_that_is_right_is_left_alone(facts: Facts, choice: KeyChoice) -> None:
    assert plan_key(TARGET, choice, facts) is None


@pytest.mark.parametrize(
    ("facts", "kind", "reason", "actor"),
    [
        (seen(CmkInfo(understood=False)), FaultKind.BLOCKED, "SnowflakeAnswerNotUnderstood", Actor.MAINTAINER),
        (seen(CmkInfo(OURS, in_progress=True)), FaultKind.BUSY, "RekeyInProgress", Actor.AZURE),
        (seen(CmkInfo(OTHER)), FaultKind.BLOCKED, "OtherKeyRegistered", Actor.PROVIDER_ADMINISTRATOR),
        (
            seen(CmkInfo(OURS), verification=Verification.CONSENT_MISSING),
            FaultKind.BLOCKED,
            "SnowflakeConsentMissing",
            Actor.CUSTOMER_ADMINISTRATOR,
        ),
        (
            seen(CmkInfo(OURS), verification=Verification.NOT_PERMITTED),
            FaultKind.BLOCKED,
            "SnowflakeNotPermitted",
            Actor.CUSTOMER_ADMINISTRATOR,
        ),
        (
            seen(CmkInfo(OURS), verification=Verification.KEY_UNUSABLE),
            FaultKind.BLOCKED,
            "SnowflakeCannotUseKey",
            Actor.CUSTOMER_ADMINISTRATOR,
        ),
        (
            seen(CmkInfo(OURS), verification=Verification.NOT_UNDERSTOOD),
            FaultKind.BLOCKED,
            "SnowflakeAnswerNotUnderstood",
            Actor.MAINTAINER,
        ),
        (seen(CmkInfo(OURS), verification=PASSED, wait=3600.0), FaultKind.BUSY, "WaitingForActivation", Actor.AZURE),
        (
            seen(CmkInfo(OURS, OURS), verification=Verification.FIREWALL, in_force=OURS.at(V1)),
            FaultKind.BLOCKED,
            "SnowflakeBlockedByFirewall",
            Actor.CUSTOMER_ADMINISTRATOR,
        ),
    ],
)
def test_what_must_happen_first_names_who_must_do_it(facts: Facts, kind: FaultKind, reason: str, actor: Actor) -> None:
    fault = plan_key(TARGET, want(), facts)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason, fault.actor) == (kind, reason, actor)
    assert actor is Actor.AZURE or actor.value in fault.message


def test_the_customer_is_told_the_application_and_the_grant() -> None:
    fault = plan_key(TARGET, want(), seen(CmkInfo(OURS), verification=Verification.NOT_PERMITTED))
    assert isinstance(fault, Fault)
    assert "trisec_cmk_azure" in fault.message
    assert "Key Vault Crypto User" in fault.message


def test_a_rekey_keeps_the_key_and_says_the_versions() -> None:
    facts = seen(CmkInfo(OURS, OURS), verification=PASSED, in_force=OURS.at(V1))
    plan = plan_key(TARGET, want(V2), facts)
    assert isinstance(plan, Plan)
    assert plan.keeps_key
    assert [str(change) for change in plan.changes] == [f"key version: {V1} -> {V2}"]
    assert plan.body == {"statement": statements.REKEY, "keyVersion": str(OURS.at(V2)), "pinned": False}


def test_only_what_is_activated_is_deactivated() -> None:
    assert plan_platform_key(TARGET, seen(CmkInfo(OURS))) is None
    assert statement(plan_platform_key(TARGET, seen(CmkInfo(OURS, OURS)))) == statements.DEACTIVATE
    busy = plan_platform_key(TARGET, seen(CmkInfo(None, OURS, in_progress=True)))
    assert isinstance(busy, Fault)


_KEYS = st.sampled_from([None, OURS, OTHER])
_INFO = st.builds(CmkInfo, _KEYS, _KEYS, in_progress=st.booleans(), understood=st.booleans())


@given(_INFO, st.sampled_from([None, *Verification]), st.sampled_from([None, 1.0]), st.sampled_from([None, V1, V2]))
def test_no_state_registers_a_key_twice_deactivates_one_or_activates_one_that_snowflake_does_not_reach(
    info: CmkInfo, verification: Verification | None, wait: float | None, in_force: str | None
) -> None:
    kept = OURS.at(in_force) if in_force else None
    plan = plan_key(TARGET, want(), seen(info, verification=verification, wait=wait, in_force=kept))
    if not isinstance(plan, Plan):
        return
    text = statement(plan)
    assert info.understood
    assert not info.in_progress
    assert text != statements.DEACTIVATE
    if text == statements.register(OURS):
        assert OURS not in {info.registered, info.active}
        assert info.registered in {None, info.active}
    elif text == statements.ACTIVATE:
        assert info.registered == OURS
        assert verification is PASSED
    else:
        assert text == statements.REKEY
        assert info.active == OURS


def failed(status: int | None, code: str, message: str = "", inner: str = "") -> AzureFailure:
    return AzureFailure(status, code, message, inner)


@pytest.mark.parametrize(
    ("failure", "kind", "reason", "actor"),
    [
        (
            failed(401, "390144", "JWT token is invalid. [x]"),
            FaultKind.BLOCKED,
            "KeyPairNotAccepted",
            Actor.PROVIDER_ADMINISTRATOR,
        ),
        (failed(401, "390101"), FaultKind.BLOCKED, "UserDisabled", Actor.PROVIDER_ADMINISTRATOR),
        (failed(401, "390102"), FaultKind.BLOCKED, "UserLocked", Actor.PROVIDER_ADMINISTRATOR),
        (failed(401, "390186"), FaultKind.BLOCKED, "RoleNotGranted", Actor.PROVIDER_ADMINISTRATOR),
        (failed(422, "003001"), FaultKind.BLOCKED, "RoleNotSufficient", Actor.PROVIDER_ADMINISTRATOR),
        (failed(422, "002141"), FaultKind.BLOCKED, "FunctionNotAvailable", Actor.PROVIDER_ADMINISTRATOR),
        (
            failed(422, "000002", "Unsupported feature 'TRI_SECRET_SECURE'."),
            FaultKind.BLOCKED,
            "EditionTooLow",
            Actor.PROVIDER_ADMINISTRATOR,
        ),
        (
            failed(422, "100351", "CMK x is already pre-registered. Call SYSTEM$DEREGISTER_CMK_INFO first."),
            FaultKind.BLOCKED,
            "OtherKeyRegistered",
            Actor.PROVIDER_ADMINISTRATOR,
        ),
        (
            failed(401, "399999", "Your user is temporarily locked"),
            FaultKind.BLOCKED,
            "AccountLocked",
            Actor.PROVIDER_ADMINISTRATOR,
        ),
        (
            failed(422, "100351", "Error received from the customer managed key (CMK) provider: 'Caller is not authorized'"),
            FaultKind.BLOCKED,
            "SnowflakeNotPermitted",
            Actor.CUSTOMER_ADMINISTRATOR,
        ),
        (
            failed(422, "MultiPartyApprovalRequired", inner="a1b2"),
            FaultKind.BLOCKED,
            "MultiPartyApprovalRequired",
            Actor.PROVIDER_ADMINISTRATOR,
        ),
        (failed(422, "WaitingForActivation"), FaultKind.BUSY, "WaitingForActivation", Actor.AZURE),
        (failed(409, "PinnedVersionNotLatest"), FaultKind.INVALID, "PinnedVersionNotLatest", Actor.PLATFORM_ENGINEER),
        (failed(409, "KeyVersionChanged"), FaultKind.BUSY, "KeyVersionChanged", Actor.AZURE),
        (failed(400, "PrivateKeyUnusable"), FaultKind.BLOCKED, "PrivateKeyUnusable", Actor.PLATFORM_ENGINEER),
        (failed(429, "Http429"), FaultKind.BUSY, "SnowflakeUnavailable", Actor.AZURE),
        (failed(None, "ConnectionFailed"), FaultKind.BUSY, "SnowflakeUnavailable", Actor.AZURE),
        (failed(422, "001003", "syntax error line 7"), FaultKind.BLOCKED, "SnowflakeRefused", Actor.PROVIDER_ADMINISTRATOR),
    ],
)
def test_each_refusal_names_who_must_act(failure: AzureFailure, kind: FaultKind, reason: str, actor: Actor) -> None:
    fault = judge_snowflake_failure(failure, "contoso-acme")
    assert (fault.kind, fault.reason, fault.actor) == (kind, reason, actor)
    assert actor is Actor.AZURE or actor.value in fault.message
    # Snowflake's own sentences hold numbers that change from try to try; only what is not known here is quoted, without them.
    if fault.reason == "SnowflakeRefused":
        assert fault.message.endswith("(001003): the provider's administrator must find the cause there: 'syntax error line …'")
    else:
        assert not failure.message or failure.message not in fault.message


def test_an_operation_that_an_earlier_release_wrote_into_status_is_still_understood() -> None:
    # The text in status.operation.url is read after an upgrade, and after a downgrade.
    version = OURS.at(V1)
    assert operation_token(Activate(version, pinned=False)) == f"snowflake:{version}"
    assert operation_token(Rekey(version, pinned=True)) == f"snowflake:{version}"
    assert operation_token(Deactivate()) == "snowflake:deactivate"
    assert version_begun(f"snowflake:{version}") == version
    for other in ("snowflake:deactivate", f"snowflake:{OURS}", "snowflake:", "https://management.azure.com/x"):
        assert version_begun(other) is None
