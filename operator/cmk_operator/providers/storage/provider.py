"""Storage accounts through Resource Manager: one list a subscription for steady state, one read before a write."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.providers.protocol import Applied, Plan, ResourceFacts
from cmk_operator.providers.storage.encryption import StorageAccountDetail, plan_key, plan_platform_key, read_account

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.arm_id import ArmId
    from cmk_operator.core.azure_failure import AzureFailure
    from cmk_operator.core.protection import KeyChoice

Facts = ResourceFacts[StorageAccountDetail]
API_VERSION: Final = "2026-09-01"
_QUERY: Final = {"api-version": API_VERSION}


@dataclass(slots=True)
class _Listing:
    """The accounts of one subscription as the last list told them, and as they were read by themselves since."""

    at: float = float("-inf")
    accounts: dict[str, Facts] = field(default_factory=dict)
    read: dict[str, tuple[float, Facts]] = field(default_factory=dict)
    """Single readings and answers to writes, each with its time: newer than a list that was under way meanwhile."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class StorageAccountProvider:
    """Puts storage accounts on a customer's key. PATCH of an account is synchronous, and idempotent."""

    resource_type = "microsoft.storage/storageaccounts"
    shown_kind = "StorageAccount"

    def __init__(self, session: AzureSession, list_max_age: float) -> None:
        self._session = session
        self._list_max_age = list_max_age
        self._listings: dict[tuple[IdentityChain, str], _Listing] = {}

    async def observe(self, chain: IdentityChain, target: ArmId, *, max_age: float) -> Facts | AzureFailure:
        """The account from the subscription's list if that is young enough, else (or if it is not listed) by itself."""
        try:
            if max_age > 0:
                listing = await self._listing(chain, target.subscription_id, min(max_age, self._list_max_age))
                listed = listing.accounts.get(target.key)
                if listed is not None:
                    return listed
            account = await self._session.resource_manager(chain).call("GET", target.text, _QUERY)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        return self._remember(chain, target, read_account(account))

    async def _listing(self, chain: IdentityChain, subscription_id: str, max_age: float) -> _Listing:
        listing = self._listings.setdefault((chain, subscription_id), _Listing())
        async with listing.lock:
            if time.monotonic() - listing.at > max_age:
                await self._list(chain, subscription_id, listing)
        return listing

    async def _list(self, chain: IdentityChain, subscription_id: str, listing: _Listing) -> None:
        began = time.monotonic()
        path = f"/subscriptions/{subscription_id}/providers/Microsoft.Storage/storageAccounts"
        # Most accounts of a subscription look alike to us, so equal facts are kept once.
        alike: dict[Facts, Facts] = {}
        found: dict[str, Facts] = {}
        async for page in self._session.resource_manager(chain).pages(path, _QUERY):
            for account in page:
                facts = read_account(account)
                found[str(account["id"]).lower()] = alike.setdefault(facts, facts)
        listing.read = {key: (at, facts) for key, (at, facts) in listing.read.items() if at > began}
        found |= {key: facts for key, (_, facts) in listing.read.items()}
        listing.accounts, listing.at = found, time.monotonic()

    def _remember(self, chain: IdentityChain, target: ArmId, facts: Facts) -> Facts:
        """Put a newer reading into the list, so that no list takes a later pass back in time."""
        listing = self._listings.get((chain, target.subscription_id))
        if listing is not None:
            listing.accounts[target.key] = facts
            listing.read[target.key] = (time.monotonic(), facts)
        return facts

    def plan(self, want: KeyChoice, seen: Facts) -> Plan | None:
        """See `encryption.plan_key`."""
        return plan_key(want, seen)

    def plan_revert(self, seen: Facts) -> Plan | None:
        """See `encryption.plan_platform_key`."""
        return plan_platform_key(seen)

    async def apply(self, chain: IdentityChain, target: ArmId, plan: Plan) -> Applied[StorageAccountDetail] | AzureFailure:
        """PATCH the account; the answer is its state after the change."""
        try:
            answer = await self._session.resource_manager(chain).send("PATCH", target.text, _QUERY, plan.body)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        return Applied(self._remember(chain, target, read_account(answer.body)), answer.request_id)
