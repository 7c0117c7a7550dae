"""What servers and databases share in SQL's API: names of keys, identity blocks, and which keys SQL does not accept.

Source: Azure SQL REST, `ServerKeyProperties`; "Rotate the Transparent Data Encryption protector"; "Azure SQL transparent data
encryption with customer-managed key", requirements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.protection import key_in_force
from cmk_operator.core.faults.fault import Actor, Fault, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.sql.kind import SQL_KEY_USE

if TYPE_CHECKING:
    from azure.mgmt.sql.models import DatabaseIdentity, DatabaseProperties, ResourceIdentity

    from cmk_operator.core.encryption.protection import KeyChoice, Protection
    from cmk_operator.core.identifiers.key_uri import KeyUri

AZURE_KEY_VAULT: Final = "AzureKeyVault"
SERVICE_MANAGED: Final = "ServiceManaged"
LONGEST_NAMES: Final = 94
"""Most characters of the vault's name and the key's name together."""


def server_key_name(uri: KeyUri) -> str:
    """The name of a vault's key on a server: vault_key_version."""
    return "_".join(filter(None, (uri.vault_name, uri.key_name, uri.version)))


def wire_key(want: KeyChoice) -> KeyUri:
    """The key to send: always with the version that passed the probe, also with automatic rotation."""
    return want.key_uri.at(want.probed_version)


def read_identities(identity: ResourceIdentity | DatabaseIdentity | None) -> tuple[str, tuple[ArmId, ...]]:
    """The identity's type without spaces, and the user-assigned identities."""
    if identity is None:
        return "None", ()
    return wire_value(identity.type or "None").replace(" ", ""), tuple(map(ArmId, identity.user_assigned_identities or ()))


def is_inaccessible(database: DatabaseProperties) -> bool:
    """Whether the database cannot use its key."""
    return wire_value(database.status).lower() == "inaccessible"


def wire_value(value: object) -> str:
    """The text of an SDK enum, of a value that the SDK does not know yet, or an empty string for None."""
    return str(getattr(value, "value", value) or "")


def on_key(want: KeyChoice, seen: Protection) -> bool:
    """Whether the key in force is the wanted one. With automatic rotation any version is: SQL would undo each change."""
    now = key_in_force(seen)
    if now is None or now.versionless != want.key_uri.versionless:
        return False
    return want.key_uri.version is None or now.version == want.key_uri.version


def unfit(want: KeyChoice, name: str) -> Fault | None:
    """Why SQL will not accept this key, as far as that is known before a request; `name` is the target's."""
    vault = want.key_uri.vault_name
    length = len(vault) + len(want.key_uri.key_name)
    if length > LONGEST_NAMES:
        message = (
            f"the names of vault {vault} and key {want.key_uri.key_name} have {length} characters together, but SQL accepts at most "
            f"{LONGEST_NAMES}: the platform engineer must name a key with a shorter name in keyUri"
        )
        return invalid(Reason.KEY_NAME_TOO_LONG, message)
    if want.key_size is not None and not SQL_KEY_USE.takes(want.key_size):
        message = (
            f"the key has {want.key_size} bits, but SQL accepts RSA keys of {SQL_KEY_USE.shown_sizes} for {name}: the customer's "
            "administrator must create a key of such a size"
        )
        return Fault(Reason.KEY_SIZE_NOT_SUPPORTED, message, Actor.CUSTOMER_ADMINISTRATOR)
    return None
