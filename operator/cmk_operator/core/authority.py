"""Admission: refuses whatever a `CustomerTenant` does not allow, before any call to Azure.

This prevents a confused deputy. Client ids are not secret and the operator may write to every resource of the provider, so nothing
that a user of a namespace can write may extend what that user reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmk_operator.core.faults.fault import Actor, Fault, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import InvalidArmIdError, parse_arm_id
from cmk_operator.core.identifiers.key_uri import InvalidKeyUriError, KeyUri, parse_key_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.cloud import Cloud
    from cmk_operator.core.identifiers.resource_id import ResourceId


@dataclass(frozen=True, slots=True)
class TenantGrant:
    """What one `CustomerTenant` allows."""

    name: str
    namespaces: Sequence[str]
    scopes: Sequence[ArmId]
    vault_hosts: Sequence[str]
    listed: Sequence[ResourceId] = ()
    """Allowed resources outside Resource Manager, each by its own identifier."""

    def covers(self, target: ArmId) -> bool:
        """Whether an allowed scope contains a resource of Azure."""
        return any(target.lies_in(scope) for scope in self.scopes)


def judge_namespace(grant: TenantGrant, namespace: str) -> Fault | None:
    """Refuse a namespace that the tenant does not list."""
    if namespace in grant.namespaces:
        return None
    return Fault(
        Reason.NAMESPACE_NOT_ALLOWED,
        f"CustomerTenant {grant.name!r} does not allow namespace {namespace!r}: the provider's administrator must add it to "
        "spec.allowedNamespaces, or the platform engineer use another tenant",
        Actor.PROVIDER_ADMINISTRATOR,
    )


def judge_key(grant: TenantGrant, cloud: Cloud, key_uri: str) -> KeyUri | Fault:
    """Parse a key URI and admit only an allowed vault in the identity's cloud, so that tokens are sent nowhere else."""
    try:
        parsed = parse_key_uri(key_uri)
    except InvalidKeyUriError as error:
        return invalid(Reason.INVALID_KEY_URI, f"spec.keyUri is not usable: {error}")
    if not parsed.vault_host.endswith(f".{cloud.key_vault_suffix}"):
        return invalid(
            Reason.WRONG_CLOUD,
            f"spec.keyUri names vault {parsed.vault_host!r}, but the FederatedIdentity is in {cloud.name}, whose vaults end in "
            f".{cloud.key_vault_suffix}: clouds cannot be mixed",
        )
    if parsed.vault_host not in grant.vault_hosts:
        return Fault(
            Reason.VAULT_NOT_ALLOWED,
            f"CustomerTenant {grant.name!r} does not allow vault {parsed.vault_host!r}: the provider's administrator must add it "
            "to spec.allowedVaults, or the platform engineer correct spec.keyUri",
            Actor.PROVIDER_ADMINISTRATOR,
        )
    return parsed


def admit_resource_id(grant: TenantGrant, text: str) -> ArmId | Fault:
    """Parse the id of a resource of Azure, and refuse one outside the tenant's scopes."""
    try:
        target = parse_arm_id(text)
    except InvalidArmIdError as error:
        return invalid(Reason.INVALID_RESOURCE_ID, f"spec.resourceId is not usable: {error}")
    return judge_target(grant, target) or target


def judge_target(grant: TenantGrant, target: ArmId) -> Fault | None:
    """Refuse a resource outside the tenant's scopes."""
    if grant.covers(target):
        return None
    return Fault(
        Reason.SCOPE_NOT_ALLOWED,
        f"{target} is in no scope of CustomerTenant {grant.name!r}: the provider's administrator must add it to "
        "spec.allowedScopes, or the platform engineer correct spec.resourceId",
        Actor.PROVIDER_ADMINISTRATOR,
    )
