"""Redacts whatever looks like a secret. Azure repeats assertions in some of its messages, and people put secrets into URLs.

Redaction is stable: a redacted text, also as a value in a line of JSON, is not changed again. The audit record relies on that,
because the digests of its entries also hold for the copies in the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

TOKEN: Final = "[token]"  # noqa: S105 - what is shown in place of a token
SECRET: Final = "[secret]"  # noqa: S105 - what is shown in place of a secret
UNREADABLE_HOST: Final = "an address that cannot be read"

_VALUE: Final = r"[^\s\"'\\&#<>,;{}\[\]]+"
_BEFORE: Final = r"(?<![A-Za-z0-9])"
_QUOTE: Final = r"\\*[\"']?"
_NAMES: Final = (
    r"client[_-]?secret|shared[_-]?access[_-]?key|"
    r"account[_-]?key|api[_-]?key|x-functions-key|subscription[_-]key|private[_-]?key"
)


@dataclass(frozen=True, slots=True)
class _Form:
    """A usual form of a secret."""

    pattern: re.Pattern[str]
    words: tuple[str, ...]
    """In lower case; each text with a secret of this form has one of them. The search for a word is a hundred times as fast."""
    shown: str


def _secret(pattern: str, *words: str) -> _Form:
    return _Form(re.compile(pattern, re.IGNORECASE), words, rf"\g<kept>{SECRET}")


def _token(pattern: str, *words: str) -> _Form:
    return _Form(re.compile(pattern, re.IGNORECASE), words, rf"\g<kept>{TOKEN}")


_FORMS: Final = (
    # A block in the form of RFC 7468, also one that is cut off, and one whose line ends are escaped.
    _secret(
        r"(?P<kept>)-----BEGIN [A-Z0-9 ]+-----(?:[A-Za-z0-9+/=\s:,]|\\+[rn]|-(?!----))*(?:-----END [A-Z0-9 ]+-----)?",
        "-----begin",
    ),
    # A signing secret of Standard Webhooks.
    _secret(r"(?P<kept>)whsec_[A-Za-z0-9+/_=-]+", "whsec_"),
    # An entry of a form, of a connection string or of JSON.
    _secret(
        rf"(?P<kept>{_BEFORE}(?:{_NAMES}){_QUOTE}\s*[:=]\s*{_QUOTE}){_VALUE}",
        *(f"client{dash}secret" for dash in ("", "_", "-")),
        *(f"{start}{dash}key" for start in ("access", "account", "api", "private") for dash in ("", "_", "-")),
        "functions-key",
        *(f"subscription{dash}key" for dash in ("_", "-")),
    ),
    _secret(
        rf"(?P<kept>{_BEFORE}(?:password|passwd|pwd|secret|sig|signature)(?:{_QUOTE}\s*=\s*{_QUOTE}|\\*[\"']\s*:\s*\\*[\"'])){_VALUE}",
        *("password", "passwd", "pwd", "secret", "sig"),
    ),
    # A parameter of a URL that usually is a secret.
    _secret(rf"(?P<kept>[?&](?:code|key|token|auth|apikey|hmac)=){_VALUE}", *("code=", "key=", "token=", "auth=", "hmac=")),
    # The user and the password of a URL.
    _secret(r"(?P<kept>://)[^\s\"'\\/@\[\]]+(?=@)", "@"),
    # The header of a request.
    _token(rf"(?P<kept>{_BEFORE}authorization{_QUOTE}\s*[:=]\s*{_QUOTE})(?:[A-Za-z0-9-]+\s+)?{_VALUE}", "authorization"),
    _token(
        rf"(?P<kept>{_BEFORE}(?:client[_-]?assertion|access[_-]?token|refresh[_-]?token|id[_-]?token){_QUOTE}\s*[:=]\s*{_QUOTE}){_VALUE}",
        *("assertion", "token"),
    ),
    # A JSON Web Token (RFC 7519), and the token of a bearer (RFC 6750).
    _Form(
        re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*|(?i:bearer)\s+[A-Za-z0-9._~+/-]{20,}=*"),
        ("eyj", "bearer"),
        TOKEN,
    ),
)


def redacted(text: str) -> str:
    """`text` without tokens, signatures, passwords, private keys, and other secrets in the forms in which they are usual."""
    lowered = text.lower()
    for form in _FORMS:
        # Some other letters count as one of ASCII if case is ignored, such as the sign of kelvin as k: no search for words then.
        if not text.isascii() or any(word in lowered for word in form.words):
            text = form.pattern.sub(form.shown, text)
            lowered = text.lower()
    return text


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
