"""Whose vault an organization may name is decided from Kubernetes' objects alone, before any call to Azure."""

from __future__ import annotations

from typing import Any

import pytest

from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.faults.fault import Fault
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.kubernetes.observations import Observations
from cmk_operator.reconcile.references import OrganizationPath, refusal_of, resolve_organization
from tests.unit.samples import APPLICATION, CUSTOMER, KEY, NOW, identity_body, tenant_body

PLURAL = OrganizationKey.plural


def body(
    name: str = "acme", namespace: str | None = None, created: str = "2026-11-24T12:00:00Z", status: Any = None, **spec: Any
) -> dict[str, Any]:
    """An OrganizationKey on the key of the tenant, in a namespace that it allows."""
    tenant = tenant_body()
    whole = {
        "organization": {"id": "acme", "name": "Acme Corp"},
        "mode": "CustomerManaged",
        "confirmation": "Acme Corp",
        "tenantRef": {"name": tenant["metadata"]["name"]},
        "keyUri": KEY,
        "access": {"application": {}},
    }
    metadata = {
        "name": name,
        "namespace": namespace or tenant["spec"]["allowedNamespaces"][0],
        "uid": f"{namespace}/{name}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": created,
    }
    present = {field: value for field, value in (whole | spec).items() if value is not None}
    return {"metadata": metadata, "spec": present, "status": status or {}}


def world(*organizations: dict[str, Any], without: str = "") -> Inventory:
    """An inventory in which everything fits, apart from what is told."""
    inventory = Inventory()
    for plural, one in {FederatedIdentity.plural: identity_body(), CustomerTenant.plural: tenant_body()}.items():
        if plural != without:
            inventory.put(plural, one)
    for one in organizations:
        inventory.put(PLURAL, one)
    return inventory


def resolved(inventory: Inventory, one: dict[str, Any]) -> OrganizationPath | Fault | None:
    """What the references of an object lead to."""
    return resolve_organization(inventory, OrganizationKey.model_validate(one))


def test_what_the_tenant_allows_leads_to_vault_and_application() -> None:
    one = body()
    found = resolved(world(one), one)
    assert isinstance(found, OrganizationPath)
    assert str(found.key_uri) == KEY
    assert (found.access.tenant_id, found.access.application_client_id) == (CUSTOMER, APPLICATION)


def test_the_platform_key_needs_no_tenant() -> None:
    one = body(mode=None, confirmation=None, keyUri=None, access=None, tenantRef=None)
    assert resolved(world(one, without=CustomerTenant.plural), one) is None


def test_an_own_registration_needs_no_application_of_the_platform() -> None:
    credentials = [{"secretRef": {"name": "vault", "key": "secret"}}]
    one = body(access={"registration": {"clientId": APPLICATION.upper(), "credentials": credentials}})
    found = resolved(world(one), one)
    assert isinstance(found, OrganizationPath)
    assert (found.access.method, found.access.client_id, found.access.application_client_id) == (
        "Registration",
        APPLICATION,
        None,
    )


@pytest.mark.parametrize(
    ("one", "without", "reason"),
    [
        (body(namespace="another"), "", "NamespaceNotAllowed"),
        (body(keyUri="https://theirs.vault.azure.net/keys/storage"), "", "VaultNotAllowed"),
        (body(keyUri="https://contoso.vault.usgovcloudapi.net/keys/storage"), "", "WrongCloud"),
        (body(tenantRef={"name": "nobody"}), "", "TenantNotFound"),
        (body(), FederatedIdentity.plural, "IdentityNotFound"),
        (body(confirmation="another name"), "", "InvalidManifest"),
        (body(access=None), "", "InvalidManifest"),
    ],
)
def test_everything_else_is_refused_with_the_reason(one: dict[str, Any], without: str, reason: str) -> None:
    inventory = world(one, without=without)
    found = resolved(inventory, one)
    assert isinstance(found, Fault)
    assert found.reason == reason
    assert refusal_of(inventory, OrganizationKey.model_validate(one)) == found


@pytest.mark.parametrize("accepted", [True, False])
def test_an_organization_belongs_to_the_oldest_object_whatever_its_namespace_and_settings(*, accepted: bool) -> None:
    settings = {
        "accepted": {
            "revision": 1,
            "mode": "PlatformManaged",
            "kid": "platform-key",
            "since": NOW.isoformat(),
            "probeIntervalSeconds": 1,
            "outageGraceSeconds": 0,
        }
    }
    older = body("older", "elsewhere", "2026-11-24T11:59:59Z")
    younger = body(status=settings if accepted else None)
    inventory = world(older, younger)
    found = resolved(inventory, younger)
    assert isinstance(found, Fault)
    assert (found.reason, "elsewhere/older" in found.message) == ("OrganizationTaken", True)
    own = ObjectReference(PLURAL, younger["metadata"]["namespace"], "acme")
    other = ObjectReference(PLURAL, "elsewhere", "older")
    assert inventory.related_to(other) == {own}, "it is looked at again when the older one goes"
    inventory.remove(other)
    assert isinstance(resolved(inventory, younger), OrganizationPath)


def test_a_claim_grows_old_by_the_interval_of_the_key_in_force() -> None:
    accepted = {"kid": KEY, "probeIntervalSeconds": 900, "access": {"method": "Application"}}
    inventory = world(
        body("slow", status={"accepted": accepted}), body("platform", status={"accepted": {"probeIntervalSeconds": 1}})
    )
    seconds = 0.0
    observations = Observations(inventory, {PLURAL: 100.0}, lambda: NOW, lambda: seconds)
    namespace = tenant_body()["spec"]["allowedNamespaces"][0]
    slow, platform = (ObjectReference(PLURAL, namespace, name) for name in ("slow", "platform"))
    for reference in (slow, platform):
        observations.saw(reference, NOW)
    seconds = 101.0
    assert (observations.is_old(slow), observations.is_old(platform)) == (False, True)
    seconds = 2700.0
    assert observations.is_old(slow)


def test_what_the_key_service_reports_asks_for_a_pass_and_the_time_of_its_report_does_not() -> None:
    one = body(status={"dataKeys": {"total": 1, "observedAt": "2026-11-24T12:00:00Z"}})
    inventory = world(one)

    def put(version: str, **data_keys: Any) -> bool:
        newer = one | {"metadata": one["metadata"] | {"resourceVersion": version}, "status": {"dataKeys": data_keys}}
        return inventory.put(PLURAL, newer)[1]

    assert not put("2", total=1, observedAt="2026-11-24T12:01:00Z")
    assert put("3", total=2, observedAt="2026-11-24T12:02:00Z")
