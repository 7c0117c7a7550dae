"""Every text, list and map of every kind has a size, and no status exceeds it, whatever it was made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cmk_operator.api.preflight import CheckReport, PreflightStatus
from cmk_operator.api.sizes import LARGEST_STATUS, LONGEST_TEXT, MOST_ENTRIES, cut_to
from cmk_operator.kubernetes.status import cut_status
from tests.unit.schema import CRDS, complaints, status_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFINITIONS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CRDS.glob("*.yaml"))}
LONGEST_NAME = 63
LARGEST_MANIFEST = 1_000_000
"""Bytes of a spec: with status and metadata it must fit into what etcd accepts."""


def schema_of(name: str) -> Any:
    return DEFINITIONS[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


def unbounded(schema: Any, path: str) -> Iterator[str]:
    """The paths of what has no size."""
    kind = schema.get("type")
    missing = {
        "string": "maxLength" not in schema and "enum" not in schema,
        "array": "maxItems" not in schema,
        "object": "properties" not in schema and "maxProperties" not in schema,
        "integer": False,
        "boolean": False,
    }.get(kind, True)
    if (
        missing
        or schema.get("x-kubernetes-preserve-unknown-fields")
        or ("additionalProperties" in schema and "maxProperties" not in schema)
    ):
        yield f"{path} ({kind})"
    if kind == "array":
        yield from unbounded(schema["items"], f"{path}[]")
    for name, inner in schema.get("properties", {}).items():
        yield from unbounded(inner, f"{path}.{name}")
    if "additionalProperties" in schema:
        yield from unbounded(schema["additionalProperties"], f"{path}.*")


def most(schema: Any) -> int:
    """Characters of the largest value in JSON."""
    match schema["type"]:
        case "string":
            return max([int(schema.get("maxLength", 0)), *map(len, schema.get("enum", ()))]) + 2
        case "array":
            return int(schema["maxItems"]) * (most(schema["items"]) + 1) + 2
        case "object" if "additionalProperties" in schema:  # by names that a rule bounds
            return int(schema["maxProperties"]) * (LONGEST_NAME + 4 + most(schema["additionalProperties"])) + 2
        case "object":
            return sum(len(name) + 4 + most(inner) for name, inner in schema["properties"].items()) + 2
        case _:
            return 21


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("part", ["spec", "status"])
def test_everything_has_a_size(name: str, part: str) -> None:
    assert part == "spec" or part in schema_of(name) or name.endswith("_licences"), "every other kind has a status"
    assert list(unbounded(schema_of(name).get(part, {"type": "object", "properties": {}}), part)) == []


@pytest.mark.parametrize("name", DEFINITIONS)
def test_no_manifest_is_larger_than_etcd_accepts(name: str) -> None:
    assert most(schema_of(name)["spec"]) < LARGEST_MANIFEST


@pytest.mark.parametrize(
    "plural",
    ["federatedidentities", "customertenants", "customermanagedkeys", "encryptedresources", "organizationkeys", "preflights"],
)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_status_fits_its_definition_once_it_is_cut(plural: str, data: st.DataObject) -> None:
    schema = status_schema(plural)
    status = data.draw(_values(schema))
    cut = cut_to(schema, status)
    assert [
        line for line in complaints(cut, schema) if ("has length" in line and "has length 0" not in line) or "entries" in line
    ] == []
    assert cut_to(schema, cut) == cut, "cut once and for all: a status is written only if it changes"
    assert len(json.dumps(cut, ensure_ascii=False).encode(errors="replace")) <= LARGEST_STATUS * 1.1


def _values(schema: Any) -> st.SearchStrategy[Any]:
    match schema["type"]:
        case "string":
            large = st.sampled_from(["x" * (LONGEST_TEXT + 9), "é" * 40_000, "🔑" * (LONGEST_TEXT + 1)])
            return st.sampled_from(schema["enum"]) if "enum" in schema else st.one_of(st.text(max_size=9), large)
        case "array":
            items = _values(schema["items"])
            many = st.tuples(items, st.sampled_from([0, 1, MOST_ENTRIES + 1, 300])).map(lambda pair: [pair[0]] * pair[1])
            return st.one_of(st.lists(items, max_size=2), many)
        case "object":
            return st.fixed_dictionaries({}, optional={name: _values(inner) for name, inner in schema["properties"].items()})
        case "boolean":
            return st.booleans()
        case _:
            return st.integers(0, 9)


def test_the_largest_answer_to_a_preflight_can_be_written() -> None:
    check = CheckReport(
        kind="EncryptedResource",
        name="n" * 253,
        stage="Get",
        result="Fail",
        reason="Failed",
        message="m" * 1000,
        command="c" * 1000,
    )
    status = PreflightStatus(checks=(check,) * 120 * 16)
    wire = cut_status(status)
    assert len(json.dumps(wire)) < 1_200_000
    assert len(wire["checks"]) == 120 * 16
    assert wire["checks"][0]["result"] == "Fail"


def test_a_small_status_stays_as_it_is() -> None:
    wire = {"observedGeneration": 1, "usedBy": ["a", "ü"], "conditions": []}
    assert cut_to(status_schema("customermanagedkeys"), wire) == wire
