"""An identity that the operator registers, in status and for everything that rests on it: known ids, waiting, settling."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.conditions import find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.federated_identity import REPLICATION, FederatedIdentity, FederatedIdentityStatus
from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.registration.federation import FederatedCredential
from cmk_operator.core.registration.plan import ApplicationFacts, ManagedIdentityFacts, ObservedRegistration
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.identity import report as identity_report
from cmk_operator.reconcile.identity.registration import RegistrationOutcome, status_after
from cmk_operator.reconcile.identity.report import RegistrationObstacle
from cmk_operator.reconcile.notifications.delivery import notifications_delivered
from cmk_operator.reconcile.references import KeyPath, chain_of, resolve_key
from cmk_operator.reconcile.tenant import reconciler as tenant
from tests.unit.samples import (
    APPLICATION,
    CLIENT,
    IDENTITY,
    NOW,
    PRINCIPAL,
    PROVIDER,
    customer_tenant,
    entra,
    identity_body,
    key_body,
    tenant_body,
)
from tests.unit.schema import complaints, status_schema

if TYPE_CHECKING:
    from cmk_operator.api.model import Shape

ENTRA = f"https://login.microsoftonline.com/{PROVIDER}/v2.0"
REGISTERED: dict[str, Any] = {
    "application": {"register": {"displayName": "Contoso CMK"}},
    "managedIdentity": {"resourceId": IDENTITY, "register": {"location": "westeurope"}},
    "registrar": {"clientId": "99999999-9999-4999-8999-999999999999"},
}
APPLICATION_SEEN = ApplicationFacts(
    "Contoso CMK",
    "AzureADMultipleOrgs",
    (FederatedCredential(ENTRA, PRINCIPAL, ("api://AzureADTokenExchange",)),),
    "o1",
    APPLICATION,
    "cmk-operator-provider",
)
IDENTITY_SEEN = ManagedIdentityFacts(CLIENT, PRINCIPAL, ())
ALL = ObservedRegistration(APPLICATION_SEEN, (), IDENTITY_SEEN)
DENIED = blocked(
    Reason.AUTHORIZATION_REQUEST_DENIED, "the provider's administrator must grant it", Actor.PROVIDER_ADMINISTRATOR
)

DELIVERED = notifications_delivered(customer_tenant(), None)


def identity(status: FederatedIdentityStatus | None = None, **spec: Any) -> FederatedIdentity:
    made = FederatedIdentity.model_validate(identity_body(**REGISTERED | spec))
    return made if status is None else made.model_copy(update={"status": status})


def after(outcome: RegistrationOutcome, before: FederatedIdentity | None = None) -> FederatedIdentity:
    start = before or identity()
    return start.model_copy(update={"status": status_after(start, outcome, NOW)})


def wire(status: Shape) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def reasons(status: FederatedIdentityStatus) -> dict[str, tuple[str, str]]:
    return {entry.type: (entry.status, entry.reason) for entry in status.conditions}


def test_the_ids_are_taken_from_status_once_they_are_known_and_the_chain_waits_until_then() -> None:
    fault = chain_of(identity())
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason) == (FaultKind.BUSY, "IdentityNotRegistered")
    assert "has not registered its application yet" in fault.message
    half = chain_of(after(RegistrationOutcome(ObservedRegistration(APPLICATION_SEEN), DENIED)))
    assert isinstance(half, Fault)
    assert "has not registered its managed identity yet" in half.message
    chain = chain_of(after(RegistrationOutcome(ALL)))
    assert isinstance(chain, IdentityChain)
    assert (chain.application_client_id, chain.managed_identity_client_id) == (APPLICATION, CLIENT)


def test_ids_of_another_managed_identity_or_of_a_given_application_are_not_taken_for_registered_ones() -> None:
    known = after(RegistrationOutcome(ALL)).status
    moved = identity(known, managedIdentity={"resourceId": f"{IDENTITY}2", "register": {"location": "westeurope"}})
    assert moved.managed_identity_client_id is None
    given = FederatedIdentity.model_validate(identity_body())
    told = identity_report.identity_status(given, None, IDENTITY_SEEN, APPLICATION_SEEN, NOW)
    assert told.application is not None
    assert told.managed_identity is not None
    assert told.managed_identity.principal_id == PRINCIPAL
    assert identity(told, managedIdentity={"resourceId": IDENTITY, "clientId": CLIENT}).application_client_id is None


def test_what_could_not_be_read_keeps_the_ids_that_were_known() -> None:
    known = after(RegistrationOutcome(ALL))
    again = after(
        RegistrationOutcome(ObservedRegistration(application_unread=DENIED, managed_identity_unread=DENIED), DENIED), known
    )
    assert again.status.registration == known.status.registration
    assert again.status.managed_identity == known.status.managed_identity


@pytest.mark.parametrize(
    ("outcome", "registered", "ready", "paired"),
    [
        (RegistrationOutcome(ALL), ("True", "Registered"), ("True", "Ready"), None),
        (RegistrationOutcome(ObservedRegistration(), DENIED), ("False", DENIED.reason), ("False", DENIED.reason), "Stalled"),
        (
            RegistrationOutcome(ObservedRegistration(APPLICATION_SEEN), DENIED),
            ("False", DENIED.reason),
            ("False", DENIED.reason),
            "Stalled",
        ),
        (
            RegistrationOutcome(ALL, Fault(Reason.CONFLICT, "another change", Actor.AZURE)),
            ("False", "Conflict"),
            ("False", "Conflict"),
            "Reconciling",
        ),
        (RegistrationOutcome(ALL, DENIED), ("False", DENIED.reason), ("False", DENIED.reason), "Stalled"),
    ],
)
def test_what_is_in_the_way_of_a_registration_is_told(
    outcome: RegistrationOutcome, registered: tuple[str, str], ready: tuple[str, str], paired: str | None
) -> None:
    known = after(outcome)
    obstacle = RegistrationObstacle(outcome.fault, unread=outcome.unread) if outcome.fault is not None else None
    status = identity_report.identity_status(
        known, None, outcome.observed.managed_identity, outcome.observed.application, NOW, obstacle
    )
    assert (reasons(status)["Registered"], reasons(status)["Ready"]) == (registered, ready)
    assert {entry.type for entry in status.conditions} & {"Stalled", "Reconciling"} == ({paired} if paired else set())
    assert complaints(wire(status), status_schema("federatedidentities")) == []
    assert FederatedIdentityStatus.model_validate(wire(status)) == status


def test_a_registrar_that_lost_its_rights_later_breaks_nothing_that_works() -> None:
    known = after(RegistrationOutcome(ALL))
    lost = RegistrationOutcome(ObservedRegistration(application_unread=DENIED), DENIED)
    assert lost.unread
    status = identity_report.identity_status(
        after(lost, known), None, IDENTITY_SEEN, APPLICATION_SEEN, NOW, RegistrationObstacle(DENIED, unread=True)
    )
    assert reasons(status)["Registered"] == ("Unknown", DENIED.reason)
    assert reasons(status)["Ready"] == ("True", "Ready")
    assert find(status.conditions, ConditionType.STALLED) is None


@pytest.mark.parametrize(
    ("age", "code", "reason", "paired"),
    [
        (REPLICATION - timedelta(seconds=1), 70021, "Settling", "Reconciling"),
        (REPLICATION - timedelta(seconds=1), 700016, "Settling", "Reconciling"),
        (REPLICATION, 70021, "OperatorNotAuthenticated", "Stalled"),
        (REPLICATION - timedelta(seconds=1), 7000112, "IdentityBroken", "Stalled"),
        (REPLICATION - timedelta(seconds=1), 7000215, "OperatorNotAuthenticated", "Stalled"),
    ],
)
def test_what_entra_does_not_know_yet_is_waited_out_for_some_minutes_only(
    age: timedelta, code: int, reason: str, paired: str
) -> None:
    changed = after(RegistrationOutcome(ALL, changed=True))
    status = identity_report.identity_status(changed, entra(code, Stage.OPERATOR_TOKEN), None, None, NOW + age)
    assert reasons(status)["Authenticated"][1] == reason
    told = next((one for one in status.conditions if one.type == paired), None)
    assert told is not None
    assert told.reason == reason


def test_a_tenant_of_an_identity_that_settles_is_not_told_that_its_identity_is_broken() -> None:
    changed = after(RegistrationOutcome(ALL, changed=True))
    status = tenant.tenant_status(customer_tenant(), changed, entra(70021), DELIVERED, NOW)
    told = {entry.type: (entry.status, entry.reason) for entry in status.conditions}
    assert told["ConsentGranted"] == ("Unknown", "Settling")
    assert "Reconciling" in told
    later = tenant.tenant_status(customer_tenant(), changed, entra(70021), DELIVERED, NOW + REPLICATION)
    assert {entry.type: entry.reason for entry in later.conditions}["Stalled"] == "IdentityBroken"
    missing = tenant.tenant_status(customer_tenant(), changed, entra(700016), DELIVERED, NOW)
    assert missing.consent is not None
    assert (missing.consent.state, missing.consent.url.rpartition("=")[2]) == ("Pending", APPLICATION)


def test_a_key_waits_for_the_registration_and_then_takes_its_ids() -> None:
    def resolved(found: FederatedIdentity) -> KeyPath | Fault:
        inventory = Inventory()
        body = identity_body(**REGISTERED) | {"status": wire(found.status)}
        for plural, one in (
            (FederatedIdentity.plural, body),
            (CustomerTenant.plural, tenant_body()),
            (CustomerManagedKey.plural, key_body()),
        ):
            inventory.put(plural, one)
        key = inventory.get(CustomerManagedKey, "storage", "team-a")
        assert key is not None
        return resolve_key(inventory, key)

    waiting = resolved(identity())
    assert isinstance(waiting, Fault)
    assert waiting.reason == "IdentityNotRegistered"
    path = resolved(after(RegistrationOutcome(ALL, changed=True)))
    assert isinstance(path, KeyPath)
    assert path.chain.application_client_id == APPLICATION
    assert path.identity.settles(NOW)


@pytest.mark.parametrize(
    ("cloud", "issuer"),
    [
        (None, ENTRA),
        ("AzureUSGovernment", f"https://login.microsoftonline.us/{PROVIDER}/v2.0"),
        ("AzureChina", f"https://login.partner.microsoftonline.cn/{PROVIDER}/v2.0"),
    ],
)
def test_each_cloud_has_its_own_issuer(cloud: str | None, issuer: str) -> None:
    assert identity(cloud=cloud, tenantId=PROVIDER.upper()).spec.entra_issuer == issuer
