"""Custom roles: what they may name, and what they allow from when."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.administrators import ProviderAdministrator, SandboxControl

ROLES = "2022-04-01"
PERMISSIONS = "providers/Microsoft.Authorization/roleDefinitions"
READ = "Microsoft.Storage/storageAccounts/read"


def code(error: HttpResponseError) -> tuple[int | None, str | None]:
    assert error.error is not None
    return error.status_code, error.error.code


@pytest.mark.parametrize(
    "action", ["Microsoft.Storage/storageAccounts/inventedAction", "Microsoft.Invented/*", "*/read/invented"]
)
async def test_a_role_names_only_actions_that_some_operation_has(
    provider: ProviderAdministrator, name: Callable[[str], str], action: str
) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        await provider.define_role(str(uuid.uuid4()), name("role"), [READ, action])
    assert code(refusal.value) == (400, "InvalidActionOrNotAction")


async def test_a_role_is_shown_listed_changed_and_deleted_only_while_nobody_has_it(
    provider: ProviderAdministrator, control: SandboxControl, name: Callable[[str], str]
) -> None:
    role, shown = str(uuid.uuid4()), name("role")
    definition = await provider.define_role(role, shown, [READ])
    with pytest.raises(HttpResponseError) as taken:
        await provider.define_role(str(uuid.uuid4()), shown, [READ])
    assert code(taken.value) == (409, "RoleDefinitionWithSameNameExists")
    found = await provider.get(f"{provider.subscription}/{PERMISSIONS}/{role}", ROLES)
    assert found["properties"]["type"] == "CustomRole"
    assert found["properties"]["permissions"][0]["actions"] == [READ]
    me = await provider.principal_id(provider.client_id)
    await provider.assign_definition(me, definition, provider.subscription)
    with pytest.raises(HttpResponseError) as held:
        await provider.delete(f"{provider.subscription}/{PERMISSIONS}/{role}", ROLES)
    assert code(held.value) == (400, "RoleDefinitionHasAssignments")
    await provider.define_role(role, shown, [READ, "Microsoft.Storage/storageAccounts/write"])
    await control.advance(10)
    found = await provider.get(f"{provider.subscription}/{PERMISSIONS}/{role}", ROLES)
    assert len(found["properties"]["permissions"][0]["actions"]) == 2
