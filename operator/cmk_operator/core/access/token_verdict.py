"""Judges a failed token request by its hop and Entra's code.

Only a server error, throttling and no answer are outages of Entra. Any other answer of its token endpoint is a refusal, whether
the code is known or not. Azure's services ask the same endpoint for the same application, so they are refused too.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.entra_codes import EntraFamily, family_of
from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor

if TYPE_CHECKING:
    from collections.abc import Mapping

_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

# Refusals in the customer's tenant.
_APPLICATION: Final[Mapping[EntraFamily, tuple[AccessState, Actor, str]]] = MappingProxyType(
    {
        EntraFamily.NO_PRINCIPAL: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the application has no service principal in the customer's tenant: the customer's administrator must open the "
            "consent URL of the CustomerTenant",
        ),
        EntraFamily.PRINCIPAL_DISABLED: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the application is disabled: the customer's administrator must enable its enterprise application",
        ),
        EntraFamily.NOT_ASSIGNED: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the customer's tenant demands an assignment, and the application has none: the customer's administrator must assign "
            "it, or end the demand for assignment on the enterprise application that Entra names",
        ),
        EntraFamily.NO_RESOURCE: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "the service that the token is for has no enabled service principal in the customer's tenant: the customer's "
            "administrator must create or enable it (Azure Key Vault: application cfa8b339-82a2-471a-a3c9-0fc0be7a4093)",
        ),
        EntraFamily.NOT_CONSENTED: (
            AccessState.CONSENT_MISSING,
            _CUSTOMER,
            "an administrator's consent to the application is missing: the customer's administrator must open the consent URL of "
            "the CustomerTenant",
        ),
        EntraFamily.POLICY: (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "a Conditional Access policy blocks the application: the customer's administrator must exempt its workload identity",
        ),
        EntraFamily.SINGLE_TENANT: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the application is single-tenant: the provider's administrator must set its signInAudience to AzureADMultipleOrgs",
        ),
        EntraFamily.NO_TENANT: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the customer's tenant does not exist: the provider's administrator must correct spec.tenantId of the CustomerTenant",
        ),
        EntraFamily.ANOTHER_CLOUD: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "the customer's tenant is one of another cloud, where the application cannot sign in: the provider's administrator "
            "must correct spec.tenantId of the CustomerTenant, or name a FederatedIdentity of that cloud",
        ),
        EntraFamily.FEDERATION_POLICY: (
            AccessState.IDENTITY_BROKEN,
            _PROVIDER,
            "a policy of the application's own tenant forbids federated credentials that Entra issues: the provider's "
            "administrator must exempt the application from it, or allow them",
        ),
    }
)
_OF_A_CREDENTIAL: Final = frozenset({EntraFamily.FEDERATION, EntraFamily.CREDENTIAL})
_PRINCIPAL_GONE: Final[Mapping[EntraFamily, tuple[str, str]]] = MappingProxyType(
    {
        EntraFamily.NO_PRINCIPAL: (
            "has no such managed identity",
            "create it again with its federated credentials, or correct the FederatedIdentity",
        ),
        EntraFamily.PRINCIPAL_DISABLED: ("has disabled the managed identity", "enable its enterprise application"),
    }
)


def is_refusal(failure: AzureFailure) -> bool:
    """Whether Entra itself refused a token: an answer from 400 to 499 other than throttling, known code or not.

    A proxy or gateway can return such a status too, but only Entra gives a cause: OAuth's `error` or an AADSTS code. A 408 without
    a code of Entra is a server's timeout, and counts as no answer.
    """
    if failure.status is None or not 400 <= failure.status < 500 or failure.status == 429:
        return False
    said = failure.code not in {"", f"Http{failure.status}"} and failure.status != 408
    return said or bool(failure.entra_codes)


def may_be_replication(failure: AzureFailure) -> bool:
    """Whether Entra may only not have replicated a new managed identity or credential yet.

    This excludes an application that a customer's tenant does not know, which is a matter of consent.
    Source: Entra "Important considerations and restrictions for federated identity credentials", AADSTS70021.
    """
    families = _families(failure)
    if failure.stage is Stage.OPERATOR_TOKEN and EntraFamily.NO_PRINCIPAL in families:
        return True
    return EntraFamily.FEDERATION in families and 90061 not in failure.entra_codes


def may_be_a_missing_application(failure: AzureFailure) -> bool:
    """Whether a customer's tenant does not know the application: consent is missing, or the provider deleted the application."""
    return failure.stage is Stage.APPLICATION_TOKEN and EntraFamily.NO_PRINCIPAL in _families(failure)


def lets_nobody_in(failure: AzureFailure) -> bool:
    """Whether the customer's tenant knows the application but does not admit it, so that another consent does not help."""
    shut_out = {EntraFamily.PRINCIPAL_DISABLED, EntraFamily.NOT_ASSIGNED, EntraFamily.NO_RESOURCE}
    return failure.stage is Stage.APPLICATION_TOKEN and bool(_families(failure) & shut_out)


def judge_token_failure(failure: AzureFailure, *, application_missing: bool = False) -> Access:
    """The state that a failed token request shows, by its hop and Entra's code.

    `application_missing` says that the provider's tenant lacks the application; Entra's answer is then the same as without consent.
    """
    if failure.stage is Stage.OPERATOR_TOKEN:
        return _judge_operator(failure)
    if not is_refusal(failure):
        return _no_usable_answer(failure)
    families, shown = _families(failure), shown_codes(failure)
    if application_missing and EntraFamily.NO_PRINCIPAL in families:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"the provider's tenant has no such application any more ({shown}): the provider's administrator must "
            "restore it from the deleted applications, where Entra keeps it for 30 days",
            _PROVIDER,
            failure.request_id,
        )
    for family, (state, actor, message) in _APPLICATION.items():
        if family in families:
            return Access(state, f"Entra refuses the application ({shown}): {message}", actor, failure.request_id)
    if families & _OF_A_CREDENTIAL:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"Entra accepts no federated credential of the application ({shown}): the provider's administrator must check "
            "issuer, subject and audience of the credential (a new one takes some minutes)",
            _PROVIDER,
            failure.request_id,
        )
    return Access(
        AccessState.ENTRA_REFUSED,
        f"Entra refuses the application, as which Azure's services sign in too ({shown}){failure.quoted}; the provider's "
        "administrator must look the code up and correct what it names, or have the customer's administrator correct it",
        _PROVIDER,
        failure.request_id,
    )


def _judge_operator(failure: AzureFailure) -> Access:
    """Judge the operator's sign-in; Azure's services do not use its credential, but they use the same managed identity."""
    if failure.transient and not is_refusal(failure):
        return _no_usable_answer(failure)
    families, shown = _families(failure), shown_codes(failure)
    for family, (what, remedy) in _PRINCIPAL_GONE.items():
        if family in families:
            # Azure's services use the same managed identity, so unlike other refusals this one affects them too.
            return Access(
                AccessState.IDENTITY_BROKEN,
                f"the provider's tenant {what} ({shown}), so Azure's services cannot reach the key by it: the "
                f"provider's administrator must {remedy}",
                _PROVIDER,
                failure.request_id,
            )
    unknown = not families or families == {EntraFamily.TRANSIENT}
    return Access(
        AccessState.OPERATOR_NOT_AUTHENTICATED,
        f"the operator cannot sign in as the managed identity ({shown}): the provider's administrator must check the managed "
        f"identity and its federated credential for the operator's ServiceAccount{failure.quoted if unknown else ''}",
        _PROVIDER,
        failure.request_id,
    )


def _no_usable_answer(failure: AzureFailure) -> Access:
    """An outage, or an answer that is not Entra's own."""
    return Access(
        AccessState.UNKNOWN, f"Entra gives no usable answer ({shown_codes(failure)})", Actor.AZURE, failure.request_id
    )


def _families(failure: AzureFailure) -> frozenset[EntraFamily]:
    return frozenset(family for code in failure.entra_codes if (family := family_of(code)) is not None)


def shown_codes(failure: AzureFailure) -> str:
    """Entra's codes for people, or the code that the answer has besides."""
    return ", ".join(f"AADSTS{code}" for code in sorted(failure.entra_codes)) or failure.shown_code
