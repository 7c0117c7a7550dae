"""Redacts whatever looks like a token, because Azure repeats assertions in some of its messages."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?|(?i:bearer)\s+[A-Za-z0-9._~+/-]{20,}=*")


def redacted(text: str) -> str:
    """`text` without JSON Web Tokens and bearer tokens. Sources: RFC 7519 (tokens), RFC 6750 (bearer)."""
    return _TOKEN.sub("[token]", text)
