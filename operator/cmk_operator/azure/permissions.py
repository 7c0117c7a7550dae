"""What the operator's managed identity may do at a scope, as Azure reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import texts_of, typed_answer
from cmk_operator.core.kinds.required_actions import Permission

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.identifiers.arm_id import ArmId

API_VERSION: Final = "2022-04-01"


async def permissions_at(session: AzureSession, chain: IdentityChain, scope: ArmId) -> tuple[Permission, ...] | AzureFailure:
    """The permissions of the caller, one for each role assignment at or above `scope`; returns Azure's refusals as values.

    Source: Azure role-based access control REST, "Permissions - List For Resource".
    """
    try:
        manager = session.resource_manager(chain)
        path = f"{scope.text.rstrip('/')}/providers/Microsoft.Authorization/permissions"
        pages = [page async for page in manager.pages(path, {"api-version": API_VERSION})]
        with typed_answer():
            return tuple(_permission(entry) for page in pages for entry in page)
    except EXPECTED_FAILURES as error:
        return failure_of(error)


def _permission(entry: dict[str, Any]) -> Permission:
    return Permission(texts_of(entry.get("actions")), texts_of(entry.get("notActions")))
