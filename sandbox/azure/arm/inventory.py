"""What exists: every tracked resource of every provider, and the general lists of resources.

https://learn.microsoft.com/rest/api/resources/resources/list
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.resources import page
from sandbox.azure.errors import ArmRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.exchange import Answer
    from sandbox.azure.timings import Timings

TERM = re.compile(r"(resourceType|name|location|resourceGroup) eq '([^']+)'", re.IGNORECASE)


class Resource(Protocol):
    """What all resources have."""

    @property
    def id(self) -> str:
        """The ARM id."""

    @property
    def name(self) -> str:
        """The last segment of the id."""

    @property
    def location(self) -> str:
        """The region."""

    @property
    def tags(self) -> dict[str, str]:
        """Names and values."""


def kind_of(resource_id: str) -> str:
    """The type of the top-level resource in an id."""
    return "/".join(resource_id.split("/")[6:8])


def _shown(one: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": one.id, "name": one.name, "type": kind_of(one.id), "location": one.location}
    return entry | ({"tags": one.tags} if one.tags else {})


class Inventory:
    """Finds resources by id and lists them."""

    def __init__(
        self,
        gateway: Gateway,
        timings: Timings,
        children: Callable[[str], Collection[str] | None],
        *resources: Callable[[], Iterable[Resource]],
    ) -> None:
        self._gateway = gateway
        self._timings = timings
        self._children = children
        self._resources = resources
        kind, subscription = "Microsoft.Resources/resources", "/subscriptions/{subscription}"
        gateway.add("GET", f"{subscription}/resources", self.list, kind=kind, action=None)
        gateway.add("GET", f"{subscription}/resourceGroups/{{group}}/resources", self.list, kind=kind, action=None)

    def under(self, scope: str) -> list[Resource]:
        """The resources in a subscription or a group, in the order of their types and names."""
        found = [one for source in self._resources for one in source() if one.id.lower().startswith(scope.lower() + "/")]
        return sorted(found, key=lambda one: one.id.lower())

    def must_exist(self, scope: str) -> None:
        """Raises ArmRefusedError 404 unless there is what the scope names.

        Of what lies below a top-level resource, only keys and databases are looked up.
        """
        parts = scope.strip("/").split("/")
        if parts[0].lower() != "subscriptions" or len(parts) < 4:
            return
        self._gateway.subscriptions[parts[1]].group(parts[3])
        if len(parts) < 8:
            return
        top, kind = "/" + "/".join(parts[:8]), "/".join(parts[5:7])
        found = any(one.id.lower() == top.lower() for source in self._resources for one in source())
        if not found:
            raise not_found(kind, parts[7], parts[3])
        names = self._children("/" + "/".join(parts[:9])) if len(parts) == 10 else None
        if names is not None and parts[9].lower() not in names:
            raise not_found(f"{kind}/{parts[8]}", f"{parts[7]}/{parts[9]}", parts[3])

    async def list(self, call: ArmCall) -> Answer:
        """Those that the caller may read: `$filter` by type, name, location and group, joined by `and`."""
        if "group" in call.exchange.parameters:
            self._gateway.subscriptions[call["subscription"]].group(call["group"])
        text = call.exchange.query.get("$filter", "")
        terms = [TERM.fullmatch(one) for one in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE) if one]
        if None in terms:
            raise ArmRefusedError(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
        wanted = [(one.group(1).lower(), one.group(2).lower()) for one in terms if one is not None]
        scope = call.scope.removesuffix("/resources")
        found = [
            one
            for one in self.under(scope)
            if all(_facts(one)[name] == value for name, value in wanted)
            and self._gateway.authorization.allows(call.caller.object_id, f"{kind_of(one.id)}/read", one.id)
        ]
        return page(call, found, _shown, int(self._timings.list_page_size))


def _facts(one: Resource) -> dict[str, str]:
    """What a filter may ask about, in lower case."""
    return {
        "resourcetype": kind_of(one.id).lower(),
        "name": one.name.lower(),
        "location": one.location.lower(),
        "resourcegroup": one.id.split("/")[4].lower(),
    }
