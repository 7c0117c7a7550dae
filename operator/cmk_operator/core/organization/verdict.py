"""Judges one failed wrap or unwrap for an organization: whether the organization refuses, or whether nothing is known.

An outage, a throttled vault and the platform's own trouble are no refusal: data stays readable until the ceiling. What only the
organization or Entra can have refused is one. The states and their codes are those of `core.access`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.entra_codes import EntraFamily, family_of
from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.access.token_verdict import is_refusal, judge_token_failure, shown_codes
from cmk_operator.core.access.verdict import GRANT_AGAIN, state_of_forbidden
from cmk_operator.core.faults.azure_failure import BUDGET_SPENT, AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.foreign_text import shown_code

if TYPE_CHECKING:
    from collections.abc import Mapping


class VerdictKind(StrEnum):
    """What a failure means for the organization's data."""

    DENIED = "Denied"
    """The organization, or Entra for it, refuses: data must become unreadable once a second try has confirmed it."""
    UNAVAILABLE = "Unavailable"
    """Nothing is known: data stays readable until the ceiling after the last success."""
    THROTTLED = "Throttled"
    """As unavailable, with a time to wait."""
    LOST = "Lost"
    """The vault has the key neither live nor deleted: only a backup brings it back."""
    INVALID = "Invalid"
    """The request does not fit the key: it says nothing about access to what the key has wrapped, and never succeeds unchanged."""


class Operation(StrEnum):
    """The operations of a vault that a gate uses."""

    SIGN_IN = "sign-in"
    WRAP = "wrapKey"
    UNWRAP = "unwrapKey"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one failure means: its kind, a reason, a sentence that ends with who must do what, and that actor."""

    kind: VerdictKind
    reason: Reason
    message: str
    actor: Actor
    request_id: str | None = None
    retry_after: float | None = None
    """Seconds that Azure asked to wait."""

    @property
    def refuses(self) -> bool:
        """Whether data must become unreadable, once a second try has confirmed it."""
        return self.kind in {VerdictKind.DENIED, VerdictKind.LOST}

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later without a change by anybody."""
        return self.kind in {VerdictKind.UNAVAILABLE, VerdictKind.THROTTLED}


_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR
_PLATFORM_FAMILIES: Final = frozenset(
    {EntraFamily.FEDERATION, EntraFamily.CREDENTIAL, EntraFamily.FEDERATION_POLICY, EntraFamily.SINGLE_TENANT}
)
"""Refusals of the platform's own application that no organization can cause: they end by the provider's hand."""
_SENTENCES: Final[Mapping[AccessState, str]] = MappingProxyType(
    {
        AccessState.DISABLED: "the key version is disabled: the customer's administrator must enable it, or leave it disabled to keep "
        "data cut off",
        AccessState.PERMISSION_DENIED: "Key Vault refuses {operation}: the customer's administrator must grant the application wrapKey "
        "and unwrapKey on the key, by the role Key Vault Crypto Service Encryption User or by an access policy (a new assignment takes "
        "some minutes; a vault that was deleted and recovered has lost its assignments)",
        AccessState.FIREWALL_BLOCKS_PROBE: "the vault's firewall does not admit the address that this call came from: the customer's "
        "administrator must admit the addresses of the operator and of the key service, or approve a private endpoint",
    }
)
_SECRET_CODES: Final[Mapping[int, tuple[Reason, str]]] = MappingProxyType(
    {
        7000222: (Reason.CREDENTIAL_EXPIRED, "the client secret has expired"),
        7000215: (Reason.CREDENTIAL_REFUSED, "the registration has no such client secret"),
        700027: (Reason.CREDENTIAL_REFUSED, "the registration has no such certificate"),
        700024: (Reason.CREDENTIAL_REFUSED, "the certificate's assertion is outside its time: the clocks may differ"),
    }
)
"""Source: Entra "Authentication and authorization error codes"."""


def judge(
    failure: AzureFailure, operation: Operation = Operation.UNWRAP, *, purged: bool = False, own_registration: bool = False
) -> Verdict:
    """What a failure of `operation` means.

    `purged`: a read of the deleted keys showed that the vault has the key neither live nor deleted. Without it, a missing key is a
    refusal, because it may be recovered. `own_registration`: the call was made as the organization's own registration.
    """
    if failure.status == 429:
        return _throttled(failure)
    if failure.stage is Stage.OPERATOR_TOKEN:
        return _of_access(VerdictKind.UNAVAILABLE, judge_token_failure(failure))
    if failure.code == Reason.VAULT_IN_ANOTHER_TENANT.value:
        return Verdict(
            VerdictKind.DENIED,
            Reason.VAULT_IN_ANOTHER_TENANT,
            f"{failure.message}, not to the one that the CustomerTenant allows: the platform engineer must correct keyUri, or the "
            "provider's administrator the CustomerTenant",
            Actor.PLATFORM_ENGINEER,
            failure.request_id,
        )
    if failure.stage is Stage.APPLICATION_TOKEN:
        return _judge_registration(failure) if own_registration else _judge_application(failure)
    return _judge_vault(failure, operation, purged=purged)


def _throttled(failure: AzureFailure) -> Verdict:
    whose = (
        "the share of Azure's limits that one process may use is spent" if failure.code == BUDGET_SPENT else "Azure throttles"
    )
    return Verdict(
        VerdictKind.THROTTLED,
        Reason.VAULT_THROTTLED,
        f"{whose} ({failure.shown_code}): nobody needs to act; the call is made again when Azure allows it",
        Actor.AZURE,
        failure.request_id,
        failure.retry_after,
    )


def _of_access(kind: VerdictKind, access: Access, retry_after: float | None = None) -> Verdict:
    return Verdict(kind, access.state.reason, access.message, access.actor or Actor.AZURE, access.request_id, retry_after)


def _judge_application(failure: AzureFailure) -> Verdict:
    """A refused token of the platform's application: the organization's refusal, unless only the provider can have caused it."""
    access = judge_token_failure(failure)
    families = frozenset(family for code in failure.entra_codes if (family := family_of(code)) is not None)
    of_platform = bool(families) and families <= _PLATFORM_FAMILIES
    refused = is_refusal(failure) and not of_platform
    return _of_access(VerdictKind.DENIED if refused else VerdictKind.UNAVAILABLE, access, failure.retry_after)


def _judge_registration(failure: AzureFailure) -> Verdict:
    """A refused token of the organization's own registration, whose credentials are the organization's to renew."""
    if not is_refusal(failure):
        return _of_access(VerdictKind.UNAVAILABLE, judge_token_failure(failure), failure.retry_after)
    known = next((_SECRET_CODES[code] for code in sorted(failure.entra_codes, reverse=True) if code in _SECRET_CODES), None)
    if 700027 in failure.entra_codes and "key used is expired" in failure.message.lower():
        known = (Reason.CREDENTIAL_EXPIRED, "the certificate has expired")
    families = {family_of(code) for code in failure.entra_codes}
    if known is not None or EntraFamily.CREDENTIAL in families:
        reason, what = known or (Reason.CREDENTIAL_REFUSED, "Entra does not accept the credential")
        message = (
            f"{what} ({shown_codes(failure)}): the customer's administrator must create a new one on its registration and store "
            "it in the Secret that the OrganizationKey names"
        )
        return Verdict(VerdictKind.DENIED, reason, message, _CUSTOMER, failure.request_id)
    if families & {EntraFamily.NO_PRINCIPAL, EntraFamily.PRINCIPAL_DISABLED}:
        message = (
            f"the organization's tenant has no enabled registration with this client id ({shown_codes(failure)}): the customer's "
            "administrator must enable or create it, or the platform engineer correct clientId or the CustomerTenant"
        )
        return Verdict(VerdictKind.DENIED, Reason.REGISTRATION_MISSING, message, _CUSTOMER, failure.request_id)
    access = judge_token_failure(failure)
    if access.state is not AccessState.ENTRA_REFUSED:
        return _of_access(VerdictKind.DENIED, access)
    message = (
        f"Entra refuses the organization's registration ({shown_codes(failure)}){failure.quoted}; the customer's administrator "
        "must look the code up and correct what it names"
    )
    return Verdict(VerdictKind.DENIED, access.state.reason, message, _CUSTOMER, failure.request_id)


def _judge_vault(failure: AzureFailure, operation: Operation, *, purged: bool) -> Verdict:
    # A proxy or gateway can return 403 and 404 too, but only Key Vault gives a code. Without one, conclude nothing.
    if failure.status == 404 and failure.code == "KeyNotFound":
        return _judge_missing(failure, purged=purged)
    if failure.status == 403 and failure.code not in {"", "Http403"}:
        return _judge_forbidden(failure, operation)
    if failure.status == 401 and failure.key_vault_codes:
        return Verdict(
            VerdictKind.UNAVAILABLE,
            Reason.IDENTITY_BROKEN,
            f"Key Vault does not accept the application's token ({failure.shown_code}){failure.quoted}; the provider's administrator "
            "must check the clock of the node, and that identity and vault are in one cloud",
            _PROVIDER,
            failure.request_id,
        )
    if failure.status == 400 and failure.code not in {"", "Http400"}:
        return Verdict(
            VerdictKind.INVALID,
            Reason.KEY_DOES_NOT_FIT,
            f"Key Vault refuses {operation} because the request does not fit the key version ({failure.shown_code}){failure.quoted}; "
            "another version or key has wrapped this, or the key is no RSA key: the platform engineer must correct keyUri",
            Actor.PLATFORM_ENGINEER,
            failure.request_id,
        )
    return Verdict(
        VerdictKind.UNAVAILABLE,
        Reason.VAULT_UNREACHABLE,
        f"the vault gives no usable answer ({failure.shown_code}): nothing is concluded about the key; an outage ends by itself, a "
        f"deleted vault the customer's administrator must recover, {GRANT_AGAIN}",
        Actor.AZURE,
        failure.request_id,
        failure.retry_after,
    )


def _judge_missing(failure: AzureFailure, *, purged: bool) -> Verdict:
    if purged:
        return Verdict(
            VerdictKind.LOST,
            Reason.PURGED,
            "the vault has the key neither live nor deleted: the customer's administrator must restore it from a backup, which keeps its "
            "identifier; without a backup the data under it is lost",
            _CUSTOMER,
            failure.request_id,
        )
    return Verdict(
        VerdictKind.DENIED,
        Reason.MISSING,
        "the vault has no such key now: the customer's administrator must recover it if it was deleted, or restore it from a backup if it "
        "was purged; without either the data under it is lost",
        _CUSTOMER,
        failure.request_id,
    )


def _judge_forbidden(failure: AzureFailure, operation: Operation) -> Verdict:
    state = state_of_forbidden(failure.inner_code)
    if state is not None and state in _SENTENCES:
        sentence = _SENTENCES[state].format(operation=operation)
        return Verdict(VerdictKind.DENIED, state.reason, sentence, _CUSTOMER, failure.request_id)
    outside = _outside_validity(failure) if operation is Operation.WRAP else None
    if outside is not None:
        return Verdict(
            VerdictKind.INVALID,
            outside,
            "Key Vault wraps nothing new with this version, because it has expired or is not valid yet; what it has wrapped it still "
            "unwraps: the customer's administrator must create a new version or move the dates",
            _CUSTOMER,
            failure.request_id,
        )
    named = shown_code(failure.inner_code) or failure.shown_code
    return Verdict(
        VerdictKind.DENIED,
        Reason.VAULT_REFUSED,
        f"Key Vault refuses {operation} with a code that this release does not know ({named}){failure.quoted}; the customer's "
        "administrator must look the code up and correct what it names",
        _CUSTOMER,
        failure.request_id,
    )


def _outside_validity(failure: AzureFailure) -> Reason | None:
    """Whether a wrap was refused by the version's dates: Key Vault gives no inner code for it, so its words decide.

    Source: Azure/azure-sdk-for-net#7677; Key Vault "About keys", date-time controlled operations.
    """
    words = failure.message.lower()
    if failure.inner_code:
        return None
    if "expired key" in words:
        return Reason.EXPIRED
    return Reason.NOT_YET_VALID if "not yet valid" in words else None
