"""What Snowflake's functions say in words, and what is written into a statement."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.snowflake import statements
from cmk_operator.providers.snowflake.answers import (
    ACTIVATION_WAIT,
    CmkConfig,
    CmkInfo,
    Verification,
    read_approval_request,
    read_config,
    read_info,
    read_remaining_wait,
    read_subnets,
    read_verification,
)
from sandbox.azure.snowflake.statements import Call, parsed

ONE = KeyUri("fabrikam-kv.vault.azure.net", "cmk")
TWO = KeyUri("fabrikam-kv.vault.azure.net", "other")
TSS = "Tri-Secret Secure"


@pytest.mark.parametrize(
    ("text", "info"),
    [
        ("CMK info has not been pre-registered in this account yet.", CmkInfo()),
        ("CMK info has not been registered in this account yet.", CmkInfo()),
        (f"CMK with KEY URI: {ONE} is pre-registered for {TSS}.", CmkInfo(ONE)),
        (f"CMK with KEY URI: {ONE} is registered for {TSS}.", CmkInfo(ONE)),
        (f"CMK with ARN: {ONE}\n is activated for {TSS}", CmkInfo(ONE, ONE)),
        (f"CMK with KEY URI: {ONE} with PrivateLink enabled is activated for {TSS}.", CmkInfo(ONE, ONE)),
        (f"CMK with KEY URI: {ONE} is being activated for {TSS}.", CmkInfo(ONE, in_progress=True)),
        (f"CMK with KEY URI: {ONE} is being rekeyed for {TSS}.", CmkInfo(None, ONE, in_progress=True)),
        (
            f"CMK with KEY URI: {ONE} is activated with {TSS}, but CMK with KEY URI: {TWO} is pre-registered for {TSS}.",
            CmkInfo(TWO, ONE),
        ),
        (
            f"CMK info has not been pre-registered in this account yet, but CMK {ONE} is activated with {TSS}.",
            CmkInfo(None, ONE),
        ),
        ("CMK with vault URI: https://fabrikam-kv.vault.azure.net/, key name: cmk is pre-registered", CmkInfo(ONE)),
        ("CMK with Vault_URI='https://fabrikam-kv.vault.azure.net' key_name='cmk' is activated for TSS", CmkInfo(ONE, ONE)),
        ("CMK with KEY URI: HTTPS://Fabrikam-KV.vault.azure.net:443/keys/CMK is pre-registered", CmkInfo(ONE)),
        ("", CmkInfo(understood=False)),
        ("CMK is activated", CmkInfo(understood=False)),
        ("CMK with ARN: arn:aws:kms:us-west-2:1:key/x is pre-registered", CmkInfo(understood=False)),
        (f"CMK {ONE} is in a state of which nobody has heard", CmkInfo(understood=False)),
    ],
)
def test_each_state_is_told_from_the_others_although_their_words_overlap(text: str, info: CmkInfo) -> None:
    assert read_info(text) == info


@given(st.text())
def test_no_text_of_snowflake_is_an_exception(text: str) -> None:
    read_info(text)
    read_config(text, "t")
    read_verification(text)
    read_subnets(text)
    read_remaining_wait(text)
    read_approval_request(text)


def test_the_consent_page_and_the_application_are_read_as_snowflake_prints_them_with_a_lone_quotation_mark() -> None:
    url = "https://login.microsoftonline.com/b3ddabe4-e5ed-4e71-8827-0cefb99af240/oauth2/authorize?client_id=c03&response_type=code"
    text = f'Consent url is: {url} and Snowflake Service Principal name is: trisec_cmk_azure"'
    for tenant in ("b3ddabe4-e5ed-4e71-8827-0cefb99af240", "B3DDABE4-E5ED-4E71-8827-0CEFB99AF240"):
        assert read_config(text, tenant) == CmkConfig(url, "trisec_cmk_azure")


@pytest.mark.parametrize("tenant", ["11111111-e5ed-4e71-8827-0cefb99af240", "common", "b3ddabe4-e5ed-4e71-8827-0cefb99af240x"])
def test_a_page_of_another_tenant_is_not_handed_to_the_customer(tenant: str) -> None:
    url = f"https://login.microsoftonline.com/{tenant}/oauth2/authorize?client_id=c03&response_type=code"
    found = read_config(f"Consent url is: {url} and so on", "b3ddabe4-e5ed-4e71-8827-0cefb99af240")
    assert found.consent_url is None


def test_only_a_page_of_entra_is_handed_to_the_customer() -> None:
    text = "Consent url is: https://login.microsoftonline.com.example.org/x and Snowflake Service Principal name is: a"
    assert read_config(text, "x").consent_url is None


_SENTENCE = (
    "Verification failed due to an exception with message: Error received from the customer managed key (CMK) provider caused by "
    "user: '{}'. CMK KEY URI used: https://fabrikam-kv.vault.azure.net/keys/cmk"
)


@pytest.mark.parametrize(
    ("text", "verification"),
    [
        ("Verification of the CMK was successful. CMK KEY URI used: https://x", Verification.PASSED),
        ("CMK access verified", Verification.PASSED),
        (_SENTENCE.format("AADSTS700016: Application with identifier 'x' was not found"), Verification.CONSENT_MISSING),
        *((_SENTENCE.format(f"AADSTS{code}: no"), Verification.CONSENT_MISSING) for code in (7000229, 500011, 50105, 7000112)),
        *((_SENTENCE.format(f"AADSTS{code}: not found"), Verification.ENTRA_REFUSED) for code in (999999, 53003, 90002)),
        (_SENTENCE.format("Caller is not authorized to perform action on resource."), Verification.NOT_PERMITTED),
        (_SENTENCE.format("Client address is not authorized and caller is not a trusted service"), Verification.FIREWALL),
        (_SENTENCE.format("Operation get is not allowed on a disabled key."), Verification.KEY_UNUSABLE),
        (_SENTENCE.format("A key with (name/id) cmk was not found in this key vault"), Verification.KEY_UNUSABLE),
        (_SENTENCE.format("Your request cannot be completed because of an external dependency."), Verification.FAILED),
        (
            "Verification failed due to an exception with message: Access is denied to the customer managed key (CMK) for this account. "
            "This could be because: 1) the CMK access permissions granted to Snowflake have been revoked OR 2) the CMK is disabled",
            Verification.NOT_PERMITTED,
        ),
        ("Verification did not succeed", Verification.NOT_UNDERSTOOD),
        ("Verification was unsuccessful: denied", Verification.NOT_UNDERSTOOD),
        ("OK", Verification.NOT_UNDERSTOOD),
        ("", Verification.NOT_UNDERSTOOD),
    ],
)
def test_a_verification_has_passed_only_when_nothing_speaks_against_it(text: str, verification: Verification) -> None:
    assert read_verification(text) is verification


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("it can be activated 72 hours after it was registered. Remaining wait time: 71 hours and 30 minutes.", 257_400.0),
        ("You must wait 2 days before activating.", 172_800.0),
        ("The 72-hour waiting period has not passed.", 0.0),
        ("The account is already being rekeyed. Try again after the rekeying is complete.", None),
        ("Insufficient privileges to operate on account 'X'", None),
    ],
)
def test_the_rest_of_the_wait_is_read_from_the_refusal(text: str, seconds: float | None) -> None:
    assert read_remaining_wait(text) == seconds


def test_a_request_for_approval_is_read_with_its_id() -> None:
    request = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
    text = f"Blocked by Multi-party Approval. A request has been created. Expires: 2026-01-15.\nRequest-ID: '{request}'"
    assert read_approval_request(text) == request
    assert read_approval_request("MPA_APPROVAL_REQUIRED") == ""
    assert read_approval_request("Unsupported feature") is None


def test_subnets_are_read_from_json_and_nothing_else_is_taken_for_one() -> None:
    assert read_subnets('{"snowflake-vnet-subnet-id":["/subscriptions/1"]}') == ("/subscriptions/1",)
    for text in ("", "[]", "{}", '{"snowflake-vnet-subnet-id": "x"}'):
        assert read_subnets(text) == ()


@given(st.one_of(st.text(max_size=40), st.text(alphabet="ab0 -_.:/,'\\\n;$\"()", max_size=12)))
def test_no_text_gets_out_of_its_literal(text: str) -> None:
    """Snowflake's own grammar judges: what is written is one call with exactly that text, or nothing is written."""
    try:
        statement = statements.config(text)
    except statements.UnsafeTextError:
        return
    assert parsed(statement) == Call("SYSTEM$GET_CMK_CONFIG", (text,))


@pytest.mark.parametrize("sign", [*"'\\\n\t;\"$*()=%&|<>{}[]\0", "\N{RIGHT SINGLE QUOTATION MARK}"])
def test_signs_with_a_meaning_in_sql_are_never_written(sign: str) -> None:
    for text in (sign, f"a{sign}b", f"{sign}a"):
        with pytest.raises(statements.UnsafeTextError):
            statements.literal(text)


def test_a_key_is_registered_by_its_vault_and_its_name() -> None:
    assert parsed(statements.register(ONE)) == Call("SYSTEM$REGISTER_CMK_INFO", ("https://fabrikam-kv.vault.azure.net", "cmk"))


@pytest.mark.parametrize("amount", ["9" * 900, "99999999999999", "73"])
def test_no_wait_is_longer_than_snowflakes_own(amount: str) -> None:
    assert read_remaining_wait(f"Remaining: {amount} days, {amount} hours") == ACTIVATION_WAIT.total_seconds()


def test_what_snowflake_shows_reaches_status_printable_and_bounded() -> None:
    url = "https://login.microsoftonline.com/t/oauth2/authorize?client_id=1"
    config = read_config(f"Open {url}\x1b[31m and then. The principal name is: {'x' * 5000}", "t")
    assert config.consent_url == url
    assert len(config.service_principal_name or "") == 120
    subnets = ["/subscriptions/1", "\x1b[31m", "x" * 5000, 7, None, *map(str, range(1000))]
    found = read_subnets(json.dumps({"snowflake-vnet-subnet-id": subnets}))
    assert found[0] == "/subscriptions/1"
    assert all(one.isprintable() and len(one) < 500 for one in found)
    assert len(found) <= 100
    assert read_subnets("[" * 100_000) == ()
