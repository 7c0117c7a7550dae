"""The SQL API: POST and GET /api/v2/statements (https://docs.snowflake.com/en/developer-guide/sql-api/reference)."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.azure.errors import SnowflakeRefusedError
from sandbox.azure.exchange import Answer, Exchange, MalformedBodyError, Router
from sandbox.azure.snowflake.errors import not_signed_in
from sandbox.azure.snowflake.sign_in import Session, session, user_of

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.snowflake.engine import Engine, Result
    from sandbox.azure.snowflake.model import Account, Accounts
    from sandbox.azure.timings import Timings

SYNCHRONOUS_SECONDS = 45.0
_PATH = "/api/v2/statements"


class StatementBody(BaseModel):
    """The body of POST; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    statement: str
    timeout: int | None = None
    database: str | None = None
    schema_: str | None = Field(None, alias="schema")
    warehouse: str | None = None
    role: str | None = None
    bindings: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None


@dataclass
class _Execution:
    user: str
    outcome: Result | SnowflakeRefusedError
    ready: float
    handle: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = field(default_factory=time.time)


class SqlApi:
    """The statements of every account; the host says which."""

    def __init__(self, accounts: Accounts, engine: Engine, clock: Clock, timings: Timings) -> None:
        self._accounts = accounts
        self._engine = engine
        self._clock = clock
        self._timings = timings
        self._executions: dict[str, _Execution] = {}
        self._by_request: dict[str, _Execution] = {}

    def add_routes(self, router: Router) -> None:
        """Submit and ask after."""
        router.add("POST", _PATH, self.submit)
        router.add("GET", f"{_PATH}/{{handle}}", self.status)

    def _signed_in(self, exchange: Exchange, role: str | None = None) -> Session:
        account = self._account(exchange)
        token = exchange.bearer()
        if token is None:
            raise not_signed_in("390104", "Authentication token is missing.")
        if exchange.headers.get("x-snowflake-authorization-token-type", "").upper() != "KEYPAIR_JWT":
            raise not_signed_in("390303", "Invalid OAuth access token.")
        user = user_of(account, token)
        exchange.notes.principal, exchange.notes.application = user.name, account.name
        return session(account, user, role)

    def _account(self, exchange: Exchange) -> Account:
        account = self._accounts.find(exchange.host)
        if account is None:
            raise SnowflakeRefusedError(404, "390201", "The requested account does not exist.", sql_state="08001")
        return account

    async def submit(self, exchange: Exchange) -> Answer:
        """Run a statement; the same `requestId` with `retry=true` does not run it twice."""
        if "application/json" not in exchange.headers.get("accept", "") and "*/*" not in exchange.headers.get("accept", ""):
            raise _bad_request("391902", f"Unsupported Accept header {exchange.headers.get('accept', 'null')} is specified.")
        if not exchange.headers.get("user-agent"):
            raise _bad_request("391903", "The User-Agent header is required.")
        body = _body(exchange)
        opened = self._signed_in(exchange, body.role)
        request_id = exchange.query.get("requestid", "")
        if request_id and not _is_uuid(request_id):
            raise _bad_request("391904", f"Invalid requestId '{request_id}'.")
        again = f"{opened.account.name} {opened.user.name} {request_id}"
        execution = self._by_request.get(again) if request_id and exchange.query.get("retry") == "true" else None
        if execution is None:
            execution = self._executed(opened, body.statement)
            self._by_request[again] = execution
        if exchange.query.get("async") == "true" or execution.ready - self._clock.now() > SYNCHRONOUS_SECONDS:
            return self._in_progress(execution)
        return self._answer(execution)

    def _executed(self, opened: Session, statement: str) -> _Execution:
        try:
            outcome: Result | SnowflakeRefusedError = self._engine.run(opened, statement)
        except SnowflakeRefusedError as error:
            outcome = error
        execution = _Execution(opened.user.name, outcome, self._clock.now() + self._timings.snowflake_statement_seconds)
        self._executions[execution.handle] = execution
        return execution

    async def status(self, exchange: Exchange) -> Answer:
        """The outcome, or that it is still under way."""
        opened = self._signed_in(exchange)
        execution = self._executions.get(exchange["handle"])
        if execution is None or execution.user != opened.user.name:
            raise SnowflakeRefusedError(404, "391404", f"Statement {exchange['handle']} was not found.", sql_state="02000")
        if execution.ready > self._clock.now():
            return self._in_progress(execution)
        return self._answer(execution)

    @staticmethod
    def _in_progress(execution: _Execution) -> Answer:
        body = {
            "code": "333334",
            "message": "Asynchronous execution in progress. Use provided query id to perform query monitoring and management.",
            "statementHandle": execution.handle,
            "statementStatusUrl": f"{_PATH}/{execution.handle}",
        }
        return Answer(202, body)

    @staticmethod
    def _answer(execution: _Execution) -> Answer:
        outcome = execution.outcome
        if isinstance(outcome, SnowflakeRefusedError):
            raise SnowflakeRefusedError(
                outcome.status, outcome.code, outcome.message, sql_state=outcome.sql_state, handle=execution.handle
            )
        columns = [
            {
                "name": name,
                "database": "",
                "schema": "",
                "table": "",
                "nullable": True,
                "length": 16_777_216,
                "byteLength": 16_777_216,
                "type": "text",
                "scale": None,
                "precision": None,
                "collation": None,
            }
            for name in outcome.columns
        ]
        size = sum(len(value) for row in outcome.rows for value in row)
        body = {
            "resultSetMetaData": {
                "numRows": len(outcome.rows),
                "format": "jsonv2",
                "partitionInfo": [{"rowCount": len(outcome.rows), "uncompressedSize": size}],
                "rowType": columns,
            },
            "data": outcome.rows,
            "code": "090001",
            "statementStatusUrl": f"{_PATH}/{execution.handle}",
            "requestId": str(uuid.uuid4()),
            "sqlState": "00000",
            "statementHandle": execution.handle,
            "message": "Statement executed successfully.",
            "createdOn": int(execution.created * 1000),
        }
        return Answer(200, body)


def _bad_request(code: str, message: str) -> SnowflakeRefusedError:
    return SnowflakeRefusedError(400, code, message, sql_state="")


def _body(exchange: Exchange) -> StatementBody:
    try:
        return StatementBody.model_validate(exchange.json())
    except (MalformedBodyError, ValidationError) as error:
        raise _bad_request("391920", "The request body is not valid.") from error


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
