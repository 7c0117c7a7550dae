"""The protocol of Snowflake's own drivers, as far as they use it to sign in, run a statement and sign out.

Refusals are HTTP 200 with `success: false`. Bodies may be compressed.
"""

from __future__ import annotations

import gzip
import json
import secrets
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sandbox.azure.errors import SnowflakeRefusedError
from sandbox.azure.exchange import JSON, Answer, Exchange, Router
from sandbox.azure.snowflake.errors import not_signed_in
from sandbox.azure.snowflake.sign_in import Session, session, user_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.snowflake.engine import Engine
    from sandbox.azure.snowflake.model import Accounts


class Connector:
    """Sessions of every account; the host says which."""

    def __init__(self, accounts: Accounts, engine: Engine) -> None:
        self._accounts = accounts
        self._engine = engine
        self._sessions: dict[str, Session] = {}

    def add_routes(self, router: Router) -> None:
        """Sign in, ask, sign out."""
        router.add("POST", "/session/v1/login-request", _told(self.login))
        router.add("POST", "/queries/v1/query-request", _told(self.query))
        router.add("POST", "/session", _told(self.leave))
        router.add("POST", "/session/heartbeat", _told(self.heartbeat))
        router.add("POST", "/telemetry/send", _told(self.telemetry))

    async def login(self, exchange: Exchange) -> JSON:
        """With a JSON Web Token only."""
        data: JSON = _body(exchange).get("data") or {}
        account = self._accounts.find(exchange.host)
        if account is None or data.get("AUTHENTICATOR") != "SNOWFLAKE_JWT":
            raise not_signed_in("390100", "Incorrect username or password was specified.")
        user = user_of(account, str(data.get("TOKEN", "")))
        opened = session(account, user, exchange.query.get("rolename"))
        token = secrets.token_urlsafe(48)
        self._sessions[token] = opened
        return {
            "masterToken": secrets.token_urlsafe(48),
            "token": token,
            "validityInSeconds": 3600,
            "masterValidityInSeconds": 14_400,
            "displayUserName": user.name,
            "serverVersion": "9.30.0",
            "firstLogin": False,
            "healthCheckInterval": 45,
            "sessionId": secrets.randbelow(10**15),
            "parameters": [],
            "sessionInfo": {"databaseName": None, "schemaName": None, "warehouseName": None, "roleName": opened.role},
        }

    def _session(self, exchange: Exchange) -> tuple[str, Session]:
        token = exchange.headers.get("authorization", "").partition('Token="')[2].rstrip('"')
        found = self._sessions.get(token)
        if found is None:
            raise not_signed_in("390104", "Session no longer exists. New login required to access the service.")
        return token, found

    async def query(self, exchange: Exchange) -> JSON:
        """One statement, with its rows as JSON."""
        _, opened = self._session(exchange)
        result = self._engine.run(opened, str(_body(exchange).get("sqlText", "")))
        columns = [
            {"name": name, "type": "text", "length": 16_777_216, "byteLength": 16_777_216, "nullable": True}
            | dict.fromkeys(("scale", "precision", "database", "schema", "table", "collation"))
            for name in result.columns
        ]
        return {
            "rowtype": columns,
            "rowset": result.rows,
            "total": len(result.rows),
            "returned": len(result.rows),
            "queryId": str(uuid.uuid4()),
            "queryResultFormat": "json",
            "parameters": [],
            "finalRoleName": opened.role,
            "statementTypeId": 4096,
            "version": 1,
        } | dict.fromkeys(("finalDatabaseName", "finalSchemaName", "finalWarehouseName", "databaseProvider"))

    async def leave(self, exchange: Exchange) -> JSON:
        """`POST /session?delete=true`."""
        token, _ = self._session(exchange)
        del self._sessions[token]
        return {}

    async def heartbeat(self, exchange: Exchange) -> JSON:
        """The session stays."""
        self._session(exchange)
        return {}

    async def telemetry(self, exchange: Exchange) -> JSON:
        """Taken and forgotten."""
        del exchange
        return {}


def _body(exchange: Exchange) -> JSON:
    content = gzip.decompress(exchange.body) if exchange.headers.get("content-encoding") == "gzip" else exchange.body
    return replace(exchange, body=content).json()


def _told(handler: Callable[[Exchange], Awaitable[JSON]]) -> Callable[[Exchange], Awaitable[Answer]]:
    async def told(exchange: Exchange) -> Answer:
        try:
            body: dict[str, Any] = {"data": await handler(exchange), "code": None, "message": None, "success": True}
        except SnowflakeRefusedError as error:
            exchange.notes.error_code = error.code
            data = {"sqlState": error.sql_state, "errorCode": error.code, "queryId": str(uuid.uuid4())}
            body = {"data": data, "code": error.code, "message": error.message, "success": False}
        return Answer(content=json.dumps(body).encode(), media_type="application/json")

    return told
