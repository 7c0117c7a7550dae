"""A managed disk: how it is read, and the PATCH that puts it on a disk encryption set or back on a Microsoft-managed key.

Source: azure-mgmt-compute, `Disk`, `Encryption` and `DiskState`; "Server-side encryption of Azure Disk Storage", restrictions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import text_of
from cmk_operator.core.encryption.coverage import MICROSOFT_MANAGED, Part
from cmk_operator.core.encryption.protection import (
    FieldChange,
    KeyChoice,
    MicrosoftManaged,
    OnAnotherKey,
    Unreadable,
    key_in_force,
    start_of,
    text_in_force,
    version_in_force,
)
from cmk_operator.core.encryption.reported import protection_of
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.region import region_of
from cmk_operator.providers.disk.encryption_set import CREATING, MOVING_STATES, ProtectedDisk, confidential_part
from cmk_operator.providers.disk.kind import DISK
from cmk_operator.providers.disk.options import DiskPlacement
from cmk_operator.providers.protocol import Plan, ResourceFacts, Shown, Target

if TYPE_CHECKING:
    from azure.mgmt.compute.models import Disk, DiskSecurityProfile
    from azure.mgmt.compute.types import DiskUpdate

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.encryption.reported import Reported
    from cmk_operator.providers.disk.encryption_set import Facts as SetFacts

PLATFORM_KEY: Final = "EncryptionAtRestWithPlatformKey"
_NEEDS_A_SET: Final = frozenset({"encryptionatrestwithcustomerkey", "encryptionatrestwithplatformandcustomerkeys"})
_PLATFORM_GUEST: Final = frozenset(
    {"confidentialvm_vmgueststateonlyencryptedwithplatformkey", "confidentialvm_diskencryptedwithplatformkey"}
)
"""Values of `securityProfile.securityType` with which a Microsoft-managed key protects the guest state."""
_GUEST_STATE: Final = "guest state of the confidential virtual machine"
_ONLY_AT_CREATION: Final = (
    "Azure sets this only when a confidential virtual machine is created: the provider's administrator must create another one with "
    "confidential disk encryption and a disk encryption set, if its guest state must be under the customer's key"
)
_CHANGEABLE: Final = frozenset({"", "unattached", "reserved"})
"""Values of `diskState` in which Azure changes a disk's encryption: not attached, or attached to a deallocated machine."""
_ATTACHED: Final = frozenset({"attached", "frozen"})


@dataclass(frozen=True, slots=True)
class DiskDetail:
    """A disk, the set that it uses, and the set that its manifest names (None: it does not exist)."""

    id: ArmId
    location: str = ""
    encryption_type: str = PLATFORM_KEY
    encryption_set: ArmId | None = None
    secure_set: ArmId | None = None
    """The set with whose key a confidential virtual machine encrypts the disk; a disk has this one or `encryption_set`."""
    disk_state: str = ""
    attached_to: tuple[ArmId, ...] = ()
    state: str = ""
    wanted_set: SetFacts | None = None


Facts = ResourceFacts[DiskDetail]


def read_disk(disk: Disk) -> Facts:
    """Read the SDK's model of a disk; the keys of its sets are not in it."""
    protection = protection_of(disk, _protection)
    properties = disk.properties
    if isinstance(protection, Unreadable) or properties is None:
        return ResourceFacts(protection, DiskDetail(ArmId(text_of(disk.id))))
    encryption, security = properties.encryption, properties.security_profile
    machines = dict.fromkeys(filter(None, map(text_of, (disk.managed_by, *(disk.managed_by_extended or ())))))
    on_set = text_of(encryption.disk_encryption_set_id if encryption is not None else None)
    secure_set = text_of(security.secure_vm_disk_encryption_set_id if security is not None else None)
    detail = DiskDetail(
        id=ArmId(text_of(disk.id)),
        location=region_of(text_of(disk.location)),
        encryption_type=text_of(encryption.type if encryption is not None else None) or PLATFORM_KEY,
        encryption_set=ArmId(on_set) if on_set else None,
        secure_set=ArmId(secure_set) if secure_set else None,
        disk_state=text_of(properties.disk_state),
        attached_to=tuple(ArmId(machine) for machine in machines),
        state=text_of(properties.provisioning_state),
    )
    shown = Shown(attached_to=tuple(machine.name for machine in detail.attached_to))
    return ResourceFacts(protection, detail, shown, parts=_parts(detail, security))


def _parts(detail: DiskDetail, security: DiskSecurityProfile | None) -> tuple[Part, ...]:
    if detail.secure_set is not None:
        return (confidential_part(detail.id.name),)
    kind = text_of(security.security_type if security is not None else None).lower()
    return (Part(_GUEST_STATE, protected_by=MICROSOFT_MANAGED, remedy=_ONLY_AT_CREATION),) if kind in _PLATFORM_GUEST else ()


def _protection(disk: Reported) -> Protection:
    """What protects the disk, without its set: a disk that uses a set is on an unknown key until the set is read."""
    properties = disk.inner("properties")
    security = properties.optional("securityProfile")
    confidential = security.text("secureVMDiskEncryptionSetId") if security is not None else ""
    if confidential:
        return OnAnotherKey(f"disk encryption set {confidential} of its security profile")
    encryption = properties.inner("encryption")
    kind, on_set = encryption.required("type"), encryption.text("diskEncryptionSetId")
    if kind.lower() == PLATFORM_KEY.lower():
        return MicrosoftManaged()
    if on_set:
        return OnAnotherKey(f"disk encryption set {on_set}")
    if kind.lower() in _NEEDS_A_SET:
        encryption.required("diskEncryptionSetId")
    return OnAnotherKey(f"encryption of type {kind}")


def protected_disk(seen: Facts) -> ProtectedDisk:
    """The disk as an entry of its set."""
    detail = seen.detail
    in_use = bool(detail.attached_to) and detail.disk_state.lower() not in _CHANGEABLE
    return ProtectedDisk(detail.id, next(iter(detail.attached_to), None), detail.secure_set is not None, in_use)


def with_sets(facts: Facts, present: SetFacts | None, wanted: SetFacts | None) -> Facts:
    """The facts with the key of the set that the disk uses (`present`), and with the set that it must use (`wanted`).

    The set says what protects the disk only if the disk itself says that it uses the set, also by its security profile.
    """
    shown, protection = facts.shown, facts.protection
    if present is not None and isinstance(protection, OnAnotherKey):
        protection = present.protection
    if present is not None:
        of_set = present.shown
        shown = replace(
            shown,
            previous_keys=of_set.previous_keys,
            rotation_error=of_set.rotation_error,
            on_rotation=of_set.on_rotation,
        )
    detail, follows = replace(facts.detail, wanted_set=wanted), present is None or present.follows_by_itself
    return replace(facts, protection=protection, detail=detail, shown=shown, follows_by_itself=follows)


def plan_disk(target: Target, want: KeyChoice, seen: Facts) -> Plan[DiskUpdate] | Fault | None:
    """The PATCH that puts the disk on its set, or a fault that says what must happen first; None if nothing is to change."""
    placement = target.options
    if not isinstance(placement, DiskPlacement):
        return invalid(
            Reason.NO_DISK_ENCRYPTION_SET,
            "the platform engineer must name the set of the disk in spec.disk.diskEncryptionSetId",
        )
    set_id, detail = placement.disk_encryption_set, seen.detail
    start, unfit = start_of(seen.protection, DISK.off_another_key), _unfit(target, set_id, want, detail)
    # A manifest that does not fit is reported first, but what does not fit is known only from a disk that can be read.
    if isinstance(start, Fault) and (unfit is None or isinstance(seen.protection, Unreadable)):
        return start
    if unfit is not None or detail.wanted_set is None:
        return unfit
    wanted = detail.wanted_set.detail
    there = detail.encryption_set == set_id and detail.encryption_type.lower() == wanted.encryption_type.lower()
    if there or detail.secure_set == set_id:
        return None
    in_the_way = _version_is_probed(set_id, want, detail.wanted_set) or _held(target, detail)
    if in_the_way is not None:
        return in_the_way
    if MOVING_STATES & {detail.state.lower(), wanted.state.lower()}:
        return busy(Reason.OPERATION_IN_PROGRESS, f"Azure is still changing disk {target.id.name} or its disk encryption set")
    body: DiskUpdate = {"properties": {"encryption": {"type": wanted.encryption_type, "diskEncryptionSetId": set_id.text}}}
    encryption = "properties.encryption"
    pairs = (
        (f"{encryption}.type", detail.encryption_type, wanted.encryption_type),
        (f"{encryption}.diskEncryptionSetId", detail.encryption_set.text if detail.encryption_set else "", set_id.text),
    )
    changes = tuple(FieldChange(*pair) for pair in pairs if pair[1].lower() != pair[2].lower())
    return Plan(body, changes, "put the disk on its disk encryption set")


def _unfit(target: Target, set_id: ArmId, want: KeyChoice, detail: DiskDetail) -> Fault | None:
    """Why this set cannot be used for this disk and this key; None if it can."""
    name = set_id.name
    if not target.in_scope(set_id):
        message = (
            f"disk encryption set {set_id.text} is outside the scopes that the CustomerTenant allows: the platform engineer must "
            "name another in spec.disk.diskEncryptionSetId"
        )
        return invalid(Reason.DISK_ENCRYPTION_SET_NOT_ALLOWED, message)
    if set_id.subscription_id != target.id.subscription_id:
        message = (
            f"disk encryption set {name} is in another subscription than disk {target.id.name}: the platform engineer must name one "
            "in the same subscription"
        )
        return invalid(Reason.DISK_ENCRYPTION_SET_IN_ANOTHER_SUBSCRIPTION, message)
    found = detail.wanted_set
    if found is None:
        message = (
            f"disk encryption set {name} does not exist: the platform engineer must apply an EncryptedResource that creates it, or "
            "correct spec.disk.diskEncryptionSetId"
        )
        return blocked(Reason.DISK_ENCRYPTION_SET_NOT_FOUND, message, Actor.PLATFORM_ENGINEER)
    if found.detail.location != detail.location:
        message = (
            f"disk {target.id.name} is in {detail.location} and disk encryption set {name} in {found.detail.location}: the platform "
            "engineer must name a set in the disk's region"
        )
        return invalid(Reason.DISK_ENCRYPTION_SET_IN_ANOTHER_REGION, message)
    if found.detail.confidential and detail.secure_set != set_id:
        message = (
            f"disk encryption set {name} is for confidential virtual machines ({found.detail.encryption_type}), and Azure puts a disk on "
            "it only when it creates the disk: the platform engineer must name a set of another encryptionType"
        )
        return invalid(Reason.DISK_ENCRYPTION_SET_OF_ANOTHER_TYPE, message)
    if found.detail.state.lower() == CREATING:
        return busy(Reason.OPERATION_IN_PROGRESS, f"Azure is still creating disk encryption set {name}")
    return _on_another_key(name, want, found)


def _on_another_key(name: str, want: KeyChoice, found: SetFacts) -> Fault | None:
    """The fault if the set is on another key, or uses another identity, or another version than the manifest pins."""
    if isinstance(found.protection, Unreadable):
        message = f"the answer about disk encryption set {name} cannot be read ({found.protection.what}), so nothing is written"
        return busy(Reason.UNREADABLE, message)
    now = key_in_force(found.protection)
    if now is None or now.versionless != want.key_uri.versionless:
        instead = f" but on {text_in_force(found.protection)}" if isinstance(found.protection, OnAnotherKey) else ""
        message = (
            f"disk encryption set {name} is not on {want.key_uri}{instead}: the platform engineer must apply an EncryptedResource that puts "
            "the set on the key of this manifest"
        )
        return blocked(Reason.DISK_ENCRYPTION_SET_ON_ANOTHER_KEY, message, Actor.PLATFORM_ENGINEER)
    reached = want.managed_identity in found.detail.user_assigned
    if not reached or found.detail.application_client_id.lower() != want.application_client_id.lower():
        message = (
            f"disk encryption set {name} does not access its key with the identity of this CustomerTenant: the platform engineer must "
            "apply an EncryptedResource for the set"
        )
        return blocked(Reason.DISK_ENCRYPTION_SET_OF_ANOTHER_IDENTITY, message, Actor.PLATFORM_ENGINEER)
    if want.key_uri.version not in {None, now.version}:
        message = (
            f"disk encryption set {name} is not on version {want.key_uri.version} yet: the EncryptedResource of the set moves it; the "
            "platform engineer must apply one if there is none"
        )
        return busy(Reason.DISK_ENCRYPTION_SET_ROTATING, message)
    return None


def _version_is_probed(set_id: ArmId, want: KeyChoice, found: SetFacts) -> Fault | None:
    """The fault if the set is on a version other than the one that passed the probe (law 1); None if it is on that one."""
    if not want.probed_version or version_in_force(found.protection) == want.probed_version:
        return None
    message = f"disk encryption set {set_id.name} is not on the key's active version yet: Azure moves it within an hour"
    return busy(Reason.DISK_ENCRYPTION_SET_ROTATING, message)


def _held(target: Target, detail: DiskDetail) -> Fault | None:
    """The fault while a running machine or an export uses the disk: Azure does not change its key then."""
    state = detail.disk_state.lower()
    if state in _CHANGEABLE:
        return None
    name = target.id.name
    if state in _ATTACHED:
        machines = ", ".join(machine.name for machine in detail.attached_to) or "that Azure does not name"
        message = (
            f"disk {name} is attached to the virtual machine {machines}, which is not deallocated: the provider's administrator must "
            "deallocate it (the operator never stops a machine), and may start it again when the disk has been changed"
        )
        return blocked(Reason.DISK_ATTACHED, message, Actor.PROVIDER_ADMINISTRATOR)
    message = (
        f"disk {name} is being exported or uploaded ({detail.disk_state}): the provider's administrator must end that access"
    )
    return blocked(Reason.DISK_IN_USE, message, Actor.PROVIDER_ADMINISTRATOR)


def _no_way_back(target: Target) -> Fault:
    message = (
        f"a confidential virtual machine encrypts disk {target.id.name} with the key of its set, and Azure never changes that: the platform "
        "engineer must set deletionPolicy to Orphan"
    )
    return invalid(Reason.NO_PLATFORM_KEY_FOR_CONFIDENTIAL_DISKS, message)


def plan_disk_revert(target: Target, seen: Facts) -> Plan[DiskUpdate] | Fault | None:
    """The PATCH of the disk back to a Microsoft-managed key, or what must happen first; None if it is on one."""
    start, detail = start_of(seen.protection, DISK.off_another_key), seen.detail
    if isinstance(start, Fault):
        return start
    if detail.encryption_set is None:
        return _no_way_back(target) if detail.secure_set is not None else None
    held = _held(target, detail)
    if held is not None:
        return held
    if detail.state.lower() in MOVING_STATES:
        return busy(Reason.OPERATION_IN_PROGRESS, f"Azure is still changing disk {target.id.name}")
    change = FieldChange("properties.encryption.type", detail.encryption_type, PLATFORM_KEY)
    body: DiskUpdate = {"properties": {"encryption": {"type": PLATFORM_KEY}}}
    return Plan(body, (change,), "put the disk back on a Microsoft-managed key")
