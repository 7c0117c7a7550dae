"""Every reference is resolved and every permission checked from Kubernetes' objects alone: a refusal costs no call to Azure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.audit.change import Subject
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.audit import tenant_in
from cmk_operator.reconcile.references import (
    ADMISSION_REASONS,
    KeyPath,
    ResourcePath,
    is_claimed_by_another,
    resolve_key,
    resolve_resource,
)
from tests.unit.samples import (
    ACCOUNT,
    APPLICATION,
    CLIENT,
    CUSTOMER,
    GROUP,
    IDENTITY,
    KEY,
    PROVIDER,
    SUBSCRIPTION,
    V1,
    VAULT,
    encrypted_resource,
    identity_body,
    key_body,
    resource_body,
    tenant_body,
)


def world(*bodies: dict[str, Any], without: str = "", **changed: dict[str, Any]) -> Inventory:
    """An inventory in which everything fits, apart from what is told."""
    usual = {
        FederatedIdentity.plural: identity_body(),
        CustomerTenant.plural: tenant_body(),
        CustomerManagedKey.plural: key_body(),
        EncryptedResource.plural: resource_body(),
    } | changed
    inventory = Inventory()
    for plural, body in usual.items():
        if plural != without:
            inventory.put(plural, body)
    for body in bodies:
        inventory.put(EncryptedResource.plural, body)
    return inventory


def resolved(inventory: Inventory, name: str = "data", namespace: str = "team-a") -> ResourcePath | Fault:
    resource = inventory.get(EncryptedResource, name, namespace)
    assert resource is not None
    return resolve_resource(inventory, resource)


def test_the_whole_way_from_a_manifest_to_the_vault_is_found() -> None:
    path = resolved(world())
    assert isinstance(path, ResourcePath)
    assert path.target == ArmId(ACCOUNT)
    assert path.path.key_uri == KeyUri(VAULT, "storage")
    assert path.path.managed_identity == ArmId(IDENTITY)
    chain = path.path.chain
    assert (chain.provider_tenant_id, chain.managed_identity_client_id, chain.application_client_id) == (
        PROVIDER,
        CLIENT,
        APPLICATION,
    )
    assert not chain.by_service_account
    assert path.path.probed.customer_tenant_id == CUSTOMER


@pytest.mark.parametrize(
    ("inventory", "reason", "actor"),
    [
        (world(without=CustomerManagedKey.plural), "KeyNotFound", Actor.PLATFORM_ENGINEER),
        (world(without=CustomerTenant.plural), "TenantNotFound", Actor.PROVIDER_ADMINISTRATOR),
        (world(without=FederatedIdentity.plural), "IdentityNotFound", Actor.PROVIDER_ADMINISTRATOR),
        (world(customertenants=tenant_body(allowedNamespaces=["team-b"])), "NamespaceNotAllowed", Actor.PROVIDER_ADMINISTRATOR),
        (
            world(customertenants=tenant_body(allowedVaults=["other.vault.azure.net"])),
            "VaultNotAllowed",
            Actor.PROVIDER_ADMINISTRATOR,
        ),
        (world(customertenants=tenant_body(allowedScopes=[f"{GROUP}2"])), "ScopeNotAllowed", Actor.PROVIDER_ADMINISTRATOR),
        (world(federatedidentities=identity_body(cloud="AzureChina")), "WrongCloud", Actor.PLATFORM_ENGINEER),
        (world(customermanagedkeys=key_body(keyUri="http://x")), "InvalidKeyUri", Actor.PLATFORM_ENGINEER),
        (
            world(encryptedresources=resource_body(resourceId=ACCOUNT.replace("contosodata", ".."))),
            "InvalidResourceId",
            Actor.PLATFORM_ENGINEER,
        ),
        (
            world(
                customertenants=tenant_body(allowedScopes=[f"/subscriptions/{SUBSCRIPTION}/resourceGroups/.."]),
                encryptedresources=resource_body(resourceId=ACCOUNT.replace("rg-contoso", "..")),
            ),
            "InvalidResourceId",
            Actor.PLATFORM_ENGINEER,
        ),
    ],
)
def test_whatever_does_not_fit_is_refused_and_says_who_must_act(inventory: Inventory, reason: str, actor: Actor) -> None:
    fault = resolved(inventory)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.actor) == (reason, actor)
    assert fault.needs_a_person
    assert fault.reason in ADMISSION_REASONS, "the record counts on it"
    assert "must" in fault.message or "write /subscriptions" in fault.message or "cannot be mixed" in fault.message


def test_a_key_of_another_namespace_cannot_be_borrowed() -> None:
    inventory = world(resource_body("thief", namespace="team-b"))
    fault = resolved(inventory, "thief", "team-b")
    assert isinstance(fault, Fault)
    assert fault.reason == "KeyNotFound"


def test_a_copy_of_the_key_in_another_namespace_is_refused_by_the_tenant() -> None:
    inventory = world(resource_body("thief", namespace="team-b"))
    inventory.put(CustomerManagedKey.plural, key_body(namespace="team-b"))
    fault = resolved(inventory, "thief", "team-b")
    assert isinstance(fault, Fault)
    assert fault.reason == "NamespaceNotAllowed"


def second(name: str = "later", created: str = "2026-11-24T11:00:00Z", **spec: Any) -> dict[str, Any]:
    body = resource_body(name, **spec)
    body["metadata"]["creationTimestamp"] = created
    return body


def test_of_two_manifests_for_one_resource_the_older_one_keeps_it() -> None:
    inventory = world(second(resourceId=ACCOUNT.upper()))
    assert isinstance(resolved(inventory), ResourcePath)
    fault = resolved(inventory, "later")
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.BLOCKED, "TargetClaimed", Actor.PLATFORM_ENGINEER)
    assert "EncryptedResource team-a/data is older" in fault.message
    assert "the platform engineer must remove one of the two" in fault.message


def test_of_two_manifests_of_the_same_second_exactly_one_keeps_the_resource() -> None:
    inventory = world(second(created="2026-11-24T10:00:00Z"))
    kept = [name for name in ("data", "later") if isinstance(resolved(inventory, name), ResourcePath)]
    assert kept == ["data"]


def test_of_two_manifests_of_the_same_second_the_one_at_work_keeps_the_resource() -> None:
    at_work = second(created="2026-11-24T10:00:00Z")
    at_work["status"] = {"applied": {"keyUri": f"{KEY}/{V1}", "version": V1, "since": "2026-11-24T10:00:01Z"}}
    inventory = world(at_work)
    kept = [name for name in ("data", "later") if isinstance(resolved(inventory, name), ResourcePath)]
    assert kept == ["later"]


def test_an_older_manifest_that_is_itself_refused_claims_nothing() -> None:
    inventory = world(second(created="2026-11-24T09:00:00Z", keyRef={"name": "missing"}))
    assert isinstance(resolved(inventory), ResourcePath)


@pytest.mark.parametrize(
    ("other", "claimed"),
    [
        (second(), True),
        (second(keyRef={"name": "missing"}), False),
        (second() | {"metadata": second()["metadata"] | {"namespace": "team-b"}}, False),
    ],
    ids=["an admitted manifest", "one whose key does not exist", "one of a namespace that the tenant does not allow"],
)
def test_only_an_admitted_manifest_claims_a_resource_whose_own_manifest_is_deleted(
    other: dict[str, Any], *, claimed: bool
) -> None:
    inventory = world(other)
    resource = inventory.get(EncryptedResource, "data", "team-a")
    assert resource is not None
    assert is_claimed_by_another(inventory, resource, resource.spec.target) is claimed


APPLIED = {"applied": {"keyUri": f"{KEY}/{V1}", "version": V1, "since": "2026-11-24T10:00:01Z"}}
OPERATING = {"operation": {"url": "https://management.azure.com/any", "purpose": "any", "startedAt": "2026-11-24T10:00:01Z"}}
ON_ANOTHER_KEY = {"applied": {"keyUri": f"{KEY}-of-somebody/{V1}", "version": V1, "since": "2026-11-24T10:00:01Z"}}


def two_tenants(ours: dict[str, Any], theirs: dict[str, Any], *, theirs_created: str = "2026-11-24T11:00:00Z") -> Inventory:
    """One account that two tenants allow and that a manifest of each names; what their statuses say."""
    inventory = world(resource_body() | {"status": ours}, without=EncryptedResource.plural)
    inventory.put(CustomerTenant.plural, tenant_body("fabrikam", allowedNamespaces=["team-b"]))
    inventory.put(CustomerManagedKey.plural, key_body("theirs", "team-b", tenantRef={"name": "fabrikam"}))
    body = resource_body("claim", "team-b", keyRef={"name": "theirs"}) | {"status": theirs}
    body["metadata"]["creationTimestamp"] = theirs_created
    inventory.put(EncryptedResource.plural, body)
    return inventory


@pytest.mark.parametrize("created", ["2026-11-24T09:00:00Z", "2026-11-24T11:00:00Z"])
@pytest.mark.parametrize(
    ("ours", "theirs", "kept"),
    [
        ({}, {}, []),
        (APPLIED, {}, ["data"]),
        ({}, APPLIED, ["claim"]),
        (APPLIED, APPLIED, []),
        (OPERATING, {}, ["data"]),
        (ON_ANOTHER_KEY, {}, []),
        (ON_ANOTHER_KEY, APPLIED, ["claim"]),
    ],
)
def test_of_manifests_of_two_tenants_only_the_one_at_work_keeps_the_resource_however_old(
    ours: dict[str, Any], theirs: dict[str, Any], kept: list[str], created: str
) -> None:
    inventory = two_tenants(ours, theirs, theirs_created=created)
    found = {"data": resolved(inventory), "claim": resolved(inventory, "claim", "team-b")}
    assert [name for name, path in found.items() if isinstance(path, ResourcePath)] == kept
    for name, other in (("data", "team-b/claim"), ("claim", "team-a/data")):
        fault = found[name]
        if isinstance(fault, Fault):
            assert (fault.kind, fault.reason) == (FaultKind.BLOCKED, "ClaimedBySeveralTenants")
            assert fault.reason in ADMISSION_REASONS, "the record counts on it"
            assert f"EncryptedResource {other} names" in fault.message
            assert "the platform engineer must remove one of the two manifests" in fault.message


def test_a_manifest_that_its_tenant_does_not_allow_stops_no_manifest_of_another_tenant() -> None:
    inventory = two_tenants({}, APPLIED)
    inventory.put(
        CustomerTenant.plural,
        tenant_body("fabrikam", allowedNamespaces=["team-c"])
        | {"metadata": {"name": "fabrikam", "uid": "uid-None-fabrikam", "resourceVersion": "200", "generation": 2}},
    )
    assert isinstance(resolved(inventory), ResourcePath)


def test_a_deleted_manifest_can_go_although_another_tenant_claims_its_resource() -> None:
    inventory = two_tenants({}, {})
    body = resource_body()
    body["metadata"] |= {"deletionTimestamp": "2026-11-24T12:00:00Z", "resourceVersion": "200"}
    inventory.put(EncryptedResource.plural, body)
    assert isinstance(resolved(inventory), ResourcePath)


def test_in_a_tenant_that_has_the_resource_the_older_manifest_keeps_it() -> None:
    inventory = two_tenants(APPLIED, {})
    inventory.put(EncryptedResource.plural, second())
    assert isinstance(resolved(inventory), ResourcePath)
    fault = resolved(inventory, "later")
    assert isinstance(fault, Fault)
    assert fault.reason == "TargetClaimed"


def test_when_the_older_manifest_goes_the_younger_one_takes_over() -> None:
    inventory = world(second())
    assert isinstance(resolved(inventory, "later"), Fault)
    inventory.remove(next(found for found in inventory.all(EncryptedResource.plural) if found.name == "data"))
    assert isinstance(resolved(inventory, "later"), ResourcePath)


def test_the_spelling_of_ids_makes_no_second_identity() -> None:
    inventory = world(
        federatedidentities=identity_body(
            tenantId=PROVIDER.upper(),
            application={"clientId": APPLICATION.upper()},
            managedIdentity={"resourceId": IDENTITY, "clientId": CLIENT.upper()},
        )
    )
    one, other = resolved(world()), resolved(inventory)
    assert isinstance(one, ResourcePath)
    assert isinstance(other, ResourcePath)
    assert one.path.chain == other.path.chain


def test_a_key_is_resolved_without_any_resource() -> None:
    inventory = world(without=EncryptedResource.plural)
    key = inventory.get(CustomerManagedKey, "storage", "team-a")
    assert key is not None
    assert isinstance(resolve_key(inventory, key), KeyPath)
    assert isinstance(resolve_resource(inventory, encrypted_resource()), ResourcePath)


def _uids(inventory: Inventory, namespace: str) -> tuple[Subject, Subject]:
    key, resource = inventory.get(CustomerManagedKey, "storage", namespace), inventory.get(EncryptedResource, "data", namespace)
    assert key is not None
    assert resource is not None
    return (
        Subject("CustomerManagedKey", namespace, "storage", key.metadata.uid),
        Subject("EncryptedResource", namespace, "data", resource.metadata.uid),
    )


def test_a_change_takes_the_share_of_the_tenant_that_admits_its_object_and_not_of_one_that_is_merely_named() -> None:
    inventory = world()
    for subject in _uids(inventory, "team-a"):
        assert tenant_in(inventory, subject) == "contoso"
        assert tenant_in(inventory, replace(subject, uid="another uid")) is None
    tenant, identity = inventory.get(CustomerTenant, "contoso"), inventory.get(FederatedIdentity, "provider")
    assert tenant is not None
    assert identity is not None
    assert tenant_in(inventory, Subject("CustomerTenant", "", "contoso", tenant.metadata.uid)) == "contoso"
    assert tenant_in(inventory, Subject("FederatedIdentity", "", "provider", identity.metadata.uid)) == ""
    assert tenant_in(inventory, Subject()) is None

    for plural, body in (
        ("customermanagedkeys", key_body(namespace="elsewhere")),
        ("encryptedresources", resource_body(namespace="elsewhere")),
    ):
        inventory.put(plural, body)
    for subject in _uids(inventory, "elsewhere"):
        assert tenant_in(inventory, subject) is None
