"""Snowflake accounts over their SQL API: key-pair sign-in, the functions of Tri-Secret Secure, and data that is really encrypted."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from sandbox.administrators.snowflake import SnowflakeAdministrator, SnowflakeError, new_key, public_pem, signed_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire

HOUR = 3600.0
CRYPTO_USER = "Key Vault Crypto User"


@pytest.fixture
async def snowflake(
    env: Mapping[str, str], identity: ProviderIdentity, control: SandboxControl
) -> AsyncIterator[SnowflakeAdministrator]:
    async with SnowflakeAdministrator(env, control) as opened:
        yield opened


@pytest.fixture
async def account(snowflake: SnowflakeAdministrator, name: Callable[[str], str]) -> str:
    opened = name("contoso-acme")
    await snowflake.open_account(opened)
    return opened


@dataclass(frozen=True)
class Registered:
    """An account with a registered key, and Snowflake's application as the customer was told of it."""

    account: str
    vault: str
    key: str
    key_uri: str
    consent_url: str

    @property
    def application(self) -> str:
        return self.consent_url.partition("client_id=")[2].partition("&")[0]


@pytest.fixture
async def registered(
    snowflake: SnowflakeAdministrator, account: str, customer: CustomerAdministrator, name: Callable[[str], str]
) -> Registered:
    vault, key = name("fabrikam-kv"), name("cmk")
    await customer.create_vault(vault)
    await customer.create_key(vault, key)
    uri = f"https://{vault}.vault.azure.net"
    await snowflake.ask(account, f"SYSTEM$REGISTER_CMK_INFO('{uri}/', '{key}')")
    config = await snowflake.ask(account, f"SYSTEM$GET_CMK_CONFIG('{customer.tenant_id}')")
    found = re.fullmatch(r'Consent url is: (\S+) and Snowflake Service Principal name is: (\S+)"', config)
    assert found is not None
    return Registered(account, vault, key, f"{uri}/keys/{key}", found[1])


async def granted(customer: CustomerAdministrator, control: SandboxControl, there: Registered, role: str = CRYPTO_USER) -> None:
    await customer.consent_at(there.consent_url)
    await customer.grant(there.application, there.vault, role=role)
    await control.advance(10)


async def active(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, there: Registered
) -> None:
    await granted(customer, control, there)
    await control.advance(72 * HOUR)
    await snowflake.ask(there.account, "SYSTEM$ACTIVATE_CMK_INFO()")
    await control.advance(HOUR)
    assert "is activated for" in await snowflake.ask(there.account, "SYSTEM$GET_CMK_INFO()")


async def refusal(snowflake: SnowflakeAdministrator, account: str, call: str, **options: Any) -> SnowflakeError:
    with pytest.raises(SnowflakeError) as refused:
        await snowflake.run(account, f"SELECT {call}", **options)
    return refused.value


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "NOBODY"},
        {"sub": "ANOTHER.ADMIN"},
        {"exp": 1},
        {"exp": int(time.time()) + 86_400},
        {"iss": "X.ADMIN.SHA256:AAAA"},
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(
    snowflake: SnowflakeAdministrator, account: str, claims: dict[str, object]
) -> None:
    token = signed_token(snowflake.key, account, "ADMIN", **claims)
    status, answer = await snowflake.send(account, {"statement": "SELECT SYSTEM$GET_CMK_INFO()"}, token=token)
    assert (status, answer["code"]) == (401, "390144")


async def test_a_token_signed_by_another_key_is_refused_even_with_the_right_fingerprint(
    snowflake: SnowflakeAdministrator, account: str
) -> None:
    right = signed_token(snowflake.key, account, "ADMIN")
    other = new_key()
    forged = signed_token(other, account, "ADMIN", iss=_claims(right)["iss"])
    for token in (forged, signed_token(other, account, "ADMIN")):
        status, answer = await snowflake.send(account, {"statement": "SELECT 1"}, token=token)
        assert (status, answer["code"]) == (401, "390144")


def _claims(token: str) -> dict[str, Any]:
    import jwt  # noqa: PLC0415 -- only here

    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


async def test_the_locator_with_its_region_is_the_same_account_and_the_token_names_it_without_region(
    snowflake: SnowflakeAdministrator, account: str, control: SandboxControl
) -> None:
    locator = (await control.snowflake_account(account))["locator"]
    assert "not been pre-registered" in await snowflake.ask(locator, "SYSTEM$GET_CMK_INFO()")


async def test_a_second_public_key_lets_keys_be_rotated(
    snowflake: SnowflakeAdministrator, account: str, control: SandboxControl
) -> None:
    other = new_key()
    keys = [public_pem(snowflake.key), public_pem(other)]
    await control.set_snowflake_account(account, users={"ADMIN": {"public_keys": keys}})
    for key in (snowflake.key, other):
        token = signed_token(key, account, "ADMIN")
        status, _ = await snowflake.send(
            account, {"statement": "SELECT SYSTEM$GET_CMK_INFO()", "role": "ACCOUNTADMIN"}, token=token
        )
        assert status == 200


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT SYSTEM$NO_SUCH_FUNCTION()", "002141"),
        ("SELECT SYSTEM$GET_CMK_INFO('a')", "000939"),
        ("SELECT SYSTEM$REGISTER_CMK_INFO('https://v.vault.azure.net')", "000938"),
        ("SELECT SYSTEM$GET_CMK_INFO(); SELECT SYSTEM$DEACTIVATE_CMK_INFO()", "000008"),
        ("SELECT SYSTEM$GET_CMK_INFO() -- and more", "001003"),
        ("SELECT SYSTEM$GET_CMK_CONFIG('unterminated)", "001003"),
        ("SELECT SYSTEM$GET_CMK_CONFIG('a' || 'b')", "001003"),
        ("DROP TABLE ORDERS", "001003"),
        ("SELECT * FROM NOTHING", "002003"),
    ],
)
async def test_what_is_no_simple_call_is_refused(
    snowflake: SnowflakeAdministrator, account: str, statement: str, code: str
) -> None:
    with pytest.raises(SnowflakeError) as refused:
        await snowflake.run(account, statement)
    assert (refused.value.status, refused.value.code) == (422, code)


@pytest.mark.parametrize(
    ("role", "call", "status", "code"),
    [
        ("PUBLIC", "SYSTEM$GET_CMK_INFO()", 422, "003001"),
        ("WATCHER", "SYSTEM$REGISTER_CMK_INFO('https://vault.vault.azure.net', 'k')", 422, "003001"),
        ("WATCHER", "SYSTEM$ACTIVATE_CMK_INFO()", 422, "003001"),
        ("SYSADMIN", "SYSTEM$GET_CMK_INFO()", 401, "390186"),
    ],
)
async def test_a_role_does_what_it_may(
    snowflake: SnowflakeAdministrator,
    account: str,
    control: SandboxControl,
    role: str,
    call: str,
    status: int,
    code: str,
) -> None:
    user = {"public_keys": [public_pem(snowflake.key)], "roles": ["ACCOUNTADMIN", "WATCHER"]}
    await control.set_snowflake_account(account, roles={"WATCHER": ["MONITOR SECURITY"]}, users={"ADMIN": user})
    assert "not been pre-registered" in (await snowflake.run(account, "SELECT SYSTEM$GET_CMK_INFO()", role="WATCHER"))[0][0]
    refused = await refusal(snowflake, account, call, role=role)
    assert (refused.status, refused.code) == (status, code)


async def test_an_account_below_business_critical_has_no_tri_secret_secure(
    snowflake: SnowflakeAdministrator, account: str, control: SandboxControl
) -> None:
    await control.set_snowflake_account(account, edition="ENTERPRISE")
    refused = await refusal(snowflake, account, "SYSTEM$GET_CMK_INFO()")
    assert (refused.code, refused.message) == ("000002", "Unsupported feature 'TRI_SECRET_SECURE'.")


@pytest.mark.parametrize(("about", "code"), [({"locked": True}, "390102"), ({"disabled": True}, "390101")])
async def test_a_locked_or_disabled_user_is_told_so(
    snowflake: SnowflakeAdministrator, account: str, control: SandboxControl, about: dict[str, bool], code: str
) -> None:
    user = {"public_keys": [public_pem(snowflake.key)], **about}
    await control.set_snowflake_account(account, users={"ADMIN": user})
    assert (await refusal(snowflake, account, "SYSTEM$GET_CMK_INFO()")).code == code


async def test_the_api_wants_its_headers_and_knows_its_fields(snowflake: SnowflakeAdministrator, account: str) -> None:
    body = {"statement": "SELECT SYSTEM$GET_CMK_INFO()"}
    status, _ = await snowflake.send(account, {**body, "unknown": 1})
    assert status == 400
    status, answer = await snowflake.send(account, body, headers={"X-Snowflake-Authorization-Token-Type": "OAUTH"})
    assert (status, answer["code"]) == (401, "390303")
    status, _ = await snowflake.send(account, body, headers={"Accept": "text/html"})
    assert status == 400


async def test_a_long_statement_is_asked_after_by_its_handle(
    snowflake: SnowflakeAdministrator, account: str, control: SandboxControl
) -> None:
    await control.set_timings(snowflake_statement_seconds=300)
    body = {"statement": "SELECT SYSTEM$GET_CMK_INFO()", "role": "ACCOUNTADMIN"}
    status, answer = await snowflake.send(account, body)
    assert (status, answer["code"]) == (202, "333334")
    path = f"/{answer['statementHandle']}"
    assert (await snowflake.send(account, {}, method="GET", path=path))[0] == 202
    await control.advance(301)
    status, answer = await snowflake.send(account, {}, method="GET", path=path)
    assert (status, answer["code"]) == (200, "090001")
    assert answer["data"] == [["CMK info has not been pre-registered in this account yet."]]


async def test_a_statement_sent_again_with_its_request_id_is_not_run_again(
    snowflake: SnowflakeAdministrator, account: str, control: SandboxControl
) -> None:
    body = {"statement": "SELECT SYSTEM$REGISTER_CMK_INFO('https://vault.vault.azure.net', 'k')", "role": "ACCOUNTADMIN"}
    query = {"requestId": "6f1c5c2e-0f7e-4b43-9a53-2c24c7f0f3a1"}
    for _ in range(2):
        status, _answer = await snowflake.send(account, body, query={**query, "retry": "true"})
        assert status == 200
    assert len((await control.snowflake_account(account))["emails"]) == 1


async def test_verification_fails_in_a_row_until_the_customer_consents_and_grants(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    account = registered.account
    with suppress(ResourceNotFoundError):
        await customer.withdraw_consent(registered.application)
    first = await snowflake.ask(account, "SYSTEM$VERIFY_CMK_INFO()")
    assert first.startswith("Verification failed due to an exception with message: ")
    assert "AADSTS700016" in first
    await customer.consent_at(registered.consent_url)
    await control.advance(10)
    assert "Caller is not authorized" in await snowflake.ask(account, "SYSTEM$VERIFY_CMK_INFO()")
    await customer.grant(registered.application, registered.vault)
    await control.advance(10)
    # Wrapping and unwrapping are not enough: Snowflake signs and verifies as well.
    assert "sign/action" in await snowflake.ask(account, "SYSTEM$VERIFY_CMK_INFO()")
    await customer.grant(registered.application, registered.vault, role=CRYPTO_USER)
    await control.advance(10)
    assert "successful" in await snowflake.ask(account, "SYSTEM$VERIFY_CMK_INFO()")


async def test_the_firewall_stops_snowflake_until_all_its_subnets_are_in_the_vaults_rules(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    await granted(customer, control, registered)
    account = registered.account
    platform = json.loads(await snowflake.ask(account, "SYSTEM$GET_SNOWFLAKE_PLATFORM_INFO()"))
    subnets = platform["snowflake-vnet-subnet-id"]
    for some, verdict in (
        (subnets[:0], "not a trusted service"),
        (subnets[:1], "not a trusted service"),
        (subnets, "successful"),
    ):
        await customer.set_firewall(registered.vault, subnets=some)
        assert verdict in await snowflake.ask(account, "SYSTEM$VERIFY_CMK_INFO()")


async def test_one_key_is_registered_at_a_time(snowflake: SnowflakeAdministrator, registered: Registered) -> None:
    account = registered.account
    refused = await refusal(snowflake, account, "SYSTEM$REGISTER_CMK_INFO('https://other.vault.azure.net', 'k')")
    assert "SYSTEM$DEREGISTER_CMK_INFO" in refused.message
    assert f"{registered.key_uri} is pre-registered" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    await snowflake.ask(account, "SYSTEM$DEREGISTER_CMK_INFO()")
    await snowflake.ask(account, "SYSTEM$REGISTER_CMK_INFO('https://other.vault.azure.net', 'k')")


async def test_a_key_is_activated_no_sooner_than_72_hours_after_its_registration(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    await granted(customer, control, registered)
    account = registered.account
    await control.advance(71.5 * HOUR)
    refused = await refusal(snowflake, account, "SYSTEM$ACTIVATE_CMK_INFO()")
    assert re.search(r"Remaining wait time: 0 hours and (29|30) minutes", refused.message)
    await control.advance(HOUR)
    await snowflake.ask(account, "SYSTEM$ACTIVATE_CMK_INFO()")
    assert f"{registered.key_uri} is being activated" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    assert await snowflake.read(account) == [["one order"]]
    await control.advance(HOUR)
    assert f"{registered.key_uri} is activated for" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    assert await snowflake.read(account) == [["one order"]]


async def test_data_stops_ten_minutes_after_the_key_is_lost_and_comes_back_with_it(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    await active(snowflake, customer, control, registered)
    account = registered.account
    await customer.disable(registered.vault, registered.key)
    await control.advance(601)
    with pytest.raises(SnowflakeError, match=r"disabled key"):
        await snowflake.read(account)
    assert "is activated for" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    await customer.enable(registered.vault, registered.key)
    assert await snowflake.read(account) == [["one order"]]


async def test_the_old_version_is_needed_until_the_rekey_is_done(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    await active(snowflake, customer, control, registered)
    account, vault, key = registered.account, registered.vault, registered.key
    old = (await control.snowflake_account(account))["active_version"]
    new = (await customer.new_version(vault, key)).rsplit("/", 1)[-1]
    await snowflake.ask(account, "SYSTEM$ACTIVATE_CMK_INFO('REKEY_SAME_CMK')")
    assert "is being rekeyed" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    await customer.disable(vault, key, new)
    await control.advance(601)
    with pytest.raises(SnowflakeError):
        await snowflake.read(account)
    await customer.enable(vault, key, new)
    assert await snowflake.read(account) == [["one order"]]
    await customer.disable(vault, key, old)
    await control.advance(2 * HOUR)
    with pytest.raises(SnowflakeError):
        await snowflake.read(account)
    assert "is being rekeyed" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    await customer.enable(vault, key, old)
    assert "is activated for" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    await customer.disable(vault, key, old)
    await control.advance(601)
    assert await snowflake.read(account) == [["one order"]]
    assert (await control.snowflake_account(account))["active_version"] == new


async def test_a_deactivated_account_needs_the_customers_key_no_more(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    await active(snowflake, customer, control, registered)
    account = registered.account
    await snowflake.ask(account, "SYSTEM$DEACTIVATE_CMK_INFO()")
    await control.advance(HOUR)
    assert "not been pre-registered" in await snowflake.ask(account, "SYSTEM$GET_CMK_INFO()")
    await customer.delete_key(registered.vault, registered.key)
    await control.advance(601)
    assert await snowflake.read(account) == [["one order"]]


async def test_multi_party_approval_needs_a_reason_a_vote_and_the_same_statement_again(
    snowflake: SnowflakeAdministrator, customer: CustomerAdministrator, control: SandboxControl, registered: Registered
) -> None:
    await granted(customer, control, registered)
    account = registered.account
    await control.set_snowflake_account(account, approvers=["CAROL"])
    await control.advance(72 * HOUR)
    refused = await refusal(snowflake, account, "SYSTEM$ACTIVATE_CMK_INFO()")
    found = re.search(r"Request-ID: '([0-9a-f-]{36})'", refused.message)
    assert found is not None
    assert found[1] in (await refusal(snowflake, account, "SYSTEM$ACTIVATE_CMK_INFO()")).message
    with pytest.raises(ValueError, match="justification"):
        await control.vote_in_snowflake(account, found[1], "CAROL", "APPROVE")
    await snowflake.ask(account, f"SYSTEM$UPDATE_MULTI_PARTY_APPROVAL_JUSTIFICATION('{found[1]}', 'it''s due')")
    await control.vote_in_snowflake(account, found[1], "CAROL", "APPROVE")
    await snowflake.ask(account, "SYSTEM$ACTIVATE_CMK_INFO()")
    (request,) = (await control.snowflake_account(account))["approvals"]
    assert (request["state"], request["justification"]) == ("EXECUTED", "it's due")


async def test_only_the_application_of_snowflake_is_consented_to(
    customer: CustomerAdministrator, provider: ProviderAdministrator, registered: Registered
) -> None:
    incomplete = registered.consent_url.replace("response_type=code", "response_type=none")
    with pytest.raises(HttpResponseError, match="AADSTS900144"):
        await customer.consent_at(incomplete)
    await customer.consent_at(registered.consent_url)
    principal = await customer.graph.json("GET", f"/servicePrincipals(appId='{registered.application}')")
    assert principal["displayName"] == "trisec_cmk_azure"
    assert principal["appOwnerOrganizationId"] not in {customer.tenant_id, provider.tenant_id}


async def test_snowflakes_own_drivers_sign_in_ask_and_sign_out(
    snowflake: SnowflakeAdministrator, account: str, wire: Wire
) -> None:
    base = f"https://{account}.snowflakecomputing.com"

    def login(key: RSAPrivateKey) -> dict[str, Any]:
        token = signed_token(key, account, "ADMIN")
        return {"data": {"AUTHENTICATOR": "SNOWFLAKE_JWT", "TOKEN": token, "LOGIN_NAME": "ADMIN", "ACCOUNT_NAME": account}}

    refused = await wire("POST", f"{base}/session/v1/login-request", body=login(new_key()))
    assert (refused.status, refused.json["success"], refused.json["code"]) == (200, False, "390144")
    opened = await wire("POST", f"{base}/session/v1/login-request?roleName=ACCOUNTADMIN", body=login(snowflake.key))
    headers = {"Authorization": f'Snowflake Token="{opened.json["data"]["token"]}"'}
    answer = await wire(
        "POST", f"{base}/queries/v1/query-request", body={"sqlText": "SELECT SYSTEM$GET_CMK_INFO()"}, headers=headers
    )
    assert answer.json["data"]["rowset"] == [["CMK info has not been pre-registered in this account yet."]]
    unknown = await wire("POST", f"{base}/queries/v1/query-request", body={"sqlText": "SELECT SYSTEM$NO()"}, headers=headers)
    assert (unknown.json["success"], unknown.json["code"]) == (False, "002141")
    await wire("POST", f"{base}/session?delete=true", headers=headers)
    gone = await wire("POST", f"{base}/queries/v1/query-request", body={"sqlText": "SELECT 1"}, headers=headers)
    assert gone.json["code"] == "390104"
