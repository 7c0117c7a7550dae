"""How the resource providers read the URI of a vault and of a key: the host is a vault's own, and nothing else is in the URI.

https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from sandbox.azure.endpoints import here

_VAULT = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]", re.IGNORECASE)
_PATH = re.compile(r"/keys/(?P<name>[0-9a-z-]{1,127})(?:/(?P<version>[0-9a-f]{32})?)?", re.IGNORECASE)
_PLAIN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class KeyIdentifier:
    """A key of a vault; `version` is empty for the latest."""

    vault: str
    name: str
    version: str = ""

    @property
    def vault_uri(self) -> str:
        """The vault's URI, without a slash at its end."""
        return f"https://{self.vault}{here().vault_suffix}"


def _split(text: str) -> SplitResult | None:
    """None for what is no URI, or has a user, a query, a fragment, or a character that no URI has."""
    if _PLAIN.fullmatch(text) is None or any(one in text for one in "@?#\\%"):
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None


def _vault(host: str) -> str | None:
    """The vault whose own host this is: one label before the cloud's suffix."""
    label = host.lower().removesuffix(here().vault_suffix)
    return label if label != host.lower() and _VAULT.fullmatch(label) else None


def vault_of(text: str) -> str | None:
    """The vault that a vault's URI names: https, no path but `/`, no port. None for anything else."""
    parts = _split(text)
    return _vault(parts.netloc) if parts is not None and parts.scheme == "https" and parts.path in {"", "/"} else None


def key_of(text: str) -> KeyIdentifier | None:
    """The key that a key's URL names; `:443`, as some tools write it, is allowed. None for anything else."""
    parts = _split(text)
    vault = _vault(parts.netloc.removesuffix(":443")) if parts is not None and parts.scheme == "https" else None
    if parts is None or vault is None:
        return None
    match = _PATH.fullmatch(parts.path)
    return KeyIdentifier(vault, match["name"], (match["version"] or "").lower()) if match else None
