"""Encryption scopes: blobs and containers of an account under a key that is not the account's.

https://learn.microsoft.com/azure/storage/blobs/encryption-scope-overview: a scope can be disabled, and never deleted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.bodies import EncryptionScopeBody, parsed
from sandbox.azure.arm.identities import not_found
from sandbox.azure.arm.resources import page, resource_id
from sandbox.azure.clock import seven_digits
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.key_vault.crypto import new_data_key
from sandbox.azure.key_vault.identifiers import key_of
from sandbox.azure.key_vault.service_access import KeyUnreachableError
from sandbox.azure.storage.changes import unfit, unreachable
from sandbox.azure.storage.key_protection import KeyUnfitError
from sandbox.azure.storage.model import PLATFORM, CustomerKey, DataKey, EncryptionScope
from sandbox.azure.storage.skus import invalid

if TYPE_CHECKING:
    from sandbox.azure.arm.bodies import EncryptionScopeProperties
    from sandbox.azure.arm.gateway import ArmCall, Gateway
    from sandbox.azure.clock import Clock
    from sandbox.azure.storage.key_protection import KeyProtection
    from sandbox.azure.storage.model import StorageAccount, StorageAccounts
    from sandbox.azure.timings import Timings

ACCOUNTS = "Microsoft.Storage/storageAccounts"
KIND = f"{ACCOUNTS}/encryptionScopes"
KEY_VAULT = "Microsoft.KeyVault"
"""A scope spells it with a capital V, an account does not."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9]|-(?=[a-z0-9])){2,62}")


class EncryptionScopeOperations:
    """The operations on the encryption scopes of accounts."""

    def __init__(
        self, gateway: Gateway, accounts: StorageAccounts, protection: KeyProtection, clock: Clock, timings: Timings
    ) -> None:
        self._gateway = gateway
        self._accounts = accounts
        self._protection = protection
        self._clock = clock
        self._timings = timings
        many = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{ACCOUNTS}/{{name}}/encryptionScopes"
        gateway.add("GET", many, self.list, kind=KIND, action=f"{KIND}/read")
        gateway.add("GET", f"{many}/{{encryption_scope}}", self.get, kind=KIND, action=f"{KIND}/read")
        gateway.add("PUT", f"{many}/{{encryption_scope}}", self.put, kind=KIND, action=f"{KIND}/write")
        gateway.add("PATCH", f"{many}/{{encryption_scope}}", self.patch, kind=KIND, action=f"{KIND}/write")

    def _account(self, call: ArmCall) -> StorageAccount:
        account = self._accounts.find(call["name"])
        if account is None or account.id.lower() != resource_id(self._gateway, call, ACCOUNTS).lower():
            raise not_found(ACCOUNTS, call["name"], call["group"])
        return account

    def _found(self, call: ArmCall) -> EncryptionScope:
        found = self._account(call).scopes.get(call["encryption_scope"])
        if found is None:
            raise ArmRefusedError(
                404, "EncryptionScopeNotFound", f"The encryption scope {call['encryption_scope']} does not exist."
            )
        return found

    async def list(self, call: ArmCall) -> Answer:
        """Of an account, in pages."""
        found = sorted(self._account(call).scopes.values(), key=lambda one: one.name)
        return page(call, found, _shown, self._timings.list_page_size)

    async def get(self, call: ArmCall) -> Answer:
        """One scope: 200 with its fields whether its key can be reached or not."""
        return Answer(json=_shown(self._found(call)))

    async def put(self, call: ArmCall) -> Answer:
        """Create a scope, or change what was sent."""
        account, name = self._account(call), call["encryption_scope"]
        body = parsed(EncryptionScopeBody, call.body())
        if not _NAME.fullmatch(name):
            raise invalid("encryptionScopeName")
        existing = account.scopes.get(name)
        if existing is not None:
            await self._changed(account, existing, body.properties)
            return Answer(200, _shown(existing))
        now = self._clock.now()
        created = EncryptionScope(account.id, name, PLATFORM, now, now)
        await self._changed(account, created, body.properties)
        account.scopes[name] = created
        return Answer(201, _shown(created))

    async def patch(self, call: ArmCall) -> Answer:
        """Change what was sent."""
        account, scope = self._account(call), self._found(call)
        await self._changed(account, scope, parsed(EncryptionScopeBody, call.body()).properties)
        return Answer(200, _shown(scope))

    async def _changed(self, account: StorageAccount, scope: EncryptionScope, sent: EncryptionScopeProperties | None) -> None:
        if sent is None:
            return
        source = _spelled(sent.source, (PLATFORM, KEY_VAULT), "source") or scope.source
        state = _spelled(sent.state, ("Enabled", "Disabled"), "state") or scope.state
        infrastructure = sent.require_infrastructure_encryption
        new = account.scopes.get(scope.name) is not scope
        if infrastructure is not None and not new and infrastructure != scope.infrastructure_encryption:
            raise invalid("encryptionScope.requireInfrastructureEncryption")
        wanted = sent.key_vault_properties.key_uri if sent.key_vault_properties is not None else None
        if source == PLATFORM:
            if wanted:
                raise invalid("encryptionScope.keyVaultProperties")
            plain = await self._plain(account, scope)
            scope.key_uri, scope.key, scope.data_key = None, None, DataKey(plain)
        elif wanted or scope.key_uri is None:
            scope.key, scope.data_key = await self._protected(account, wanted, await self._plain(account, scope))
            scope.key_uri = wanted
        scope.source, scope.state, scope.modified = source, state, self._clock.now()
        if new:
            scope.infrastructure_encryption = (
                infrastructure if infrastructure is not None else account.infrastructure_encryption
            )

    async def _plain(self, account: StorageAccount, scope: EncryptionScope) -> bytes:
        """The scope's data key, which another key is to protect; its blobs stay as they are. Raises ArmRefusedError."""
        if scope.data_key is None:
            return new_data_key()
        try:
            return await self._protection.unwrapped_scope(account, scope)
        except KeyUnreachableError as error:
            raise unreachable(error) from error

    async def _protected(self, account: StorageAccount, key_uri: str | None, plain: bytes) -> tuple[CustomerKey, DataKey]:
        """The data key under the scope's key, which the account reaches as it reaches its own. Raises ArmRefusedError."""
        named = key_of(key_uri or "")
        if named is None:
            raise invalid("encryptionScope.keyVaultProperties.keyUri")
        own = account.customer_key
        identity, client = (own.user_assigned_identity, own.federated_client_id) if own is not None else (None, None)
        if identity is None and account.identity.system_principal is None:
            raise ArmRefusedError(
                400,
                "InvalidRequest",
                "Missing pre-requisites to enable EncryptionAtRest/Customer Managed Key for this storage account. For more information, see - "
                "https://aka.ms/storagecmkconfiguration",
            )
        key = CustomerKey(named.vault_uri, named.name, named.version, identity, client)
        try:
            return key, await self._protection.protect(account, key, plain)
        except KeyUnreachableError as error:
            raise unreachable(error) from error
        except KeyUnfitError as error:
            raise unfit(error) from error


def _spelled(sent: str | None, known: tuple[str, ...], name: str) -> str | None:
    """The value as Azure spells it; it is compared case-insensitively. Raises ArmRefusedError for any other."""
    if sent is None:
        return None
    found = next((one for one in known if one.lower() == sent.lower()), None)
    if found is None:
        raise invalid(f"encryptionScope.{name}")
    return found


def _shown(scope: EncryptionScope) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "source": scope.source,
        "state": scope.state,
        "creationTime": seven_digits(scope.created),
        "lastModifiedTime": seven_digits(scope.modified),
    }
    if scope.infrastructure_encryption is not None:
        properties["requireInfrastructureEncryption"] = scope.infrastructure_encryption
    if scope.key_uri is not None and scope.data_key is not None:
        properties["keyVaultProperties"] = {
            "keyUri": scope.key_uri,
            "currentVersionedKeyIdentifier": scope.data_key.key_id,
            "lastKeyRotationTimestamp": seven_digits(scope.data_key.rotated),
        }
    return {
        "id": f"{scope.account_id}/encryptionScopes/{scope.name}",
        "name": scope.name,
        "type": KIND,
        "properties": properties,
    }
