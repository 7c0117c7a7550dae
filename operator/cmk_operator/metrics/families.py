"""Every metric that is computed at a scrape: its name, meaning and labels. docs/metrics.md lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable

    Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Family:
    """A gauge family."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()

    def of(self, samples: Iterable[Sample] = ()) -> GaugeMetricFamily:
        """The family with these samples: label values in the labels' order, and a value."""
        family = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in samples:
            family.add_metric(labels, value)
        return family


_KEY: Final = ("namespace", "name")
_BY_KIND: Final = (*_KEY, "kind")

LEADING: Final = Family("cmk_operator_leading", "1 in the leader, 0 in a standby.")
VERSION: Final = Family("cmk_operator_info", "Always 1. The label version is the operator's version.", ("version",))
CHECK_INTERVAL: Final = Family(
    "cmk_operator_check_interval_seconds", "Interval at which keys, resources (drift) and identities are checked.", ("check",)
)
QUEUE_DEPTH: Final = Family("cmk_queue_depth", "Objects in the queue that are due and wait for a worker.", ("kind",))
QUEUE_OVERDUE: Final = Family(
    "cmk_queue_overdue_seconds", "How late the most overdue reconcile is. It grows only if workers hang."
)
BUDGET_LEFT: Final = Family(
    "cmk_azure_budget_left_ratio",
    "Share of a call budget that is left, by its owner (a subscription or a host). Absent while the budget is full.",
    ("owner", "bucket"),
)
BUDGET_CLOSED: Final = Family(
    "cmk_azure_budget_closed_seconds",
    "Time for which Azure has asked the operator to wait (Retry-After). Absent if it has not.",
    ("owner", "bucket"),
)
OBJECTS_NOT_SEEN: Final = Family(
    "cmk_objects_not_seen",
    "Objects whose status says that nothing was seen of them within three check intervals (NotSeenLately), by kind.",
    ("kind",),
)
OLDEST_CLAIM: Final = Family(
    "cmk_oldest_claim_age_seconds",
    "Time since the operator last saw what the status of a Ready object says, for the object where it is longest, by kind.",
    ("kind",),
)
IDENTITY_READY: Final = Family("cmk_identity_ready", "1 while a FederatedIdentity is Ready.", ("name",))
TENANT_READY: Final = Family("cmk_tenant_ready", "1 while a CustomerTenant is Ready.", ("name",))
TENANT_CONSENT: Final = Family(
    "cmk_tenant_consent_state",
    "1 for the current state of the customer's consent (Pending, Granted, Revoked, Unknown).",
    ("name", "state"),
)
KEY_READY: Final = Family("cmk_key_ready", "1 while a CustomerManagedKey is Ready.", _KEY)
KEY_ACCESS: Final = Family(
    "cmk_key_access_state", "1 for the access state that the last probe of the key found.", (*_KEY, "state")
)
KEY_ACCESS_START: Final = Family(
    "cmk_key_access_state_start_timestamp_seconds", "Unix time at which the current access state was first seen.", _KEY
)
KEY_CUT_OFF: Final = Family(
    "cmk_key_data_cut_off_timestamp_seconds",
    "Approximate Unix time at which the first data becomes inaccessible if nothing changes. Absent while no data is at risk.",
    _KEY,
)
KEY_SERVICE_STOP: Final = Family(
    "cmk_key_service_stop_timestamp_seconds",
    "Approximate Unix time at which one service's data on the key becomes inaccessible if nothing changes. Absent while no data is at risk.",
    (*_KEY, "service"),
)
KEY_EXPIRATION: Final = Family(
    "cmk_key_expiration_timestamp_seconds",
    "Unix time at which the first version that is active or in use expires. Absent if none expires.",
    _KEY,
)
KEY_PREREQUISITES: Final = Family(
    "cmk_key_prerequisites", "Number of prerequisites by result (Pass, Fail, Unknown).", (*_KEY, "result")
)
KEY_PREREQUISITE_FAILED: Final = Family(
    "cmk_key_prerequisite_failed", "1 for each prerequisite that is not met. Absent while it is met.", (*_KEY, "prerequisite")
)
KEY_VERSIONS: Final = Family(
    "cmk_key_versions",
    "Number of known versions by phase: Active; InUse (by a resource); Held (no resource uses it, but an Azure service still may); "
    "NeededByBackups; SafeToDisable; Unknown (what may be on it could not be listed).",
    (*_KEY, "phase"),
)
KEY_SAFE_TO_DISABLE: Final = Family(
    "cmk_key_version_safe_to_disable_timestamp_seconds",
    "Unix time from which no resource needs a superseded version. Backups may still need it: see phase NeededByBackups.",
    (*_KEY, "version"),
)
KEY_USERS_KNOWN: Final = Family(
    "cmk_key_users_known",
    "Whether Azure's lists show everything that is on the key (1 or 0). While it is 0, no version is called safe to disable.",
    _KEY,
)
KEY_RESOURCES_WITHOUT_MANIFEST: Final = Family(
    "cmk_key_resources_without_manifest",
    "Number of resources that Azure shows on the key and that no EncryptedResource names. Absent if there are none.",
    _KEY,
)
KEY_LOST_OLD_VERSIONS: Final = Family(
    "cmk_key_lost_old_versions",
    "Number of old versions that are lost while resources still use them and the active version is accessible.",
    _KEY,
)
KEY_LOST_SUPERSEDED_VERSIONS: Final = Family(
    "cmk_key_lost_superseded_versions",
    "Number of versions that no resource uses any more and that were lost before services and backups stopped needing them. "
    "Absent if there are none.",
    _KEY,
)
KEY_AWAITING_APPROVAL: Final = Family(
    "cmk_key_version_awaiting_approval", "1 while a newer version of the key waits for approval. Absent if none waits.", _KEY
)
NOTIFICATIONS_PENDING: Final = Family(
    "cmk_notifications_pending", "Notifications that a customer's receiver has not accepted yet.", ("tenant",)
)
NOTIFICATIONS_DROPPED: Final = Family(
    "cmk_notifications_dropped",
    "Notifications of existing objects that were discarded because too many were pending. Absent if there are none.",
    ("tenant",),
)
RESOURCES: Final = Family("cmk_key_resources", "EncryptedResources that refer to the key, by kind of resource.", _BY_KIND)
RESOURCES_NOT_READY: Final = Family(
    "cmk_key_resources_not_ready", "EncryptedResources of the key that are not Ready.", _BY_KIND
)
RESOURCES_NOT_ENCRYPTED: Final = Family(
    "cmk_key_resources_not_encrypted",
    "EncryptedResources of the key that Azure does not report as encrypted in the way that the manifest specifies.",
    _BY_KIND,
)
RESOURCES_ON_OLD_VERSION: Final = Family(
    "cmk_key_resources_on_old_version", "EncryptedResources on another version of the key than the active one.", _BY_KIND
)
RESOURCES_NOT_COVERED: Final = Family(
    "cmk_key_resources_not_covered",
    "EncryptedResources with data that the key does not protect (DataCovered is False). Absent if there are none.",
    _KEY,
)
RESOURCES_CONTESTED: Final = Family(
    "cmk_key_resources_contested",
    "EncryptedResources that somebody else keeps changing back (Ready is False with Contested). Absent if there are none.",
    _KEY,
)
RESOURCES_STALLED: Final = Family(
    "cmk_key_resources_stalled", "EncryptedResources of the key for which a person must act (Stalled).", _BY_KIND
)
LAG_START: Final = Family(
    "cmk_key_version_lag_start_timestamp_seconds",
    "Unix time since which the slowest resource has been on an old version. Absent while all are on the active version.",
    _BY_KIND,
)
OPERATIONS: Final = Family("cmk_key_operations_in_progress", "Long-running operations of Azure that have not ended.", _BY_KIND)
OPERATION_START: Final = Family(
    "cmk_key_oldest_operation_start_timestamp_seconds",
    "Unix time at which the oldest long-running operation was started.",
    _BY_KIND,
)
INACCESSIBLE_DATABASES: Final = Family(
    "cmk_key_inaccessible_sql_databases", "SQL databases that cannot use the key at the moment. Absent if there are none.", _KEY
)
ROTATION_ERRORS: Final = Family(
    "cmk_key_resources_with_rotation_error",
    "Disk encryption sets and SQL servers that Azure does not rotate automatically. Absent if there are none.",
    _KEY,
)
RESOURCE_READY: Final = Family(
    "cmk_resource_ready",
    "1 while an EncryptedResource is Ready. Only this metric grows with the number of resources. The setting resource_metrics turns it off.",
    ("namespace", "name", "kind", "key"),
)

ORGANIZATION_READY: Final = Family("cmk_organization_key_ready", "1 while an OrganizationKey is Ready.", _KEY)
ORGANIZATION_CONDITION: Final = Family(
    "cmk_organization_key_condition",
    "Always 1, for each condition of an OrganizationKey: its type, its status (True, False, Unknown) and its reason.",
    (*_KEY, "type", "status", "reason"),
)
ORGANIZATION_REVISION: Final = Family(
    "cmk_organization_key_revision",
    "Revision of the settings in force, which grows with each acceptance. Absent while none are in force.",
    _KEY,
)
ORGANIZATION_DATA_KEYS: Final = Family(
    "cmk_organization_key_data_keys",
    "Data keys of the organization, as the key service last reported: on the key version in force, and on others.",
    (*_KEY, "on"),
)
ORGANIZATION_CREDENTIAL_EXPIRATION: Final = Family(
    "cmk_organization_key_credential_expiration_timestamp_seconds",
    "Unix time at which the last credential of the organization's registration expires. Absent if it is not known, or none is needed.",
    _KEY,
)

FAMILIES: Final = tuple(value for value in list(globals().values()) if isinstance(value, Family))
