"""An organization refuses, or nothing is known: no failure of a wrap, unwrap or sign-in is taken for the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.access.entra_codes import EntraFamily, family_of
from cmk_operator.core.access.token_verdict import is_refusal
from cmk_operator.core.faults.azure_failure import BUDGET_SPENT, AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.organization.verdict import Operation, VerdictKind, judge
from tests.unit.samples import NOT_FOUND, UNREACHABLE, entra, forbidden, transient_failures

DENIED, UNAVAILABLE, THROTTLED = VerdictKind.DENIED, VerdictKind.UNAVAILABLE, VerdictKind.THROTTLED
LOST, INVALID = VerdictKind.LOST, VerdictKind.INVALID
CUSTOMER, OWNER = Actor.CUSTOMER_ADMINISTRATOR, Actor.PROVIDER_ADMINISTRATOR


@pytest.mark.parametrize(
    ("failure", "kind", "reason", "actor", "words"),
    [
        (forbidden("KeyDisabled"), DENIED, Reason.DISABLED, CUSTOMER, "must enable it"),
        (
            forbidden("ForbiddenByRbac"),
            DENIED,
            Reason.PERMISSION_DENIED,
            CUSTOMER,
            "must grant the application wrapKey and unwrapKey",
        ),
        (forbidden("ForbiddenByPolicy"), DENIED, Reason.PERMISSION_DENIED, CUSTOMER, "must grant the application wrapKey"),
        (
            forbidden("ForbiddenByFirewall"),
            DENIED,
            Reason.FIREWALL_BLOCKS_PROBE,
            CUSTOMER,
            "addresses of the operator and of the key service",
        ),
        (forbidden("ForbiddenByConnection"), DENIED, Reason.FIREWALL_BLOCKS_PROBE, CUSTOMER, "private endpoint"),
        (forbidden("ForbiddenByMoon"), DENIED, Reason.VAULT_REFUSED, CUSTOMER, "(ForbiddenByMoon)"),
        (NOT_FOUND, DENIED, Reason.MISSING, CUSTOMER, "must recover it if it was deleted"),
        (
            AzureFailure(400, "BadParameter", "Error occurred while decoding OAEP padding."),
            INVALID,
            Reason.KEY_DOES_NOT_FIT,
            Actor.PLATFORM_ENGINEER,
            "must correct keyUri",
        ),
        (
            AzureFailure(429, "Throttled", "", retry_after=30.0),
            THROTTLED,
            Reason.VAULT_THROTTLED,
            Actor.AZURE,
            "Azure throttles",
        ),
        (
            AzureFailure(429, BUDGET_SPENT, "", retry_after=3.0),
            THROTTLED,
            Reason.VAULT_THROTTLED,
            Actor.AZURE,
            "the share of Azure's limits",
        ),
        (AzureFailure(404, "VaultNotFound", ""), UNAVAILABLE, Reason.VAULT_UNREACHABLE, Actor.AZURE, "nothing is concluded"),
        (UNREACHABLE, UNAVAILABLE, Reason.VAULT_UNREACHABLE, Actor.AZURE, "an outage ends by itself"),
        (AzureFailure(403, "Http403", "<html>"), UNAVAILABLE, Reason.VAULT_UNREACHABLE, Actor.AZURE, "nothing is concluded"),
        (AzureFailure(404, "Http404", "<html>"), UNAVAILABLE, Reason.VAULT_UNREACHABLE, Actor.AZURE, "nothing is concluded"),
        (AzureFailure(400, "Http400", "<html>"), UNAVAILABLE, Reason.VAULT_UNREACHABLE, Actor.AZURE, "nothing is concluded"),
        (
            AzureFailure(401, "Unauthorized", "AKV10001: Error validating token: S2S12005: Token has expired."),
            UNAVAILABLE,
            Reason.IDENTITY_BROKEN,
            OWNER,
            "must check the clock",
        ),
        (entra(700016), DENIED, Reason.CONSENT_MISSING, CUSTOMER, "must open the consent URL"),
        (entra(7000112), DENIED, Reason.CONSENT_MISSING, CUSTOMER, "must enable its enterprise application"),
        (entra(53003), DENIED, Reason.PERMISSION_DENIED, CUSTOMER, "Conditional Access"),
        (entra(90002), DENIED, Reason.IDENTITY_BROKEN, OWNER, "does not exist"),
        (entra(999999), DENIED, Reason.ENTRA_REFUSED, OWNER, "must look the code up"),
        (entra(700213), UNAVAILABLE, Reason.IDENTITY_BROKEN, OWNER, "issuer, subject and audience"),
        (entra(700236), UNAVAILABLE, Reason.IDENTITY_BROKEN, OWNER, "must exempt the application"),
        (entra(700016, Stage.OPERATOR_TOKEN), UNAVAILABLE, Reason.IDENTITY_BROKEN, OWNER, "must create it again"),
        (
            entra(700213, Stage.OPERATOR_TOKEN),
            UNAVAILABLE,
            Reason.OPERATOR_NOT_AUTHENTICATED,
            OWNER,
            "must check the managed identity",
        ),
    ],
)
def test_each_failure_of_an_unwrap_says_what_it_means_and_who_must_act(
    failure: AzureFailure, kind: VerdictKind, reason: Reason, actor: Actor, words: str
) -> None:
    verdict = judge(failure)
    assert (verdict.kind, verdict.reason, verdict.actor) == (kind, reason, actor)
    assert words in verdict.message
    assert verdict.refuses is (kind in {DENIED, LOST})
    assert verdict.retryable is (kind in {UNAVAILABLE, THROTTLED})


@pytest.mark.parametrize(
    ("code", "message", "reason", "words"),
    [
        (7000222, "", Reason.CREDENTIAL_EXPIRED, "the client secret has expired"),
        (7000215, "", Reason.CREDENTIAL_REFUSED, "no such client secret"),
        (700027, "", Reason.CREDENTIAL_REFUSED, "no such certificate"),
        (700027, "[Reason - The key used is expired., Thumbprint", Reason.CREDENTIAL_EXPIRED, "the certificate has expired"),
        (700024, "", Reason.CREDENTIAL_REFUSED, "the clocks may differ"),
        (7000218, "", Reason.CREDENTIAL_REFUSED, "must create a new one on its registration"),
        (700016, "", Reason.REGISTRATION_MISSING, "must enable or create it"),
        (7000112, "", Reason.REGISTRATION_MISSING, "must enable or create it"),
        (53003, "", Reason.PERMISSION_DENIED, "Conditional Access"),
        (999999, "", Reason.ENTRA_REFUSED, "the customer's administrator must look the code up"),
    ],
)
def test_each_refusal_of_an_own_registration_is_the_organization_s_to_end(
    code: int, message: str, reason: Reason, words: str
) -> None:
    failure = AzureFailure(401, "invalid_client", f"AADSTS{code}: {message}", stage=Stage.APPLICATION_TOKEN)
    verdict = judge(failure, Operation.SIGN_IN, own_registration=True)
    assert (verdict.kind, verdict.reason, verdict.actor) == (DENIED, reason, CUSTOMER)
    assert words in verdict.message


def test_a_key_is_lost_only_if_the_vault_has_it_neither_live_nor_deleted() -> None:
    verdict = judge(NOT_FOUND, purged=True)
    assert (verdict.kind, verdict.reason) == (LOST, Reason.PURGED)
    assert "restore it from a backup" in verdict.message
    assert judge(forbidden("KeyDisabled"), purged=True).kind is DENIED


@pytest.mark.parametrize(
    ("words", "reason"),
    [("on an expired key.", Reason.EXPIRED), ("on a key that is not yet valid.", Reason.NOT_YET_VALID)],
)
def test_a_wrap_outside_the_version_s_dates_is_no_refusal_of_what_was_wrapped(words: str, reason: Reason) -> None:
    failure = AzureFailure(403, "Forbidden", f"Operation wrap is not allowed {words}")
    assert (judge(failure, Operation.WRAP).kind, judge(failure, Operation.WRAP).reason) == (INVALID, reason)
    assert judge(failure, Operation.UNWRAP).reason is Reason.VAULT_REFUSED, "an expired key unwraps, so this is something else"


whoever = st.fixed_dictionaries({"purged": st.booleans(), "own_registration": st.booleans()})


@given(transient_failures, st.sampled_from(Operation), whoever)
def test_an_outage_is_never_a_refusal(failure: AzureFailure, operation: Operation, how: dict[str, bool]) -> None:
    assert not judge(failure, operation, **how).refuses


@given(
    st.integers(1, 99_999_999),
    st.integers(400, 499).filter(lambda status: status != 429),
    st.sampled_from(["invalid_client", "unauthorized_client", "invalid_grant"]),
    whoever,
)
def test_a_refusal_of_entra_is_one_unless_only_the_provider_can_have_caused_it(
    number: int, status: int, word: str, how: dict[str, bool]
) -> None:
    failure = AzureFailure(status, word, f"AADSTS{number}: It is refused.", stage=Stage.APPLICATION_TOKEN)
    assert is_refusal(failure)
    of_provider = family_of(number) in {
        EntraFamily.FEDERATION,
        EntraFamily.CREDENTIAL,
        EntraFamily.FEDERATION_POLICY,
        EntraFamily.SINGLE_TENANT,
    }
    assert judge(failure, Operation.UNWRAP, **how).kind is (
        UNAVAILABLE if of_provider and not how["own_registration"] else DENIED
    )


@given(
    st.builds(
        AzureFailure,
        status=st.one_of(st.none(), st.integers(400, 599)),
        code=st.text(max_size=20),
        message=st.text(max_size=60),
        inner_code=st.text(max_size=20),
        stage=st.sampled_from(Stage),
    ),
    st.sampled_from(Operation),
)
def test_whatever_the_answer_somebody_is_named_and_the_message_is_of_one_line(
    failure: AzureFailure, operation: Operation
) -> None:
    verdict = judge(failure, operation)
    assert verdict.message
    assert verdict.message.isprintable()
    assert verdict.kind is not LOST
