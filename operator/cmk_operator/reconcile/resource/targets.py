"""Builds the target that a provider works on from a manifest, with the options and credential of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.identifiers.secret_key import SecretKey
from cmk_operator.kubernetes.secrets import read_secret
from cmk_operator.providers.protocol import Manifest, Remembered

if TYPE_CHECKING:
    from typing import Any

    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.providers.protocol import AnyTarget, Provider
    from cmk_operator.reconcile.references import ResourcePath


async def target_of(
    client: KubernetesClient, provider: Provider[Any, Any], resource: EncryptedResource, path: ResourcePath
) -> AnyTarget | Fault:
    """The target of an admitted manifest; a fault if its credential cannot be read."""
    namespace = resource.metadata.namespace or ""

    async def secret(name: str, entry: str) -> bytes | Fault:
        return await read_secret(client, SecretKey(namespace, name, entry), Actor.PLATFORM_ENGINEER)

    kept, active = resource.status.remembered, path.key.status.active_version
    return await provider.target_of(
        Manifest(
            target=path.target,
            part=resource.spec.part(provider.kind.manifest_field),
            in_scope=path.path.grant.covers,
            customer_tenant_id=path.path.tenant.spec.tenant_id,
            remembered=Remembered(**kept.model_dump()) if kept is not None else Remembered(),
            newest=str(path.path.key_uri.at(active)) if active is not None else None,
            read_secret=secret,
        )
    )
