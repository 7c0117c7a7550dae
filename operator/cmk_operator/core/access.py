"""Whether a key can be reached, told apart by Azure's error codes: who must act, and what stops if nobody does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults import Actor

if TYPE_CHECKING:
    from collections.abc import Mapping


class AccessState(StrEnum):
    """What the last probe found; also the reasons of the `KeyAccessible` condition."""

    ACCESSIBLE = "Accessible"
    DISABLED = "Disabled"
    EXPIRED = "Expired"
    NOT_YET_VALID = "NotYetValid"
    DELETED = "Deleted"
    PURGED = "Purged"
    VERSION_MISSING = "VersionMissing"
    PERMISSION_DENIED = "PermissionDenied"
    CONSENT_MISSING = "ConsentMissing"
    VAULT_IN_ANOTHER_TENANT = "VaultInAnotherTenant"
    IDENTITY_BROKEN = "IdentityBroken"
    OPERATOR_NOT_AUTHENTICATED = "OperatorNotAuthenticated"
    FIREWALL_BLOCKS_PROBE = "FirewallBlocksProbe"
    VAULT_UNREACHABLE = "VaultUnreachable"
    UNKNOWN = "Unknown"

    @property
    def is_known_loss(self) -> bool:
        """Whether Azure's own services, which take the same path, are refused as well."""
        return self in _KNOWN_LOSS

    @property
    def cuts_data_off(self) -> bool:
        """Whether data is expected to become inaccessible while this lasts (an outage counts, once services miss the key)."""
        return self in _KNOWN_LOSS or self is AccessState.VAULT_UNREACHABLE


_KNOWN_LOSS: Final = frozenset(
    {
        AccessState.DISABLED,
        AccessState.EXPIRED,
        AccessState.NOT_YET_VALID,
        AccessState.DELETED,
        AccessState.PURGED,
        AccessState.VERSION_MISSING,
        AccessState.PERMISSION_DENIED,
        AccessState.CONSENT_MISSING,
        AccessState.VAULT_IN_ANOTHER_TENANT,
        AccessState.IDENTITY_BROKEN,
    }
)


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """What a GET of one key version says (public part only).

    `recovery_level` and `recoverable_days` are the only way to see purge protection without control-plane rights.
    Source: Key Vault REST, KeyBundle and DeletionRecoveryLevel.
    """

    version: str
    enabled: bool
    key_type: str
    key_size: int | None
    operations: tuple[str, ...]
    created: datetime | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    recovery_level: str = ""
    recoverable_days: int | None = None


@dataclass(frozen=True, slots=True)
class VersionProbe:
    """One version: read, then wrapped and unwrapped in the vault; the first refusal ends it."""

    attributes: KeyAttributes | None = None
    failure: AzureFailure | None = None
    operation: str = "get"
    """The vault operation that failed: get, wrapKey or unwrapKey."""
    round_trip: bool = False
    """Whether the unwrapped bytes are the wrapped ones."""


@dataclass(frozen=True, slots=True)
class DeletedKey:
    """A soft-deleted key, as GET /deletedkeys/{name} tells it."""

    scheduled_purge: datetime | None


@dataclass(frozen=True, slots=True)
class KeyProbe:
    """Everything one visit to a vault learnt about one key, through the customer's consent and grants."""

    at: datetime
    wanted: VersionProbe
    """The pinned version, or the latest."""
    in_use: Mapping[str, VersionProbe] = field(default_factory=dict)
    """Older versions that still protect something, by version."""
    deleted: DeletedKey | None = None
    """Set when the key was not found but its soft-deleted form was."""
    latest_exists: bool | None = None
    """For a pinned version that was not found: whether the key itself is there (None: not asked)."""
    vault_tenant: str | None = None
    """The tenant that the vault's challenge names, when it is not the declared one."""

    def version_is_accessible(self, version: str) -> bool:
        """Whether this visit wrapped and unwrapped with `version`."""
        probe = self.wanted
        if probe.attributes is None or probe.attributes.version != version:
            probe = self.in_use.get(version, VersionProbe())
        return probe.round_trip


@dataclass(frozen=True, slots=True)
class Access:
    """The verdict on one probe: the state, a deterministic sentence that ends with who must do what, and that actor."""

    state: AccessState
    message: str
    actor: Actor | None = None
    request_id: str | None = None


_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

# Entra's refusals on the way to the customer's tenant. Source: Entra "Authentication and authorization error codes".
_ENTRA: Final[Mapping[int, tuple[AccessState, Actor, str]]] = MappingProxyType(
    {
        700016: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the application has no service principal in the customer's tenant: the customer's administrator must open the "
            "consent URL of the CustomerTenant",
        ),
        7000112: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the application is disabled: the customer's administrator must enable its enterprise application",
        ),
        90002: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the customer's tenant does not exist: the provider's administrator must correct spec.tenantId of the CustomerTenant",
        ),
        650059: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the application is single-tenant: the provider's administrator must set its signInAudience to AzureADMultipleOrgs",
        ),
        53003: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a Conditional Access policy blocks the application: the customer's administrator must exempt its workload identity",
        ),
        530032: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a tenant policy blocks the application: the customer's administrator must exempt its workload identity",
        ),
        700236: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a tenant policy blocks federated credentials issued by Entra: the customer's administrator must allow them",
        ),
    }
)
_FEDERATION: Final = frozenset(
    {
        70021,
        700211,
        700212,
        700213,
        7002121,
        700222,
        700223,
        700226,
        700227,
        700229,
        7000226,
        7000215,
        7000222,
        700027,
        50027,
        90061,
    }
)
"""No federated credential fits, or the assertion is not acceptable: the provider's side."""
_ENTRA_BUSY: Final = frozenset({50000, 50033, 90012, 90024, 90033, 90055})
"""Entra's own troubles: the same request succeeds later."""

# Inner codes of Key Vault's 403. Source: Key Vault "Common error codes", and recordings of its SDKs.
_FORBIDDEN: Final[Mapping[str, tuple[AccessState, Actor, str]]] = MappingProxyType(
    {
        "KeyDisabled": (
            AccessState.DISABLED,
            _CUSTOMER,
            "the key version is disabled: the customer's administrator must enable it, or leave it disabled to keep data cut off",
        ),
        "ForbiddenByRbac": (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "Key Vault refuses {operation} by RBAC: the customer's administrator must assign the role Key Vault Crypto Service "
            "Encryption User to the application on the vault or key (a new assignment takes some minutes)",
        ),
        "ForbiddenByPolicy": (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "Key Vault refuses {operation} by access policy: the customer's administrator must grant the application get, "
            "wrapKey and unwrapKey",
        ),
        "AccessDenied": (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "Key Vault refuses {operation}: the customer's administrator must grant the application get, wrapKey and unwrapKey",
        ),
        "ForbiddenByFirewall": (
            AccessState.FIREWALL_BLOCKS_PROBE,
            _CUSTOMER,
            "the vault's firewall does not admit the operator's address, which says nothing about Azure's trusted services: the "
            "customer's administrator must admit that address if key state is to be seen here",
        ),
        "ForbiddenByConnection": (
            AccessState.FIREWALL_BLOCKS_PROBE,
            _CUSTOMER,
            "the vault admits no public network, which says nothing about Azure's trusted services: the customer's administrator "
            "must approve a private endpoint for the operator if key state is to be seen here",
        ),
    }
)


def judge_access(probe: KeyProbe) -> Access:
    """Name the state that a probe found; outages and refusals that say nothing are never called a loss."""
    wanted = probe.wanted
    if probe.vault_tenant is not None:
        return Access(
            AccessState.VAULT_IN_ANOTHER_TENANT,
            f"the vault belongs to tenant {probe.vault_tenant}, not to the declared one: the platform engineer must correct "
            "keyUri, or the provider's administrator the CustomerTenant",
            Actor.PLATFORM_ENGINEER,
        )
    if wanted.failure is not None:
        return _judge_failure(wanted.failure, wanted, probe)
    if wanted.attributes is None:
        return Access(AccessState.UNKNOWN, "the key was not probed")
    by_attributes = _judge_attributes(wanted.attributes, probe.at)
    if by_attributes is not None:
        return by_attributes
    if not wanted.round_trip:
        return Access(
            AccessState.UNKNOWN,
            "Key Vault unwrapped other bytes than it wrapped: the maintainers of cmk-operator must look into it",
            Actor.MAINTAINER,
        )
    return Access(AccessState.ACCESSIBLE, "the key was read, and wrapped and unwrapped in the vault")


def _judge_attributes(attributes: KeyAttributes, at: datetime) -> Access | None:
    if not attributes.enabled:
        state, actor, message = _FORBIDDEN["KeyDisabled"]
        return Access(state, message, actor)
    if attributes.expires is not None and attributes.expires <= at:
        return Access(
            AccessState.EXPIRED,
            f"the key version expired at {_instant(attributes.expires)}: the customer's administrator must create a new version "
            "or extend its expiry",
            _CUSTOMER,
        )
    if attributes.not_before is not None and attributes.not_before > at:
        return Access(
            AccessState.NOT_YET_VALID,
            f"the key version is valid from {_instant(attributes.not_before)}: the customer's administrator must move its "
            "activation date, or everyone waits",
            _CUSTOMER,
        )
    return None


def _judge_failure(failure: AzureFailure, wanted: VersionProbe, probe: KeyProbe) -> Access:
    if failure.stage is not Stage.SERVICE:
        access = judge_token_failure(failure)
        if access.state.is_known_loss:
            return access
        return replace(access, message=f"nothing is known about the key, because {access.message}")
    by_attributes = _judge_refused_operation(failure, wanted, probe.at)
    if by_attributes is not None:
        return by_attributes
    # A proxy or gateway on the way answers 403 and 404 too, but only Key Vault says why: anything else concludes nothing.
    if failure.status == 404 and failure.code == "KeyNotFound":
        return _judge_missing(failure, probe)
    if failure.status == 403 and failure.code not in {"", "Http403"}:
        found = _FORBIDDEN.get(failure.inner_code)
        if found is None:
            return Access(
                AccessState.PERMISSION_DENIED,
                f"Key Vault refuses {wanted.operation} ({failure.inner_code or failure.code}): the customer's administrator must "
                "grant the application get, wrapKey and unwrapKey",
                _CUSTOMER,
                failure.request_id,
            )
        state, actor, message = found
        return Access(state, message.format(operation=wanted.operation), actor, failure.request_id)
    if failure.status is None or failure.status >= 500 or failure.status == 421:  # 421: no such vault behind this connection
        return Access(
            AccessState.VAULT_UNREACHABLE,
            f"the vault gives no usable answer ({failure.code}): nothing is concluded about the key; if Azure's services cannot "
            "reach it either, data becomes inaccessible",
            Actor.AZURE,
            failure.request_id,
        )
    if failure.status == 401 and failure.key_vault_codes:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"Key Vault does not accept the application's token ({failure.code}): the provider's administrator must check that "
            "FederatedIdentity and vault are in one cloud",
            _PROVIDER,
            failure.request_id,
        )
    return Access(
        AccessState.UNKNOWN,
        f"the vault's address answered {failure.status} {failure.code}: nothing is concluded about the key",
        Actor.AZURE,
        failure.request_id,
    )


def _judge_refused_operation(failure: AzureFailure, wanted: VersionProbe, at: datetime) -> Access | None:
    """For a crypto operation that was refused on a version that could be read: its own attributes say it best."""
    if wanted.attributes is None or failure.status not in {400, 403}:
        return None
    by_attributes = _judge_attributes(wanted.attributes, at)
    if by_attributes is not None and failure.status == 403:
        return by_attributes
    if wanted.operation in wanted.attributes.operations:
        return None
    return Access(
        AccessState.PERMISSION_DENIED,
        f"the key itself does not permit {wanted.operation}, whoever asks: the customer's administrator must create an RSA 2048 key "
        "that permits wrapKey and unwrapKey",
        _CUSTOMER,
        failure.request_id,
    )


def _judge_missing(failure: AzureFailure, probe: KeyProbe) -> Access:
    if probe.deleted is not None:
        until = f" until {_instant(probe.deleted.scheduled_purge)}" if probe.deleted.scheduled_purge else ""
        return Access(
            AccessState.DELETED,
            f"the key is deleted and can be recovered{until}: the customer's administrator must recover it",
            _CUSTOMER,
            failure.request_id,
        )
    if probe.latest_exists:
        return Access(
            AccessState.VERSION_MISSING,
            "the key exists but not this version: the platform engineer must correct the version in keyUri, or the customer's "
            "administrator restore it from a backup",
            Actor.PLATFORM_ENGINEER,
            failure.request_id,
        )
    found = (
        "the vault has no such key, live or recoverable: it was purged or never existed"
        if probe.latest_exists is False
        else "the vault has no such key, and does not say whether it can be recovered"
    )
    return Access(
        AccessState.PURGED,
        f"{found}; the customer's administrator must restore it from a backup, or the platform engineer correct keyUri",
        _CUSTOMER,
        failure.request_id,
    )


def judge_token_failure(failure: AzureFailure) -> Access:
    """Name the state behind a token that could not be had, by the hop and by Entra's code."""
    codes = failure.entra_codes
    if failure.stage is Stage.OPERATOR_TOKEN:
        shown = _shown(codes) or failure.code
        if (failure.transient and not codes) or codes & _ENTRA_BUSY:
            return Access(AccessState.UNKNOWN, f"Entra gives no usable answer ({shown})", Actor.AZURE)
        return Access(
            AccessState.OPERATOR_NOT_AUTHENTICATED,
            f"the operator cannot sign in as the managed identity ({shown}): the provider's administrator must check the managed "
            "identity and its federated credential for the operator's ServiceAccount",
            _PROVIDER,
            failure.request_id,
        )
    for code in sorted(codes):
        if code in _ENTRA:
            state, actor, message = _ENTRA[code]
            return Access(state, f"Entra refuses the application (AADSTS{code}): {message}", actor, failure.request_id)
    if codes & _FEDERATION:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"Entra accepts no federated credential of the application ({_shown(codes)}): the provider's administrator must check "
            "issuer, subject and audience of the credential (a new one takes some minutes)",
            _PROVIDER,
            failure.request_id,
        )
    return Access(
        AccessState.UNKNOWN,
        f"Entra gives no usable answer ({_shown(codes) or failure.code})",
        Actor.AZURE,
        failure.request_id,
    )


def _shown(codes: frozenset[int]) -> str:
    return ", ".join(f"AADSTS{code}" for code in sorted(codes))


def _instant(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
