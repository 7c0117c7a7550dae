"""Redacts whatever looks like a secret. Azure repeats assertions in some of its messages, and people put secrets into URLs.

Redaction is stable: a redacted text, also as a value in a line of JSON, is not changed again. The audit record relies on that,
because the digests of its entries also hold for the copies in the log.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

TOKEN: Final = "[token]"  # noqa: S105 - what is shown in place of a token
SECRET: Final = "[secret]"  # noqa: S105 - what is shown in place of a secret
UNREADABLE_HOST: Final = "an address that cannot be read"

# A JSON Web Token (RFC 7519), and the token of a bearer (RFC 6750).
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*|(?i:bearer)\s+[A-Za-z0-9._~+/-]{20,}=*")
_VALUE: Final = r"[^\s\"'\\&#<>,;{}\[\]]+"
_BEFORE: Final = r"(?<![A-Za-z0-9])"
_QUOTE: Final = r"\\*[\"']?"
_NAMES: Final = (
    r"client[_-]?secret|shared[_-]?access[_-]?key|"
    r"account[_-]?key|api[_-]?key|x-functions-key|subscription[_-]key|private[_-]?key"
)
_SECRETS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # A block in the form of RFC 7468, also one that is cut off, and one whose line ends are escaped.
        r"(?P<kept>)-----BEGIN [A-Z0-9 ]+-----(?:[A-Za-z0-9+/=\s:,]|\\+[rn]|-(?!----))*(?:-----END [A-Z0-9 ]+-----)?",
        # A signing secret of Standard Webhooks.
        r"(?P<kept>)whsec_[A-Za-z0-9+/_=-]+",
        # An entry of a form, of a connection string or of JSON.
        rf"(?P<kept>{_BEFORE}(?:{_NAMES}){_QUOTE}\s*[:=]\s*{_QUOTE}){_VALUE}",
        rf"(?P<kept>{_BEFORE}(?:password|passwd|pwd|secret|sig|signature)(?:{_QUOTE}\s*=\s*{_QUOTE}|\\*[\"']\s*:\s*\\*[\"'])){_VALUE}",
        # A parameter of a URL that usually is a secret.
        rf"(?P<kept>[?&](?:code|key|token|auth|apikey|hmac)=){_VALUE}",
        # The user and the password of a URL.
        r"(?P<kept>://)[^\s\"'\\/@\[\]]+(?=@)",
    )
)
_TOKENS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # The header of a request.
        rf"(?P<kept>{_BEFORE}authorization{_QUOTE}\s*[:=]\s*{_QUOTE})(?:[A-Za-z0-9-]+\s+)?{_VALUE}",
        rf"(?P<kept>{_BEFORE}(?:client[_-]?assertion|access[_-]?token|refresh[_-]?token|id[_-]?token){_QUOTE}\s*[:=]\s*{_QUOTE}){_VALUE}",
    )
)
_LIKELY: Final = re.compile(
    r"-----BEGIN|whsec_|authorization|secret|assertion|token|key|password|passwd|pwd|sig|code=|auth=|hmac=|://[^/\s]*@",
    re.IGNORECASE,
)
"""What every text with a secret contains: nearly all texts contain none, and are then read only once."""


def redacted(text: str) -> str:
    """`text` without tokens, signatures, passwords, private keys, and other secrets in the forms in which they are usual."""
    if _LIKELY.search(text) is not None:
        for pattern in _SECRETS:
            text = pattern.sub(rf"\g<kept>{SECRET}", text)
        for pattern in _TOKENS:
            text = pattern.sub(rf"\g<kept>{TOKEN}", text)
    return _TOKEN.sub(TOKEN, text)


def host_of(url: str) -> str:
    """The host of a URL, with its port if it names one: a path or query may be a secret, and so may user and password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return UNREADABLE_HOST
    if not host:
        return UNREADABLE_HOST
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
