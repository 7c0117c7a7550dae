"""Runs one statement for one session: edition, privilege, approval, then the function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.azure.errors import SnowflakeRefusedError
from sandbox.azure.snowflake.custody import SUBNETS
from sandbox.azure.snowflake.errors import access_denied, compilation_error
from sandbox.azure.snowflake.model import Edition
from sandbox.azure.snowflake.statements import Call, Read, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.azure.snowflake.model import Account
    from sandbox.azure.snowflake.sign_in import Session
    from sandbox.azure.snowflake.tri_secret_secure import TriSecretSecure

_TSS_LEAST = Edition.BUSINESS_CRITICAL


@dataclass(frozen=True)
class Result:
    """The names of the columns, and the rows."""

    columns: tuple[str, ...]
    rows: list[list[str]]


@dataclass(frozen=True)
class Function:
    """A system function: how many arguments it takes, who may call it, and what it does."""

    least: int
    most: int
    run: Callable[..., str]
    privileges: tuple[str, ...] = ("ADMINISTRATION",)
    protected: bool = False
    """Whether Multi-party Approval covers it."""
    every_edition: bool = False


class Engine:
    """The statements of every account."""

    def __init__(self, secure: TriSecretSecure) -> None:
        self._secure = secure
        watch = ("ADMINISTRATION", "MONITOR SECURITY")
        change = ("ADMINISTRATION", "MODIFY")
        self._functions: Mapping[str, Function] = {
            "SYSTEM$REGISTER_CMK_INFO": Function(2, 3, secure.register),
            "SYSTEM$GET_CMK_INFO": Function(0, 0, secure.info, watch),
            "SYSTEM$GET_CMK_CONFIG": Function(1, 1, secure.config),
            "SYSTEM$GET_CMK_AKV_CONSENT_URL": Function(2, 2, secure.consent_url, watch),
            "SYSTEM$VERIFY_CMK_INFO": Function(0, 0, secure.verify, watch),
            "SYSTEM$ACTIVATE_CMK_INFO": Function(0, 1, secure.activate, change, protected=True),
            "SYSTEM$DEREGISTER_CMK_INFO": Function(0, 0, secure.deregister),
            "SYSTEM$DEACTIVATE_CMK_INFO": Function(0, 0, secure.deactivate, change, protected=True),
            "SYSTEM$GET_SNOWFLAKE_PLATFORM_INFO": Function(0, 0, _platform_info, every_edition=True),
            "SYSTEM$UPDATE_MULTI_PARTY_APPROVAL_JUSTIFICATION": Function(2, 2, _justify, ()),
        }

    def run(self, session: Session, statement: str) -> Result:
        """Raises SnowflakeRefusedError."""
        account = session.account
        self._secure.custody.settle(account)
        command = parsed(statement)
        if isinstance(command, Read):
            table = account.tables.get(command.table)
            if table is None:
                raise compilation_error("002003", f"Object '{command.table}' does not exist or not authorized.", "42S02")
            rows = self._secure.custody.open(account, table)
            return Result(tuple(f"C{number + 1}" for number in range(len(rows[0]) if rows else 1)), rows)
        column = f"{command.function}({', '.join(repr(one) for one in command.arguments)})"
        return Result((column,), [[self._called(session, command, statement)]])

    def _called(self, session: Session, call: Call, statement: str) -> str:
        function = self._functions.get(call.function)
        if function is None:
            raise compilation_error("002141", f"Unknown function {call.function}", "42601")
        given = len(call.arguments)
        if not function.least <= given <= function.most:
            code, which = ("000938", "not enough") if given < function.least else ("000939", "too many")
            expected = function.least if given < function.least else function.most
            raise compilation_error(
                code,
                f"error line 1 at position 7\n{which} arguments for function [{call.function}], expected {expected}, got {given}",
                "22023",
            )
        account = session.account
        if function.privileges and not session.may(*function.privileges):
            raise access_denied(account.name)
        if not function.every_edition and account.edition.value < _TSS_LEAST.value:
            raise SnowflakeRefusedError(422, "000002", "Unsupported feature 'TRI_SECRET_SECURE'.", sql_state="0A000")
        now = self._secure.clock.now()
        request = account.approvals.admitted(statement, session.user.name, now) if function.protected else None
        answer = function.run(account, *call.arguments)
        if request is not None:
            request.state = "EXECUTED"
        return answer


def _platform_info(account: Account) -> str:
    del account
    return json.dumps({"snowflake-vnet-subnet-id": list(SUBNETS)})


def _justify(account: Account, request_id: str, text: str) -> str:
    return account.approvals.justify(request_id, text)
