"""What a scrape tells: of the objects that there are, at this moment, in names that Prometheus' own linter accepts."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.azure.call_budget import BudgetState
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.metrics.exposition import Exposition, Work
from cmk_operator.metrics.families import FAMILIES
from cmk_operator.telemetry import Telemetry
from tests.conftest import ROOT
from tests.unit.samples import NOW, V1, V2, V3, VAULT, identity_body, key_body, resource_body, tenant_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.kubernetes.client import ObjectReference

MOMENT = NOW.timestamp()
KEY = {"namespace": "team-a", "name": "storage"}
DAY = 86_400.0
LEADING = Work(leading=True, queue_depths={"customermanagedkeys": 3}, queue_overdue=7.0)


def condition(kind: str, status: str, reason: str = "Any", since: str = "2026-11-24T10:00:00Z") -> dict[str, Any]:
    """A condition as the API server has it."""
    return {
        "type": kind,
        "status": status,
        "observedGeneration": 1,
        "lastTransitionTime": since,
        "reason": reason,
        "message": "any",
    }


@dataclass
class Process:
    """An operator's metrics, and the objects that its watches have shown."""

    work: Work = LEADING
    each_resource: bool = True
    telemetry: Telemetry = field(default_factory=Telemetry)
    inventory: Inventory = field(default_factory=Inventory)
    now: float = MOMENT
    ages: dict[ObjectReference, float] = field(default_factory=dict)
    exposition: Exposition = field(init=False)
    _resource_version: int = 100

    def __post_init__(self) -> None:
        self.exposition = Exposition(
            self.telemetry,
            self.inventory,
            lambda: self.work,
            {"key": 45.0},
            age=lambda reference: self.ages.get(reference, 0.0),
            each_resource=self.each_resource,
            clock=lambda: self.now,
        )

    def put(self, plural: str, body: dict[str, Any], status: dict[str, Any] | None = None) -> ObjectReference:
        """An object as a watch shows it, newer than all before."""
        self._resource_version += 1
        metadata = body["metadata"] | {"resourceVersion": str(self._resource_version)}
        reference, _ = self.inventory.put(plural, body | {"metadata": metadata, "status": status or {}})
        return reference

    def put_key(
        self, name: str = "storage", uri: str | None = None, rotation: dict[str, Any] | None = None, **status: Any
    ) -> ObjectReference:
        """A key."""
        spec: dict[str, Any] = {"keyUri": uri, "rotation": rotation}
        body = key_body(name, **{field: value for field, value in spec.items() if value})
        return self.put(CustomerManagedKey.plural, body, status)

    def put_resource(self, name: str, *, kind: str = "StorageAccount", key: str = "storage", **status: Any) -> ObjectReference:
        """A resource that a pass has looked at."""
        body = resource_body(name, keyRef={"name": key})
        return self.put(EncryptedResource.plural, body, {"target": {"kind": kind, "name": name}} | status)

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample by its name and labels."""
        return samples_of(asyncio.run(self.exposition.text()).decode())


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, labels, value = re.fullmatch(r"([a-z_A-Z]+)(\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
            found[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))] = float(value)
    return found


def value(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], metric: str, /, **labels: str) -> float | None:
    """One sample, None when there is none."""
    return samples.get((metric, frozenset(labels.items())))


def names(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]) -> set[str]:
    return {name for name, _ in samples}


def test_a_key_tells_its_state_since_when_and_when_data_stops() -> None:
    process = Process()
    process.put_key(
        conditions=[condition("Ready", "False", "Disabled")],
        access={
            "state": "Disabled",
            "since": "2026-11-24T11:58:00Z",
            "inaccessibleExpectedAt": "2026-11-24T12:08:00Z",
            "stops": [
                {"service": service, "expectedAt": at, "resources": [], "resourceCount": 1, "effect": "any", "recovery": "any"}
                for service, at in (("Azure Storage", "2026-11-24T12:08:00Z"), ("managed disks", "2026-11-24T12:58:00Z"))
            ],
        },
    )
    samples = process.scrape()
    assert value(samples, "cmk_key_access_state", **KEY, state="Disabled") == 1
    assert [labels for name, labels in samples if name == "cmk_key_access_state"] == [
        frozenset({*KEY.items(), ("state", "Disabled")})
    ]
    assert value(samples, "cmk_key_access_state_start_timestamp_seconds", **KEY) == MOMENT - 120
    assert value(samples, "cmk_key_data_cut_off_timestamp_seconds", **KEY) == MOMENT + 480
    assert value(samples, "cmk_key_service_stop_timestamp_seconds", **KEY, service="Azure Storage") == MOMENT + 480
    assert value(samples, "cmk_key_service_stop_timestamp_seconds", **KEY, service="managed disks") == MOMENT + 3480
    assert value(samples, "cmk_key_ready", **KEY) == 0


def test_a_key_that_no_pass_has_looked_at_is_unknown_and_promises_nothing() -> None:
    process = Process()
    process.put_key()
    samples = process.scrape()
    assert value(samples, "cmk_key_access_state", **KEY, state="Unknown") == 1
    assert not names(samples) & {"cmk_key_data_cut_off_timestamp_seconds", "cmk_key_expiration_timestamp_seconds"}


def test_the_expiry_is_that_of_the_first_version_that_something_needs() -> None:
    process = Process()
    versions = [
        {"version": V3, "access": "Accessible", "expires": "2027-11-24T12:00:00Z"},
        {"version": V2, "inUseByCount": 1, "expires": "2026-11-25T12:00:00Z"},
        {"version": V1, "expires": "2026-11-24T13:00:00Z"},
    ]
    process.put_key(activeVersion=V3, versions=versions)
    assert value(process.scrape(), "cmk_key_expiration_timestamp_seconds", **KEY) == MOMENT + DAY
    process.put_key(activeVersion=V3, versions=[{"version": V3}])
    assert "cmk_key_expiration_timestamp_seconds" not in names(process.scrape())


def test_versions_go_from_phase_to_phase_as_time_goes_by_and_without_a_write() -> None:
    process = Process()
    old = {"version": V1, "safeToDisableAfter": "2026-11-25T12:00:00Z", "keepUntil": "2026-11-26T12:00:00Z"}
    versions = [{"version": V3, "inUseByCount": 2}, {"version": V2, "inUseByCount": 1}, old]
    process.put_key(activeVersion=V3, versions=versions, rotation={"backupRetention": "48h"})

    def phases() -> set[str]:
        samples = process.scrape()
        assert value(samples, "cmk_key_version_safe_to_disable_timestamp_seconds", **KEY, version=V1) == MOMENT + DAY
        return {dict(labels)["phase"] for name, labels in samples if name == "cmk_key_versions"}

    assert phases() == {"Active", "InUse", "Held"}
    process.now = MOMENT + DAY
    assert phases() == {"Active", "InUse", "NeededByBackups"}
    process.now = MOMENT + 2 * DAY
    assert phases() == {"Active", "InUse", "SafeToDisable"}


def test_backups_need_a_version_for_ever_when_their_retention_is_not_told() -> None:
    process = Process(now=MOMENT + 1000 * DAY)
    process.put_key(activeVersion=V2, versions=[{"version": V1, "safeToDisableAfter": "2026-11-25T12:00:00Z"}])
    assert value(process.scrape(), "cmk_key_versions", **KEY, phase="NeededByBackups") == 1


def test_backups_that_azure_lists_do_not_stand_for_all_backups() -> None:
    process = Process(now=MOMENT + 1000 * DAY)
    old = {"version": V1, "safeToDisableAfter": "2026-11-25T12:00:00Z", "keepUntil": "2026-11-26T12:00:00Z"}
    process.put_key(activeVersion=V2, versions=[old])
    assert value(process.scrape(), "cmk_key_versions", **KEY, phase="NeededByBackups") == 1


def test_a_version_whose_users_could_not_be_listed_has_a_phase_of_its_own() -> None:
    process = Process()
    process.put_key(
        activeVersion=V2, versions=[{"version": V1, "supersededAt": "2026-11-20T12:00:00Z"}], withoutManifestCount=3
    )
    samples = process.scrape()
    assert value(samples, "cmk_key_versions", **KEY, phase="Unknown") == 1
    assert value(samples, "cmk_key_users_known", **KEY) == 0
    assert value(samples, "cmk_key_resources_without_manifest", **KEY) == 3
    assert "cmk_key_version_safe_to_disable_timestamp_seconds" not in names(samples)


@pytest.mark.parametrize(
    ("active", "old", "users", "lost"),
    [
        ("Accessible", "Disabled", 1, 1),
        ("Accessible", "Accessible", 1, 0),
        ("Accessible", "VaultUnreachable", 1, 0),
        ("Accessible", "Disabled", 0, 0),
        ("Disabled", "Disabled", 1, 0),
    ],
)
def test_an_old_version_is_lost_when_it_is_in_use_and_the_active_one_is_well(
    active: str, old: str, users: int, lost: int
) -> None:
    process = Process()
    versions = [{"version": V2, "access": active}, {"version": V1, "access": old, "inUseByCount": users}]
    process.put_key(activeVersion=V2, versions=versions)
    assert value(process.scrape(), "cmk_key_lost_old_versions", **KEY) == lost


def test_a_superseded_version_is_lost_too_early_until_backups_can_do_without_it() -> None:
    process = Process()
    old = {"access": "Disabled", "safeToDisableAfter": "2026-11-24T11:00:00Z"}
    versions = [
        {"version": V3, "access": "Accessible"},
        {"version": V2, **old, "keepUntil": "2026-11-25T12:00:00Z"},
        {"version": V1, **old},
    ]
    process.put_key(activeVersion=V3, versions=versions)
    assert value(process.scrape(), "cmk_key_lost_superseded_versions", **KEY) == 1
    process.now += DAY
    assert "cmk_key_lost_superseded_versions" not in names(process.scrape())


def test_prerequisites_are_counted_and_those_that_fail_are_named() -> None:
    process = Process()
    found = [("SoftDelete", "Pass"), ("PurgeProtection", "Fail"), ("Lock", "Unknown"), ("Firewall", "Unknown")]
    process.put_key(prerequisites=[{"name": name, "result": result, "message": "any"} for name, result in found])
    samples = process.scrape()
    counts = {result: value(samples, "cmk_key_prerequisites", **KEY, result=result) for result in ("Pass", "Fail", "Unknown")}
    assert counts == {"Pass": 1, "Fail": 1, "Unknown": 2}
    assert value(samples, "cmk_key_prerequisite_failed", **KEY, prerequisite="PurgeProtection") == 1
    assert len([name for name, _ in samples if name == "cmk_key_prerequisite_failed"]) == 1


def test_resources_are_counted_at_their_key_by_kind() -> None:
    process = Process()
    well = [condition("Ready", "True"), condition("Encrypted", "True"), condition("KeyCurrent", "True")]
    process.put_resource("well", conditions=well)
    behind = [
        condition("Ready", "True"),
        condition("Encrypted", "True"),
        condition("KeyCurrent", "False", "AzureWillRotate", since="2026-11-24T09:00:00Z"),
    ]
    process.put_resource("behind", conditions=behind)
    later = condition("KeyCurrent", "False", "Outdated", since="2026-11-24T11:00:00Z")
    process.put_resource("behind-too", conditions=[*behind[:2], later])
    elsewhere = [
        condition("Ready", "False"),
        condition("Encrypted", "False"),
        condition("KeyCurrent", "False", "NotOnKey"),
        condition("Stalled", "True"),
    ]
    process.put_resource("elsewhere", kind="Disk", conditions=elsewhere)
    samples = process.scrape()
    storage, disk = KEY | {"kind": "StorageAccount"}, KEY | {"kind": "Disk"}

    def counts(labels: dict[str, str]) -> list[float | None]:
        return [
            value(samples, f"cmk_key_resources{suffix}", **labels)
            for suffix in ("", "_not_ready", "_not_encrypted", "_on_old_version", "_stalled")
        ]

    assert counts(storage) == [3, 0, 0, 2, 0]
    assert counts(disk) == [1, 1, 1, 0, 1]
    assert value(samples, "cmk_key_version_lag_start_timestamp_seconds", **storage) == MOMENT - 3 * 3600
    assert value(samples, "cmk_key_version_lag_start_timestamp_seconds", **disk) is None


def test_operations_databases_and_rotation_errors_are_there_only_while_there_are_some() -> None:
    process = Process()
    process.put_resource("idle")
    rare = {
        "cmk_key_operations_in_progress",
        "cmk_key_oldest_operation_start_timestamp_seconds",
        "cmk_key_inaccessible_sql_databases",
        "cmk_key_resources_with_rotation_error",
        "cmk_key_resources_not_covered",
        "cmk_key_resources_contested",
    }
    assert not names(process.scrape()) & rare
    operation = {"url": "https://management.azure.com/any", "purpose": "any", "startedAt": "2026-11-24T11:00:00Z"}
    process.put_resource("moving", kind="Disk", operation=operation, details={"rotationError": "KeyVaultAccessForbidden"})
    process.put_resource("one", kind="SqlServer", details={"inaccessibleDatabases": ["a", "b"]})
    process.put_resource("other", kind="SqlServer", details={"inaccessibleDatabases": ["c"]})
    samples = process.scrape()
    assert value(samples, "cmk_key_operations_in_progress", **KEY, kind="Disk") == 1
    assert value(samples, "cmk_key_oldest_operation_start_timestamp_seconds", **KEY, kind="Disk") == MOMENT - 3600
    assert value(samples, "cmk_key_inaccessible_sql_databases", **KEY) == 3
    assert value(samples, "cmk_key_resources_with_rotation_error", **KEY) == 1
    process.put_resource("part", conditions=[condition("DataCovered", "False", "DataNotCovered")])
    process.put_resource("none", conditions=[condition("DataCovered", "False", "NotOnKey")])
    process.put_resource("perhaps", conditions=[condition("DataCovered", "Unknown", "CoverageNotShown")])
    assert value(process.scrape(), "cmk_key_resources_not_covered", **KEY) == 1
    process.put_resource("fought over", conditions=[condition("Ready", "False", "Contested")])
    assert value(process.scrape(), "cmk_key_resources_contested", **KEY) == 1


def test_a_version_that_waits_for_approval_is_told_until_it_is_approved() -> None:
    process = Process()
    process.put_key(activeVersion=V1, pendingVersion=V2)
    assert value(process.scrape(), "cmk_key_version_awaiting_approval", **KEY) == 1
    process.put_key(activeVersion=V2)
    assert "cmk_key_version_awaiting_approval" not in names(process.scrape())


def test_events_that_no_receiver_has_taken_are_counted_for_their_customer() -> None:
    process = Process()
    event = {"id": "a.1", "sequence": 1, "type": "any", "time": "2026-11-24T11:00:00Z", "keyUri": "any", "message": "any"}
    process.put_key()
    process.put_resource("taken", notifications={"sequence": 1})
    process.put_resource("nobodys", key="gone", notifications={"pending": [event]})
    samples = process.scrape()
    assert value(samples, "cmk_notifications_pending", tenant="contoso") == 0
    assert "cmk_notifications_dropped" not in names(samples)
    process.put_key(notifications={"pending": [event, event]})
    process.put_resource("waiting", notifications={"pending": [event], "dropped": 4})
    samples = process.scrape()
    assert value(samples, "cmk_notifications_pending", tenant="contoso") == 3
    assert value(samples, "cmk_notifications_dropped", tenant="contoso") == 4


def test_tenants_and_identities_tell_whether_they_are_ready_and_what_the_customer_consented_to() -> None:
    process = Process()
    process.put(FederatedIdentity.plural, identity_body(), {"conditions": [condition("Ready", "True")]})
    consent = {"state": "Revoked", "url": "https://login.microsoftonline.com/any", "since": "2026-11-24T11:00:00Z"}
    process.put(CustomerTenant.plural, tenant_body(), {"conditions": [condition("Ready", "False")], "consent": consent})
    samples = process.scrape()
    assert value(samples, "cmk_identity_ready", name="provider") == 1
    assert value(samples, "cmk_tenant_ready", name="contoso") == 0
    assert value(samples, "cmk_tenant_consent_state", name="contoso", state="Revoked") == 1


ACME = {"namespace": "team-a", "name": "acme"}
KID, OLD_KID = f"https://{VAULT}/keys/acme/{V2}", f"https://{VAULT}/keys/acme/{V1}"


def acme_body(**spec: Any) -> dict[str, Any]:
    """An OrganizationKey."""
    return {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "OrganizationKey",
        "metadata": {**ACME, "uid": "u", "generation": 1},
        "spec": {"organization": {"id": "acme", "name": "Acme Corp"}, "tenantRef": {"name": "contoso"}, **spec},
    }


def test_an_organization_tells_its_conditions_what_is_in_force_and_where_its_data_keys_are() -> None:
    process = Process()
    accepted = {
        "revision": 4,
        "mode": "CustomerManaged",
        "kid": KID,
        "since": "2026-11-24T11:00:00Z",
        "probeIntervalSeconds": 60,
        "outageGraceSeconds": 600,
    }
    counted = [{"kid": KID, "dataKeys": 5}, {"kid": OLD_KID, "dataKeys": 2}]
    process.put(
        OrganizationKey.plural,
        acme_body(),
        {
            "conditions": [condition("Ready", "False", "Disabled"), condition("KeyAccessible", "False", "Disabled")],
            "accepted": accepted,
            "dataKeys": {"revision": 4, "total": 7, "byKid": counted},
        },
    )
    samples = process.scrape()
    assert value(samples, "cmk_organization_key_ready", **ACME) == 0
    told = {"type": "KeyAccessible", "status": "False", "reason": "Disabled"}
    assert value(samples, "cmk_organization_key_condition", **ACME, **told) == 1
    assert value(samples, "cmk_organization_key_revision", **ACME) == 4
    assert value(samples, "cmk_organization_key_data_keys", **ACME, on="InForce") == 5
    assert value(samples, "cmk_organization_key_data_keys", **ACME, on="Earlier") == 2
    assert value(samples, "cmk_notifications_pending", tenant="contoso") == 0
    process.put(OrganizationKey.plural, acme_body())
    samples = process.scrape()
    assert not names(samples) & {"cmk_organization_key_revision", "cmk_organization_key_data_keys"}


@pytest.mark.parametrize(
    ("ends", "expires"),
    [
        (["2026-11-25T12:00:00Z"], MOMENT + DAY),
        (["2026-11-25T12:00:00Z", "2026-11-27T12:00:00Z"], MOMENT + 3 * DAY),
        (["2026-11-25T12:00:00Z", "unknown"], None),
        (["unknown"], None),
        ([], None),
    ],
)
def test_the_credential_that_lasts_longest_is_the_one_that_counts(ends: list[str], expires: float | None) -> None:
    process = Process()
    credentials = [
        {"secret": "s", "key": str(number), "type": "Certificate", "expires": end} for number, end in enumerate(ends)
    ]
    process.put(OrganizationKey.plural, acme_body(), {"credentials": credentials})
    name = "cmk_organization_key_credential_expiration_timestamp_seconds"
    assert value(process.scrape(), name, **ACME) == expires


def test_what_is_deleted_is_told_no_more() -> None:
    process = Process()
    key, resource = process.put_key(), process.put_resource("data")
    process.telemetry.probed("team-a", "storage", MOMENT, MOMENT)
    process.telemetry.count_azure_request("key_vault", VAULT, "getKey", 200)
    assert {name for name, labels in process.scrape() if ("namespace", "team-a") in labels}
    process.inventory.remove(key)
    process.inventory.remove(resource)
    process.telemetry.forget_key("team-a", "storage")
    samples = process.scrape()
    assert not {name for name, labels in samples if ("namespace", "team-a") in labels}
    assert not {name for name, labels in samples if ("host", VAULT) in labels}


def test_the_requests_to_a_vault_stay_counted_while_any_key_lies_in_it() -> None:
    process = Process()
    process.put_key("other")
    for host in (VAULT, "gone.vault.azure.net"):
        process.telemetry.count_azure_request("key_vault", host, "getKey", 200)
    process.telemetry.count_azure_request("entra", "login.microsoftonline.com", "token", 200)
    hosts = {dict(labels)["host"] for name, labels in process.scrape() if name == "cmk_azure_requests_total"}
    assert hosts == {VAULT, "login.microsoftonline.com"}


def test_a_successor_of_the_same_name_is_told_afresh() -> None:
    process = Process()
    key = process.put_key(access={"state": "Accessible", "since": "2026-11-24T11:00:00Z"})
    assert value(process.scrape(), "cmk_key_access_state", **KEY, state="Accessible") == 1
    process.inventory.remove(key)
    process.put_key(access={"state": "Deleted", "since": "2026-11-24T11:00:00Z"})
    samples = process.scrape()
    assert value(samples, "cmk_key_access_state", **KEY, state="Deleted") == 1
    assert value(samples, "cmk_key_access_state", **KEY, state="Accessible") is None


def test_an_object_that_cannot_be_read_hides_no_other() -> None:
    process = Process()
    process.put_key("broken", access={"state": 1})
    process.put_key()
    assert {dict(labels)["name"] for name, labels in process.scrape() if name == "cmk_key_ready"} == {"storage"}


def test_what_was_not_seen_lately_is_counted_and_the_oldest_claim_is_told() -> None:
    process = Process()
    fresh = process.put_resource("fresh", conditions=[condition("Ready", "True")])
    old = process.put_resource("old", conditions=[condition("Ready", "True")])
    gone = process.put_resource("gone", conditions=[condition("Ready", "Unknown", "NotSeenLately")])
    process.ages = {fresh: 20.0, old: 300.0, gone: 9000.0}
    samples = process.scrape()
    assert value(samples, "cmk_objects_not_seen", kind="encryptedresources") == 1
    assert value(samples, "cmk_oldest_claim_age_seconds", kind="encryptedresources") == 300, "what claims nothing is not old"
    assert value(samples, "cmk_oldest_claim_age_seconds", kind="customermanagedkeys") is None


def test_a_process_that_stands_by_tells_nothing_of_objects_budgets_or_its_queue() -> None:
    process = Process(Work(leading=False))
    process.put_key()
    process.put_resource("data")
    samples = process.scrape()
    assert value(samples, "cmk_operator_leading") == 0
    own = {"cmk_operator_leading", "cmk_operator_info", "cmk_operator_check_interval_seconds"}
    assert names(samples) & {family.name for family in FAMILIES} == own
    process.work = LEADING
    samples = process.scrape()
    assert value(samples, "cmk_operator_leading") == 1
    assert value(samples, "cmk_queue_depth", kind="customermanagedkeys") == 3
    assert value(samples, "cmk_queue_overdue_seconds") == 7
    assert {"cmk_key_ready", "cmk_resource_ready"} <= names(samples)


def test_the_family_that_grows_with_resources_can_be_switched_off() -> None:
    with_it, without = Process(), Process(each_resource=False)
    for process in (with_it, without):
        process.put_resource("data", conditions=[condition("Ready", "True")])
    own = {"namespace": "team-a", "name": "data", "kind": "StorageAccount", "key": "storage"}
    assert value(with_it.scrape(), "cmk_resource_ready", **own) == 1
    assert "cmk_resource_ready" not in names(without.scrape())


def test_without_it_the_number_of_series_does_not_grow_with_resources() -> None:
    process = Process(each_resource=False)
    process.put_resource("first")
    few = len(process.scrape())
    for number in range(50):
        process.put_resource(f"data-{number}")
    assert len(process.scrape()) == few


def test_budgets_are_told_by_owner() -> None:
    states = (BudgetState(VAULT, "calls", 0.25, 0.0), BudgetState("sub", "reads", 1.0, 17.0))
    process = Process(Work(leading=True, budgets=states))
    samples = process.scrape()
    assert value(samples, "cmk_azure_budget_left_ratio", owner=VAULT, bucket="calls") == 0.25
    assert value(samples, "cmk_azure_budget_closed_seconds", owner="sub", bucket="reads") == 17
    assert value(samples, "cmk_azure_budget_closed_seconds", owner=VAULT, bucket="calls") is None


def every_metric_as_text() -> str:
    """What a scrape returns when every metric has a value."""
    process = Process()
    process.put_key(access={"state": "Accessible", "since": "2026-11-24T11:00:00Z"})
    process.put_resource("data", conditions=[condition("Ready", "True")])
    return asyncio.run(process.exposition.text()).decode()


def test_the_page_of_metrics_lists_each_of_them_with_its_type_and_its_labels() -> None:
    rows = re.findall(r"^\| `(cmk_\w+)` \| (\w+) \| ([^|]*) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert listed == known_metrics(), "docs/metrics.md must list every metric with its type and labels, and no other"


def test_the_page_of_metrics_explains_each_of_them_as_its_help_does() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    explained = dict(re.findall(r"^\| `(cmk_\w+)` \| \w+ \| [^|]* \| (.+) \|$", page, re.MULTILINE))
    help_texts = dict(re.findall(r"^# HELP (cmk_\w+) (.+)$", every_metric_as_text(), re.MULTILINE))
    assert explained == help_texts, "docs/metrics.md explains a metric in other words than its help text"


def known_metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type and labels of every metric of the operator, by the name that Prometheus sees."""
    found = {family.name: ("gauge", family.labels) for family in FAMILIES}
    for collector in vars(Telemetry()).values():
        for metric in collector.describe() if hasattr(collector, "describe") else ():
            suffix = "_total" if metric.type == "counter" else ""
            found[metric.name + suffix] = (metric.type, collector._labelnames)  # noqa: SLF001 - told nowhere else
    return found
