"""Storage accounts, disks and their sets through the SDKs: what goes over the wire, and what an answer of any shape becomes."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from azure.mgmt.compute.aio import ComputeManagementClient
from azure.mgmt.storage.aio import StorageManagementClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import Sdk, WholeAnswer
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.disk.compute import DiskEncryptionSets, Disks
from cmk_operator.providers.disk.disk import plan_disk
from cmk_operator.providers.disk.encryption_set import ChangeSet, CreateSet, DisksOfSet, plan_set, with_disks
from cmk_operator.providers.disk.options import DiskPlacement
from cmk_operator.providers.protocol import Applied, Plan, Started, Target
from cmk_operator.providers.storage.accounts import StorageAccounts
from cmk_operator.providers.storage.encryption import plan_key
from cmk_operator.providers.storage.sdk import STORAGE
from tests.unit.samples import APPLICATION, GROUP, IDENTITY, SUBSCRIPTION, V1, VAULT
from tests.unit.test_disk_encryption_sets import FOLLOW as DISK_KEY
from tests.unit.test_disk_encryption_sets import want as want_disk
from tests.unit.test_management import ARM, CHAIN, Answer, NoCredential, Wire, page
from tests.unit.test_storage_encryption import want

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azure.core.pipeline import PipelineRequest

ACCOUNT = ArmId(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/account")
SET = ArmId(f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/des")
DISK = ArmId(f"{GROUP}/providers/Microsoft.Compute/disks/data")


class Recorded(Wire):
    """As `Wire`, with the whole requests."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.requests: list[Any] = []

    async def send(self, request: PipelineRequest[Any]) -> Any:
        self.requests.append(request.http_request)
        return await super().send(request)


class Session:
    """Gives the SDKs' clients on a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def management(self, sdk: Sdk[Any], _: object, subscription_id: str) -> Any:
        kind = StorageManagementClient if sdk is STORAGE else ComputeManagementClient
        return kind(NoCredential(), subscription_id, ARM, policies=[WholeAnswer(sdk.fields), self._wire])


def session_on(wire: Wire) -> Any:
    return Session(wire)


async def read_account(wire: Wire) -> None:
    facts = await StorageAccounts(session_on(wire)).read(CHAIN, ACCOUNT)
    hash(facts)
    plan_key(want(), facts)


async def read_set(wire: Wire) -> None:
    facts = await DiskEncryptionSets(session_on(wire)).read(CHAIN, SET)
    hash(facts)
    plan_set(Target(SET, None, lambda _: True), want_disk(), with_disks(facts, SET, DisksOfSet()))


async def read_disk(wire: Wire) -> None:
    facts = await Disks(session_on(wire)).read(CHAIN, DISK)
    hash(facts)
    plan_disk(Target(DISK, DiskPlacement(SET), lambda _: True), want_disk(), facts)


async def list_accounts(wire: Wire) -> None:
    hash(tuple([tuple(found) async for found in StorageAccounts(session_on(wire)).pages(CHAIN, SUBSCRIPTION)]))


async def list_sets(wire: Wire) -> None:
    hash(tuple([tuple(found) async for found in DiskEncryptionSets(session_on(wire)).pages(CHAIN, SUBSCRIPTION)]))


async def list_disks(wire: Wire) -> None:
    hash(tuple([tuple(found) async for found in Disks(session_on(wire)).pages(CHAIN, SUBSCRIPTION)]))


async def list_scopes(wire: Wire) -> None:
    hash((await StorageAccounts(session_on(wire)).parts(CHAIN, ACCOUNT)).found)


READS: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "account": read_account,
    "set": read_set,
    "disk": read_disk,
    "accounts": list_accounts,
    "sets": list_sets,
    "disks": list_disks,
    "scopes": list_scopes,
}
PATHS = {
    "account": f"{ACCOUNT}?api-version=2026-09-01",
    "set": f"{SET}?api-version=2026-03-02",
    "disk": f"{DISK}?api-version=2026-03-02",
    "accounts": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts?api-version=2026-09-01",
    "sets": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/diskEncryptionSets?api-version=2026-03-02",
    "disks": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/disks?api-version=2026-03-02",
    "scopes": f"{ACCOUNT}/encryptionScopes?api-version=2026-09-01",
}
IDENTITIES = {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {"clientId": "x"}}}
ACCOUNT_BODY: dict[str, Any] = {
    "id": str(ACCOUNT),
    "identity": IDENTITIES,
    "properties": {
        "encryption": {
            "keySource": "Microsoft.Keyvault",
            "keyvaultproperties": {
                "keyname": "storage",
                "keyversion": "",
                "keyvaulturi": f"https://{VAULT}",
                "currentVersionedKeyIdentifier": f"https://{VAULT}/keys/storage/{V1}",
                "lastKeyRotationTimestamp": "2026-11-24T12:00:23.7023290Z",
            },
            "identity": {"userAssignedIdentity": IDENTITY, "federatedIdentityClientId": APPLICATION},
        }
    },
}
SCOPE_BODY: dict[str, Any] = {
    "id": f"{ACCOUNT}/encryptionScopes/logs",
    "properties": {
        "source": "Microsoft.KeyVault",
        "state": "Enabled",
        "keyVaultProperties": {"keyUri": f"https://{VAULT}/keys/storage"},
    },
}
SET_BODY: dict[str, Any] = {
    "id": str(SET),
    "name": "des",
    "location": "westeurope",
    "identity": IDENTITIES,
    "properties": {
        "encryptionType": "EncryptionAtRestWithCustomerKey",
        "activeKey": {"keyUrl": str(DISK_KEY.at(V1))},
        "previousKeys": [{"keyUrl": str(DISK_KEY.at(V1))}],
        "rotationToLatestKeyVersionEnabled": True,
        "federatedClientId": APPLICATION,
        "provisioningState": "Succeeded",
        "autoKeyRotationError": {"code": "ManagedServiceIdentityNotFound", "message": "gone"},
    },
}
DISK_BODY: dict[str, Any] = {
    "id": str(DISK),
    "location": "westeurope",
    "managedBy": f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm1",
    "managedByExtended": [f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm2"],
    "properties": {
        "encryption": {"type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": str(SET)},
        "diskState": "Attached",
        "provisioningState": "Succeeded",
        "timeCreated": "2026-11-24T12:00:23.7023290Z",
    },
}
ANSWERS: dict[str, dict[str, Any]] = {
    "account": ACCOUNT_BODY,
    "set": SET_BODY,
    "disk": DISK_BODY,
    "accounts": {"value": [ACCOUNT_BODY], "nextLink": None},
    "sets": {"value": [SET_BODY], "nextLink": None},
    "disks": {"value": [DISK_BODY], "nextLink": None},
    "scopes": {"value": [SCOPE_BODY]},
}
ODD: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, 7, 0.5, "", "text", "Creating", "Attached", str(DISK_KEY), f"{ARM}/next"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "type", "value"]), inner, max_size=2),
    max_leaves=4,
)


def places(body: Any) -> list[tuple[str | int, ...]]:
    """The way to each value in a body, the body itself among them."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [(), *((key, *rest) for key, value in inner for rest in places(value))]


def with_odd(body: Any, place: tuple[str | int, ...], odd: Any) -> Any:
    if not place:
        return odd
    changed = copy.copy(body)
    changed[place[0]] = with_odd(body[place[0]], place[1:], odd)
    return changed


@st.composite
def odd_answers(draw: st.DrawFn) -> tuple[str, Any]:
    what = draw(st.sampled_from(list(ANSWERS)))
    body: Any = ANSWERS[what]
    for _ in range(draw(st.integers(0, 2))):
        body = with_odd(body, draw(st.sampled_from(places(body))), draw(ODD))
    return what, body


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(odd_answers())
async def test_whatever_azure_answers_is_read_and_planned_or_is_a_listed_failure(answer: tuple[str, Any]) -> None:
    what, body = answer
    with suppress(*EXPECTED_FAILURES):
        await READS[what](Wire(Answer(200, body), page()))


@pytest.mark.parametrize("what", READS)
async def test_what_azure_answers_usually_is_read(what: str) -> None:
    await READS[what](Wire(Answer(200, ANSWERS[what])))


@pytest.mark.parametrize("what", READS)
async def test_each_reading_is_one_request(what: str) -> None:
    wire = Recorded(Answer(200, {"value": [], "properties": {}}))
    await READS[what](wire)
    assert [request.method for request in wire.requests] == ["GET"]
    assert wire.urls == [f"{ARM}{PATHS[what]}"]


PATCH = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
SET_PATCH: Any = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}}, "properties": {}}
SET_PUT: Any = {"location": "westeurope", **SET_PATCH}
DISK_PATCH = {"properties": {"encryption": {"type": "EncryptionAtRestWithPlatformKey"}}}


async def change_account(wire: Wire) -> object:
    return await StorageAccounts(session_on(wire)).update(CHAIN, ACCOUNT, PATCH)


async def change_set(wire: Wire) -> object:
    return await DiskEncryptionSets(session_on(wire)).send(CHAIN, SET, Plan(ChangeSet(SET_PATCH), (), "move the set"))


async def create_set(wire: Wire) -> object:
    return await DiskEncryptionSets(session_on(wire)).send(CHAIN, SET, Plan(CreateSet(SET_PUT), (), "make the set"))


async def change_disk(wire: Wire) -> object:
    return await Disks(session_on(wire)).update(CHAIN, DISK, DISK_PATCH, "move the disk")


CHANGES: list[tuple[Callable[[Wire], Awaitable[object]], str, dict[str, Any]]] = [
    (change_account, "PATCH", PATCH),
    (change_set, "PATCH", SET_PATCH),
    (create_set, "PUT", SET_PUT),
    (change_disk, "PATCH", DISK_PATCH),
]


@pytest.mark.parametrize(("change", "method", "body"), CHANGES)
async def test_a_change_is_one_request_with_the_planned_body_and_no_other_field(
    change: Callable[[Wire], Awaitable[object]], method: str, body: dict[str, Any]
) -> None:
    wire = Recorded(Answer(200, {"properties": {}}, {"x-ms-request-id": "r-1"}))
    applied = await change(wire)
    assert isinstance(applied, Applied)
    assert applied.request_id == "r-1"
    assert [(request.method, json.loads(request.content)) for request in wire.requests] == [(method, body)]


@pytest.mark.parametrize("change", [change_set, create_set, change_disk])
async def test_a_change_that_azure_carries_out_by_itself_is_an_operation(change: Callable[[Wire], Awaitable[object]]) -> None:
    headers = {"Azure-AsyncOperation": f"{ARM}/operations/1", "x-ms-request-id": "r-2", "Retry-After": "3"}
    wire = Wire(Answer(202, None, headers))
    begun = await change(wire)
    assert isinstance(begun, Started)
    assert (begun.operation.token, begun.operation.request_id, begun.retry_after) == (f"{ARM}/operations/1", "r-2", 3.0)
    assert len(wire.urls) == 1


@pytest.mark.parametrize("change", [change_account, change_set, create_set, change_disk])
async def test_a_refused_change_keeps_azure_s_code(change: Callable[[Wire], Awaitable[object]]) -> None:
    with pytest.raises(EXPECTED_FAILURES) as raised:
        await change(Wire(Answer(409, {"error": {"code": "AnotherOperationInProgress", "message": "wait"}})))
    assert failure_of(raised.value).code == "AnotherOperationInProgress"
