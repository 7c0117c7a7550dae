"""A disk encryption set: how it is read, and the request that creates it or changes its key.

Source: azure-mgmt-compute, `DiskEncryptionSet`, `EncryptionSetProperties` and `KeyForDiskEncryptionSet` (a key URL always
needs a version, also with automatic rotation); "Server-side encryption of Azure Disk Storage", restrictions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from cmk_operator.azure.management import text_of
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.encryption.coverage import Part
from cmk_operator.core.encryption.protection import (
    LONGEST_NAME,
    FieldChange,
    KeyChoice,
    MicrosoftManaged,
    OnKey,
    Unreadable,
    key_in_force,
    named,
    start_of,
)
from cmk_operator.core.encryption.reported import protection_of
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.region import region_of
from cmk_operator.core.text.foreign_text import cleaned
from cmk_operator.core.text.names import names_shown
from cmk_operator.providers.arm import unreadable_parts
from cmk_operator.providers.disk.kind import DISK_ENCRYPTION_SET
from cmk_operator.providers.disk.options import DiskEncryptionSetCreation
from cmk_operator.providers.protocol import Plan, ResourceFacts, Shown, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.mgmt.compute.models import ApiError, DiskEncryptionSet
    from azure.mgmt.compute.types import (
        DiskEncryptionSetUpdate,
        DiskEncryptionSetUpdateProperties,
        EncryptionSetIdentity,
        EncryptionSetProperties,
        UserAssignedIdentitiesValue,
    )

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.encryption.reported import Reported

NAMES_IN_A_LINE: Final = 20
MOVING_STATES: Final = frozenset({"creating", "updating", "deleting"})
"""Values of `provisioningState` while a request runs."""
CREATING: Final = "creating"
"""`provisioningState` of a set that shows its future values, and protects nothing yet."""
_FAILED: Final = "failed"
CONFIDENTIAL: Final = "confidentialvmencryptedwithcustomerkey"
"""`encryptionType` of a set for confidential virtual machines, in lower case.

Source: Azure confidential computing, "Rotate customer-managed keys for confidential VMs".
"""
_CONFIDENTIAL_DISK: Final = (
    "Azure shows the key of the set, not that of a disk which a confidential virtual machine encrypts: the provider's administrator must "
    "deallocate all virtual machines of the set before each change of its key, else none of them takes it"
)
_ON_ROTATION: Final = (
    "Azure never moves confidential virtual machines to a new version by itself: the operator does it once the provider's administrator "
    "has deallocated all virtual machines of the set"
)
DISKS: Final = "disks of the set"
DISKS_READ: Final = "Microsoft.Compute/disks/read on the subscription"


@dataclass(frozen=True, slots=True)
class ProtectedDisk:
    """A disk that uses a set, and the virtual machine to which it is attached."""

    id: ArmId
    attached_to: ArmId | None = None
    confidential: bool = False
    """Whether a confidential virtual machine encrypts it with the key of the set (`securityProfile`)."""
    in_use: bool = False
    """Whether its virtual machine is not deallocated."""


@dataclass(frozen=True, slots=True)
class DisksOfSet:
    """The disks that use a set, and the ids of those that cannot be read and may use it (an empty text for one without an id)."""

    on_it: tuple[ProtectedDisk, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskEncryptionSetDetail:
    """The properties of a set; `exists` is False for a set that is to be created."""

    exists: bool = True
    location: str = ""
    encryption_type: str = ""
    identity_type: str = "None"
    user_assigned: tuple[ArmId, ...] = ()
    application_client_id: str = ""
    automatic: bool = False
    state: str = ""
    disks: tuple[ProtectedDisk, ...] | None = None
    """The disks that use the set; None if the operator may not read disks."""
    unread_disks: bool = False
    """Whether there are disks that cannot be read, so that more may use the set."""

    @property
    def confidential(self) -> bool:
        """Whether the set is for confidential virtual machines: Azure never rotates its key by itself."""
        return self.encryption_type.lower() == CONFIDENTIAL


@dataclass(frozen=True, slots=True)
class CreateSet:
    """PUT of a set that does not exist."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """PATCH of a set that exists."""

    body: DiskEncryptionSetUpdate


SetRequest = CreateSet | ChangeSet
Facts = ResourceFacts[DiskEncryptionSetDetail]
ABSENT: Final[Facts] = ResourceFacts(MicrosoftManaged(), DiskEncryptionSetDetail(exists=False))


def read_set(found: DiskEncryptionSet) -> Facts:
    """Read the SDK's model of a set; the disks that use it are not in it."""
    protection = protection_of(found, _protection)
    identity, properties = found.identity, found.properties
    if isinstance(protection, Unreadable) or properties is None:
        return ResourceFacts(protection, DiskEncryptionSetDetail())
    assigned = identity.user_assigned_identities if identity is not None else None
    detail = DiskEncryptionSetDetail(
        location=region_of(text_of(found.location)),
        identity_type=(text_of(identity.type if identity is not None else None) or "None").replace(" ", ""),
        user_assigned=tuple(ArmId(text) for text in assigned or {}),
        encryption_type=text_of(properties.encryption_type),
        application_client_id=text_of(properties.federated_client_id),
        automatic=bool(properties.rotation_to_latest_key_version_enabled),
        state=text_of(properties.provisioning_state),
    )
    shown = Shown(
        previous_keys=tuple(text_of(key.key_url) for key in properties.previous_keys or ()),
        rotation_error=_rotation_error(properties.auto_key_rotation_error, text_of(found.name) or "the set"),
        on_rotation=_ON_ROTATION if detail.confidential else None,
    )
    return ResourceFacts(protection, detail, shown, follows_by_itself=not detail.confidential)


def _protection(answer: Reported) -> Protection:
    """Also checks the identities, with which a plan compares its own: raises `ShapeError`."""
    answer.check_identity()
    properties = answer.inner("properties")
    for name in ("federatedClientId", "encryptionType"):
        properties.text(name)
    key = named(
        properties.inner("activeKey").required("keyUrl"), following=properties.flag("rotationToLatestKeyVersionEnabled")
    )
    # A set that is being created shows its future key, and protects nothing yet.
    return MicrosoftManaged() if properties.text("provisioningState").lower() == CREATING else key


def _rotation_error(error: ApiError | None, name: str) -> str | None:
    """Azure's code and who must act, without the parts that differ in each answer; None if there is no error."""
    if not error:
        return None
    failure = AzureFailure(400, text_of(error.code) or "Unknown", text_of(error.message))
    return f"{failure.shown_code}: {judge_arm_failure(failure, name).message}"


def confidential_part(name: str) -> Part:
    """A disk that a confidential virtual machine encrypts with the key of a set."""
    return Part(f"disk {name}", remedy=_CONFIDENTIAL_DISK)


def with_disks(facts: Facts, of_set: ArmId, disks: DisksOfSet | AzureFailure) -> Facts:
    """The facts with the disks that use the set, or with why they are not known."""
    known = tuple(sorted(disks.on_it, key=lambda disk: disk.id.key)) if not isinstance(disks, AzureFailure) else None
    unread = disks.unread if not isinstance(disks, AzureFailure) else ()
    machines = {disk.attached_to: None for disk in known or () if disk.attached_to is not None}
    shown = replace(
        facts.shown,
        encrypted_disks=tuple(_name(disk.id, of_set) for disk in known or ()),
        attached_to=tuple(_name(machine, of_set) for machine in machines),
        not_readable=tuple(_shown_unread(one, of_set) for one in sorted(unread)),
    )
    parts = tuple(confidential_part(_name(disk.id, of_set)) for disk in known or () if disk.confidential)
    if isinstance(disks, AzureFailure):
        refused = unreadable_parts(disks, DISKS, DISKS_READ)
        parts = (
            refused.found if not isinstance(refused, AzureFailure) else (Part(DISKS, remedy="Azure does not list them now"),)
        )
    return replace(facts, detail=replace(facts.detail, disks=known, unread_disks=bool(unread)), shown=shown, parts=parts)


def _shown_unread(disk_id: str, beside: ArmId) -> str:
    kept = cleaned(disk_id, LONGEST_NAME)
    return f"disk {_name(ArmId(kept), beside)}" if kept else "a disk without an id"


def _name(resource: ArmId, beside: ArmId) -> str:
    """The resource's name, with its resource group if that differs from that of `beside`."""
    same = resource.segments[:4] == beside.segments[:4]
    return resource.name if same else f"{resource.resource_group}/{resource.name}"


def plan_set(target: Target, want: KeyChoice, seen: Facts) -> Plan[SetRequest] | Fault | None:
    """The PUT of a set that does not exist, or the PATCH that corrects it and keeps its other identities.

    A fault says what must happen first; None if nothing is to change.
    """
    start = start_of(seen.protection, DISK_ENCRYPTION_SET.off_another_key)
    if isinstance(start, Fault):
        return start
    if not seen.detail.exists:
        return _creation(target, want)
    changes = _changes(want, seen)
    if seen.detail.state.lower() == CREATING:
        return _still_changing(target)
    if not changes:
        return None
    moves = not _on_key(want, seen)
    in_the_way = _other_region(target, seen.detail.location, want, "") or _busy(target, seen, moves=moves)
    if in_the_way is not None:
        return in_the_way
    properties: DiskEncryptionSetUpdateProperties = {
        "rotationToLatestKeyVersionEnabled": _follows(want, seen.detail.encryption_type),
        "federatedClientId": want.application_client_id,
    }
    if moves or seen.detail.state.lower() == _FAILED:
        properties["activeKey"] = {"keyUrl": _wire_key(want)}
    if moves:
        changes += _moved_with_it(target, want, seen)
    identities: dict[str, UserAssignedIdentitiesValue] = {identity.text: {} for identity in seen.detail.user_assigned}
    if want.managed_identity not in seen.detail.user_assigned:
        identities[want.managed_identity.text] = {}
    identity: EncryptionSetIdentity = {"type": _identity_type(seen.detail.identity_type), "userAssignedIdentities": identities}
    purpose = "put the disk encryption set on the key" if moves else "correct the disk encryption set"
    body: DiskEncryptionSetUpdate = {"identity": identity, "properties": properties}
    return Plan(
        ChangeSet(body),
        changes,
        purpose,
        keeps_key=not moves or _on_a_version(want, seen),
        shown=cast("Mapping[str, Any]", body),
    )


def _busy(target: Target, seen: Facts, *, moves: bool) -> Fault | None:
    """The fault while Azure changes the set, or while its confidential virtual machines hold back a move."""
    if seen.detail.state.lower() in MOVING_STATES:
        return _still_changing(target)
    return _held(target, seen) if moves else None


def _still_changing(target: Target) -> Fault:
    return busy(Reason.OPERATION_IN_PROGRESS, f"Azure is still changing disk encryption set {target.id.name}")


def _creation(target: Target, want: KeyChoice) -> Plan[SetRequest] | Fault:
    given = target.options
    if not isinstance(given, DiskEncryptionSetCreation):
        message = (
            f"disk encryption set {target.id.name} does not exist: the platform engineer must set location and encryptionType in "
            "spec.diskEncryptionSet, so that the operator creates it, or correct spec.resourceId"
        )
        return invalid(Reason.DISK_ENCRYPTION_SET_NOT_FOUND, message)
    location = region_of(given.location)
    elsewhere = _other_region(target, location, want, f"set spec.diskEncryptionSet.location to {want.vault_region}, or ")
    if elsewhere is not None:
        return elsewhere
    key = _wire_key(want)
    identity: EncryptionSetIdentity = {
        "type": "UserAssigned",
        "userAssignedIdentities": {want.managed_identity.text: {}},
    }
    properties: EncryptionSetProperties = {
        "encryptionType": given.encryption_type,
        "activeKey": {"keyUrl": key},
        "rotationToLatestKeyVersionEnabled": _follows(want, given.encryption_type),
        "federatedClientId": want.application_client_id,
    }
    body = {"location": location, "identity": identity, "properties": properties}
    changes = (
        FieldChange("location", "", location),
        FieldChange("properties.encryptionType", "", given.encryption_type),
        FieldChange("properties.activeKey.keyUrl", "", key),
    )
    return Plan(CreateSet(body), changes, "create the disk encryption set on the key", shown=body)


def _other_region(target: Target, location: str, want: KeyChoice, remedy: str) -> Fault | None:
    """The fault if the vault is in another region than the set. If the vault's region is unknown, Azure decides."""
    if want.vault_region is None or not location or region_of(want.vault_region) == location:
        return None
    message = (
        f"the vault {want.key_uri.vault_host} is in {want.vault_region} and disk encryption set {target.id.name} in {location}, but "
        f"Azure needs both in one region: the platform engineer must {remedy}name a key in a vault in {location}"
    )
    return invalid(Reason.VAULT_IN_ANOTHER_REGION, message)


def _wire_key(want: KeyChoice) -> str:
    """The key URL to send: always with a version, which is the one that passed the probe."""
    return str(want.key_uri.at(want.probed_version))


def _on_key(want: KeyChoice, seen: Facts) -> bool:
    """Whether the set is on the wanted key. With automatic rotation any version is right: Azure would undo each change."""
    now = key_in_force(seen.protection)
    if now is None or now.versionless != want.key_uri.versionless:
        return False
    if seen.detail.confidential and want.key_uri.version is None:
        return not want.probed_version or now.version == want.probed_version
    return want.key_uri.version is None or now.version == want.key_uri.version


def _on_a_version(want: KeyChoice, seen: Facts) -> bool:
    """Whether a confidential set is on another version of the wanted key, which protects its disks until it has moved."""
    now = key_in_force(seen.protection)
    return seen.detail.confidential and now is not None and now.versionless == want.key_uri.versionless


def _follows(want: KeyChoice, encryption_type: str) -> bool:
    """Whether Azure is to rotate the set's key by itself, which it does not do for confidential virtual machines."""
    return want.key_uri.version is None and encryption_type.lower() != CONFIDENTIAL


def _held(target: Target, seen: Facts) -> Fault | None:
    """The fault while confidential virtual machines of the set run: none of them takes another key or version then."""
    used = [disk for disk in seen.detail.disks or () if disk.confidential and disk.in_use and disk.attached_to is not None]
    if not seen.detail.confidential or not used:
        return None
    machines = names_shown(tuple(dict.fromkeys(_name(disk.attached_to, target.id) for disk in used if disk.attached_to)))
    message = (
        f"disk encryption set {target.id.name} is for confidential virtual machines, which take another key or version only while all of "
        f"them are deallocated: the provider's administrator must deallocate {machines} (the operator never stops a machine), and may "
        "start them again when the set has been changed"
    )
    return blocked(Reason.CONFIDENTIAL_MACHINES_RUNNING, message, Actor.PROVIDER_ADMINISTRATOR)


def _changes(want: KeyChoice, seen: Facts) -> tuple[FieldChange, ...]:
    detail, now = seen.detail, key_in_force(seen.protection)
    following = _follows(want, detail.encryption_type)
    pairs = (
        ("identity.type", detail.identity_type, _identity_type(detail.identity_type).replace(" ", "")),
        (
            "identity.userAssignedIdentities",
            "present" if want.managed_identity in detail.user_assigned else "",
            "present",
        ),
        ("properties.activeKey.keyUrl", str(now or ""), str(now) if _on_key(want, seen) else _wire_key(want)),
        (
            "properties.rotationToLatestKeyVersionEnabled",
            "true" if detail.automatic else "false",
            "true" if following else "false",
        ),
        ("properties.federatedClientId", detail.application_client_id, want.application_client_id),
        # A set whose creation or last change failed shows the values of that request; only another request repairs it.
        ("properties.provisioningState", detail.state, "Succeeded" if detail.state.lower() == _FAILED else detail.state),
    )
    return tuple(FieldChange(*pair) for pair in pairs if pair[1].lower() != pair[2].lower())


def _moved_with_it(target: Target, want: KeyChoice, seen: Facts) -> tuple[FieldChange, ...]:
    """One change for all disks that use the set, because a change of the set's key moves them too; empty if there are none."""
    disks = seen.detail.disks
    if not disks:
        return ()
    names = names_shown([_name(disk.id, target.id) for disk in disks], NAMES_IN_A_LINE)
    path = f"key of the disks that use the set ({names})"
    return (FieldChange(path, str(key_in_force(seen.protection) or ""), _wire_key(want)),)


def _identity_type(present: str) -> str:
    """Add UserAssigned without dropping SystemAssigned; compute spells the pair with a space."""
    return "SystemAssigned, UserAssigned" if "systemassigned" in present.lower() else "UserAssigned"


def plan_set_revert(target: Target, seen: Facts) -> Fault | None:
    """The fault that a set cannot be on a Microsoft-managed key, only its disks can; None if no disk uses it."""
    start = start_of(seen.protection, DISK_ENCRYPTION_SET.off_another_key)
    if isinstance(start, Fault):
        return start
    detail = seen.detail
    if not detail.exists or not isinstance(start, OnKey) or (detail.disks == () and not detail.unread_disks):
        return None
    names = (*seen.shown.encrypted_disks, *(f"{one}, which cannot be read" for one in seen.shown.not_readable))
    disks = ", ".join(names[:NAMES_IN_A_LINE]) or "which the operator may not read"
    message = (
        f"disk encryption set {target.id.name} cannot be on a Microsoft-managed key: the platform engineer must revert each of its "
        f"disks, by deleting its EncryptedResource with deletionPolicy RevertToPlatformKey ({disks})"
    )
    return invalid(Reason.NO_PLATFORM_KEY_FOR_SETS, message)
