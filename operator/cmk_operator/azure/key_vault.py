"""Visits a key in a vault: reads it, then wraps and unwraps in the vault itself."""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.credentials import IdentityChain, VaultInAnotherTenantError
from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.core.access import DeletedKey, KeyAttributes, KeyProbe, VersionProbe
from cmk_operator.core.azure_failure import AzureFailure, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from azure.keyvault.keys import KeyVaultKey
    from azure.keyvault.keys.aio import KeyClient

    from cmk_operator.azure.rest import RestClient
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.key_uri import KeyUri

API_VERSION: Final = "2025-07-01"
PROBE_TIMEOUT: Final = 30.0
REGION_HEADER: Final = "x-ms-keyvault-region"
_ALGORITHM: Final = "RSA-OAEP-256"
_DENIED: Final = frozenset({"ForbiddenByRbac", "ForbiddenByPolicy", "AccessDenied"})


async def probe_key(
    session: AzureSession,
    chain: IdentityChain,
    customer_tenant_id: str,
    key: KeyUri,
    versions_in_use: Iterable[str],
    now: datetime,
) -> KeyProbe:
    """Probe the wanted version of `key` and every other version that still protects something.

    Never raises for what Azure, Entra or the network answer: those are values in the probe.
    """
    try:
        keys = session.keys(chain, customer_tenant_id, key.vault_url)
        crypto = session.rest(session.application(chain, customer_tenant_id), key.vault_url, chain.cloud.key_vault_scope)
    except EXPECTED_FAILURES as error:
        return KeyProbe(now, VersionProbe(failure=failure_of(error)))
    wanted, vault_tenant = await _probe_wanted(keys, crypto, key)
    if wanted.failure is not None and (wanted.failure.inner_code in _DENIED or not wanted.failure.answered):
        wanted = replace(wanted, failure=await _explain_denial(session, chain, customer_tenant_id) or wanted.failure)
    found = wanted.attributes.version if wanted.attributes is not None else None
    others = sorted(set(versions_in_use) - {found}) if vault_tenant is None else []
    if wanted.failure is not None and (wanted.failure.stage is not Stage.SERVICE or not wanted.failure.answered):
        # The vault was not reached: asking it for other versions would only wait for the same silence again.
        probed = [wanted] * len(others)
    else:
        probed = await asyncio.gather(*(_probe_version(keys, crypto, key, version) for version in others))
    deleted, latest_exists = await _explain_absence(keys, key, wanted)
    return KeyProbe(now, wanted, dict(zip(others, probed, strict=True)), deleted, latest_exists, vault_tenant)


async def _explain_denial(session: AzureSession, chain: IdentityChain, customer_tenant_id: str) -> AzureFailure | None:
    """Tell a missing consent from a missing role or vault.

    To a vault a withdrawn consent looks like a missing grant while a token is cached; and before the customer has consented,
    there often is no vault yet.
    """
    try:
        await session.fresh_sign_in(chain, customer_tenant_id)
    except EXPECTED_FAILURES as error:
        failure = failure_of(error)
        return failure if failure.entra_codes else None
    return None


async def _probe_wanted(keys: KeyClient, crypto: RestClient, key: KeyUri) -> tuple[VersionProbe, str | None]:
    try:
        return await _visit(keys, crypto, key, key.version), None
    except VaultInAnotherTenantError as error:
        return VersionProbe(failure=error.failure), error.vault_tenant


async def _probe_version(keys: KeyClient, crypto: RestClient, key: KeyUri, version: str) -> VersionProbe:
    try:
        return await _visit(keys, crypto, key, version)
    except VaultInAnotherTenantError as error:
        return VersionProbe(failure=error.failure)


async def _visit(keys: KeyClient, crypto: RestClient, key: KeyUri, version: str | None) -> VersionProbe:
    attributes: KeyAttributes | None = None
    operation = "get"
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            attributes = await _get(keys, key.key_name, version)
            if not attributes.enabled:
                return VersionProbe(attributes)
            path = f"/keys/{key.key_name}/{attributes.version}"
            operation = "wrapKey"
            secret = secrets.token_bytes(32)
            # CryptographyClient.wrap_key works locally once it has the public key and would prove nothing.
            wrapped = await _operate(crypto, f"{path}/wrapkey", _encode(secret))
            operation = "unwrapKey"
            unwrapped = await _operate(crypto, f"{path}/unwrapkey", wrapped)
            return VersionProbe(attributes, round_trip=secrets.compare_digest(_decode(unwrapped), secret))
    except VaultInAnotherTenantError:
        raise
    except EXPECTED_FAILURES as error:
        return VersionProbe(attributes, failure_of(error), operation)


async def _get(keys: KeyClient, name: str, version: str | None) -> KeyAttributes:
    headers: Mapping[str, str] = {}

    def take_headers(response: Any) -> None:  # noqa: ANN401 - azure-core's PipelineResponse, whose types it does not pass on
        nonlocal headers
        headers = response.http_response.headers

    found = await keys.get_key(name, version, raw_response_hook=take_headers)
    return attributes_of(found, headers.get(REGION_HEADER, ""), headers.get("x-ms-request-id"))


async def _operate(crypto: RestClient, path: str, value: str) -> str:
    body = {"alg": _ALGORITHM, "value": value}
    answer = await crypto.call("POST", path, {"api-version": API_VERSION}, body)
    return str(answer["value"])


async def _explain_absence(keys: KeyClient, key: KeyUri, wanted: VersionProbe) -> tuple[DeletedKey | None, bool | None]:
    """For a key that was not found: whether it is soft-deleted, and whether only the version is missing.

    `(None, None)`: the vault did not answer that, so neither is known.
    """
    if wanted.failure is None or wanted.failure.status != 404:
        return None, None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            if key.version is not None and await _exists(keys, key):
                return None, True
            deleted = await keys.get_deleted_key(key.key_name)
            return DeletedKey(deleted.scheduled_purge_date), False
    except EXPECTED_FAILURES as error:
        return None, False if failure_of(error).status == 404 else None


async def _exists(keys: KeyClient, key: KeyUri) -> bool:
    try:
        await keys.get_key(key.key_name)
    except EXPECTED_FAILURES as error:
        status = failure_of(error).status
        if status not in {403, 404}:
            raise
        return status == 403  # a version that may not be read is there
    return True


def attributes_of(key: KeyVaultKey, region: str = "", request_id: str | None = None) -> KeyAttributes:
    """The facts of a key bundle, without the public key itself; `region` and `request_id` are what the vault's headers said."""
    properties = key.properties
    modulus = getattr(key.key, "n", None)
    return KeyAttributes(
        version=str(properties.version),
        enabled=properties.enabled is not False,
        key_type=_text(key.key_type),
        key_size=len(modulus.lstrip(b"\0")) * 8 if modulus else None,
        operations=tuple(_text(operation) for operation in key.key_operations or ()),
        created=properties.created_on,
        not_before=properties.not_before,
        expires=properties.expires_on,
        recovery_level=_text(properties.recovery_level),
        recoverable_days=properties.recoverable_days,
        vault_region=region.replace(" ", "").lower() or None,
        request_id=request_id,
    )


def _text(value: object) -> str:
    """The wire value of what may be one of the SDK's enums, a newer value that it does not know, or None."""
    return str(getattr(value, "value", value) or "")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
