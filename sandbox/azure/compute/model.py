"""Disk encryption sets, disks and virtual machines as they are kept in memory; times are virtual seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sandbox.azure.key_vault.identifiers import key_of

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import IdentitySettings

PLATFORM_KEY = "EncryptionAtRestWithPlatformKey"
CUSTOMER_KEY = "EncryptionAtRestWithCustomerKey"
CONFIDENTIAL = "ConfidentialVmEncryptedWithCustomerKey"
CONFIDENTIAL_DISK = "ConfidentialVM_DiskEncryptedWithCustomerKey"
"""The security type of a disk that a confidential virtual machine encrypts with the key of a set."""
Power = Literal["running", "stopped", "deallocated"]


@dataclass(frozen=True)
class KeyUrl:
    """A key with its version, as a disk encryption set names it; `text` is how it was written."""

    text: str
    vault_uri: str
    vault: str
    name: str
    version: str

    @staticmethod
    def parsed(text: str) -> KeyUrl | None:
        """None for anything that is not a key's URL with its version."""
        found = key_of(text)
        if found is None or not found.version:
            return None
        return KeyUrl(text, found.vault_uri, found.vault, found.name, found.version)

    def at(self, version: str) -> KeyUrl:
        """Another version of the same key."""
        return KeyUrl(f"{self.vault_uri}/keys/{self.name}/{version}", self.vault_uri, self.vault, self.name, version)

    def same_key(self, other: KeyUrl) -> bool:
        """Whether only the version may differ."""
        return (self.vault, self.name.lower()) == (other.vault, other.name.lower())


@dataclass
class Resource:
    """What all three kinds have in common."""

    id: str
    name: str
    location: str
    tenant_id: str
    created: float
    state: str = "Succeeded"
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SetSettings:
    """What a client chooses about a set's key; `auto` is rotationToLatestKeyVersionEnabled."""

    key: KeyUrl | None
    auto: bool
    federated_client_id: str | None
    identity: IdentitySettings


@dataclass(kw_only=True)
class EncryptionSet(Resource):
    """A disk encryption set."""

    encryption_type: str
    settings: SetSettings
    source_vault: str | None = None
    previous: tuple[KeyUrl, ...] = ()
    rotated: float | None = None
    rotation_error: dict[str, str] | None = None


@dataclass
class DiskKey:
    """The disk's data encryption key, wrapped under one version of the customer's key.

    `verified` is when the customer's key last unwrapped it.
    """

    wrapped: bytes
    key: KeyUrl
    verified: float


@dataclass(kw_only=True)
class Disk(Resource):
    """A managed disk; `plain` is its data encryption key while Microsoft's own key protects it.

    `encrypted_inside` is whether it is or was once under Azure Disk Encryption, which no disk can undo.
    """

    plain: bytes
    sku: str
    size: int
    creation: dict[str, Any]
    encryption_type: str = PLATFORM_KEY
    set_id: str | None = None
    secure_set_id: str | None = None
    """The set of a confidential virtual machine's disk, which encrypts it above the storage service."""
    key: DiskKey | None = None
    managed_by: str | None = None
    encrypted_inside: bool = False
    access_until: float = 0.0
    zones: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Machine(Resource):
    """A virtual machine with the ids of its disks; `system` is the disk that it boots from."""

    power: Power
    system: str
    system_settings: dict[str, Any]
    data: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    zones: list[str] = field(default_factory=list)
    identity: dict[str, Any] | None = None

    @property
    def disks(self) -> list[str]:
        """All of its disks."""
        return [self.system, *(one for one, _ in self.data)]


KindT = TypeVar("KindT", bound=Resource)


class Shelf(dict[str, KindT]):
    """All resources of one kind by their id in lower case."""

    def find(self, resource_id: str) -> KindT | None:
        """By id in any case."""
        return self.get(resource_id.lower())

    def put(self, resource: KindT) -> None:
        """Add it."""
        self[resource.id.lower()] = resource

    def remove(self, resource: KindT) -> None:
        """Forget it."""
        del self[resource.id.lower()]

    def under(self, scope: str) -> list[KindT]:
        """Those in a subscription or a group, in the order of creation."""
        return [one for key, one in self.items() if key.startswith(scope.lower() + "/")]


class Fleet:
    """Everything of Microsoft.Compute."""

    def __init__(self) -> None:
        self.sets: Shelf[EncryptionSet] = Shelf()
        self.disks: Shelf[Disk] = Shelf()
        self.machines: Shelf[Machine] = Shelf()

    def disks_of(self, encryption_set: EncryptionSet) -> list[Disk]:
        """The disks that the set protects."""
        wanted = encryption_set.id.lower()
        return [one for one in self.disks.values() if wanted in {(one.set_id or "").lower(), (one.secure_set_id or "").lower()}]

    def machine_of(self, disk: Disk) -> Machine | None:
        """The machine that has the disk."""
        return self.machines.find(disk.managed_by) if disk.managed_by else None

    def all(self) -> list[Resource]:
        """All resources."""
        return [*self.sets.values(), *self.disks.values(), *self.machines.values()]

    def state_of(self, disk: Disk, now: float) -> str:
        """`diskState`."""
        machine = self.machine_of(disk)
        if disk.access_until > now:
            return "ActiveSAS"
        if machine is None:
            return "Unattached"
        return "Reserved" if machine.power == "deallocated" else "Attached"
