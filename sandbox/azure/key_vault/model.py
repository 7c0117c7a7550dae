"""Vaults and keys as they are kept in memory."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sandbox.azure.endpoints import here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.azure.arm.bodies import AccessPolicy

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
DAY = 86_400.0


def encoded(number: int, length: int | None = None) -> str:
    """A big-endian integer in base64url, as JSON Web Keys carry it (RFC 7518, section 2)."""
    size = length or (number.bit_length() + 7) // 8
    return urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()


@dataclass
class KeyVersion:
    """One version of a key; times are virtual seconds since the epoch."""

    version: str
    key_type: str
    private: PrivateKey
    operations: list[str]
    enabled: bool
    not_before: int | None
    expires: int | None
    created: float
    updated: float
    tags: dict[str, str] = field(default_factory=dict)

    def public_jwk(self) -> dict[str, str]:
        """The public numbers."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = self.private.public_key().public_numbers()
            return {"n": encoded(numbers.n), "e": encoded(numbers.e)}
        point = self.private.public_key().public_numbers()
        size = (self.private.curve.key_size + 7) // 8
        name = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp256k1": "P-256K"}[
            self.private.curve.name
        ]
        return {"crv": name, "x": encoded(point.x, size), "y": encoded(point.y, size)}


@dataclass
class Key:
    """A key with all its versions, oldest first."""

    name: str
    versions: dict[str, KeyVersion] = field(default_factory=dict)
    rotation_policy: dict[str, Any] | None = None
    deleted: float | None = None
    purge_at: float | None = None
    recovered: float | None = None
    """When its last recovery began; it appears among the keys some time later."""

    @property
    def latest(self) -> KeyVersion:
        """The version made last."""
        return next(reversed(self.versions.values()))


@dataclass
class NetworkRules:
    """Who may reach the vault from the network."""

    bypass: str = "AzureServices"
    default_action: str = "Allow"
    ip_rules: list[str] = field(default_factory=list)
    virtual_network_rules: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class AccessSettings:
    """What a vault lets in, as the data plane knows it; `until` is when it was replaced, None for what Resource Manager shows."""

    rbac: bool
    access_policies: list[AccessPolicy]
    network: NetworkRules | None
    public_network_access: str
    until: float | None = None


@dataclass
class Vault:
    """A vault: the ARM resource and what it holds."""

    id: str
    name: str
    location: str
    tenant_id: str
    sku: dict[str, str]
    rbac: bool
    retention_days: int
    purge_protection: bool
    created: float
    creator: str = ""
    """The application that created it."""
    modified: float = 0.0
    modifier: str = ""
    rbac_was_sent: bool = True
    """Whether somebody ever said which permission model it has."""
    access_policies: list[AccessPolicy] = field(default_factory=list)
    network: NetworkRules | None = None
    public_network_access: str = "Enabled"
    switches: dict[str, bool] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    deleted_keys: dict[str, Key] = field(default_factory=dict)
    deleted: float | None = None
    purge_at: float | None = None
    recovered: float | None = None
    """When it was last recovered; its data plane answers some time later."""
    failed_over: bool = False
    """Whether the paired region serves it, read-only (https://learn.microsoft.com/azure/reliability/reliability-key-vault)."""
    replaced: list[AccessSettings] = field(default_factory=list)
    """Earlier settings, oldest first, because the data plane follows later."""

    def replace_settings(self, now: float) -> None:
        """Remember the settings before they change."""
        self.replaced = [*self.replaced[-20:], replace(self._settings(), until=now)]

    def settings(self, moment: float) -> AccessSettings:
        """The settings of a moment."""
        return next((one for one in self.replaced if one.until is not None and one.until > moment), self._settings())

    def _settings(self) -> AccessSettings:
        return AccessSettings(self.rbac, self.access_policies, self.network, self.public_network_access)

    @property
    def host(self) -> str:
        """The DNS name of the data plane."""
        return f"{self.name.lower()}{here().vault_suffix}"

    @property
    def uri(self) -> str:
        """As ARM shows it."""
        return f"https://{self.host}/"

    @property
    def recovery_level(self) -> str:
        """https://learn.microsoft.com/python/api/azure-keyvault-keys: soft delete is always on."""
        level = "Recoverable" if self.retention_days == 90 else "CustomizedRecoverable"
        return level if self.purge_protection else f"{level}+Purgeable"

    def key_id(self, key: str, version: str = "") -> str:
        """The full URL of a key or of a version."""
        return f"https://{self.host}/keys/{key}" + (f"/{version}" if version else "")


class Vaults:
    """All vaults, live and soft-deleted; names are unique over all of Azure."""

    def __init__(self) -> None:
        self._live: dict[str, Vault] = {}
        self._deleted: dict[str, Vault] = {}

    def live(self, name: str) -> Vault | None:
        """By name."""
        return self._live.get(name.lower())

    def serving(self, name: str, recovered_before: float) -> Vault | None:
        """A vault whose data plane answers: one that was not recovered after that moment."""
        vault = self.live(name)
        return None if vault is None or (vault.recovered is not None and vault.recovered > recovered_before) else vault

    def deleted(self, name: str, now: float) -> Vault | None:
        """A soft-deleted vault whose retention has not ended."""
        vault = self._deleted.get(name.lower())
        if vault is not None and vault.purge_at is not None and vault.purge_at <= now:
            del self._deleted[name.lower()]
            return None
        return vault

    def named(self, name: str, now: float) -> bool:
        """Whether a vault holds the name: a live one, or one that can be recovered."""
        return self.live(name) is not None or self.deleted(name, now) is not None

    def add(self, vault: Vault) -> None:
        """A new or a recovered vault."""
        self._live[vault.name.lower()] = vault
        self._deleted.pop(vault.name.lower(), None)

    def soft_delete(self, vault: Vault, now: float) -> None:
        """Out of reach until it is recovered; gone when the retention ends."""
        vault.deleted, vault.purge_at = now, now + vault.retention_days * DAY
        del self._live[vault.name.lower()]
        self._deleted[vault.name.lower()] = vault

    def purge(self, vault: Vault) -> None:
        """Gone for ever."""
        self._deleted.pop(vault.name.lower(), None)

    def all_live(self) -> Iterator[Vault]:
        """Every live vault."""
        yield from self._live.values()

    def all_deleted(self, now: float) -> Iterator[Vault]:
        """Every soft-deleted vault."""
        for name in list(self._deleted):
            if (vault := self.deleted(name, now)) is not None:
                yield vault


def new_version_id() -> str:
    """32 hexadecimal digits."""
    return uuid.uuid4().hex
