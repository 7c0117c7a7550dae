"""What a registration does next: from any start it comes to its end, without a second application and without a deletion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.access.token_verdict import may_be_replication
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.registration.faults import judge_registration_failure
from cmk_operator.core.registration.federation import MOST_CREDENTIALS, FederatedCredential, nearest_miss
from cmk_operator.core.registration.plan import (
    MULTITENANT,
    ApplicationFacts,
    CreateManagedIdentity,
    DesiredRegistration,
    ManagedIdentityFacts,
    MarkApplication,
    Namesake,
    ObservedRegistration,
    RegistrationStep,
    ServiceAccount,
    TrustAtApplication,
    TrustAtManagedIdentity,
    UpsertApplication,
    judge_token_audience,
    next_step,
)
from cmk_operator.reconcile.identity.registration import MOST_STEPS
from tests.unit.samples import APPLICATION, CLIENT, IDENTITY, PRINCIPAL, PROVIDER, entra, transient_failures

if TYPE_CHECKING:
    from collections.abc import Mapping

AUDIENCE = "api://AzureADTokenExchange"
ENTRA = f"https://login.microsoftonline.com/{PROVIDER}/v2.0"
ACCOUNT = ServiceAccount("https://cluster.example", "system:serviceaccount:cmk-operator-system:cmk-operator", (AUDIENCE,))
NAME = "Contoso CMK"


def desired(**changes: Any) -> DesiredRegistration:
    usual: dict[str, Any] = {
        "identity_name": "contoso",
        "registrar_client_id": CLIENT,
        "display_name": NAME,
        "known_client_id": None,
        "known_object_id": None,
        "managed_identity": ArmId(IDENTITY),
        "location": "westeurope",
        "entra_issuer": ENTRA,
        "audience": AUDIENCE,
        "service_account": ACCOUNT,
        "by_service_account": False,
    }
    return DesiredRegistration(**usual | changes)


def namesake(object_id: str = "o1", *, owned: bool = True, **changes: Any) -> Namesake:
    usual: dict[str, Any] = {
        "client_id": f"client-of-{object_id}",
        "sign_in_audience": "AzureADMultipleOrgs",
        "unique_name": None,
    }
    return Namesake(object_id, owned=owned, **usual | changes)


def others(count: int) -> tuple[FederatedCredential, ...]:
    return tuple(FederatedCredential("https://other.example", str(n), (AUDIENCE,), f"other-{n}") for n in range(count))


@dataclass
class Directory:
    """Azure as far as a registration writes to it: applications by object id, and the managed identity."""

    applications: dict[str, ApplicationFacts] = field(default_factory=dict)
    owned: set[str] = field(default_factory=set)
    identity: ManagedIdentityFacts | None = None

    def observed(self, wanted: DesiredRegistration) -> ObservedRegistration:
        marked = [one for one in self.applications.values() if one.unique_name == wanted.unique_name]
        assert len(marked) <= 1
        named = [
            Namesake(one.object_id, one.client_id, one.sign_in_audience, one.unique_name, one.object_id in self.owned)
            for one in self.applications.values()
            if one.display_name == wanted.display_name
        ]
        return ObservedRegistration(marked[0] if marked else None, () if marked else tuple(named), self.identity)

    def take(self, step: RegistrationStep) -> None:
        match step:
            case UpsertApplication(unique_name, display_name):
                old = next((one for one in self.applications.values() if one.unique_name == unique_name), None)
                if old is None:
                    old = ApplicationFacts("", "", (), f"new-{len(self.applications)}", APPLICATION, unique_name)
                    self.owned.add(old.object_id)
                made = replace(old, display_name=display_name, sign_in_audience="AzureADMultipleOrgs")
                self.applications[made.object_id] = made
            case MarkApplication(object_id, unique_name):
                assert self.applications[object_id].unique_name is None
                self.applications[object_id] = replace(self.applications[object_id], unique_name=unique_name)
            case CreateManagedIdentity():
                assert self.identity is None
                self.identity = ManagedIdentityFacts(CLIENT, PRINCIPAL, ())
            case TrustAtManagedIdentity(_, credential):
                assert self.identity is not None
                credentials = _written(self.identity.federated_credentials or (), credential)
                self.identity = replace(self.identity, federated_credentials=credentials)
            case TrustAtApplication(object_id, credential):
                application = self.applications[object_id]
                credentials = _written(application.federated_credentials, credential)
                self.applications[object_id] = replace(application, federated_credentials=credentials)


def _written(present: tuple[FederatedCredential, ...], new: FederatedCredential) -> tuple[FederatedCredential, ...]:
    kept = tuple(one for one in present if one.name != new.name)
    assert all((one.issuer, one.subject) != (new.issuer, new.subject) for one in kept), "Azure refuses a pair twice"
    assert len(kept) < MOST_CREDENTIALS
    return (*kept, new)


credentials = st.lists(
    st.builds(
        FederatedCredential,
        st.sampled_from([ENTRA, ACCOUNT.issuer, "https://other.example"]),
        st.sampled_from([PRINCIPAL, CLIENT, ACCOUNT.subject]),
        st.sampled_from([(AUDIENCE,), ("other",)]),
        st.sampled_from(
            [desired().trust_in_service_account.name, desired().trust_in_managed_identity(PRINCIPAL).name, "by-hand", "other"]
        ),
    ),
    unique_by=(lambda one: (one.issuer, one.subject), lambda one: one.name),
    max_size=4,
).map(tuple)
starts = st.builds(
    Directory,
    st.lists(
        st.builds(
            ApplicationFacts,
            st.sampled_from([NAME, "Other"]),
            st.sampled_from([*sorted(MULTITENANT), "AzureADMyOrg"]),
            credentials,
            st.sampled_from(["o1", "o2", "o3"]),
            st.just(APPLICATION),
            st.sampled_from([None, None, desired().unique_name, "of-another"]),
        ),
        unique_by=(lambda one: one.object_id, lambda one: one.unique_name or one.object_id),
    ).map(lambda found: {one.object_id: one for one in found}),
    st.sets(st.sampled_from(["o1", "o2", "o3"])),
    st.one_of(st.none(), st.builds(ManagedIdentityFacts, st.just(CLIENT), st.just(PRINCIPAL), credentials)),
)


@given(starts, st.booleans())
def test_from_any_start_it_comes_to_an_end_and_stays_there(directory: Directory, by_service_account: bool) -> None:  # noqa: FBT001 - drawn
    wanted = desired(by_service_account=by_service_account)
    before = len(directory.applications)
    step = next_step(wanted, directory.observed(wanted))
    for _ in range(MOST_STEPS - 1):
        if step is None or isinstance(step, Fault):
            break
        directory.take(step)
        step = next_step(wanted, directory.observed(wanted))
    assert len(directory.applications) <= before + 1
    if isinstance(step, Fault):
        assert step.needs_a_person
        assert "must" in step.message
        return
    assert step is None, "it did not converge"
    application = directory.observed(wanted).application
    assert application is not None
    assert (application.display_name, application.sign_in_audience in MULTITENANT) == (NAME, True)
    assert any(one.trusts(wanted.trust_in_managed_identity(PRINCIPAL)) for one in application.federated_credentials)
    account = any(one.trusts(wanted.trust_in_service_account) for one in application.federated_credentials)
    assert account or not by_service_account
    assert directory.identity is not None
    assert any(one.trusts(wanted.trust_in_service_account) for one in directory.identity.federated_credentials or ())


def test_from_nothing_it_takes_four_steps_in_this_order() -> None:
    wanted, directory = desired(), Directory()
    taken: list[str] = []
    while (step := next_step(wanted, directory.observed(wanted))) is not None:
        assert not isinstance(step, Fault)
        taken.append(type(step).__name__)
        directory.take(step)
    assert taken == ["UpsertApplication", "CreateManagedIdentity", "TrustAtManagedIdentity", "TrustAtApplication"]


@pytest.mark.parametrize(
    ("namesakes", "expected"),
    [
        ((), "UpsertApplication"),
        ((namesake(),), "MarkApplication"),
        ((namesake(), namesake("o2", owned=False)), "MarkApplication"),
        ((namesake(), namesake("o2", unique_name="of-another")), "MarkApplication"),
        ((namesake(), namesake("o2")), "AmbiguousApplication"),
        ((namesake(owned=False),), "ApplicationNotOwned"),
        ((namesake(unique_name="of-another"),), "ApplicationNotOwned"),
        ((namesake(sign_in_audience="AzureADMyOrg"),), "SingleTenantApplication"),
    ],
)
def test_an_application_of_that_name_is_adopted_only_when_it_is_clear_which(
    namesakes: tuple[Namesake, ...], expected: str
) -> None:
    identity = ManagedIdentityFacts(CLIENT, PRINCIPAL, (desired().trust_in_service_account,))
    step = next_step(desired(), ObservedRegistration(None, namesakes, identity))
    assert (step.reason if isinstance(step, Fault) else type(step).__name__) == expected


def test_an_application_that_was_registered_and_is_gone_is_never_replaced() -> None:
    step = next_step(
        desired(known_client_id=APPLICATION, known_object_id="o1"),
        ObservedRegistration(managed_identity=ManagedIdentityFacts(CLIENT, PRINCIPAL, (desired().trust_in_service_account,))),
    )
    assert isinstance(step, Fault)
    assert step.reason == "RegisteredApplicationMissing"
    assert "object id o1" in step.message


def test_what_stands_in_the_way_of_the_application_does_not_keep_the_managed_identity_waiting() -> None:
    refused = judge_registration_failure(AzureFailure(403, "Authorization_RequestDenied", ""), CLIENT, "the application")
    step = next_step(desired(), ObservedRegistration(application_unread=refused))
    assert isinstance(step, CreateManagedIdentity)
    identity = ManagedIdentityFacts(CLIENT, PRINCIPAL, (desired().trust_in_service_account,))
    assert next_step(desired(), ObservedRegistration(managed_identity=identity, application_unread=refused)) == refused


def test_a_managed_identity_that_cannot_be_read_is_not_created_over() -> None:
    refused = judge_registration_failure(AzureFailure(403, "AuthorizationFailed", ""), CLIENT, "the managed identity")
    application = ApplicationFacts(NAME, "AzureADMultipleOrgs", (), "o1", APPLICATION, desired().unique_name)
    assert next_step(desired(), ObservedRegistration(application, managed_identity_unread=refused)) == refused


def test_only_what_the_manifest_lets_the_operator_register_is_written() -> None:
    given_identity = ManagedIdentityFacts(CLIENT, PRINCIPAL)
    application = ApplicationFacts(NAME, "AzureADMultipleOrgs", (), "o1", APPLICATION, desired().unique_name)
    step = next_step(desired(location=None), ObservedRegistration(application, (), given_identity))
    assert step == TrustAtApplication("o1", desired().trust_in_managed_identity(PRINCIPAL))
    identity = ManagedIdentityFacts(CLIENT, PRINCIPAL, (desired().trust_in_service_account,))
    assert next_step(desired(display_name=None), ObservedRegistration(managed_identity=identity)) is None


def full(*credentials: FederatedCredential) -> ObservedRegistration:
    identity = ManagedIdentityFacts(CLIENT, PRINCIPAL, (desired().trust_in_service_account,))
    return ObservedRegistration(
        ApplicationFacts(NAME, "AzureADMultipleOrgs", credentials, "o1", APPLICATION, desired().unique_name), (), identity
    )


def test_the_twenty_first_credential_names_the_twenty() -> None:
    wanted = desired().trust_in_managed_identity(PRINCIPAL)
    step = next_step(desired(), full(*others(20)))
    assert isinstance(step, Fault)
    assert (step.reason, step.actor) == ("TooManyCredentials", Actor.PROVIDER_ADMINISTRATOR)
    assert all(one.name in step.message for one in others(20))
    assert next_step(desired(), full(*others(19))) == TrustAtApplication("o1", wanted)
    ours = replace(wanted, subject=CLIENT)
    assert next_step(desired(), full(*others(19), ours)) == TrustAtApplication("o1", wanted), "one of ours is repaired in place"
    assert next_step(desired(), full(*others(19), replace(wanted, name="by-hand"))) is None


def test_anothers_credential_of_the_same_pair_and_another_audience_is_named() -> None:
    rival = FederatedCredential(ENTRA, PRINCIPAL, ("other",), "by-hand")
    step = next_step(desired(), full(rival))
    assert isinstance(step, Fault)
    assert step.reason == "WrongCredentialAudience"
    assert "'by-hand'" in step.message


@pytest.mark.parametrize(
    ("audiences", "cloud", "refused"),
    [
        ((AUDIENCE,), CloudName.PUBLIC, False),
        ((AUDIENCE,), CloudName.US_GOVERNMENT, True),
        (("api://AzureADTokenExchangeChina",), CloudName.PUBLIC, True),
        (("of-our-own-choice",), CloudName.CHINA, False),
    ],
)
def test_a_token_for_another_cloud_is_not_shown_to_this_one(
    audiences: tuple[str, ...],
    cloud: CloudName,
    refused: bool,  # noqa: FBT001 - a table
) -> None:
    fault = judge_token_audience(replace(ACCOUNT, audiences=audiences), CLOUDS[cloud])
    assert (fault is not None) is refused
    if fault is not None:
        assert (fault.reason, fault.actor) == ("WrongTokenAudience", Actor.PLATFORM_ENGINEER)
        assert "azure.tokenAudience" in fault.message


def test_names_of_credentials_fit_azure_and_tell_clusters_and_identities_apart() -> None:
    one, other = desired(), desired(service_account=replace(ACCOUNT, issuer="https://second.example"))
    assert one.trust_in_service_account.name != other.trust_in_service_account.name
    assert one.trust_in_managed_identity("a").name == one.trust_in_managed_identity("b").name
    moved = desired(managed_identity=ArmId(f"{IDENTITY}2"))
    assert one.trust_in_managed_identity("a").name != moved.trust_in_managed_identity("a").name
    assert len(one.trust_in_service_account.name) <= 120


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (FederatedCredential(ENTRA, CLIENT, (AUDIENCE,), "x"), f"its credential 'x' has subject '{CLIENT}'"),
        (FederatedCredential(ENTRA.upper(), PRINCIPAL, (AUDIENCE,), "x"), f"its credential 'x' has issuer '{ENTRA.upper()}'"),
        (FederatedCredential(ENTRA, CLIENT, ("y",), "x"), f"its credential 'x' has subject '{CLIENT}' and audience 'y'"),
        (FederatedCredential("https://other.example", PRINCIPAL, (AUDIENCE,), "x"), ""),
    ],
)
def test_the_credential_that_was_meant_is_named_with_what_is_wrong(present: FederatedCredential, words: str) -> None:
    assert nearest_miss((present,), FederatedCredential(ENTRA, PRINCIPAL, (AUDIENCE,))) == words


REFUSALS: Mapping[str, tuple[FaultKind, str]] = {
    "Authorization_RequestDenied": (FaultKind.BLOCKED, "Application.ReadWrite.OwnedBy"),
    "AuthorizationFailed": (FaultKind.BLOCKED, "Managed Identity Contributor on the resource group"),
    "ResourceGroupNotFound": (FaultKind.BLOCKED, "must create it"),
    "Directory_QuotaExceeded": (FaultKind.BLOCKED, "quota"),
    "Directory_ConcurrencyViolation": (FaultKind.BUSY, "another change"),
    "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity": (FaultKind.BUSY, "another change"),
    "InvalidFederatedIdentityCredentialValue": (FaultKind.BLOCKED, "must end what Entra names: 'as Azure says it'"),
    "SomethingNew": (FaultKind.BLOCKED, "(SomethingNew)"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_says_who_must_do_what(code: str) -> None:
    kind, words = REFUSALS[code]
    fault = judge_registration_failure(AzureFailure(409, code, "as Azure says it", request_id="one"), CLIENT, "the thing")
    assert (fault.kind, fault.request_id) == (kind, "one")
    assert words in fault.message
    assert kind is FaultKind.BUSY or "the provider's administrator must" in fault.message


def test_a_unique_name_that_a_deleted_application_holds_is_told_as_that() -> None:
    failure = AzureFailure(
        400, "Request_BadRequest", "Another object with the same value for property uniqueName already exists."
    )
    fault = judge_registration_failure(failure, CLIENT, "the application 'x'")
    assert fault.reason == "UniqueNameTaken"
    assert "deleted items" in fault.message


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("InvalidFederatedIdentityCredentialValue", "Issuer 'https://a' is not allowed as per assigned policy 'b'."),
        ("Request_BadRequest", "SignInAudience value 'AzureADMultipleOrgs' not allowed as per assigned policy 'b'."),
    ],
)
def test_what_a_policy_of_the_directory_forbids_is_told_as_that_under_any_code(code: str, text: str) -> None:
    fault = judge_registration_failure(AzureFailure(400, code, text), CLIENT, "the application 'x'")
    assert (fault.reason, fault.actor) == ("DisallowedByApplicationPolicy", Actor.PROVIDER_ADMINISTRATOR)
    assert "must exempt the application from it" in fault.message
    assert "as per assigned policy" in fault.message


@given(transient_failures.filter(lambda failure: failure.stage is Stage.SERVICE))
def test_an_outage_is_waited_out(failure: AzureFailure) -> None:
    fault = judge_registration_failure(failure, CLIENT, "the application")
    assert fault.kind is FaultKind.BUSY
    assert fault.retry_after == failure.retry_after


def test_a_registrar_that_cannot_sign_in_is_named() -> None:
    fault = judge_registration_failure(entra(700213, Stage.OPERATOR_TOKEN), CLIENT, "the application")
    assert fault.reason == "RegistrarNotAuthenticated"
    assert f"the registrar {CLIENT} (AADSTS700213)" in fault.message


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (entra(70021), True),
        (entra(700213), True),
        (entra(70025), True),
        (entra(700016, Stage.OPERATOR_TOKEN), True),
        (entra(700016), False),
        (entra(7000112), False),
        (entra(7000215), False),
        (AzureFailure(503, "ServiceUnavailable", "", stage=Stage.OPERATOR_TOKEN), False),
    ],
)
def test_only_what_a_new_credential_or_identity_explains_may_be_replication(failure: AzureFailure, expected: bool) -> None:  # noqa: FBT001 - a table
    assert may_be_replication(failure) is expected
