"""Reads the control plane of vaults in customers' tenants, as the application; all keys of a vault share one read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import typed_answer
from cmk_operator.azure.table import Table
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.identifiers.arm_id import InvalidArmIdError, parse_arm_id
from cmk_operator.core.prerequisites.vault_facts import (
    VaultFacts,
    VaultLock,
    VaultNotVisible,
    host_of_vault,
    vault_facts,
    vault_lock,
)

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.rest import RestClient
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId

VAULTS: Final = "2026-02-01"
LOCKS: Final = "2020-05-01"
SUBSCRIPTIONS: Final = "2022-12-01"
RESOURCES: Final = "2021-04-01"
MOST_SUBSCRIPTIONS: Final = 20
"""Most subscriptions in which a vault is searched. If the application has roles in more, the manifest must name the vault's id."""
_READ_TIMEOUT: Final = 10.0
"""Seconds; short, because the key's status waits for the read."""


@dataclass(frozen=True, slots=True)
class ReadVault:
    """A vault, and the identity that reads it; `resource_id` is set if a manifest names it."""

    chain: IdentityChain
    customer_tenant_id: str
    host: str
    resource_id: ArmId | None = None


@dataclass(slots=True)
class _Reads:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = float("-inf")
    seen_at: float = float("-inf")
    """When the vault itself last answered."""
    last: VaultFacts | VaultNotVisible = VaultNotVisible.NOT_READ
    found: ArmId | None = None


class VaultReader:
    """Reads vaults and keeps the last facts of each; for a while, a read that gets no answer does not replace them."""

    def __init__(self, session: AzureSession, valid_for: float) -> None:
        """`valid_for`: seconds for which facts may be claimed although the vault gives no answer any more."""
        self._session = session
        self._valid_for = valid_for
        self._reads: Table[ReadVault, _Reads] = Table(lambda _: _Reads(), session.monotonic)

    def drop_unused(self) -> None:
        """Drop vaults that were not read for an hour."""
        self._reads.drop_unused()

    def held(self) -> int:
        """The number of vaults held in memory."""
        return len(self._reads)

    async def read(self, vault: ReadVault, max_age: float) -> VaultFacts | VaultNotVisible:
        """Facts at most `max_age` seconds old, or why there are none; returns refusals of Azure and Entra as values."""
        reads = self._reads[vault]
        async with reads.lock:
            if self._session.monotonic() - reads.at > max_age:
                found = await self._read(vault, reads)
                now = self._session.monotonic()
                silent = found is VaultNotVisible.NO_ANSWER and isinstance(reads.last, VaultFacts)
                if not silent:
                    reads.last, reads.seen_at = found, now
                elif now - reads.seen_at >= self._valid_for:
                    reads.last = found
                reads.at = now
            return reads.last

    def last(self, vault: ReadVault) -> VaultFacts | VaultNotVisible:
        """The result of the last read; sends no request."""
        reads = self._reads.find(vault)
        return reads.last if reads is not None else VaultNotVisible.NOT_READ

    async def _read(self, vault: ReadVault, reads: _Reads) -> VaultFacts | VaultNotVisible:
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                arm = self._session.customer_resource_manager(vault.chain, vault.customer_tenant_id)
                reads.found = vault.resource_id or reads.found or await _find(arm, vault.host)
                if reads.found is None:
                    return VaultNotVisible.NOT_GRANTED
                body = await arm.call("GET", reads.found.text, {"api-version": VAULTS})
                with typed_answer():
                    _require_vault(body)
                    if host_of_vault(body) != vault.host.lower():
                        reads.found = None
                        return VaultNotVisible.ANOTHER_VAULT
                    return vault_facts(body, *await _locks(arm, reads.found))
        except EXPECTED_FAILURES as error:
            reads.found = None
            return _why_unseen(failure_of(error))


def _require_vault(body: dict[str, Any]) -> None:
    """Raises TypeError or KeyError for an answer that is not a vault: a missing field would read as a setting that is off."""
    properties = body["properties"]
    expected = {
        "vaultUri": str,
        "enablePurgeProtection": bool | None,
        "softDeleteRetentionInDays": int | None,
        "publicNetworkAccess": str | None,
        "networkAcls": dict | None,
    }
    for name, kind in expected.items():
        if not isinstance(properties.get(name), kind) or (kind == int | None and isinstance(properties.get(name), bool)):
            raise TypeError(name)
    for name in ("defaultAction", "bypass"):
        if not isinstance((properties.get("networkAcls") or {}).get(name), str | None):
            raise TypeError(name)


def _why_unseen(failure: AzureFailure) -> VaultNotVisible:
    """Why a read failed: a refusal with a code of Resource Manager means that a role is missing; all else is NO_ANSWER."""
    if failure.code == "InvalidAuthenticationTokenTenant":
        return VaultNotVisible.ANOTHER_VAULT
    refused = failure.stage is Stage.SERVICE and failure.status in {403, 404} and failure.code != f"Http{failure.status}"
    return VaultNotVisible.NOT_GRANTED if refused else VaultNotVisible.NO_ANSWER


async def _find(arm: RestClient, host: str) -> ArmId | None:
    """Search the vault in the subscriptions that the application can list, which are those where it has a role."""
    name = host.partition(".")[0]
    query = {"api-version": RESOURCES, "$filter": f"resourceType eq 'Microsoft.KeyVault/vaults' and name eq '{name}'"}
    subscriptions = [one async for page in arm.pages("/subscriptions", {"api-version": SUBSCRIPTIONS}) for one in page]
    for subscription in subscriptions[:MOST_SUBSCRIPTIONS]:
        async for page in arm.pages(f"/subscriptions/{subscription.get('subscriptionId')}/resources", query):
            found = [vault for vault in map(_parsed, page) if vault is not None]
            if found:
                return found[0]
    return None


def _parsed(resource: dict[str, Any]) -> ArmId | None:
    try:
        return parse_arm_id(str(resource.get("id", "")))
    except InvalidArmIdError:
        return None


async def _locks(arm: RestClient, vault: ArmId) -> tuple[list[VaultLock] | None, int]:
    """Locks above the vault, on it and below it (its keys), and how many of them cannot be read.

    None if the application may not read them.
    """
    path = f"{vault}/providers/Microsoft.Authorization/locks"
    try:
        found = [lock async for page in arm.entries(path, {"api-version": LOCKS}) for lock in map(vault_lock, page)]
    except EXPECTED_FAILURES as error:
        if _why_unseen(failure_of(error)) is VaultNotVisible.NOT_GRANTED:
            return None, 0
        raise
    return [lock for lock in found if lock is not None], found.count(None)
