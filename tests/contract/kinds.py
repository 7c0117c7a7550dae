"""The kinds that the suite runs over; a guard fails when the registry knows one that is not here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.contract.world import Kind

if TYPE_CHECKING:
    from tests.contract.world import World


async def _storage_account(world: World, name: str) -> str:
    return await world.provider_admin.create_storage_account(name)


KINDS = (Kind("microsoft.storage/storageaccounts", _storage_account),)
