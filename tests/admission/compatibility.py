"""What of a new definition could refuse an object that the old one accepted, or lose what a client reads in it.

`python -m tests.admission.compatibility VERSION [COMMIT]` freezes the definitions of a release, without their descriptions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RELEASED: Final = Path(__file__).parent / "released"
_UPPER: Final = ("maxLength", "maxItems", "maxProperties", "maximum")
_LOWER: Final = ("minLength", "minItems", "minProperties", "minimum")
_SAME: Final = (
    "type",
    "pattern",
    "format",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "nullable",
)
_KEPT: Final = frozenset({"type", "nullable", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"})
"""Those that may not be left out either."""


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Each way in which a new CustomResourceDefinition takes something away, as `PATH: WHAT`."""
    before, after = old["spec"], new["spec"]
    for field in ("group", "scope"):
        if before[field] != after[field]:
            yield f"{field}: {before[field]} becomes {after[field]}"
    names, now = before["names"], after["names"]
    lost = {names["plural"], names["kind"], *names.get("shortNames", ())} - {
        now["plural"],
        now["kind"],
        *now.get("shortNames", ()),
    }
    yield from (f"names: {name} is gone" for name in sorted(lost))
    served = {version["name"]: version for version in after["versions"] if version["served"]}
    for version in before["versions"]:
        found = served.get(version["name"])
        if found is None:
            yield f"{version['name']}: is not served any more"
            continue
        if version["storage"] and not found["storage"]:
            yield f"{version['name']}: is not stored any more; what is stored must be written anew first"
        yield from _schema(version["schema"]["openAPIV3Schema"], found["schema"]["openAPIV3Schema"], version["name"])


def _schema(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _meaning(old, new, path)
    yield from _bounds(old, new, path)
    yield from _demands(old, new, path)
    for name, schema in old.get("properties", {}).items():
        below = f"{path}.{name}"
        if name in new.get("properties", {}):
            yield from _schema(schema, new["properties"][name], below)
        elif not new.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{below}: is gone"
    for field, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(old.get(field), dict) and isinstance(new.get(field), dict):
            yield from _schema(old[field], new[field], path + mark)
        elif field in old and field not in new:
            yield f"{path}: {field} is gone"


def _meaning(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    for field in _SAME:
        if field in new and old.get(field) != new[field]:
            yield f"{path}: {field} {old.get(field)} becomes {new[field]}"
        elif field in _KEPT and field in old and field not in new:
            yield f"{path}: {field} {old[field]} is gone"
    if "default" in new and old.get("default") != new["default"]:
        yield f"{path}: default {old.get('default')} becomes {new['default']}"


def _demands(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    if "enum" in new and (lost := [value for value in old.get("enum", ["any other"]) if value not in new["enum"]]):
        yield f"{path}: enum lacks {', '.join(map(str, lost))}"
    yield from (f"{path}: {name} becomes required" for name in new.get("required", ()) if name not in old.get("required", ()))
    rules = {rule["rule"] for rule in old.get("x-kubernetes-validations", ())}
    known = (rule["rule"] for rule in new.get("x-kubernetes-validations", ()))
    yield from (f"{path}: a new rule: {rule}" for rule in known if rule not in rules)


def _bounds(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    for field in _UPPER:
        if field in new and not old.get(field, float("inf")) <= new[field]:
            yield f"{path}: {field} {old.get(field)} becomes {new[field]}"
    for field in _LOWER:
        if field in new and not old.get(field, 0) >= new[field]:
            yield f"{path}: {field} {old.get(field)} becomes {new[field]}"


def without_descriptions(node: Any) -> Any:
    """A definition without its texts: they bind nobody."""
    if isinstance(node, dict):
        return {
            key: without_descriptions(value)
            for key, value in node.items()
            if key != "description" or not isinstance(value, str)
        }
    return [without_descriptions(value) for value in node] if isinstance(node, list) else node


def freeze(version: str, commit: str = "HEAD") -> None:
    """Write the definitions of a commit, one line each, as those of a release."""
    names = subprocess.check_output(["git", "ls-tree", "--name-only", commit, "crds/"], text=True).split()
    texts = [subprocess.check_output(["git", "show", f"{commit}:{name}"], text=True) for name in names]
    lines = [json.dumps(without_descriptions(yaml.safe_load(text)), separators=(",", ":")) for text in texts]
    RELEASED.mkdir(exist_ok=True)
    (RELEASED / f"{version}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def released(version: str) -> dict[str, dict[str, Any]]:
    """The frozen definitions of a release, by plural."""
    lines = (RELEASED / f"{version}.jsonl").read_text(encoding="utf-8").splitlines()
    return {definition["spec"]["names"]["plural"]: definition for definition in map(json.loads, lines)}


if __name__ == "__main__":
    freeze(*sys.argv[1:])
