"""A storage account as ARM answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.azure.arm.identities import response_id
from sandbox.azure.clock import seven_digits
from sandbox.azure.endpoints import here
from sandbox.azure.storage.model import KEY_VAULT, PLATFORM

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.storage.model import CustomerKey, DataKey, StorageAccount


def account_shown(account: StorageAccount, identities: AssignedIdentities, now: float) -> dict[str, Any]:
    """The whole resource; what protects it stays as it was last set, whether the key can be reached or not."""
    created = seven_digits(account.created)
    services = ("web", "dfs", "blob", "file", "queue", "table") if account.has_queues_and_tables else ("blob", "dfs", "file")
    endpoints = {name: f"https://{account.name}.{name}{here().core_suffix}/" for name in services}
    properties: dict[str, Any] = {
        "keyCreationTime": {"key1": created, "key2": created},
        "privateEndpointConnections": [],
        "minimumTlsVersion": "TLS1_2",
        "allowBlobPublicAccess": False,
        "networkAcls": {"bypass": "AzureServices", "virtualNetworkRules": [], "ipRules": [], "defaultAction": "Allow"},
        "supportsHttpsTrafficOnly": True,
        "accessTier": "Hot",
        **account.settings,
        "encryption": _encryption(account),
        "provisioningState": "Succeeded" if account.ready <= now else "Creating",
        "creationTime": created,
        "primaryEndpoints": endpoints,
        "primaryLocation": account.location,
        "statusOfPrimary": "available",
    }
    shown: dict[str, Any] = {
        "sku": account.sku,
        "kind": account.kind,
        "id": account.id,
        "name": account.name,
        "type": "Microsoft.Storage/storageAccounts",
        "location": account.location,
        "tags": account.tags,
        "properties": properties,
    }
    if account.identity.type != "None":
        shown["identity"] = identities.shown(account.identity, account.tenant_id)
    return shown


def _encryption(account: StorageAccount) -> dict[str, Any]:
    since = seven_digits(account.created)
    services = {name: {"keyType": kind, "enabled": True, "lastEnabledTime": since} for name, kind in account.services.items()}
    shown: dict[str, Any] = {"services": services, "keySource": PLATFORM if account.customer_key is None else KEY_VAULT}
    if account.infrastructure_encryption is not None:
        shown["requireInfrastructureEncryption"] = account.infrastructure_encryption
    if account.customer_key is not None:
        shown["keyvaultproperties"] = _key(account.customer_key, account.data_key)
        if account.customer_key.user_assigned_identity is not None:
            shown["identity"] = {"userAssignedIdentity": response_id(account.customer_key.user_assigned_identity)}
            if account.customer_key.federated_client_id:
                shown["identity"]["federatedIdentityClientId"] = account.customer_key.federated_client_id
    return shown


def _key(key: CustomerKey, data_key: DataKey) -> dict[str, Any]:
    shown = {
        "keyvaulturi": key.vault_uri,
        "keyname": key.name,
        "keyversion": key.version,
        "currentVersionedKeyIdentifier": data_key.key_id,
        "lastKeyRotationTimestamp": seven_digits(data_key.rotated),
    }
    if data_key.expires is not None:
        shown["currentVersionedKeyExpirationTimestamp"] = seven_digits(float(data_key.expires))
    return shown
