"""`EncryptedResource`: one resource of Azure, or one Snowflake account, that must be encrypted with one customer's key."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_snake

from cmk_operator.api.conditions import Condition
from cmk_operator.api.customer_managed_key import RotationReport
from cmk_operator.api.model import Metadata, NamedReference, ObjectName, Shape, SnowflakeIdentifier
from cmk_operator.api.notifications import NotificationsReport
from cmk_operator.api.rules import Rule, first_broken, immutable, validations
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none
from cmk_operator.core.identifiers.region import region_of
from cmk_operator.providers.registry import KINDS, OWN_IDENTIFIERS, named_in

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.core.kinds.kind import Kind


class DiskEncryptionSet(Shape):
    """How to create the disk encryption set if it does not exist. An existing one is used as it is."""

    location: str = Field(
        pattern="^[A-Za-z0-9 ]+$",
        max_length=60,
        description="Azure region, such as westeurope. It must be the region of the vault and of the disks.",
    )
    encryption_type: Literal[
        "EncryptionAtRestWithCustomerKey",
        "EncryptionAtRestWithPlatformAndCustomerKeys",
        "ConfidentialVmEncryptedWithCustomerKey",
    ] = Field(description="Type of encryption. It cannot be changed later.")


class Disk(Shape):
    """The disk encryption set from which a disk gets its key."""

    disk_encryption_set_id: str = Field(
        max_length=400,
        description="Azure Resource Manager id of the disk encryption set that the disk must use.",
        json_schema_extra=validations(
            Rule(
                "self.matches('(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/"
                "Microsoft[.]Compute/diskEncryptionSets/[^/]+$')",
                "diskEncryptionSetId must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.Compute/"
                "diskEncryptionSets/<name>",
            )
        ),
    )


class SqlServer(Shape):
    """What the operator may do to move a SQL server to the key."""

    switch_through_service_managed_key: bool | None = Field(
        default=None,
        description=(
            "Whether the operator may put a server on a Microsoft-managed key for a moment, if the server reaches its current key "
            "through another application. Azure documents no other way to change the application. The default is false."
        ),
    )


class PrivateKeyReference(Shape):
    """A Secret in the namespace of the manifest."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: str | None = Field(
        default=None, max_length=253, description="Entry that holds the private key (PEM). The default is privateKey."
    )
    passphrase_key: str | None = Field(
        default=None, max_length=253, description="Entry that holds the passphrase of the private key. None when absent."
    )


class Snowflake(Shape):
    """A Snowflake account with Tri-Secret Secure, and how to sign in to it."""

    account: SnowflakeIdentifier = Field(description="Account identifier, such as contoso-prod.")
    user: str = Field(
        pattern="^[A-Za-z_][A-Za-z0-9_$.@-]*$",
        max_length=255,
        description="User that has the matching public key in Snowflake.",
    )
    role: str | None = Field(
        default=None,
        pattern="^[A-Za-z_][A-Za-z0-9_$]*$",
        max_length=255,
        description="Role to use. The default is ACCOUNTADMIN.",
    )
    private_key_secret_ref: PrivateKeyReference = Field(description="The user's private key.")
    network_rules: bool | None = Field(
        default=None,
        description="Whether status lists Snowflake's subnets, which the vault's firewall must admit. The default is false.",
    )


_TYPE = "self.resourceId.matches('(?i)/providers/{}/[^/]+$')"
_CROSS_TENANT: Final = (
    "needs its key vault in its own tenant, so it cannot be encrypted with a customer's key from another tenant"
)
_SPEC_RULES: Final = (
    Rule("has(self.resourceId) != has(self.snowflake)", "set exactly one target: resourceId or snowflake"),
    Rule(
        "has(self.resourceId) == has(oldSelf.resourceId) && (!has(self.snowflake) || !has(oldSelf.snowflake) || "
        "self.snowflake.account == oldSelf.snowflake.account)",
        "the target may not change: create another object instead",
    ),
    Rule(
        f"!has(self.diskEncryptionSet) || (has(self.resourceId) && {_TYPE.format('Microsoft[.]Compute/diskEncryptionSets')})",
        "diskEncryptionSet is for a resourceId of type Microsoft.Compute/diskEncryptionSets only",
    ),
    Rule(
        f"has(self.disk) == (has(self.resourceId) && {_TYPE.format('Microsoft[.]Compute/disks')})",
        "disk is required for a resourceId of type Microsoft.Compute/disks, and for no other",
    ),
    Rule(
        f"!has(self.sqlServer) || (has(self.resourceId) && {_TYPE.format('Microsoft[.]Sql/servers')})",
        "sqlServer is for a resourceId of type Microsoft.Sql/servers only",
    ),
    Rule(
        "!has(self.requireFullCoverage) || !self.requireFullCoverage || has(self.resourceId) || !has(self.snowflake)",
        "requireFullCoverage is for a resourceId only: Snowflake does not report which data its key does not protect",
    ),
)


_ATTRIBUTES: Final = {kind.manifest_field: to_snake(kind.manifest_field) for kind in KINDS.values() if kind.manifest_field}
"""The fields that are for one kind of resource each: in JSON, and here."""


class EncryptedResourceSpec(Shape):
    """What to encrypt with which key, and what happens when the manifest is deleted."""

    model_config = ConfigDict(json_schema_extra=validations(*_SPEC_RULES))

    key_ref: NamedReference = Field(description="The CustomerManagedKey, in this namespace.")
    resource_id: str | None = Field(
        default=None,
        max_length=400,
        description="Azure Resource Manager id of the resource.",
        json_schema_extra=validations(
            # A rule that compares with the old object is skipped for a new one, so it is not part of `first_broken`.
            immutable("resourceId"),
            *first_broken(
                Rule("!self.endsWith('/')", "resourceId may not end with a slash"),
                Rule(
                    "self.matches('(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/[^/]+(/[^/]+/[^/]+)+$')",
                    "resourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/<namespace>/<type>/<name>",
                ),
                Rule("!self.matches('(?i)/providers/Microsoft[.]EventHub/')", f"Event Hubs {_CROSS_TENANT}"),
                Rule("!self.matches('(?i)/providers/Microsoft[.]Databricks/')", f"Databricks {_CROSS_TENANT}"),
                Rule(
                    "!self.matches('(?i)/providers/(Microsoft[.]Insights|Microsoft[.]OperationalInsights|Microsoft[.]Monitor)/')",
                    f"Azure Monitor {_CROSS_TENANT}",
                ),
            ),
        ),
    )
    snowflake: Snowflake | None = Field(default=None, description="A Snowflake account, instead of resourceId.")
    disk_encryption_set: DiskEncryptionSet | None = Field(
        default=None,
        description="How to create the disk encryption set that resourceId names. An existing one is used as it is.",
    )
    disk: Disk | None = Field(default=None, description="The disk encryption set for the disk that resourceId names.")
    sql_server: SqlServer | None = Field(
        default=None, description="What the operator may do with the SQL server that resourceId names."
    )
    mode: Literal["Enforce", "Observe"] | None = Field(
        default=None,
        description="Enforce (the default): the operator makes the changes. Observe: it writes nothing to Azure and shows the changes in status.plan.",
    )
    require_full_coverage: bool | None = Field(
        default=None,
        description=(
            "Whether the resource is Ready only while the condition DataCovered is True: while Azure shows no data of it that the key "
            "does not protect. The default is false."
        ),
    )
    deletion_policy: Literal["Orphan", "RevertToPlatformKey"] | None = Field(
        default=None,
        description=(
            "What happens in Azure when this manifest is deleted. Orphan (the default): nothing. RevertToPlatformKey: the resource "
            "returns to a Microsoft-managed key, which needs the customer's key to be accessible."
        ),
    )

    def part(self, field: str | None) -> dict[str, Any]:
        """A field that is for one kind of resource, as JSON; empty when it is absent, or the kind has none."""
        given: Shape | None = getattr(self, _ATTRIBUTES[field]) if field is not None else None
        return given.model_dump(by_alias=True, exclude_none=True) if given is not None else {}

    @property
    def target(self) -> ResourceId:
        """What the manifest names, not checked yet."""
        own = {field: self.part(field) or None for field, _ in OWN_IDENTIFIERS}
        return named_in({"resourceId": self.resource_id, **own})

    @property
    def kind(self) -> Kind | None:
        """The kind of what the manifest names; None when it is not supported."""
        return KINDS.get(self.target.resource_type)

    @property
    def region(self) -> str | None:
        """The region of a kind that needs its vault there, as Azure compares regions; None: the manifest does not say."""
        kind = self.kind
        if kind is None or kind.shares_vault_region is None:
            return None
        location = self.part(kind.manifest_field).get("location")
        return region_of(location) if location is not None else None


class TargetReport(Shape):
    """The kind and name of the resource, for people."""

    kind: str
    name: str


class AppliedKey(Shape):
    """The key that Azure reports for the resource."""

    key_uri: str
    version: str
    since: datetime

    @property
    def uri(self) -> KeyUri | None:
        """The key with its version; None where another release wrote what this one cannot read."""
        return key_uri_or_none(self.key_uri)


class LostAccessReport(Shape):
    """What stops at what time, because the key version that protects the resource cannot be reached."""

    state: str
    lost_since: datetime = Field(description="When the loss was first seen, even if its cause has changed since.")
    inaccessible_expected_at: datetime = Field(description="Approximate time at which the resource stops if nothing changes.")
    effect: str = Field(description="What stops at that time.")
    recovery: str = Field(description="What restores the resource once the key is accessible again.")
    virtual_machines: tuple[str, ...] = Field(
        default=(), description="Disks: virtual machines that are expected to shut down before that time (at most 50 names)."
    )


class OperationReport(Shape):
    """A long-running operation that has not ended. After a restart the operator polls it and does not start another one."""

    url: str
    purpose: str
    started_at: datetime
    request_id: str | None = None


class RememberedReport(Shape):
    """What the service reports only once."""

    version: str | None = None
    registered_at: datetime | None = None
    not_newer_than: str | None = None


class NotCoveredReport(Shape):
    """Data of the resource that the key does not protect, although the resource is on the key."""

    part: str = Field(description="The data, such as queues, or the name of an encryption scope or database.")
    covered: Literal["No", "Unknown"] = Field(
        description="No: the key does not protect it. Unknown: the service does not show it, or the operator may not read it."
    )
    protected_by: str | None = Field(default=None, description="What protects it instead; absent if that is not known.")
    remedy: str | None = Field(default=None, description="Who can do what about it.")


class GeoReplicaReport(Shape):
    """Another SQL server with which databases are replicated, and its own encryption protector."""

    server: str
    role: Literal["Primary", "Secondary"]
    protected_by: str | None = Field(default=None, description="The key of its own encryption protector; absent if not known.")
    auto_rotation: bool | None = Field(default=None, description="Whether its own encryption protector rotates automatically.")
    problem: str | None = Field(default=None, description="Why its encryption protector is not known.")


class DetailsReport(Shape):
    """What is known of the resource besides its key. Each kind of resource sets its own fields."""

    inaccessible_databases: tuple[str, ...] = Field(
        default=(), description="SQL: databases that cannot use the key at the moment."
    )
    geo_secondaries: tuple[str, ...] = Field(default=(), description="SQL: servers in a failover group with this one.")
    geo_replicas: tuple[GeoReplicaReport, ...] = Field(
        default=(), description="SQL: those servers with their own encryption protectors, as read within the last 15 minutes."
    )
    encrypted_disks: tuple[str, ...] = Field(
        default=(), description="Disk encryption set: the resources that it encrypts (at most 50 names)."
    )
    attached_to: tuple[str, ...] = Field(default=(), description="Disks: virtual machines that use them (at most 50 names).")
    previous_keys: tuple[str, ...] = Field(
        default=(), description="Disk encryption set: keys that a running rotation has not left yet."
    )
    rotation_error: str | None = Field(
        default=None, description="Disk encryption set and SQL server: why Azure does not rotate automatically."
    )
    on_rotation: str | None = Field(
        default=None, description="What a rotation of this resource needs from people, and who does not follow it by itself."
    )
    consent_url: str | None = Field(
        default=None, description="Snowflake: page on which the customer consents to Snowflake's application."
    )
    service_principal_name: str | None = Field(
        default=None, description="Snowflake: the application that needs access to the key."
    )
    network_subnets: tuple[str, ...] = Field(default=(), description="Snowflake: subnets that the vault's firewall must admit.")
    waits_until: datetime | None = Field(default=None, description="When the waiting period ends.")
    not_covered: tuple[NotCoveredReport, ...] = Field(
        default=(), description="Data that the key does not protect, or of which that is not known (at most 50 entries)."
    )
    not_covered_count: int | None = Field(
        default=None, description="How many entries there are, if notCovered does not have all of them."
    )
    not_readable: tuple[str, ...] = Field(
        default=(),
        description="What Azure has beside the resource and the operator cannot read, such as an entry of a list (at most 50).",
    )


class ContentionReport(Shape):
    """What the operator has put in place, and how often somebody else changed it back."""

    wanted: str = Field(max_length=64, description="Digest of what the operator began to put in place.")
    in_place_since: datetime | None = Field(default=None, description="Absent while a change is due.")
    changed_back: tuple[datetime, ...] = Field(
        default=(), description="When somebody else changed it back within an hour, newest first (at most 10)."
    )


class PlanReport(Shape):
    """A change that is due but not made (mode Observe)."""

    summary: tuple[str, ...] = Field(description="One line for each field: its path, current value and intended value.")
    patch: str = Field(description="Body of the next request (JSON).")


class EffectiveResource(Shape):
    """The effective values, specified or default."""

    mode: Literal["Enforce", "Observe"]
    deletion_policy: Literal["Orphan", "RevertToPlatformKey"]


class EncryptedResourceStatus(Shape):
    """The result of the last reconcile."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveResource | None = None
    target: TargetReport | None = None
    applied: AppliedKey | None = None
    access: LostAccessReport | None = Field(default=None, description="Absent while the key version in use is accessible.")
    operation: OperationReport | None = None
    details: DetailsReport | None = None
    remembered: RememberedReport | None = None
    plan: PlanReport | None = None
    rotations: tuple[RotationReport, ...] = ()
    contention: ContentionReport | None = Field(
        default=None, description="Absent until the operator has changed the resource; the reason Contested rests on it."
    )
    notifications: NotificationsReport | None = None


class EncryptedResource(Shape):
    """An Azure resource whose data is encrypted with a customer's key."""

    model_config = ConfigDict(title="EncryptedResource")
    plural: ClassVar[str] = "encryptedresources"

    metadata: Metadata
    spec: EncryptedResourceSpec
    status: EncryptedResourceStatus = EncryptedResourceStatus()

    @property
    def service(self) -> str:
        """The service that keeps the resource and reports its encryption."""
        kind = self.spec.kind
        return kind.reported_by if kind is not None else "Azure"

    @property
    def platform_key(self) -> str:
        """What status, events and the record call the key that protects the resource while no customer's key does."""
        kind = self.spec.kind
        return kind.platform_key if kind is not None else "a Microsoft-managed key"
