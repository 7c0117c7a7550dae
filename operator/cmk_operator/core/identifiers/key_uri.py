"""The grammar of a Key Vault key identifier; it alone decides to which host a token is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cmk_operator.core.identifiers.cloud import CLOUDS

VAULT_NAME: Final = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]")
KEY_NAME: Final = re.compile(r"[0-9A-Za-z-]{1,127}")
KEY_VERSION: Final = re.compile(r"[0-9a-f]{32}")
DOUBLE_HYPHEN: Final = "^https://[^/]*--"
"""Matches double hyphens, which `GRAMMAR` admits but vault names forbid; the API server's regular expressions lack look-ahead."""
GRAMMAR: Final = (
    "^https://[a-z][a-z0-9-]{1,22}[a-z0-9][.]"
    f"({'|'.join(sorted(cloud.key_vault_suffix for cloud in CLOUDS.values())).replace('.', '[.]')})"
    "/keys/[0-9A-Za-z-]{1,127}(/[0-9a-f]{32})?$"
)
"""With `DOUBLE_HYPHEN`, the grammar that both the API server (CEL) and this module apply; each key has one spelling."""

_GRAMMAR: Final = re.compile(GRAMMAR.removesuffix("$"))
_REPORTED: Final = re.compile(r"(https://[^/?#@:\\]+)(?::443)?/keys/([^/]+)(?:/([^/]+))?/?", re.IGNORECASE)
_SHAPE = "https://<vault>.<suffix>/keys/<name>[/<version>]"


class InvalidKeyUriError(ValueError):
    """A text is not the identifier of a key in a Key Vault; the message says what to write instead."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyUri:
    """A key of one vault; `version` None follows the latest version. Comparison is case-insensitive.

    Source: Key Vault "About keys, secrets and certificates", object identifiers.
    """

    vault_host: str
    key_name: str
    version: str | None = None

    @property
    def vault_url(self) -> str:
        """Base URL of the vault, without a trailing slash."""
        return f"https://{self.vault_host}"

    @property
    def vault_name(self) -> str:
        """Name of the vault."""
        return self.vault_host.partition(".")[0]

    @property
    def versionless(self) -> KeyUri:
        """The same key, following its latest version."""
        return KeyUri(self.vault_host, self.key_name)

    def at(self, version: str) -> KeyUri:
        """The same key, pinned to `version`."""
        return KeyUri(self.vault_host, self.key_name, version)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, KeyUri) and self._folded == other._folded)

    def __hash__(self) -> int:
        return hash(self._folded)

    @property
    def _folded(self) -> tuple[str, str, str]:
        return self.vault_host.lower(), self.key_name.lower(), (self.version or "").lower()

    def __str__(self) -> str:
        path = f"{self.vault_url}/keys/{self.key_name}"
        return f"{path}/{self.version}" if self.version else path


@lru_cache(maxsize=4096)
def parse_key_uri(text: str) -> KeyUri:
    """Parse a key identifier under the Key Vault suffix of any cloud, as a manifest must spell it.

    Refuses everything that could send a token elsewhere: user info, ports, other hosts and queries.
    Raises `InvalidKeyUriError`.
    """
    if _GRAMMAR.fullmatch(text) is None or re.match(DOUBLE_HYPHEN, text) is not None:
        raise InvalidKeyUriError(_mistake_in(text))
    host, _, name, *version = text.removeprefix("https://").split("/")
    return KeyUri(host, name, version[0] if version else None)


def parse_reported_key_uri(text: str) -> KeyUri:
    """Parse a key identifier as Azure and its tools print it: only the key's name keeps its case, and `:443` or a slash may follow.

    Raises `InvalidKeyUriError`.
    """
    found = _REPORTED.fullmatch(text) if text.isascii() else None
    if found is None:
        return parse_key_uri(text)
    host, name, version = found.groups()
    return parse_key_uri("/".join((host.lower(), "keys", name, *([version.lower()] if version else []))))


def key_uri_or_none(text: str) -> KeyUri | None:
    """Parse a key identifier; None if the API server would not admit it."""
    try:
        return parse_key_uri(text)
    except InvalidKeyUriError:
        return None


def _mistake_in(text: str) -> str:
    """What is wrong with a text that is not a key identifier, and what to write instead."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return f"keyUri {text!r} may contain only printable ASCII characters and no spaces: write {_SHAPE}"
    if not text.startswith("https://"):
        return f"keyUri must start with https://: write {_SHAPE}"
    host, _, path = text.removeprefix("https://").partition("/")
    if "@" in host or "?" in text or "#" in text:
        return f"keyUri may not carry user info, a query or a fragment: write {_SHAPE}"
    if ":" in host and not host.startswith("["):
        return "keyUri may not name a port: Key Vault listens on 443 only"
    return _mistake_in_host(host) or _mistake_in_path(f"/{path}" if path or text.endswith("/") else "")


def _mistake_in_host(host: str) -> str:
    vault, _, suffix = host.partition(".")
    if suffix.startswith("managedhsm."):
        return "keyUri names a managed HSM: only keys in a Key Vault are supported"
    suffixes = sorted(cloud.key_vault_suffix for cloud in CLOUDS.values())
    if suffix not in suffixes:
        return f"keyUri host {host!r} is not a Key Vault: it must end in one of {', '.join(suffixes)}"
    if not VAULT_NAME.fullmatch(vault):
        return f"keyUri vault name {vault!r} must be 3 to 24 lower-case letters, digits and single hyphens"
    return ""


def _mistake_in_path(path: str) -> str:
    if path.endswith("/"):
        return "keyUri may not end with a slash: leave the version out to follow the latest"
    kind, *rest = path.removeprefix("/").split("/")
    if kind in {"secrets", "certificates"}:
        return f"keyUri names one of the vault's {kind}: it must name a key, under /keys/"
    if kind != "keys" or not 1 <= len(rest) <= 2:
        return f"keyUri path {path!r} is not a key: write {_SHAPE}"
    if not KEY_NAME.fullmatch(rest[0]):
        return f"keyUri key name {rest[0]!r} must be 1 to 127 letters, digits and hyphens"
    return f"keyUri version {rest[-1]!r} must be 32 lower-case hexadecimal digits"
