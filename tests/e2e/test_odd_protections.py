"""A resource whose protection Azure does not show, or shows as something that is no key of a Key Vault: status says it, and nothing
is written, by none of its kinds and at no moment of a write; other resources are not disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_audit import entries_of
from tests.e2e.test_deletion import REVERT, key_source, until_finalizers
from tests.e2e.test_disks import disks  # noqa: F401 - a fixture
from tests.e2e.test_snowflake import warehouse  # noqa: F401 - a fixture
from tests.e2e.test_sql import world  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.conftest import Operator
    from tests.e2e.test_disks import Disks
    from tests.e2e.test_snowflake import Warehouse
    from tests.e2e.test_sql import SqlWorld
    from tests.environment import Environment

HSM = "https://contoso.managedhsm.azure.net"
NO_ANSWER: dict[str, dict[str, Any]] = {
    "an empty object": {"": {}},
    "null properties": {"/properties": None},
    "no encryption block": {"/properties/encryption": None},
    "another type": {"/properties/encryption/keySource": ["Microsoft.Storage"]},
    "a customer's key without the key": {"/properties/encryption/keyvaultproperties": None},
}
PASSES = 4
"""Passes after which what did not happen does not happen; each asks Azure about the resource."""


async def alter(environment: Environment, resource: str, values: Mapping[str, Any], **more: Any) -> str:
    """Let a resource stand in a state that no request can bring about."""
    return await environment.control.inject(kind="alter", resource=resource, replace=dict(values), **more)


def of_reason(reason: str, status: str) -> Any:
    """A status whose `Encrypted` has this status for this reason."""
    return has("Encrypted", status, reason)


@pytest.mark.parametrize("values", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_an_account_whose_answer_lacks_what_it_takes_is_unknown_and_is_never_written(
    environment: Environment, operator: Operator, values: dict[str, Any]
) -> None:
    await environment.ready("docs", "other")
    applied = (await environment.resource_until("Ready", has("Ready")))["applied"]
    fault = await alter(environment, environment.accounts["docs"], values)
    since = await environment.position()
    status = await environment.resource_until("unreadable", of_reason("Unreadable", "Unknown"))
    assert has("Ready", "Unknown", "Unreadable")(status)
    assert "so nothing is concluded from it and nothing is written" in str(condition(status, "Ready"))
    assert status["applied"] == applied
    await operator.after_passes(PASSES)
    assert await environment.writes(since) == []
    await environment.resource_until("the other is as it was", has("Ready"), "other")
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready again", has("Ready"))
    assert await environment.writes(since) == [], "nothing had changed"


async def test_an_account_that_was_never_on_the_key_is_not_put_on_it_while_its_protection_is_unknown(
    environment: Environment, operator: Operator
) -> None:
    await environment.vault_with_key()
    account = await environment.account()
    fault = await alter(environment, account, {"": {}})
    await environment.apply_all()
    await environment.resource_until("unreadable", of_reason("Unreadable", "Unknown"))
    await operator.after_passes(PASSES)
    assert await environment.writes() == []
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))
    assert [one["method"] for one in await environment.writes()] == ["PATCH"]


async def test_an_account_on_a_key_of_a_managed_hsm_is_told_with_what_azure_says_and_who_must_act(
    environment: Environment, operator: Operator
) -> None:
    version = await environment.ready("docs", "other")
    since = await environment.position()
    key = {"/properties/encryption/keyvaultproperties/keyvaulturi": f"{HSM}/"}
    fault = await alter(environment, environment.accounts["docs"], key)
    status = await environment.resource_until("on another key", of_reason("OnAnotherKey", "False"))
    assert has("Stalled", "True", "OnAnotherKey")(status)
    message = condition(status, "Ready")["message"]
    assert f"{HSM}/keys/cmk" in message
    assert "the provider's administrator must put the account on Microsoft-managed keys" in message
    assert status["applied"]["keyUri"] == f"{HSM}/keys/cmk"
    # The key goes on counting the account until Azure's next list, because the words may be an odd spelling of this key.
    await environment.key_until("still used by the other", lambda seen: "other" in seen["versions"][0].get("inUseBy", ()))
    await operator.after_passes(PASSES)
    assert await environment.writes(since) == []
    await environment.resource_until("the other is as it was", has("Ready"), "other")
    changes = [one for one in await entries_of(environment, "EncryptedResource") if one["object"]["name"] == "docs"]
    assert changes[-1]["to"] == f"{HSM}/keys/cmk", "somebody's change of key is a line of the record"
    await environment.control.clear_fault(fault)
    status = await environment.resource_until("Ready again", has("Ready"))
    assert status["applied"]["keyUri"] == environment.key_uri(version)
    assert await environment.writes(since) == []


@pytest.mark.parametrize("after", [{"": {}}, {"/properties/encryption/keySource": "Microsoft.Else"}], ids=["no answer", "odd"])
async def test_after_its_own_write_an_odd_answer_causes_no_other(
    environment: Environment, operator: Operator, after: dict[str, Any]
) -> None:
    await environment.vault_with_key()
    account = await environment.account()
    await alter(environment, account, {"": {}}, method="PATCH")
    await environment.control.inject(kind="delay", path="/storageAccounts/", method="PATCH", seconds=1.5, after_effect=True)
    await environment.apply_all()

    async def written() -> bool:
        return await key_source(environment) == "Microsoft.Keyvault"

    await environment.eventually("the write", written)
    await alter(environment, account, after)
    reason = ("Unreadable", "Unknown") if "" in after else ("OnAnotherKey", "False")
    await environment.resource_until("told", of_reason(*reason))
    await operator.after_passes(PASSES)
    assert [one["method"] for one in await environment.writes()] == ["PATCH"]
    await environment.control.clear_faults()
    status = await environment.resource_until("Ready", has("Ready"))
    assert [one["method"] for one in await environment.writes()] == ["PATCH"]
    assert any(one["by"] == "cmk-operator" for one in status["rotations"]), "it was the operator's own request"


async def test_a_revert_waits_while_the_protection_is_unknown(environment: Environment, operator: Operator) -> None:
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    since = await environment.position()
    fault = await alter(environment, environment.accounts["docs"], {"": {}})
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.resource_until("waiting", has("Ready", "Unknown", "Unreadable"))
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    await environment.control.clear_fault(fault)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    assert await key_source(environment) == "Microsoft.Storage"
    assert [one["method"] for one in await environment.writes(since)] == ["PATCH"]


async def test_a_revert_leaves_another_key_alone(environment: Environment) -> None:
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    since = await environment.position()
    await alter(environment, environment.accounts["docs"], {"/properties/encryption/keyvaultproperties/keyvaulturi": HSM})
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    assert await environment.writes(since) == []


@pytest.mark.parametrize(
    ("values", "status", "reason"),
    [
        ({"/properties/uri": f"{HSM}/keys/tde"}, "False", "OnAnotherKey"),
        ({"/properties/serverKeyType": "ManagedHsm"}, "False", "OnAnotherKey"),
        ({"/properties/serverKeyType": None}, "Unknown", "Unreadable"),
        ({"": {}}, "Unknown", "Unreadable"),
    ],
    ids=["a managed HSM", "an unknown type", "no type", "no answer"],
)
async def test_a_server_with_an_odd_protector_is_told_and_not_written(
    world: SqlWorld,  # noqa: F811 - the fixture
    operator: Operator,
    values: dict[str, Any],
    status: str,
    reason: str,
) -> None:
    server, _ = await world.ready()
    other = await world.server("other")
    await world.declare(other, "other")
    await world.until("Ready", has("Ready"), "other")
    since = await world.environment.position()
    await alter(world.environment, f"{server}/encryptionProtector/current", values)
    await world.until("told", of_reason(reason, status))
    await operator.after_passes(PASSES)
    assert await world.writes(since) == []
    await world.until("the other is as it was", has("Ready"), "other")
    await world.environment.control.clear_faults()
    await world.until("Ready again", has("Ready"))
    assert await world.writes(since) == []


async def test_a_database_with_an_odd_protector_is_told_and_not_written(
    world: SqlWorld,  # noqa: F811 - the fixture
    operator: Operator,
) -> None:
    server = await world.server()
    await world.foundation()
    database = f"{server}/databases/orders"
    await world.declare(database, "orders")
    await world.until("Ready", has("Ready"), "orders")
    since = await world.environment.position()
    for values, status, reason in (
        ({"/properties/encryptionProtector": f"{HSM}/keys/tde"}, "False", "OnAnotherKey"),
        ({"/properties/encryptionProtector": {}}, "Unknown", "Unreadable"),
    ):
        fault = await alter(world.environment, database, values)
        await world.until("told", of_reason(reason, status), "orders")
        await operator.after_passes(PASSES)
        assert await world.writes(since) == []
        await world.environment.control.clear_fault(fault)
        await world.until("Ready again", has("Ready"), "orders")
    assert await world.writes(since) == []


async def test_an_odd_entry_of_a_servers_lists_spoils_only_itself_and_is_named(world: SqlWorld) -> None:  # noqa: F811 - the fixture
    primary = await world.server()
    secondary = await world.server("two", location="northeurope", database=False)
    await world.sql.create_failover_group(primary, "group", secondary)
    await world.foundation()
    await world.declare(secondary, "two")
    await world.declare(primary)
    await world.until("Ready", has("Ready"))
    await alter(world.environment, f"{primary}/failoverGroups/group", {"/properties": None})
    await world.environment.objects.merge(
        "EncryptedResource",
        "sql",
        {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": "now"}}},
        world.environment.namespace,
    )
    named = await world.until("named", lambda seen: seen.get("details", {}).get("notReadable"))
    assert named["details"]["notReadable"] == ["failover group group"]
    assert has("Ready")(named)


async def test_a_set_with_an_odd_key_and_the_disk_on_it_are_told_and_not_written(
    disks: Disks,  # noqa: F811 - the fixture
    operator: Operator,
) -> None:
    environment = disks.environment
    await disks.disk()
    await disks.apply_set()
    await disks.until("Ready", has("Ready"))
    await disks.apply_disk()
    await disks.until("Ready", has("Ready"), "data")
    since = len(await disks.writes())
    for values, status, reason in (
        ({"/properties/activeKey/keyUrl": f"{HSM}/keys/disks/1"}, "False", "OnAnotherKey"),
        ({"/properties/activeKey": None}, "Unknown", "Unreadable"),
    ):
        fault = await alter(environment, disks.set_id, values)
        await disks.until("told", of_reason(reason, status))
        on_it = await disks.until("told of the disk", lambda seen: not has("Encrypted")(seen), "data")
        assert condition(on_it, "Encrypted")["status"] == status
        await operator.after_passes(PASSES)
        assert len(await disks.writes()) == since
        await environment.control.clear_fault(fault)
        await disks.until("Ready again", has("Ready"))
        await disks.until("Ready again", has("Ready"), "data")
    assert len(await disks.writes()) == since


async def test_a_disk_that_cannot_be_read_spoils_only_itself_and_is_named_at_the_set(
    disks: Disks,  # noqa: F811 - the fixture
    operator: Operator,
) -> None:
    await disks.disk()
    odd = await disks.disk("odd")
    await disks.apply_set()
    await disks.until("Ready", has("Ready"))
    await disks.apply_disk()
    await disks.apply_disk("odd")
    await disks.until("Ready", has("Ready"), "odd")
    since = len(await disks.writes())
    await alter(disks.environment, odd, {"/properties/encryption": None})
    await disks.until("told", of_reason("Unreadable", "Unknown"), "odd")
    named = await disks.until("named", lambda seen: seen["details"].get("notReadable"))
    assert named["details"]["notReadable"] == ["disk odd"]
    assert named["details"]["encryptedDisks"] == ["data"]
    assert has("Ready")(named)
    await operator.after_passes(PASSES)
    await disks.until("the other is as it was", has("Ready"), "data")
    assert len(await disks.writes()) == since


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        ("CMK with KEY ARN: arn:aws:kms:eu-west-1:1:key/x is activated for Tri-Secret Secure.", "False", "OnAnotherKey"),
        ("These words are new.", "Unknown", "SnowflakeAnswerNotUnderstood"),
    ],
    ids=["a key of another cloud", "unknown words"],
)
async def test_a_snowflake_account_in_odd_words_is_told_and_no_statement_changes_it(
    warehouse: Warehouse,  # noqa: F811 - the fixture
    operator: Operator,
    words: str,
    status: str,
    reason: str,
) -> None:
    await warehouse.activated()
    control = warehouse.environment.control
    before = await warehouse.own()
    await control.set_snowflake_account(warehouse.account, information=words)
    for _ in range(3):
        await warehouse.until("told", of_reason(reason, status))
        await operator.after_passes(1)
    await control.set_snowflake_account(warehouse.account, information="")
    await warehouse.until("Ready again", has("Ready"))
    assert (await warehouse.own())["emails"] == before["emails"], "Snowflake mails each change of key"


async def test_an_odd_answer_about_an_operation_starts_no_second_one(
    world: SqlWorld,  # noqa: F811 - the fixture
) -> None:
    environment = world.environment
    server = await world.server(database=False)
    await world.foundation()
    await environment.control.set_timings(sql_operation_seconds=3)
    fault = await environment.control.inject(kind="status", status=200, body={}, path="/providers/Microsoft.Sql/locations/")
    await world.declare(server)
    status = await world.until(
        "told", lambda seen: "does not say whether the operation has ended" in str(seen.get("conditions"))
    )
    assert has("Ready", "False", "OperationNotVisible")(status)
    await world.until("Ready, as the server itself shows", has("Ready"))
    writes = await world.writes(0)
    assert len(writes) == len(set(writes)), f"one request of each kind: {writes}"
    await environment.control.clear_fault(fault)
