"""What protects a resource, in exactly one of four ways, and the key that should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KEY_VERSION, InvalidKeyUriError, parse_reported_key_uri
from cmk_operator.core.text.foreign_text import cleaned

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.key_uri import KeyUri

LONGEST_NAME: Final = 300
"""Most characters of what a service names instead of a key in a Key Vault."""


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
class OnKey:
    """A key in a Key Vault protects the resource, the wanted one or any other.

    `uri` has a version if the service is pinned to it; `active_version` is the one that wraps the data key now.
    """

    uri: KeyUri
    active_version: str | None = None

    @property
    def in_force(self) -> KeyUri:
        """The key in force, with its version if the service reports it."""
        return self.uri if self.active_version is None else self.uri.at(self.active_version)


@dataclass(frozen=True, slots=True)
class MicrosoftManaged:
    """The service says that its own key protects the resource; for a database without a key of its own: its server's."""


@dataclass(frozen=True, slots=True)
class OnAnotherKey:
    """The service names something that is neither its own key nor a key in a Key Vault that the operator can read.

    Such as a key in a managed HSM, a protector of an unknown type, or a set that does not exist.
    """

    said: str
    """What the service named, cleaned for messages, status and record; never empty."""

    def __post_init__(self) -> None:
        """Clean what others wrote."""
        object.__setattr__(self, "said", cleaned(self.said, LONGEST_NAME) or "something that has no name")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The answer lacks what it takes to say what protects the resource, so nothing is concluded from it."""

    what: str
    """What is missing, in our own words; the same for each such answer."""
    reason: Reason = Reason.UNREADABLE


Protection: TypeAlias = OnKey | MicrosoftManaged | OnAnotherKey | Unreadable
"""What protects a resource, as its service reports it. A write starts only from the first two (`start_of`)."""


def key_in_force(protection: Protection) -> KeyUri | None:
    """The key in a Key Vault that protects the resource now; None if none does, or if that cannot be read."""
    return protection.in_force if isinstance(protection, OnKey) else None


def version_in_force(protection: Protection) -> str | None:
    """The version of the key that wraps the data key now; None if no key in a Key Vault does, or if it is not reported."""
    return protection.active_version if isinstance(protection, OnKey) else None


def text_in_force(protection: Protection) -> str | None:
    """What protects the resource, as in status and audit record; empty for the service's own key, None if it cannot be read."""
    match protection:
        case OnKey():
            return str(protection.in_force)
        case MicrosoftManaged():
            return ""
        case OnAnotherKey():
            return protection.said
        case Unreadable():
            return None


def named(text: str, *, version: str | None = None, following: bool = False) -> OnKey | OnAnotherKey:
    """The protection by the key that a service names with a whole identifier, and by no key that it does not name.

    `version` is the one in force, if the service reports it beside the identifier. A service that is `following` the latest
    version changes the version by itself, so that its key has none.
    """
    try:
        key = parse_reported_key_uri(text)
    except InvalidKeyUriError:
        return OnAnotherKey(text)
    known = version if version and KEY_VERSION.fullmatch(version) else None
    return OnKey(key.versionless if following else key, key.version or known)


def start_of(protection: Protection, way: str) -> OnKey | MicrosoftManaged | Fault:
    """The protection from which a write may start, or the fault that forbids every write.

    `way` says who must do what before a resource of the kind can leave a key that the operator cannot read.
    """
    match protection:
        case OnKey() | MicrosoftManaged():
            return protection
        case OnAnotherKey(said):
            message = (
                f"the service reports that the resource is on {said!r}, which is neither its own key nor a key in a Key Vault that the "
                f"operator can read, so nothing is written: {way}; then the operator puts it on the key of the manifest"
            )
            return blocked(Reason.ON_ANOTHER_KEY, message, Actor.PROVIDER_ADMINISTRATOR)
        case Unreadable(what):
            message = (
                f"the answer about the resource cannot be read ({what}), so nothing is concluded from it and nothing is written"
            )
            return busy(protection.reason, message)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a resource that would change."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before or '(unset)'} -> {self.after or '(unset)'}"
