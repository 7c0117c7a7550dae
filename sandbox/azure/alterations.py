"""Lets a resource stand in a state that no request can bring about: its object is altered in every answer that has it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.azure.faults import Fault


def altered(found: object, faults: Iterable[Fault]) -> object:
    """The JSON of an answer in which each named resource, by itself or in a list, is as its faults say."""
    changed = copy.deepcopy(found)
    for fault in faults:
        if not isinstance(changed, dict):
            return changed
        if _is(changed, fault.resource):
            fault.hits += 1
            changed = _changed(changed, fault)
        elif isinstance(changed.get("value"), list):
            changed["value"] = [_entry(one, fault) for one in changed["value"]]
    return changed


def _entry(found: object, fault: Fault) -> object:
    if not isinstance(found, dict) or not _is(found, fault.resource):
        return found
    fault.hits += 1
    return _changed(found, fault)


def _is(found: Mapping[str, Any], resource: str) -> bool:
    """Whether an object is the resource."""
    return str(found.get("id") or "").lower() == resource.lower()


def _changed(found: dict[str, Any], fault: Fault) -> object:
    whole: dict[str, Any] = {"": found}
    for pointer, value in fault.replace.items():
        _parent(whole, pointer)[_last(pointer)] = copy.deepcopy(value)
    for pointer in fault.remove:
        _parent(whole, pointer).pop(_last(pointer), None)
    return whole[""]


def _parent(whole: dict[str, Any], pointer: str) -> dict[str, Any]:
    """The object that holds what a JSON pointer (RFC 6901) names; objects on the way that are missing are made."""
    inner = whole
    for name in pointer.split("/")[:-1]:
        inner = inner.setdefault(_unescaped(name), {})
    return inner


def _last(pointer: str) -> str:
    return _unescaped(pointer.rsplit("/", 1)[-1])


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")
