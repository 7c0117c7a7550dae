"""The provider of storage accounts: one list for each subscription for drift checks, and one for many writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.arm import ArmProvider, unreadable_parts
from cmk_operator.providers.listing import Listing
from cmk_operator.providers.protocol import is_readable
from cmk_operator.providers.storage.accounts import Facts, StorageAccounts
from cmk_operator.providers.storage.encryption import StorageAccountDetail, plan_key, plan_platform_key
from cmk_operator.providers.storage.faults import judge_storage_failure, recognized
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT
from cmk_operator.providers.storage.parts import ACCOUNTS, SCOPES

if TYPE_CHECKING:
    from azure.mgmt.storage.types import StorageAccountUpdateParameters

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.encryption.coverage import Parts
    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.providers.protocol import Applied, Plan, Provider, Target


class StorageAccountProvider(ArmProvider):
    """Encrypts storage accounts with a customer's key. The PATCH of an account is synchronous and idempotent."""

    kind = STORAGE_ACCOUNT
    has_parts = True

    def __init__(self, session: AzureSession, list_max_age: float) -> None:
        super().__init__(session)
        self._accounts = StorageAccounts(session)
        self._one_by_one: set[str] = set()
        """Accounts for which Azure refused to change identity and key in one request; after a restart it refuses once more."""
        self._listing = Listing(session, self._accounts, list_max_age, is_readable)

    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> Facts | AzureFailure:
        """The account, from the subscription's list if that is young enough."""
        try:
            return await self._listing.get(chain, target.id, max_age)
        except EXPECTED_FAILURES as error:
            return failure_of(error)

    async def observe_before_write(self, chain: IdentityChain, target: Target) -> Facts | AzureFailure:
        """The account; if many are due, from a list that is a few seconds old (docs/decisions/0080)."""
        try:
            return await self._listing.before_write(chain, target.id)
        except EXPECTED_FAILURES as error:
            return failure_of(error)

    async def read_parts(self, chain: IdentityChain, target: Target, seen: Facts) -> Parts | AzureFailure:  # noqa: ARG002 - the list says all
        """The account's encryption scopes, by one list."""
        try:
            return await self._accounts.parts(chain, target.id)
        except EXPECTED_FAILURES as error:
            return unreadable_parts(failure_of(error), SCOPES, f"{ACCOUNTS}/encryptionScopes/read on the account")

    def plan(self, target: Target, want: KeyChoice, seen: Facts) -> Plan[StorageAccountUpdateParameters] | Fault | None:
        """See `encryption.plan_key`."""
        return plan_key(want, seen, one_by_one=target.id.key in self._one_by_one)

    def plan_revert(self, target: Target, seen: Facts) -> Plan[StorageAccountUpdateParameters] | Fault | None:  # noqa: ARG002 - the account's facts say all
        """See `encryption.plan_platform_key`."""
        return plan_platform_key(seen)

    async def apply(
        self, chain: IdentityChain, target: Target, plan: Plan[StorageAccountUpdateParameters]
    ) -> Applied[StorageAccountDetail] | AzureFailure:
        """PATCH the account."""
        try:
            applied = await self._accounts.update(chain, target.id, plan.body)
        except EXPECTED_FAILURES as error:
            failure = recognized(failure_of(error), plan)
            if failure.code == Reason.CHANGE_NEEDS_TWO_REQUESTS.value:
                self._one_by_one.add(target.id.key)
            return failure
        finally:
            self._listing.written(chain, target.id)
        if "keyvaultproperties" in plan.body["properties"]["encryption"]:
            self._one_by_one.discard(target.id.key)
        self._listing.remember(chain, target.id, applied.facts)
        return applied

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """See `judge_storage_failure`."""
        return judge_storage_failure(failure, name)


def make_providers(session: AzureSession, list_max_age: float) -> tuple[Provider[Any, Any], ...]:
    """The provider of storage accounts."""
    return (StorageAccountProvider(session, list_max_age),)
