"""What protects a resource is one of four, whatever JSON Azure answers, and a write starts only from two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.mgmt.compute.models import Disk, DiskEncryptionSet
from azure.mgmt.sql.models import Database, EncryptionProtector
from azure.mgmt.storage.models import StorageAccount
from hypothesis import example, given
from hypothesis import strategies as st

from cmk_operator.core.encryption.decide import KeyState, NextAction, decide_deletion
from cmk_operator.core.encryption.protection import (
    LONGEST_NAME,
    KeyChoice,
    MicrosoftManaged,
    OnAnotherKey,
    OnKey,
    Protection,
    Unreadable,
    named,
    start_of,
    text_in_force,
)
from cmk_operator.core.faults.fault import Fault, FaultKind
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none
from cmk_operator.providers.disk import disk, encryption_set
from cmk_operator.providers.disk.options import DiskPlacement
from cmk_operator.providers.protocol import Plan, ResourceFacts, Target
from cmk_operator.providers.registry import KINDS
from cmk_operator.providers.snowflake import planning
from cmk_operator.providers.snowflake.answers import read_info
from cmk_operator.providers.snowflake.facts import SnowflakeDetail
from cmk_operator.providers.snowflake.provider import protection_of_account
from cmk_operator.providers.sql import database, server, server_plan
from cmk_operator.providers.storage import encryption
from tests.unit.samples import APPLICATION, GROUP, IDENTITY, V1, V2, VAULT
from tests.unit.test_decisions import READY
from tests.unit.test_snowflake_planning import TARGET as ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = KeyUri(VAULT, "storage")
WANT = KeyChoice(KEY, V1, ArmId(IDENTITY), APPLICATION, vault_region="westeurope", key_size=2048)
SET = ArmId(f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/des")
DISK = f"{GROUP}/providers/Microsoft.Compute/disks/data"
SERVER = ArmId(f"{GROUP}/providers/Microsoft.Sql/servers/one")

READABLE_SET = encryption_set.with_disks(
    encryption_set.read_set(
        DiskEncryptionSet(
            {
                "id": SET.text,
                "location": "westeurope",
                "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
                "properties": {
                    "encryptionType": "EncryptionAtRestWithCustomerKey",
                    "activeKey": {"keyUrl": str(KEY.at(V1))},
                    "rotationToLatestKeyVersionEnabled": True,
                    "federatedClientId": APPLICATION,
                    "provisioningState": "Succeeded",
                },
            }
        )
    ),
    SET,
    encryption_set.DisksOfSet(),
)
Facts = ResourceFacts[Any]


def target(resource: ArmId, options: object | None = None) -> Target:
    return Target(resource, options, lambda _: True)


def account(block: Any) -> Facts:
    return encryption.read_account(StorageAccount({"properties": {"encryption": block}}))


def protector(properties: Any) -> Facts:
    read = server.read_protector(EncryptionProtector({"properties": properties}))
    facts = server.facts_of(server.ServerIdentity(), read, server.Listed(), server.Listed())
    return server.with_keys(facts, server.ServerKeys(), ())


def own_database(properties: Any) -> Facts:
    found = {"status": "Online", **properties} if isinstance(properties, dict) else properties
    return database.with_server(database.read_database(Database({"properties": found})), MicrosoftManaged())


def a_set(properties: Any) -> Facts:
    found = {"encryptionType": "EncryptionAtRestWithCustomerKey", **properties} if isinstance(properties, dict) else properties
    read = encryption_set.read_set(DiskEncryptionSet({"location": "westeurope", "properties": found}))
    return encryption_set.with_disks(read, SET, encryption_set.DisksOfSet())


def a_disk(properties: Any) -> Facts:
    read = disk.read_disk(Disk({"id": DISK, "location": "westeurope", "properties": properties}))
    return disk.with_sets(read, None, READABLE_SET)


def snowflake(said: Any) -> Facts:
    info = read_info(str(said))
    return ResourceFacts(protection_of_account(info, None), SnowflakeDetail(info))


READERS: dict[str, tuple[Callable[[Any], Facts], Callable[[Facts], Any], Callable[[Facts], Any]]] = {
    "storage account": (account, lambda seen: encryption.plan_key(WANT, seen), encryption.plan_platform_key),
    "SQL server": (
        protector,
        lambda seen: server_plan.plan_server(target(SERVER), WANT, seen),
        lambda seen: server_plan.plan_server_revert(target(SERVER), seen),
    ),
    "SQL database": (
        own_database,
        lambda seen: database.plan_database(target(SERVER), WANT, seen),
        lambda seen: database.plan_database_revert(target(SERVER), seen),
    ),
    "disk encryption set": (
        a_set,
        lambda seen: encryption_set.plan_set(target(SET), WANT, seen),
        lambda seen: encryption_set.plan_set_revert(target(SET), seen),
    ),
    "disk": (
        a_disk,
        lambda seen: disk.plan_disk(target(ArmId(DISK), DiskPlacement(SET)), WANT, seen),
        lambda seen: disk.plan_disk_revert(target(ArmId(DISK)), seen),
    ),
    "Snowflake account": (
        snowflake,
        lambda seen: planning.plan_key(ACCOUNT, WANT, seen),
        lambda seen: planning.plan_platform_key(ACCOUNT, seen),
    ),
}
URIS = [
    str(KEY),
    str(KEY.at(V2)),
    f"https://{VAULT.upper()}:443/keys/STORAGE/",
    f"https://{VAULT}/keys/storage/not-a-version",
    f"https://{VAULT}/secrets/storage",
    f"https://{VAULT}@evil.example/keys/storage",
    f"http://{VAULT}/keys/storage",
    "https://hsm.managedhsm.azure.net/keys/storage/v",
    "https://contoso.vault.example/keys/storage",
    "arn:aws:kms:eu-west-1:1:key/x",
    "\x1b[31mred\u202e",
    "x" * 5000,
]
TEXTS = st.sampled_from(
    [
        *URIS,
        "",
        "Microsoft.Storage",
        "Microsoft.Keyvault",
        "ServiceManaged",
        "AzureKeyVault",
        "ManagedHsm",
        "EncryptionAtRestWithPlatformKey",
        "EncryptionAtRestWithCustomerKey",
        "EncryptionAtRestWithSomethingNew",
        "Creating",
        "Succeeded",
        "storage",
        VAULT,
        f"https://{VAULT}",
        f"https://{VAULT}/",
        "https://hsm.managedhsm.azure.net",
        V2,
        SET.text,
    ]
)
NAMES = st.sampled_from(
    [
        "keySource",
        "keyvaultproperties",
        "keyvaulturi",
        "keyname",
        "keyversion",
        "currentVersionedKeyIdentifier",
        "identity",
        "serverKeyType",
        "serverKeyName",
        "uri",
        "keyVersion",
        "autoRotationEnabled",
        "status",
        "encryptionProtector",
        "encryptionProtectorAutoRotation",
        "activeKey",
        "keyUrl",
        "rotationToLatestKeyVersionEnabled",
        "provisioningState",
        "encryption",
        "type",
        "diskEncryptionSetId",
        "securityProfile",
        "secureVMDiskEncryptionSetId",
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, 0, 7, 0.5]) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=14,
)
SENTENCES = st.builds(
    lambda verb, key, more: f"CMK with KEY URI: {key} is {verb} for Tri-Secret Secure{more}",
    st.sampled_from(["activated", "pre-registered", "being rekeyed", "being activated", "being deactivated", "reconsidered"]),
    st.sampled_from([*URIS, ""]),
    st.sampled_from(["", f", but CMK with KEY URI: {KEY} is pre-registered", f", but CMK {URIS[7]} is activated with it"]),
)
# Blocks as Azure has them, with any JSON in the places that decide.
BLOCKS: dict[str, st.SearchStrategy[Any]] = {
    "storage account": st.fixed_dictionaries(
        {"keySource": st.just("Microsoft.Keyvault") | JSON},
        optional={
            "keyvaultproperties": JSON
            | st.fixed_dictionaries(
                {"keyvaulturi": JSON, "keyname": JSON}, optional={"keyversion": JSON, "currentVersionedKeyIdentifier": JSON}
            ),
        },
    ),
    "SQL server": st.fixed_dictionaries(
        {"serverKeyType": st.just("AzureKeyVault") | JSON},
        optional={"uri": JSON, "serverKeyName": st.just("a"), "keyVersion": JSON, "autoRotationEnabled": JSON},
    ),
    "SQL database": st.fixed_dictionaries(
        {}, optional={"encryptionProtector": JSON, "encryptionProtectorAutoRotation": JSON, "status": JSON}
    ),
    "disk encryption set": st.fixed_dictionaries(
        {"activeKey": JSON | st.fixed_dictionaries({"keyUrl": JSON})},
        optional={"rotationToLatestKeyVersionEnabled": JSON, "provisioningState": JSON},
    ),
    "disk": st.fixed_dictionaries(
        {"encryption": JSON | st.fixed_dictionaries({"type": JSON}, optional={"diskEncryptionSetId": JSON})},
        optional={"securityProfile": JSON},
    ),
    "Snowflake account": SENTENCES,
}


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, Any]:
    what = draw(st.sampled_from(list(READERS)))
    return what, draw(BLOCKS[what] | JSON)


@given(answers())
@example(("storage account", {}))
@example(("SQL server", {"serverKeyType": "AzureKeyVault", "uri": {}}))
@example(("SQL database", {"encryptionProtector": {}, "encryptionProtectorAutoRotation": "false"}))
@example(("disk", {"encryption": {"type": "EncryptionAtRestWithCustomerKey"}}))
def test_any_json_gives_one_of_four_and_a_write_starts_only_from_two(answer: tuple[str, Any]) -> None:
    what, block = answer
    read, plan, revert = READERS[what]
    seen = read(block)
    planned, reverted = plan(seen), revert(seen)
    match seen.protection:
        case OnKey(uri, version):
            assert key_uri_or_none(str(uri)) == uri, "only a key that the grammar admits is a key"
            assert version is None or key_uri_or_none(str(uri.at(version))) is not None
            assert text_in_force(seen.protection) == str(seen.protection.in_force)
        case MicrosoftManaged():
            assert not isinstance(reverted, Plan)
        case OnAnotherKey(said):
            assert said
            assert len(said) <= LONGEST_NAME
            assert said.isprintable()
            for fault in (planned, reverted):
                assert isinstance(fault, Fault)
                assert fault.reason in {Reason.ON_ANOTHER_KEY, Reason.REKEY_IN_PROGRESS}
        case Unreadable(missing, reason):
            assert missing
            assert reason in {Reason.UNREADABLE, Reason.SNOWFLAKE_ANSWER_NOT_UNDERSTOOD}
            for fault in (planned, reverted):
                assert isinstance(fault, Fault)
                assert fault.reason == reason
    assert isinstance(planned, Plan | Fault | None)
    assert isinstance(reverted, Plan | Fault | None)


@given(st.text() | TEXTS, st.text() | st.none(), st.booleans())
def test_a_text_is_a_key_of_a_vault_or_named_as_it_is(text: str, version: str | None, following: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    found = named(text, version=version, following=following)
    if isinstance(found, OnKey):
        assert key_uri_or_none(str(found.in_force)) == found.in_force
    else:
        assert found.said


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("block", [None, {}, [], 7, "text", {"keySource": None}, {"encryption": {}}], ids=str)
def test_an_answer_that_lacks_what_it_takes_is_unreadable_for_each_kind(what: str, block: Any) -> None:
    read, _, _ = READERS[what]
    expected = MicrosoftManaged if what == "SQL database" and isinstance(block, dict) else Unreadable
    assert isinstance(read(block).protection, expected), "a database without a protector is protected by its server's"


@pytest.mark.parametrize(
    ("what", "block", "said"),
    [
        (
            "storage account",
            {
                "keySource": "Microsoft.Keyvault",
                "keyvaultproperties": {"keyvaulturi": "https://hsm.managedhsm.azure.net/", "keyname": "k"},
            },
            "https://hsm.managedhsm.azure.net/keys/k",
        ),
        ("storage account", {"keySource": "Microsoft.Else"}, "keySource Microsoft.Else"),
        (
            "SQL server",
            {"serverKeyType": "AzureKeyVault", "uri": "https://hsm.managedhsm.azure.net/keys/k"},
            "hsm.managedhsm.azure.net",
        ),
        ("SQL server", {"serverKeyType": "ManagedHsm", "serverKeyName": "hsm_k"}, "protector of type ManagedHsm hsm_k"),
        ("SQL database", {"encryptionProtector": "https://evil.example/keys/k"}, "https://evil.example/keys/k"),
        ("disk encryption set", {"activeKey": {"keyUrl": f"https://{VAULT}/secrets/k"}}, f"https://{VAULT}/secrets/k"),
        ("disk", {"encryption": {"type": "EncryptionAtRestWithSomethingNew"}}, "EncryptionAtRestWithSomethingNew"),
        ("disk", {"encryption": {"type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": "/gone"}}, "/gone"),
        (
            "disk",
            {
                "encryption": {"type": "EncryptionAtRestWithPlatformKey"},
                "securityProfile": {"secureVMDiskEncryptionSetId": SET.text},
            },
            "of its security profile",
        ),
        (
            "Snowflake account",
            "CMK with KEY ARN: arn:aws:kms:1:key/x is activated for Tri-Secret Secure.",
            "arn:aws:kms:1:key/x",
        ),
    ],
)
def test_what_is_no_key_of_a_vault_is_quoted_with_the_way_out(what: str, block: Any, said: str) -> None:
    read, plan, _ = READERS[what]
    seen = read(block)
    assert isinstance(seen.protection, OnAnotherKey)
    assert said in seen.protection.said
    fault = plan(seen)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason) == (FaultKind.BLOCKED, Reason.ON_ANOTHER_KEY)
    assert said in fault.message
    assert "must" in fault.message


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.shown)
def test_each_kind_says_who_must_do_what_before_it_leaves_such_a_key(kind: Any) -> None:
    assert kind.off_another_key.startswith("the provider's administrator must ")
    fault = start_of(OnAnotherKey("x"), kind.off_another_key)
    assert isinstance(fault, Fault)
    assert kind.off_another_key in fault.message


@given(
    st.one_of(st.just(MicrosoftManaged()), st.just(OnAnotherKey("x")), st.just(Unreadable("x")), st.just(OnKey(KEY, V1))),
    st.booleans(),
    st.booleans(),
)
def test_a_deletion_reverts_only_our_key_and_waits_for_an_answer_that_can_be_read(
    protection: Protection,
    ours: bool,  # noqa: FBT001 - drawn by hypothesis
    claimed: bool,  # noqa: FBT001
) -> None:
    decision = decide_deletion(revert=True, protection=protection, on_our_key=ours, claimed=claimed, key=READY)
    if isinstance(protection, Unreadable) and not claimed:
        assert (decision.action, decision.reason) == (NextAction.WAIT, Reason.UNREADABLE)
    elif decision.action is NextAction.REVERT:
        assert (isinstance(protection, OnKey), ours, claimed) == (True, True, False)
    else:
        assert decision.action is NextAction.RELEASE
    lost = decide_deletion(revert=True, protection=protection, on_our_key=ours, claimed=claimed, key=KeyState(None))
    assert lost.action is not NextAction.REVERT
