"""The grammar of a Key Vault key identifier: the one gate between a manifest and the host that a token is sent to."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from cmk_operator.core.identifiers.cloud import CLOUDS

VAULT_NAME: Final = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){1,22}[a-z0-9]")
KEY_NAME: Final = re.compile(r"[0-9A-Za-z-]{1,127}")
KEY_VERSION: Final = re.compile(r"[0-9a-f]{32}")

_SHAPE = "https://<vault>.<suffix>/keys/<name>[/<version>]"


class InvalidKeyUriError(ValueError):
    """A text is not the identifier of a key in a Key Vault; the message says what to write instead."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyUri:
    """A key of one vault; `version` None follows the latest version. Identifiers are compared without regard to case.

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
    def versionless(self) -> KeyUri:
        """The same key, following its latest version."""
        return replace(self, version=None)

    def at(self, version: str) -> KeyUri:
        """The same key, pinned to `version`."""
        return replace(self, version=version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyUri) and str(self).lower() == str(other).lower()

    def __hash__(self) -> int:
        return hash(str(self).lower())

    def __str__(self) -> str:
        path = f"{self.vault_url}/keys/{self.key_name}"
        return f"{path}/{self.version}" if self.version else path


def parse_key_uri(text: str) -> KeyUri:
    """Read a key identifier under the Key Vault suffix of any cloud.

    Portals and PowerShell print `:443`; that is the default port and is dropped. Everything else that could send a
    token elsewhere (user info, other ports, other hosts, queries) is refused.
    Raises `InvalidKeyUriError`.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        # urlsplit would drop line ends and tabs and fold some letters to ASCII: two readers, two hosts.
        raise InvalidKeyUriError(
            f"keyUri {text!r} may hold only ASCII letters, digits and signs, and no blanks: write {_SHAPE}"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidKeyUriError(f"keyUri {text!r} is not a URL: write {_SHAPE}") from error
    if parts.scheme != "https":
        raise InvalidKeyUriError(f"keyUri must start with https://: write {_SHAPE}")
    if parts.username is not None or parts.password is not None or "?" in text or "#" in text:
        raise InvalidKeyUriError(f"keyUri may not carry user info, a query or a fragment: write {_SHAPE}")
    if port not in {None, 443}:
        raise InvalidKeyUriError("keyUri may not name a port: Key Vault listens on 443 only")
    host = (parts.hostname or "").lower()
    _check_host(host)
    return _read_path(host, parts.path)


def _check_host(host: str) -> None:
    vault, _, suffix = host.partition(".")
    if suffix.startswith("managedhsm."):
        raise InvalidKeyUriError("keyUri names a managed HSM: only keys in a Key Vault are supported")
    suffixes = sorted(cloud.key_vault_suffix for cloud in CLOUDS.values())
    if suffix not in suffixes:
        raise InvalidKeyUriError(f"keyUri host {host!r} is not a Key Vault: it must end in one of {', '.join(suffixes)}")
    if not VAULT_NAME.fullmatch(vault):
        raise InvalidKeyUriError(f"keyUri vault name {vault!r} must be 3 to 24 letters, digits and single hyphens")


def _read_path(host: str, path: str) -> KeyUri:
    if path.endswith("/"):
        raise InvalidKeyUriError("keyUri may not end with a slash: leave the version out to follow the latest")
    kind, *rest = path.removeprefix("/").split("/")
    if kind in {"secrets", "certificates"}:
        raise InvalidKeyUriError(f"keyUri names one of the vault's {kind}: it must name a key, under /keys/")
    if kind != "keys" or not 1 <= len(rest) <= 2:
        raise InvalidKeyUriError(f"keyUri path {path!r} is not a key: write {_SHAPE}")
    name, version = rest[0], rest[1] if len(rest) > 1 else None
    if not KEY_NAME.fullmatch(name):
        raise InvalidKeyUriError(f"keyUri key name {name!r} must be 1 to 127 letters, digits and hyphens")
    if version is not None and not KEY_VERSION.fullmatch(version):
        raise InvalidKeyUriError(f"keyUri version {version!r} must be 32 lower-case hexadecimal digits")
    return KeyUri(host, name, version)
