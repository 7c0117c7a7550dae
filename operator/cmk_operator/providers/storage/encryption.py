"""The encryption block of a storage account: how it is read, and the smallest PATCH that changes its key.

Source: Azure Storage REST, StorageAccountUpdateParameters; "Configure cross-tenant customer-managed keys for an existing
storage account".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.azure.management import text_of
from cmk_operator.core.encryption.protection import (
    FieldChange,
    KeyChoice,
    MicrosoftManaged,
    OnAnotherKey,
    OnKey,
    Unreadable,
    named,
    start_of,
)
from cmk_operator.core.encryption.reported import protection_of
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.protocol import Plan, ResourceFacts
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT
from cmk_operator.providers.storage.parts import parts_of_account

if TYPE_CHECKING:
    from azure.mgmt.storage.models import StorageAccount
    from azure.mgmt.storage.types import Encryption as EncryptionParameters
    from azure.mgmt.storage.types import (
        EncryptionIdentity,
        KeyVaultProperties,
        StorageAccountUpdateParameters,
        UserAssignedIdentity,
    )

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.core.encryption.reported import Reported
    from cmk_operator.core.identifiers.key_uri import KeyUri

_KEY_VAULT: Final = "Microsoft.Keyvault"
_PLATFORM: Final = "Microsoft.Storage"
_ENCRYPTION: Final = "properties.encryption"
_KEY: Final = f"{_ENCRYPTION}.keyvaultproperties"
_ENCRYPTION_IDENTITY: Final = f"{_ENCRYPTION}.identity"


@dataclass(frozen=True, slots=True)
class StorageAccountDetail:
    """The identities of a storage account, and the identity and application with which it accesses its key."""

    identity_type: str = "None"
    user_assigned: tuple[ArmId, ...] = ()
    encryption_identity: ArmId | None = None
    application_client_id: str = ""


def read_account(account: StorageAccount) -> ResourceFacts[StorageAccountDetail]:
    """Read the SDK's model of an account; ids and enum values are case-insensitive.

    The SDK converts a field when it is read, so an unexpected answer raises here; call it within `typed_answer`.
    """
    protection = protection_of(account, _protection)
    if isinstance(protection, Unreadable):
        return ResourceFacts(protection, StorageAccountDetail())
    encryption = account.properties.encryption if account.properties is not None else None
    identity, by = account.identity, encryption.encryption_identity if encryption is not None else None
    assigned = text_of(by.encryption_user_assigned_identity if by is not None else None)
    identities = identity.user_assigned_identities if identity is not None else None
    detail = StorageAccountDetail(
        # Some resource providers spell the pair of types with a space.
        identity_type=(text_of(identity.type if identity is not None else None) or "None").replace(" ", ""),
        user_assigned=tuple(ArmId(text) for text in identities or {}),
        encryption_identity=ArmId(assigned) if assigned else None,
        application_client_id=text_of(by.encryption_federated_identity_client_id if by is not None else None),
    )
    return ResourceFacts(protection, detail, parts=parts_of_account(account))


def _protection(account: Reported) -> Protection:
    """Also checks the identities, with which a plan compares its own: raises `ShapeError`."""
    account.check_identity()
    encryption = account.inner("properties").inner("encryption")
    accessed_by = encryption.optional("identity")
    if accessed_by is not None:
        accessed_by.text("userAssignedIdentity")
        accessed_by.text("federatedIdentityClientId")
    source = encryption.required("keySource")
    if source.lower() == _PLATFORM.lower():
        return MicrosoftManaged()
    if source.lower() != _KEY_VAULT.lower():
        return OnAnotherKey(f"keySource {source}")
    key = encryption.inner("keyvaultproperties")
    vault, name, version = key.required("keyvaulturi").removesuffix("/"), key.required("keyname"), key.text("keyversion")
    found = named("/".join((vault, "keys", name, *([version] if version else []))))
    current = named(key.text("currentVersionedKeyIdentifier"))
    if isinstance(found, OnKey) and isinstance(current, OnKey) and current.uri.versionless == found.uri.versionless:
        # With automatic rotation the version is empty; only this field has the version in force.
        return OnKey(found.uri, current.uri.version)
    return found


def plan_key(
    want: KeyChoice, seen: ResourceFacts[StorageAccountDetail], *, one_by_one: bool = False
) -> Plan[StorageAccountUpdateParameters] | Fault | None:
    """The PATCH of encryption, and of identity if the account lacks ours; other identities stay. None if all fields are right.

    `one_by_one`: Azure has refused to change the key together with the identity with which the account accesses it. The
    identity is then changed first, and must have access to the old key.
    """
    start = start_of(seen.protection, STORAGE_ACCOUNT.off_another_key)
    if isinstance(start, Fault):
        return start
    changes = _changes(want, start, seen.detail)
    if not changes:
        return None
    detail, paths = seen.detail, [change.path for change in changes]
    key: KeyVaultProperties = {
        "keyname": want.key_uri.key_name,
        # An absent version keeps the old one; only an empty version turns automatic rotation on.
        "keyversion": want.key_uri.version or "",
        "keyvaulturi": want.key_uri.vault_url,
    }
    identity: EncryptionIdentity = {
        "userAssignedIdentity": want.managed_identity.text,
        "federatedIdentityClientId": want.application_client_id,
    }
    encryption: EncryptionParameters = {"keySource": _KEY_VAULT, "keyvaultproperties": key, "identity": identity}
    purpose = "put the resource on the key"
    if one_by_one and isinstance(start, OnKey):
        if any(path.startswith(_ENCRYPTION_IDENTITY) for path in paths):
            encryption = {"keySource": _KEY_VAULT, "identity": identity}
            purpose = "set the identity with which the account accesses its key"
        else:
            encryption = {"keySource": _KEY_VAULT, "keyvaultproperties": key}
    body: StorageAccountUpdateParameters = {"properties": {"encryption": encryption}}
    if any(path.startswith("identity.") for path in paths):
        identities: dict[str, UserAssignedIdentity] = {one.text: {} for one in detail.user_assigned}
        if want.managed_identity not in detail.user_assigned:
            identities[want.managed_identity.text] = {}
        body["identity"] = {"type": _identity_type(detail.identity_type), "userAssignedIdentities": identities}
    return Plan(body, changes, purpose)


def changes_key_and_identity(plan: Plan[StorageAccountUpdateParameters]) -> bool:
    """Whether the plan changes an account's customer-managed key together with the identity that accesses it."""
    paths = [change.path for change in plan.changes]
    moves = any(path.startswith(_KEY) for path in paths) and any(path.startswith(_ENCRYPTION_IDENTITY) for path in paths)
    return moves and f"{_ENCRYPTION}.keySource" not in paths


def identities_beside(plan: Plan[StorageAccountUpdateParameters]) -> tuple[str, ...]:
    """Names of the account's other user-assigned identities, without the one for the key."""
    assigned = plan.body.get("identity", {}).get("userAssignedIdentities", {})
    own = plan.body.get("properties", {}).get("encryption", {}).get("identity", {}).get("userAssignedIdentity", "")
    return tuple(ArmId(text).name for text in assigned if ArmId(text) != ArmId(own)) if own else ()


def _changes(want: KeyChoice, start: OnKey | MicrosoftManaged, detail: StorageAccountDetail) -> tuple[FieldChange, ...]:
    before = start.uri if isinstance(start, OnKey) else None
    encryption, key = _ENCRYPTION, _KEY
    pairs = (
        ("identity.type", detail.identity_type, _identity_type(detail.identity_type)),
        (
            "identity.userAssignedIdentities",
            "present" if want.managed_identity in detail.user_assigned else "",
            "present",
        ),
        (f"{encryption}.keySource", _KEY_VAULT if before else _PLATFORM, _KEY_VAULT),
        (f"{key}.keyvaulturi", before.vault_url if before else "", want.key_uri.vault_url),
        (f"{key}.keyname", before.key_name if before else "", want.key_uri.key_name),
        (f"{key}.keyversion", _version(before), _version(want.key_uri)),
        (
            f"{_ENCRYPTION_IDENTITY}.userAssignedIdentity",
            detail.encryption_identity.key if detail.encryption_identity else "",
            want.managed_identity.key,
        ),
        (f"{_ENCRYPTION_IDENTITY}.federatedIdentityClientId", detail.application_client_id, want.application_client_id),
    )
    return tuple(FieldChange(*pair) for pair in pairs if pair[1].lower() != pair[2].lower())


def _version(uri: KeyUri | None) -> str:
    if uri is None:
        return ""
    return uri.version or "automatic"


def _identity_type(present: str) -> str:
    """Add UserAssigned and keep SystemAssigned; Storage writes the pair without a space."""
    if "systemassigned" in present.lower():
        return "SystemAssigned,UserAssigned"
    return "UserAssigned"


def plan_platform_key(seen: ResourceFacts[StorageAccountDetail]) -> Plan[StorageAccountUpdateParameters] | Fault | None:
    """The PATCH back to a Microsoft-managed key. The account's identities stay, because others may use them."""
    start = start_of(seen.protection, STORAGE_ACCOUNT.off_another_key)
    if not isinstance(start, OnKey):
        return start if isinstance(start, Fault) else None
    change = FieldChange("properties.encryption.keySource", _KEY_VAULT, _PLATFORM)
    body: StorageAccountUpdateParameters = {"properties": {"encryption": {"keySource": _PLATFORM}}}
    return Plan(body, (change,))
