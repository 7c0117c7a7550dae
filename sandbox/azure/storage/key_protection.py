"""Which data key a storage account works with: wrapped under the customer's key, trusted for a while, renewed daily.

Codes: https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.key_vault.service_access import Barrier, KeyUnreachableError, ServiceIdentity, rsa_size
from sandbox.azure.storage.model import CustomerKey, DataKey, EncryptionScope, StorageAccount

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.service_access import EnteredVault, ServiceAccess
    from sandbox.azure.timings import Timings

RSA_SIZES = frozenset({2048, 3072, 4096})
CODES = {
    Barrier.IDENTITY: "KeyVaultAccessTokenCannotBeAcquired",
    Barrier.SIGN_IN: "KeyVaultAccessTokenCannotBeAcquired",
    Barrier.VAULT: "KeyVaultVaultNotFound",
    Barrier.KEY: "KeyVaultEncryptionKeyNotFound",
}
"""What the blob service answers at each barrier."""


class KeyUnfitError(Exception):
    """The key can be reached but must not protect a storage account: `policy` or `kind`."""


class KeyProtection:
    """Wraps and unwraps the accounts' data keys under the customers' keys."""

    def __init__(self, access: ServiceAccess, clock: Clock, timings: Timings) -> None:
        self._access = access
        self._clock = clock
        self._timings = timings

    async def _entered(self, account: StorageAccount, key: CustomerKey) -> EnteredVault:
        who = ServiceIdentity(
            account.tenant_id, key.user_assigned_identity, account.identity.system_principal, key.federated_client_id
        )
        return await self._access.enter(who, key.vault_uri)

    async def protect(self, account: StorageAccount, key: CustomerKey, plain: bytes, *, as_of: float | None = None) -> DataKey:
        """Wrap the data key under the customer's key and prove that it unwraps. Raises KeyUnreachableError, KeyUnfitError."""
        entered = await self._entered(account, key)
        version = entered.get(key.name, key.version, as_of=as_of)
        if "Purgeable" in entered.vault.recovery_level:
            raise KeyUnfitError("policy")
        if rsa_size(version) not in RSA_SIZES:
            raise KeyUnfitError("kind")
        wrapped = entered.wrap(key.name, version.version, plain)
        now = self._clock.now()
        return DataKey(
            plain=plain,
            wrapped=wrapped,
            key_version=version.version,
            key_id=entered.vault.key_id(key.name, version.version),
            expires=version.expires,
            rotated=now,
            verified=now,
            version_checked=now,
        )

    async def unwrap(self, account: StorageAccount) -> bytes:
        """The plain data key, asked from the vault now. Raises KeyUnreachableError."""
        key, data_key = account.customer_key, account.data_key
        if key is None or data_key.wrapped is None:
            return data_key.plain or b""
        entered = await self._entered(account, key)
        plain = entered.unwrap(key.name, data_key.key_version, data_key.wrapped)
        data_key.plain, data_key.verified = plain, self._clock.now()
        return plain

    async def unwrapped_scope(self, account: StorageAccount, scope: EncryptionScope) -> bytes:
        """The plain data key of an encryption scope, asked from its own vault now. Raises KeyUnreachableError."""
        held = scope.data_key
        if held is None:
            return b""
        if scope.key is None or held.wrapped is None:
            return held.plain or b""
        entered = await self._entered(account, scope.key)
        return entered.unwrap(scope.key.name, held.key_version, held.wrapped)

    async def data_key(self, account: StorageAccount) -> bytes:
        """The data key for a blob operation: from memory while the last check is trusted, else from the vault.

        After a failed check the key is forgotten, so that every call asks again and access heals at once.
        """
        held = account.data_key
        if account.customer_key is None and held.plain is not None:
            return held.plain
        if held.plain is not None and self._clock.now() - held.verified < self._timings.storage_loss_notice_seconds:
            return held.plain
        try:
            return await self.unwrap(account)
        except KeyUnreachableError as error:
            if error.throttled and held.plain is not None:
                return held.plain
            held.plain = None
            raise

    async def follow(self, account: StorageAccount) -> None:
        """The daily look for a newer version, if one has become due; an unreachable key changes nothing."""
        key, held = account.customer_key, account.data_key
        interval = self._timings.key_version_check_seconds
        if key is None or key.version or interval <= 0:
            return
        due = int((self._clock.now() - held.version_checked) // interval)
        if due < 1:
            return
        held.version_checked += due * interval
        try:
            if await self._unchanged(account, key):
                return
            plain = await self.unwrap(account)
            renewed = await self.protect(account, key, plain, as_of=held.version_checked)
        except (KeyUnreachableError, KeyUnfitError):
            return
        renewed.version_checked = renewed.rotated = held.version_checked
        account.data_key = renewed

    async def _unchanged(self, account: StorageAccount, key: CustomerKey) -> bool:
        """Whether the latest version is the one in use; its expiry may still be another."""
        entered = await self._entered(account, key)
        version = entered.get(key.name, key.version, as_of=account.data_key.version_checked)
        if version.version != account.data_key.key_version:
            return False
        account.data_key.expires = version.expires
        return True
