"""From the manifests to what is handed over to the customer: only what the tenant allows ever appears in it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_operator.core.authority import judge_key, judge_namespace
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.handover.request import Handover, WantedApplication, WantedKey, WantedVault
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.core.kinds.key_use import NEEDED_OPERATIONS
from cmk_operator.providers.registry import KINDS, admit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.customer_tenant import CustomerTenant
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.core.authority import TenantGrant
    from cmk_operator.core.identifiers.cloud import Cloud
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.core.kinds.key_use import KeyUse

DEFAULT_KEY: Final = "cmk"
"""What a key is called while no manifest names one."""
_USES: Final = tuple(dict.fromkeys(kind.key_use for kind in KINDS.values()))
_REGION: Final = re.compile("[a-z0-9]+")


@dataclass
class _Users:
    """What is known of the resources on one key."""

    uses: set[KeyUse] = field(default_factory=set)
    regions: set[str] = field(default_factory=set)
    outside: list[str] = field(default_factory=list)


def handover_of(
    tenant: CustomerTenant,
    identity: FederatedIdentity,
    keys: Iterable[CustomerManagedKey],
    resources: Iterable[EncryptedResource],
) -> Handover | None:
    """Everything for one customer, in the order of names; None while the application is not registered.

    Keys and resources that the tenant does not allow are left out. While there is no key, each allowed vault gets one.
    """
    application = identity.application_client_id
    if application is None:
        return None
    cloud, grant = identity.spec.endpoints, tenant.grant
    admitted = _admitted(grant, cloud, keys)
    users: defaultdict[KeyUri, _Users] = defaultdict(_Users)
    accounts: dict[ResourceId, WantedApplication] = {}
    for resource in sorted(resources, key=lambda one: (one.metadata.namespace or "", one.metadata.name)):
        uri = admitted.get((resource.metadata.namespace or "", resource.spec.key_ref.name))
        if uri is not None:
            _count(grant, resource, uri, users[uri], accounts)
    uris = set(admitted.values())
    if not uris:
        uris = {KeyUri(host, DEFAULT_KEY) for host in tenant.spec.allowed_vaults if host.endswith(f".{cloud.key_vault_suffix}")}
    wanted = [
        WantedKey(
            uri,
            tuple(use for use in _USES if use in users[uri].uses),
            tuple(sorted(users[uri].regions)),
            tuple(sorted(users[uri].outside)),
        )
        for uri in sorted(uris, key=str)
    ]
    shown = identity.status.application
    return Handover(
        tenant=tenant.metadata.name,
        tenant_id=tenant.spec.tenant_id.lower(),
        cloud=cloud,
        application=application,
        application_name=(shown.display_name if shown is not None else None) or identity.spec.application.display_name,
        consent_url=cloud.admin_consent_url(tenant.spec.tenant_id, application),
        vaults=tuple(
            WantedVault(host, tuple(key for key in wanted if key.uri.vault_host == host))
            for host in sorted({key.uri.vault_host for key in wanted})
        ),
        applications=tuple(accounts[account] for account in sorted(accounts, key=lambda one: one.key)),
    )


def _admitted(grant: TenantGrant, cloud: Cloud, keys: Iterable[CustomerManagedKey]) -> dict[tuple[str, str], KeyUri]:
    """The keys that name this tenant and that it allows, without their versions, by namespace and name."""
    found: dict[tuple[str, str], KeyUri] = {}
    for key in keys:
        namespace = key.metadata.namespace or ""
        if key.spec.tenant_ref.name != grant.name or judge_namespace(grant, namespace) is not None:
            continue
        uri = judge_key(grant, cloud, key.spec.key_uri)
        if not isinstance(uri, Fault):
            found[namespace, key.metadata.name] = uri.versionless
    return found


def _count(
    grant: TenantGrant,
    resource: EncryptedResource,
    uri: KeyUri,
    users: _Users,
    accounts: dict[ResourceId, WantedApplication],
) -> None:
    target, region = resource.spec.target, resource.spec.region
    kind = resource.spec.kind
    if kind is None or isinstance(admit(grant, target), Fault):
        return
    users.uses.add(kind.key_use)
    details = resource.status.details
    parts = tuple(one for one in details.not_covered if one.covered == "No") if details is not None else ()
    if parts:
        shown = ", ".join(f"{one.part} under {one.protected_by}" for one in parts)
        users.outside.append(f"{kind.shown} {target.shown_name}: {shown}")
    if region is not None and _REGION.fullmatch(region):
        users.regions.add(region)
    if kind.timing.own_application:
        before = accounts.get(target)
        accounts[target] = WantedApplication(
            service=kind.timing.service,
            account=target.text,
            consent_url=details.consent_url if details is not None else None,
            principal_name=details.service_principal_name if details is not None else None,
            subnets=details.network_subnets if details is not None else (),
            keys=(*(before.keys if before is not None else ()), uri),
            operations=(*NEEDED_OPERATIONS, *kind.key_use.more_operations),
        )


def refused_keys(tenant: CustomerTenant, identity: FederatedIdentity, keys: Iterable[CustomerManagedKey]) -> tuple[str, ...]:
    """One sentence for each key that names the tenant and that the tenant does not allow: who must act, and how."""
    grant, cloud = tenant.grant, identity.spec.endpoints
    found: list[str] = []
    for key in keys:
        namespace = key.metadata.namespace or ""
        verdict = judge_namespace(grant, namespace) or judge_key(grant, cloud, key.spec.key_uri)
        if key.spec.tenant_ref.name == grant.name and isinstance(verdict, Fault):
            found.append(f"{namespace}/{key.metadata.name}: {verdict.message}")
    return tuple(found)
