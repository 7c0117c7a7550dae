"""The key that protects a resource, and the key that should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.key_uri import KeyUri


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """The key that a resource must be on, and the identity with which Azure's service reaches it.

    `key_uri` without a version lets the service follow the latest; `probed_version` is the version that passed the probe.
    """

    key_uri: KeyUri
    probed_version: str
    managed_identity: ArmId
    application_client_id: str
    vault_region: str | None = None
    """The vault's region, such as `westeurope`; None if the vault does not report it."""
    key_size: int | None = None
    """Bits of the RSA key; None if unknown."""
    customer_tenant_id: str = ""


@dataclass(frozen=True, slots=True)
class Protection:
    """The key that the service reports: a customer's key with the version in force, or the platform key (`key_uri` None).

    `key_uri` has a version if the service is pinned to it; `active_version` is the one that wraps the data key now.
    """

    key_uri: KeyUri | None = None
    active_version: str | None = None

    @property
    def customer_managed(self) -> bool:
        """Whether a key in a vault protects the resource."""
        return self.key_uri is not None

    @property
    def active_key_uri(self) -> KeyUri | None:
        """The key in force, with its version if the service reports it."""
        if self.key_uri is None or self.active_version is None:
            return self.key_uri
        return self.key_uri.at(self.active_version)

    @property
    def active_key_text(self) -> str:
        """The URI of the key in force, as in status and audit record; empty for the platform key."""
        return str(self.active_key_uri or "")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a resource that would change."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before or '(unset)'} -> {self.after or '(unset)'}"
