"""What all resource providers share: ids, lists in pages, locations that must not change, identities that may be assigned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from sandbox.azure.endpoints import here
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeVar

    from sandbox.azure.arm.bodies import IdentityBlock
    from sandbox.azure.arm.gateway import ArmCall, Gateway

    Resource = TypeVar("Resource")

ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


def resource_id(gateway: Gateway, call: ArmCall, kind: str) -> str:
    """The id of the top-level resource that a path names, with its group as it was created. Raises: ResourceGroupNotFound."""
    group = gateway.subscriptions[call["subscription"]].group(call["group"])
    return f"/subscriptions/{call['subscription']}/resourceGroups/{group.name}/providers/{kind}/{call['name']}"


class Routes(Protocol):
    """Where operations are registered."""

    def add(
        self, method: str, template: str, handler: Callable[[ArmCall], Awaitable[Answer]], *, kind: str, action: str | None
    ) -> None:
        """Serve one operation of a resource type."""


class TrackedResources(Protocol):
    """The operations that every top-level resource type has."""

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""

    async def get(self, call: ArmCall) -> Answer:
        """One resource."""

    async def put(self, call: ArmCall) -> Answer:
        """Create, or change what was sent."""

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent."""

    async def delete(self, call: ArmCall) -> Answer:
        """Delete one."""


def serve(routes: Routes, kind: str, operations: TrackedResources) -> str:
    """Serve a type's own operations, and return the template of one resource's path, for what the type has beside them."""
    subscription = "/subscriptions/{subscription}"
    group = f"{subscription}/resourceGroups/{{group}}/providers/{kind}"
    one, read, write = f"{group}/{{name}}", f"{kind}/read", f"{kind}/write"
    routes.add("GET", f"{subscription}/providers/{kind}", operations.list, kind=kind, action=read)
    routes.add("GET", group, operations.list, kind=kind, action=read)
    routes.add("GET", one, operations.get, kind=kind, action=read)
    routes.add("PUT", one, operations.put, kind=kind, action=write)
    routes.add("PATCH", one, operations.patch, kind=kind, action=write)
    routes.add("DELETE", one, operations.delete, kind=kind, action=f"{kind}/delete")
    return one


def page_of(call: ArmCall, found: Sequence[Resource], size: int) -> Sequence[Resource]:
    """The resources on the page that a call asks for."""
    start, end, _ = _bounds(call, len(found), size)
    return found[start:end]


def page(call: ArmCall, found: Sequence[Resource], shown: Callable[[Resource], object], size: int) -> Answer:
    """The page that a call asks for, with `nextLink` if there is more.

    Azure filters a page after it was cut: pages of one list differ in size, and some have nothing on them but a `nextLink`. Here
    pages of the full size, empty ones and those of half the size follow each other.
    """
    start, end, turn = _bounds(call, len(found), size)
    body: dict[str, object] = {"value": [shown(one) for one in found[start:end]]}
    if end < len(found):
        query = urlencode({**call.exchange.query, "$skiptoken": f"{end}.{turn + 1}"})
        body["nextLink"] = f"https://{here().resource_manager}{call.exchange.path}?{query}"
    return Answer(json=body)


def _bounds(call: ArmCall, count: int, size: int) -> tuple[int, int, int]:
    """Where the page begins and ends, and how many pages were before it."""
    start, _, turn = call.exchange.query.get("$skiptoken", "0.0").partition(".")
    first, before = (int(start), int(turn)) if start.isdigit() and turn.isdigit() else (0, 0)
    sizes = (size, 0, max(1, size // 2))
    return first, min(first + sizes[before % len(sizes)], count), before


def location_of(call: ArmCall, wanted: str, existing: str | None) -> str:
    """Raises ArmRefusedError 409 InvalidResourceLocation if the resource lies elsewhere."""
    if existing is not None and existing != wanted:
        raise ArmRefusedError(
            409,
            "InvalidResourceLocation",
            f"The resource '{call['name']}' already exists in location '{existing}' in resource group '{call['group']}'. A resource "
            f"with the same name cannot be created in location '{wanted}'. Please select a new resource name.",
        )
    return wanted


def authorize_assignment(gateway: Gateway, call: ArmCall, identity: IdentityBlock | None, kind: str) -> None:
    """The caller may assign each user-assigned identity that it names. Raises ArmRefusedError 403 LinkedAuthorizationFailed."""
    for assigned, value in ((identity and identity.user_assigned_identities) or {}).items():
        if value is not None:
            gateway.authorize_linked(call.caller, ASSIGN, assigned, f"{kind}/write", call.scope)
