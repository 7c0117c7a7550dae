"""Who is on which version of a key: the ground on which the operator says what may be disabled (law 4)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.customer_managed_key import CustomerManagedKey, CustomerManagedKeyStatus, VersionReport
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.core.rotation.azure_use import AzureUser, FoundUse, UseInAzure
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.key.report import KeyFacts, key_status
from cmk_operator.reconcile.key.usage import usage_of, use_in_azure
from cmk_operator.reconcile.references import KeyPath, resolve_key
from tests.unit.samples import (
    AZURE_FAULT,
    GROUP,
    KEY,
    LATER,
    LISTED,
    NOW,
    V1,
    V2,
    V3,
    guard,
    healthy,
    identity_body,
    key_body,
    probe,
    resource_body,
    tenant_body,
)

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.reconcile.key.report import Usage


LISTED_AT = NOW + timedelta(hours=1)
ACCOUNT = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-contoso/providers/Microsoft.Storage/storageAccounts/left"


def applied(body: dict[str, Any], key_uri: str, version: str) -> dict[str, Any]:
    """The resource as Azure was last seen to have it."""
    status = {"observedGeneration": 1, "applied": {"keyUri": key_uri, "version": version, "since": "2026-11-24T10:00:00Z"}}
    return body | {"status": status}


def world(*resources: dict[str, Any], **key_spec: Any) -> Inventory:
    inventory = Inventory()
    inventory.put(FederatedIdentity.plural, identity_body())
    inventory.put(CustomerTenant.plural, tenant_body(allowedScopes=[GROUP, ACCOUNT.rpartition("/providers/")[0]]))
    inventory.put(CustomerManagedKey.plural, key_body(**key_spec))
    for body in resources:
        inventory.put(EncryptedResource.plural, body)
    return inventory


def held(inventory: Inventory) -> tuple[CustomerManagedKey, KeyPath]:
    key = inventory.get(CustomerManagedKey, "storage", "team-a")
    assert key is not None
    path = resolve_key(inventory, key)
    assert isinstance(path, KeyPath)
    return key, path


def usage(inventory: Inventory, azure: UseInAzure | None = None, before: CustomerManagedKeyStatus | None = None) -> Usage:
    key, path = held(inventory)
    if before is not None:
        key = key.model_copy(update={"status": before})
    return usage_of(inventory, key, path, azure)


def listed(*users: tuple[str, str], at: datetime = LISTED_AT) -> UseInAzure:
    """What Azure's lists show on the key: ids and versions."""
    return UseInAzure(FoundUse(tuple(AzureUser(ArmId(text), parse_key_uri(KEY), version) for text, version in users)), at, at)


def version_after_a_rotation(inventory: Inventory) -> VersionReport:
    """What the key says of V1 once V2 is the latest."""
    key, path = held(inventory)
    before = key_status(key, KeyFacts(guard(probe(healthy(V1)), str(path.key_uri)), usage(inventory), azure=LISTED), NOW)
    seen = probe(healthy(V2), in_use={V1: healthy(V1)})
    after = key_status(
        key.model_copy(update={"status": before}), KeyFacts(guard(seen, str(path.key_uri)), usage(inventory), azure=LISTED), NOW
    )
    return next(entry for entry in after.versions if entry.version == V1)


def test_resources_count_at_the_version_that_azure_reports() -> None:
    inventory = world(
        applied(resource_body("a"), f"{KEY}/{V1}", V1), applied(resource_body("b"), f"{KEY}/{V2}", V2), resource_body("c")
    )
    found = usage(inventory)
    assert found.names == ("a", "b", "c")
    assert found.by_version == {V1: ("a",), V2: ("b",)}


@pytest.mark.parametrize("spec", [{}, {"keyUri": f"{KEY}/{V2}"}], ids=["following", "pinned"])
def test_a_resource_on_another_version_than_the_wanted_one_counts_too(spec: dict[str, Any]) -> None:
    inventory = world(applied(resource_body(), f"{KEY}/{V1}", V1), **spec)
    assert usage(inventory).by_version == {V1: ("data",)}


def test_the_spelling_of_a_key_s_name_makes_no_other_key() -> None:
    inventory = world(applied(resource_body(), f"{KEY.replace('storage', 'Storage')}/{V1}", V1))
    assert usage(inventory).by_version == {V1: ("data",)}


@pytest.mark.parametrize("uri", [f"{KEY}2/{V1}", f"{KEY}-old/{V1}", KEY.replace("contoso", "other") + f"/{V1}"])
def test_a_resource_on_another_key_does_not_count(uri: str) -> None:
    assert usage(world(applied(resource_body(), uri, V1))).by_version == {}


def test_what_is_in_use_is_not_said_to_be_safe() -> None:
    told = version_after_a_rotation(world(applied(resource_body(), f"{KEY}/{V1}", V1)))
    assert told.safe_to_disable_after is None
    assert told.in_use_by == ("data",)


def test_what_a_manifest_has_left_but_azure_has_not_is_not_said_to_be_safe() -> None:
    moved = applied(resource_body(keyRef={"name": "another"}), f"{KEY}/{V1}", V1)
    assert version_after_a_rotation(world(moved)).safe_to_disable_after is None


def test_what_another_namespace_uses_of_the_same_key_is_not_said_to_be_safe() -> None:
    other = applied(resource_body("theirs", namespace="team-b"), f"{KEY}/{V1}", V1)
    inventory = world(other)
    inventory.put(CustomerManagedKey.plural, key_body(namespace="team-b"))
    assert version_after_a_rotation(inventory).safe_to_disable_after is None


def test_when_azure_does_not_tell_the_version_none_is_said_to_be_safe() -> None:
    untold = applied(resource_body(), KEY, "")
    assert version_after_a_rotation(world(untold)).safe_to_disable_after is None


def test_the_machines_of_a_disk_are_told_with_its_name() -> None:
    disk = applied(resource_body(), f"{KEY}/{V1}", V1)
    disk["status"]["details"] = {"attachedTo": ["vm1"]}
    assert usage(world(disk, applied(resource_body("b"), f"{KEY}/{V1}", V1))).machines == {"data": ("vm1",)}


def test_what_only_azure_shows_counts_under_its_resource_id() -> None:
    inventory = world(applied(resource_body("a"), f"{KEY}/{V2}", V2))
    found = usage(inventory, listed((ACCOUNT, V1)))
    assert found.by_version == {V1: (ACCOUNT,), V2: ("a",)}
    assert found.names == ("a",)
    assert [(str(one.id), one.version) for one in found.without_manifest] == [(ACCOUNT, V1)]
    assert found.types[ACCOUNT] == "microsoft.storage/storageaccounts"


def test_what_a_manifest_names_counts_once_whatever_its_spelling() -> None:
    body = applied(resource_body("a", resourceId=ACCOUNT), f"{KEY}/{V1}", V1)
    found = usage(world(body), listed((ACCOUNT.replace("resourceGroups", "resourcegroups"), V1)))
    assert found.by_version == {V1: ("a",)}
    assert found.without_manifest == ()


def test_a_manifest_that_was_never_read_counts_as_azure_shows_its_resource() -> None:
    found = usage(world(resource_body("a", resourceId=ACCOUNT)), listed((ACCOUNT, V1)))
    assert found.by_version == {V1: ("a",)}
    assert found.without_manifest == ()


def test_a_list_that_is_older_than_a_move_does_not_undo_it_and_a_newer_one_does() -> None:
    inventory = world(applied(resource_body("a", resourceId=ACCOUNT), f"{KEY}/{V2}", V2))
    key, path = held(inventory)
    seen = probe(healthy(V2))
    first = CustomerManagedKeyStatus(versions=(VersionReport(version=V1, in_use_by=("a",), in_use_by_count=1),))
    moved = usage(inventory, listed((ACCOUNT, V1), at=NOW), first)
    assert moved.by_version == {V2: ("a",)}
    facts = KeyFacts(guard(seen, str(path.key_uri)), moved, azure=listed((ACCOUNT, V1), at=NOW))
    status = key_status(key.model_copy(update={"status": first}), facts, NOW)
    old = next(entry for entry in status.versions if entry.version == V1)
    assert old.superseded_at == NOW
    assert old.safe_to_disable_after is None, "the list is not newer than the move"
    assert "what Azure shows is read once more" in old.reason
    assert usage(inventory, listed((ACCOUNT, V1), at=NOW), status).by_version == {V2: ("a",)}
    assert usage(inventory, listed((ACCOUNT, V1)), status).by_version == {V1: ("a",), V2: ("a",)}


def test_a_version_is_safe_only_by_lists_that_are_whole_and_newer_than_the_last_user() -> None:
    inventory = world(applied(resource_body("a"), f"{KEY}/{V2}", V2))
    key, path = held(inventory)
    before = CustomerManagedKeyStatus(versions=(VersionReport(version=V1, superseded_at=NOW),))
    key = key.model_copy(update={"status": before})

    def old(azure: UseInAzure | None) -> VersionReport:
        facts = KeyFacts(guard(probe(healthy(V2)), str(path.key_uri)), usage(inventory, azure), azure=azure)
        return next(entry for entry in key_status(key, facts, NOW).versions if entry.version == V1)

    assert old(listed()).safe_to_disable_after == NOW + timedelta(hours=24)
    for azure in (None, UseInAzure(), listed(at=NOW), listed((ACCOUNT, V1)), listed((ACCOUNT, ""))):
        assert old(azure).safe_to_disable_after is None
        assert old(azure).keep_until is None
    refused = listed().with_unlisted((AZURE_FAULT,))
    assert old(refused).safe_to_disable_after is None
    assert AZURE_FAULT.message in old(refused).reason


def test_until_the_lists_are_read_again_after_a_restart_what_they_showed_stays() -> None:
    inventory = world(applied(resource_body("a"), f"{KEY}/{V2}", V2))
    key, path = held(inventory)
    guarded = guard(probe(healthy(V2), in_use={V3: healthy(V3)}), str(path.key_uri))
    before = CustomerManagedKeyStatus(versions=(VersionReport(version=V1, superseded_at=NOW),))
    azure = listed((ACCOUNT, V3))
    known = key_status(key.model_copy(update={"status": before}), KeyFacts(guarded, usage(inventory, azure), azure=azure), NOW)
    assert next(entry for entry in known.versions if entry.version == V1).safe_to_disable_after is not None
    restarted = key.model_copy(update={"status": known})
    again = key_status(restarted, KeyFacts(guarded, usage(inventory, None, known), azure=None), LATER)
    assert again == known
    unknown = key_status(restarted, KeyFacts(guarded, usage(inventory), azure=UseInAzure()), NOW)
    assert all(entry.safe_to_disable_after is None for entry in unknown.versions)
    still = key_status(key.model_copy(update={"status": unknown}), KeyFacts(guarded, usage(inventory), azure=None), NOW)
    assert all(entry.safe_to_disable_after is None for entry in still.versions), "only lists bring a date back"


def test_a_snowflake_account_that_no_manifest_shows_makes_the_users_unknown() -> None:
    inventory = Inventory()
    inventory.put(FederatedIdentity.plural, identity_body())
    inventory.put(CustomerTenant.plural, tenant_body(allowedSnowflakeAccounts=["contoso-prod"]))
    inventory.put(CustomerManagedKey.plural, key_body())
    _, path = held(inventory)
    found = use_in_azure(inventory, path, listed())
    assert found is not None
    assert "contoso-prod" in found.why_unknown.lower()
    assert "the platform engineer must apply one" in found.why_unknown
    assert use_in_azure(inventory, path, None) is None


def test_a_manifest_that_no_tenant_allows_hides_no_resource_of_the_customer() -> None:
    stranger = resource_body("mine", "stranger", resourceId=ACCOUNT)
    found = usage(world(stranger), listed((ACCOUNT, V1)))
    assert [str(one.id) for one in found.without_manifest] == [ACCOUNT]
    assert found.by_version == {V1: (ACCOUNT,)}
    allowed = usage(world(resource_body("mine", resourceId=ACCOUNT)), listed((ACCOUNT, V1)))
    assert allowed.without_manifest == ()


def test_a_manifest_that_no_tenant_allows_shows_nothing_of_what_is_seen_only_with_a_manifest() -> None:
    inventory = Inventory()
    inventory.put(FederatedIdentity.plural, identity_body())
    inventory.put(CustomerTenant.plural, tenant_body(allowedSnowflakeAccounts=["contoso-prod"]))
    inventory.put(CustomerManagedKey.plural, key_body())
    stranger = resource_body(
        "mine", "stranger", snowflake={"account": "contoso-prod", "user": "u", "privateKeySecretRef": {"name": "s"}}
    )
    del stranger["spec"]["resourceId"]
    condition = {
        "type": "Encrypted",
        "status": "False",
        "reason": "Waiting",
        "message": "",
        "lastTransitionTime": "2026-11-24T10:00:00Z",
        "observedGeneration": 1,
    }
    inventory.put(EncryptedResource.plural, stranger | {"status": {"observedGeneration": 1, "conditions": [condition]}})
    _, path = held(inventory)
    found = use_in_azure(inventory, path, listed())
    assert found is not None
    assert "the platform engineer must apply one" in found.why_unknown
    assert "stranger" not in found.why_unknown
