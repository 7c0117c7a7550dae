"""Costs grow with keys and subscriptions, not with resources (law 7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cmk_operator.reconcile.key.azure_lists import SLOWLY
from cmk_operator.reconcile.resource.part_readings import PACE
from sandbox.kubernetes.objects import has
from tests.e2e.conftest import DRIFT_CHECK_INTERVAL, KEY_CHECK_INTERVAL

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

RESOURCES = 20


async def test_twenty_resources_on_one_key_cost_four_calls_to_its_vault_in_three_intervals_one_list_an_interval_and_no_write(
    environment: Environment, operator: Operator
) -> None:
    names = [f"a{number}" for number in range(RESOURCES)]
    await environment.ready(*names)
    await environment.key_until("all in use", lambda seen: seen["versions"][0].get("inUseByCount") == RESOURCES)
    await operator.after_passes(2, "customermanagedkeys")
    since = await environment.position()
    writes, began = await operator.status_writes(), asyncio.get_running_loop().time()
    await operator.after_passes(4, "customermanagedkeys")
    await operator.after_passes(2 * RESOURCES)
    seconds = asyncio.get_running_loop().time() - began
    looks = await environment.operator_requests("/keys/", since)
    assert 3 <= len(looks) <= 4 / 3 * seconds / KEY_CHECK_INTERVAL + 2, "get, unwrapKey, and wrapKey with unwrapKey in turn"
    assert len({look["path"].partition("?")[0] for look in looks}) == 3
    requests = await environment.operator_requests("/storageAccounts", since)
    single = [one for one in requests if "/storageAccounts/" in one["path"]]
    scopes = [one for one in single if one["path"].partition("?")[0].endswith("/encryptionScopes")]
    assert single == scopes, "no read of a single account"
    own = [one for one in scopes if f"/resourceGroups/{environment.group}/".lower() in one["path"].lower()]
    drift, users = 0.85 * DRIFT_CHECK_INTERVAL, 0.9 * SLOWLY * DRIFT_CHECK_INTERVAL
    of_parts, of_users = seconds / ((PACE - 1) * DRIFT_CHECK_INTERVAL) + 1, seconds / users + 1
    assert len(own) <= RESOURCES * (of_parts + of_users), "its scopes rarely, for what is covered and for what uses the key"
    assert 1 <= len(requests) - len(scopes) <= seconds / drift + 1 + of_users, "lists only, for any number of accounts"
    assert await operator.status_writes() == writes


async def test_the_pass_that_puts_a_resource_on_its_key_reads_none_of_its_parts(environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    since = await environment.position()
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    (patch,) = await environment.writes()
    requests = await environment.operator_requests(f"{environment.accounts['docs']}/encryptionScopes", since)
    assert [one for one in requests if one["n"] < patch["n"]] == []


async def test_a_key_that_is_disabled_wakes_exactly_its_resources(environment: Environment, operator: Operator) -> None:
    await environment.ready("a", "b")
    await environment.customer.create_key(environment.vault, "other")
    await environment.account("c")
    await environment.apply_key("other", keyUri=environment.key_uri(key="other"))
    await environment.apply_resource("c", keyRef={"name": "other"})
    await environment.resource_until("Ready", has("Ready"), "c")
    untouched = (await environment.objects.get("EncryptedResource", "c", environment.namespace))["metadata"]
    await environment.customer.disable(environment.vault, "cmk")
    for name in ("a", "b"):
        await environment.resource_until("Disabled", has("KeyAccessible", "False", "Disabled"), name)
    await operator.after_passes(3)
    now = (await environment.objects.get("EncryptedResource", "c", environment.namespace))["metadata"]
    assert now["resourceVersion"] == untouched["resourceVersion"]
