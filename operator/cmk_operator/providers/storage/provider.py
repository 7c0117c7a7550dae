"""Storage accounts through azure-mgmt-storage: one list a subscription for steady state, one read before a write."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azure.mgmt.storage.aio import StorageManagementClient
from azure.mgmt.storage.models import StorageAccountUpdateParameters

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.providers.protocol import Applied, Plan, ResourceFacts
from cmk_operator.providers.storage.encryption import StorageAccountDetail, plan_key, plan_platform_key, read_account

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineResponse

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.arm_id import ArmId
    from cmk_operator.core.azure_failure import AzureFailure
    from cmk_operator.core.protection import KeyChoice

Facts = ResourceFacts[StorageAccountDetail]


@dataclass(slots=True)
class _Listing:
    """The accounts of one subscription as one list call told them."""

    at: float = float("-inf")
    accounts: dict[str, Facts] = field(default_factory=dict)
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
            account = await self._client(chain, target.subscription_id).storage_accounts.get_properties(
                target.resource_group, target.name
            )
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        return self._remember(chain, target, read_account(account.as_dict()))

    async def _listing(self, chain: IdentityChain, subscription_id: str, max_age: float) -> _Listing:
        listing = self._listings.setdefault((chain, subscription_id), _Listing())
        async with listing.lock:
            if time.monotonic() - listing.at > max_age:
                pages = self._client(chain, subscription_id).storage_accounts.list()
                found = {str(account["id"]).lower(): read_account(account.as_dict()) async for account in pages}
                listing.accounts, listing.at = found, time.monotonic()
        return listing

    def _remember(self, chain: IdentityChain, target: ArmId, facts: Facts) -> Facts:
        """Put a newer reading into the list, so that the list never takes a later pass back in time."""
        listing = self._listings.get((chain, target.subscription_id))
        if listing is not None:
            listing.accounts[target.key] = facts
        return facts

    def plan(self, want: KeyChoice, seen: Facts) -> Plan | None:
        """See `encryption.plan_key`."""
        return plan_key(want, seen)

    def plan_revert(self, seen: Facts) -> Plan | None:
        """See `encryption.plan_platform_key`."""
        return plan_platform_key(seen)

    async def apply(self, chain: IdentityChain, target: ArmId, plan: Plan) -> Applied[StorageAccountDetail] | AzureFailure:
        """PATCH the account; the answer is its state after the change."""
        request_id: list[str | None] = []

        def note_request_id(response: PipelineResponse[Any, Any], account: Any, _: object) -> Any:  # noqa: ANN401 - the SDK's hook
            request_id.append(response.http_response.headers.get("x-ms-request-id"))
            return account

        try:
            account = await self._client(chain, target.subscription_id).storage_accounts.update(
                target.resource_group, target.name, StorageAccountUpdateParameters(dict(plan.body)), cls=note_request_id
            )
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        facts = self._remember(chain, target, read_account(account.as_dict()))
        return Applied(facts, request_id[0] if request_id else None)

    def _client(self, chain: IdentityChain, subscription_id: str) -> StorageManagementClient:
        return self._session.client(
            ("storage", chain, subscription_id),
            lambda options: StorageManagementClient(
                self._session.managed_identity(chain),
                subscription_id,
                base_url=f"https://{chain.cloud.resource_manager}",
                credential_scopes=[chain.cloud.resource_manager_scope],
                **options,
            ),
        )
