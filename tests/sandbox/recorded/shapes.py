"""Compares a JSON value with a shape: which fields, of which types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float), "boolean": (bool,), "null": (type(None),)}


def differences(shape: Any, value: Any, where: str = "body") -> Iterator[str]:
    """Every way in which the value is not of the shape."""
    if isinstance(shape, dict):
        yield from _of_object(shape, value, where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where} is no list: {value!r}"
        elif shape and not value:
            yield f"{where} is empty"
        else:
            for number, item in enumerate(value):
                yield from differences(shape[0] if shape else "any", item, f"{where}[{number}]")
    elif not any(_is(one, value) for one in ([shape] if shape[:1] in {"=", "~"} else shape.split("|"))):
        yield f"{where} is not {shape}: {value!r}"


def _of_object(shape: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object: {value!r}"
        return
    known = {name.removesuffix("?"): (one, name.endswith("?")) for name, one in shape.items() if name != "*"}
    for name, (one, optional) in known.items():
        if name in value:
            yield from differences(one, value[name], f"{where}.{name}")
        elif not optional:
            yield f"{where}.{name} is missing"
    for name in value.keys() - known.keys():
        if "*" in shape:
            yield from differences(shape["*"], value[name], f"{where}.{name}")
        else:
            yield f"{where}.{name} is not in Azure's answer"


def _is(shape: str, value: Any) -> bool:
    if shape == "any":
        return True
    if shape.startswith("="):
        return bool(value == shape[1:])
    if shape.startswith("~"):
        return isinstance(value, str) and re.search(shape[1:], value) is not None
    return isinstance(value, TYPES[shape]) and (shape == "boolean" or not isinstance(value, bool))
