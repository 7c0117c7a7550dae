"""Whatever Azure, Entra or Snowflake answer becomes a legal condition, with the same words from answer to answer."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Aspect, Progress, dated
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.registration.faults import judge_registration_failure
from cmk_operator.core.text.foreign_text import LONGEST_CODE, LONGEST_MESSAGE, LONGEST_SENTENCE, shown_sentence
from cmk_operator.providers.snowflake.faults import judge_snowflake_failure
from cmk_operator.providers.sql.faults import judge_sql_failure
from tests.unit.samples import NOW, probe, refused

codes = st.one_of(
    st.text(),
    st.sampled_from([reason.value for reason in Reason]),
    st.sampled_from(
        ["2-odd.code", "-x", ".x", "1", "a-b", "x.", "Ready", "ready", "\u212aeyNotFound", "\ud800", "\n", "x" * 40_000]
    ),
    st.from_regex(r"[0-9.-][A-Za-z0-9.-]{0,30}", fullmatch=True),
)
messages = st.one_of(
    st.text(max_size=400),
    st.sampled_from(
        ["\ud800", "x" * 40_000, "AADSTS999999: no", "AADSTS700016 AADSTS1", "\0" * 9, "{target} {0} {}", "%s", "\u202e"]
    ),
)
failures = st.builds(
    AzureFailure,
    status=st.one_of(st.none(), st.integers(100, 599)),
    code=codes,
    message=messages,
    inner_code=codes,
    request_id=st.just("one-request"),
    stage=st.sampled_from(list(Stage)),
)


def faults_of(failure: AzureFailure) -> list[Fault]:
    """What every judge says of it."""
    return [
        judge_arm_failure(failure, "data"),
        judge_sql_failure(failure, "data"),
        judge_snowflake_failure(failure, "data"),
        judge_registration_failure(failure, "registrar", "data"),
    ]


@given(failures)
@example(AzureFailure(400, "2-odd.code", "an odd sentence"))
@example(AzureFailure(400, "MultiPartyApprovalRequired", "", "\ud800\n"))
def test_any_code_and_any_message_give_a_legal_condition(failure: AzureFailure) -> None:
    for fault in faults_of(failure):
        aspect = Aspect(ConditionType.READY, "False", fault.reason, fault.message)
        for condition in dated((aspect,), Progress.of(fault), (), 1, NOW):
            assert Reason.read(condition.reason) is fault.reason
            assert condition.message.isprintable()
            assert len(condition.message) < 2000
            condition.model_dump_json().encode()
        assert "one-request" not in fault.message
        assert fault.actor is Actor.AZURE or fault.needs_a_person or fault.retry_after is not None or "must" in fault.message
    access = judge_access(probe(refused(failure)))
    Aspect(ConditionType.KEY_ACCESSIBLE, "Unknown", access.state.reason, access.message)
    assert access.message.isprintable()
    assert len(access.message) < 2000


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_a_code_that_is_not_known_is_quoted_with_what_was_said(status: int) -> None:
    failure = AzureFailure(status, "2-odd.code", "The thing is not as it should be.", request_id="one")
    arm, sql, snowflake, registration = faults_of(failure)
    assert [fault.reason for fault in (arm, sql, snowflake, registration)] == [
        Reason.AZURE_REFUSED,
        Reason.AZURE_REFUSED,
        Reason.SNOWFLAKE_REFUSED,
        Reason.AZURE_REFUSED,
    ]
    for fault in (arm, sql, snowflake, registration):
        assert "(2-odd.code)" in fault.message
        assert fault.message.endswith(": 'The thing is not as it should be'")
        assert fault.needs_a_person


@pytest.mark.parametrize("stage", [Stage.OPERATOR_TOKEN, Stage.APPLICATION_TOKEN])
def test_a_refusal_of_entra_that_is_not_known_concludes_nothing_about_consent_and_is_quoted(stage: Stage) -> None:
    failure = AzureFailure(400, "invalid_request", "AADSTS999999: A new rule forbids it. Trace ID: 1-2-3", stage=stage)
    fault = judge_arm_failure(failure, "data")
    if stage is Stage.OPERATOR_TOKEN:
        assert fault.reason is Reason.OPERATOR_NOT_AUTHENTICATED
        return
    assert fault.reason is Reason.ENTRA_REFUSED
    assert "(AADSTS999999): 'AADSTS999999: A new rule forbids it'" in fault.message
    assert "the provider's administrator must look the code up" in fault.message
    passed_on = judge_arm_failure(
        AzureFailure(400, "BadRequest", "Gateway failed. AADSTS999999: A new rule forbids it."), "data"
    )
    assert passed_on.reason is Reason.ENTRA_REFUSED


def test_a_gateway_before_entra_is_not_taken_for_entra() -> None:
    fault = judge_arm_failure(AzureFailure(403, "Http403", "<html>Forbidden</html>", stage=Stage.APPLICATION_TOKEN), "data")
    assert fault.reason is Reason.UNKNOWN
    assert not fault.needs_a_person


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Try again in 23 seconds.", "Try again in …"),
        ("Retry after '1.5' minutes", "Retry after …"),
        ("Client 10.1.2.3 is not allowed", "Client … is not allowed"),
        ("Failed.\r\nRequestId:0a1b\nTime:2026-11-24T10:00:00.1Z", "Failed"),
        ("AADSTS7000112: disabled. Trace ID: a Correlation ID: b Timestamp: 2026-11-24 10:00:00Z", "AADSTS7000112: disabled"),
        ("Object {0a1b2c3d-0000-4000-8000-123456789abc} is busy", "Object … is busy"),
        ("Operation deadbeef0123456789 failed on 2026-11-24T10:00:00Z", "Operation … failed on …"),
        ("tab\there \u200bnow", "tab here now"),
    ],
)
def test_what_differs_from_answer_to_answer_is_left_out(said: str, shown: str) -> None:
    assert AzureFailure(400, "X", said).quoted == f": {shown!r}"


@given(st.text(max_size=5000))
def test_quoted_text_is_short_printable_and_encodable(text: str) -> None:
    failure = AzureFailure(400, text, text, text, text)
    for shown, longest in (
        (failure.shown_code, LONGEST_CODE),
        (failure.inner_code, LONGEST_CODE),
        (failure.request_id or "", LONGEST_CODE),
        (failure.message, LONGEST_MESSAGE),
        (shown_sentence(failure.message), LONGEST_SENTENCE),
    ):
        assert len(shown) <= longest
        assert shown.isprintable()
        shown.encode()


@given(
    st.text(st.characters(categories=["L", "P", "Zs"]), max_size=60),
    st.uuids(),
    st.uuids(),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
def test_ids_and_numbers_make_no_other_sentence(words: str, first: object, second: object, waits: int, later: int) -> None:
    assert shown_sentence(f"{words} {first} after {waits} tries") == shown_sentence(f"{words} {second} after {later} tries")
