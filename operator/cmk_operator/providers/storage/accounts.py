"""Storage accounts through azure-mgmt-storage: one list for each subscription, one request for each read and each change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.azure.management import Received, entries_of, pages_of, read_alike_once, typed_answer, whole
from cmk_operator.core.encryption.coverage import Parts
from cmk_operator.providers.protocol import Applied, ResourceFacts
from cmk_operator.providers.storage.encryption import StorageAccountDetail, read_account
from cmk_operator.providers.storage.parts import part_of_scope
from cmk_operator.providers.storage.sdk import STORAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId

Facts = ResourceFacts[StorageAccountDetail]


class StorageAccounts:
    """The calls for storage accounts; each raises what an Azure call raises."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def read(self, chain: IdentityChain, target: ArmId) -> Facts:
        """GET one account."""
        client = await self._session.management(STORAGE, chain, target.subscription_id)
        with typed_answer():
            return read_account(whole(await client.storage_accounts.get_properties(target.resource_group, target.name)))

    async def pages(self, chain: IdentityChain, subscription_id: str) -> AsyncIterator[list[tuple[str, Facts | None]]]:
        """GET all accounts of the subscription."""
        client = await self._session.management(STORAGE, chain, subscription_id)
        from azure.mgmt.storage.models import StorageAccount

        read = read_alike_once(lambda one: read_account(StorageAccount(one)))
        async for page in entries_of(client.storage_accounts.list, read):
            yield page

    async def parts(self, chain: IdentityChain, target: ArmId) -> Parts:
        """List the encryption scopes of one account. None is left out: one that cannot be read makes the list unreadable."""
        client = await self._session.management(STORAGE, chain, target.subscription_id)
        scopes = [
            scope
            async for page in pages_of(client.encryption_scopes.list(target.resource_group, target.name))
            for scope in page
        ]
        with typed_answer():
            return Parts(tuple(map(part_of_scope, scopes)))

    async def update(self, chain: IdentityChain, target: ArmId, body: Mapping[str, Any]) -> Applied[StorageAccountDetail]:
        """PATCH one account; returns its state after the change."""
        client = await self._session.management(STORAGE, chain, target.subscription_id)
        from azure.mgmt.storage.models import StorageAccountUpdateParameters

        parameters, received = StorageAccountUpdateParameters(body), Received()
        with typed_answer():
            account = await client.storage_accounts.update(target.resource_group, target.name, parameters, cls=received)
            return Applied(read_account(account), received.request_id)
