"""The request bodies of Microsoft.Sql, field by field; what is not needed here is kept and given back unread."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sandbox.azure.arm.bodies import IdentityBlock, Strict, Tags, since

ServerKeyType = Literal["ServiceManaged", "AzureKeyVault"]


class ServerAdministrators(Strict):
    """Who of Entra administers the server, taken when the server is created."""

    administrator_type: Literal["ActiveDirectory"] | None = None
    principal_type: Literal["User", "Group", "Application"] | None = None
    login: str | None = None
    sid: str | None = None
    tenant_id: str | None = None
    azure_ad_only_authentication: bool | None = Field(None, alias="azureADOnlyAuthentication")


class ServerProperties(Strict):
    """`properties` of a server; the last seven are read-only and ignored."""

    administrator_login: str | None = None
    administrator_login_password: str | None = None
    administrators: ServerAdministrators | None = None
    version: Literal["12.0"] | None = None
    minimal_tls_version: Literal["None", "1.0", "1.1", "1.2", "1.3"] | None = None
    public_network_access: Literal["Enabled", "Disabled", "SecuredByPerimeter"] | None = None
    restrict_outbound_network_access: Literal["Enabled", "Disabled"] | None = None
    is_ipv6_enabled: Literal["Enabled", "Disabled"] | None = Field(None, alias="isIPv6Enabled")
    retention_days: int | None = None
    create_mode: Literal["Normal", "Restore"] | None = None
    primary_user_assigned_identity_id: str | None = None
    federated_client_id: str | None = since("2021-02-01-preview")
    key_id: str | None = None
    state: str | None = None
    fully_qualified_domain_name: str | None = None
    private_endpoint_connections: list[dict[str, Any]] | None = None
    workspace_feature: str | None = None
    external_governance_status: str | None = None


class ServerBody(Strict):
    """PUT of a server."""

    location: str
    tags: Tags | None = None
    identity: IdentityBlock | None = None
    properties: ServerProperties | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None
    kind: str | None = None


class ServerUpdate(Strict):
    """PATCH of a server."""

    tags: Tags | None = None
    identity: IdentityBlock | None = None
    properties: ServerProperties | None = None


class ServerKeyProperties(Strict):
    """Which key of a vault; the rest is read-only."""

    server_key_type: str
    uri: str | None = None
    thumbprint: str | None = None
    creation_date: str | None = None
    auto_rotation_enabled: bool | None = None
    key_version: str | None = None
    subregion: str | None = None


class ServerKeyBody(Strict):
    """PUT of a server key."""

    properties: ServerKeyProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None
    kind: str | None = None
    location: str | None = None


class TransparentDataEncryptionProperties(Strict):
    """Whether a database is encrypted; the scan state is read-only."""

    state: Literal["Enabled", "Disabled"]
    scan_state: str | None = None


class TransparentDataEncryptionBody(Strict):
    """PUT of a database's transparent data encryption."""

    properties: TransparentDataEncryptionProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


class ProtectorProperties(Strict):
    """Which of the server's keys protects it; the rest is read-only."""

    server_key_type: ServerKeyType
    server_key_name: str | None = None
    auto_rotation_enabled: bool | None = since("2020-11-01-preview")
    uri: str | None = None
    thumbprint: str | None = None
    key_version: str | None = None
    subregion: str | None = None


class ProtectorBody(Strict):
    """PUT of the encryption protector."""

    properties: ProtectorProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None
    kind: str | None = None
    location: str | None = None


class SqlSku(Strict):
    """A service objective."""

    name: str
    tier: str | None = None
    size: str | None = None
    family: str | None = None
    capacity: int | None = None


class DatabaseProperties(Strict):
    """`properties` of a database; the last twelve are read-only and ignored."""

    encryption_protector: str | None = None
    encryption_protector_auto_rotation: bool | None = None
    federated_client_id: str | None = None
    keys: dict[str, dict[str, Any] | None] | None = None
    create_mode: Literal["Default", "Secondary", "OnlineSecondary"] | None = None
    source_database_id: str | None = None
    collation: str | None = None
    catalog_collation: str | None = None
    max_size_bytes: int | None = None
    sample_name: str | None = None
    elastic_pool_id: str | None = None
    zone_redundant: bool | None = None
    license_type: str | None = None
    read_scale: Literal["Enabled", "Disabled"] | None = None
    high_availability_replica_count: int | None = None
    auto_pause_delay: int | None = None
    min_capacity: float | None = None
    requested_backup_storage_redundancy: Literal["Geo", "Local", "Zone", "GeoZone"] | None = None
    maintenance_configuration_id: str | None = None
    is_ledger_on: bool | None = None
    preferred_enclave_type: str | None = None
    availability_zone: str | None = None
    secondary_type: str | None = None
    use_free_limit: bool | None = None
    free_limit_exhaustion_behavior: str | None = None
    manual_cutover: bool | None = None
    perform_cutover: bool | None = None
    status: str | None = None
    database_id: str | None = None
    creation_date: str | None = None
    current_service_objective_name: str | None = None
    requested_service_objective_name: str | None = None
    default_secondary_location: str | None = None
    failover_group_id: str | None = None
    max_log_size_bytes: int | None = None
    earliest_restore_date: str | None = None
    current_sku: dict[str, Any] | None = None
    current_backup_storage_redundancy: str | None = None
    is_infra_encryption_enabled: bool | None = None


OWN = frozenset({"encryptionProtector", "encryptionProtectorAutoRotation", "federatedClientId", "keys"})
READ_ONLY = frozenset(
    {
        "status", "databaseId", "creationDate", "currentServiceObjectiveName", "requestedServiceObjectiveName",
        "defaultSecondaryLocation", "failoverGroupId", "maxLogSizeBytes", "earliestRestoreDate", "currentSku",
        "currentBackupStorageRedundancy", "isInfraEncryptionEnabled", "createMode", "sampleName",
    }
)  # fmt: skip


class DatabaseBody(Strict):
    """PUT of a database."""

    location: str
    tags: Tags | None = None
    sku: SqlSku | None = None
    identity: IdentityBlock | None = None
    properties: DatabaseProperties | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None
    kind: str | None = None
    managed_by: str | None = None


class DatabaseUpdate(Strict):
    """PATCH of a database."""

    tags: Tags | None = None
    sku: SqlSku | None = None
    identity: IdentityBlock | None = None
    properties: DatabaseProperties | None = None


class ReadWriteEndpoint(Strict):
    """How the group fails over."""

    failover_policy: Literal["Manual", "Automatic"]
    failover_with_data_loss_grace_period_minutes: int | None = None


class ReadOnlyEndpoint(Strict):
    """Whether readers follow a failover."""

    failover_policy: Literal["Enabled", "Disabled"] | None = None
    target_server: str | None = None


class PartnerServer(Strict):
    """The server on the other side."""

    id: str
    location: str | None = None
    replication_role: str | None = None


class FailoverGroupProperties(Strict):
    """Partners, and the databases that are replicated to them."""

    read_write_endpoint: ReadWriteEndpoint
    read_only_endpoint: ReadOnlyEndpoint | None = None
    partner_servers: list[PartnerServer]
    databases: list[str] | None = None
    secondary_type: Literal["Geo", "Standby"] | None = None
    replication_role: str | None = None
    replication_state: str | None = None


class FailoverGroupBody(Strict):
    """PUT of a failover group."""

    properties: FailoverGroupProperties
    tags: Tags | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None
    location: str | None = None
