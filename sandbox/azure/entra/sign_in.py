"""The sign-in page: authorization code flow with PKCE for users, and the consent that comes before it.

Protocol: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow, v2-protocols-oidc and v2-admin-consent. A refusal
goes back to the application only if its redirect URI is registered; every other one is a page, which no application ever sees. The
pages are as plain as a form can be: `login` and `passwd` are the names of Entra's own fields. Every user of a tenant needs an
administrator's consent to an application that is new to it ("Do not allow user consent", which Microsoft recommends).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from sandbox.azure.endpoints import here
from sandbox.azure.entra.federation import refused
from sandbox.azure.entra.users import SESSION_COOKIE
from sandbox.azure.exchange import Answer, Exchange, Router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Application, Directory, Tenant
    from sandbox.azure.entra.users import User, Users
    from sandbox.azure.errors import EntraRefusedError

CODE_SECONDS = 600.0
FLOW_SECONDS = 3600.0
SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
"""`offline_access` is accepted, as libraries always ask for it; there are no refresh tokens, so a client that needs one fails."""
ANY_TENANT = frozenset({"organizations", "common"})
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
"""RFC 7636, sections 4.1 and 4.2; a challenge has the same form."""
_MODES = frozenset({"query", "fragment", "form_post"})


@dataclass(frozen=True)
class Asked:
    """What an application asked for, checked; `tenant` is None for a sign-in page of all tenants."""

    application: Application
    tenant: Tenant | None
    redirect_uri: str
    mode: str
    scopes: tuple[str, ...]
    state: str | None
    nonce: str | None
    challenge: str | None
    method: str
    hint: str
    for_consent: bool = False


@dataclass(frozen=True)
class Flow:
    """A page in a browser: only the browser that was shown it can answer it."""

    asked: Asked
    browser: str
    began: float
    user: User | None = None


@dataclass(frozen=True)
class Code:
    """An authorization code."""

    asked: Asked
    user: User
    issued: float


def page(status: int, title: str, body: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A page of Entra's; nobody may frame it."""
    html = f"<!DOCTYPE html><html lang=en><head><title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    shown = {"X-Frame-Options": "DENY", "Cache-Control": "no-store, no-cache", **(headers or {})}
    return Answer(status, content=html.encode(), media_type="text/html; charset=utf-8", headers=shown)


def refusal_page(error: EntraRefusedError, request_id: str) -> Answer:
    """What the person sees who was sent with a request that Entra refuses."""
    body = f"<p>Sorry, but we're having trouble signing you in.</p><p>{escape(error.description)}</p><p>Request Id: {request_id}</p>"
    return page(error.status, "Sign in to your account", body)


def wants_page(exchange: Exchange) -> bool:
    """Whether a browser asks."""
    return "text/html" in exchange.headers.get("accept", "")


def cookies_of(exchange: Exchange) -> dict[str, str]:
    """The cookies that the browser sent."""
    try:
        return {name: one.value for name, one in SimpleCookie(exchange.headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def registered(application: Application) -> dict[str, str]:
    """Each registered redirect URI with its platform: `web`, `spa` or `publicClient`."""
    return {
        str(uri): platform
        for platform in ("publicClient", "spa", "web")
        for uri in (application.other.get(platform) or {}).get("redirectUris") or ()
    }


class SignIn:
    """The pages, and the codes that the token endpoint redeems."""

    def __init__(self, directory: Directory, users: Users, clock: Clock) -> None:
        self._directory = directory
        self._users = users
        self._clock = clock
        self._flows: dict[str, Flow] = {}
        self._codes: dict[str, Code] = {}
        self._redeemed: set[str] = set()

    def add_routes(self, router: Router) -> None:
        """The authorization endpoint, and where its pages' forms go."""
        router.add("GET", "/{tenant}/oauth2/v2.0/authorize", self.authorize)
        router.add("POST", "/{tenant}/oauth2/v2.0/authorize", self.authorize)
        router.add("POST", "/{tenant}/login", self.login)
        router.add("POST", "/{tenant}/consent", self.consent)

    async def authorize(self, exchange: Exchange) -> Answer:
        """The sign-in page, the consent page, or the way back to the application."""
        sent = exchange.query if exchange.method == "GET" else exchange.form()
        try:
            asked = self._asked(exchange, sent)
        except RefusedOnPageError as error:
            exchange.notes.error_code = error.refusal.code
            return refusal_page(error.refusal, exchange.request_id)
        except BackError as back:
            exchange.notes.error_code = back.number
            return self._refused_back(back.asked, back.error, f"AADSTS{back.number}: {back.message}")
        exchange.notes.application = asked.application.app_id
        prompts = sent.get("prompt", "")
        user = self._users.signed_in(cookies_of(exchange), asked.tenant)
        if user is None or prompts in {"login", "select_account"}:
            if prompts == "none":
                message = "AADSTS50058: A silent sign-in request was sent but no user is signed in."
                return self._refused_back(asked, "login_required", message)
            return self.ask(exchange, asked)
        return self._onward(exchange, asked, user, silent=prompts == "none")

    def _asked(self, exchange: Exchange, sent: Mapping[str, str]) -> Asked:
        """Raises RefusedOnPageError (a page) before the redirect URI is known to be the application's, BackError after."""
        for name in ("client_id", "response_type", "scope"):
            if not sent.get(name):
                raise RefusedOnPageError("900144", f"The request body must contain the following parameter: '{name}'.")
        tenant, application = self.parties(exchange["tenant"], sent["client_id"])
        redirect = self.redirect_of(application, sent.get("redirect_uri"))
        asked = Asked(
            application,
            tenant,
            redirect,
            sent.get("response_mode", "query"),
            tuple(sent["scope"].split()),
            sent.get("state"),
            sent.get("nonce"),
            sent.get("code_challenge"),
            sent.get("code_challenge_method", "plain"),
            sent.get("login_hint", ""),
        )
        if asked.mode not in _MODES:
            asked = replace(asked, mode="query")
            raise BackError(asked, "invalid_request", "90023", "The value of 'response_mode' is not supported.")
        if sent["response_type"] != "code":
            message = f"response_type '{sent['response_type']}' is not enabled for the application."
            raise BackError(asked, "unsupported_response_type", "700054", message)
        unknown = [one for one in asked.scopes if one not in SCOPES]
        if unknown:
            message = (
                f"The application '{application.display_name}' asked for scope '{unknown[0]}' that doesn't exist on the resource "
                "'00000003-0000-0000-c000-000000000000'. Contact the app vendor."
            )
            raise BackError(asked, "invalid_client", "650053", message)
        if "openid" not in asked.scopes:
            raise BackError(asked, "invalid_scope", "70011", "The provided value for the input parameter 'scope' is not valid.")
        if asked.method not in {"S256", "plain"}:
            raise BackError(asked, "invalid_request", "501491", "Invalid code_challenge_method: it must be S256 or plain.")
        if asked.challenge is not None and not _VERIFIER.fullmatch(asked.challenge):
            raise BackError(asked, "invalid_request", "501471", "The size or characters of the code_challenge are not valid.")
        if asked.challenge is None and registered(application)[redirect] == "spa":
            message = "Proof Key for Code Exchange is required for cross-origin authorization code redemption."
            raise BackError(asked, "invalid_request", "9002325", message)
        return asked

    def parties(self, tenant_name: str, client_id: str) -> tuple[Tenant | None, Application]:
        """The tenant (None for all of them) and the application. Raises RefusedOnPageError."""
        tenant = None if tenant_name in ANY_TENANT else self._directory.tenant(tenant_name)
        if tenant is None and tenant_name not in ANY_TENANT:
            raise RefusedOnPageError(
                "90002", f"Tenant '{tenant_name}' not found. Check to make sure you have the correct tenant ID."
            )
        application = self._directory.application(client_id)
        at_home = application is not None and tenant is not None and application.tenant_id == tenant.id
        if application is None or (tenant is not None and not at_home and not application.multitenant):
            where = tenant.display_name if tenant is not None else tenant_name
            raise RefusedOnPageError(
                "700016",
                f"Application with identifier '{client_id}' was not found in the directory '{where}'.",
                "unauthorized_client",
            )
        if tenant is None and not application.multitenant:
            raise RefusedOnPageError(
                "50194",
                f"Application '{client_id}'({application.display_name}) is not configured as a multi-tenant application. Usage of the "
                "/common endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint.",
            )
        return tenant, application

    @staticmethod
    def redirect_of(application: Application, wanted: str | None) -> str:
        """The redirect URI, which must be registered letter by letter. Raises RefusedOnPageError."""
        known = registered(application)
        if wanted is None and len(known) == 1:
            return next(iter(known))
        if wanted is None and not known:
            raise RefusedOnPageError("500113", "No reply address is registered for the application.")
        if wanted not in known:
            raise RefusedOnPageError(
                "50011",
                f"The redirect URI '{wanted or ''}' specified in the request does not match the redirect URIs configured for the "
                f"application '{application.app_id}'. Make sure the redirect URI sent in the request matches one added to your "
                "application in the Azure portal.",
            )
        return wanted

    def ask(self, exchange: Exchange, asked: Asked, problem: str = "", status: int = 200) -> Answer:
        """The sign-in page."""
        token, headers = self._flow(exchange, asked, None)
        told = f"<p role=alert>{escape(problem)}</p>" if problem else ""
        form = (
            f"{told}<form method=post action='/{exchange['tenant']}/login'><input type=hidden name=flowtoken value='{token}'>"
            f"<label>Email <input name=login autocomplete=username value='{escape(asked.hint, quote=True)}'></label>"
            "<label>Password <input name=passwd type=password autocomplete=current-password></label><button>Sign in</button></form>"
        )
        return page(status, "Sign in to your account", form, headers)

    async def login(self, exchange: Exchange) -> Answer:
        """A person's name and password."""
        form = exchange.form()
        flow = self._taken(exchange, form)
        if flow is None:
            return refusal_page(
                refused("165000", "Invalid Request: the flow token is not valid for this browser.", status=400),
                exchange.request_id,
            )
        user = self._users.matching(form.get("login", ""), form.get("passwd", ""))
        tenant = flow.asked.tenant
        if user is not None and tenant is not None and user.tenant_id != tenant.id:
            exchange.notes.error_code = "50020"
            problem = (
                f"AADSTS50020: User account '{user.name}' from identity provider '{here().token_issuer}/{user.tenant_id}/' does not "
                f"exist in tenant '{tenant.display_name}' and cannot access the application '{flow.asked.application.app_id}'"
                f"({flow.asked.application.display_name}) in that tenant."
            )
            return self.ask(exchange, flow.asked, problem)
        if user is None:
            exchange.notes.error_code = "50126"
            return self.ask(
                exchange, flow.asked, "AADSTS50126: Error validating credentials due to invalid username or password."
            )
        if not user.enabled:
            exchange.notes.error_code = "50057"
            return self.ask(exchange, flow.asked, "AADSTS50057: The user account is disabled.")
        cookie = f"{SESSION_COOKIE}={self._users.sign_in(user)}; Path=/; Secure; HttpOnly; SameSite=None"
        answer = self._onward(exchange, flow.asked, user, silent=False)
        return replace(answer, headers={**answer.headers, "Set-Cookie": cookie})

    def _onward(self, exchange: Exchange, asked: Asked, user: User, *, silent: bool) -> Answer:
        """What comes after the sign-in: consent, or the way back."""
        exchange.notes.principal = user.object_id
        tenant = self._directory.tenants[user.tenant_id]
        known = tenant.principal_of(asked.application.app_id)
        if asked.for_consent or known is None:
            if silent:
                message = (
                    f"AADSTS65001: The user or administrator has not consented to use the application with ID "
                    f"'{asked.application.app_id}' named '{asked.application.display_name}'."
                )
                return self._refused_back(asked, "consent_required", message)
            return self.ask_consent(exchange, asked, user)
        if not known.account_enabled:
            message = f"Application '{asked.application.app_id}'({known.display_name}) is disabled."
            return refusal_page(refused("7000112", message, status=400), exchange.request_id)
        code = f"1.{secrets.token_urlsafe(48)}"
        self._codes[code] = Code(asked, user, self._clock.now())
        return self._back(asked, {"code": code, **self._state(asked), "session_state": str(uuid.uuid4())})

    def ask_consent(self, exchange: Exchange, asked: Asked, user: User) -> Answer:
        """The consent page: only for who may consent for the tenant."""
        if not user.administrator:
            exchange.notes.error_code = "90094"
            body = (
                f"<p>{escape(asked.application.display_name)} needs permission to access resources in your organization that only an "
                "admin can grant. Please ask an admin to grant permission to this app before you can use it.</p>"
                "<p>AADSTS90094: The grant requires admin permission.</p>"
            )
            return page(200, "Need admin approval", body)
        token, headers = self._flow(exchange, asked, user)
        form = (
            f"<p>{escape(asked.application.display_name)}</p><form method=post action='/{exchange['tenant']}/consent'>"
            f"<input type=hidden name=flowtoken value='{token}'><button name=accept value=1>Accept</button>"
            "<button name=cancel value=1>Cancel</button></form>"
        )
        return page(200, "Permissions requested", form, headers)

    async def consent(self, exchange: Exchange) -> Answer:
        """An administrator's answer; accepting makes the application's service principal."""
        form = exchange.form()
        flow = self._taken(exchange, form)
        if flow is None or flow.user is None:
            return refusal_page(
                refused("165000", "Invalid Request: the flow token is not valid for this browser.", status=400),
                exchange.request_id,
            )
        asked, tenant = flow.asked, self._directory.tenants[flow.user.tenant_id]
        if not form.get("accept"):
            if asked.for_consent:
                told = {"error": "access_denied", "error_subcode": "cancel", "admin_consent": "True", "tenant": tenant.id}
                return self._back(asked, {**told, **self._state(asked)})
            return self._refused_back(asked, "access_denied", "AADSTS65004: User declined to consent to access the app.")
        if tenant.principal_of(asked.application.app_id) is None:
            self._directory.add_principal(
                tenant, asked.application.app_id, asked.application.display_name, now=self._clock.now()
            )
        if asked.for_consent:
            return self._back(asked, {"admin_consent": "True", "tenant": tenant.id, **self._state(asked)})
        return self._onward(exchange, asked, flow.user, silent=False)

    def ask_administrator(self, exchange: Exchange) -> Answer:
        """The admin consent page, `/adminconsent`, for a browser: the sign-in comes first."""
        try:
            tenant, application = self.parties(exchange["tenant"], exchange.query.get("client_id", ""))
            redirect = self.redirect_of(application, exchange.query.get("redirect_uri"))
        except RefusedOnPageError as error:
            exchange.notes.error_code = error.refusal.code
            return refusal_page(error.refusal, exchange.request_id)
        state = exchange.query.get("state")
        asked = Asked(application, tenant, redirect, "query", (), state, None, None, "plain", "", for_consent=True)
        user = self._users.signed_in(cookies_of(exchange), tenant)
        return self.ask(exchange, asked) if user is None else self.ask_consent(exchange, asked, user)

    def redeem(self, code: str, client_id: str, tenant: Tenant | None) -> Code:
        """The code, which is good once, for its application, in the tenant of its user, for ten minutes. Raises EntraRefusedError."""
        found = self._codes.get(code)
        if found is None or found.asked.application.app_id != client_id.lower():
            message = (
                "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."
                if code in self._redeemed
                else "The provided value for the 'code' parameter is not valid."
            )
            raise _bad_grant("54005" if code in self._redeemed else "70000", message)
        if tenant is not None and tenant.id != found.user.tenant_id:
            raise _bad_grant("700005", "Provided Authorization Code is intended to use against other tenant, thus rejected.")
        if self._clock.now() - found.issued > CODE_SECONDS:
            raise _bad_grant("70008", "The provided authorization code or refresh token has expired due to inactivity.")
        return found

    def spend(self, code: str) -> None:
        """Let the code be good no more."""
        del self._codes[code]
        self._redeemed.add(code)

    def _flow(self, exchange: Exchange, asked: Asked, user: User | None) -> tuple[str, dict[str, str]]:
        """A form's token, and the cookie that binds it to the browser."""
        token = secrets.token_urlsafe(32)
        known = cookies_of(exchange).get("buid")
        browser = known or secrets.token_urlsafe(24)
        self._flows[token] = Flow(asked, browser, self._clock.now(), user)
        return token, {} if known else {"Set-Cookie": f"buid={browser}; Path=/; Secure; HttpOnly; SameSite=None"}

    def _taken(self, exchange: Exchange, form: Mapping[str, str]) -> Flow | None:
        """The page that this form was on: once, in the same browser, within an hour."""
        flow = self._flows.pop(form.get("flowtoken", ""), None)
        if flow is None or self._clock.now() - flow.began > FLOW_SECONDS:
            return None
        return flow if hmac.compare_digest(flow.browser, cookies_of(exchange).get("buid", "")) else None

    @staticmethod
    def _state(asked: Asked) -> dict[str, str]:
        return {"state": asked.state} if asked.state is not None else {}

    def _refused_back(self, asked: Asked, error: str, description: str) -> Answer:
        return self._back(asked, {"error": error, "error_description": description, **self._state(asked)})

    @staticmethod
    def _back(asked: Asked, result: Mapping[str, str]) -> Answer:
        """To the application, by its response mode."""
        if asked.mode == "form_post":
            fields = "".join(
                f"<input type=hidden name='{escape(k)}' value='{escape(v, quote=True)}'>" for k, v in result.items()
            )
            return page(
                200,
                "Working...",
                f"<form method=post action='{escape(asked.redirect_uri)}'>{fields}<button>Continue</button></form>",
            )
        mark = "#" if asked.mode == "fragment" else "&" if "?" in asked.redirect_uri else "?"
        target = f"{asked.redirect_uri}{mark}{urlencode(result)}"
        return Answer(
            302, content=b"", media_type="text/html", headers={"Location": target, "Cache-Control": "no-store, no-cache"}
        )


class RefusedOnPageError(Exception):
    """A request that is answered by a page, because it is not known whose redirect URI it names."""

    def __init__(self, code: str, message: str, error: str = "invalid_request") -> None:
        super().__init__(code)
        self.refusal = refused(code, message, error=error, status=400)


class BackError(Exception):
    """A refusal that the application is told at its redirect URI."""

    def __init__(self, asked: Asked, error: str, number: str, message: str) -> None:
        super().__init__(number)
        self.asked, self.error, self.number, self.message = asked, error, number, message


def verified(code: Code, verifier: str | None) -> None:
    """RFC 7636, section 4.6. Raises EntraRefusedError."""
    challenge = code.asked.challenge
    if challenge is None and verifier is None:
        return
    if challenge is None or verifier is None or not _VERIFIER.fullmatch(verifier):
        raise _bad_grant("501481", "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
    hashed = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if not hmac.compare_digest(challenge, hashed if code.asked.method == "S256" else verifier):
        raise _bad_grant("501481", "The Code_Verifier does not match the code_challenge supplied in the authorization request.")


def _bad_grant(code: str, message: str) -> EntraRefusedError:
    return refused(code, message, error="invalid_grant", status=400)
