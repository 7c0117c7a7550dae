"""From a manifest to what its provider is handed: the target, with the options and the credential of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.secret_key import SecretKey
from cmk_operator.core.identifiers.snowflake_account import SnowflakeAccount
from cmk_operator.kubernetes.secrets import read_secret
from cmk_operator.providers.protocol import (
    DiskEncryptionSetCreation,
    DiskPlacement,
    Options,
    Remembered,
    SnowflakeTarget,
    SqlServerOptions,
    Target,
)

if TYPE_CHECKING:
    from cmk_operator.api.encrypted_resource import EncryptedResource, EncryptedResourceSpec, Snowflake
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.reconcile.references import ResourcePath

SNOWFLAKE_ROLE = "ACCOUNTADMIN"
"""The role that Snowflake's functions for customer-managed keys need."""
PRIVATE_KEY_ENTRY = "privateKey"


async def target_of(
    client: KubernetesClient, resource: EncryptedResource, path: ResourcePath
) -> Target | SnowflakeTarget | Fault:
    """The target of an admitted manifest; a fault when its credential cannot be read."""
    snowflake = resource.spec.snowflake
    return arm_target(resource, path) if snowflake is None else await _snowflake(client, resource, snowflake, path)


def arm_target(resource: EncryptedResource, path: ResourcePath) -> Target:
    """The resource of Azure that an admitted manifest names."""
    return Target(ArmId(path.target.text), _options(resource.spec), path.path.grant.covers)


def _options(spec: EncryptedResourceSpec) -> Options | None:
    if spec.disk_encryption_set is not None:
        return DiskEncryptionSetCreation(spec.disk_encryption_set.location, spec.disk_encryption_set.encryption_type)
    if spec.disk is not None:
        return DiskPlacement(ArmId(spec.disk.disk_encryption_set_id))
    if spec.sql_server is not None:
        return SqlServerOptions(bool(spec.sql_server.switch_through_service_managed_key))
    return None


async def _snowflake(
    client: KubernetesClient, resource: EncryptedResource, snowflake: Snowflake, path: ResourcePath
) -> SnowflakeTarget | Fault:
    namespace = resource.metadata.namespace or ""
    given = snowflake.private_key_secret_ref
    owner = Actor.PLATFORM_ENGINEER
    private_key = await read_secret(client, SecretKey(namespace, given.name, given.key or PRIVATE_KEY_ENTRY), owner)
    if isinstance(private_key, Fault):
        return private_key
    passphrase: bytes | None = None
    if given.passphrase_key is not None:
        read = await read_secret(client, SecretKey(namespace, given.name, given.passphrase_key), owner)
        if isinstance(read, Fault):
            return read
        passphrase = read
    kept, active = resource.status.remembered, path.key.status.active_version
    return SnowflakeTarget(
        SnowflakeAccount(snowflake.account),
        snowflake.user,
        snowflake.role or SNOWFLAKE_ROLE,
        private_key,
        passphrase,
        path.path.tenant.spec.tenant_id,
        bool(snowflake.network_rules),
        Remembered(**kept.model_dump()) if kept is not None else Remembered(),
        str(path.path.key_uri.at(active)) if active is not None else None,
    )
