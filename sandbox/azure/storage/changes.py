"""What a PUT or PATCH does to an account's identity and encryption, with the resource provider's refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.errors import ArmRefusedError, EntraRefusedError
from sandbox.azure.key_vault.identifiers import vault_of
from sandbox.azure.key_vault.service_access import KeyUnreachableError, vault_host
from sandbox.azure.storage.key_protection import CODES, KeyUnfitError
from sandbox.azure.storage.model import KEY_VAULT, PLATFORM, CustomerKey, DataKey, StorageAccount
from sandbox.azure.storage.skus import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.azure.arm.assigned_identities import AssignedIdentities, IdentitySettings
    from sandbox.azure.arm.bodies import Encryption, IdentityBlock, KeyVaultProperties
    from sandbox.azure.storage.key_protection import KeyProtection
    from sandbox.azure.timings import Timings


FIXED = {"isHnsEnabled": False, "isNfsV3Enabled": False, "dnsEndpointType": "Standard"}
"""Properties that are chosen when an account is made, with what they are if nobody chose."""
LONGEST_TAG_NAME = 128


def cannot_be_updated(name: str) -> ArmRefusedError:
    """The refusal of a property that an account has for ever."""
    return ArmRefusedError(
        400,
        "AccountPropertyCannotBeUpdated",
        f"The property '{name}' was specified in the input, but it cannot be updated as it is read-only. For more information, see - "
        "https://aka.ms/storageaccountupdate",
    )


def check_fixed(account: StorageAccount, sent: Mapping[str, object]) -> None:
    """Raises ArmRefusedError 400 for a change of what an account has for ever."""
    for name, default in FIXED.items():
        if sent.get(name) is not None and sent[name] != account.settings.get(name, default):
            raise cannot_be_updated(name)


def check_tags(tags: Mapping[str, str] | None) -> None:
    """Raises ArmRefusedError 400 for the names of tags that are short enough for Resource Manager, but not for Storage."""
    if any(len(name) > LONGEST_TAG_NAME for name in tags or {}):
        raise ArmRefusedError(400, "MaxTagKeyLengthExceeded", "A key given in the tags is too long.")


class AccountChanges:
    """Applies the identity first, then the encryption; a refusal of either leaves the account as it was."""

    def __init__(self, identities: AssignedIdentities, protection: KeyProtection, timings: Timings) -> None:
        self._identities = identities
        self._protection = protection
        self._timings = timings

    async def apply(
        self,
        account: StorageAccount,
        identity: IdentityBlock | None,
        encryption: Encryption | None,
        *,
        new: bool = False,
        whole: bool = False,
    ) -> None:
        """Raises ArmRefusedError; some fields are set only while the account is made (`new`). `whole`: a PUT, no PATCH."""
        before = account.identity, dict(account.services), account.infrastructure_encryption
        try:
            if identity is not None:
                account.identity = self._identified(account, identity, whole=whole)
            if encryption is not None:
                await self._encryption(account, encryption, new=new)
            elif account.customer_key is not None:
                self._identity_present(account, account.customer_key)
        except ArmRefusedError:
            account.identity, account.services, account.infrastructure_encryption = before
            raise

    def _identified(self, account: StorageAccount, block: IdentityBlock, *, whole: bool) -> IdentitySettings:
        """An account takes one user-assigned identity (hashicorp/terraform-provider-azurerm#19717; azure-mgmt-storage, Identity)."""
        settings = self._identities.changed(account.id, account.tenant_id, account.identity, block, whole=whole)
        if len(settings.user_assigned) > self._timings.storage_user_assigned_identities:
            raise ArmRefusedError(400, "InvalidRequest", "Too many user-assigned identities specified on the resource.")
        return settings

    async def _encryption(self, account: StorageAccount, wanted: Encryption, *, new: bool) -> None:
        self._services(account, wanted, new=new)
        if not wanted.key_source:
            raise ArmRefusedError(400, "MissingEncryptionKeySource", "Encryption KeySource is missing from the request.")
        source = wanted.key_source.lower()
        if source == KEY_VAULT.lower():
            key = self._wanted_key(account, wanted)
            self._one_by_one(account.customer_key, key)
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
            raise ArmRefusedError(400, "UnknownEncryptionKeySource", f"Encryption KeySource '{wanted.key_source}' is unknown.")

    @staticmethod
    def _one_by_one(old: CustomerKey | None, new: CustomerKey) -> None:
        """The key, or the identity that accesses it: one changes at a time (words: Azure/bicep-registry-modules#4467)."""
        if old is None or old.same_key(new) or old.same_identity(new):
            return
        raise ArmRefusedError(
            400,
            "TooManyUpdateParametersSpecified",
            "The properties 'encryption.identity, encryption.keyvaultproperties' cannot be updated in a single operation.",
        )

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
            raise cannot_be_updated("requireInfrastructureEncryption")
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
