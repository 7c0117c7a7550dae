"""Tenants that allow the same resources are found by an index, and each is told which and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.tenant.overlap import scopes_distinct, wake_untold
from cmk_operator.reconcile.tenant.reconciler import tenant_status
from tests.unit.samples import ACCOUNT, GROUP, NOW, SUBSCRIPTION, federated_identity, identity_body, tenant_body

OTHER_GROUP = GROUP + "b"


def tenants(*bodies: dict[str, Any]) -> Inventory:
    inventory = Inventory()
    inventory.put(FederatedIdentity.plural, identity_body())
    for body in bodies:
        inventory.put(CustomerTenant.plural, body)
    return inventory


def reference(name: str) -> ObjectReference:
    return ObjectReference(CustomerTenant.plural, "", name)


def tenant_of(inventory: Inventory, name: str = "contoso") -> CustomerTenant:
    found = inventory.get(CustomerTenant, name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("scope", "shared"),
    [
        (GROUP, GROUP),
        (GROUP.upper(), GROUP),
        (f"/subscriptions/{SUBSCRIPTION}", GROUP),
        (ACCOUNT, ACCOUNT),
    ],
    ids=["the same", "spelled otherwise", "above", "below"],
)
def test_both_tenants_are_told_of_each_other_and_of_what_they_share(scope: str, shared: str) -> None:
    inventory = tenants(tenant_body(), tenant_body("fabrikam", allowedScopes=[OTHER_GROUP, scope]))
    for name, other in (("contoso", "fabrikam"), ("fabrikam", "contoso")):
        aspect = scopes_distinct(inventory, tenant_of(inventory, name))
        assert (aspect.status, aspect.reason) == ("False", "ScopesOverlap")
        assert f"{other} ({shared.lower()})" in aspect.message.lower()
        assert "the provider's administrator must correct" in aspect.message


def test_groups_whose_names_only_begin_alike_are_distinct() -> None:
    inventory = tenants(tenant_body(), tenant_body("fabrikam", allowedScopes=[OTHER_GROUP]))
    assert scopes_distinct(inventory, tenant_of(inventory)).status == "True"


def test_snowflake_accounts_overlap_too() -> None:
    inventory = tenants(
        tenant_body(allowedSnowflakeAccounts=["contoso-prod"]),
        tenant_body("fabrikam", allowedScopes=[OTHER_GROUP], allowedSnowflakeAccounts=["CONTOSO-prod"]),
    )
    assert scopes_distinct(inventory, tenant_of(inventory)).reason == "ScopesOverlap"


def test_of_many_tenants_a_few_are_named() -> None:
    inventory = tenants(tenant_body(), *(tenant_body(f"other-{number}") for number in range(50)))
    message = scopes_distinct(inventory, tenant_of(inventory)).message
    assert message.count("other-") == 3
    assert "and others" in message


_names = st.sampled_from(["a", "ab", "b"])
_scopes = st.one_of(
    st.just(f"/subscriptions/{SUBSCRIPTION}"),
    _names.map(lambda name: f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}"),
    st.tuples(_names, _names).map(
        lambda names: f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{names[0]}/providers/Microsoft.Sql/servers/{names[1]}"
    ),
)


@given(st.lists(st.lists(_scopes, min_size=1, max_size=3), min_size=2, max_size=5))
def test_the_index_finds_exactly_the_tenants_of_which_one_scope_lies_in_the_others(all_scopes: list[list[str]]) -> None:
    inventory = tenants(*(tenant_body(f"t{number}", allowedScopes=scopes) for number, scopes in enumerate(all_scopes)))
    for number, scopes in enumerate(all_scopes):
        expected = {
            reference(f"t{other}")
            for other, theirs in enumerate(all_scopes)
            if other != number and any(ArmId(a).lies_in(ArmId(b)) or ArmId(b).lies_in(ArmId(a)) for a in scopes for b in theirs)
        }
        assert inventory.allowing_the_same(reference(f"t{number}")) == expected
    for number in range(len(all_scopes)):
        inventory.remove(reference(f"t{number}"))
    assert not inventory.allowing_the_same(reference("t0"))


@dataclass
class Woken:
    """A cluster that remembers what it enqueues."""

    inventory: Inventory
    names: list[str] = field(default_factory=list)

    def wake(self, woken: ObjectReference, after: float) -> None:
        assert after == 0.0
        self.names.append(woken.name)


def told(inventory: Inventory, name: str) -> None:
    """Store the status that a pass writes."""
    tenant = tenant_of(inventory, name)
    aspect = scopes_distinct(inventory, tenant)
    status = tenant_status(tenant, federated_identity(), None, aspect, NOW, distinct=aspect)
    body = inventory.body(reference(name))
    assert body is not None
    version = str(int(body["metadata"]["resourceVersion"]) + 1)
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    inventory.put(CustomerTenant.plural, {**body, "metadata": {**body["metadata"], "resourceVersion": version}, "status": wire})


def woken_by(inventory: Inventory, name: str, *, is_new: bool) -> list[str]:
    cluster = Woken(inventory)
    wake_untold(cluster, reference(name), is_new=is_new)  # type: ignore[arg-type]  # the part of a cluster that it needs
    return cluster.names


def test_the_other_tenant_is_told_at_once_of_a_new_overlap_and_of_its_end_and_nobody_else() -> None:
    inventory = tenants(tenant_body(), tenant_body("apart", allowedScopes=[OTHER_GROUP]))
    for name in ("contoso", "apart"):
        told(inventory, name)
    inventory.put(CustomerTenant.plural, tenant_body("fabrikam", allowedScopes=[ACCOUNT]))
    assert woken_by(inventory, "fabrikam", is_new=True) == ["contoso"]
    told(inventory, "contoso")
    assert woken_by(inventory, "fabrikam", is_new=True) == [], "once"
    inventory.remove(reference("fabrikam"))
    assert woken_by(inventory, "fabrikam", is_new=False) == ["contoso"]
    told(inventory, "contoso")
    assert woken_by(inventory, "fabrikam", is_new=False) == []
