"""The storage PATCH: Azure's wire names, nobody else's identity lost, and no write that is not needed."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from azure.mgmt.storage.models import StorageAccount, StorageAccountUpdateParameters
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged, Unreadable, key_in_force, version_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import Plan
from cmk_operator.providers.storage import encryption
from cmk_operator.providers.storage.encryption import StorageAccountDetail, plan_platform_key
from cmk_operator.providers.storage.encryption import read_account as read_model
from cmk_operator.providers.storage.faults import judge_storage_failure, recognized
from tests.unit.samples import APPLICATION, IDENTITY, SUBSCRIPTION, V1, V2, V3, VAULT, uri_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.providers.protocol import ResourceFacts

OTHER_IDENTITY = IDENTITY.replace("/cmk", "/other")
FOLLOW = KeyUri(VAULT, "storage")


def read_account(body: dict[str, Any]) -> ResourceFacts[StorageAccountDetail]:
    """The facts of an account in Resource Manager's wire format."""
    return read_model(StorageAccount(body))


def as_sent(body: Mapping[str, Any]) -> Any:
    """A PATCH as the SDK's client writes it."""
    return json.loads(json.dumps(StorageAccountUpdateParameters(body).as_dict(exclude_readonly=True)))


def want(key_uri: KeyUri = FOLLOW, identity: str = IDENTITY, application: str = APPLICATION) -> KeyChoice:
    return KeyChoice(key_uri, V1, ArmId(identity), application)


def platform_account(identity: dict[str, Any] | None = None) -> dict[str, Any]:
    account: dict[str, Any] = {
        "properties": {"encryption": {"keySource": "Microsoft.Storage", "services": {"blob": {"enabled": True}}}}
    }
    return account if identity is None else account | {"identity": identity}


def patched(account: dict[str, Any], body: Any, latest: str = V3) -> dict[str, Any]:
    """The account after a PATCH, as Resource Manager merges and answers it.

    An absent field keeps its value, user-assigned identities are merged, and the version in force is the sent one, or the
    latest when it is empty.
    """
    assert as_sent(body) == body, "the SDK adds nothing, which might reset a field, and drops nothing"
    after = copy.deepcopy(account)
    identity: dict[str, Any] = body.get("identity", {})
    if identity:
        kept = (after.get("identity") or {}).get("userAssignedIdentities") or {}
        spelled = {name.lower(): name for name in kept}
        added = {
            spelled.get(name.lower(), name.lower()): {"clientId": "x"} for name in identity.get("userAssignedIdentities", {})
        }
        after["identity"] = {"type": identity["type"], "userAssignedIdentities": kept | added}
    block = after.setdefault("properties", {}).setdefault("encryption", {})
    sent = body["properties"]["encryption"]
    block["keySource"] = sent["keySource"]
    if sent["keySource"].lower() == "microsoft.storage":
        block.pop("keyvaultproperties", None)
        block.pop("identity", None)
        return after
    key = (block.get("keyvaultproperties") or {}) | sent.get("keyvaultproperties", {})
    in_force = key.get("keyversion") or latest
    key["currentVersionedKeyIdentifier"] = f"{key['keyvaulturi']}/keys/{key['keyname']}/{in_force}"
    key["lastKeyRotationTimestamp"] = "2026-11-24T12:00:23.7023290Z"
    block["keyvaultproperties"] = key
    block["identity"] = sent.get("identity", block.get("identity"))
    return after


def plan_key(choice: KeyChoice, seen: ResourceFacts[Any], *, one_by_one: bool = False) -> Plan[Any] | None:
    """The plan for an account whose key can be read."""
    plan = encryption.plan_key(choice, seen, one_by_one=one_by_one)
    assert not isinstance(plan, Fault)
    return plan


def planned(choice: KeyChoice, account: dict[str, Any]) -> Plan[Any]:
    plan = plan_key(choice, read_account(account))
    assert plan is not None
    return plan


def test_the_patch_is_azure_s_to_the_letter() -> None:
    assert planned(want(FOLLOW.at(V1)), platform_account()).body == {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
        "properties": {
            "encryption": {
                "keySource": "Microsoft.Keyvault",
                "keyvaultproperties": {"keyname": "storage", "keyversion": V1, "keyvaulturi": f"https://{VAULT}"},
                "identity": {"userAssignedIdentity": IDENTITY, "federatedIdentityClientId": APPLICATION},
            }
        },
    }


def test_following_the_latest_sends_an_empty_version_because_an_absent_one_keeps_the_old() -> None:
    pinned = patched(platform_account(), planned(want(FOLLOW.at(V1)), platform_account()).body)
    plan = planned(want(), pinned)
    assert plan.body["properties"]["encryption"]["keyvaultproperties"]["keyversion"] == ""
    assert [str(change) for change in plan.changes] == [
        f"properties.encryption.keyvaultproperties.keyversion: {V1} -> automatic"
    ]
    assert plan_key(want(), read_account(patched(pinned, plan.body))) is None


def test_the_sdk_s_own_model_writes_the_patch_as_planned() -> None:
    body = planned(want(), platform_account()).body
    assert as_sent(body) == body


@pytest.mark.parametrize(
    ("present", "sent"),
    [
        ("None", "UserAssigned"),
        ("", "UserAssigned"),
        ("UserAssigned", "UserAssigned"),
        ("SystemAssigned", "SystemAssigned,UserAssigned"),
        ("SystemAssigned,UserAssigned", "SystemAssigned,UserAssigned"),
        ("systemassigned, userassigned", "SystemAssigned,UserAssigned"),
    ],
)
def test_a_system_assigned_identity_is_never_dropped(present: str, sent: str) -> None:
    assert planned(want(), platform_account({"type": present})).body["identity"]["type"] == sent


def test_other_identities_of_the_account_stay() -> None:
    account = platform_account({"type": "UserAssigned", "userAssignedIdentities": {OTHER_IDENTITY: {"clientId": "x"}}})
    assert set(planned(want(), account).body["identity"]["userAssignedIdentities"]) == {OTHER_IDENTITY, IDENTITY}


def test_an_identity_that_is_there_in_another_spelling_is_not_added_twice() -> None:
    spelled = IDENTITY.replace("resourceGroups", "resourcegroups")
    account = platform_account({"type": "SystemAssigned", "userAssignedIdentities": {spelled: {}}})
    assert list(planned(want(), account).body["identity"]["userAssignedIdentities"]) == [spelled]


@pytest.mark.parametrize("present", ["UserAssigned", "SystemAssigned,UserAssigned", "systemassigned, userassigned"])
def test_nothing_is_said_of_identities_where_ours_is_there_so_nobody_s_change_to_them_is_undone(present: str) -> None:
    spelled = IDENTITY.replace("resourceGroups", "resourcegroups")
    account = platform_account({"type": present, "userAssignedIdentities": {spelled: {}, OTHER_IDENTITY: {}}})
    assert "identity" not in planned(want(), account).body


def settled(choice: KeyChoice) -> dict[str, Any]:
    return patched(platform_account(), planned(choice, platform_account()).body)


def test_spelling_is_no_difference() -> None:
    account = settled(want())
    block = account["properties"]["encryption"]
    block["keySource"] = "Microsoft.KeyVault"
    block["keyvaultproperties"]["keyname"] = "STORAGE"
    block["keyvaultproperties"]["keyvaulturi"] = f"https://{VAULT.upper()}:443/"
    block["identity"] = {
        "userAssignedIdentity": IDENTITY.replace("resourceGroups", "resourcegroups"),
        "federatedIdentityClientId": APPLICATION.upper(),
    }
    account["identity"]["type"] = "systemAssigned, userAssigned"
    account["identity"]["userAssignedIdentities"] = {IDENTITY.upper(): {}}
    assert plan_key(want(), read_account(account)) is None


@pytest.mark.parametrize("absent", [None, "missing"])
def test_an_account_without_an_encryption_block_is_unreadable_and_nothing_is_planned(absent: str | None) -> None:
    account: dict[str, Any] = {"properties": {"encryption": None}, "identity": None} if absent is None else {}
    seen = read_account(account)
    assert isinstance(seen.protection, Unreadable)
    for fault in (encryption.plan_key(want(), seen), plan_platform_key(seen)):
        assert isinstance(fault, Fault)
        assert fault.reason == Reason.UNREADABLE


def test_an_account_without_an_identity_block_is_put_on_the_key() -> None:
    seen = read_account({"properties": {"encryption": {"keySource": "Microsoft.Storage"}}})
    assert isinstance(seen.protection, MicrosoftManaged)
    assert plan_key(want(), seen) is not None
    assert plan_platform_key(seen) is None


@pytest.mark.parametrize(
    ("version", "current", "active"),
    [
        ("", f"https://{VAULT}/keys/storage/{V2}", V2),
        (None, f"https://{VAULT}/keys/storage/{V2}", V2),
        ("", f"https://{VAULT}:443/keys/storage/{V2}", V2),
        (V1, f"https://{VAULT}/keys/storage/{V1}", V1),
        (V1, None, V1),
        (V1, "not a key", V1),
        (V1, f"https://other.vault.azure.net/keys/storage/{V2}", V1),
        ("", None, None),
        ("", "", None),
    ],
)
def test_the_version_in_force_is_the_current_versioned_key_identifier(
    version: str | None, current: str | None, active: str | None
) -> None:
    account = settled(want())
    key = account["properties"]["encryption"]["keyvaultproperties"]
    key["keyversion"] = version
    key["currentVersionedKeyIdentifier"] = current
    protection = read_account(account).protection
    assert version_in_force(protection) == active
    assert uri_of(protection) == KeyUri(VAULT, "storage", version or None)
    assert key_in_force(protection) == KeyUri(VAULT, "storage", active)


@pytest.mark.parametrize(
    ("drift", "path"),
    [
        (("keyvaultproperties", "keyname", "other"), "properties.encryption.keyvaultproperties.keyname"),
        (
            ("keyvaultproperties", "keyvaulturi", "https://other.vault.azure.net"),
            "properties.encryption.keyvaultproperties.keyvaulturi",
        ),
        (("keyvaultproperties", "keyversion", V2), "properties.encryption.keyvaultproperties.keyversion"),
        (("identity", "userAssignedIdentity", OTHER_IDENTITY), "properties.encryption.identity.userAssignedIdentity"),
        (("identity", "federatedIdentityClientId", SUBSCRIPTION), "properties.encryption.identity.federatedIdentityClientId"),
    ],
)
def test_every_drift_of_one_field_is_seen_and_mended_in_one_write(drift: tuple[str, str, str], path: str) -> None:
    account = settled(want())
    block, name, value = drift
    account["properties"]["encryption"][block][name] = value
    plan = planned(want(), account)
    assert [change.path for change in plan.changes] == [path]
    assert plan_key(want(), read_account(patched(account, plan.body))) is None


def test_an_identity_that_was_taken_off_the_account_is_put_back() -> None:
    account = settled(want())
    account["identity"]["userAssignedIdentities"] = {OTHER_IDENTITY: {}}
    plan = planned(want(), account)
    assert [change.path for change in plan.changes] == ["identity.userAssignedIdentities"]
    assert plan_key(want(), read_account(patched(account, plan.body))) is None


def test_a_revert_touches_the_key_source_only_and_only_once() -> None:
    account = settled(want())
    plan = plan_platform_key(read_account(account))
    assert isinstance(plan, Plan)
    assert plan.body == {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
    after = patched(account, plan.body)
    assert plan_platform_key(read_account(after)) is None
    assert after["identity"] == account["identity"]


def cased(text: str, loud: int) -> str:
    return {0: text, 1: text.upper(), 2: text.lower()}[loud]


key_uris = st.builds(
    KeyUri,
    st.sampled_from([VAULT, "other.vault.azure.net"]),
    st.sampled_from(["storage", "Other-1"]),
    st.sampled_from([None, V1, V2]),
)
identities = st.builds(
    cased, st.sampled_from([IDENTITY, OTHER_IDENTITY, IDENTITY.replace("/cmk", "/third")]), st.integers(0, 2)
)
choices = st.builds(want, key_uris, identities, st.sampled_from([APPLICATION, APPLICATION.upper(), SUBSCRIPTION]))


@st.composite
def accounts(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            ["None", "SystemAssigned", "UserAssigned", "SystemAssigned,UserAssigned", "SystemAssigned, UserAssigned"]
        )
    )
    assigned = draw(st.lists(identities, max_size=3, unique_by=str.lower)) if "User" in kind else []
    account = platform_account({"type": kind, "userAssignedIdentities": {name: {} for name in assigned}})
    if draw(st.booleans()):
        uri = draw(key_uris)
        account["properties"]["encryption"] |= {
            "keySource": draw(st.sampled_from(["Microsoft.Keyvault", "microsoft.keyvault", "Microsoft.KeyVault"])),
            "keyvaultproperties": {
                "keyname": cased(uri.key_name, draw(st.integers(0, 2))),
                "keyversion": uri.version or "",
                "keyvaulturi": draw(st.sampled_from([uri.vault_url, f"{uri.vault_url}/", f"{uri.vault_url}:443"])),
            },
            "identity": draw(st.sampled_from([None, {}, {"userAssignedIdentity": IDENTITY.lower()}])),
        }
    return account


@given(choices, accounts())
def test_applying_a_plan_leaves_nothing_to_plan(choice: KeyChoice, account: dict[str, Any]) -> None:
    plan = plan_key(choice, read_account(account))
    if plan is None:
        return
    assert plan.changes
    after = patched(account, plan.body)
    seen = read_account(after)
    assert plan_key(choice, seen) is None
    assert version_in_force(seen.protection) == (choice.key_uri.version or V3)
    assert choice.managed_identity in seen.detail.user_assigned


@given(choices, accounts())
def test_a_plan_never_takes_an_identity_away(choice: KeyChoice, account: dict[str, Any]) -> None:
    plan = plan_key(choice, read_account(account))
    if plan is None:
        return
    after = patched(account, plan.body)["identity"]
    assert {name.lower() for name in account["identity"]["userAssignedIdentities"]} <= {
        name.lower() for name in after["userAssignedIdentities"]
    }
    if "system" in account["identity"]["type"].lower():
        assert "system" in after["type"].lower()


@given(choices, choices, accounts())
def test_going_from_one_key_to_another_and_back_always_arrives(
    first: KeyChoice, second: KeyChoice, account: dict[str, Any]
) -> None:
    for choice in (first, second, first):
        plan = plan_key(choice, read_account(account))
        account = patched(account, plan.body) if plan is not None else account
        assert plan_key(choice, read_account(account)) is None


@given(choices, accounts())
def test_a_plan_is_a_function_of_what_was_seen(choice: KeyChoice, account: dict[str, Any]) -> None:
    assert plan_key(choice, read_account(account)) == plan_key(choice, read_account(copy.deepcopy(account)))


ONE_BY_ONE = AzureFailure(
    400,
    "BadRequest",
    "The properties 'encryption.identity, encryption.keyvaultproperties' cannot be updated in a single operation.",
)


def test_a_move_in_two_requests_sets_the_identity_first_then_the_key_and_arrives() -> None:
    account = settled(want(KeyUri(VAULT, "other", V2), OTHER_IDENTITY))
    target = want(KeyUri(VAULT, "storage", V3))
    whole = planned(target, account)
    assert recognized(ONE_BY_ONE, whole).code == Reason.CHANGE_NEEDS_TWO_REQUESTS
    first = plan_key(target, read_account(account), one_by_one=True)
    assert first is not None
    assert set(first.body["properties"]["encryption"]) == {"keySource", "identity"}
    assert IDENTITY in first.body["identity"]["userAssignedIdentities"]
    assert OTHER_IDENTITY.lower() in str(first.body["identity"]["userAssignedIdentities"]).lower()
    account = patched(account, first.body, V2)
    assert account["properties"]["encryption"]["keyvaultproperties"]["keyname"] == "other", "still on the old key"
    second = plan_key(target, read_account(account), one_by_one=True)
    assert second is not None
    assert set(second.body["properties"]["encryption"]) == {"keySource", "keyvaultproperties"}
    assert plan_key(target, read_account(patched(account, second.body)), one_by_one=True) is None


def test_an_account_on_a_key_of_microsoft_never_moves_in_two_requests() -> None:
    plan = plan_key(want(), read_account(platform_account()), one_by_one=True)
    assert plan is not None
    assert {"identity", "keyvaultproperties"} <= set(plan.body["properties"]["encryption"])
    assert recognized(ONE_BY_ONE, plan) == ONE_BY_ONE, "and such an answer is not taken for that"


def test_the_identity_that_is_there_is_named_where_azure_takes_one() -> None:
    account = platform_account({"type": "UserAssigned", "userAssignedIdentities": {OTHER_IDENTITY: {}}})
    failure = AzureFailure(400, "InvalidRequest", "Too many user-assigned identities specified on the resource.")
    fault = judge_storage_failure(recognized(failure, planned(want(), account)), "contosodata")
    assert (fault.reason, fault.actor) == (Reason.TOO_MANY_USER_ASSIGNED_IDENTITIES, Actor.PLATFORM_ENGINEER)
    assert "contosodata already has the user-assigned identity other" in fault.message
    assert "the platform engineer must either have the provider's administrator remove" in fault.message
    assert fault.message.endswith("'Too many user-assigned identities specified on the resource'")
