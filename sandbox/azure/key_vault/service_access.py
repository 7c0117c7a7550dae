"""How Azure's services access a customer's key: as the resource's own identity, with the same checks as every client.

Managed identity of the resource -> token for the exchange audience -> the multitenant application in the tenant that the vault's
challenge names -> get, wrap and unwrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.azure.endpoints import here
from sandbox.azure.entra.tokens import EXCHANGE_APP_ID
from sandbox.azure.errors import EntraRefusedError, VaultRefusedError
from sandbox.azure.key_vault.access import challenge

if TYPE_CHECKING:
    from sandbox.azure.arm.identities import Identities
    from sandbox.azure.entra.directory import Directory, ServicePrincipal
    from sandbox.azure.entra.token_endpoint import TokenEndpoint
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.key_vault.access import VaultAccess, VaultCaller
    from sandbox.azure.key_vault.keys import Keys
    from sandbox.azure.key_vault.model import KeyVersion, Vault, Vaults

ALGORITHM = "RSA-OAEP-256"


class Barrier(Enum):
    """How far a service came on its way to a key."""

    IDENTITY = "the resource has no such managed identity"
    VAULT = "no vault has this name"
    SIGN_IN = "Entra gives no token that the vault accepts"
    KEY = "the vault refuses what the service asks of the key"


class KeyUnreachableError(Exception):
    """The service cannot use the key: at which barrier, and the refusal it met there, if someone spoke one."""

    def __init__(self, barrier: Barrier, cause: EntraRefusedError | VaultRefusedError | None = None) -> None:
        super().__init__(barrier.value if cause is None else f"{barrier.value}: {cause}")
        self.barrier = barrier
        self.cause = cause

    @property
    def throttled(self) -> bool:
        """Whether the vault only asked to come back later."""
        return self.cause is not None and self.cause.status == 429


@dataclass(frozen=True)
class ServiceIdentity:
    """Who the service is on behalf of a resource: a user-assigned identity (ARM id), or the resource's own principal (object id)."""

    tenant_id: str
    user_assigned_identity: str | None = None
    system_principal: str | None = None
    federated_client_id: str | None = None


@dataclass(frozen=True)
class Doors:
    """What every service goes through: Entra's directory and token endpoint, and the vaults."""

    directory: Directory
    tokens: Tokens
    token_endpoint: TokenEndpoint
    identities: Identities
    vaults: Vaults
    keys: Keys
    access: VaultAccess


@dataclass(frozen=True)
class EnteredVault:
    """A vault that accepted the service's token; each method asks it. Raises KeyUnreachableError."""

    vault: Vault
    _caller: VaultCaller
    _keys: Keys

    def get(self, name: str, version: str = "", *, as_of: float | None = None) -> KeyVersion:
        """A version, or the latest; the latest of a moment in virtual time if `as_of` is given."""
        try:
            key, found = self._keys.get(self.vault, self._caller, name, version)
        except VaultRefusedError as error:
            raise KeyUnreachableError(Barrier.KEY, error) from error
        if as_of is None or version:
            return found
        existing = [one for one in key.versions.values() if one.created <= as_of]
        return existing[-1] if existing else found

    def wrap(self, name: str, version: str, plain: bytes) -> bytes:
        """Wrap a data key, and prove that it unwraps again."""
        try:
            _, wrapped = self._keys.wrap(self.vault, self._caller, name, version, ALGORITHM, plain)
        except VaultRefusedError as error:
            raise KeyUnreachableError(Barrier.KEY, error) from error
        self.unwrap(name, version, wrapped)
        return wrapped

    def unwrap(self, name: str, version: str, wrapped: bytes) -> bytes:
        """The plain data key."""
        try:
            return self._keys.unwrap(self.vault, self._caller, name, version, ALGORITHM, wrapped)
        except VaultRefusedError as error:
            raise KeyUnreachableError(Barrier.KEY, error) from error


class ServiceAccess:
    """The way into a customer's vault."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def enter(self, identity: ServiceIdentity, vault_uri: str) -> EnteredVault:
        """A fresh token for the vault's tenant, by Entra's own rules. Raises KeyUnreachableError."""
        vault = self._doors.vaults.serving(vault_host(vault_uri).split(".")[0], self._doors.keys.recovered_before())
        if vault is None:
            raise KeyUnreachableError(Barrier.VAULT)
        return EnteredVault(vault, await self._caller(identity, vault), self._doors.keys)

    def _principal(self, identity: ServiceIdentity) -> ServicePrincipal:
        principals = self._doors.directory.tenants[identity.tenant_id].principals
        if identity.user_assigned_identity is None:
            found = principals.get(identity.system_principal or "")
        else:
            state = self._doors.identities.find(identity.user_assigned_identity)
            found = principals.get(state.identity.principal_id) if state else None
        if found is None:
            raise KeyUnreachableError(Barrier.IDENTITY)
        return found

    async def _caller(self, identity: ServiceIdentity, vault: Vault) -> VaultCaller:
        principal = self._principal(identity)
        tenant_id = challenge(vault).split(f'"{here().authority}/')[1].split('"')[0]
        try:
            if identity.federated_client_id:
                assertion = self._doors.tokens.issue(principal, EXCHANGE_APP_ID, by_secret=False)
                token = await self._doors.token_endpoint.exchange_assertion(
                    tenant_id, identity.federated_client_id, assertion, f"{here().vault_audience}/.default"
                )
            else:
                token = self._doors.tokens.issue(principal, here().vault_audience, by_secret=False)
            return self._doors.access.caller(vault, token, trusted_service=True)
        except (EntraRefusedError, VaultRefusedError) as error:
            raise KeyUnreachableError(Barrier.SIGN_IN, error) from error


def vault_host(vault_uri: str) -> str:
    """The host of a vault URI, without port and slash."""
    return (urlsplit(vault_uri).hostname or "").lower()


def rsa_size(version: KeyVersion) -> int | None:
    """The bits of an RSA key; None for any other kind."""
    return version.private.key_size if isinstance(version.private, rsa.RSAPrivateKey) else None
