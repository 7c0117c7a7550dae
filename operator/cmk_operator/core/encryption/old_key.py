"""Decides which key blocks the move of a resource from one key to another: Azure must unwrap with the old key once more.

The new key just passed the probe through the identity that will use it. A refusal because of a key is therefore about the old key,
unless Azure's message or the old key's manifest shows otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.identifiers.key_uri import KeyUri

OF_A_KEY: Final = frozenset(
    {
        Reason.KEY_VAULT_AUTHENTICATION_FAILURE,
        Reason.KEY_VAULT_ENCRYPTION_KEY_NOT_FOUND,
        Reason.KEY_VAULT_ACCESS_TOKEN_CANNOT_BE_ACQUIRED,
        Reason.KEY_VAULT_VAULT_NOT_FOUND,
        Reason.KEY_VAULT_ACCESS_FORBIDDEN,
        Reason.KEY_VAULT_KEY_NOT_ENABLED,
        Reason.KEY_VAULT_KEY_NOT_FOUND,
        Reason.KEY_VAULT_NOT_FOUND,
        Reason.GATEWAY_AUTHENTICATION_FAILED,
        Reason.AZURE_KEY_VAULT_MISSING_PERMISSIONS,
        Reason.UMI_MISSING_AKV_PERMISSIONS,
        Reason.AZURE_KEY_VAULT_KEY_DISABLED,
        Reason.AZURE_KEY_VAULT_KEY_NAME_NOT_FOUND,
        Reason.AZURE_KEY_VAULT_INVALID_EXPIRATION_DATE,
        Reason.AZURE_KEY_VAULT_CONNECTION_FAILED,
        Reason.ADAL_SERVICE_PRINCIPAL_NOT_FOUND,
        Reason.ADAL_GENERIC_ERROR,
        Reason.DATABASE_INACCESSIBLE,
        Reason.CONSENT_MISSING,
        Reason.PERMISSION_DENIED,
        Reason.IDENTITY_BROKEN,
        Reason.ENTRA_REFUSED,
    }
)
"""Reasons for which a service of Azure cannot use a key, old or new."""


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """The owner of the old key, from its manifest: the CustomerTenant, and the state that the last probe found."""

    tenant: str
    state: AccessState


def blame_old_key(
    fault: Fault, failure: AzureFailure, target: str, *, old: KeyUri | None, new: KeyUri, owner: KeyOwner | None
) -> Fault:
    """The fault, reworded to name the old key, its vault and its owner if the old key causes it."""
    if old is None or not old.vault_host or old.versionless == new.versionless or fault.reason not in OF_A_KEY:
        return fault
    named_old, named_new = _is_named(old, failure.message), _is_named(new, failure.message)
    well = owner is not None and owner.state is AccessState.ACCESSIBLE
    if (named_new or well) and not named_old:
        return fault
    who = (
        f"the customer's administrator of CustomerTenant {owner.tenant}"
        if owner is not None
        else "its owner, whom the provider's administrator can find by the vault's name,"
    )
    lost = named_old or (owner is not None and owner.state.is_known_loss)
    otherwise = "" if lost else f"; if that key is accessible, it is about the new one: {fault.message}"
    message = (
        f"Azure must unwrap once more with the key that {target} is to leave, {old} in vault {old.vault_host}, and cannot: {who} must make it "
        f"accessible again, as it was, until {target} has moved ({failure.shown_code}){otherwise}"
    )
    actor = Actor.CUSTOMER_ADMINISTRATOR if owner is not None else Actor.PROVIDER_ADMINISTRATOR
    return Fault(Reason.OLD_KEY_NOT_ACCESSIBLE, message, actor, fault.retry_after, fault.request_id)


def _is_named(key: KeyUri, text: str) -> bool:
    return str(key.versionless).lower() in text.lower()
