"""Who is on which version of a key: the ground on which the operator says what may be disabled (law 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.key.reconciler import usage_of
from cmk_operator.reconcile.key.report import KeyFacts, key_status
from cmk_operator.reconcile.references import KeyPath, resolve_key
from tests.unit.samples import KEY, NOW, V1, V2, guard, healthy, identity_body, key_body, probe, resource_body, tenant_body

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import VersionReport
    from cmk_operator.reconcile.key.report import Usage


def applied(body: dict[str, Any], key_uri: str, version: str) -> dict[str, Any]:
    """The resource as Azure was last seen to have it."""
    status = {"observedGeneration": 1, "applied": {"keyUri": key_uri, "version": version, "since": "2026-11-24T10:00:00Z"}}
    return body | {"status": status}


def world(*resources: dict[str, Any], **key_spec: Any) -> Inventory:
    inventory = Inventory()
    inventory.put(FederatedIdentity.plural, identity_body())
    inventory.put(CustomerTenant.plural, tenant_body())
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


def usage(inventory: Inventory) -> Usage:
    key, path = held(inventory)
    return usage_of(inventory, key, path)


def version_after_a_rotation(inventory: Inventory) -> VersionReport:
    """What the key says of V1 once V2 is the latest."""
    key, path = held(inventory)
    before = key_status(key, KeyFacts(guard(probe(healthy(V1)), str(path.key_uri)), usage(inventory)), NOW)
    seen = probe(healthy(V2), in_use={V1: healthy(V1)})
    after = key_status(
        key.model_copy(update={"status": before}), KeyFacts(guard(seen, str(path.key_uri)), usage(inventory)), NOW
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
