"""Runs statements in one Snowflake account through its SQL API, with the operator's shared session and call budget.

Source: Snowflake, "Snowflake SQL API reference".
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.faults.azure_failure import AzureFailure, Unreadable
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.snowflake.sign_in import KeyPairCredential, PrivateKeyUnusableError

if TYPE_CHECKING:
    from cmk_operator.azure.rest import Answer, RestClient
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.providers.snowflake.target import SnowflakeTarget

STATEMENTS: Final = "/api/v2/statements"
STATEMENT_TIMEOUT: Final = 120
"""Seconds that Snowflake may work on one statement."""
PATIENCE: Final = 30.0
"""Seconds that a reconcile waits for a statement that Snowflake does not complete at once."""
PAUSE: Final = 1.0
"""Seconds between two polls of such a statement."""
STILL_RUNNING: Final = Reason.STATEMENT_STILL_RUNNING.value
KEY_UNUSABLE: Final = Reason.PRIVATE_KEY_UNUSABLE.value
_HEADERS: Final = {"X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT", "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Said:
    """The only value that a statement returned, and Snowflake's handle of the statement."""

    text: str
    handle: str | None


@dataclass(frozen=True, slots=True)
class SnowflakeClient:
    """One account, signed in as one user with one role."""

    rest: RestClient
    role: str

    async def ask(self, statement: str) -> Said | AzureFailure:
        """Run a statement that returns one row of one value; returns Snowflake's refusals as values."""
        body = {"statement": statement, "timeout": STATEMENT_TIMEOUT, "role": self.role}
        query = {"requestId": str(uuid.uuid4())}
        try:
            answer = await self.rest.send("POST", STATEMENTS, query, body, _HEADERS)
            if answer.status == HTTPStatus.ACCEPTED:
                with typed_answer():
                    handle = uuid.UUID(answer.body["statementHandle"])
                answer = await self._awaited(handle)
        except _StillRunningError:
            return AzureFailure(None, STILL_RUNNING, "Snowflake is still working on the statement")
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        return _read(answer.body)

    async def _awaited(self, handle: uuid.UUID) -> Answer:
        """Poll a statement until it has an answer. Raises `_StillRunningError` after `PATIENCE` seconds."""
        patience = asyncio.timeout(PATIENCE)
        try:
            async with patience:
                while True:
                    await asyncio.sleep(PAUSE)
                    answer = await self.rest.send("GET", f"{STATEMENTS}/{handle}", None, None, _HEADERS)
                    if answer.status != HTTPStatus.ACCEPTED:
                        return answer
        except TimeoutError as error:
            if patience.expired():
                raise _StillRunningError from error
            raise


class _StillRunningError(Exception):
    """A statement takes longer than a reconcile waits for it."""


def _read(body: dict[str, Any]) -> Said | AzureFailure:
    try:
        ((value,),) = body["data"]
    except (KeyError, TypeError, ValueError):
        return Unreadable(message="Snowflake's answer is not one row of one value")
    if not isinstance(value, str):
        return Unreadable(message="Snowflake's answer is not one row of one text")
    handle = body.get("statementHandle")
    return Said(value, handle if isinstance(handle, str) else None)


class SnowflakeClients:
    """One credential for each account; it is replaced when the manifest or the Secret changes."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session
        self._kept: dict[str, tuple[bytes, KeyPairCredential]] = {}

    def of(self, target: SnowflakeTarget) -> SnowflakeClient | AzureFailure:
        """The client of an account; a failure if the Secret has no usable private key."""
        known = _digest(target)
        kept = self._kept.get(target.id.key)
        if kept is None or kept[0] != known:
            if kept is not None:
                self._session.forget_credential(kept[1])
            try:
                kept = (known, KeyPairCredential(target))
            except PrivateKeyUnusableError as error:
                return AzureFailure(400, KEY_UNUSABLE, str(error))
            self._kept[target.id.key] = kept
        return SnowflakeClient(self._session.rest(kept[1], f"https://{host_of(target)}", "snowflake"), target.role)


def host_of(target: SnowflakeTarget) -> str:
    """The account's host; it has no underscores, because TLS certificates do not cover them."""
    return f"{target.id.text.lower().replace('_', '-')}.snowflakecomputing.com"


def _digest(target: SnowflakeTarget) -> bytes:
    parts = (target.user.encode(), target.private_key, target.private_key_passphrase or b"")
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
