"""An answer about a resource on its key whose other fields have another JSON type starts no write: it would repeat for ever.

The fields are those that a plan compares: identities, the application, rotation. What is of its type but differs is changed.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from azure.mgmt.compute.models import DiskEncryptionSet
from azure.mgmt.sql.models import Database, EncryptionProtector, Server
from azure.mgmt.storage.models import StorageAccount

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.management import typed_answer, whole
from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.disk.encryption_set import DisksOfSet, plan_set, read_set, with_disks
from cmk_operator.providers.protocol import Plan, Target
from cmk_operator.providers.sql import database, server, server_plan
from cmk_operator.providers.storage.encryption import plan_key, read_account
from tests.unit.samples import APPLICATION, IDENTITY, V1
from tests.unit.test_answer_gate import KEY
from tests.unit.test_disk_encryption_sets import want as want_set
from tests.unit.test_readers import DATABASE, DATABASE_BODY, PROTECTOR_BODY, SERVER, SERVER_BODY
from tests.unit.test_storage_encryption import want as want_account
from tests.unit.test_typed_answers import ACCOUNT_BODY, SET, SET_BODY, places, with_odd

if TYPE_CHECKING:
    from collections.abc import Callable

WANT = KeyChoice(KEY.key_uri, V1, ArmId(IDENTITY), APPLICATION, vault_region="westeurope", key_size=2048)


def of_account(body: Any) -> object:
    return plan_key(want_account(), read_account(whole(StorageAccount(body))))


def of_set(body: Any) -> object:
    facts = with_disks(read_set(whole(DiskEncryptionSet(body))), SET, DisksOfSet())
    return plan_set(Target(SET, None, lambda _: True), want_set(), facts)


def of_server(body: Any) -> object:
    return _server_plan(body, PROTECTOR_BODY)


def of_protector(body: Any) -> object:
    return _server_plan(SERVER_BODY, body)


def _server_plan(own: Any, protector: Any) -> object:
    identity = server.read_server(server.check_server(whole(Server(own))))
    read = server.read_protector(whole(EncryptionProtector(protector)))
    facts = server.facts_of(identity, read, server.Listed(), server.Listed())
    with_keys = server.with_keys(facts, server.ServerKeys(frozenset([f"acme_storage_{V1}"])), ())
    return server_plan.plan_server(Target(SERVER, None, lambda _: True), WANT, with_keys)


def of_database(body: Any) -> object:
    facts = database.with_server(database.read_database(whole(Database(body))), MicrosoftManaged())
    return database.plan_database(Target(DATABASE, None, lambda _: True), WANT, facts)


ONLINE = {**DATABASE_BODY, "properties": {**DATABASE_BODY["properties"], "status": "Online"}}
PLANS: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "storage account": (of_account, ACCOUNT_BODY),
    "disk encryption set": (of_set, SET_BODY),
    "SQL server": (of_server, SERVER_BODY),
    "protector of a SQL server": (of_protector, PROTECTOR_BODY),
    "SQL database": (of_database, ONLINE),
}


@pytest.mark.parametrize("kind", PLANS)
def test_a_field_of_another_type_starts_no_write(kind: str) -> None:
    plan_of, body = PLANS[kind]
    assert plan_of(copy.deepcopy(body)) is None, "as wanted"
    count = 0
    for place in places(body):
        for odd in (7, True, ["x"], [], {"a": 1}):
            if isinstance(odd, dict) and place[-1:] == ("identity",) and len(place) > 1:
                continue  # a block without our fields: accessed by no user-assigned identity
            plan: object = None
            try:
                with typed_answer():
                    plan = plan_of(copy.deepcopy(with_odd(body, place, odd)))
            except UnreadableError:
                count += 1
            assert not isinstance(plan, Plan), (place, odd, [str(change) for change in plan.changes])
    assert count > 0


@pytest.mark.parametrize(
    "identity",
    [{}, {"type": "Odd"}, {"type": "UserAssigned", "userAssignedIdentities": {"x": {}}}, {"type": "", "principalId": "x"}],
    ids=str,
)
@pytest.mark.parametrize("kind", sorted(PLANS.keys() - {"protector of a SQL server"}))
def test_an_identity_block_that_nobody_knows_is_not_replaced(kind: str, identity: dict[str, Any]) -> None:
    plan_of, body = PLANS[kind]
    plan: object = None
    try:
        with typed_answer():
            plan = plan_of({**copy.deepcopy(body), "identity": identity})
    except UnreadableError:
        return
    assert not isinstance(plan, Plan)


@pytest.mark.parametrize("kind", sorted(PLANS.keys() - {"protector of a SQL server"}))
def test_a_resource_without_our_identity_gets_it(kind: str) -> None:
    plan_of, body = PLANS[kind]
    for identity in (None, {"type": "None"}, {"type": "SystemAssigned", "principalId": "x"}):
        assert isinstance(plan_of({**copy.deepcopy(body), "identity": identity}), Plan), identity


def test_an_answer_without_what_every_server_has_is_about_no_server() -> None:
    for properties in ({}, {"state": "Ready"}):
        with pytest.raises(ValueError, match="fullyQualifiedDomainName is missing"):
            of_server({**SERVER_BODY, "properties": properties})
