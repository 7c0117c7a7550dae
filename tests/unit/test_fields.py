"""Which fields and values a kind has, by its model and by the definition that a cluster serves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.crd import KINDS, Kind, structural_schema
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.fields import Difference, differences, known_fields, listed, served_fields

SCHEMA = structural_schema(CustomerTenant)


def _document(schema: dict[str, Any]) -> dict[str, Any]:
    kind = {"group": "cmk-operator.dev", "kind": "CustomerTenant", "version": "v1alpha1"}
    return {"components": {"schemas": {"a": schema | {"x-kubernetes-group-version-kind": [kind]}, "b": {}}}}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_definitions_have_what_the_models_have(kind: Kind) -> None:
    known = known_fields(kind.model)
    assert len(known) > 10
    assert served_fields(structural_schema(kind.model), kind.model) == known


def test_a_definition_of_this_version_fits() -> None:
    assert differences(_document(SCHEMA), [CustomerTenant]) == ()


@given(st.data())
def test_whatever_field_an_older_definition_lacks_is_named(data: st.DataObject) -> None:
    schema = copy.deepcopy(SCHEMA)
    node, path = schema["properties"]["status"], "status"
    while True:
        name = data.draw(st.sampled_from(sorted(node["properties"])))
        path, inner = f"{path}.{name}", node["properties"][name]
        inner = inner.get("items", inner)
        if not inner.get("properties") or data.draw(st.booleans()):
            del node["properties"][name]
            break
        node = inner
    (found,) = differences(_document(schema), [CustomerTenant])
    assert path in found.lacks
    assert found.adds == ()
    assert all(one.startswith(path) for one in found.lacks)


def test_values_and_fields_of_a_newer_definition_are_named() -> None:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"]["properties"]["later"] = {"type": "string", "enum": ["One"]}
    assert differences(_document(schema), [CustomerTenant]) == (
        Difference("customertenants", lacks=(), adds=("spec.later", "spec.later=One")),
    )


@pytest.mark.parametrize("document", [{}, {"components": {}}, {"components": {"schemas": {"x": {}}}}])
def test_a_kind_that_is_not_served_is_left_out(document: dict[str, Any]) -> None:
    assert differences(document, [CustomerTenant]) == ()


def test_only_the_first_paths_are_listed() -> None:
    assert listed(("a", "b")) == "a, b"
    assert listed(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"
