"""The refusals of each service of Azure: one exception for each error format, which renders its own body."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from typing_extensions import override

from sandbox.azure.clock import seven_digits, utc
from sandbox.azure.endpoints import here
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class RefusedError(Exception):
    """A refusal with its HTTP status, Azure's error code and message."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__init__(f"{self.code}: {self.message}")

    def answer(self, request_id: str, now: float) -> Answer:
        """The response, in the dialect of the service."""
        raise NotImplementedError(self.code, request_id, now)


@dataclass
class ArmRefusedError(RefusedError):
    """Azure Resource Manager: `{"error": {"code", "message"}}`."""

    details: list[dict[str, str]] | None = field(default=None, kw_only=True)
    target: str | None = field(default=None, kw_only=True)

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.target:
            error["target"] = self.target
        if self.details:
            error["details"] = self.details
        return Answer(self.status, {"error": error}, headers={"x-ms-failure-cause": "gateway", **self.headers})


@dataclass
class VaultRefusedError(RefusedError):
    """Key Vault: `{"error": {"code", "message", "innererror": {"code"}}}`."""

    inner: str | None = field(default=None, kw_only=True)

    @property
    def reason(self) -> str:
        """The most exact code: the inner one if there is one."""
        return self.inner or self.code

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.inner:
            error["innererror"] = {"code": self.inner}
        return Answer(self.status, {"error": error}, headers=self.headers)


@dataclass
class VaultMediaTypeRefusedError(RefusedError):
    """Key Vault's web server, before Key Vault itself reads the request: `{"Message"}` alone."""

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        return Answer(self.status, {"Message": self.message}, headers=self.headers)


@dataclass
class GraphRefusedError(RefusedError):
    """Microsoft Graph: as ARM, with an `innerError` that names the request."""

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        inner = {"date": utc(now).strftime("%Y-%m-%dT%H:%M:%S"), "request-id": request_id, "client-request-id": request_id}
        error = {"code": self.code, "message": self.message, "innerError": inner}
        return Answer(self.status, {"error": error}, headers=self.headers)


@dataclass
class EntraRefusedError(RefusedError):
    """The token endpoint: OAuth's `error` with Entra's AADSTS number in `code` and in the description; its time is wall time."""

    error: str = field(default="invalid_request", kw_only=True)

    @property
    def description(self) -> str:
        """`AADSTS<number>: <message>` without the trace."""
        return f"AADSTS{self.code}: {self.message}"

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        moment, correlation = utc(time.time()).strftime("%Y-%m-%d %H:%M:%SZ"), str(uuid.uuid4())
        body = {
            "error": self.error,
            "error_description": f"{self.description} Trace ID: {request_id} Correlation ID: {correlation} Timestamp: {moment}",
            "error_codes": [int(self.code)],
            "timestamp": moment,
            "trace_id": request_id,
            "correlation_id": correlation,
            "error_uri": f"{here().authority}/error?code={self.code}",
        }
        return Answer(self.status, body, headers=self.headers)


@dataclass
class BlobRefusedError(RefusedError):
    """The blob service: XML, and the code again in `x-ms-error-code`."""

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        message = f"{self.message}\nRequestId:{request_id}\nTime:{seven_digits(now)}"
        text = (
            '\ufeff<?xml version="1.0" encoding="utf-8"?>'
            f"<Error><Code>{escape(self.code)}</Code><Message>{escape(message)}</Message></Error>"
        )
        headers = {"x-ms-error-code": self.code, **self.headers}
        return Answer(self.status, content=text.encode(), media_type="application/xml", headers=headers)


@dataclass
class SnowflakeRefusedError(RefusedError):
    """Snowflake's SQL API: `{"code", "message", "sqlState", "statementHandle"}`."""

    sql_state: str = field(default="XX000", kw_only=True)
    handle: str | None = field(default=None, kw_only=True)

    @override
    def answer(self, request_id: str, now: float) -> Answer:
        body = {"code": self.code, "message": self.message, "sqlState": self.sql_state}
        if self.handle is not None:
            body |= {"statementHandle": self.handle, "statementStatusUrl": f"/api/v2/statements/{self.handle}"}
        return Answer(self.status, body, headers=self.headers)
