"""The `$filter` expressions of Graph that the Azure tools send: equality, prefix, `any`, joined by `and`."""

from __future__ import annotations

import re
from typing import Any

from sandbox.azure.errors import GraphRefusedError

_EQUAL = re.compile(r"(\w+) eq (?:'((?:[^']|'')*)'|(true|false))", re.IGNORECASE)
_STARTS = re.compile(r"startswith\((\w+),\s*'((?:[^']|'')*)'\)", re.IGNORECASE)
_ANY = re.compile(r"(\w+)/any\(\s*(\w+)\s*:\s*\2 eq '((?:[^']|'')*)'\s*\)", re.IGNORECASE)


def _matches(item: dict[str, Any], term: str) -> bool:
    if match := _EQUAL.fullmatch(term):
        if match.group(3):
            return bool(item.get(match.group(1))) == (match.group(3).lower() == "true")
        return str(item.get(match.group(1), "")).lower() == match.group(2).replace("''", "'").lower()
    if match := _STARTS.fullmatch(term):
        return str(item.get(match.group(1), "")).lower().startswith(match.group(2).replace("''", "'").lower())
    if match := _ANY.fullmatch(term):
        return match.group(3).replace("''", "'").lower() in {str(one).lower() for one in item.get(match.group(1), ())}
    raise GraphRefusedError(400, "Request_UnsupportedQuery", f"Unsupported or invalid query filter clause specified: '{term}'.")


def filtered(items: list[dict[str, Any]], expression: str) -> list[dict[str, Any]]:
    """Those that match every term. Raises GraphRefusedError 400 Request_UnsupportedQuery."""
    terms = [one.strip() for one in re.split(r"\s+and\s+", expression, flags=re.IGNORECASE) if one.strip()]
    for term in terms:
        _matches({}, term)
    return [item for item in items if all(_matches(item, term) for term in terms)]
