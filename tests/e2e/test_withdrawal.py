"""What is withdrawn while a pass waits for a slow answer is not written: what allows a write is read again right before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes.objects import has

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.e2e.conftest import Operator
    from tests.environment import Environment


@dataclass(frozen=True)
class Hop:
    """A request before a write, to be answered late."""

    method: str
    path: str


@dataclass(frozen=True)
class Withdrawal:
    """What somebody takes away, and what status says then."""

    by: Callable[[Environment], Awaitable[object]]
    reason: str


async def _create_account(environment: Environment) -> str:
    return await environment.account()


async def _create_server(environment: Environment) -> str:
    await environment.provider.create_resource_group(environment.group)
    name = f"{environment.name}-sql"
    return await environment.provider.sql.create_server(name, resource_group=environment.group, location="westeurope")


KINDS = {
    "storage account": (_create_account, Hop("GET", "/storageAccounts")),
    "SQL server": (_create_server, Hop("GET", "/servers/[^/]+/encryptionProtector")),
}
WITHDRAWALS = {
    "namespace": Withdrawal(lambda one: one.apply_tenant(allowedNamespaces=["another"]), "NamespaceNotAllowed"),
    "vault": Withdrawal(lambda one: one.apply_tenant(allowedVaults=["another-vault.vault.azure.net"]), "VaultNotAllowed"),
    "scope": Withdrawal(
        lambda one: one.apply_tenant(
            allowedScopes=[f"/subscriptions/{one.provider.subscription_id}/resourceGroups/{one.group}other"]
        ),
        "ScopeNotAllowed",
    ),
    "key": Withdrawal(lambda one: one.objects.delete("CustomerManagedKey", "cmk", one.namespace), "KeyNotFound"),
}


async def _withdraw_during(environment: Environment, hop: Hop, withdrawal: Withdrawal, target: str) -> list[str]:
    """Withdraw something while the hop of the resource's pass is slow; returns the operator's writes to the resource."""
    await environment.key_until("Ready", has("Ready"))
    fault = await environment.control.inject(kind="delay", method=hop.method, path=hop.path, seconds=3)
    since = await environment.position()

    async def is_hit() -> bool:
        return any(one["id"] == fault and one["hits"] for one in await environment.control.faults())

    await environment.apply_resource(resourceId=target)
    await environment.eventually("the slow request", is_hit)
    await withdrawal.by(environment)
    await environment.resource_until("refused", has("Ready", "False", withdrawal.reason))
    written = await environment.operator_requests(target, since, "PATCH", "PUT", "POST")
    return [f"{one['method']} {one['path']}" for one in written]


async def test_nothing_is_written_if_the_namespace_loses_the_tenant_while_a_server_is_read(
    environment: Environment, operator: Operator
) -> None:
    create, hop = KINDS["SQL server"]
    await environment.vault_with_key()
    target = await create(environment)
    environment.accounts.clear()
    await environment.apply_all()
    assert await _withdraw_during(environment, hop, WITHDRAWALS["namespace"], target) == []
    await environment.control.clear_faults()
    await environment.apply_tenant()
    await environment.resource_until("Ready", has("Ready"))


@pytest.mark.parametrize("what", WITHDRAWALS)
async def test_nothing_is_written_after_a_withdrawal_while_the_account_is_read(
    environment: Environment, operator: Operator, what: str
) -> None:
    await environment.vault_with_key()
    target = await _create_account(environment)
    environment.accounts.clear()
    await environment.apply_all()
    assert await _withdraw_during(environment, KINDS["storage account"][1], WITHDRAWALS[what], target) == []
