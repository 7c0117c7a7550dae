"""What a PUT or PATCH does to an account's identity and encryption, with the resource provider's refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.errors import ArmRefusedError, EntraRefusedError
from sandbox.azure.key_vault.identifiers import vault_of
from sandbox.azure.key_vault.service_access import KeyUnreachableError, vault_host
from sandbox.azure.storage.key_protection import CODES, KeyUnfitError
from sandbox.azure.storage.model import KEY_VAULT, PLATFORM, CustomerKey, DataKey, StorageAccount

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.arm.bodies import Encryption, IdentityBlock, KeyVaultProperties
    from sandbox.azure.clock import Clock
    from sandbox.azure.storage.key_protection import KeyProtection


def invalid(parameters: str) -> ArmRefusedError:
    """The storage resource provider's 400 for values it does not take."""
    return ArmRefusedError(
        400, "InvalidValuesForRequestParameters", f"Values for request parameters are invalid: {parameters}."
    )


class AccountChanges:
    """Applies the identity first, then the encryption; a refusal of either leaves the account as it was."""

    def __init__(self, identities: AssignedIdentities, protection: KeyProtection, clock: Clock) -> None:
        self._identities = identities
        self._protection = protection
        self._clock = clock

    async def apply(
        self, account: StorageAccount, identity: IdentityBlock | None, encryption: Encryption | None, *, new: bool = False
    ) -> None:
        """Raises ArmRefusedError; some fields are set only while the account is made (`new`)."""
        before = account.identity
        try:
            if identity is not None:
                account.identity = self._identities.changed(account.id, account.tenant_id, before, identity)
            if encryption is not None:
                await self._encryption(account, encryption, new=new)
            elif account.customer_key is not None:
                self._identity_present(account, account.customer_key)
        except ArmRefusedError:
            account.identity = before
            raise

    async def _encryption(self, account: StorageAccount, wanted: Encryption, *, new: bool) -> None:
        self._services(account, wanted, new=new)
        source = (wanted.key_source or (KEY_VAULT if account.customer_key else PLATFORM)).lower()
        if source == KEY_VAULT.lower():
            key = self._wanted_key(account, wanted)
            self._identity_present(account, key)
            renewed = await self._protected(account, key)
            if account.customer_key is not None and renewed.key_id == account.data_key.key_id:
                renewed.rotated = account.data_key.rotated
            account.customer_key, account.data_key = key, renewed
        elif source == PLATFORM.lower():
            if wanted.keyvaultproperties is not None and wanted.keyvaultproperties.sent():
                raise invalid("encryption.keyvaultproperties")
            if account.customer_key is not None:
                account.data_key = DataKey(await self._unwrapped(account))
                account.customer_key = None
        else:
            raise invalid("encryption.keySource")

    @staticmethod
    def _services(account: StorageAccount, wanted: Encryption, *, new: bool) -> None:
        """Whether queues and tables are under the account's key is decided when the account is made, and never again."""
        for name in ("blob", "file", "table", "queue"):
            service = getattr(wanted.services, name) if wanted.services else None
            if service is None:
                continue
            if service.enabled is False:
                raise invalid(f"encryption.services.{name}.enabled")
            before = account.services.get(name, "Service" if name in {"table", "queue"} else "Account")
            wanted_type = service.key_type or before
            if name in {"blob", "file"} and wanted_type != "Account":
                raise invalid(f"encryption.services.{name}.keyType")
            if wanted_type != before and not (new and account.has_queues_and_tables and account.kind == "StorageV2"):
                raise invalid(f"encryption.services.{name}.keyType")
            account.services[name] = wanted_type
        doubled = wanted.require_infrastructure_encryption
        if doubled is not None and not new and doubled != bool(account.infrastructure_encryption):
            raise invalid("encryption.requireInfrastructureEncryption")
        if doubled is not None:
            account.infrastructure_encryption = doubled

    @staticmethod
    def _wanted_key(account: StorageAccount, wanted: Encryption) -> CustomerKey:
        old, sent = account.customer_key, wanted.keyvaultproperties
        if sent is None and old is None:
            raise invalid("encryption.keyvaultproperties")
        name = _sent(sent, "key_name") or (old.name if old else None)
        uri = _sent(sent, "key_vault_uri") or (old.vault_uri if old else None)
        if not name or not uri:
            raise invalid("encryption.keyvaultproperties.keyname" if not name else "encryption.keyvaultproperties.keyvaulturi")
        if vault_of(uri) is None:
            raise invalid("encryption.keyvaultproperties.keyvaulturi")
        version = _sent(sent, "key_version")
        if version is None:
            # Not in the body: the old version stays, as long as it is the same key.
            same = old is not None and (old.name.lower(), vault_host(old.vault_uri)) == (name.lower(), vault_host(uri))
            version = old.version if old is not None and same else ""
        identity, client = (old.user_assigned_identity, old.federated_client_id) if old else (None, None)
        if wanted.identity is not None:
            given = wanted.identity.model_fields_set
            if "user_assigned_identity" in given:
                identity = wanted.identity.user_assigned_identity or None
            if "federated_identity_client_id" in given:
                client = wanted.identity.federated_identity_client_id or None
        return CustomerKey(uri, name, version, identity, client)

    @staticmethod
    def _identity_present(account: StorageAccount, key: CustomerKey) -> None:
        assigned = {one.lower() for one in account.identity.user_assigned}
        if key.user_assigned_identity is None and account.identity.system_principal and not key.federated_client_id:
            return
        if key.user_assigned_identity is not None and key.user_assigned_identity.lower() in assigned:
            return
        raise ArmRefusedError(
            400,
            "InvalidRequest",
            "Missing pre-requisites to enable EncryptionAtRest/Customer Managed Key for this storage account. For more information, see - "
            "https://aka.ms/storagecmkconfiguration",
        )

    async def _unwrapped(self, account: StorageAccount) -> bytes:
        try:
            return await self._protection.unwrap(account)
        except KeyUnreachableError as error:
            raise unreachable(error) from error

    async def _protected(self, account: StorageAccount, key: CustomerKey) -> DataKey:
        plain = await self._unwrapped(account)
        try:
            return await self._protection.protect(account, key, plain)
        except KeyUnreachableError as error:
            raise unreachable(error) from error
        except KeyUnfitError as error:
            raise unfit(error) from error


def _sent(properties: KeyVaultProperties | None, name: str) -> str | None:
    value = getattr(properties, name) if properties is not None and name in properties.model_fields_set else None
    return None if value is None else str(value)


def unfit(error: KeyUnfitError) -> ArmRefusedError:
    """How the control plane says that the key must not protect a storage account."""
    if str(error) == "policy":
        return ArmRefusedError(400, "KeyVaultPolicyError", "Keyvault policy recoverable is not set")
    return invalid("encryption.keyvaultproperties.keyname")


def unreachable(error: KeyUnreachableError) -> ArmRefusedError:
    """How the control plane says that the service could not use the key."""
    cause = error.cause
    if isinstance(cause, EntraRefusedError):
        return ArmRefusedError(
            403,
            "GatewayAuthenticationFailed",
            f"Gateway authentication failed for 'Microsoft.Storage'. Inner error: {cause.description}",
        )
    code = CODES[error.barrier]
    if code == "KeyVaultAccessTokenCannotBeAcquired":
        return ArmRefusedError(403, "GatewayAuthenticationFailed", "Gateway authentication failed for 'Microsoft.Storage'.")
    if code == "KeyVaultVaultNotFound":
        return ArmRefusedError(404, code, "The key vault is not found for encryption.")
    if error.throttled:
        return ArmRefusedError(429, "TooManyRequests", "The key vault is throttling requests.", headers={"Retry-After": "10"})
    reason = getattr(cause, "inner", None) or ""
    if reason.startswith("ForbiddenBy"):
        return ArmRefusedError(
            400, "KeyVaultAuthenticationFailure", "The operation failed because of authentication issue on the keyvault."
        )
    return ArmRefusedError(400, "KeyVaultEncryptionKeyNotFound", "The key vault key is not found to unwrap the encryption key.")
