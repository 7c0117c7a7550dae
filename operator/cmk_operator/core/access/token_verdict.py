"""The state behind a token that could not be had, by the hop that failed and by Entra's code."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor

if TYPE_CHECKING:
    from collections.abc import Mapping

_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

# Entra's refusals on the way to the customer's tenant. Source: Entra "Authentication and authorization error codes".
_ENTRA: Final[Mapping[int, tuple[AccessState, Actor, str]]] = MappingProxyType(
    {
        700016: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the application has no service principal in the customer's tenant: the customer's administrator must open the "
            "consent URL of the CustomerTenant",
        ),
        7000112: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the application is disabled: the customer's administrator must enable its enterprise application",
        ),
        90002: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the customer's tenant does not exist: the provider's administrator must correct spec.tenantId of the CustomerTenant",
        ),
        650059: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the application is single-tenant: the provider's administrator must set its signInAudience to AzureADMultipleOrgs",
        ),
        53003: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a Conditional Access policy blocks the application: the customer's administrator must exempt its workload identity",
        ),
        530032: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a tenant policy blocks the application: the customer's administrator must exempt its workload identity",
        ),
        700236: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a tenant policy blocks federated credentials issued by Entra: the customer's administrator must allow them",
        ),
    }
)
_FEDERATION: Final = frozenset(
    {
        70021,
        70025,
        700211,
        700212,
        700213,
        7002121,
        700222,
        700223,
        700226,
        700227,
        700229,
        7000226,
        7000215,
        7000222,
        700027,
        50027,
        90061,
    }
)
"""No federated credential fits, or the assertion is not acceptable: the provider's side."""
_ENTRA_BUSY: Final = frozenset({50000, 50033, 90012, 90024, 90033, 90055})
"""Entra's own troubles: the same request succeeds later."""


_UNKNOWN_YET: Final = _FEDERATION - {7000215, 7000222, 700027, 50027, 90061}
_NO_SUCH_PRINCIPAL: Final = 700016


def may_be_replication(failure: AzureFailure) -> bool:
    """Whether Entra may only not know everywhere yet what was just registered: the managed identity, or a credential.

    An application that a customer's tenant does not know is another matter: consent.
    Source: Entra "Important considerations and restrictions for federated identity credentials", AADSTS70021.
    """
    if failure.stage is Stage.OPERATOR_TOKEN and _NO_SUCH_PRINCIPAL in failure.entra_codes:
        return True
    return bool(failure.entra_codes & _UNKNOWN_YET)


def may_be_a_missing_application(failure: AzureFailure) -> bool:
    """Whether a customer's tenant does not know the application: for want of consent, or because it was deleted at home."""
    return failure.stage is Stage.APPLICATION_TOKEN and _NO_SUCH_PRINCIPAL in failure.entra_codes


def judge_token_failure(failure: AzureFailure, *, application_missing: bool = False) -> Access:
    """Name the state behind a token that could not be had, by the hop and by Entra's code.

    `application_missing` says that the provider's own tenant has no such application: Entra answers 700016 then, too.
    """
    codes = failure.entra_codes
    if failure.stage is Stage.OPERATOR_TOKEN:
        shown = _shown(codes) or failure.shown_code
        if _NO_SUCH_PRINCIPAL in codes:
            # What Entra does not know, no service of Azure can be either: unlike every other refusal, this one is not ours alone.
            return Access(
                AccessState.IDENTITY_BROKEN,
                f"the provider's tenant has no such managed identity ({shown}), so Azure's services cannot reach the key by it: the "
                "provider's administrator must create it anew with its federated credentials, or correct the FederatedIdentity",
                _PROVIDER,
                failure.request_id,
            )
        if (failure.transient and not codes) or codes & _ENTRA_BUSY:
            return Access(AccessState.UNKNOWN, f"Entra gives no usable answer ({shown})", Actor.AZURE)
        return Access(
            AccessState.OPERATOR_NOT_AUTHENTICATED,
            f"the operator cannot sign in as the managed identity ({shown}): the provider's administrator must check the managed "
            "identity and its federated credential for the operator's ServiceAccount",
            _PROVIDER,
            failure.request_id,
        )
    if application_missing and _NO_SUCH_PRINCIPAL in codes:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"the provider's tenant has no such application any more (AADSTS{_NO_SUCH_PRINCIPAL}): the provider's administrator must "
            "restore it from the deleted applications, where Entra keeps it for 30 days",
            _PROVIDER,
            failure.request_id,
        )
    for code in sorted(codes):
        if code in _ENTRA:
            state, actor, message = _ENTRA[code]
            return Access(state, f"Entra refuses the application (AADSTS{code}): {message}", actor, failure.request_id)
    if codes & _FEDERATION:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"Entra accepts no federated credential of the application ({_shown(codes)}): the provider's administrator must check "
            "issuer, subject and audience of the credential (a new one takes some minutes)",
            _PROVIDER,
            failure.request_id,
        )
    return Access(
        AccessState.UNKNOWN,
        f"Entra gives no usable answer ({_shown(codes) or failure.shown_code})"
        f"{failure.quoted if is_an_unknown_refusal(failure) else ''}",
        Actor.AZURE,
        failure.request_id,
    )


def is_an_unknown_refusal(failure: AzureFailure) -> bool:
    """Whether Entra refused by a code that no table here knows, where the same request is not known to succeed later.

    Nothing is concluded from it about the customer's consent or the key.
    """
    known = _ENTRA.keys() | _FEDERATION | _ENTRA_BUSY | {_NO_SUCH_PRINCIPAL}
    # A proxy or gateway on the way refuses too, but only Entra says why.
    said = failure.answered and failure.code not in {"", f"Http{failure.status}"}
    return said and not failure.transient and not failure.entra_codes & known


def _shown(codes: frozenset[int]) -> str:
    return ", ".join(f"AADSTS{code}" for code in sorted(codes))
