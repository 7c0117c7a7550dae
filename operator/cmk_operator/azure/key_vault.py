"""Probes a key: reads it, then wraps and unwraps in the vault itself; the whole probe, or one of the three steps."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.credentials import IdentityChain, VaultInAnotherTenantError
from cmk_operator.azure.failures import EXPECTED_FAILURES, TIMEOUT, failure_of
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.access.state import DeletedKey, KeyAttributes, KeyProbe, VersionProbe
from cmk_operator.core.access.token_verdict import is_refusal
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.identifiers.key_uri import parse_reported_key_uri
from cmk_operator.core.identifiers.region import reported_region

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from azure.keyvault.keys import KeyVaultKey
    from azure.keyvault.keys.aio import KeyClient

    from cmk_operator.azure.rest import RestClient
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.key_uri import KeyUri

API_VERSION: Final = "2025-07-01"
PROBE_TIMEOUT: Final = 30.0
"""Seconds for one step of a probe; the client tries a request that gets no answer a second time within it."""
REGION_HEADER: Final = "x-ms-keyvault-region"
_ALGORITHM: Final = "RSA-OAEP-256"
NOT_THE_TENANT: Final = frozenset({"KeyDisabled", "ForbiddenByFirewall", "ForbiddenByConnection"})
"""Inner codes of a 403 whose cause is in the vault. Any other may hide a consent that was withdrawn while a token is cached."""


ExplainDenial = Callable[[IdentityChain, str], Awaitable[AzureFailure | None]]
"""Returns why a vault denies the application, if the cause is in the tenant and not in the vault (`denied_by_tenant`)."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A random secret that protects nothing, and its wrapped value from a vault; both exist only in memory."""

    secret: bytes = field(repr=False)
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe, and what it wrapped, by version."""

    probe: KeyProbe
    wrapped: Mapping[str, Wrapped]


@dataclass(frozen=True, slots=True)
class ProbedKey:
    """A key, and the identity that accesses it: the unit that is probed."""

    chain: IdentityChain
    customer_tenant_id: str
    key_uri: KeyUri


async def probe_key(
    session: AzureSession,
    probed: ProbedKey,
    versions_in_use: Iterable[str],
    now: datetime,
    explain: ExplainDenial,
    known: KeyProbe | None = None,
) -> ProbeResult:
    """Probe the wanted version of a key and every other version that still protects something.

    With `known`, a version whose attributes are equal to those at its last successful probe is read, but not wrapped with
    again. Failures of Azure, Entra or the network are values in the probe.
    """
    key = probed.key_uri
    try:
        vault = _vault(session, probed)
    except EXPECTED_FAILURES as error:
        return ProbeResult(KeyProbe(now, VersionProbe(failure=failure_of(error))), {})
    wrapped: dict[str, Wrapped] = {}
    prober = _VersionProber(vault, key, wrapped, known)
    wanted, vault_tenant = await _probe_wanted(prober, key)
    if wanted.failure is not None and (may_be_the_tenant(wanted.failure) or not wanted.failure.answered):
        explained = await explain(probed.chain, probed.customer_tenant_id)
        wanted = replace(wanted, failure=explained or wanted.failure)
    found = wanted.attributes.version if wanted.attributes is not None else None
    others = sorted(set(versions_in_use) - {found}) if vault_tenant is None else []
    if wanted.failure is not None and (wanted.failure.stage is not Stage.SERVICE or not wanted.failure.answered):
        # The vault was not reached: probes of other versions would only wait for the same timeout.
        seen = [wanted] * len(others)
    else:
        seen = await asyncio.gather(*(_probe_version(prober, version) for version in others))
    deleted, latest_exists = await _explain_absence(vault.keys, key, wanted)
    return ProbeResult(
        KeyProbe(now, wanted, dict(zip(others, seen, strict=True)), deleted, latest_exists, vault_tenant), wrapped
    )


def may_be_the_tenant(failure: AzureFailure) -> bool:
    """Whether a vault's refusal may hide one of Entra: only a new sign-in shows that a consent is gone."""
    said = failure.status == 403 and failure.code not in {"", "Http403"}
    return failure.stage is Stage.SERVICE and said and failure.inner_code not in NOT_THE_TENANT


def unanswered(timeout: AzureFailure, versions_in_use: Iterable[str], now: datetime) -> ProbeResult:
    """The result for a vault that does not answer, without a request: all versions have the same failure."""
    seen = VersionProbe(failure=timeout)
    return ProbeResult(KeyProbe(now, seen, dict.fromkeys(versions_in_use, seen)), {})


async def probe_versions(session: AzureSession, probed: ProbedKey, versions: Iterable[str], now: datetime) -> ProbeResult:
    """Probe only older versions of a key; `wanted` of the result is empty."""
    try:
        vault = _vault(session, probed)
    except EXPECTED_FAILURES as error:
        failed = VersionProbe(failure=failure_of(error))
        return ProbeResult(KeyProbe(now, VersionProbe(), dict.fromkeys(versions, failed)), {})
    wrapped: dict[str, Wrapped] = {}
    prober, names = _VersionProber(vault, probed.key_uri, wrapped, None), list(versions)
    seen = await asyncio.gather(*(_probe_version(prober, version) for version in names))
    return ProbeResult(KeyProbe(now, VersionProbe(), dict(zip(names, seen, strict=True))), wrapped)


async def round_trip_again(
    session: AzureSession, probed: ProbedKey, versions: Iterable[str]
) -> Mapping[str, Wrapped] | AzureFailure | None:
    """Wrap a new secret with each version, and unwrap it; the timeout if the vault is silent, None for any other failure."""
    try:
        crypto = _vault(session, probed).crypto
        async with asyncio.timeout(PROBE_TIMEOUT):
            names = list(versions)
            done = await asyncio.gather(
                *(_round_trip(crypto, f"/keys/{probed.key_uri.key_name}/{version}") for version in names)
            )
    except EXPECTED_FAILURES as error:
        return _silence(error)
    found = {name: wrapped for name, wrapped in zip(names, done, strict=True) if wrapped is not None}
    return found if len(found) == len(names) else None


async def unwrap_again(session: AzureSession, probed: ProbedKey, wrapped: Mapping[str, Wrapped]) -> bool | AzureFailure:
    """Whether each version still unwraps what it wrapped before; the timeout if the vault is silent."""
    try:
        crypto = _vault(session, probed).crypto
        async with asyncio.timeout(PROBE_TIMEOUT):
            done = await asyncio.gather(
                *(_unwrap(crypto, f"/keys/{probed.key_uri.key_name}/{version}", kept) for version, kept in wrapped.items())
            )
    except EXPECTED_FAILURES as error:
        return _silence(error) or False
    return all(done)


def _silence(error: BaseException) -> AzureFailure | None:
    """The failure if the vault gave no answer in time; None if it answered, or Entra is the cause."""
    failure = failure_of(error)
    return failure if failure.code == TIMEOUT and failure.stage is Stage.SERVICE else None


async def denied_by_tenant(session: AzureSession, chain: IdentityChain, customer_tenant_id: str) -> AzureFailure | None:
    """Distinguish a missing consent from a missing role or vault; the refusal of Entra, or None.

    While a token is cached, a withdrawn consent looks to a vault like a missing role. Before the customer has consented, there
    is often no vault yet.
    """
    try:
        await session.fresh_sign_in(chain, customer_tenant_id)
    except EXPECTED_FAILURES as error:
        failure = failure_of(error)
        return failure if is_refusal(failure) else None
    return None


@dataclass(frozen=True, slots=True)
class _Vault:
    keys: KeyClient
    crypto: RestClient


def _vault(session: AzureSession, probed: ProbedKey) -> _Vault:
    """The clients of the key's vault. Raises `TokenUnavailableError` if there is no token file."""
    chain, tenant, url = probed.chain, probed.customer_tenant_id, probed.key_uri.vault_url
    crypto = session.rest(session.application(chain, tenant), url, chain.cloud.key_vault_scope)
    return _Vault(session.keys(chain, tenant, url), crypto)


async def _probe_wanted(prober: _VersionProber, key: KeyUri) -> tuple[VersionProbe, str | None]:
    try:
        return await prober(key.version), None
    except VaultInAnotherTenantError as error:
        return VersionProbe(failure=error.failure), error.vault_tenant


async def _probe_version(prober: _VersionProber, version: str) -> VersionProbe:
    try:
        return await prober(version)
    except VaultInAnotherTenantError as error:
        return VersionProbe(failure=error.failure)


@dataclass(frozen=True, slots=True)
class _VersionProber:
    """Reads a version (None: the latest), then wraps and unwraps with it, unless `known` shows it unchanged."""

    vault: _Vault
    key: KeyUri
    wrapped: dict[str, Wrapped]
    known: KeyProbe | None

    async def __call__(self, version: str | None) -> VersionProbe:
        attributes: KeyAttributes | None = None
        operation = "get"
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                attributes = await read_attributes(self.vault.keys, self.key.key_name, version)
                if not attributes.enabled:
                    return VersionProbe(attributes)
                if self._passed(attributes):
                    return VersionProbe(attributes, round_trip=True)
                path = f"/keys/{self.key.key_name}/{attributes.version}"
                operation = "wrapKey"
                wrapped = await _wrap(self.vault.crypto, path)
                operation = "unwrapKey"
                same = await _unwrap(self.vault.crypto, path, wrapped)
                self.wrapped[attributes.version] = wrapped
                return VersionProbe(attributes, round_trip=same)
        except VaultInAnotherTenantError:
            raise
        except EXPECTED_FAILURES as error:
            return VersionProbe(attributes, failure_of(error), operation)

    def _passed(self, attributes: KeyAttributes) -> bool:
        if self.known is None:
            return False
        before = (self.known.wanted, *self.known.in_use.values())
        return any(one.round_trip and one.failure is None and one.attributes == attributes for one in before)


async def _wrap(crypto: RestClient, path: str) -> Wrapped:
    # CryptographyClient.wrap_key works locally once it has the public key, and would prove nothing.
    secret = secrets.token_bytes(32)
    return Wrapped(secret, _encode(await _operate(crypto, f"{path}/wrapkey", _encode(secret))))


async def _round_trip(crypto: RestClient, path: str) -> Wrapped | None:
    wrapped = await _wrap(crypto, path)
    return wrapped if await _unwrap(crypto, path, wrapped) else None


async def _unwrap(crypto: RestClient, path: str, wrapped: Wrapped) -> bool:
    return secrets.compare_digest(await _operate(crypto, f"{path}/unwrapkey", wrapped.value), wrapped.secret)


async def read_attributes(keys: KeyClient, name: str, version: str | None) -> KeyAttributes:
    """GET a version (None: the latest). Raises `UnreadableError` for an answer that is not that key."""
    headers: Mapping[str, str] = {}
    enabled: object = None

    def take_answer(response: Any) -> None:  # noqa: ANN401 - azure-core's PipelineResponse, whose types it does not pass on
        nonlocal headers, enabled
        if response.http_response.status_code == HTTPStatus.OK:
            headers = response.http_response.headers
            enabled = response.http_response.json()["attributes"].get("enabled")

    with typed_answer():
        found = await keys.get_key(name, version, raw_response_hook=take_answer)
        if not isinstance(enabled, bool | None):  # the SDK reads any text as true
            raise TypeError("enabled")
        _require_key(str(found.id), name, version)
        if parse_reported_key_uri(str(found.id)).vault_url != keys.vault_url.lower().rstrip("/"):
            raise ValueError("kid")
        return attributes_of(found, headers.get(REGION_HEADER, ""), headers.get("x-ms-request-id"))


async def _operate(crypto: RestClient, path: str, value: str) -> bytes:
    body = {"alg": _ALGORITHM, "value": value}
    answer = await crypto.call("POST", path, {"api-version": API_VERSION}, body)
    _, _, name, version, _ = path.split("/")
    with typed_answer():
        _require_key(answer["kid"], name, version)
        return _decode(answer["value"])


def _require_key(kid: str, name: str, version: str | None) -> None:
    """Raise ValueError for an answer about another key or version than the one that was asked for, or about none."""
    found = parse_reported_key_uri(kid)
    if found.key_name.lower() != name.lower() or found.version is None or version not in {None, found.version}:
        raise ValueError("kid")


async def _explain_absence(keys: KeyClient, key: KeyUri, wanted: VersionProbe) -> tuple[DeletedKey | None, bool | None]:
    """For a key that was not found: whether it is soft-deleted, and whether only the version is missing.

    `(None, None)`: the vault did not answer, so neither is known.
    """
    if wanted.failure is None or wanted.failure.status != 404:
        return None, None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            if key.version is not None and await _exists(keys, key):
                return None, True
            with typed_answer():
                deleted = await keys.get_deleted_key(key.key_name)
                return DeletedKey(deleted.scheduled_purge_date), False
    except EXPECTED_FAILURES as error:
        return None, False if failure_of(error).status == 404 else None


async def _exists(keys: KeyClient, key: KeyUri) -> bool:
    try:
        with typed_answer():
            await keys.get_key(key.key_name)
    except EXPECTED_FAILURES as error:
        status = failure_of(error).status
        if status not in {403, 404}:
            raise
        return status == 403  # 403 means that there is a version, which may not be read
    return True


def attributes_of(key: KeyVaultKey, region: str = "", request_id: str | None = None) -> KeyAttributes:
    """The facts of a key bundle, without the public key itself; `region` and `request_id` come from the vault's headers."""
    properties = key.properties
    modulus = getattr(key.key, "n", None)
    return KeyAttributes(
        version=str(properties.version),
        enabled=properties.enabled is not False,
        key_type=_text(key.key_type),
        key_size=len(modulus.lstrip(b"\0")) * 8 if modulus else None,
        operations=tuple(_text(operation) for operation in key.key_operations or ()),
        created=properties.created_on,
        updated=properties.updated_on,
        not_before=properties.not_before,
        expires=properties.expires_on,
        recovery_level=_text(properties.recovery_level),
        recoverable_days=properties.recoverable_days,
        vault_region=reported_region(region),
        request_id=request_id,
    )


def _text(value: object) -> str:
    """The text of an SDK enum, of a newer value that the SDK does not know, or an empty string for None."""
    return str(getattr(value, "value", value) or "")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    """Decode base64url. Raises ValueError or TypeError for any other text."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
