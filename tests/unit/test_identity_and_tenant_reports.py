"""The statuses of the two kinds that administrators write: can the operator sign in, and has the customer consented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import Condition, find
from cmk_operator.api.customer_tenant import CustomerTenant, CustomerTenantStatus
from cmk_operator.api.federated_identity import FederatedIdentity, FederatedIdentityStatus
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.registration.federation import FederatedCredential
from cmk_operator.core.registration.plan import ApplicationFacts, ManagedIdentityFacts
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.identity import report as identities
from cmk_operator.reconcile.notifications.delivery import notifications_delivered
from cmk_operator.reconcile.references import resolve_identity
from cmk_operator.reconcile.tenant import reconciler as tenants
from tests.unit.samples import (
    APPLICATION,
    CLIENT,
    CUSTOMER,
    LATER,
    NOW,
    PRINCIPAL,
    PROVIDER,
    customer_tenant,
    entra,
    identity_body,
    transient_failures,
)
from tests.unit.schema import complaints, status_schema

if TYPE_CHECKING:
    from cmk_operator.api.model import Shape

ISSUER = f"https://login.microsoftonline.com/{PROVIDER}/v2.0"
MANAGED = ManagedIdentityFacts(client_id=CLIENT, principal_id=PRINCIPAL)
FORBIDDEN = AzureFailure(403, "Authorization_RequestDenied", "Insufficient privileges")


def application(
    audience: str = "AzureADMultipleOrgs",
    issuer: str = ISSUER,
    subject: str = PRINCIPAL,
    exchange: str = "api://AzureADTokenExchange",
) -> ApplicationFacts:
    return ApplicationFacts("Fabrikam CMK", audience, (FederatedCredential(issuer, subject, (exchange,)),))


def identity(**spec: Any) -> FederatedIdentity:
    return FederatedIdentity.model_validate(identity_body(**spec))


def condition(status: FederatedIdentityStatus | CustomerTenantStatus, kind: str) -> Condition:
    found = next((one for one in status.conditions if one.type == kind), None)
    assert found is not None
    return found


def wire(status: Shape) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_a_whole_chain_is_ready() -> None:
    status = identities.identity_status(identity(), None, MANAGED, application(), NOW)
    assert {entry.type: entry.status for entry in status.conditions} == {
        "Ready": "True",
        "Registered": "True",
        "Authenticated": "True",
        "ApplicationFederated": "True",
    }
    assert status.application is not None
    assert (status.application.client_id, status.application.display_name) == (APPLICATION, "Fabrikam CMK")


@pytest.mark.parametrize(
    ("managed", "read", "status", "reason"),
    [
        (MANAGED, application(issuer=ISSUER.upper()), "False", "FederatedCredentialMissing"),
        (ManagedIdentityFacts(client_id=CLIENT.upper(), principal_id=PRINCIPAL), application(), "True", "Federated"),
        (ManagedIdentityFacts(client_id=APPLICATION, principal_id=PRINCIPAL), application(), "False", "ClientIdMismatch"),
        (MANAGED, application(audience="AzureADMyOrg"), "False", "SingleTenantApplication"),
        (MANAGED, application(subject=PRINCIPAL.replace("5", "A")), "False", "FederatedCredentialMissing"),
        (MANAGED, application(subject=CLIENT), "False", "FederatedCredentialMissing"),
        (MANAGED, application(exchange="api://AzureADTokenExchangeChina"), "False", "FederatedCredentialMissing"),
        (MANAGED, application(issuer=ISSUER.replace("v2.0", "v1.0")), "False", "FederatedCredentialMissing"),
        (MANAGED, FORBIDDEN, "Unknown", "NotReadable"),
        (FORBIDDEN, application(), "Unknown", "NotReadable"),
        (MANAGED, AzureFailure(404, "Request_ResourceNotFound", ""), "False", "ApplicationNotFound"),
        (AzureFailure(404, "ResourceNotFound", ""), application(), "False", "ManagedIdentityNotFound"),
        (AzureFailure(404, "ResourceNotFound", ""), FORBIDDEN, "False", "ManagedIdentityNotFound"),
        (None, None, "Unknown", "NotAuthenticated"),
    ],
)
def test_the_federated_credential_is_judged_as_far_as_it_is_readable(
    managed: ManagedIdentityFacts | AzureFailure | None, read: ApplicationFacts | AzureFailure | None, status: str, reason: str
) -> None:
    told = condition(identities.identity_status(identity(), None, managed, read, NOW), "ApplicationFederated")
    assert (told.status, told.reason) == (status, reason)
    if status == "False":
        assert "the provider's administrator must" in told.message


failures = st.one_of(
    transient_failures,
    st.builds(
        entra,
        st.sampled_from([700016, 7000112, 53003, 90002, 650059, 70021, 700213, 90033, 999999]),
        st.sampled_from([Stage.OPERATOR_TOKEN, Stage.APPLICATION_TOKEN]),
    ),
)


@given(
    st.one_of(st.none(), failures),
    st.sampled_from([None, MANAGED, FORBIDDEN]),
    st.sampled_from([None, application(), FORBIDDEN]),
)
def test_every_status_of_an_identity_is_complete_stable_and_fits_the_definition(
    failure: AzureFailure | None,
    managed: ManagedIdentityFacts | AzureFailure | None,
    read: ApplicationFacts | AzureFailure | None,
) -> None:
    resource = identity()
    status = identities.identity_status(resource, failure, managed, read, NOW)
    assert {entry.type for entry in status.conditions} - {"Reconciling", "Stalled"} == {
        "Ready",
        "Registered",
        "Authenticated",
        "ApplicationFederated",
    }
    assert complaints(wire(status), status_schema("federatedidentities")) == []
    assert FederatedIdentityStatus.model_validate(wire(status)) == status
    assert identities.identity_status(resource.model_copy(update={"status": status}), failure, managed, read, LATER) == status
    stalled = find(status.conditions, ConditionType.STALLED)
    if stalled is not None:
        assert " must " in stalled.message


@given(transient_failures)
def test_an_outage_of_entra_is_not_a_broken_identity(failure: AzureFailure) -> None:
    status = identities.identity_status(identity(), failure, None, None, NOW)
    assert condition(status, "Authenticated").status == "Unknown"
    assert find(status.conditions, ConditionType.RECONCILING) is not None


def test_a_name_that_graph_once_told_stays_when_graph_does_not_answer() -> None:
    unnamed = identity(application={"clientId": APPLICATION})
    first = identities.identity_status(unnamed, None, MANAGED, application(), NOW)
    second = identities.identity_status(unnamed.model_copy(update={"status": first}), None, MANAGED, FORBIDDEN, LATER)
    assert second.application is not None
    assert second.application.display_name == "Fabrikam CMK"


DELIVERED = notifications_delivered(customer_tenant(), None)


def tenant_status(failure: AzureFailure | None, before: CustomerTenantStatus | None = None) -> CustomerTenantStatus:
    tenant = customer_tenant()
    held = tenant.model_copy(update={"status": before}) if before is not None else tenant
    return tenants.tenant_status(held, identity(), failure, DELIVERED, NOW)


def test_before_consent_the_status_shows_whom_to_ask_for_what() -> None:
    status = tenant_status(entra(700016))
    assert status.consent is not None
    assert status.consent.state == "Pending"
    assert status.consent.url == f"https://login.microsoftonline.com/{CUSTOMER}/adminconsent?client_id={APPLICATION}"
    assert status.application is not None
    assert status.application.display_name == "Fabrikam CMK"
    told = condition(status, "ConsentGranted")
    assert (told.status, told.reason) == ("False", "Pending")
    assert f"the customer's administrator must open {status.consent.url}" in told.message
    assert "AADSTS500113 (no reply address is registered), the consent has been given all the same" in told.message
    assert find(status.conditions, ConditionType.STALLED) is not None


def test_a_consent_that_was_once_given_is_revoked_not_pending() -> None:
    granted = tenant_status(None)
    assert condition(granted, "Ready").status == "True"
    revoked = tenant_status(entra(700016), granted)
    assert revoked.consent is not None
    assert revoked.consent.state == "Revoked"
    assert tenant_status(entra(700016), revoked).consent == revoked.consent
    healed = tenant_status(None, revoked)
    assert healed.consent is not None
    assert healed.consent.state == "Granted"


@given(st.one_of(transient_failures, st.just(entra(700213, Stage.OPERATOR_TOKEN))), st.sampled_from([None, entra(700016)]))
def test_what_says_nothing_about_the_customer_changes_no_consent(failure: AzureFailure, first: AzureFailure | None) -> None:
    before = tenant_status(first)
    after = tenant_status(failure, before)
    assert after.consent == before.consent
    assert condition(after, "ConsentGranted").status == "Unknown"


@given(st.one_of(st.none(), failures), st.one_of(st.none(), failures))
def test_every_status_of_a_tenant_is_complete_stable_and_fits_the_definition(
    first: AzureFailure | None, failure: AzureFailure | None
) -> None:
    status = tenant_status(failure, tenant_status(first))
    assert {entry.type for entry in status.conditions} - {"Reconciling", "Stalled"} == {
        "Ready",
        "ConsentGranted",
        DELIVERED.type,
        "ScopesDistinct",
    }
    assert complaints(wire(status), status_schema("customertenants")) == []
    assert CustomerTenantStatus.model_validate(wire(status)) == status
    held = customer_tenant().model_copy(update={"status": status})
    assert tenants.tenant_status(held, identity(), failure, DELIVERED, LATER) == status
    stalled = find(status.conditions, ConditionType.STALLED)
    if stalled is not None:
        assert " must " in stalled.message


def test_a_tenant_without_an_identity_says_who_must_create_it_and_keeps_what_it_knew() -> None:
    granted = tenant_status(None)
    tenant = customer_tenant().model_copy(update={"status": granted})
    fault = resolve_identity(Inventory(), tenant)
    assert isinstance(fault, Fault)
    status = tenants.refused_tenant_status(tenant, fault, DELIVERED, LATER)
    assert condition(status, "Ready").reason == "IdentityNotFound"
    assert "the provider's administrator must create it" in condition(status, "Ready").message
    assert condition(status, "ConsentGranted").status == "Unknown"
    assert status.consent == granted.consent
    assert complaints(wire(status), status_schema("customertenants")) == []
    assert isinstance(tenant, CustomerTenant)
