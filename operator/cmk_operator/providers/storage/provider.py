"""Storage accounts through Resource Manager: one list a subscription for steady state, one read before a write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.providers.arm import ArmProvider
from cmk_operator.providers.listing import ByRest, Listing
from cmk_operator.providers.protocol import Applied, Plan, ResourceFacts, Target
from cmk_operator.providers.storage.encryption import StorageAccountDetail, plan_key, plan_platform_key, read_account
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.providers.protocol import Provider

Facts = ResourceFacts[StorageAccountDetail]
API_VERSION: Final = "2026-09-01"


class StorageAccountProvider(ArmProvider):
    """Puts storage accounts on a customer's key. PATCH of an account is synchronous, and idempotent."""

    kind = STORAGE_ACCOUNT

    def __init__(self, session: AzureSession, list_max_age: float) -> None:
        super().__init__(session)
        accounts = ByRest(session, "Microsoft.Storage/storageAccounts", API_VERSION, read_account)
        self._accounts = Listing(session, accounts, list_max_age)

    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> Facts | AzureFailure:
        """The account, from the subscription's list where that is young enough."""
        try:
            return await self._accounts.get(chain, target.id, max_age)
        except EXPECTED_FAILURES as error:
            return failure_of(error)

    def plan(self, target: Target, want: KeyChoice, seen: Facts) -> Plan | None:  # noqa: ARG002 - the account's facts say all
        """See `encryption.plan_key`."""
        return plan_key(want, seen)

    def plan_revert(self, target: Target, seen: Facts) -> Plan | None:  # noqa: ARG002 - the account's facts say all
        """See `encryption.plan_platform_key`."""
        return plan_platform_key(seen)

    async def apply(self, chain: IdentityChain, target: Target, plan: Plan) -> Applied[StorageAccountDetail] | AzureFailure:
        """PATCH the account; the answer is its state after the change."""
        query = {"api-version": API_VERSION}
        try:
            answer = await self._session.resource_manager(chain).send(plan.method, target.id.text, query, plan.body)
        except EXPECTED_FAILURES as error:
            return failure_of(error)
        return Applied(self._accounts.remember(chain, target.id, read_account(answer.body)), answer.request_id)

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """See `judge_arm_failure`."""
        return judge_arm_failure(failure, name, "Storage Account Contributor")


def make_providers(session: AzureSession, list_max_age: float) -> tuple[Provider[Any, Any], ...]:
    """The one of storage accounts."""
    return (StorageAccountProvider(session, list_max_age),)
