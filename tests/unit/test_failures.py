"""What the SDKs raise becomes a value that holds the codes and neither tokens nor bodies."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.azure.failures import EXPECTED_FAILURES, BudgetSpentError, TokenUnavailableError, failure_of, seconds_to_wait
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from tests.unit.test_logs import TOKEN


class Response:
    """An answer as azure-core's transports present it."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.reason = "Reason"
        self.headers = headers or {}
        self.content_type = "application/json"
        self._text = body if isinstance(body, str) else json.dumps(body)

    def text(self, *_: object) -> str:
        return self._text

    def body(self) -> bytes:
        return self._text.encode()


def raised(
    status: int, body: Any, headers: dict[str, str] | None = None, kind: type[HttpResponseError] = HttpResponseError
) -> HttpResponseError:
    return kind(response=Response(status, body, headers))  # type: ignore[arg-type]  # the part that is read


def holds(failure: AzureFailure, text: str) -> bool:
    return any(text in str(getattr(failure, field.name)) for field in fields(failure))


def test_key_vault_s_two_codes_are_read() -> None:
    body = {"error": {"code": "Forbidden", "message": "Caller is not authorized.", "innererror": {"code": "ForbiddenByRbac"}}}
    failure = failure_of(raised(403, body, {"x-ms-request-id": "r-1"}))
    assert (failure.status, failure.code, failure.inner_code, failure.request_id) == (
        403,
        "Forbidden",
        "ForbiddenByRbac",
        "r-1",
    )
    assert not failure.transient


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            {"error": {"code": "KeyVaultAuthenticationFailure", "message": "authentication issue"}},
            "KeyVaultAuthenticationFailure",
            "authentication issue",
        ),
        ({"code": "BadRequest", "message": "flat"}, "BadRequest", "flat"),
        (
            {"error": "invalid_client", "error_description": "AADSTS700016: not found"},
            "invalid_client",
            "AADSTS700016: not found",
        ),
        ({"error": {"code": "X", "innererror": None}}, "X", ""),
        ({}, "Http400", ""),
        ("", "Http400", ""),
        ("<html>proxy</html>", "Http400", ""),
        ([1, 2], "Http400", ""),
        ("null", "Http400", ""),
        ({"error": {"code": "X", "innererror": "text"}}, "X", ""),
    ],
)
def test_every_form_of_error_body_is_read_or_told_by_its_status(body: Any, code: str, message: str) -> None:
    failure = failure_of(raised(400, body))
    assert failure.code == code
    assert message in failure.message
    assert failure.answered


def test_a_body_that_is_no_error_is_not_kept() -> None:
    failure = failure_of(raised(502, f"<html>you sent {TOKEN}</html>"))
    assert not holds(failure, TOKEN)
    assert not holds(failure, "<html>")
    assert failure.transient


def test_the_codes_of_entra_and_key_vault_are_read_out_of_messages() -> None:
    failure = AzureFailure(400, "BadRequest", "Gateway failed. AADSTS700016: app. AADSTS700016 again. AKV10032: issuer.")
    assert failure.entra_codes == {700016}
    assert failure.key_vault_codes == {10032}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "Timeout"),
        (ServiceRequestTimeoutError("x"), "Timeout"),
        (ServiceResponseTimeoutError("x"), "Timeout"),
        (ServiceRequestError(f"cannot connect with {TOKEN}"), "ConnectionFailed"),
        (ServiceResponseError(f"lost with {TOKEN}"), "ConnectionLost"),
        (ClientAuthenticationError(message="no token"), "ClientAuthenticationError"),
        (ResourceNotFoundError(message="x"), "ResourceNotFoundError"),
    ],
)
def test_what_got_no_answer_says_so(error: BaseException, code: str) -> None:
    failure = failure_of(error, Stage.APPLICATION_TOKEN)
    assert (failure.status, failure.code, failure.stage) == (None, code, Stage.APPLICATION_TOKEN)
    assert failure.transient
    assert not failure.answered
    assert not holds(failure, TOKEN)


@pytest.mark.parametrize(
    "error",
    [
        AzureError(f"failed: Bearer {TOKEN}"),
        DecodeError(f"cannot decode {TOKEN}"),
        ClientAuthenticationError(message=f"Authentication failed: {TOKEN}"),
        HttpResponseError(message=f"refused {TOKEN}"),
        raised(400, {"error": {"code": "X", "message": f"you sent client_assertion={TOKEN}"}}),
        raised(
            401,
            {"error": "invalid_client", "error_description": f"AADSTS50027: JWT {TOKEN} is invalid"},
            kind=ClientAuthenticationError,
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_token_is_kept_even_when_azure_sends_it_back(error: BaseException) -> None:
    assert not holds(failure_of(error), TOKEN)


def test_a_refused_token_keeps_the_hop_on_which_it_was_refused() -> None:
    failure = AzureFailure(400, "invalid_client", "AADSTS700016: x", stage=Stage.APPLICATION_TOKEN)
    error = TokenUnavailableError(failure)
    assert failure_of(error, Stage.SERVICE) is failure
    assert "AADSTS" not in str(error)


def test_a_spent_budget_is_a_wait() -> None:
    failure = failure_of(BudgetSpentError(12.5))
    assert (failure.status, failure.retry_after, failure.transient) == (429, 12.5, True)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("x")])
def test_a_bug_is_not_taken_for_a_failure_of_azure(error: BaseException) -> None:
    assert isinstance(error, EXPECTED_FAILURES) is False
    with pytest.raises(TypeError, match="not an Azure failure"):
        failure_of(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:00 GMT"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_the_time_that_azure_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds_to_wait(headers) == seconds


@given(
    st.integers(400, 599),
    st.one_of(
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text()),
            lambda inner: st.dictionaries(
                st.sampled_from(["error", "code", "message", "innererror", "error_description"]), inner
            ),
        ),
    ),
)
def test_no_body_at_all_breaks_the_reading(status: int, body: Any) -> None:
    failure = failure_of(raised(status, body))
    assert failure.status == status
    assert failure.code
    assert len(failure.message) <= 1000
    assert isinstance(failure.inner_code, str)
