"""A database with a key of its own: one PATCH, one identity, and no move while it is closed."""

from __future__ import annotations

from typing import Any

import pytest
from azure.mgmt.sql.models import Database
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged, OnAnotherKey, OnKey, Unreadable
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import Plan, Target
from cmk_operator.providers.sql.database import (
    Facts,
    plan_database,
    plan_database_revert,
    read_database,
    recovering,
    with_server,
)
from cmk_operator.providers.sql.requests import RevalidateDatabase, RevertDatabase, SetDatabaseKey
from tests.unit.samples import APPLICATION, GROUP, IDENTITY, V1, V2, VAULT

DATABASE = f"{GROUP}/providers/Microsoft.Sql/servers/one/databases/orders"
OTHER_IDENTITY = IDENTITY.replace("/cmk", "/other")
KEY = KeyUri(VAULT, "sql")
TARGET = Target(ArmId(DATABASE), None, lambda _: True)


def want(uri: KeyUri = KEY, version: str = V1, size: int | None = 2048) -> KeyChoice:
    return KeyChoice(uri, version, ArmId(IDENTITY), APPLICATION, key_size=size)


def body(uri: KeyUri | None = None, *, following: bool = True, identity: str = IDENTITY, **properties: Any) -> dict[str, Any]:
    own = {} if uri is None else {"encryptionProtector": str(uri), "encryptionProtectorAutoRotation": following}
    return {
        "name": "orders",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}} if uri else None,
        "properties": {"status": "Online", "federatedClientId": APPLICATION if uri else None, **own, **properties},
    }


def read_body(answer: dict[str, Any]) -> Facts:
    return read_database(Database(answer))


def planned(facts: Facts, choice: KeyChoice | None = None) -> Plan[Any]:
    result = plan_database(TARGET, choice or want(), facts)
    assert isinstance(result, Plan), result
    return result


def refused(result: Plan[Any] | Fault | None) -> str:
    assert isinstance(result, Fault), result
    return result.reason


def test_one_patch_sets_everything_to_the_letter() -> None:
    plan = planned(read_body(body()))
    key = str(KEY.at(V1))
    request = plan.request
    assert isinstance(request, SetDatabaseKey)
    assert (request.database, request.key) == (ArmId(DATABASE), KEY.at(V1))
    assert plan.body == {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
        "properties": {
            "federatedClientId": APPLICATION,
            "encryptionProtectorAutoRotation": True,
            "encryptionProtector": key,
            "keys": {key: {}},
        },
    }
    assert not plan.keeps_key


def test_the_one_identity_that_a_database_may_have_is_replaced() -> None:
    plan = planned(read_body(body(KEY.at(V1), identity=OTHER_IDENTITY)))
    assert plan.body["identity"]["userAssignedIdentities"] == {IDENTITY: {}, OTHER_IDENTITY: None}
    assert plan.keeps_key


def test_a_version_that_sql_moved_to_by_itself_is_never_fought() -> None:
    assert plan_database(TARGET, want(version=V1), read_body(body(KEY.at(V2)))) is None
    assert plan_database(TARGET, want(KEY.at(V1)), read_body(body(KEY.at(V1), following=False))) is None
    assert "encryptionProtector" in planned(read_body(body(KEY.at(V2), following=False)), want(KEY.at(V1))).body["properties"]


def test_a_closed_database_is_revalidated_and_otherwise_left_alone() -> None:
    closed = read_body(body(KEY.at(V1), status="inaccessible"))
    plan = planned(closed)
    assert (plan.request, dict(plan.body)) == (RevalidateDatabase(ArmId(DATABASE)), {})
    assert closed.shown.inaccessible_databases == ("orders",)
    assert refused(plan_database(TARGET, want(), recovering(closed))) == "DatabasesRecovering"
    elsewhere = read_body(body(KeyUri(VAULT, "other", V1), status="Inaccessible"))
    assert refused(plan_database(TARGET, want(), elsewhere)) == "DatabasesInaccessible"
    under_its_server = read_body(body(status="Inaccessible"))
    assert refused(plan_database(TARGET, want(), under_its_server)) == "DatabasesInaccessible"
    first = plan_database_revert(TARGET, closed)
    assert isinstance(first, Plan)
    assert first.request == plan.request, "Azure reverts no closed database, and opens none that was closed for half an hour"
    assert refused(plan_database_revert(TARGET, recovering(closed))) == "DatabasesRecovering"


def test_a_reversion_needs_a_server_on_microsofts_key() -> None:
    facts = read_body(body(KEY.at(V1)))
    for server in (OnKey(KEY), OnAnotherKey("https://contoso.managedhsm.azure.net/keys/sql")):
        assert refused(plan_database_revert(TARGET, with_server(facts, server))) == "ServerOnCustomerKey"
    assert refused(plan_database_revert(TARGET, with_server(facts, Unreadable("serverKeyType is missing")))) == "Unreadable"
    plan = plan_database_revert(TARGET, with_server(facts, MicrosoftManaged()))
    assert isinstance(plan, Plan)
    assert (plan.request, dict(plan.body)) == (RevertDatabase(ArmId(DATABASE)), {})
    assert plan_database_revert(TARGET, read_body(body())) is None


def test_what_sql_will_not_take_is_told_before_anything_is_written() -> None:
    result = plan_database(TARGET, want(size=4096), read_body(body()))
    assert isinstance(result, Fault)
    assert "database one/orders" in result.message


@pytest.mark.parametrize("pinned", [True, False])
@given(
    uri=st.sampled_from([None, KEY.at(V1), KEY.at(V2), KeyUri(VAULT, "other", V1)]),
    following=st.booleans(),
    identity=st.sampled_from([IDENTITY, OTHER_IDENTITY]),
    client=st.sampled_from(["", APPLICATION, "11111111-1111-4111-8111-111111111112"]),
)
def test_after_the_patch_there_is_nothing_more_to_do(
    uri: KeyUri | None,
    following: bool,  # noqa: FBT001 - drawn by hypothesis
    identity: str,
    client: str,
    pinned: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    choice = want(KEY.at(V1) if pinned else KEY)
    before = body(uri, following=following, identity=identity, federatedClientId=client)
    plan = plan_database(TARGET, choice, read_body(before))
    if plan is None:
        return
    assert isinstance(plan, Plan)
    identities: dict[str, Any] = {
        name: {} for name, value in plan.body["identity"]["userAssignedIdentities"].items() if value is not None
    }
    after = {
        **before,
        "identity": {"type": "UserAssigned", "userAssignedIdentities": identities},
        "properties": before["properties"] | plan.body["properties"],
    }
    assert plan_database(TARGET, choice, read_body(after)) is None
