"""The storage resource provider (Microsoft.Storage/storageAccounts)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.assigned_identities import AssignedIdentities
from sandbox.azure.arm.bodies import NameAvailability, StorageAccountCreate, StorageAccountUpdate, parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.operations import OperationKind
from sandbox.azure.arm.resources import authorize_assignment, location_of, page, page_of, resource_id, serve
from sandbox.azure.arm.subscriptions import normalized_location
from sandbox.azure.arm.throttling import Window, retry_after
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.crypto import new_data_key
from sandbox.azure.storage.changes import AccountChanges, check_fixed, check_tags
from sandbox.azure.storage.encryption_scopes import EncryptionScopeOperations
from sandbox.azure.storage.model import DataKey, StorageAccount
from sandbox.azure.storage.skus import check_new, kind_after, sku_after
from sandbox.azure.storage.views import account_shown

if TYPE_CHECKING:
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.arm.identities import Identities
    from sandbox.azure.arm.operations import Operations
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory
    from sandbox.azure.storage.key_protection import KeyProtection
    from sandbox.azure.storage.model import StorageAccounts
    from sandbox.azure.timings import Timings

KIND = "Microsoft.Storage/storageAccounts"
OPERATIONS = OperationKind("Microsoft.Storage")
NAME = re.compile("[a-z0-9]{3,24}")


class StorageOperations:
    """The operations, with the resource provider's own limits."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        accounts: StorageAccounts,
        identities: Identities,
        directory: Directory,
        protection: KeyProtection,
        operations: Operations,
        clock: Clock,
        timings: Timings,
    ) -> None:
        self._gateway = gateway
        self._accounts = accounts
        self._identities = AssignedIdentities(identities, directory, clock)
        self._protection = protection
        self._operations = operations
        operations.serve(OPERATIONS)
        self._changes = AccountChanges(self._identities, protection, timings)
        self._clock = clock
        self._timings = timings
        self._windows: dict[tuple[str, str], Window] = {}
        subscription = "/subscriptions/{subscription}"
        serve(gateway, KIND, self)
        EncryptionScopeOperations(gateway, accounts, protection, clock, timings)
        add = gateway.add
        check = "Microsoft.Storage/checkNameAvailability"
        add("POST", f"{subscription}/providers/{check}", self.available, kind=check, action=f"{check}/read")

    def _shown(self, account: StorageAccount) -> dict[str, Any]:
        return account_shown(account, self._identities, self._clock.now())

    def _limited(self, call: ArmCall, name: str, limit: int, seconds: float) -> None:
        window = self._windows.setdefault((call["subscription"].lower(), name), Window(seconds))
        if wait := window.take(limit):
            raise ArmRefusedError(
                429, "TooManyRequests", "The request is being throttled.", headers={"Retry-After": retry_after(wait)}
            )

    def _write_allowed(self, call: ArmCall) -> None:
        self._limited(call, "writes a second", self._timings.storage_write_per_second, 1)
        self._limited(call, "writes an hour", self._timings.storage_write_per_hour, 3600)

    def _found(self, call: ArmCall) -> StorageAccount:
        place = resource_id(self._gateway, call, KIND)
        account = self._accounts.find(call["name"])
        if account is None or account.id.lower() != place.lower():
            raise not_found(KIND, call["name"], call["group"])
        return account

    async def list(self, call: ArmCall) -> Answer:
        """Of a subscription or a group, in pages."""
        self._limited(call, "lists", self._timings.storage_list_per_5_minutes, 300)
        accounts = self._accounts.under(call.scope)
        for account in page_of(call, accounts, self._timings.list_page_size):
            await self._protection.follow(account)
            await asyncio.sleep(0)  # other requests go between: a thousand checks may be due at once
        return page(call, accounts, self._shown, self._timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One account: 200 with its fields whether the key can be reached or not."""
        self._limited(call, "reads", self._timings.storage_read_per_5_minutes, 300)
        account = self._found(call)
        await self._protection.follow(account)
        return Answer(json=self._shown(account))

    async def put(self, call: ArmCall) -> Answer:
        """Create (202, then the result at Location), or change an existing account."""
        body = parsed(StorageAccountCreate, call.body())
        place, name = resource_id(self._gateway, call, KIND), call["name"]
        self._write_allowed(call)
        if not NAME.fullmatch(name):
            raise ArmRefusedError(400, "AccountNameInvalid", _invalid_name(name))
        existing = self._accounts.find(name)
        if existing is not None and existing.id.lower() != place.lower():
            raise ArmRefusedError(409, "StorageAccountAlreadyTaken", f"The storage account named {name} is already taken.")
        location = location_of(call, normalized_location(body.location), existing.location if existing else None)
        authorize_assignment(self._gateway, call, body.identity, KIND)
        now = self._clock.now()
        if existing is not None:
            return await self._updated(existing, body, whole=True)
        check_tags(body.tags)
        check_new(body.kind, body.sku.name)
        account = StorageAccount(
            id=place,
            name=name,
            location=location,
            sku=_sku(body.sku.name),
            kind=body.kind,
            tenant_id=call.caller.tenant_id,
            created=now,
            ready=now + self._timings.storage_create_seconds,
            data_key=DataKey(new_data_key()),
            services={"blob": "Account", "file": "Account"},
            tags=body.tags or {},
        )
        await self._changed(account, body, new=True, whole=True)
        self._accounts.add(account)
        if account.ready <= now:
            return Answer(200, self._shown(account))
        return self._operations.started(
            call, OPERATIONS, location, seconds=account.ready - now, result=lambda: self._shown(account), resource_id=place
        )

    async def _changed(
        self, account: StorageAccount, body: StorageAccountCreate | StorageAccountUpdate, *, new: bool = False, whole: bool
    ) -> None:
        encryption = body.properties.encryption if body.properties else None
        await self._changes.apply(account, body.identity, encryption, new=new, whole=whole)
        if body.properties is not None:
            account.settings |= {name: value for name, value in body.properties.sent().items() if name != "encryption"}

    async def _updated(
        self, account: StorageAccount, body: StorageAccountCreate | StorageAccountUpdate, *, whole: bool
    ) -> Answer:
        """An existing account as the body has it: all of it, or nothing where anything is refused."""
        if account.ready > self._clock.now():
            raise ArmRefusedError(
                409,
                "StorageAccountOperationInProgress",
                "An operation is currently performing on this storage account that requires exclusive access.",
            )
        check_tags(body.tags)
        check_fixed(account, body.properties.sent() if body.properties else {})
        kind = kind_after(account.kind, body.kind)
        sku = sku_after(kind, account.sku["name"], body.sku.name if body.sku else None)
        await self._changed(account, body, whole=whole)
        account.kind, account.sku = kind, _sku(sku)
        account.tags = body.tags if body.tags is not None else account.tags
        return Answer(200, self._shown(account))

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent, synchronously."""
        account = self._found(call)
        body = parsed(StorageAccountUpdate, call.body())
        self._write_allowed(call)
        authorize_assignment(self._gateway, call, body.identity, KIND)
        return await self._updated(account, body, whole=False)

    async def delete(self, call: ArmCall) -> Answer:
        """Gone with its data; 204 if it was not there."""
        place = resource_id(self._gateway, call, KIND)
        self._write_allowed(call)
        account = self._accounts.find(call["name"])
        if account is None or account.id.lower() != place.lower():
            return Answer(204)
        self._accounts.remove(account)
        return Answer(200)

    async def available(self, call: ArmCall) -> Answer:
        """Whether the name is free."""
        name = parsed(NameAvailability, call.body()).name
        if not NAME.fullmatch(name):
            return Answer(json={"nameAvailable": False, "reason": "AccountNameInvalid", "message": _invalid_name(name)})
        if self._accounts.find(name) is None:
            return Answer(json={"nameAvailable": True})
        message = f"The storage account named {name} is already taken."
        return Answer(json={"nameAvailable": False, "reason": "AlreadyExists", "message": message})


def _sku(name: str) -> dict[str, str]:
    return {"name": name, "tier": "Premium" if name.startswith("Premium") else "Standard"}


def _invalid_name(name: str) -> str:
    return (
        f"{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use "
        "numbers and lower-case letters only."
    )
