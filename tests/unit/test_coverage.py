"""What of a resource is not under its key: how each kind is read, what status says, and what it may cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from azure.mgmt.compute.models import Disk, DiskEncryptionSet
from azure.mgmt.sql.models import Database
from azure.mgmt.storage.models import EncryptionScope, StorageAccount
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Aspect
from cmk_operator.api.encrypted_resource import DetailsReport, NotCoveredReport
from cmk_operator.cli.attention import who_must_act
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.coverage import NO_READS_NEEDED, NOT_READ, Part, Parts, PartsSeen, not_covered
from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged, OnAnotherKey, OnKey, Unreadable, named
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.core.old_claims import INTERVALS
from cmk_operator.providers.arm import unreadable_part
from cmk_operator.providers.disk.disk import read_disk
from cmk_operator.providers.disk.encryption_set import DisksOfSet, ProtectedDisk, plan_set, read_set, with_disks
from cmk_operator.providers.protocol import Plan, ResourceFacts, Shown, Target
from cmk_operator.providers.snowflake import provider
from cmk_operator.providers.sql.parts import DatabaseRow, part_of_database, read_rows
from cmk_operator.providers.sql.server import Listed, Partner, Protector, ServerIdentity, facts_of
from cmk_operator.providers.storage.parts import part_of_scope, parts_of_account
from cmk_operator.reconcile.resource import report as resource_report
from cmk_operator.reconcile.resource.coverage_report import coverage_of
from cmk_operator.reconcile.resource.outcome import Settled
from cmk_operator.reconcile.resource.part_readings import AT_ONCE, PACE, PartReadings
from tests.unit.samples import (
    APPLICATION,
    IDENTITY,
    NOW,
    V1,
    V2,
    VAULT,
    customer_managed_key,
    encrypted_resource,
    healthy,
    probe,
)
from tests.unit.test_resource_report import TARGET, Found, condition, probed, settled

if TYPE_CHECKING:
    from cmk_operator.providers.disk.encryption_set import Facts as SetFacts
    from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource

KEY = KeyUri(VAULT, "storage")
OTHER = KeyUri("fabrikam-other.vault.azure.net", "other")
SERVER = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Sql/servers/sql"
DISK = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/disks/os"
SET = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/diskEncryptionSets/s"
MICROSOFT = "a Microsoft-managed key"
ENCRYPTED = Aspect(ConditionType.ENCRYPTED, "True", Reason.CUSTOMER_MANAGED_KEY, "on it")


def account(*, kind: str = "StorageV2", sku: str = "Standard_LRS", **services: Any) -> StorageAccount:
    return StorageAccount({"kind": kind, "sku": {"name": sku}, "properties": {"encryption": {"services": services}}})


@pytest.mark.parametrize(
    ("found", "uncovered"),
    [
        (account(), ["queues", "tables"]),
        (account(queue={"keyType": "Account"}, table={"keyType": "account"}), []),
        (account(queue={"keyType": "Service"}, table={"keyType": "Account"}), ["queues"]),
        (account(queue={"keyType": "Account"}), ["tables"]),
        (account(kind="Storage"), ["queues", "tables"]),
        (account(kind="BlobStorage"), []),
        (account(kind="FileStorage", sku="Premium_LRS"), []),
        (account(sku="Premium_LRS"), []),
        (StorageAccount({"properties": {"encryption": {}}}), ["queues", "tables"]),
    ],
)
def test_queues_and_tables_are_covered_only_if_the_account_was_made_so(found: StorageAccount, uncovered: list[str]) -> None:
    parts = parts_of_account(found)
    assert [part.name for part in parts] == uncovered
    assert all(part.protected_by == MICROSOFT and "only when an account is created" in part.remedy for part in parts)


@pytest.mark.parametrize(
    ("properties", "covered", "protected_by"),
    [
        ({"source": "Microsoft.Storage"}, "No", MICROSOFT),
        ({"source": "microsoft.storage", "state": "Disabled"}, "No", MICROSOFT),
        ({"source": "Microsoft.KeyVault", "keyVaultProperties": {"keyUri": str(OTHER)}}, "No", str(OTHER)),
        ({"source": "Microsoft.KeyVault", "keyVaultProperties": {"keyUri": str(KEY.at(V1))}}, None, ""),
        ({"source": "Microsoft.KeyVault", "keyVaultProperties": {"keyUri": f"https://{VAULT}:443/keys/storage"}}, None, ""),
        ({"source": "Microsoft.KeyVault", "keyVaultProperties": {"keyUri": "odd"}}, "No", "another key: odd"),
        ({"source": "Microsoft.KeyVault"}, "Unknown", ""),
        ({"source": {}}, "Unknown", ""),
        ({}, "Unknown", ""),
        (None, "Unknown", ""),
        ({"source": "Microsoft.Elsewhere"}, "No", "another key: source Microsoft.Elsewhere"),
    ],
)
def test_an_encryption_scope_is_covered_only_by_a_version_of_the_same_key(
    properties: dict[str, Any] | None, covered: str | None, protected_by: str
) -> None:
    scope = EncryptionScope({"id": "/a/encryptionScopes/logs", "properties": properties})
    found = not_covered([part_of_scope(scope)], KEY)
    assert [(one.part, one.covered, one.protected_by) for one in found] == (
        [("encryption scope logs", covered, protected_by)] if covered else []
    )


@pytest.mark.parametrize(
    "body",
    [
        {"properties": None},
        {"properties": {"encryption": {"services": []}}},
        {"properties": {"encryption": {"services": {"queue": "Account"}}}},
        {"properties": {"encryption": {"services": {"queue": {"keyType": {}}}}}},
    ],
)
def test_an_account_whose_answer_has_another_shape_does_not_count_as_covered(body: dict[str, Any]) -> None:
    (entry,) = not_covered(parts_of_account(StorageAccount({"kind": "StorageV2", **body})), KEY)
    assert entry.covered == "Unknown"


@pytest.mark.parametrize("properties", [None, [], {"encryptionProtector": {}}, {"secondaryType": 7}])
def test_a_database_whose_answer_has_another_shape_does_not_count_as_covered(properties: Any) -> None:
    (found,) = read_rows([Database({"id": f"{SERVER}/databases/odd", "properties": properties})])
    part = part_of_database(found, (), encrypted=True)
    assert part is not None
    ((entry),) = not_covered([part], KEY)
    assert (entry.part, entry.covered) == ("database odd", "Unknown")


def row(name: str, kind: str = "v12.0,user", **properties: Any) -> Database:
    return Database({"id": f"{SERVER}/databases/{name}", "kind": kind, "properties": properties})


def test_system_databases_are_no_parts_and_replicas_are_known() -> None:
    rows = read_rows([row("master", "v12.0,system"), row("MASTER"), row("orders"), row("copy", secondaryType="Geo")])
    assert [(one.id.name, one.is_replica) for one in rows] == [("orders", False), ("copy", True)]


def partner(key: KeyUri | None, *, read: bool = True) -> Partner:
    protector = Protector(OnKey(key, V1) if key else MicrosoftManaged()) if read else None
    return Partner(ArmId(f"{SERVER}2"), secondary=False, protector=protector)


@pytest.mark.parametrize(
    ("own_key", "replica", "primaries", "encrypted", "covered", "protected_by"),
    [
        ("", False, (), True, None, ""),
        ("", False, (), False, "No", "no key: transparent data encryption is off"),
        (str(OTHER.at(V1)), False, (), True, "No", str(OTHER.at(V1))),
        (str(KEY.at(V2)), False, (), True, None, ""),
        (str(KEY.at(V2)), False, (), False, "No", "no key: transparent data encryption is off"),
        ("odd", False, (), True, "No", "another key: odd"),
        ("", True, (partner(KEY),), True, None, ""),
        ("", True, (partner(OTHER),), True, "No", str(OTHER)),
        ("", True, (partner(None),), True, "No", MICROSOFT),
        ("", True, (partner(None, read=False),), True, "Unknown", ""),
        ("", True, (), True, "Unknown", ""),
        ("", True, (partner(KEY), partner(OTHER)), True, "Unknown", ""),
        ("", False, (), None, None, ""),
    ],
)
def test_a_database_is_covered_by_its_server_s_key_unless_something_else_protects_it(
    own_key: str,
    *,
    replica: bool,
    primaries: tuple[Partner, ...],
    encrypted: bool | None,
    covered: str | None,
    protected_by: str,
) -> None:
    part = part_of_database(
        DatabaseRow(ArmId(f"{SERVER}/databases/orders"), named(own_key) if own_key else MicrosoftManaged(), replica),
        primaries,
        encrypted=encrypted,
    )
    found = not_covered([part] if part is not None else [], KEY)
    assert [(one.part, one.covered, one.protected_by) for one in found] == (
        [("database orders", covered, protected_by)] if covered else []
    )


@pytest.mark.parametrize(
    ("profile", "part", "covered"),
    [
        (None, None, None),
        ({"securityType": "TrustedLaunch"}, None, None),
        ({"securityType": "ConfidentialVM_NonPersistedTPM"}, None, None),
        ({"securityType": "ConfidentialVM_VMGuestStateOnlyEncryptedWithPlatformKey"}, "guest state", "No"),
        ({"securityType": "ConfidentialVM_DiskEncryptedWithPlatformKey"}, "guest state", "No"),
        (
            {"securityType": "ConfidentialVM_DiskEncryptedWithCustomerKey", "secureVMDiskEncryptionSetId": SET},
            "disk os",
            "Unknown",
        ),
    ],
)
def test_a_confidential_machine_s_disk_says_what_its_security_profile_leaves_out(
    profile: dict[str, str] | None, part: str | None, covered: str | None
) -> None:
    properties = {"securityProfile": profile, "encryption": {"type": "EncryptionAtRestWithPlatformKey"}}
    facts = read_disk(Disk({"id": DISK, "location": "westeurope", "properties": properties}))
    found = not_covered(facts.parts, KEY)
    assert [one.covered for one in found] == ([covered] if covered else [])
    assert all((part or "") in one.part and one.remedy for one in found)


def facts(*parts: Part, key: KeyUri | None = KEY) -> ResourceFacts[None]:
    return ResourceFacts(OnKey(key, V1) if key else MicrosoftManaged(), None, parts=parts)


QUEUES = Part("queues", protected_by=MICROSOFT, remedy="create another account")
SCOPES = unreadable_part("encryption scopes", "Microsoft.Storage/storageAccounts/encryptionScopes/read")


@pytest.mark.parametrize(
    ("free", "read", "status", "reason"),
    [
        ((), NO_READS_NEEDED, "True", "AllDataCovered"),
        ((), PartsSeen((Part("encryption scope a", KEY.at(V2)),)), "True", "AllDataCovered"),
        ((), PartsSeen((Part("encryption scope a", OTHER),)), "False", "DataNotCovered"),
        ((QUEUES,), NO_READS_NEEDED, "False", "DataNotCovered"),
        ((QUEUES,), NOT_READ, "False", "DataNotCovered"),
        ((QUEUES,), PartsSeen(is_old=True), "False", "DataNotCovered"),
        ((), PartsSeen((SCOPES,)), "Unknown", "CoverageNotShown"),
        ((QUEUES,), PartsSeen((SCOPES,)), "False", "DataNotCovered"),
        ((), NOT_READ, "Unknown", "CoverageNotRead"),
        ((), PartsSeen(is_old=True), "Unknown", "CoverageNotRead"),
    ],
)
def test_the_condition_is_true_only_if_all_was_read_and_nothing_is_left(
    free: tuple[Part, ...], read: PartsSeen, status: str, reason: str
) -> None:
    found = coverage_of(encrypted_resource(), customer_managed_key(), ENCRYPTED, facts(*free), read, on_key=True)
    assert (found.aspect.status, found.aspect.reason.value) == (status, reason)


def test_a_resource_that_is_not_on_the_key_covers_nothing() -> None:
    found = coverage_of(
        encrypted_resource(), customer_managed_key(), ENCRYPTED, facts(key=OTHER), NO_READS_NEEDED, on_key=False
    )
    assert (found.aspect.status, found.aspect.reason) == ("False", Reason.NOT_ON_KEY)


parts = st.builds(
    Part,
    st.sampled_from(["queues", "tables", "encryption scope a", "encryption scope b", "database c"]),
    st.sampled_from([None, KEY, KEY.at(V1), KEY.at(V2), OTHER, OTHER.at(V1)]),
    st.sampled_from(["", MICROSOFT]),
)


@given(st.lists(parts, max_size=4), st.none() | st.lists(parts, max_size=4), st.booleans())
def test_true_is_said_only_if_every_part_was_read_and_is_on_the_key(
    free: list[Part],
    read: list[Part] | None,
    old: bool,  # noqa: FBT001 - hypothesis gives it by position
) -> None:
    seen = PartsSeen(tuple(read) if read is not None else None, old and read is None)
    found = coverage_of(encrypted_resource(), customer_managed_key(), ENCRYPTED, facts(*free), seen, on_key=True)
    everything = [*free, *(read or ())]
    on_key = [part.key is not None and part.key.versionless == KEY for part in everything]
    assert (found.aspect.status == "True") == (read is not None and all(on_key))
    certain = any(not on and part.shown for on, part in zip(on_key, everything, strict=True))
    assert (found.aspect.status == "False") == certain
    assert {one.part for one in found.entries} == {part.name for on, part in zip(on_key, everything, strict=True) if not on}


def test_what_was_read_before_a_restart_stays_in_status_until_it_is_read_anew() -> None:
    first = report_with(settled(), PartsSeen((Part("encryption scope a", OTHER, remedy="move it"),)))
    assert (condition(first, "DataCovered").status, condition(first, "Ready").status) == ("False", "True")
    assert first.details is not None
    assert first.details.not_covered == (
        NotCoveredReport(part="encryption scope a", covered="No", protected_by=str(OTHER), remedy="move it"),
    )
    again = report_with(settled(), NOT_READ, first)
    assert (again.details, condition(again, "DataCovered")) == (first.details, condition(first, "DataCovered"))
    covered = report_with(settled(), NO_READS_NEEDED, first)
    assert (covered.details, condition(covered, "DataCovered").reason) == (None, "AllDataCovered")
    kept = report_with(settled(), NOT_READ, covered)
    assert condition(kept, "DataCovered").status == "True"
    lost = report_with(settled(), PartsSeen(is_old=True), covered)
    assert (condition(lost, "DataCovered").status, condition(lost, "DataCovered").reason) == ("Unknown", "CoverageNotRead")


def report_with(found: Found, read: PartsSeen, before: Any = None, **spec: Any) -> Any:
    resource = encrypted_resource(before, **spec)
    return resource_report.resource_status(
        resource, found.outcome, NOW, target=TARGET, key=found.key, own=found.own, parts=read
    )


@pytest.mark.parametrize(
    ("read", "ready", "progress"),
    [
        (NO_READS_NEEDED, "True", None),
        (
            PartsSeen((Part("encryption scope a", OTHER, remedy="the provider's administrator must move it"),)),
            "False",
            "Stalled",
        ),
        (PartsSeen((SCOPES,)), "Unknown", "Stalled"),
        (NOT_READ, "Unknown", "Reconciling"),
    ],
)
def test_ready_waits_for_full_coverage_only_if_the_manifest_asks_for_it(
    read: PartsSeen, ready: str, progress: str | None
) -> None:
    asked = report_with(settled(key=probed()), read, requireFullCoverage=True)
    assert condition(asked, "Ready").status == ready
    assert {one.type for one in asked.conditions} & {"Stalled", "Reconciling"} == ({progress} if progress else set())
    assert condition(asked, "Encrypted").status == "True"
    if progress == "Stalled":
        assert who_must_act(condition(asked, "Stalled").message), "a stalled resource says who must act"
    for spec in ({}, {"requireFullCoverage": False}):
        assert condition(report_with(settled(key=probed()), read, **spec), "Ready").status == "True"


def test_a_long_list_is_cut_and_counted() -> None:
    many = tuple(Part(f"encryption scope {number:03}", OTHER) for number in range(120))
    details: DetailsReport = report_with(settled(), PartsSeen(many)).details
    assert (len(details.not_covered), details.not_covered_count) == (50, 120)


@dataclass
class Reads:
    """A provider that counts what it is asked, and a clock."""

    answers: list[Parts | AzureFailure] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    now: float = 0.0
    has_parts: bool = True
    needs: int = 1

    async def read_parts(self, *_: object) -> Parts | AzureFailure:
        self.calls += [self.now] * self.needs
        return self.answers.pop(0) if self.answers else Parts(reads=self.needs)


def admitted(reads: Reads, name: str = "data") -> AdmittedResource:
    class Path:
        path = type("KeyPath", (), {"chain": None})
        target = ArmId(SERVER)

    resource = encrypted_resource()
    resource = resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"name": name})})
    made = type("Admitted", (), {"provider": reads, "resource": resource, "path": Path, "target": None})
    return cast("AdmittedResource", made)


INTERVAL = 300.0


@given(st.integers(1, 60), st.lists(st.floats(0.9, 1.1), min_size=200, max_size=200))
def test_readings_never_add_up_to_more_than_one_call_in_each_interval(needs: int, jitter: list[float]) -> None:
    reads = Reads(needs=needs)
    readings = PartReadings(INTERVAL, lambda: reads.now)

    async def passes() -> None:
        for part in jitter:
            await readings.of(admitted(reads), facts(), now=False)
            reads.now += INTERVAL * part

    asyncio.run(passes())
    assert not [at for at in reads.calls if at < INTERVAL / 2], "the pass that puts a resource on its key reads no parts"
    assert len(reads.calls) <= needs + len(jitter) * 1.1 * needs / max(PACE, needs)
    assert len(reads.calls) // needs >= len(jitter) * 0.9 / (max(PACE, needs) + 1) - 1, "it goes on reading"


async def test_many_resources_are_read_one_after_the_other_and_all_of_them() -> None:
    reads, number = Reads(), 3000
    readings = PartReadings(INTERVAL, lambda: reads.now)
    fleet = [admitted(reads, f"data-{one}") for one in range(number)]
    most = 0
    for _ in range(2 * PACE + 2):
        before = len(reads.calls)
        for one in fleet:
            await readings.of(one, facts(), now=False)
        most = max(most, len(reads.calls) - before)
        reads.now += INTERVAL
    assert most <= max(AT_ONCE, number // PACE)
    assert len(reads.calls) >= number
    assert len(readings) == number


async def test_a_failed_reading_is_tried_again_and_grows_old() -> None:
    reads = Reads([Parts((QUEUES,)), *[AzureFailure(503, "ServerBusy", "")] * 100])
    readings = PartReadings(INTERVAL, lambda: reads.now)
    assert await readings.of(admitted(reads), facts(), now=True) == PartsSeen((QUEUES,))
    seen = PartsSeen((QUEUES,))
    while not seen.is_old and reads.now < 5 * PACE * INTERVAL:
        reads.now += INTERVAL
        seen = await readings.of(admitted(reads), facts(), now=False)
    assert seen == PartsSeen(is_old=True)
    assert reads.now == pytest.approx((INTERVALS * PACE + 1) * INTERVAL)
    reads.answers = []
    reads.now += INTERVAL
    assert await readings.of(admitted(reads), facts(), now=False) == PartsSeen(())


async def test_a_kind_without_parts_costs_nothing() -> None:
    reads = Reads(has_parts=False)
    assert await PartReadings(INTERVAL, lambda: reads.now).of(admitted(reads), facts(), now=True) == NO_READS_NEEDED
    assert not reads.calls


@pytest.mark.parametrize(
    ("protector", "held_back"),
    [
        (Protector(OnKey(KEY, V1), auto_rotation=True), None),
        (Protector(OnKey(KEY.at(V2), V2), auto_rotation=True), None),
        (Protector(OnKey(KEY.at(V1), V1)), "does not rotate its key automatically"),
        (Protector(OnKey(OTHER, V1), auto_rotation=True), f"is on {OTHER}"),
        (Protector(MicrosoftManaged()), f"is on {MICROSOFT}"),
        (Protector(OnAnotherKey("hsm"), auto_rotation=True), "is on another key: hsm"),
        (Protector(Unreadable("properties is missing")), None),
        (None, None),
    ],
)
def test_a_geo_secondary_that_takes_no_new_version_is_named_before_a_rotation_is_due(
    protector: Protector | None, held_back: str | None
) -> None:
    partners = (Partner(ArmId(f"{SERVER}2"), secondary=True, protector=protector, failure=AzureFailure(403, "NoRead", "")),)
    following = Protector(OnKey(KEY, V1), auto_rotation=True)
    found = facts_of(ServerIdentity(), following, Listed(), Listed(partners)).shown
    assert (found.rotation_error is None) == (held_back is None)
    assert (held_back or "") in (found.rotation_error or "")
    (replica,) = found.geo_replicas
    assert (replica.problem is not None) == (replica.protected_by is None)
    assert "does not follow its primary" in (found.on_rotation or "")
    pinned = facts_of(ServerIdentity(), Protector(OnKey(KEY.at(V1), V1)), Listed(), Listed(partners)).shown
    assert pinned.rotation_error is None, "the operator itself gives a secondary the version of a pinned key"


def confidential_set(disks: list[ProtectedDisk], *, automatic: bool = False) -> SetFacts:
    properties = {
        "encryptionType": "ConfidentialVmEncryptedWithCustomerKey",
        "activeKey": {"keyUrl": str(KEY.at(V1))},
        "rotationToLatestKeyVersionEnabled": automatic,
        "federatedClientId": APPLICATION,
        "provisioningState": "Succeeded",
    }
    identity = {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}}
    body = {"id": SET, "name": "s", "location": "westeurope", "identity": identity, "properties": properties}
    return with_disks(read_set(DiskEncryptionSet(body)), ArmId(SET), DisksOfSet(tuple(disks)))


def plan_of(facts: SetFacts, probed: str) -> Any:
    want = KeyChoice(KEY, probed, ArmId(IDENTITY), APPLICATION, vault_region="westeurope")
    return plan_set(Target(ArmId(SET), None, lambda _: True), want, facts)


MACHINE = ArmId(
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm"
)


def test_a_confidential_set_gets_each_version_from_the_operator_and_never_the_flag() -> None:
    stopped = confidential_set([ProtectedDisk(ArmId(DISK), MACHINE, confidential=True)])
    assert plan_of(stopped, V1) is None
    plan = plan_of(stopped, V2)
    assert isinstance(plan, Plan)
    assert plan.body["properties"]["activeKey"] == {"keyUrl": str(KEY.at(V2))}
    assert plan.body["properties"]["rotationToLatestKeyVersionEnabled"] is False
    assert plan.keeps_key, "the old version protects its disks until it has moved"
    flagged = plan_of(confidential_set([], automatic=True), V1)
    assert isinstance(flagged, Plan)
    assert flagged.body["properties"]["rotationToLatestKeyVersionEnabled"] is False
    assert not stopped.follows_by_itself
    assert "deallocated all virtual machines" in (stopped.shown.on_rotation or "")


def test_a_confidential_machine_that_runs_holds_back_the_key_and_nothing_else() -> None:
    running = confidential_set([ProtectedDisk(ArmId(DISK), MACHINE, confidential=True, in_use=True)], automatic=True)
    fault = plan_of(running, V2)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.actor) == (Reason.CONFIDENTIAL_MACHINES_RUNNING, Actor.PROVIDER_ADMINISTRATOR)
    assert "must deallocate vm " in fault.message
    assert isinstance(plan_of(running, V1), Plan), "the flag may be corrected"


@pytest.mark.parametrize(("status", "words"), [(403, "Microsoft.Compute/disks/read"), (503, "does not list them now")])
def test_a_set_whose_disks_cannot_be_listed_does_not_know_its_coverage(status: int, words: str) -> None:
    found = with_disks(confidential_set([]), ArmId(SET), AzureFailure(status, "X", "", read=True))
    ((entry),) = not_covered(found.parts, KEY)
    assert entry.covered == "Unknown"
    assert words in entry.remedy


def test_a_followed_key_that_the_service_does_not_rotate_says_who_holds_it_back() -> None:
    key = probed(probe(healthy(V2)))
    shown = Shown(rotation_error="geo-secondary b does not rotate")
    for found, reason in (
        (facts(), "AzureWillRotate"),
        (replace(facts(), shown=shown), "RotationHeldBack"),
        (replace(facts(), follows_by_itself=False), "Outdated"),
    ):
        status = report_with(Found(Settled(found), key), NO_READS_NEEDED)
        assert condition(status, "KeyCurrent").reason == reason


def test_each_remedy_names_who_can_act() -> None:
    guest = {"securityType": "ConfidentialVM_VMGuestStateOnlyEncryptedWithPlatformKey"}
    properties = {"securityProfile": guest, "encryption": {"type": "EncryptionAtRestWithPlatformKey"}}
    databases = (
        part_of_database(DatabaseRow(ArmId(SERVER), OnAnotherKey("odd")), (), encrypted=True),
        part_of_database(DatabaseRow(ArmId(SERVER), is_replica=True), (), encrypted=True),
        part_of_database(DatabaseRow(ArmId(SERVER)), (), encrypted=False),
    )
    found = [
        *parts_of_account(account()),
        part_of_scope(EncryptionScope({"id": "/a/encryptionScopes/b", "properties": {"source": "Microsoft.Storage"}})),
        *read_disk(Disk({"id": DISK, "location": "westeurope", "properties": properties})).parts,
        *confidential_set([ProtectedDisk(ArmId(DISK), confidential=True)]).parts,
        *(part for part in databases if part is not None),
        *provider.PARTS,
        SCOPES,
    ]
    assert len(found) == 10
    assert all(who_must_act(part.remedy) for part in found)
