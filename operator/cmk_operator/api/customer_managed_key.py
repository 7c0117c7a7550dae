"""`CustomerManagedKey`: one key in the customer's vault, and everything that is known about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.model import Metadata, NamedReference, Shape
from cmk_operator.api.notifications import NotificationsReport
from cmk_operator.api.rules import Rule, first_broken, immutable, validations
from cmk_operator.core.identifiers.key_uri import DOUBLE_HYPHEN, GRAMMAR, KeyUri, key_uri_or_none

Duration = Annotated[str, Field(pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2, max_length=20)]

KEY_URI_RULES: Final = first_broken(
    Rule("self.startsWith('https://')", "keyUri must start with https://"),
    Rule("!self.matches('^https://[^/]*@')", "keyUri may not carry user info"),
    Rule("!self.matches('^https://[^/]*:')", "keyUri may not name a port: Key Vault listens on 443 only"),
    Rule("!self.matches('[?#]')", "keyUri may not carry a query or a fragment"),
    Rule(
        "!self.matches('^https://[^/]*\\\\.managedhsm\\\\.')",
        "keyUri names a managed HSM: only keys in a Key Vault are supported",
    ),
    Rule(
        "self.matches('^https://[^/]*\\\\.vault\\\\.(azure\\\\.net|usgovcloudapi\\\\.net|azure\\\\.cn)(/|$)')",
        "keyUri host must be a Key Vault, ending in .vault.azure.net, .vault.usgovcloudapi.net or .vault.azure.cn",
    ),
    Rule(
        "!self.matches('^https://[^/]*/(secrets|certificates)(/|$)')",
        "keyUri must name a key, under /keys/, not a secret or certificate",
    ),
    Rule(f"!self.matches('{DOUBLE_HYPHEN}')", "keyUri must name a vault, and no vault has two hyphens in a row in its name"),
    Rule("!self.endsWith('/')", "keyUri may not end with a slash: leave the version out to follow the latest"),
    Rule(
        f"self.matches('{GRAMMAR}')",
        "keyUri must be https://<vault>.<suffix>/keys/<name>, optionally followed by /<version> of 32 lower-case hexadecimal "
        "digits",
    ),
)


class RotationPolicy(Shape):
    """How resources move to a new version of the key, and how long old versions must be kept."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "!has(self.approval) || self.approval != 'Manual' || (has(self.apply) && self.apply == 'Immediately')",
                "approval Manual needs apply Immediately: on their own schedule Azure's services do not wait for an approval",
            )
        )
    )

    apply: Literal["AzureSchedule", "Immediately"] | None = Field(
        default=None,
        description=(
            "How resources move to a new version of the key. AzureSchedule (the default): each Azure service checks for it once a "
            "day. Immediately: the operator moves each resource as soon as both the old and the new version pass the probe."
        ),
    )
    approval: Literal["Automatic", "Manual"] | None = Field(
        default=None,
        description=(
            "Automatic (the default), or Manual: a new version waits in status.pendingVersion until the annotation "
            "cmk-operator.dev/approved-version of this object names it."
        ),
    )
    hold_superseded_for: Duration | None = Field(
        default=None,
        description=(
            "How long a superseded version must stay enabled after the last resource has moved off it. The default is 24h."
        ),
        json_schema_extra=validations(
            Rule(
                "duration(self) >= duration('24h')",
                "holdSupersededFor must be at least 24h: Azure's services check for new versions once a day",
            ),
            Rule("duration(self) <= duration('876000h')", "holdSupersededFor may be at most 876000h (100 years)"),
        ),
    )
    backup_retention: Duration | None = Field(
        default=None,
        description="How long backups are kept, such as 840h. Until then a backup needs the key version that was in use when it was made.",
        json_schema_extra=validations(
            Rule("duration(self) <= duration('876000h')", "backupRetention may be at most 876000h (100 years)")
        ),
    )


class CustomerManagedKeySpec(Shape):
    """Which key, whose it is, and how strictly its prerequisites are enforced."""

    tenant_ref: NamedReference = Field(
        description="The CustomerTenant that owns the vault.", json_schema_extra=validations(immutable("tenantRef"))
    )
    key_uri: str = Field(
        max_length=300,
        description="Identifier of the key. With a version, the key is pinned to it. Without one, the operator follows the latest version.",
        json_schema_extra=validations(*KEY_URI_RULES),
    )
    vault_resource_id: str | None = Field(
        default=None,
        max_length=400,
        description=(
            "Azure Resource Manager id of the vault. The operator reads it for the prerequisites that the vault's data plane does not "
            "show. When absent, the operator searches the subscriptions that the application may read in the customer's tenant."
        ),
        json_schema_extra=validations(
            Rule(
                "self.matches('(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/Microsoft[.]KeyVault/vaults/"
                "[a-z][a-z0-9-]{1,22}[a-z0-9]$')",
                "vaultResourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.KeyVault/vaults/<name>",
            )
        ),
    )
    rotation: RotationPolicy | None = Field(
        default=None, description="How resources move to a new version, and how long old versions must be kept."
    )
    prerequisites: Literal["Enforce", "Warn"] | None = Field(
        default=None,
        description=(
            "Enforce (the default): no further resource is moved to a key that does not meet the provider's requirements. Warn: only "
            "what Azure itself requires is enforced, and the rest is reported. Locks, retention and network protection are only "
            "reported in both cases."
        ),
    )
    region_failover: Literal["Report", "Require"] | None = Field(
        default=None,
        description=(
            "Whether the vault must be in a region from which Key Vault fails over to another. Report (the default): the prerequisite "
            "RegionFailover is only reported. Require: no further resource is moved to a key in a region that is known to have no "
            "failover, whatever prerequisites says."
        ),
    )

    @property
    def uri(self) -> KeyUri | None:
        """The key; None for a manifest that was admitted by another definition than this release's."""
        return key_uri_or_none(self.key_uri)


class StopReport(Shape):
    """The resources of one service that stop if the key stays lost."""

    service: str
    expected_at: datetime = Field(
        description="Approximate time at which they stop. Each service checks its keys at its own interval."
    )
    resources: tuple[str, ...] = Field(
        description=(
            "What stops (at most 20): names of EncryptedResources, and Azure resource ids of what no EncryptedResource names."
        )
    )
    resource_count: int
    effect: str
    recovery: str = Field(description="What restores the service once the key is accessible again.")
    virtual_machines: tuple[str, ...] = Field(
        default=(), description="Disks: virtual machines that are expected to shut down before that time (at most 20 names)."
    )


class AccessReport(Shape):
    """Whether the key can be reached."""

    state: str
    since: datetime = Field(description="When the state was first seen.")
    inaccessible_expected_at: datetime | None = Field(
        default=None,
        description="Approximate time at which the first data on this key becomes inaccessible if nothing changes.",
    )
    lost_since: datetime | None = Field(
        default=None, description="When the loss was first seen, even if its cause has changed since."
    )
    stops: tuple[StopReport, ...] = Field(default=(), description="What stops at what time, earliest first.")


class UserReport(Shape):
    """A resource that Azure shows on the key and that no EncryptedResource names."""

    resource_id: str = Field(description="Azure resource id.")
    version: str | None = Field(default=None, description="The key version that it is on. Absent: Azure does not report it.")


class VersionReport(Shape):
    """One version of the key that protects something, or did."""

    version: str
    access: str | None = Field(
        default=None, description="Access state of this version. Absent: it is unused and therefore not probed."
    )
    enabled: bool | None = Field(default=None, description="Absent: the operator's permissions do not allow it to read this.")
    created: datetime | None = None
    expires: str | None = Field(default=None, description="Expiry date (RFC 3339). Absent: the version does not expire.")
    in_use_by: tuple[str, ...] = Field(
        default=(),
        description=(
            "Resources that Azure shows on this version (at most 20): names of EncryptedResources, and Azure resource ids of those that "
            "no EncryptedResource names."
        ),
    )
    in_use_by_count: int = 0
    superseded_at: datetime | None = None
    safe_to_disable_after: datetime | None = Field(
        default=None,
        description=(
            "From this time on no resource needs the version: Azure's lists show none on it. Backups may still need it: see "
            "keepUntil. Absent: something is on it, or that is not known, and reason says why."
        ),
    )
    keep_until: datetime | None = Field(
        default=None, description="Until this time there may be backups that need this version."
    )
    reason: str = ""


class PrerequisiteReport(Shape):
    """One condition that protects the key against loss."""

    name: str
    result: Literal["Pass", "Fail", "Unknown"]
    message: str
    command: str | None = Field(
        default=None,
        description="The az command for the person that the message names: it does what is missing, or lets the operator read it.",
    )


class RotationReport(Shape):
    """One observed change of the key version."""

    from_: str | None = Field(default=None, alias="from")
    to: str
    at: datetime
    by: str
    request_id: str | None = Field(default=None, description="Azure's request id, if this operator made the change.")


class EffectiveKey(Shape):
    """The effective values, specified or default."""

    rotation: Literal["Pinned", "Following"]
    apply: Literal["AzureSchedule", "Immediately"] | None = Field(default=None, description="Absent for a pinned key.")
    approval: Literal["Automatic", "Manual"] | None = Field(default=None, description="Absent for a pinned key.")
    prerequisites: Literal["Enforce", "Warn"]
    region_failover: Literal["Report", "Require"] = "Report"
    hold_superseded_for: str


class CustomerManagedKeyStatus(Shape):
    """The result of the last probes."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveKey | None = None
    access: AccessReport | None = None
    vault_region: str | None = Field(default=None, description="Azure region that the vault reports, such as westeurope.")
    active_version: str | None = Field(default=None, description="The version to which the operator moves resources.")
    pending_version: str | None = Field(
        default=None, description="A newer version that waits for approval (spec.rotation.approval)."
    )
    versions: tuple[VersionReport, ...] = ()
    prerequisites: tuple[PrerequisiteReport, ...] = ()
    rotations: tuple[RotationReport, ...] = ()
    used_by: tuple[str, ...] = Field(default=(), description="EncryptedResources that refer to this key (at most 20 names).")
    used_by_count: int = 0
    without_manifest: tuple[UserReport, ...] = Field(
        default=(), description="Resources that Azure shows on the key and that no EncryptedResource names (at most 20)."
    )
    without_manifest_count: int = 0
    notifications: NotificationsReport | None = None


class CustomerManagedKey(Shape):
    """A key in a customer's vault: whether it can be reached, which versions protect what, and what may be disabled."""

    model_config = ConfigDict(title="CustomerManagedKey")
    plural: ClassVar[str] = "customermanagedkeys"

    metadata: Metadata
    spec: CustomerManagedKeySpec
    status: CustomerManagedKeyStatus = CustomerManagedKeyStatus()
