"""Wraps and unwraps for an organization, in its vault or by the platform's key ring, and says what a failure means.

Every key version is reached by the access under which it was accepted: the one in force, an earlier one of the object's status, or
one that the database kept. What is in force is never reached by an earlier access.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from aiolimiter import AsyncLimiter

from cmk_keyservice.crypto.context import encode
from cmk_keyservice.problem import Kind, Problem, ProblemError
from cmk_keyservice.vaults.accepted import PLATFORM_KEY, ApplicationAccess, RegistrationAccess, read_access
from cmk_keyservice.vaults.answers import NotDone, Unwrapped, Wrapped, not_done
from cmk_operator.azure.key_gate import ApplicationAccess as ByApplication
from cmk_operator.azure.key_gate import KeyGate, RegisteredAccess
from cmk_operator.azure.registered_application import RegisteredApplication
from cmk_operator.azure.table import Table
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.identifiers.cloud import CLOUDS
from cmk_operator.core.identifiers.key_uri import key_uri_or_none
from cmk_operator.core.organization.verdict import Operation, judge
from cmk_operator.turns import calls_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Accepted, Access, Organization
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.core.kinds.call_rates import Rate
    from cmk_operator.core.organization.credential import Credential

DoneT = TypeVar("DoneT", Wrapped, Unwrapped)
BACKGROUND_SHARE: Final = 0.25
"""The share of a vault's budget that re-wraps take at most."""
LONGEST_TURN: Final = 10.0
"""Seconds that a call of a re-wrap waits for that share."""
PLATFORM_ALGORITHM: Final = "platform-key-ring"
AT_ONCE: Final = 8
"""Calls for one organization at the same time, so that a vault that hangs leaves connections to the others."""
PATIENCE: Final = 15.0
"""Seconds for one call."""
SILENT_FOR: Final = 3.0
"""Seconds for which a vault that gave no answer is not asked again."""
SIGNED_IN_FOR: Final = 600.0
"""Seconds for which a probe rests on a sign-in: a cached token is good for up to a day after a consent was withdrawn."""


class CredentialSource(Protocol):
    """Where the credentials of an organization's own registration come from."""

    async def credentials(self, organization: Organization, access: RegistrationAccess, kid: str) -> tuple[Credential, ...]:
        """The credentials that `access` names, at least one. Raises `ProblemError` if none can be read now."""


@dataclass(slots=True)
class _Gate:
    gate: KeyGate
    own_registration: bool
    signed_in_at: float = float("-inf")


@dataclass(slots=True)
class _Line:
    """The way to one organization's vaults."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    silences: dict[str, tuple[float, NotDone]] = field(default_factory=dict)
    """Until when a vault is not asked again, and what is answered meanwhile, by its host."""


class Vaults:
    """The vaults of all organizations, through one session; `rate` is the session's budget for each vault."""

    def __init__(
        self,
        session: AzureSession,
        platform: KeyRing,
        credentials: CredentialSource,
        store: Store,
        rate: Rate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._platform = platform
        self._credentials = credentials
        self._store = store
        self._clock = clock
        self._lines: Table[str, _Line] = Table(lambda _: _Line(), clock)
        self._gates: Table[tuple[str, Access], list[_Gate]] = Table(lambda _: [], clock)
        burst = max(1.0, rate.burst * BACKGROUND_SHARE)
        self._background: Table[str, AsyncLimiter] = Table(lambda _: AsyncLimiter(burst, rate.period), clock)

    def drop_unused(self) -> None:
        """Drop what no organization has used for an hour."""
        self._gates.drop_unused()
        self._lines.drop_unused()
        self._background.drop_unused()
        self._session.drop_unused()

    async def wrap(
        self, organization: Organization, accepted: Accepted, plaintext: bytes, *, purpose: str, background: bool = False
    ) -> Wrapped | NotDone:
        """Wrap under an accepted key version; the result names the version that the vault says it used."""
        if accepted.by_platform:
            sealed = self._platform.encrypt(plaintext, _platform_context(organization))
            return Wrapped(PLATFORM_KEY, PLATFORM_ALGORITHM, sealed)
        key, access = accepted.key, accepted.access
        if key is None or access is None:
            return NotDone(_unreadable_kid(accepted.kid))

        async def wrap(gate: KeyGate) -> Wrapped | AzureFailure:
            answer = await gate.wrap(key, plaintext, purpose=purpose)
            if isinstance(answer, AzureFailure):
                return answer
            return Wrapped(str(answer.kid), answer.algorithm, answer.ciphertext, answer.request_id)

        return await self._through(organization, access, key, Operation.WRAP, wrap, background=background)

    async def unwrap(
        self,
        organization: Organization,
        kid: str,
        algorithm: str,
        ciphertext: bytes,
        *,
        purpose: str,
        background: bool = False,
    ) -> Unwrapped | NotDone:
        """Unwrap with the key version that wrapped, by each access under which it was accepted until one is not refused."""
        if kid == PLATFORM_KEY:
            return Unwrapped(self._platform.decrypt(ciphertext, _platform_context(organization)))
        key = key_uri_or_none(kid)
        if key is None or key.version is None:
            return NotDone(_unreadable_kid(kid))

        async def unwrap(gate: KeyGate) -> Unwrapped | AzureFailure:
            answer = await gate.unwrap(key, algorithm, ciphertext, purpose=purpose)
            return answer if isinstance(answer, AzureFailure) else Unwrapped(answer.plaintext, answer.request_id)

        refused: NotDone | None = None
        for access in await self._accesses(organization, kid):
            answer = await self._through(organization, access, key, Operation.UNWRAP, unwrap, background=background)
            if isinstance(answer, Unwrapped) or not answer.refuses:
                return answer
            refused = refused or answer
        return refused or NotDone(_no_access(kid))

    async def sign_in(self, organization: Organization) -> NotDone | None:
        """Get a new token for the access in force, unless the last one is young; None if Entra gave one."""
        accepted = organization.accepted
        if accepted is None or accepted.access is None:
            return None
        try:
            gate = await self._gate(organization, accepted.access, accepted.kid)
        except ProblemError as error:
            return NotDone(error.problem)
        began = self._clock()
        if began - gate.signed_in_at < SIGNED_IN_FOR:
            return None
        failure = await gate.gate.sign_in()
        if failure is None:
            gate.signed_in_at = began
            return None
        if gate.own_registration:
            self._gates[organization.id, accepted.access].clear()
        return not_done(judge(failure, Operation.SIGN_IN, own_registration=gate.own_registration))

    async def _accesses(self, organization: Organization, kid: str) -> list[Access]:
        accepted = organization.accepted
        if accepted is not None and accepted.kid == kid:
            return [accepted.access] if accepted.access is not None else []
        known = organization.accepted_for(kid)
        found = [known.access] if known is not None else []
        try:
            kept = await self._store.access_for(organization.id, kid)
        except ProblemError:
            if not found:
                raise
            kept = []
        found += [read_access(row.access) for row in kept]
        return list(dict.fromkeys(access for access in found if access is not None))

    async def _through(
        self,
        organization: Organization,
        access: Access,
        key: KeyUri,
        operation: Operation,
        use: Callable[[KeyGate], Awaitable[DoneT | AzureFailure]],
        *,
        background: bool,
    ) -> DoneT | NotDone:
        try:
            gate = await self._gate(organization, access, str(key))
        except ProblemError as error:
            return NotDone(error.problem)
        if background and not await self._has_turn(key):
            return NotDone(_budget_spent())
        line, host = self._lines[organization.id], key.vault_host.lower()
        async with line.slots:
            silence = line.silences.get(host)
            if silence is not None and self._clock() < silence[0]:
                return silence[1]
            with calls_of(f"{'background' if background else 'callers'} {organization.id}"):
                answer = await use(gate.gate)
        if not isinstance(answer, AzureFailure):
            return answer
        if gate.own_registration and answer.stage is Stage.APPLICATION_TOKEN:
            # The Secret is read again for the next try: somebody may have renewed it.
            self._gates[organization.id, access].clear()
        met = not_done(judge(answer, operation, own_registration=gate.own_registration))
        if not answer.answered:
            line.silences[host] = (self._clock() + SILENT_FOR, met)
        return met

    async def _has_turn(self, key: KeyUri) -> bool:
        """Wait for the share of background work, but not for long: a transaction waits for it, too."""
        try:
            async with asyncio.timeout(LONGEST_TURN):
                await self._background[key.vault_host.lower()].acquire()
        except TimeoutError:
            return False
        return True

    async def _gate(self, organization: Organization, access: Access, kid: str) -> _Gate:
        """The gate of an access, which lives on. Raises `ProblemError` if the credentials cannot be read."""
        kept = self._gates[organization.id, access]
        if kept:
            return kept[0]
        if isinstance(access, ApplicationAccess):
            made = _Gate(
                KeyGate(self._session, ByApplication(access.chain, access.tenant_id), timeout=PATIENCE), own_registration=False
            )
        else:
            credentials = await self._credentials.credentials(organization, access, kid)
            application = RegisteredApplication(CLOUDS[access.cloud], access.tenant_id, access.client_id, credentials)
            made = _Gate(KeyGate(self._session, RegisteredAccess(application), timeout=PATIENCE), own_registration=True)
        kept[:] = [made]
        return made


def _platform_context(organization: Organization) -> bytes:
    return encode([("context", "platform key"), ("organization", organization.id)])


def _budget_spent() -> Problem:
    return Problem(
        Kind.THROTTLED,
        "BudgetSpent",
        "the share of the vault's budget for re-wraps is spent",
        "Nobody needs to act: the re-wrap goes on with the next turn.",
        retryable=True,
        retry_after=LONGEST_TURN,
    )


def _unreadable_kid(kid: str) -> Problem:
    return Problem(
        Kind.UNAVAILABLE,
        "KeyIdentifierUnreadable",
        f"{kid!r} is not the identifier of a key version",
        "The provider must check that the operator and the key service are of one release.",
        retryable=False,
    )


def _no_access(kid: str) -> Problem:
    return Problem(
        Kind.UNAVAILABLE,
        "AccessUnknown",
        f"neither the OrganizationKey nor the database says how {kid} is reached",
        "Configure that key again in the OrganizationKey: the data keys under it are then re-wrapped from there.",
        retryable=True,
    )
