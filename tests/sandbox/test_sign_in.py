"""Users sign in as with Entra: the code flow with PKCE, its refusals, an id_token, and an administrator's consent.

Sources: Entra's "OAuth 2.0 authorization code flow", "OpenID Connect", "Admin consent" and "AADSTS error codes".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import msal  # type: ignore[import-untyped] # it has no type information
import pytest

from tests.browser import Browser, Page, browser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, SandboxControl
    from tests.sandbox.conftest import Reply, Wire

LOGIN = "https://login.microsoftonline.com"
BOB, CAROL = "bob@fabrikam.onmicrosoft.com", "carol@fabrikam.onmicrosoft.com"
BACK = "https://console.contoso.example/sign-in/callback"
ALICE, ALICES = "alice@contoso.onmicrosoft.com", "correct horse"


@dataclass(frozen=True)
class App:
    """A web application of the provider."""

    tenant: str
    id: str
    secret: str

    def url(self, tenant: str = "", **changes: str | None) -> str:
        asked: dict[str, str | None] = {
            "client_id": self.id,
            "response_type": "code",
            "redirect_uri": BACK,
            "scope": "openid profile",
            "state": "s&=1",
            "nonce": "n1",
            "code_challenge": challenge("v" * 43),
            "code_challenge_method": "S256",
            **changes,
        }
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"{LOGIN}/{tenant or self.tenant}/oauth2/v2.0/authorize?{query}"

    async def redeem(self, wire: Wire, code: str, tenant: str = "", **changes: str | None) -> Reply:
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "client_id": self.id,
            "client_secret": self.secret,
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": "v" * 43,
            **changes,
        }
        sent = {name: value for name, value in form.items() if value is not None}
        return await wire("POST", f"{LOGIN}/{tenant or self.tenant}/oauth2/v2.0/token", form=sent)


def challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
async def app(
    provider: ProviderAdministrator, control: SandboxControl, env: Mapping[str, str], name: Callable[[str], str]
) -> App:
    body = {
        "displayName": name("console"),
        "signInAudience": "AzureADMultipleOrgs",
        "web": {"redirectUris": [BACK]},
        "groupMembershipClaims": "SecurityGroup",
    }
    made = await provider.graph.json("POST", "/applications", body)
    await provider.graph.json("POST", "/servicePrincipals", {"appId": made["appId"]})
    secret = await provider.graph.json("POST", f"/applications/{made['id']}/addPassword", {"passwordCredential": {}})
    await control.put_user(env["PROVIDER_TENANT_ID"], ALICE, ALICES, groups=["g-1"], displayName="Alice")
    await control.put_user(env["CUSTOMER_TENANT_ID"], BOB, "b")
    await control.put_user(env["CUSTOMER_TENANT_ID"], CAROL, "c", administrator=True)
    return App(env["PROVIDER_TENANT_ID"], made["appId"], secret["secretText"])


@pytest.fixture
async def window(env: Mapping[str, str]) -> AsyncIterator[Browser]:
    async with browser(env, BACK) as opened:
        yield opened


async def signed_in(window: Browser, url: str, login: str = ALICE, passwd: str = ALICES) -> Page:
    return await window.submit(await window.open(url), login=login, passwd=passwd)


async def verified_claims(wire: Wire, token: str, tenant: str, app_id: str) -> dict[str, Any]:
    """By the keys of the discovery document, as a client would."""
    found = (await wire("GET", f"{LOGIN}/{tenant}/v2.0/.well-known/openid-configuration")).json
    keys = jwt.PyJWKSet.from_dict((await wire("GET", found["jwks_uri"])).json)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], audience=app_id, issuer=found["issuer"])
    return claims


async def test_a_user_comes_back_with_a_code_that_is_worth_a_signed_id_token_once(
    window: Browser, wire: Wire, app: App
) -> None:
    back = await signed_in(window, app.url())
    assert back.query["state"] == "s&=1"
    answer = await app.redeem(wire, back.query["code"])
    assert answer.status == 200, answer.text
    claims = await verified_claims(wire, answer.json["id_token"], app.tenant, app.id)
    assert (claims["nonce"], claims["tid"], claims["preferred_username"], claims["groups"]) == (
        "n1",
        app.tenant,
        ALICE,
        ["g-1"],
    )
    assert claims["sub"] != claims["oid"]
    again = await app.redeem(wire, back.query["code"])
    assert (again.status, again.json["error"], again.json["error_codes"]) == (400, "invalid_grant", [54005])
    assert (await wire("GET", "https://graph.microsoft.com/v1.0/applications", token=answer.json["access_token"])).status == 403


async def test_a_second_sign_in_of_the_browser_asks_for_no_password(window: Browser, app: App) -> None:
    await signed_in(window, app.url())
    assert "code" in (await window.open(app.url(prompt="none"))).query
    assert (await window.open(app.url(prompt="login"))).status == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"redirect_uri": "https://console.contoso.example/sign-in/callback/"}, "50011"),
        ({"redirect_uri": "https://console.contoso.example/sign-in/callback?x=1"}, "50011"),
        ({"redirect_uri": "HTTPS://console.contoso.example/sign-in/callback"}, "50011"),
        ({"redirect_uri": "https://evil.example/"}, "50011"),
        ({"client_id": "00000000-0000-0000-0000-000000000001"}, "700016"),
        ({"scope": None}, "900144"),
        ({"response_type": None}, "900144"),
    ],
    ids=str,
)
async def test_a_request_that_may_be_anybodys_is_refused_on_a_page_and_never_sent_on(
    window: Browser, app: App, change: dict[str, str | None], code: str
) -> None:
    page = await window.open(app.url("", **change))
    assert (page.status, f"AADSTS{code}:" in page.text) == (400, True), page.text


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"response_type": "id_token"}, "unsupported_response_type", "700054"),
        ({"scope": "openid https://graph.microsoft.com/Mail.Read"}, "invalid_client", "650053"),
        ({"code_challenge": "short"}, "invalid_request", "501471"),
        ({"code_challenge_method": "S512"}, "invalid_request", "501491"),
        ({"prompt": "none"}, "login_required", "50058"),
    ],
    ids=str,
)
async def test_other_refusals_go_back_to_the_application_with_its_state(
    window: Browser, app: App, change: dict[str, str | None], error: str, code: str
) -> None:
    back = await window.open(app.url("", **change))
    assert back.url.startswith(f"{BACK}?")
    assert (back.query["error"], back.query["state"]) == (error, "s&=1")
    assert back.query["error_description"].startswith(f"AADSTS{code}:")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"code_verifier": "w" * 43}, 501481),
        ({"code_verifier": None}, 501481),
        ({"redirect_uri": "https://console.contoso.example/other"}, 500112),
        ({"client_secret": None}, 7000218),
        ({"client_secret": "wrong"}, 7000215),
        ({"code": "1.unknown"}, 70000),
        ({"redirect_uri": None}, 900144),
    ],
    ids=str,
)
async def test_a_code_is_bound_to_verifier_redirect_and_client(
    window: Browser, wire: Wire, app: App, change: dict[str, str | None], code: int
) -> None:
    back = await signed_in(window, app.url())
    refused = await app.redeem(wire, **{"code": back.query["code"], **change})  # type: ignore[arg-type]
    assert refused.json["error_codes"] == [code]


async def test_a_code_is_worth_nothing_in_another_tenant_or_after_ten_minutes(
    window: Browser, wire: Wire, app: App, env: Mapping[str, str], control: SandboxControl
) -> None:
    back = await signed_in(window, app.url())
    other = await app.redeem(wire, back.query["code"], env["CUSTOMER_TENANT_ID"])
    assert other.json["error_codes"] == [700005]
    await control.advance(601)
    assert (await app.redeem(wire, back.query["code"])).json["error_codes"] == [70008]


async def test_a_wrong_password_and_another_browsers_page_sign_nobody_in(
    window: Browser, app: App, env: Mapping[str, str]
) -> None:
    page = await window.open(app.url())
    assert "AADSTS50126" in (await window.submit(page, login=ALICE, passwd="wrong")).text  # noqa: S106 - a wrong one
    assert "AADSTS50020" in (await signed_in(window, app.url(), BOB, "b")).text
    fresh = await window.open(app.url())
    async with browser(env, BACK) as other:
        stolen = await other.submit(fresh, login=ALICE, passwd=ALICES)
    assert "AADSTS165000" in stolen.text


async def test_only_an_administrator_lets_an_application_into_another_tenant(
    window: Browser, wire: Wire, app: App, env: Mapping[str, str], customer: CustomerAdministrator
) -> None:
    tenant = env["CUSTOMER_TENANT_ID"]
    needs = await signed_in(window, app.url(tenant), BOB, "b")
    assert "AADSTS90094" in needs.text
    consent = f"{LOGIN}/{tenant}/adminconsent?{urlencode({'client_id': app.id, 'state': 's 2', 'redirect_uri': BACK})}"
    assert "AADSTS90094" in (await window.open(consent)).text
    assert "AADSTS50011" in (await window.open(f"{consent}/x")).text
    async with browser(env, BACK) as hers:
        asked = await signed_in(hers, consent, CAROL, "c")
        assert asked.forms[0].buttons == {"accept": "1", "cancel": "1"}
        cancelled = await hers.submit(asked, cancel="1")
        assert (cancelled.query["error"], cancelled.query["state"]) == ("access_denied", "s 2")
        accepted = await hers.submit(await hers.open(consent), accept="1")
    assert accepted.query == {"admin_consent": "True", "tenant": tenant, "state": "s 2"}
    assert await customer.principal_id(app.id)
    back = await window.open(app.url(tenant))
    answer = await app.redeem(wire, back.query["code"], tenant)
    claims = await verified_claims(wire, answer.json["id_token"], tenant, app.id)
    assert (claims["tid"], claims["iss"]) == (tenant, f"{LOGIN}/{tenant}/v2.0")


async def test_microsofts_own_library_signs_a_user_in_and_gets_the_answer_in_a_form(
    window: Browser, app: App, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "NO_PROXY"):
        monkeypatch.setenv(variable, env[variable])
    authority = f"{LOGIN}/{app.tenant}"
    client = await asyncio.to_thread(
        msal.ConfidentialClientApplication, app.id, client_credential=app.secret, authority=authority
    )
    flow = client.initiate_auth_code_flow(["email"], redirect_uri=BACK, response_mode="form_post")
    page = await signed_in(window, flow["auth_uri"])
    assert page.forms[0].action == BACK
    found = await asyncio.to_thread(client.acquire_token_by_auth_code_flow, flow, page.forms[0].fields)
    assert found["id_token_claims"]["preferred_username"] == ALICE, found
