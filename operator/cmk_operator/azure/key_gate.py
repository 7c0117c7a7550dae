"""Wraps and unwraps with one vault key through one access; it needs no other permission than wrapKey and unwrapKey.

The version comes from the vault's answer to a wrap, so that nothing has to be read first.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from azure.core.rest import HttpRequest

from cmk_operator.answer_gate import read_object
from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.key_vault import (
    NOT_THE_TENANT,
    PROBE_TIMEOUT,
    REGION_HEADER,
    may_be_the_tenant,
    read_attributes,
)
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.access.token_verdict import is_refusal
from cmk_operator.core.access.verdict import SHOWS_WITHIN
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage, Unreadable
from cmk_operator.core.identifiers.key_uri import KeyUri, parse_reported_key_uri
from cmk_operator.core.identifiers.region import reported_region

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.keyvault.keys.aio import KeyClient

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.registered_application import RegisteredApplication
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.access.state import KeyAttributes

WRAP_ALGORITHM: Final = "RSA-OAEP-256"
"""The one algorithm that keys are wrapped and unwrapped with. Source: Key Vault, "Key types, algorithms, and operations"."""
LARGEST_PAYLOAD: Final = 190
"""Bytes that an RSA 2048 key can wrap: 256 - 2 * 32 - 2. Source: RFC 8017, section 7.1.1."""
EXPLAINED_FOR: Final = 15.0
"""Seconds for which one sign-in explains every refusal, so that a lost key causes few of them."""
_PURPOSE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_MODULUS_SIZES: Final = frozenset({256, 384, 512})


class Purpose(StrEnum):
    """Why a key is used; the vault's log shows it to the customer in `clientInfo`. Source: Azure Monitor, AZKVAuditLogs."""

    ACCEPTANCE = "acceptance"
    PROBE = "probe"
    NEW_DATA_KEY = "new-data-key"
    DATA_KEY = "data-key"
    REWRAP = "rewrap"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What a version of a key has wrapped."""

    kid: KeyUri
    """With the version that the vault's answer names."""
    algorithm: str
    ciphertext: bytes = field(repr=False)
    request_id: str | None = None
    vault_region: str | None = None
    """The vault's region, such as `westeurope`; None if the vault does not say."""


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What a version of a key has unwrapped."""

    plaintext: bytes = field(repr=False)
    request_id: str | None = None
    vault_region: str | None = None


class VaultAccess(Protocol):
    """How a vault is reached: as whom, in which tenant."""

    def keys(self, session: AzureSession, vault_url: str) -> KeyClient:
        """A client for the keys of one vault. Raises `TokenUnavailableError` if there is no token file."""

    async def fresh_sign_in(self, session: AzureSession) -> None:
        """Get a new token, not one from the cache, and use it from now on. Raises `TokenUnavailableError`."""


@dataclass(frozen=True, slots=True)
class ApplicationAccess:
    """As the platform's multitenant application, in the customer's tenant."""

    chain: IdentityChain
    tenant_id: str

    def keys(self, session: AzureSession, vault_url: str) -> KeyClient:
        """As `VaultAccess`."""
        return session.keys(self.chain, self.tenant_id, vault_url)

    async def fresh_sign_in(self, session: AzureSession) -> None:
        """As `VaultAccess`."""
        await session.fresh_sign_in(self.chain, self.tenant_id)


@dataclass(frozen=True, slots=True)
class RegisteredAccess:
    """As the organization's own registration, in its own tenant."""

    application: RegisteredApplication

    def keys(self, session: AzureSession, vault_url: str) -> KeyClient:
        """As `VaultAccess`."""
        return session.registered_keys(self.application, vault_url)

    async def fresh_sign_in(self, session: AzureSession) -> None:
        """As `VaultAccess`."""
        await session.fresh_registered_sign_in(self.application)


class KeyGate:
    """Wraps and unwraps in vaults through one access; keep one for each access. `timeout` is in seconds, for each call.

    A refusal that may be of the tenant is explained by one new sign-in, so that a withdrawn consent and a deleted credential show
    although a token is cached, and a new consent counts at the next call.
    """

    def __init__(
        self,
        session: AzureSession,
        access: VaultAccess,
        *,
        timeout: float = PROBE_TIMEOUT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._access = access
        self._timeout = timeout
        self._monotonic = monotonic
        self._explaining = asyncio.Lock()
        self._explained_at = float("-inf")
        self._explanation: AzureFailure | None = None
        self._not_readable: set[KeyUri] = set()
        self._missed_since: dict[KeyUri, float] = {}

    async def sign_in(self) -> AzureFailure | None:
        """Get a new token from Entra; None if it gave one."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._access.fresh_sign_in(self._session)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        return None

    async def wrap(self, uri: KeyUri, plaintext: bytes, *, purpose: str) -> Wrapped | AzureFailure:
        """Wrap `plaintext`, at most `LARGEST_PAYLOAD` bytes, with a version, or with the latest for a versionless `uri`.

        The result's `kid` names the version that the vault used.
        """
        if not 0 < len(plaintext) <= LARGEST_PAYLOAD:
            raise ValueError(f"wrap takes 1 to {LARGEST_PAYLOAD} bytes")
        # An empty version, as Azure's SDKs send it (docs/decisions/0135).
        path = f"/keys/{uri.key_name}/{uri.version or ''}/wrapkey"
        answer = await self._use(uri, path, WRAP_ALGORITHM, plaintext, purpose)
        if isinstance(answer, AzureFailure):
            return answer
        if len(answer.value) not in _MODULUS_SIZES:
            return Unreadable(
                message="the vault's answer is not as long as what an RSA key wraps", request_id=answer.request_id
            )
        return Wrapped(answer.kid, WRAP_ALGORITHM, answer.value, answer.request_id, answer.vault_region)

    async def unwrap(self, kid: KeyUri, algorithm: str, ciphertext: bytes, *, purpose: str) -> Unwrapped | AzureFailure:
        """Unwrap with the version that wrapped; `kid` must name it, because a vault would take the latest otherwise."""
        if kid.version is None:
            raise ValueError("unwrap needs the version that wrapped")
        if algorithm != WRAP_ALGORITHM:
            return AzureFailure(
                400, "AlgorithmNotSupported", f"only {WRAP_ALGORITHM} is supported, and nothing was sent to the vault"
            )
        answer = await self._use(kid, f"/keys/{kid.key_name}/{kid.version}/unwrapkey", algorithm, ciphertext, purpose)
        if isinstance(answer, AzureFailure):
            return answer
        return Unwrapped(answer.value, answer.request_id, answer.vault_region)

    async def read(self, uri: KeyUri) -> KeyAttributes | AzureFailure | None:
        """The attributes of a version, or of the latest; None where get is not granted, which is asked once and never again.

        Nothing rests on it but advice.
        """
        if uri.versionless in self._not_readable:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await read_attributes(self._access.keys(self._session, uri.vault_url), uri.key_name, uri.version)
        except EXPECTED_FAILURES as error:
            failure = failure_of(error)
            if failure.stage is not Stage.SERVICE or failure.status != 403:
                return failure
            if failure.inner_code not in NOT_THE_TENANT:
                self._not_readable.add(uri.versionless)
            return None

    async def is_purged(self, kid: KeyUri) -> bool:
        """Whether the vault has shown for `SHOWS_WITHIN` that it has the key neither live nor deleted.

        False where that cannot be read. Ask it after each refusal with 404: the first time only begins the wait, because a key is
        nowhere for some seconds while it is deleted or recovered.
        """
        if kid.versionless in self._not_readable or not await self._is_nowhere(kid):
            self._missed_since.pop(kid.versionless, None)
            return False
        since = self._missed_since.setdefault(kid.versionless, self._monotonic())
        return self._monotonic() - since >= SHOWS_WITHIN.total_seconds()

    async def _is_nowhere(self, kid: KeyUri) -> bool:
        live = await self.read(kid.versionless)
        if not _is_not_found(live):
            return False
        try:
            async with asyncio.timeout(self._timeout):
                with typed_answer():
                    await self._access.keys(self._session, kid.vault_url).get_deleted_key(kid.key_name)
        except EXPECTED_FAILURES as error:
            failure = failure_of(error)
            if failure.stage is Stage.SERVICE and failure.status == 403:
                self._not_readable.add(kid.versionless)
            return _is_not_found(failure)
        return False

    async def _use(self, uri: KeyUri, path: str, algorithm: str, value: bytes, purpose: str) -> _Answer | AzureFailure:
        if _PURPOSE.fullmatch(purpose) is None:
            raise ValueError("a purpose is one word of letters, digits and hyphens")
        try:
            async with asyncio.timeout(self._timeout):
                keys = self._access.keys(self._session, uri.vault_url)
                with typed_answer():
                    request = HttpRequest("POST", path, json={"alg": algorithm, "value": _encode(value)})
                    response: Any = await keys.send_request(request, user_agent=purpose)
                    response.raise_for_status()
                    return _read(response, uri)
        except EXPECTED_FAILURES as error:
            return await self._explained(failure_of(error))

    async def _explained(self, failure: AzureFailure) -> AzureFailure:
        """The refusal of Entra that is behind a refusal or a silence of a vault; the failure itself if there is none."""
        unanswered = failure.stage is Stage.SERVICE and not failure.answered
        if not unanswered and not may_be_the_tenant(failure):
            return failure
        wanted_since = self._monotonic() - EXPLAINED_FOR
        async with self._explaining:
            if self._explained_at < wanted_since:
                requested_at = self._monotonic()
                refused = await self.sign_in()
                self._explanation = refused if refused is not None and is_refusal(refused) else None
                self._explained_at = requested_at
            return self._explanation or failure


def _is_not_found(found: object) -> bool:
    """Whether Key Vault itself says that there is no such key."""
    return (
        isinstance(found, AzureFailure) and found.stage is Stage.SERVICE and (found.status, found.code) == (404, "KeyNotFound")
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    kid: KeyUri
    value: bytes = field(repr=False)
    request_id: str | None
    vault_region: str | None


def _read(response: Any, asked: KeyUri) -> _Answer:  # noqa: ANN401 - azure-core's response, whose types it does not pass on
    """The answer, if it is of the key and version that were asked. Raises ValueError, LookupError or TypeError otherwise."""
    body = read_object(response.content)
    kid = parse_reported_key_uri(body["kid"])
    if kid.version is None or kid.versionless != asked.versionless or asked.version not in {None, kid.version}:
        raise ValueError("kid")
    headers = response.headers
    # The spelling of the manifest, so that a key has one name everywhere.
    return _Answer(
        asked.at(kid.version),
        _decode(body["value"]),
        headers.get("x-ms-request-id"),
        reported_region(headers.get(REGION_HEADER, "")),
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    """Decode base64url. Raises ValueError or TypeError for any other text."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
