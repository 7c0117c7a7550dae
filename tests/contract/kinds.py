"""The kinds that the suite runs over; a guard fails when the registry knows one that is not here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.disk.options import DiskEncryptionSetCreation, DiskPlacement
from cmk_operator.providers.protocol import Target
from cmk_operator.providers.registry import make_providers
from tests.contract.world import Kind, Subject, World

if TYPE_CHECKING:
    from cmk_operator.core.encryption.protection import KeyChoice

_CREATION = DiskEncryptionSetCreation("westeurope", "EncryptionAtRestWithCustomerKey")
_SETS = "microsoft.compute/diskencryptionsets"


async def _storage_account(world: World, name: str) -> str:
    return await world.provider_admin.create_storage_account(name)


async def _absent_set(world: World, name: str) -> str:
    return world.provider_admin.compute.id_of("diskEncryptionSets", name)


async def _disk(world: World, name: str) -> str:
    return await world.provider_admin.compute.create_disk(name)


def _set_of(world: World) -> ArmId:
    return ArmId(world.provider_admin.compute.id_of("diskEncryptionSets", f"{world.name}-set"))


async def _bring_the_set(subject: Subject, want: KeyChoice) -> None:
    """A disk takes its key from its set, so the set comes first."""
    provider = make_providers(subject.world.session, 0.001)[_SETS]
    target = Target(_set_of(subject.world), _CREATION, lambda _: True)
    await replace(subject, provider=provider, target=target, kind=SETS).bring(want)


async def _sql_server(world: World, name: str) -> str:
    return await world.provider_admin.sql.create_server(name)


async def _sql_database(world: World, name: str) -> str:
    return await world.provider_admin.sql.create_database(await _sql_server(world, name), "orders")


HSM_KEY = "https://contoso.managedhsm.azure.net/keys/cmk"
SETS = Kind(
    _SETS,
    _absent_set,
    options=lambda _: _CREATION,
    reverts=False,
    on_another_key={"/properties/activeKey/keyUrl": HSM_KEY},
    lacking=({"/properties/activeKey": None}, {"/properties/rotationToLatestKeyVersionEnabled": "false"}),
)
KINDS = (
    Kind(
        "microsoft.storage/storageaccounts",
        _storage_account,
        on_another_key={"/properties/encryption/keyvaultproperties/keyvaulturi": "https://contoso.managedhsm.azure.net"},
        lacking=({"/properties/encryption": None}, {"/properties/encryption/keyvaultproperties": []}),
    ),
    Kind(
        "microsoft.sql/servers",
        _sql_server,
        shown_at="/encryptionProtector/current",
        on_another_key={"/properties/uri": HSM_KEY},
        lacking=({"/properties/serverKeyType": None}, {"/properties/uri": 7}),
    ),
    Kind(
        "microsoft.sql/servers/databases",
        _sql_database,
        on_another_key={"/properties/encryptionProtector": HSM_KEY},
        lacking=({"/properties/encryptionProtector": {}}, {"/properties/status": None}),
    ),
    SETS,
    Kind(
        "microsoft.compute/disks",
        _disk,
        options=lambda world: DiskPlacement(_set_of(world)),
        before=_bring_the_set,
        takes_the_key_itself=False,
        on_another_key={"/properties/encryption": {"type": "EncryptionAtRestWithSomethingNew"}},
        lacking=({"/properties/encryption": None}, {"/properties/encryption/diskEncryptionSetId": None}),
    ),
)
