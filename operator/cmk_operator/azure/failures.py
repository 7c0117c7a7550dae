"""Turns the errors of the Azure SDKs into `AzureFailure` values, which contain neither tokens nor bodies."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)

from cmk_operator.answer_gate import UnreadableError, bounded_seconds
from cmk_operator.core.faults.azure_failure import BUDGET_SPENT, CHANGE_WITHDRAWN, AzureFailure, Stage, Unreadable

TIMEOUT: Final = "Timeout"
"""The code of a call that timed out."""
EXPECTED_FAILURES: Final = (AzureError, TimeoutError)
"""The errors that an Azure call may raise and that `failure_of` accepts; any other error is a bug and is not caught."""


class TokenUnavailableError(ClientAuthenticationError):
    """There is no token; `failure` says at which hop and why."""

    def __init__(self, failure: AzureFailure) -> None:
        super().__init__(message=f"no {failure.stage}: {failure.code}")
        self.failure = failure


class BudgetSpentError(AzureError):
    """The call was not sent, because its budget is spent or Azure asked to wait; `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the budget for Azure calls is spent")
        self.retry_after = retry_after


class ChangeWithdrawnError(AzureError):
    """The change was not sent, because what allows it was withdrawn in the meantime."""

    def __init__(self) -> None:
        super().__init__("what allows the change was withdrawn before it was sent")


class AnotherHostError(AzureError):
    """The call was not sent, because an answer leads to another host than the client's."""

    def __init__(self) -> None:
        super().__init__("an answer leads to another host, to which nothing is sent")


def failure_of(error: BaseException, stage: Stage = Stage.SERVICE) -> AzureFailure:
    """The value of an error from `EXPECTED_FAILURES`; raises TypeError for any other error."""
    if isinstance(error, TokenUnavailableError):
        return error.failure
    if isinstance(error, BudgetSpentError):
        return AzureFailure(429, BUDGET_SPENT, "the operator's own budget is spent", retry_after=error.retry_after, stage=stage)
    if isinstance(error, ChangeWithdrawnError):
        return AzureFailure(None, CHANGE_WITHDRAWN, str(error.message), stage=stage)
    if isinstance(error, DecodeError) and not isinstance(error, IncompleteReadError) and not _is_refused(error):
        said = error.message if isinstance(error, UnreadableError) else "the answer does not have the documented shape"
        return Unreadable(message=said, stage=stage)
    if isinstance(error, HttpResponseError):
        return _from_response(error, stage)
    if isinstance(error, TimeoutError | ServiceRequestTimeoutError | ServiceResponseTimeoutError):
        return AzureFailure(None, TIMEOUT, "no answer in time", stage=stage)
    if isinstance(error, ServiceRequestError):
        return AzureFailure(None, "ConnectionFailed", "no connection", stage=stage)
    if isinstance(error, ServiceResponseError):
        return AzureFailure(None, "ConnectionLost", "the connection broke before the answer", stage=stage)
    if isinstance(error, AzureError):
        return AzureFailure(None, type(error).__name__, str(error.message), stage=stage)
    raise TypeError(f"not an Azure failure: {type(error).__name__}") from error


def _is_refused(error: HttpResponseError) -> bool:
    """Whether an SDK could not parse the body of a refusal; its status is enough."""
    return error.status_code is not None and error.status_code >= HTTPStatus.BAD_REQUEST


def _from_response(error: HttpResponseError, stage: Stage) -> AzureFailure:
    response = error.response
    headers: Any = getattr(response, "headers", {})
    body = _body_of(error)
    detail = body.get("error")
    if isinstance(detail, str):  # Entra: {"error": "invalid_client", "error_description": "AADSTS…"}
        code, message, inner = detail, _entra_sentence(body), ""
    else:
        detail = detail if isinstance(detail, dict) else body
        code = str(detail.get("code", ""))
        message = str(detail.get("message", ""))
        inner = _inner_code(detail)
    return AzureFailure(
        status=error.status_code,
        code=code or (f"Http{error.status_code}" if error.status_code else type(error).__name__),
        message=message or str(error.message),
        inner_code=inner,
        request_id=headers.get("x-ms-request-id"),
        retry_after=seconds_to_wait(headers),
        stage=stage,
        read=getattr(getattr(error.response, "request", None), "method", None) == "GET",
    )


def _entra_sentence(body: dict[str, Any]) -> str:
    """Entra's description with its AADSTS code, which is taken from `error_codes` if the description lacks it."""
    said, numbers = str(body.get("error_description", "")), body.get("error_codes")
    number = numbers[0] if isinstance(numbers, list) and numbers else None
    plain = isinstance(number, int) and not isinstance(number, bool)
    return f"AADSTS{number}: {said}" if plain and "AADSTS" not in said else said


def _body_of(error: HttpResponseError) -> dict[str, Any]:
    if error.response is None:
        return {}
    try:
        body = json.loads(error.response.text())
    except (ValueError, AttributeError, TypeError, AzureError, RuntimeError):  # RecursionError is a RuntimeError
        return {}
    return body if isinstance(body, dict) else {}


def _inner_code(detail: dict[str, Any]) -> str:
    inner = detail.get("innererror") or detail.get("innerError")
    return str(inner.get("code", "")) if isinstance(inner, dict) else ""


def seconds_to_wait(headers: Any) -> float | None:  # noqa: ANN401 - each transport has its own mapping type
    """Seconds that Azure asks to wait, from `Retry-After` or its millisecond forms; None if there is none."""
    for name, factor in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        seconds = bounded_seconds(text, factor)
        if seconds is not None:
            return seconds
    return None
