"""How Azure Storage reaches a customer's key: as the account's own identity, through the same doors as everyone.

Managed identity of the account -> token for the exchange audience -> the multitenant application in the tenant that the vault's
challenge names -> get, wrap and unwrap. Codes: https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.entra.tokens import EXCHANGE_APP_ID, LOGIN
from sandbox.azure.errors import EntraRefusedError, VaultRefusedError
from sandbox.azure.key_vault.access import RESOURCE, challenge
from sandbox.azure.storage.model import CustomerKey, DataKey, StorageAccount

if TYPE_CHECKING:
    from sandbox.azure.arm.identities import Identities
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory, ServicePrincipal
    from sandbox.azure.entra.token_endpoint import TokenEndpoint
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.key_vault.access import VaultAccess, VaultCaller
    from sandbox.azure.key_vault.keys import Keys
    from sandbox.azure.key_vault.model import KeyVersion, Vault, Vaults
    from sandbox.azure.timings import Timings

ALGORITHM = "RSA-OAEP-256"
RSA_SIZES = frozenset({2048, 3072, 4096})


class KeyUnreachableError(Exception):
    """The service cannot use the key; `code` is what the blob service answers, `cause` the refusal it met on the way."""

    def __init__(self, code: str, cause: EntraRefusedError | VaultRefusedError | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.cause = cause


class KeyUnfitError(Exception):
    """The key can be reached but must not protect a storage account: `policy` or `kind`."""


def vault_host(vault_uri: str) -> str:
    """The host of a vault URI, without port and slash."""
    return (urlsplit(vault_uri).hostname or "").lower()


@dataclass(frozen=True)
class Doors:
    """What the storage service goes through: Entra's directory and token endpoint, and the vaults."""

    directory: Directory
    tokens: Tokens
    token_endpoint: TokenEndpoint
    identities: Identities
    vaults: Vaults
    keys: Keys
    access: VaultAccess


class KeyProtection:
    """Wraps and unwraps the accounts' data keys under the customers' keys."""

    def __init__(self, doors: Doors, clock: Clock, timings: Timings) -> None:
        self._doors = doors
        self._clock = clock
        self._timings = timings

    def _principal(self, account: StorageAccount, key: CustomerKey) -> ServicePrincipal:
        principals = self._doors.directory.tenants[account.tenant_id].principals
        if key.user_assigned_identity is None:
            found = principals.get(account.identity.system_principal or "")
        else:
            state = self._doors.identities.find(key.user_assigned_identity)
            found = principals.get(state.identity.principal_id) if state else None
        if found is None:
            raise KeyUnreachableError("KeyVaultAccessTokenCannotBeAcquired")
        return found

    def _vault(self, key: CustomerKey) -> Vault:
        vault = self._doors.vaults.live(vault_host(key.vault_uri).split(".")[0])
        if vault is None:
            raise KeyUnreachableError("KeyVaultVaultNotFound")
        return vault

    async def _caller(self, account: StorageAccount, key: CustomerKey, vault: Vault) -> VaultCaller:
        principal = self._principal(account, key)
        tenant_id = challenge(vault).split(f'"{LOGIN}/')[1].split('"')[0]
        try:
            if key.federated_client_id:
                assertion = self._doors.tokens.issue(principal, EXCHANGE_APP_ID, by_secret=False)
                scope = f"{RESOURCE}/.default"
                token = await self._doors.token_endpoint.exchange_assertion(
                    tenant_id, key.federated_client_id, assertion, scope
                )
            else:
                token = self._doors.tokens.issue(principal, RESOURCE, by_secret=False)
        except EntraRefusedError as error:
            raise KeyUnreachableError("KeyVaultAccessTokenCannotBeAcquired", error) from error
        try:
            return self._doors.access.caller(vault, token, trusted_service=True)
        except VaultRefusedError as error:
            raise KeyUnreachableError("KeyVaultAccessTokenCannotBeAcquired", error) from error

    async def protect(self, account: StorageAccount, key: CustomerKey, plain: bytes, *, as_of: float | None = None) -> DataKey:
        """Wrap the data key under the customer's key and prove that it unwraps. Raises KeyUnreachableError, KeyUnfitError."""
        vault = self._vault(key)
        caller = await self._caller(account, key, vault)
        try:
            version = self._chosen(vault, caller, key, as_of)
            if "Purgeable" in vault.recovery_level:
                raise KeyUnfitError("policy")
            if not isinstance(version.private, rsa.RSAPrivateKey) or version.private.key_size not in RSA_SIZES:
                raise KeyUnfitError("kind")
            _, wrapped = self._doors.keys.wrap(vault, caller, key.name, version.version, ALGORITHM, plain)
            self._doors.keys.unwrap(vault, caller, key.name, version.version, ALGORITHM, wrapped)
        except VaultRefusedError as error:
            raise KeyUnreachableError("KeyVaultEncryptionKeyNotFound", error) from error
        now = self._clock.now()
        return DataKey(
            plain=plain,
            wrapped=wrapped,
            key_version=version.version,
            key_id=vault.key_id(key.name, version.version),
            expires=version.expires,
            rotated=now,
            verified=now,
            version_checked=now,
        )

    def _chosen(self, vault: Vault, caller: VaultCaller, key: CustomerKey, as_of: float | None) -> KeyVersion:
        found, version = self._doors.keys.get(vault, caller, key.name, key.version)
        if as_of is None or key.version:
            return version
        existing = [one for one in found.versions.values() if one.created <= as_of]
        return existing[-1] if existing else version

    async def unwrap(self, account: StorageAccount) -> bytes:
        """The plain data key, asked from the vault now. Raises KeyUnreachableError."""
        key, data_key = account.customer_key, account.data_key
        if key is None or data_key.wrapped is None:
            return data_key.plain or b""
        vault = self._vault(key)
        caller = await self._caller(account, key, vault)
        try:
            plain = self._doors.keys.unwrap(vault, caller, key.name, data_key.key_version, ALGORITHM, data_key.wrapped)
        except VaultRefusedError as error:
            raise KeyUnreachableError("KeyVaultEncryptionKeyNotFound", error) from error
        data_key.plain, data_key.verified = plain, self._clock.now()
        return plain

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
            if isinstance(error.cause, VaultRefusedError) and error.cause.status == 429 and held.plain is not None:
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
        vault = self._vault(key)
        caller = await self._caller(account, key, vault)
        try:
            version = self._chosen(vault, caller, key, account.data_key.version_checked)
        except VaultRefusedError as error:
            raise KeyUnreachableError("KeyVaultEncryptionKeyNotFound", error) from error
        if version.version != account.data_key.key_version:
            return False
        account.data_key.expires = version.expires
        return True
