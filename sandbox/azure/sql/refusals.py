"""SQL's refusals to use a key: codes, statuses and texts of the REST reference of encryptionProtectors and keys.

Beware: the statuses 401 are about the vault and not about the caller's token.
"""

from __future__ import annotations

import re

from sandbox.azure.endpoints import here
from sandbox.azure.errors import ArmRefusedError, EntraRefusedError
from sandbox.azure.key_vault.identifiers import key_of
from sandbox.azure.key_vault.service_access import Barrier, KeyUnreachableError
from sandbox.azure.sql.model import KeyLocation, Server, ServerKey

_ANY_VAULT = "https://contoso{}"
"""Put in the place of the host, it tells whether only the host is wrong."""
LONGEST_NAMES = 94
"""Of a vault's and a key's name together (https://learn.microsoft.com/azure/azure-sql/database/transparent-data-encryption-byok-key-rotation)."""


def refused(status: int, code: str, message: str) -> ArmRefusedError:
    """One of the provider's own refusals."""
    return ArmRefusedError(status, code, message)


def key_location(uri: str | None) -> KeyLocation:
    """A key identifier taken apart. Raises ArmRefusedError 400."""
    if not uri:
        raise refused(
            400,
            "SecurityAzureKeyVaultUrlNullOrEmpty",
            "The operation could not be completed because the Azure Key Vault Url is null or empty.",
        )
    found = key_of(uri)
    if found is None and key_of(re.sub(r"^https://[^/]*", _ANY_VAULT.format(here().vault_suffix), uri)) is not None:
        raise refused(
            400,
            "AzureKeyVaultMalformedVaultUri",
            f"The provided Key Vault uri '{uri}' is not valid. Please ensure the vault is valid.",
        )
    if found is None:
        raise refused(400, "AzureKeyVaultInvalidUri", f"Invalid Azure Key Vault key uri '{uri}'.")
    location = KeyLocation(found.vault_uri, found.name, found.version)
    if len(found.vault) + len(found.name) > LONGEST_NAMES:
        raise refused(
            400,
            "SecurityAzureKeyVaultInvalidKeyName",
            f"The operation could not be completed because of an invalid server key name in '{uri}'. The key vault name and the key name "
            f"together must not be longer than {LONGEST_NAMES} characters.",
        )
    return location


def same_key_material_missing(key: ServerKey, server: Server) -> ArmRefusedError:
    """How a server refuses a protector, or a secondary, where the other side of plain geo-replication does not know the key.

    Code: hashicorp/terraform-provider-azurerm#25906; text after the REST reference of KeyMaterialNotFoundOnRemoteServer.
    """
    return refused(
        400,
        "SameKeyMaterialNotFoundOnRemoteServer",
        "The remote server does not have access to an encryption protector key with the same key material as the encryption protector "
        f"key '{key.location.uri}'. Please add a key with the same key material to the remote server and try again. If required, update "
        f"policies on the Key Vault of the remote server '{server.name}' with the following permissions: Get, WrapKey, UnwrapKey.",
    )


def unreachable(error: KeyUnreachableError, location: KeyLocation, server: str) -> ArmRefusedError:
    """What the control plane answers when the way to the key ends at a barrier."""
    if error.barrier is Barrier.IDENTITY:
        return refused(
            401,
            "AzureKeyVaultNoServerIdentity",
            f"The server identity is not correctly configured on server '{server}'. Please contact support.",
        )
    if error.barrier is Barrier.VAULT:
        return refused(
            503,
            "AzureKeyVaultConnectionFailed",
            f"The operation could not be completed on the server because attempts to connect to Azure Key Vault '{location.uri}' failed.",
        )
    cause = error.cause
    if isinstance(cause, EntraRefusedError):
        if cause.code == "700016":
            return refused(
                401,
                "AdalServicePrincipalNotFound",
                f"The operation could not be completed because server '{server}' AAD Identity is not found in tenant. {cause.description}",
            )
        return refused(
            401,
            "AdalGenericError",
            f"The operation could not be completed because server '{server}' encountered an Azure Active Directory error. {cause.description}",
        )
    if error.barrier is Barrier.SIGN_IN:
        return refused(
            401,
            "AdalGenericError",
            f"The operation could not be completed because server '{server}' was not authenticated by Azure Key Vault '{location.uri}'.",
        )
    return _refused_by_vault(error, location, server)


def _refused_by_vault(error: KeyUnreachableError, location: KeyLocation, server: str) -> ArmRefusedError:
    cause = error.cause
    if error.throttled or cause is None or cause.status >= 500:
        return refused(
            503,
            "AzureKeyVaultGenericConnectionError",
            f"The operation could not be completed because an Azure Key Vault Error was encountered: Azure Key Vault '{location.uri}' "
            "asked to try again later.",
        )
    if cause.status == 404:
        return refused(
            409, "AzureKeyVaultKeyNameNotFound", f"The key vault key '{location.uri}' could not be found for server '{server}'."
        )
    if getattr(cause, "inner", None) == "KeyDisabled":
        return refused(
            401,
            "AzureKeyVaultKeyDisabled",
            f"The operation could not be completed on server '{server}' because the Azure Key Vault key "
            f"'{location.uri}' is disabled.",
        )
    return refused(
        401,
        "AzureKeyVaultMissingPermissions",
        f"The server '{server}' requires the following Azure Key Vault permissions: 'get, wrapKey, unwrapKey'. Please grant the missing "
        f"permissions to the service principal on '{location.uri}'.",
    )
