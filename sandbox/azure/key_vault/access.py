"""Who may do what with a vault's data: token, network, then roles or access policies."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from sandbox.azure.endpoints import here
from sandbox.azure.entra.tokens import Claims, TokenInvalidError, vault_audiences
from sandbox.azure.errors import VaultRefusedError

if TYPE_CHECKING:
    from sandbox.azure.arm.authorization import Authorization
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.exchange import Notes
    from sandbox.azure.key_vault.model import AccessSettings, Vault
    from sandbox.azure.timings import Timings

# Every client of the sandbox comes from this address (RFC 5737); put it in a vault's ipRules to let them in.
CLIENT_ADDRESS = "203.0.113.10"
KEYS = "Microsoft.KeyVault/vaults/keys"

# What each operation needs: the data action, and the permission in an access policy.
PERMISSIONS = {
    "get": (f"{KEYS}/read", "get"),
    "list": (f"{KEYS}/read", "list"),
    "create": (f"{KEYS}/create/action", "create"),
    "update": (f"{KEYS}/update/action", "update"),
    "delete": (f"{KEYS}/delete", "delete"),
    "recover": (f"{KEYS}/recover/action", "recover"),
    "purge": (f"{KEYS}/purge/action", "purge"),
    "rotate": (f"{KEYS}/rotate/action", "rotate"),
    "backup": (f"{KEYS}/backup/action", "backup"),
    "restore": (f"{KEYS}/restore/action", "restore"),
    "wrapKey": (f"{KEYS}/wrap/action", "wrapKey"),
    "unwrapKey": (f"{KEYS}/unwrap/action", "unwrapKey"),
    "encrypt": (f"{KEYS}/encrypt/action", "encrypt"),
    "decrypt": (f"{KEYS}/decrypt/action", "decrypt"),
    "sign": (f"{KEYS}/sign/action", "sign"),
    "verify": (f"{KEYS}/verify/action", "verify"),
    "getrotationpolicy": ("Microsoft.KeyVault/vaults/keyrotationpolicies/read", "getrotationpolicy"),
    "setrotationpolicy": ("Microsoft.KeyVault/vaults/keyrotationpolicies/write", "setrotationpolicy"),
}


@dataclass(frozen=True)
class VaultCaller:
    """Who calls, and whether it is one of Azure's trusted services, comes from subnets (ids in lower case) or from the internet."""

    claims: Claims
    trusted_service: bool = False
    subnets: frozenset[str] = frozenset()
    notes: Notes | None = None
    """Of the request, if it came over the network: which role assignment let it in."""


def challenge(vault: Vault) -> str:
    """Tells a client which tenant owns the vault and which resource to ask a token for."""
    return f'Bearer authorization="{here().authority}/{vault.tenant_id}", resource="{here().vault_audience}"'


def _unauthorized(vault: Vault, message: str) -> VaultRefusedError:
    return VaultRefusedError(401, "Unauthorized", message, headers={"WWW-Authenticate": challenge(vault)})


class VaultAccess:
    """The checks in the order in which Key Vault makes them."""

    def __init__(self, tokens: Tokens, authorization: Authorization, clock: Clock, timings: Timings) -> None:
        self._tokens = tokens
        self._authorization = authorization
        self._clock = clock
        self._timings = timings

    def caller(self, vault: Vault, token: str | None, *, trusted_service: bool = False) -> VaultCaller:
        """The caller of a valid token of the vault's tenant. Raises VaultRefusedError 401 with the challenge."""
        if token is None:
            raise _unauthorized(vault, "AKV10000: Request is missing a Bearer, PoP, or MTLS_POP token.")
        try:
            claims = self._tokens.verify(token, vault_audiences())
        except TokenInvalidError as error:
            message = {
                "audience": f"AKV10022: Invalid audience. Expected {here().vault_audience}, found: {error.token_audience}.",
                "expired": "AKV10001: Error validating token: S2S12005: Token has expired.",
            }.get(error.reason, "AKV10046: Unable to resolve the key used for signature validation.")
            raise _unauthorized(vault, message) from error
        if claims.tenant_id != vault.tenant_id:
            raise _unauthorized(
                vault,
                f"AKV10032: Invalid issuer. Expected one of {here().token_issuer}/{vault.tenant_id}/, found {claims.issuer}.",
            )
        return VaultCaller(claims, trusted_service)

    def check(self, vault: Vault, caller: VaultCaller, operation: str, key: str | None) -> None:
        """Raises VaultRefusedError 403 unless the network and the permissions let the caller do it."""
        settings = vault.settings(self._clock.now() - self._timings.vault_settings_propagation_seconds)
        self._network(vault, settings, caller)
        data_action, permission = PERMISSIONS[operation]
        if settings.rbac:
            self._roles(vault, caller, data_action, key)
        else:
            self._policies(vault, settings, caller, permission)

    @staticmethod
    def _network(vault: Vault, settings: AccessSettings, caller: VaultCaller) -> None:
        rules = settings.network
        bypass = rules is None or rules.bypass.lower() == "azureservices"
        if caller.trusted_service and bypass and settings.public_network_access.lower() != "securedbyperimeter":
            return
        if settings.public_network_access.lower() in {"disabled", "securedbyperimeter"}:
            raise VaultRefusedError(
                403,
                "Forbidden",
                "Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\n"
                f"Caller: {_named(caller)}\r\nVault: {vault.name};location={vault.location}",
                inner="ForbiddenByConnection",
            )
        if rules is None or rules.default_action.lower() == "allow":
            return
        if caller.subnets:
            # A service that comes now from one of its subnets and now from another is let in only if all of them are.
            admitted = caller.subnets <= {str(rule.get("id", "")).lower() for rule in rules.virtual_network_rules}
        else:
            admitted = not caller.trusted_service and any(_contains(rule, CLIENT_ADDRESS) for rule in rules.ip_rules)
        if admitted:
            return
        raise VaultRefusedError(
            403,
            "Forbidden",
            f"Client address is not authorized and caller is not a trusted service.\r\nClient address: {CLIENT_ADDRESS}\r\n"
            f"Caller: {_named(caller)}\r\nVault: {vault.name};location={vault.location}",
            inner="ForbiddenByFirewall",
        )

    def _roles(self, vault: Vault, caller: VaultCaller, data_action: str, key: str | None) -> None:
        scope = f"{vault.id}/keys/{key}" if key else vault.id
        granted = self._authorization.granting(caller.claims.object_id, data_action, scope, data=True)
        if granted is not None:
            if caller.notes is not None:
                caller.notes.headers["x-ms-keyvault-rbac-assignment-id"] = granted.name.replace("-", "")
            return
        resource = scope.lower()
        raise VaultRefusedError(
            403,
            "Forbidden",
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were "
            f"changed recently, please observe propagation time.\r\nCaller: {_named(caller)}\r\nAction: '{data_action}'\r\n"
            f"Resource: '{resource}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\n"
            f"Vault: {vault.name};location={vault.location}\r\n",
            inner="ForbiddenByRbac",
        )

    @staticmethod
    def _policies(vault: Vault, settings: AccessSettings, caller: VaultCaller, permission: str) -> None:
        for policy in settings.access_policies:
            if policy.object_id == caller.claims.object_id and policy.tenant_id == caller.claims.tenant_id:
                granted = {one.lower() for one in policy.permissions.keys or ()}
                if permission.lower() in granted or "all" in granted:
                    return
        raise VaultRefusedError(
            403,
            "Forbidden",
            f"The user, group or application '{_named(caller)}' does not have keys {permission.lower()} permission on key vault "
            f"'{vault.name};location={vault.location}'. For help resolving this issue, please see "
            "https://go.microsoft.com/fwlink/?linkid=2125287",
            inner="ForbiddenByPolicy",
        )


def _named(caller: VaultCaller) -> str:
    return f"appid={caller.claims.app_id};oid={caller.claims.object_id};iss={caller.claims.issuer}"


def _contains(rule: str, address: str) -> bool:
    return ip_address(address) in ip_network(rule, strict=False)
