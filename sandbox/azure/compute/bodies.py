"""The request bodies of Microsoft.Compute, field by field; what is read-only is accepted in a PUT and ignored, as Azure does."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sandbox.azure.arm.bodies import IdentityBlock, Strict, Tags, since

SetType = Literal[
    "EncryptionAtRestWithCustomerKey",
    "EncryptionAtRestWithPlatformAndCustomerKeys",
    "ConfidentialVmEncryptedWithCustomerKey",
]
EncryptionType = Literal[
    "EncryptionAtRestWithPlatformKey",
    "EncryptionAtRestWithCustomerKey",
    "EncryptionAtRestWithPlatformAndCustomerKeys",
]


class Shared(Strict):
    """What a client that sends a whole resource back sends too."""

    id: str | None = None
    name: str | None = None
    type: str | None = None
    etag: str | None = None
    system_data: dict[str, Any] | None = None


class SourceVault(Strict):
    """The vault by its ARM id."""

    id: str


class ActiveKey(Strict):
    """`sourceVault` is only for a vault of the set's own subscription."""

    source_vault: SourceVault | None = None
    key_url: str


class SetProperties(Strict):
    """`properties` of a disk encryption set; the last four are read-only."""

    encryption_type: SetType | None = None
    active_key: ActiveKey | None = None
    rotation_to_latest_key_version_enabled: bool | None = since("2020-12-01")
    federated_client_id: str | None = since("2021-12-01")
    previous_keys: list[dict[str, Any]] | None = None
    provisioning_state: str | None = None
    last_key_rotation_timestamp: str | None = None
    auto_key_rotation_error: dict[str, Any] | None = None


class SetBody(Shared):
    """PUT of a disk encryption set."""

    location: str
    tags: Tags | None = None
    identity: IdentityBlock | None = None
    properties: SetProperties


class SetUpdateProperties(Strict):
    """What a PATCH may change."""

    encryption_type: SetType | None = None
    active_key: ActiveKey | None = None
    rotation_to_latest_key_version_enabled: bool | None = since("2020-12-01")
    federated_client_id: str | None = since("2021-12-01")


class SetUpdate(Strict):
    """PATCH of a disk encryption set."""

    tags: Tags | None = None
    identity: IdentityBlock | None = None
    properties: SetUpdateProperties | None = None


class DiskEncryption(Strict):
    """`properties.encryption` of a disk."""

    type: EncryptionType | None = None
    disk_encryption_set_id: str | None = None


class CreationData(Strict):
    """Where the disk's content comes from; only an empty disk, a copy and an image are simulated."""

    create_option: Literal["Empty", "Copy", "FromImage", "Attach"]
    source_resource_id: str | None = None
    source_unique_id: str | None = None
    image_reference: dict[str, Any] | None = None
    gallery_image_reference: dict[str, Any] | None = None
    logical_sector_size: int | None = None
    performance_plus: bool | None = None


class DiskSku(Strict):
    """A disk's performance and redundancy."""

    name: Literal[
        "Standard_LRS", "Premium_LRS", "StandardSSD_LRS", "UltraSSD_LRS", "Premium_ZRS", "StandardSSD_ZRS", "PremiumV2_LRS"
    ]
    tier: str | None = None


class DiskSecurityProfile(Strict):
    """How a disk takes part in a trusted or confidential virtual machine; `confidentialVMVersion` is read-only."""

    security_type: Literal[
        "TrustedLaunch",
        "ConfidentialVM_VMGuestStateOnlyEncryptedWithPlatformKey",
        "ConfidentialVM_DiskEncryptedWithPlatformKey",
        "ConfidentialVM_DiskEncryptedWithCustomerKey",
        "ConfidentialVM_NonPersistedTPM",
    ]
    secure_vm_disk_encryption_set_id: str | None = Field(None, alias="secureVMDiskEncryptionSetId")
    confidential_vm_version: str | None = Field(None, alias="confidentialVMVersion")


class VaultSecret(Strict):
    """A secret of a vault, by its URL."""

    source_vault: SourceVault
    secret_url: str


class VaultKey(Strict):
    """A key of a vault, by its URL."""

    source_vault: SourceVault
    key_url: str


class DiskEncryptionSetting(Strict):
    """Where Azure Disk Encryption keeps the key of one volume."""

    disk_encryption_key: VaultSecret | None = None
    key_encryption_key: VaultKey | None = None


class EncryptionSettingsCollection(Strict):
    """Azure Disk Encryption, which encrypts inside the machine."""

    enabled: bool
    encryption_settings: list[DiskEncryptionSetting] | None = None
    encryption_settings_version: str | None = None


class DiskUpdateProperties(Strict):
    """What a PATCH of a disk may change; all but the encryption and the size is kept and given back unread."""

    disk_size_gb: int | None = Field(None, alias="diskSizeGB", ge=1, le=65_536)
    encryption: DiskEncryption | None = None
    encryption_settings_collection: EncryptionSettingsCollection | None = None
    os_type: Literal["Windows", "Linux"] | None = None
    network_access_policy: Literal["AllowAll", "AllowPrivate", "DenyAll"] | None = None
    public_network_access: Literal["Enabled", "Disabled"] | None = None
    data_access_auth_mode: Literal["None", "AzureActiveDirectory"] | None = None
    tier: str | None = None
    max_shares: int | None = None
    bursting_enabled: bool | None = None
    optimized_for_frequent_attach: bool | None = None
    supports_hibernation: bool | None = None
    supported_capabilities: dict[str, Any] | None = None
    purchase_plan: dict[str, Any] | None = None
    disk_access_id: str | None = None
    disk_iops_read_write: int | None = Field(None, alias="diskIOPSReadWrite")
    disk_m_bps_read_write: int | None = Field(None, alias="diskMBpsReadWrite")
    availability_policy: dict[str, Any] | None = None


class DiskProperties(DiskUpdateProperties):
    """PUT: also where the content comes from, and what is read-only."""

    creation_data: CreationData
    hyper_v_generation: Literal["V1", "V2"] | None = Field(None, alias="hyperVGeneration")
    security_profile: DiskSecurityProfile | None = None
    time_created: str | None = None
    disk_size_bytes: int | None = None
    unique_id: str | None = None
    provisioning_state: str | None = None
    disk_state: str | None = None
    last_ownership_update_time: str | None = Field(None, alias="LastOwnershipUpdateTime")


READ_ONLY = frozenset(
    {"timeCreated", "diskSizeBytes", "uniqueId", "provisioningState", "diskState", "LastOwnershipUpdateTime", "creationData"}
)
"""Wire names in `DiskProperties` that a client cannot set."""


class DiskBody(Shared):
    """PUT of a disk."""

    location: str
    tags: Tags | None = None
    sku: DiskSku | None = None
    zones: list[str] | None = None
    managed_by: str | None = None
    managed_by_extended: list[str] | None = None
    properties: DiskProperties


class DiskUpdate(Strict):
    """PATCH of a disk."""

    tags: Tags | None = None
    sku: DiskSku | None = None
    properties: DiskUpdateProperties | None = None


class GrantAccess(Strict):
    """POST beginGetAccess: a time-limited URL of the disk's content."""

    access: Literal["Read", "Write", "None"]
    duration_in_seconds: int = Field(ge=1)
    get_secure_vm_guest_state_sas: bool | None = Field(None, alias="getSecureVMGuestStateSAS")
    file_format: Literal["VHD", "VHDX"] | None = None


class SetReference(Strict):
    """A disk encryption set by its id."""

    id: str


class ManagedDisk(Strict):
    """The managed disk behind a disk of a machine."""

    id: str | None = None
    resource_group: str | None = None
    storage_account_type: str | None = None
    disk_encryption_set: SetReference | None = None


class MachineDisk(Strict):
    """What the operating system's disk and data disks have in common."""

    name: str | None = None
    create_option: Literal["Attach", "Empty", "FromImage"]
    caching: Literal["None", "ReadOnly", "ReadWrite"] | None = None
    write_accelerator_enabled: bool | None = None
    disk_size_gb: int | None = Field(None, alias="diskSizeGB")
    delete_option: Literal["Delete", "Detach"] | None = None
    managed_disk: ManagedDisk | None = None


class OperatingSystemDisk(MachineDisk):
    """The disk that the machine boots from."""

    os_type: Literal["Windows", "Linux"] | None = None


class DataDisk(MachineDisk):
    """One more disk."""

    lun: int
    to_be_detached: bool | None = None
    disk_iops_read_write: int | None = Field(None, alias="diskIOPSReadWrite")
    disk_m_bps_read_write: int | None = Field(None, alias="diskMBpsReadWrite")


class StorageProfile(Strict):
    """The machine's disks."""

    image_reference: dict[str, Any] | None = None
    os_disk: OperatingSystemDisk | None = None
    data_disks: list[DataDisk] | None = None
    disk_controller_type: str | None = None


class MachineProperties(Strict):
    """`properties` of a virtual machine; all but the disks is kept and given back unread."""

    storage_profile: StorageProfile | None = None
    hardware_profile: dict[str, Any] | None = None
    os_profile: dict[str, Any] | None = None
    network_profile: dict[str, Any] | None = None
    security_profile: dict[str, Any] | None = None
    diagnostics_profile: dict[str, Any] | None = None
    additional_capabilities: dict[str, Any] | None = None
    license_type: str | None = None
    priority: str | None = None
    provisioning_state: str | None = None
    vm_id: str | None = None
    time_created: str | None = None
    instance_view: dict[str, Any] | None = None


class MachineBody(Shared):
    """PUT of a virtual machine."""

    location: str
    tags: Tags | None = None
    zones: list[str] | None = None
    identity: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    resources: list[dict[str, Any]] | None = None
    properties: MachineProperties


class MachineUpdate(Strict):
    """PATCH of a virtual machine."""

    tags: Tags | None = None
    identity: dict[str, Any] | None = None
    properties: MachineProperties | None = None
