"""`CustomerManagedKey`: one key in the customer's vault, and everything that is known about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.model import Metadata, NamedReference, Shape
from cmk_operator.api.notifications import NotificationsReport
from cmk_operator.api.rules import Rule, first_broken, immutable, validations

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
    Rule("!self.endsWith('/')", "keyUri may not end with a slash: leave the version out to follow the latest"),
    Rule(
        "self.matches('^https://[a-z][a-z0-9-]{1,22}[a-z0-9]\\\\.vault\\\\.(azure\\\\.net|usgovcloudapi\\\\.net|azure\\\\.cn)/keys/"
        "[0-9A-Za-z-]{1,127}(/[0-9a-f]{32})?$')",
        "keyUri must be https://<vault>.<suffix>/keys/<name>, optionally followed by /<version> of 32 lower-case hexadecimal "
        "digits",
    ),
)


class RotationPolicy(Shape):
    """How new versions are taken over, and how long old ones must be kept."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "!has(self.approval) || self.approval != 'Manual' || (has(self.apply) && self.apply == 'Immediately')",
                "approval Manual needs apply Immediately: on their own schedule Azure's services ask nobody",
            )
        )
    )

    apply: Literal["AzureSchedule", "Immediately"] | None = Field(
        default=None,
        description=(
            "How a new version of a followed key is taken over. AzureSchedule (when absent): each service looks for it by itself, "
            "within a day. Immediately: this operator puts each resource on it as soon as old and new version pass the probe."
        ),
    )
    approval: Literal["Automatic", "Manual"] | None = Field(
        default=None,
        description=(
            "Automatic (when absent), or Manual: a new version waits in status.pendingVersion until the annotation "
            "cmk-operator.dev/approved-version of this object names it."
        ),
    )
    hold_superseded_for: Duration | None = Field(
        default=None,
        description=(
            "How long a superseded version must stay enabled after the last resource has moved off it, such as 24h (when absent)."
        ),
        json_schema_extra=validations(
            Rule(
                "duration(self) >= duration('24h')",
                "holdSupersededFor must be at least 24h: services look for new versions daily",
            ),
            Rule("duration(self) <= duration('876000h')", "holdSupersededFor may be at most 876000h, which are 100 years"),
        ),
    )
    backup_retention: Duration | None = Field(
        default=None,
        description="How long backups are kept, such as 840h: until then they need the version they were made under.",
        json_schema_extra=validations(
            Rule("duration(self) <= duration('876000h')", "backupRetention may be at most 876000h, which are 100 years")
        ),
    )


class CustomerManagedKeySpec(Shape):
    """Which key, whose, and how strictly it must be guarded."""

    tenant_ref: NamedReference = Field(
        description="The CustomerTenant that owns the vault.", json_schema_extra=validations(immutable("tenantRef"))
    )
    key_uri: str = Field(
        max_length=300,
        description="Identifier of the key: with a version it is pinned, without one the latest version is followed.",
        json_schema_extra=validations(*KEY_URI_RULES),
    )
    vault_resource_id: str | None = Field(
        default=None,
        max_length=400,
        description=(
            "Azure Resource Manager id of the vault. When absent the vault is looked for in the subscriptions that the customer has "
            "let the application see. Read for prerequisites that the vault itself does not tell."
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
        default=None, description="How new versions are taken over, and how long old ones must be kept."
    )
    prerequisites: Literal["Enforce", "Warn"] | None = Field(
        default=None,
        description=(
            "Enforce (when absent): nothing new is put on a key that lacks what the provider asks for. Warn: only what Azure itself "
            "refuses is enforced, the rest is told. Locks, retention and network protection are told in both."
        ),
    )


class StopReport(Shape):
    """What stops if the key stays lost: the resources of one service."""

    service: str
    expected_at: datetime = Field(description="About when it stops; the services look at different paces.")
    resources: tuple[str, ...] = Field(description="EncryptedResources that stop (at most 20 names).")
    resource_count: int
    effect: str
    recovery: str = Field(description="What brings it back once the key is accessible again.")
    virtual_machines: tuple[str, ...] = Field(
        default=(), description="Disks: virtual machines that are expected to shut down, before that time (at most 20 names)."
    )


class AccessReport(Shape):
    """Whether the key can be reached."""

    state: str
    since: datetime = Field(description="When the state was first seen.")
    inaccessible_expected_at: datetime | None = Field(
        default=None, description="About when the first data on this key becomes inaccessible if nothing changes."
    )
    lost_since: datetime | None = Field(default=None, description="When the loss was first seen, whatever its cause since.")
    stops: tuple[StopReport, ...] = Field(default=(), description="What stops when, the earliest first.")


class VersionReport(Shape):
    """One version of the key that protects, or protected, something."""

    version: str
    access: str | None = Field(default=None, description="Access state of this version; absent: not probed, because unused.")
    enabled: bool | None = Field(default=None, description="Absent: not readable with the present grants.")
    created: datetime | None = None
    expires: str | None = Field(default=None, description="Expiry in RFC 3339; absent: it does not expire.")
    in_use_by: tuple[str, ...] = Field(default=(), description="EncryptedResources on this version (at most 20 names).")
    in_use_by_count: int = 0
    superseded_at: datetime | None = None
    safe_to_disable_after: datetime | None = Field(
        default=None, description="From then on no resource needs it; backups may, see keepUntil."
    )
    keep_until: datetime | None = Field(default=None, description="Backups made under this version may exist until then.")
    reason: str = ""


class PrerequisiteReport(Shape):
    """One thing that guards the key against loss."""

    name: str
    result: Literal["Pass", "Fail", "Unknown"]
    message: str
    command: str | None = Field(
        default=None, description="The az command by which whom the message names does it, or lets the operator see it."
    )


class RotationReport(Shape):
    """One change of version that was seen."""

    from_: str | None = Field(default=None, alias="from")
    to: str
    at: datetime
    by: str
    request_id: str | None = Field(default=None, description="Azure's request id, where this operator made the change.")


class EffectiveKey(Shape):
    """Values in force, given or default."""

    rotation: Literal["Pinned", "Following"]
    apply: Literal["AzureSchedule", "Immediately"] | None = Field(default=None, description="Absent for a pinned key.")
    approval: Literal["Automatic", "Manual"] | None = Field(default=None, description="Absent for a pinned key.")
    prerequisites: Literal["Enforce", "Warn"]
    hold_superseded_for: str


class CustomerManagedKeyStatus(Shape):
    """What the last probes found."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveKey | None = None
    access: AccessReport | None = None
    vault_region: str | None = Field(default=None, description="Where the vault lies, as it tells itself, such as westeurope.")
    active_version: str | None = Field(default=None, description="The version that new and moved resources are put on.")
    pending_version: str | None = Field(
        default=None, description="A newer version that waits for approval; see spec.rotation.approval."
    )
    versions: tuple[VersionReport, ...] = ()
    prerequisites: tuple[PrerequisiteReport, ...] = ()
    rotations: tuple[RotationReport, ...] = ()
    used_by: tuple[str, ...] = Field(default=(), description="EncryptedResources that name this key (at most 20 names).")
    used_by_count: int = 0
    notifications: NotificationsReport | None = None


class CustomerManagedKey(Shape):
    """A key in a customer's vault: whether it can be reached, which versions protect what, and what may be disabled."""

    model_config = ConfigDict(title="CustomerManagedKey")
    plural: ClassVar[str] = "customermanagedkeys"

    metadata: Metadata
    spec: CustomerManagedKeySpec
    status: CustomerManagedKeyStatus = CustomerManagedKeyStatus()
