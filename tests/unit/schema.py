"""Checks a value against the structural schema of a custom resource definition, as far as the definitions use it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).resolve().parents[2] / "crds"
_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}


@cache
def status_schema(plural: str) -> Any:
    """The schema of a kind's status."""
    definition = yaml.safe_load((CRDS / f"cmk-operator.dev_{plural}.yaml").read_text(encoding="utf-8"))
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


def complaints(value: Any, schema: Any, path: str = "status") -> list[str]:
    """What the API server would refuse, or silently prune."""
    if not isinstance(value, _TYPES[schema["type"]]):
        return [f"{path} is not of type {schema['type']}"]
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path} is {value!r}, not one of {schema['enum']}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{path} is {value!r}, against {schema['pattern']}")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9):
            found.append(f"{path} has length {len(value)}")
    if isinstance(value, list):
        if len(value) > schema.get("maxItems", 10**9):
            found.append(f"{path} has {len(value)} entries")
        found += [line for number, item in enumerate(value) for line in complaints(item, schema["items"], f"{path}[{number}]")]
    if isinstance(value, dict):
        found += [f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        known = schema.get("properties", {})
        found += [f"{path}.{name} is unknown and would be pruned" for name in value if name not in known]
        found += [
            line for name, item in value.items() if name in known for line in complaints(item, known[name], f"{path}.{name}")
        ]
    return found
