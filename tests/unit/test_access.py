"""Each refusal on the way to a key has one name and one owner, and an outage is never taken for a loss (law 6)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.access.state import AccessState, DeletedKey, KeyProbe, VersionProbe
from cmk_operator.core.access.token_verdict import judge_token_failure
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, FaultKind
from tests.unit.samples import (
    LATER,
    NOT_FOUND,
    NOW,
    PROVIDER,
    UNREACHABLE,
    V1,
    attributes,
    disabled,
    entra,
    forbidden,
    healthy,
    key_probes,
    probe,
    refused,
    states,
    transient_failures,
)

CUSTOMER = Actor.CUSTOMER_ADMINISTRATOR
OWNER = Actor.PROVIDER_ADMINISTRATOR


@pytest.mark.parametrize(("name", "found"), states().items())
def test_every_access_state_is_reached_by_some_probe(name: str, found: KeyProbe) -> None:
    assert judge_access(found).state.value == name


def test_the_probes_above_leave_no_state_out() -> None:
    # What shuts Azure's services out is told by the vault's own settings, not by a probe.
    assert set(states()) == {state.value for state in AccessState} - {"FirewallBlocksServices"}


@pytest.mark.parametrize(
    ("code", "state", "actor", "words"),
    [
        (700016, AccessState.CONSENT_MISSING, CUSTOMER, "the customer's administrator must open the consent URL"),
        (7000112, AccessState.CONSENT_MISSING, CUSTOMER, "must enable its enterprise application"),
        (53003, AccessState.PERMISSION_DENIED, CUSTOMER, "a Conditional Access policy blocks"),
        (530032, AccessState.PERMISSION_DENIED, CUSTOMER, "the customer's administrator must exempt"),
        (700236, AccessState.IDENTITY_BROKEN, OWNER, "a policy of the application's own tenant"),
        (7000229, AccessState.CONSENT_MISSING, CUSTOMER, "the customer's administrator must open the consent URL"),
        (700011, AccessState.CONSENT_MISSING, CUSTOMER, "the customer's administrator must open the consent URL"),
        (65001, AccessState.CONSENT_MISSING, CUSTOMER, "the customer's administrator must open the consent URL"),
        (90094, AccessState.CONSENT_MISSING, CUSTOMER, "the customer's administrator must open the consent URL"),
        (500011, AccessState.CONSENT_MISSING, CUSTOMER, "must create or enable it"),
        (500014, AccessState.CONSENT_MISSING, CUSTOMER, "must create or enable it"),
        (50105, AccessState.CONSENT_MISSING, CUSTOMER, "must assign it"),
        (501051, AccessState.CONSENT_MISSING, CUSTOMER, "must assign it"),
        (53000, AccessState.PERMISSION_DENIED, CUSTOMER, "a Conditional Access policy blocks"),
        (530034, AccessState.PERMISSION_DENIED, CUSTOMER, "a Conditional Access policy blocks"),
        (900021, AccessState.IDENTITY_BROKEN, OWNER, "the customer's tenant does not exist"),
        (90038, AccessState.IDENTITY_BROKEN, OWNER, "is one of another cloud"),
        (900382, AccessState.IDENTITY_BROKEN, OWNER, "is one of another cloud"),
        (900432, AccessState.IDENTITY_BROKEN, OWNER, "is one of another cloud"),
        (999999, AccessState.ENTRA_REFUSED, OWNER, "must look the code up"),
        (90033, AccessState.ENTRA_REFUSED, OWNER, "must look the code up"),
        (650059, AccessState.IDENTITY_BROKEN, OWNER, "must set its signInAudience to AzureADMultipleOrgs"),
        (90002, AccessState.IDENTITY_BROKEN, OWNER, "must correct spec.tenantId of the CustomerTenant"),
        *(
            (code, AccessState.IDENTITY_BROKEN, OWNER, "the provider's administrator must check")
            for code in (
                70021,
                700211,
                700213,
                7002121,
                700222,
                700226,
                700227,
                700229,
                7000226,
                7000215,
                7000222,
                50027,
                90061,
                700024,
                700025,
                700210,
                700299,
                7002139,
                7002381,
                7000218,
            )
        ),
    ],
)
def test_each_refusal_of_entra_names_the_state_and_who_must_act(
    code: int, state: AccessState, actor: Actor, words: str
) -> None:
    access = judge_access(probe(refused(entra(code))))
    assert (access.state, access.actor) == (state, actor)
    assert f"AADSTS{code}" in access.message
    assert words in access.message


@pytest.mark.parametrize("code", [50033, 90012, 90024, 90033, 90055, 50000])
@pytest.mark.parametrize("status", [None, 429, 500, 503])
@pytest.mark.parametrize("stage", [Stage.APPLICATION_TOKEN, Stage.OPERATOR_TOKEN])
def test_entra_s_transient_errors_say_nothing_about_anyone(code: int, status: int | None, stage: Stage) -> None:
    access = judge_token_failure(entra(code, stage, status))
    assert (access.state, access.actor) == (AccessState.UNKNOWN, Actor.AZURE)
    assert "must" not in access.message


oauth_words = st.sampled_from(
    ["invalid_client", "invalid_request", "unauthorized_client", "invalid_grant", "invalid_resource", "temporarily_unavailable"]
)
refusals = st.builds(
    AzureFailure,
    status=st.integers(400, 499).filter(lambda status: status != 429),
    code=oauth_words,
    message=st.one_of(st.integers(1, 99_999_999).map(lambda code: f"AADSTS{code}: It is refused."), st.text(max_size=60)),
    request_id=st.just("one-request"),
    stage=st.sampled_from([Stage.APPLICATION_TOKEN, Stage.OPERATOR_TOKEN]),
)


def test_a_deleted_vault_that_still_answers_is_to_be_recovered_and_granted_again() -> None:
    access = judge_access(probe(refused(AzureFailure(404, "VaultNotFound", "The vault was not found."))))
    assert access.state is AccessState.VAULT_UNREACHABLE, "it cannot be told from outside why a vault is not there"
    assert "must recover, then grant again, because its role assignments are lost" in access.message
    page = judge_access(probe(refused(AzureFailure(404, "Http404", "<html>"))))
    assert page.state is AccessState.UNKNOWN, "a gateway's page says nothing"


@given(refusals.filter(lambda failure: failure.status != 408 or bool(failure.entra_codes)))
def test_any_4xx_of_the_token_endpoint_is_never_an_outage(failure: AzureFailure) -> None:
    access = judge_token_failure(failure)
    assert access.actor is not Actor.AZURE
    assert access.state not in {AccessState.UNKNOWN, AccessState.VAULT_UNREACHABLE, AccessState.ACCESSIBLE}
    assert access.state.reason.kind is FaultKind.BLOCKED
    assert " must " in access.message
    if failure.stage is Stage.APPLICATION_TOKEN:
        assert access.state.is_known_loss
        assert judge_access(probe(refused(failure))).state is access.state


@given(st.integers(1, 99_999_999), st.one_of(st.none(), st.just(429), st.integers(500, 599)), st.sampled_from(list(Stage)[:2]))
def test_an_outage_of_entra_is_never_a_refusal_whatever_it_says(code: int, status: int | None, stage: Stage) -> None:
    access = judge_token_failure(entra(code, stage, status))
    assert (access.state, access.actor) == (AccessState.UNKNOWN, Actor.AZURE)


@given(st.integers(0, 10_000))
def test_the_whole_families_of_the_federation_are_the_provider_s(rest: int) -> None:
    for code in (int(f"70021{rest}"), int(f"7002{rest:02d}")):
        access = judge_token_failure(entra(code))
        assert (access.state, access.actor) == (AccessState.IDENTITY_BROKEN, OWNER), code


def test_an_unknown_refusal_shows_its_code_and_entra_s_sentence() -> None:
    said = "AADSTS123456: The tenant has chosen to refuse. Trace ID: 1 Timestamp: 2026-11-24 12:00:00Z"
    access = judge_token_failure(AzureFailure(401, "invalid_client", said, stage=Stage.APPLICATION_TOKEN))
    assert "(AADSTS123456): 'AADSTS123456: The tenant has chosen to refuse'" in access.message


@pytest.mark.parametrize("code", ["", "Http403", "Http407"])
def test_a_gateway_before_entra_concludes_nothing(code: str) -> None:
    status = int(code.removeprefix("Http") or "403")
    access = judge_token_failure(AzureFailure(status, code, "<html>blocked</html>", stage=Stage.APPLICATION_TOKEN))
    assert access.state is AccessState.UNKNOWN


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(700016, "create it again"), (7000229, "create it again"), (7000112, "enable its enterprise application")],
)
def test_a_managed_identity_that_entra_lets_in_no_more_is_a_loss(code: int, remedy: str) -> None:
    access = judge_token_failure(entra(code, Stage.OPERATOR_TOKEN, 401))
    assert (access.state, access.actor) == (AccessState.IDENTITY_BROKEN, OWNER)
    assert f"the provider's administrator must {remedy}" in access.message


@pytest.mark.parametrize(
    ("inner", "state", "actor", "words"),
    [
        ("KeyDisabled", AccessState.DISABLED, CUSTOMER, "the customer's administrator must enable it"),
        ("ForbiddenByRbac", AccessState.PERMISSION_DENIED, CUSTOMER, "Key Vault Crypto Service Encryption User"),
        ("ForbiddenByPolicy", AccessState.PERMISSION_DENIED, CUSTOMER, "grant the application get, wrapKey and unwrapKey"),
        ("AccessDenied", AccessState.PERMISSION_DENIED, CUSTOMER, "grant the application get, wrapKey and unwrapKey"),
        ("ForbiddenByFirewall", AccessState.FIREWALL_BLOCKS_PROBE, CUSTOMER, "says nothing about Azure's trusted services"),
        ("ForbiddenByConnection", AccessState.FIREWALL_BLOCKS_PROBE, CUSTOMER, "says nothing about Azure's trusted services"),
        ("SomethingNew", AccessState.VAULT_REFUSED, CUSTOMER, "(SomethingNew): 'Operation is not allowed'"),
        ("ForbiddenBySomethingNew", AccessState.VAULT_REFUSED, CUSTOMER, "must look the code up"),
        ("", AccessState.VAULT_REFUSED, CUSTOMER, "(Forbidden): 'Operation is not allowed'"),
    ],
)
@pytest.mark.parametrize("operation", ["get", "wrapKey", "unwrapKey"])
def test_each_403_of_key_vault_names_the_state_and_who_must_act(
    inner: str, state: AccessState, actor: Actor, words: str, operation: str
) -> None:
    access = judge_access(probe(refused(forbidden(inner), operation)))
    assert (access.state, access.actor, access.request_id) == (state, actor, "one-request")
    assert words in access.message
    if state is AccessState.PERMISSION_DENIED:
        assert f"refuses {operation}" in access.message


def test_a_version_outside_its_dates_is_named_by_its_dates_not_by_the_403_that_follows() -> None:
    expired = attributes(expires=NOW - timedelta(days=1))
    early = attributes(not_before=NOW + timedelta(days=1))
    for known, state in ((expired, AccessState.EXPIRED), (early, AccessState.NOT_YET_VALID)):
        assert judge_access(probe(refused(forbidden(""), "wrapKey", known))).state is state


def test_expiry_and_start_are_judged_to_the_second() -> None:
    assert judge_access(probe(healthy(expires=NOW))).state is AccessState.EXPIRED
    assert judge_access(probe(healthy(expires=NOW + timedelta(seconds=1)))).state is AccessState.ACCESSIBLE
    assert judge_access(probe(healthy(not_before=NOW))).state is AccessState.ACCESSIBLE
    assert judge_access(probe(healthy(not_before=NOW + timedelta(seconds=1)))).state is AccessState.NOT_YET_VALID


def test_a_disabled_version_is_disabled_whether_the_vault_shows_it_or_refuses_to() -> None:
    assert judge_access(probe(disabled())).state is AccessState.DISABLED
    assert judge_access(probe(refused(forbidden("KeyDisabled")))).state is AccessState.DISABLED


def test_a_deleted_key_says_until_when_it_can_be_recovered() -> None:
    access = judge_access(probe(refused(NOT_FOUND), deleted=DeletedKey(NOW + timedelta(days=7))))
    assert "2026-12-01T12:00:00Z" in access.message
    assert "the customer's administrator must recover it" in access.message


def test_wrapping_without_getting_the_same_bytes_back_is_not_access() -> None:
    access = judge_access(probe(VersionProbe(attributes(), round_trip=False)))
    assert (access.state, access.actor) == (AccessState.UNKNOWN, Actor.MAINTAINER)


@given(transient_failures, st.one_of(st.none(), st.just(attributes())), st.sampled_from(["get", "wrapKey", "unwrapKey"]))
def test_outages_throttling_and_timeouts_are_never_a_loss(failure: AzureFailure, known: object, operation: str) -> None:
    access = judge_access(probe(VersionProbe(known, failure, operation)))  # type: ignore[arg-type]  # drawn from two types
    assert not access.state.is_known_loss
    assert access.state is not AccessState.ACCESSIBLE


@pytest.mark.parametrize("code", ["", "Http404", "ResourceNotFound", "DeploymentNotFound"])
def test_a_404_that_key_vault_did_not_say_about_the_key_is_no_purge(code: str) -> None:
    """A gateway, a proxy or a wildcard host answers 404 too."""
    access = judge_access(probe(refused(AzureFailure(404, code, "not found"))))
    assert not access.state.is_known_loss


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ("AKV10032: Invalid issuer.", AccessState.IDENTITY_BROKEN),
        ("<html>sign in to the egress proxy</html>", AccessState.UNKNOWN),
    ],
)
def test_a_401_blames_the_identity_only_if_key_vault_said_it(message: str, state: AccessState) -> None:
    access = judge_access(probe(refused(AzureFailure(401, "Unauthorized", message))))
    assert access.state is state


@pytest.mark.parametrize("code", ["", "Http403"])
def test_a_403_that_key_vault_did_not_say_is_no_withdrawn_grant(code: str) -> None:
    access = judge_access(probe(refused(AzureFailure(403, code, "<html>blocked by the egress proxy</html>"))))
    assert not access.state.is_known_loss


@given(key_probes())
def test_only_a_finished_round_trip_is_ever_called_accessible(found: KeyProbe) -> None:
    access = judge_access(found)
    if access.state is AccessState.ACCESSIBLE:
        assert found.wanted.round_trip
        assert found.wanted.failure is None
        assert found.vault_tenant is None
        assert found.wanted.attributes is not None
        assert found.wanted.attributes.enabled


@given(key_probes())
def test_a_loss_always_has_an_owner_and_a_sentence_that_says_what_they_must_do(found: KeyProbe) -> None:
    access = judge_access(found)
    if access.state.is_known_loss:
        assert access.actor in {CUSTOMER, OWNER, Actor.PLATFORM_ENGINEER}
        assert f"{access.actor.value} must " in access.message or f"the {access.actor.value}" in access.message
        assert " must " in access.message


@given(key_probes())
def test_messages_carry_nothing_that_differs_from_try_to_try(found: KeyProbe) -> None:
    message = judge_access(found).message
    for fleeting in ("Trace ID", "Correlation ID", "Timestamp", "one-request"):
        assert fleeting not in message
    again = KeyProbe(LATER, found.wanted, found.in_use, found.deleted, found.latest_exists, found.vault_tenant)
    if judge_access(again).state is judge_access(found).state:
        assert judge_access(again).message == message


def test_a_vault_of_another_tenant_is_a_matter_of_the_manifests() -> None:
    access = judge_access(probe(refused(UNREACHABLE), vault_tenant=PROVIDER))
    assert access.actor is Actor.PLATFORM_ENGINEER
    assert PROVIDER in access.message


def test_the_operator_s_own_sign_in_says_nothing_about_the_key() -> None:
    access = judge_access(probe(refused(entra(700213, Stage.OPERATOR_TOKEN))))
    assert (access.state, access.actor) == (AccessState.OPERATOR_NOT_AUTHENTICATED, OWNER)
    assert access.message.startswith("nothing is known about the key, because ")


def test_a_managed_identity_that_is_gone_is_a_loss_because_azures_services_come_by_it_too() -> None:
    access = judge_access(probe(refused(entra(700016, Stage.OPERATOR_TOKEN))))
    assert (access.state, access.actor) == (AccessState.IDENTITY_BROKEN, OWNER)
    assert "has no such managed identity (AADSTS700016)" in access.message
    assert "the provider's administrator must create it again" in access.message


def test_no_customer_is_blamed_for_an_application_that_the_provider_lost() -> None:
    missing = probe(refused(entra(700016)), application_missing=True, in_use={V1: refused(entra(700016))})
    access = judge_access(missing)
    assert (access.state, access.actor) == (AccessState.IDENTITY_BROKEN, OWNER)
    assert "restore it from the deleted applications" in access.message
    assert judge_access(probe(refused(entra(7000112)), application_missing=True)).state is AccessState.CONSENT_MISSING
    assert judge_access(probe(refused(entra(700016)))).state is AccessState.CONSENT_MISSING
