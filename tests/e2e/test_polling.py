"""Polling an operation is a right of its own: without it the resource itself decides, and nothing blocks or is done twice."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from cmk_operator.core.kinds.required_actions import ASSIGN_IDENTITY, RequiredActions
from cmk_operator.providers.registry import KINDS
from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_waiting_states import give_roles_back

if TYPE_CHECKING:
    from tests.environment import Environment


def _is_over(url: str, status: dict[str, Any]) -> bool:
    return bool((status.get("operation") or {}).get("url") != url)


async def test_a_server_whose_operations_may_not_be_polled_comes_onto_its_key_by_what_it_shows_itself(
    environment: Environment,
) -> None:
    provider, control = environment.provider, environment.control
    principal = environment.identity.managed_identity_principal_id
    rights = KINDS["microsoft.sql/servers"].rights
    assert isinstance(rights, RequiredActions)
    await environment.vault_with_key()
    await provider.create_resource_group(environment.group)
    server = await provider.sql.create_server(f"{environment.name}-blind", resource_group=environment.group)
    actions = [*rights.reads, *rights.on_resource, ASSIGN_IDENTITY]
    definition = await provider.define_role(str(uuid.uuid4()), f"blind {environment.name}", actions)
    await provider.withdraw_roles(principal, provider.subscription)
    try:
        await provider.assign_definition(principal, definition, provider.subscription)
        # Longer than the test: only the clock that is moved by hand ends the operations.
        await control.set_timings(sql_operation_seconds=100_000)
        since = await environment.position()
        await environment.apply_identity()
        await environment.apply_tenant()
        await environment.apply_key()
        await environment.apply_resource("sql", resourceId=server)
        for _ in range(3):
            status = await environment.resource_until("blind", has("Ready", "False", "OperationNotVisible"), "sql")
            message = condition(status, "Reconciling")["message"]
            assert "it needs Microsoft.Sql/locations/*/read" in message
            assert "provider's administrator may grant the right to poll" in message
            url = status["operation"]["url"]
            await control.advance(100_001)
            await environment.resource_until("next", partial(_is_over, url), "sql")
        await environment.resource_until("Ready", has("Ready"), "sql")
        writes = await environment.operator_requests(server, since, "PATCH", "PUT", "POST", "DELETE")
        assert [one["method"] for one in writes] == ["PATCH", "PUT", "PUT"], "each once"
        assert (await provider.sql.protector(server))["serverKeyType"] == "AzureKeyVault"
    finally:
        await control.set_timings(sql_operation_seconds=0)
        await provider.withdraw_roles(principal, provider.subscription)
        await give_roles_back(environment)
