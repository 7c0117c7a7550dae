"""The operations on management locks.

https://learn.microsoft.com/rest/api/resources/management-locks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.arm.bodies import LockBody, parsed
from sandbox.azure.arm.locks import Lock
from sandbox.azure.arm.resources import page
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.inventory import Inventory


class LockOperations:
    """The Microsoft.Authorization/locks operations at any scope."""

    def __init__(self, gateway: Gateway, inventory: Inventory) -> None:
        self._locks = gateway.locks
        self._inventory = inventory
        self._gateway = gateway
        kind = "Microsoft.Authorization/locks"
        collection = "/{scope:path}/providers/Microsoft.Authorization/locks"
        gateway.add("GET", collection, self.list, kind=kind, action=f"{kind}/read")
        gateway.add("GET", f"{collection}/{{name}}", self.get, kind=kind, action=f"{kind}/read")
        gateway.add("PUT", f"{collection}/{{name}}", self.put, kind=kind, action=f"{kind}/write")
        gateway.add("DELETE", f"{collection}/{{name}}", self.delete, kind=kind, action=f"{kind}/delete")

    async def list(self, call: ArmCall) -> Answer:
        """At, above and below the scope; `$filter=atScope()` leaves out what lies below."""
        found = self._locks.at_or_above(call.scope)
        if "atscope()" not in call.exchange.query.get("$filter", "").lower():
            found += [one for one in self._locks.below(call.scope) if one not in found]
        return page(call, found, Lock.shown, self._gateway.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One lock on exactly this scope."""
        return Answer(json=self._found(call).shown())

    def _found(self, call: ArmCall) -> Lock:
        lock = self._locks.find(call.scope, call["name"])
        if lock is None:
            raise ArmRefusedError(404, "LockNotFound", f"The lock '{call['name']}' could not be found.")
        return lock

    async def put(self, call: ArmCall) -> Answer:
        """Lock the scope, which must exist."""
        properties = parsed(LockBody, call.body()).properties
        self._inventory.must_exist(call.scope)
        if properties.level == "NotSpecified":
            raise ArmRefusedError(400, "InvalidLockLevel", "The lock level 'NotSpecified' is invalid.")
        lock = Lock(call.scope, call["name"], properties.level, properties.notes)
        return Answer(201 if self._locks.put(lock) else 200, lock.shown())

    async def delete(self, call: ArmCall) -> Answer:
        """Lift the lock."""
        lock = self._locks.find(call.scope, call["name"])
        if lock is None:
            return Answer(204)
        self._locks.remove(lock)
        return Answer(200)
