"""Counts what uses a key, from the manifests and from Azure's lists; makes no request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.conditions import find
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.rotation.azure_use import AzureUser
from cmk_operator.reconcile.key.report import Usage
from cmk_operator.reconcile.references import is_within_its_tenant

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.core.rotation.azure_use import UseInAzure
    from cmk_operator.kubernetes.inventory import Inventory, Standing
    from cmk_operator.reconcile.references import KeyPath


def use_in_azure(inventory: Inventory, path: KeyPath, listed: UseInAzure | None) -> UseInAzure | None:
    """What Azure lists on a key, with the resources of the tenant that only a manifest shows, such as Snowflake accounts."""
    if listed is None:
        return None
    return listed.with_unlisted(fault for one in path.grant.listed if (fault := _unseen(inventory, path, one)) is not None)


def _unseen(inventory: Inventory, path: KeyPath, target: ResourceId) -> Fault | None:
    """Why it is not known whether a resource outside Resource Manager is on the key; None if a manifest shows it."""
    claims = [claim for claim in inventory.claims_on(target) if _names(inventory, claim)]
    if any(claim.status.applied is not None or not _is_unread(claim) for claim in claims):
        return None
    name = path.tenant.metadata.name
    if claims:
        message = (
            f"EncryptedResource {claims[0].metadata.namespace}/{claims[0].metadata.name} has not read {target} yet: its status says "
            "what blocks it and who must act"
        )
    else:
        message = (
            f"CustomerTenant {name!r} allows {target}, which is seen only with an EncryptedResource: the platform engineer must apply "
            "one (mode Observe changes nothing), or the provider's administrator remove it from the tenant"
        )
    return blocked(Reason.NOT_LISTABLE, message, Actor.PLATFORM_ENGINEER)


def _names(inventory: Inventory, claim: EncryptedResource) -> bool:
    """Whether a manifest counts: its resource was read for it, or its tenant allows it. Anybody can name what is not theirs."""
    return claim.status.applied is not None or is_within_its_tenant(inventory, claim)


def _manifests_of(inventory: Inventory, target: ResourceId) -> list[Standing]:
    """The manifests of a resource that count."""
    manifests = inventory.manifests_of(target)
    if all(one.key for one in manifests):
        return manifests
    counting = {
        (claim.metadata.namespace, claim.metadata.name) for claim in inventory.claims_on(target) if _names(inventory, claim)
    }
    return [one for one in manifests if (one.reference.namespace, one.reference.name) in counting]


def _is_unread(claim: EncryptedResource) -> bool:
    encrypted = find(claim.status.conditions, ConditionType.ENCRYPTED)
    return encrypted is None or encrypted.status == "Unknown"


def usage_of(inventory: Inventory, key: CustomerManagedKey, path: KeyPath | None, azure: UseInAzure | None = None) -> Usage:
    """The resources that name the key, and every resource that is on it, with the version as far as Azure reports it.

    Versions in use count over all namespaces and manifests: a resource that no longer names this manifest, or uses the same key
    through another manifest, still needs its version. So does one that no manifest names, and that only Azure's lists show. A manifest
    that no tenant allows names nothing, or a stranger could hide a resource of the customer.
    """
    namespace = key.metadata.namespace or ""
    names = tuple(inventory.names_on(namespace, key.metadata.name))
    if path is None:
        return Usage(names)
    standing = [
        (reference.name if reference.namespace == namespace else str(reference), version, reference)
        for reference, version in inventory.resources_on(path.key_uri)
    ]
    types = {name: inventory.type_of(reference) for name, _, reference in standing}
    machines = {name: found for name, _, reference in standing if (found := inventory.machines_of(reference))}
    users = [(name, version) for name, version, _ in standing]
    unnamed: list[AzureUser] = []
    for user in azure.found.users if azure is not None else _known_before(key, path):
        manifests = _manifests_of(inventory, user.id)
        if manifests and not _counts(manifests, user, key, azure):
            continue
        first = manifests[0].reference if manifests else None
        shown = str(user.id) if first is None else first.name if first.namespace == namespace else str(first)
        users.append((shown, user.version))
        types[shown] = user.id.resource_type
        if first is None:
            unnamed.append(user)
    unnamed.sort(key=lambda one: (one.id.key, one.version))
    return Usage.of(names, users, types, machines, tuple(unnamed))


def _known_before(key: CustomerManagedKey, path: KeyPath) -> tuple[AzureUser, ...]:
    """What status names without a manifest: it stays until this process has read the lists."""
    uri = path.key_uri.versionless
    return tuple(AzureUser(ArmId(one.resource_id), uri, one.version or "") for one in key.status.without_manifest)


def _counts(manifests: list[Standing], user: AzureUser, key: CustomerManagedKey, azure: UseInAzure | None) -> bool:
    """Whether a resource counts as the lists show it, and not only as its manifest does: a list may be older than the manifest."""
    if any(one.is_on(user.key) and one.version == user.version for one in manifests):
        return False
    if not any(one.key for one in manifests):
        return True
    left = next((entry.superseded_at for entry in key.status.versions if entry.version == user.version), None)
    return left is not None and azure is not None and azure.is_newer_than(left)
