"""Resolves a manifest to the key and identity that it may use; returns a fault if a reference or permission is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import AcceptedAccess, OrganizationKey, Registration
from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.azure.key_vault import ProbedKey
from cmk_operator.azure.vault_reader import ReadVault
from cmk_operator.core.authority import TenantGrant, judge_key, judge_namespace
from cmk_operator.core.faults.fault import Actor, Fault, blocked, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId, InvalidArmIdError, parse_arm_id
from cmk_operator.providers.registry import admit

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.kubernetes.inventory import CustomResource, Inventory


@dataclass(frozen=True, slots=True)
class KeyPath:
    """A key, and everything on the path to it."""

    key_uri: KeyUri
    chain: IdentityChain
    tenant: CustomerTenant
    grant: TenantGrant
    managed_identity: ArmId
    vault: ReadVault
    identity: FederatedIdentity

    @property
    def probed(self) -> ProbedKey:
        """The key as the prober takes it."""
        return ProbedKey(self.chain, self.tenant.spec.tenant_id, self.key_uri)


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """A resource, the key that it must be on, and the path to that key."""

    target: ResourceId
    key: CustomerManagedKey
    path: KeyPath


def chain_of(identity: FederatedIdentity) -> IdentityChain | Fault:
    """The identity chain of a FederatedIdentity, with ids from its manifest or its registration."""
    spec = identity.spec
    application, managed_identity = identity.application_client_id, identity.managed_identity_client_id
    if application is None or managed_identity is None:
        missing = "application" if application is None else "managed identity"
        return Fault(
            Reason.IDENTITY_NOT_REGISTERED,
            f"FederatedIdentity {identity.metadata.name!r} has not registered its {missing} yet: its status says what blocks the "
            "registration and who must act",
            Actor.PROVIDER_ADMINISTRATOR,
        )
    return IdentityChain(
        cloud=spec.endpoints,
        provider_tenant_id=spec.tenant_id.lower(),
        managed_identity_client_id=managed_identity,
        application_client_id=application,
        by_service_account=spec.effective_credential == "ServiceAccount",
    )


def resolve_identity(inventory: Inventory, tenant: CustomerTenant) -> FederatedIdentity | Fault:
    """The identity that a tenant names."""
    name = tenant.spec.identity_ref.name
    identity = inventory.get(FederatedIdentity, name)
    if identity is None:
        return blocked(
            Reason.IDENTITY_NOT_FOUND,
            f"FederatedIdentity {name!r} does not exist: the provider's administrator must create it, or correct "
            f"spec.identityRef of CustomerTenant {tenant.metadata.name!r}",
            Actor.PROVIDER_ADMINISTRATOR,
        )
    return identity


def resolve_chain(inventory: Inventory, tenant: CustomerTenant) -> tuple[FederatedIdentity, IdentityChain] | Fault:
    """The identity that a tenant names, and its chain; a fault until everything in it is registered."""
    identity = resolve_identity(inventory, tenant)
    if isinstance(identity, Fault):
        return identity
    chain = chain_of(identity)
    return chain if isinstance(chain, Fault) else (identity, chain)


def resolve_key(inventory: Inventory, key: CustomerManagedKey) -> KeyPath | Fault:
    """The path to a key; a fault, before any call to Azure, if the tenant does not allow a part of it."""
    name = key.spec.tenant_ref.name
    tenant = inventory.get(CustomerTenant, name)
    if tenant is None:
        return _tenant_not_found(name)
    grant = tenant.grant
    refused = judge_namespace(grant, key.metadata.namespace or "")
    if refused is not None:
        return refused
    identity = resolve_identity(inventory, tenant)
    if isinstance(identity, Fault):
        return identity
    key_uri = judge_key(grant, identity.spec.endpoints, key.spec.key_uri)
    if isinstance(key_uri, Fault):
        return key_uri
    chain, vault_id = chain_of(identity), key.spec.vault_resource_id
    if isinstance(chain, Fault):
        return chain
    try:
        read = ReadVault(chain, tenant.spec.tenant_id.lower(), key_uri.vault_host, parse_arm_id(vault_id) if vault_id else None)
    except InvalidArmIdError as error:
        return invalid(Reason.INVALID_VAULT_RESOURCE_ID, f"spec.vaultResourceId is not usable: {error}")
    return KeyPath(key_uri, chain, tenant, grant, ArmId(identity.spec.managed_identity.resource_id), read, identity)


@dataclass(frozen=True, slots=True)
class OrganizationPath:
    """A key in an organization's own vault, and how it may be reached."""

    key_uri: KeyUri
    access: AcceptedAccess
    """Without the credentials of a registration, whose Secrets are not read here."""
    registration: Registration | None
    tenant: CustomerTenant


def resolve_organization(inventory: Inventory, organization: OrganizationKey) -> OrganizationPath | Fault | None:
    """The path to an organization's own key; None for the platform's key.

    A fault, before any call to Azure, if another object has the organization, or the tenant does not allow the namespace or the
    vault: so no organization reaches the vault of another, although the application could.
    """
    owner = inventory.oldest_of_organization(organization)
    if owner.metadata.uid != organization.metadata.uid:
        return blocked(
            Reason.ORGANIZATION_TAKEN,
            f"organization {organization.spec.organization.id!r} belongs to the older OrganizationKey "
            f"{owner.metadata.namespace}/{owner.metadata.name}: the platform engineer must delete one of the two, or name another "
            "organization.id in a new one",
            Actor.PLATFORM_ENGINEER,
        )
    spec = organization.spec
    if not spec.customer_managed:
        return None
    if spec.tenant_ref is None or spec.key_uri is None or spec.access is None or spec.confirmation != spec.organization.name:
        return invalid(Reason.INVALID_MANIFEST, "mode CustomerManaged needs tenantRef, keyUri, access and confirmation")
    name = spec.tenant_ref.name
    tenant = inventory.get(CustomerTenant, name)
    if tenant is None:
        return _tenant_not_found(name)
    grant = tenant.grant
    refused = judge_namespace(grant, organization.metadata.namespace or "")
    if refused is not None:
        return refused
    identity = resolve_identity(inventory, tenant)
    if isinstance(identity, Fault):
        return identity
    key_uri = judge_key(grant, identity.spec.endpoints, spec.key_uri)
    if isinstance(key_uri, Fault):
        return key_uri
    cloud, tenant_id = identity.spec.endpoints.name.value, tenant.spec.tenant_id.lower()
    registration = spec.access.registration
    if registration is not None:
        client_id = registration.client_id.lower()
        access = AcceptedAccess(method="Registration", cloud=cloud, tenant_id=tenant_id, client_id=client_id)
        return OrganizationPath(key_uri, access, registration, tenant)
    chain = chain_of(identity)
    if isinstance(chain, Fault):
        return chain
    access = AcceptedAccess(
        method="Application",
        cloud=cloud,
        tenant_id=tenant_id,
        application_client_id=chain.application_client_id,
        managed_identity_client_id=chain.managed_identity_client_id,
        provider_tenant_id=chain.provider_tenant_id,
        operator_credential=identity.spec.effective_credential,
    )
    return OrganizationPath(key_uri, access, None, tenant)


def _tenant_not_found(name: str) -> Fault:
    return blocked(
        Reason.TENANT_NOT_FOUND,
        f"CustomerTenant {name!r} does not exist: the provider's administrator must create it, or the platform engineer correct "
        "spec.tenantRef",
        Actor.PROVIDER_ADMINISTRATOR,
    )


def resolve_resource(inventory: Inventory, resource: EncryptedResource) -> ResourcePath | Fault:
    """The path to a resource and its key; a fault if the tenant does not allow it or another manifest has the resource.

    Of manifests of one tenant the oldest has it. Of manifests of several tenants, those of the one tenant on whose key the resource
    already is; if there is no such tenant, nobody, because the operator cannot know whose resource it is.
    """
    path = _admit(inventory, resource)
    if isinstance(path, Fault):
        return path
    claims = _other_claims(inventory, resource, path.target)
    foreign = [(other, its) for other, its in claims if _tenant(its) != _tenant(path)]
    if foreign and resource.metadata.deletion_timestamp is None:
        holders = {_tenant(its) for other, its in [(resource, path), *claims] if _holds(other, its)}
        if holders != {_tenant(path)}:
            return _named(_CLAIMED_BY_TENANTS, min((other for other, _ in foreign), key=_seniority), path)
        claims = [(other, its) for other, its in claims if _tenant(its) == _tenant(path)]
    older = (other for other, _ in claims if _seniority(other) < _seniority(resource))
    owner = min(older, key=_seniority, default=None)
    return path if owner is None else _named(_CLAIMED, owner, path)


def _other_claims(
    inventory: Inventory, resource: EncryptedResource, target: ResourceId
) -> list[tuple[EncryptedResource, ResourcePath]]:
    """The other manifests that name this target and are admitted; one that is refused claims nothing."""
    others = (other for other in inventory.claims_on(target) if other.metadata.uid != resource.metadata.uid)
    admitted = ((other, _admit(inventory, other)) for other in others)
    return [(other, its) for other, its in admitted if not isinstance(its, Fault)]


def _tenant(path: ResourcePath) -> str:
    return path.path.tenant.metadata.name


def _holds(resource: EncryptedResource, path: ResourcePath) -> bool:
    """Whether the resource was last seen on the key that its manifest names now, or an operation of this manifest still runs."""
    if resource.status.operation is not None:
        return True
    applied = resource.status.applied.uri if resource.status.applied is not None else None
    return applied is not None and applied.versionless == path.path.key_uri.versionless


def _named(fault: Fault, owner: EncryptedResource, path: ResourcePath) -> Fault:
    message = fault.message.format(namespace=owner.metadata.namespace, name=owner.metadata.name, target=path.target)
    return replace(fault, message=message)


ADMISSION_REASONS: Final = frozenset(
    {
        Reason.KEY_NOT_FOUND,
        Reason.TENANT_NOT_FOUND,
        Reason.IDENTITY_NOT_FOUND,
        Reason.IDENTITY_NOT_REGISTERED,
        Reason.NAMESPACE_NOT_ALLOWED,
        Reason.INVALID_KEY_URI,
        Reason.WRONG_CLOUD,
        Reason.VAULT_NOT_ALLOWED,
        Reason.INVALID_VAULT_RESOURCE_ID,
        Reason.INVALID_RESOURCE_ID,
        Reason.SCOPE_NOT_ALLOWED,
        Reason.SNOWFLAKE_ACCOUNT_NOT_ALLOWED,
        Reason.TARGET_CLAIMED,
        Reason.CLAIMED_BY_SEVERAL_TENANTS,
        Reason.ORGANIZATION_TAKEN,
    }
)
"""Why a manifest is not admitted."""


def refusal_of(inventory: Inventory, resource: CustomResource) -> Fault | None:
    """Why a manifest is not admitted; None for one that is, and for the cluster-wide kinds, which nobody admits."""
    match resource:
        case CustomerManagedKey():
            found: object = resolve_key(inventory, resource)
        case EncryptedResource():
            found = resolve_resource(inventory, resource)
        case OrganizationKey():
            found = resolve_organization(inventory, resource)
        case _:
            return None
    return found if isinstance(found, Fault) else None


def is_within_its_tenant(inventory: Inventory, resource: EncryptedResource) -> bool:
    """Whether the tenant of its key allows a manifest, whoever else names its target."""
    return not isinstance(_admit(inventory, resource), Fault)


def is_claimed_by_another(inventory: Inventory, resource: EncryptedResource, target: ResourceId) -> bool:
    """Whether another manifest that is admitted names the same target; one that is refused claims nothing."""
    return bool(_other_claims(inventory, resource, target))


def _admit(inventory: Inventory, resource: EncryptedResource) -> ResourcePath | Fault:
    namespace = resource.metadata.namespace or ""
    name = resource.spec.key_ref.name
    key = inventory.get(CustomerManagedKey, name, namespace)
    if key is None:
        return blocked(
            Reason.KEY_NOT_FOUND,
            f"CustomerManagedKey {name!r} does not exist in namespace {namespace!r}: the platform engineer must create it or "
            "correct spec.keyRef",
            Actor.PLATFORM_ENGINEER,
        )
    path = resolve_key(inventory, key)
    if isinstance(path, Fault):
        return path
    target = admit(path.grant, resource.spec.target)
    return target if isinstance(target, Fault) else ResourcePath(target, key, path)


def _seniority(resource: EncryptedResource) -> tuple[str, bool, str, str]:
    """Sort key: older first; of two from the same second, the one that has already been applied."""
    metadata = resource.metadata
    created = metadata.creation_timestamp.isoformat() if metadata.creation_timestamp is not None else ""
    return created, resource.status.applied is None, metadata.namespace or "", metadata.name


_CLAIMED = blocked(
    Reason.TARGET_CLAIMED,
    "EncryptedResource {namespace}/{name} is older and names {target} too: the platform engineer must remove one of the two",
    Actor.PLATFORM_ENGINEER,
)
_CLAIMED_BY_TENANTS = blocked(
    Reason.CLAIMED_BY_SEVERAL_TENANTS,
    "EncryptedResource {namespace}/{name} names {target} too, through another CustomerTenant, so whose key belongs on it is not known and "
    "nothing is written: the platform engineer must remove one of the two manifests, and the provider's administrator must correct "
    "spec.allowedScopes of the tenants so that only one of them covers the resource",
    Actor.PROVIDER_ADMINISTRATOR,
)
