"""What the watches have shown: never older than what is held, nothing that is gone, and who refers to whom."""

from __future__ import annotations

import itertools
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import WATCHED, CustomResource, Inventory
from tests.unit.samples import ACCOUNT, GROUP, SUBSCRIPTION, V1, identity_body, key_body, resource_body, tenant_body

RESOURCES = EncryptedResource.plural
DATA = ObjectReference(RESOURCES, "team-a", "data")


def changed(body: dict[str, Any], version: int, **metadata: Any) -> dict[str, Any]:
    """The same object, later."""
    later = deepcopy(body)
    later["metadata"] |= {"resourceVersion": str(version)} | metadata
    return later


def held(inventory: Inventory) -> EncryptedResource:
    found = inventory.get(EncryptedResource, "data", "team-a")
    assert found is not None
    return found


def test_a_new_object_calls_for_a_pass() -> None:
    assert Inventory().put(RESOURCES, resource_body()) == (DATA, True)


def test_an_answer_that_comes_after_the_end_of_its_object_does_not_bring_it_back() -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, resource_body())
    assert inventory.put(RESOURCES, changed(resource_body(), 101), answered=True) == (DATA, False)
    assert inventory.remove(DATA)
    assert inventory.put(RESOURCES, changed(resource_body(), 102), answered=True) == (DATA, False)
    assert inventory.count(RESOURCES) == 0
    assert inventory.put(RESOURCES, changed(resource_body(), 102)) == (DATA, True), "a watch or a list does"


@pytest.mark.parametrize(
    ("metadata", "is_due"),
    [
        ({"labels": {"someone": "else"}}, False),
        ({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}, False),
        ({"managedFields": [{"manager": "kubectl"}]}, False),
        ({"ownerReferences": []}, False),
        ({"annotations": {RECONCILE_REQUESTED_AT: "2026-11-24T12:00:00Z"}}, True),
        ({"generation": 2}, True),
        ({"deletionTimestamp": "2026-11-24T12:00:00Z"}, True),
        ({"finalizers": ["cmk-operator.dev/revert-to-platform-key"]}, True),
        ({"uid": "another"}, True),
    ],
)
def test_only_what_we_act_on_calls_for_a_pass(metadata: dict[str, Any], *, is_due: bool) -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, resource_body())
    assert inventory.put(RESOURCES, changed(resource_body(), 101, **metadata)) == (DATA, is_due)


def test_our_own_status_write_calls_for_no_pass_and_is_seen() -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, resource_body())
    written = changed(resource_body(), 101) | {"status": {"observedGeneration": 1, "lastHandledReconcileAt": "x"}}
    assert inventory.put(RESOURCES, written) == (DATA, False)
    assert held(inventory).status.observed_generation == 1


def test_a_request_for_a_pass_calls_once() -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, resource_body())
    asked = changed(resource_body(), 101, annotations={RECONCILE_REQUESTED_AT: "first"})
    assert inventory.put(RESOURCES, asked)[1] is True
    assert inventory.put(RESOURCES, changed(asked, 102, labels={"a": "b"}))[1] is False
    assert inventory.put(RESOURCES, changed(asked, 103, annotations={RECONCILE_REQUESTED_AT: "second"}))[1] is True
    assert held(inventory).metadata.annotations == {RECONCILE_REQUESTED_AT: "second"}


@pytest.mark.parametrize("uid", ["uid-team-a-data", "of-a-predecessor"])
def test_an_older_version_is_ignored(uid: str) -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, changed(resource_body(), 200, generation=2))
    late = changed(resource_body(), 150, uid=uid)
    assert inventory.put(RESOURCES, late) == (DATA, False)
    assert held(inventory).metadata.generation == 2
    assert held(inventory).metadata.uid == "uid-team-a-data"


def test_a_late_deletion_does_not_take_the_successor_away() -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, changed(resource_body(), 300, uid="successor"))
    assert not inventory.remove(DATA, "predecessor")
    assert held(inventory).metadata.uid == "successor"
    assert inventory.remove(DATA, "successor")
    assert not inventory.remove(DATA)
    assert inventory.get(EncryptedResource, "data", "team-a") is None


def test_a_list_finds_what_is_gone_but_not_what_is_newer_than_the_list() -> None:
    inventory = Inventory()
    old, _ = inventory.put(RESOURCES, changed(resource_body("old"), 100))
    listed, _ = inventory.put(RESOURCES, changed(resource_body("listed"), 100))
    inventory.put(RESOURCES, changed(resource_body("new"), 500))
    inventory.put(CustomerManagedKey.plural, key_body())
    assert inventory.absent(RESOURCES, {listed}, 400) == {old}


def test_unknown_fields_of_newer_versions_are_no_error() -> None:
    inventory = Inventory()
    body = resource_body(novelty={"a": 1}) | {"status": {"conditions": [], "novelty": 1}}
    inventory.put(RESOURCES, body)
    assert held(inventory).spec.resource_id == ACCOUNT


def test_who_refers_to_whom_is_told_one_step_down_and_up() -> None:
    inventory = Inventory()
    identity, _ = inventory.put(FederatedIdentity.plural, identity_body())
    tenant, _ = inventory.put(CustomerTenant.plural, tenant_body())
    key, _ = inventory.put(CustomerManagedKey.plural, key_body())
    data, _ = inventory.put(RESOURCES, resource_body())
    twin, _ = inventory.put(RESOURCES, resource_body("twin", namespace="team-b", resourceId=ACCOUNT.upper()))
    assert inventory.referring_to(identity) == {tenant}
    assert inventory.referring_to(tenant) == {key}
    assert inventory.referring_to(key) == {data}
    assert inventory.referring_to(data) == set()
    assert inventory.related_to(data) == {key, twin}
    assert inventory.related_to(key) == set()
    assert [entry.metadata.name for entry in inventory.claims_on(ArmId(ACCOUNT.lower()))] == ["data", "twin"]


def test_a_key_of_the_same_name_in_another_namespace_is_another_key() -> None:
    inventory = Inventory()
    inventory.put(CustomerManagedKey.plural, key_body())
    other, _ = inventory.put(CustomerManagedKey.plural, key_body(namespace="team-b"))
    inventory.put(RESOURCES, resource_body())
    assert inventory.referring_to(other) == set()
    assert inventory.names_on("team-b", "storage") == []


def test_what_is_kept_is_small() -> None:
    inventory = Inventory()
    noise = {"managedFields": [{"x": "y" * 5_000}], "labels": {"a": "b" * 60}, "annotations": {"big": "z" * 5_000}}
    inventory.put(RESOURCES, changed(resource_body(), 100, **noise))
    assert held(inventory).metadata.annotations == {}
    assert len(inventory._entries[DATA].raw) < 600  # noqa: SLF001 - the promise is about memory


names = st.sampled_from(["a", "b", "c"])
namespaces = st.sampled_from(["team-a", "team-b"])
keys = st.sampled_from(["k1", "k2"])
targets = st.sampled_from([f"{GROUP}/providers/Microsoft.Storage/storageAccounts/{name}" for name in ("x", "y", "X")])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, namespaces, keys, targets, st.integers(1, 50)),
        st.tuples(st.just("remove"), names, namespaces, keys, targets, st.integers(1, 50)),
        st.tuples(st.just("list"), names, namespaces, keys, targets, st.integers(1, 50)),
    ),
    max_size=30,
)


@given(steps)
def test_the_index_of_references_is_right_after_any_sequence(life: list[tuple[str, str, str, str, str, int]]) -> None:
    inventory = Inventory()
    model: dict[ObjectReference, tuple[int, str, str]] = {}
    for what, name, namespace, key, target, version in life:
        reference = ObjectReference(RESOURCES, namespace, name)
        if what == "put":
            body = changed(resource_body(name, namespace, keyRef={"name": key}, resourceId=target), version, generation=version)
            inventory.put(RESOURCES, body)
            if reference not in model or model[reference][0] <= version:
                model[reference] = (version, key, target)
        elif what == "remove":
            assert inventory.remove(reference) is (model.pop(reference, None) is not None)
        else:
            gone = inventory.absent(RESOURCES, {reference}, version)
            assert gone == {other for other, (seen, _, _) in model.items() if other != reference and seen <= version}
            for other in gone:
                inventory.remove(other)
                del model[other]
        assert set(inventory.all(RESOURCES)) == set(model)
        assert inventory.count(RESOURCES) == len(model)
        for place in ("team-a", "team-b"):
            for wanted in ("k1", "k2"):
                users = set(inventory.names_on(place, wanted))
                assert users == {ref.name for ref, (_, used, _) in model.items() if (ref.namespace, used) == (place, wanted)}
        for account in ("x", "y"):
            resource_id = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/{account}"
            claims = {(entry.metadata.namespace, entry.metadata.name) for entry in inventory.claims_on(ArmId(resource_id))}
            assert claims == {
                (ref.namespace, ref.name) for ref, (_, _, used) in model.items() if ArmId(used) == ArmId(resource_id)
            }
    for reference in list(model):
        inventory.remove(reference)
    assert not inventory._pointers  # noqa: SLF001 - nothing may be left behind


def test_the_status_that_was_read_is_what_is_compared_before_a_write() -> None:
    inventory = Inventory()
    applied = {"keyUri": f"https://contoso.vault.azure.net/keys/storage/{V1}", "version": V1, "since": "2026-11-24T12:00:00Z"}
    inventory.put(RESOURCES, resource_body() | {"status": {"observedGeneration": 1, "applied": applied}})
    status = held(inventory).status
    assert status.applied is not None
    assert status.model_dump(mode="json", by_alias=True, exclude_none=True)["applied"] == applied


def test_resources_of_one_key_come_one_after_the_other() -> None:
    inventory = Inventory()
    for number in range(12):
        body = resource_body(name=f"data-{number}", keyRef={"name": f"key-{number % 3}"}, resourceId=f"{ACCOUNT}{number}")
        inventory.put(RESOURCES, body)
    references = set(inventory.all(RESOURCES))
    order = inventory.grouped(references)
    assert set(order) == references
    keys = [int(reference.name.removeprefix("data-")) % 3 for reference in order]
    assert len([one for one, _ in itertools.groupby(keys)]) == 3


def test_a_resource_waits_for_a_key_that_no_pass_has_reported_on() -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, resource_body())
    assert not inventory.waits_for_key(DATA), "there is no such key: that must be told"
    inventory.put(CustomerManagedKey.plural, key_body())
    assert inventory.waits_for_key(DATA)
    inventory.put(CustomerManagedKey.plural, changed(key_body(), 200) | {"status": {"observedGeneration": 1}})
    assert not inventory.waits_for_key(DATA)


@pytest.mark.parametrize(
    ("named", "limit"),
    [
        ({"resourceId": ACCOUNT}, SUBSCRIPTION),
        ({"resourceId": ACCOUNT.upper()}, SUBSCRIPTION),
        ({"resourceId": "/subscriptions"}, "/subscriptions"),
        ({"resourceId": None, "snowflake": {"account": "CONTOSO-PROD"}}, "snowflake:contoso-prod"),
    ],
)
def test_resources_take_turns_by_their_subscription(named: dict[str, Any], limit: str) -> None:
    inventory = Inventory()
    inventory.put(RESOURCES, resource_body(**named))
    assert inventory.limit_of(DATA) == limit
    assert inventory.limit_of(ObjectReference(CustomerManagedKey.plural, "team-a", "storage")) == ""


@pytest.mark.parametrize(
    ("unlisted", "waiting"),
    [
        (EncryptedResource, {"customermanagedkeys", "preflights"}),
        (CustomerManagedKey, {"encryptedresources", "preflights"}),
        (CustomerTenant, {"customermanagedkeys", "encryptedresources", "organizationkeys", "preflights"}),
        (FederatedIdentity, {"customertenants", "customermanagedkeys", "encryptedresources", "organizationkeys", "preflights"}),
        (OrganizationKey, {"preflights"}),
    ],
)
def test_only_what_rests_on_a_kind_waits_until_it_is_listed(unlisted: type[CustomResource], waiting: set[str]) -> None:
    inventory = Inventory()
    inventory.unlisted.intersection_update({unlisted.plural})
    assert {plural for plural in WATCHED if inventory.waits_for(ObjectReference(plural, "team-a", "data"))} == waiting
    assert not inventory.complete
    inventory.unlisted.clear()
    assert not any(inventory.waits_for(ObjectReference(plural, "team-a", "data")) for plural in WATCHED)
    assert inventory.complete


def test_a_deletion_waits_until_everything_is_listed_that_may_need_what_is_deleted() -> None:
    inventory = Inventory()
    identity, _ = inventory.put("federatedidentities", changed(identity_body(), 7, deletionTimestamp="2026-11-30T00:00:00Z"))
    inventory.unlisted.intersection_update({OrganizationKey.plural})
    assert inventory.waits_for(identity) == {"organizationkeys"}
