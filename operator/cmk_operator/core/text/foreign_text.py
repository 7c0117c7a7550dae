"""Cleans text that a message quotes: short, printable, and the same for each answer."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from cmk_operator.core.text.redaction import redacted

LONGEST_CODE: Final = 80
LONGEST_SENTENCE: Final = 300
LONGEST_MESSAGE: Final = 1000
_READ_OF_EACH: Final = 4
"""Only this multiple of the limit is read of a text, before it is cleaned."""
_HIDDEN: Final = "…"

# Trailers that Entra and Storage append for their support. Source: Entra "Handling errors and codes", Storage "Status and error codes".
_TRAILER: Final = re.compile(
    r"\b(?:trace|correlation|request|activity|tracking|client.?request)[ -]?id\b.*", re.IGNORECASE | re.DOTALL
)
_CHANGING: Final = re.compile(
    r"\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?"  # a GUID
    r"|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?)?(?:Z| ?[+-]\d\d:?\d\d)?"  # a date, with or without a time
    r"|\b\d{1,2}/\d{1,2}/\d{4}\b"
    r"|\b\d{1,2}:\d\d(?::\d\d)?(?:\.\d+)?(?: ?[ap]m)?\b"
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b"  # a hexadecimal id
    r"|'?\d+(?:\.\d+)?'? ?(?:ms|milliseconds?|s|sec|seconds?|min|minutes?|hours?)\b"  # a wait
    r"|\b\d+(?:[.,]\d+)*\b",  # any other number
    re.IGNORECASE,
)


def cleaned(text: str, limit: int) -> str:
    """The text without tokens, control and format characters, surrogates and repeated spaces; at most `limit` characters.

    Call it once, where a failure is created.
    """
    kept = redacted(text[: _READ_OF_EACH * limit])
    return _shortened(" ".join("".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in kept).split()), limit)


def shown_code(code: str) -> str:
    """An error code, cleaned for a message."""
    return _shortened(code, LONGEST_CODE)


def shown_sentence(text: str) -> str:
    """A sentence, cleaned for a message: without ids, times and numbers, which may differ between answers."""
    kept = _CHANGING.sub(_HIDDEN, _TRAILER.sub("", text))
    return _shortened(kept.strip(" .,;:([-"), LONGEST_SENTENCE)


def quoted(text: str) -> str:
    """A quotation to append to a message; empty if nothing is left to quote."""
    said = shown_sentence(text)
    return f": {said!r}" if said else ""


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
