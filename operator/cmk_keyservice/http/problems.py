"""Problems as `application/problem+json` (RFC 9457), and what is wrong with a request before any room sees it."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from cmk_keyservice.http.bodies import ProblemBody
from cmk_keyservice.problem import Kind, Problem

PROBLEM_JSON: Final = b"application/problem+json"
JSON: Final = b"application/json"
_STATUS: Final = {
    Kind.DENIED: 409,
    Kind.UNAVAILABLE: 503,
    Kind.THROTTLED: 429,
    Kind.INVALID: 422,
    Kind.FROZEN: 409,
    Kind.LOST: 410,
    Kind.FORBIDDEN: 403,
    Kind.UNAUTHENTICATED: 401,
    Kind.NOT_FOUND: 404,
}
_TITLES: Final = {
    Kind.DENIED: "The organization's key refuses",
    Kind.UNAVAILABLE: "A part that is needed does not answer",
    Kind.THROTTLED: "Too many requests",
    Kind.INVALID: "The request cannot be carried out",
    Kind.FROZEN: "The organization's licence does not allow this now",
    Kind.LOST: "The organization's key no longer exists",
    Kind.FORBIDDEN: "The caller has no right to do this",
    Kind.UNAUTHENTICATED: "The caller is not known",
    Kind.NOT_FOUND: "There is no such thing",
}
STATUSES: Final = tuple(sorted({400, 405, 413, 415, 500, *_STATUS.values()}))
_TYPE: Final = "https://cmk-operator.dev/problems/"
_ENCODER: Final = msgspec.json.Encoder()


class Answer(NamedTuple):
    """One answer, ready to be sent."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RequestError(Exception):
    """The request itself is wrong; ends it with a status that no problem of the rooms has."""

    def __init__(self, status: int, code: str, detail: str, remedy: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.headers = status, headers
        kind = Kind.UNAVAILABLE if status == 500 else Kind.NOT_FOUND if status == 404 else Kind.INVALID
        self.problem = Problem(kind, code, detail, remedy, retryable=False)


def status_of(problem: Problem) -> int:
    """The HTTP status of a problem's class."""
    return _STATUS[problem.kind]


def body_of(problem: Problem, status: int | None = None) -> ProblemBody:
    """The problem as it is sent."""
    return ProblemBody(
        type=_TYPE + problem.code,
        title=_TITLES[problem.kind],
        status=status if status is not None else _STATUS[problem.kind],
        detail=problem.detail,
        kind=problem.kind,
        code=problem.code,
        remedy=problem.remedy,
        retryable=problem.retryable,
        retry_after=problem.retry_after,
    )


def answer_of(problem: Problem) -> Answer:
    """A whole answer that is a problem."""
    status = _STATUS[problem.kind]
    headers: list[tuple[bytes, bytes]] = []
    if problem.kind is Kind.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(problem.retry_after)).encode()))
    return Answer(status, _ENCODER.encode(body_of(problem)), PROBLEM_JSON, tuple(headers))


def answer_of_request_error(error: RequestError) -> Answer:
    """The answer to a request that is wrong in itself."""
    return Answer(error.status, _ENCODER.encode(body_of(error.problem, error.status)), PROBLEM_JSON, error.headers)
