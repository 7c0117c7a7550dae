"""The page's addresses: who may open them, what they show, and the headers that keep other sites away from them."""

from __future__ import annotations

import hmac
import json
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from cmk_keyservice.console.accounts import Accounts
from cmk_keyservice.console.break_glass import DEVICE_SECONDS, BreakGlass, Refused
from cmk_keyservice.console.break_glass_report import BreakGlassReports
from cmk_keyservice.console.changes import draft_of_form, draft_of_spec, wanted, whole_spec
from cmk_keyservice.console.openid import Client, SignInError, assertion_proof, read_text, secret_proof
from cmk_keyservice.console.people import Role, person_of, person_of_account
from cmk_keyservice.console.record import BY_HAND, as_lines, as_table, filter_of, kind_of, one_page, whole_from
from cmk_keyservice.console.sessions import RateLimit, Sessions
from cmk_operator.core.audit.change import Event
from cmk_operator.core.identifiers.cloud import CLOUDS
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from cmk_keyservice.console.changes import Draft, TenantChoice, Wanted
    from cmk_keyservice.console.openid import OpenId
    from cmk_keyservice.console.organizations import Found, OrganizationKeys
    from cmk_keyservice.console.people import Person
    from cmk_keyservice.console.record import Filter
    from cmk_keyservice.console.record_reading import Record
    from cmk_keyservice.console.sessions import Pending, Session
    from cmk_keyservice.settings import ConsoleSettings
    from cmk_operator.api.preflight import PreflightStatus
    from cmk_operator.core.audit.chain import Entry

_LOG: Final = logging.getLogger("cmk_keyservice.console")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
MOST_BYTES: Final = 64 * 1024
SIGN_INS: Final = (30, 600.0)
"""Sign-ins that begin or end, for each address and in so many seconds."""
SAVES: Final = (20, 600.0)
"""Tests of settings, for each person and in so many seconds: each calls the vault."""
_TEMPLATES: Final = Environment(
    loader=PackageLoader("cmk_keyservice.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["moment"] = lambda at: f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
_TEMPLATES.filters["spaced"] = lambda name: re.sub("(?<=.)([A-Z])", lambda found: f" {found[1].lower()}", name)
_TEMPLATES.filters["shown"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
_SHOWN: Final = dict.fromkeys(("at", "event", "by", "from", "to", "why", "azureRequestId", "spec"), "")
"""What the page shows of an entry, which has no empty fields."""
NO_ACCOUNTS: Final = (
    "The console cannot read the break-glass accounts: tell the provider, and sign in the usual way if you can."
)
FAULT: Final = "The console has a fault, which is in its log. Tell the provider at which time you met it."
LATER: Final = "The API server does not answer, or refuses the console. Try again in a minute; if it lasts, tell the provider."


class PageError(Exception):
    """A request that ends with a page that says why."""

    def __init__(self, status: int, title: str, message: str) -> None:
        super().__init__(message)
        self.status, self.title, self.message = status, title, message


@dataclass(frozen=True)
class Visit:
    """One request of one browser; `form` holds what it sent, checked against forgery."""

    request: Request
    session: Session
    form: Mapping[str, str]

    @property
    def person(self) -> Person:
        """Who is signed in. Raises PageError."""
        if self.session.person is None:
            raise PageError(401, "Sign in", "You are not signed in, or your session is over. Open the start page and sign in.")
        return self.session.person


class Console:
    """The page."""

    def __init__(
        self,
        settings: ConsoleSettings,
        keys: OrganizationKeys,
        record: Record,
        openid: OpenId,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._record = record
        self._openid = openid
        self._now = now
        self._sessions = Sessions(clock)
        self._accounts = Accounts(settings.break_glass_folder)
        self._break_glass = BreakGlass(self._accounts, clock)
        self.reports = BreakGlassReports(keys.client, self._accounts, now)
        """To be run beside the page."""
        self._sign_ins, self._saves = RateLimit(*SIGN_INS, clock), RateLimit(*SAVES, clock)
        secure = settings.public_url.startswith("https://")
        self._cookie = "__Host-console" if secure else "console"
        self._device_cookie = "__Host-device" if secure else "device"
        self._secure = secure
        issuer = urlsplit(settings.issuer)
        pages = {f"{issuer.scheme}://{issuer.netloc}", *(f"https://{cloud.authority_host}" for cloud in CLOUDS.values())}
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
            f"form-action 'self' {' '.join(sorted(pages))}",
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
            **({"Strict-Transport-Security": "max-age=31536000"} if secure else {}),
        }

    def application(self) -> Starlette:
        """The ASGI application."""
        page = "/organizations/{namespace}/{name}"
        return Starlette(
            routes=[
                Route("/healthz", self._healthy),
                Route("/style.css", self._style),
                Route("/", self._visited(self.start)),
                Route("/sign-in", self._visited(self.sign_in), methods=["POST"]),
                Route("/sign-in/callback", self._visited(self.signed_in)),
                Route("/break-glass", self._visited(self.break_glass)),
                Route("/break-glass", self._visited(self.signed_in_by_account), methods=["POST"]),
                Route("/sign-out", self._visited(self.sign_out), methods=["POST"]),
                Route("/consent/callback", self._visited(self.consented)),
                Route("/tenant/callback", self._visited(self.proven)),
                Route(page, self._visited(self.show)),
                Route(page, self._visited(self.save), methods=["POST"]),
                Route(f"{page}/tenant", self._visited(self.ask_tenant), methods=["POST"]),
                Route(f"{page}/audit", self._visited(self.audit)),
                Route(f"{page}/audit.ndjson", self._visited(self.export_lines)),
                Route(f"{page}/audit.csv", self._visited(self.export_table)),
            ],
            exception_handlers={404: self._nowhere, 405: self._nowhere},
        )

    async def _nowhere(self, request: Request, error: Exception) -> Response:
        """What is at no address of the page."""
        del request
        status = error.status_code if isinstance(error, HTTPException) else 404
        answer = self._page("message.html", None, status, title="No such page", message="There is no such page.")
        answer.headers.update(self._headers)
        return answer

    async def _healthy(self, request: Request) -> Response:
        del request
        return PlainTextResponse("ok", headers=self._headers)

    async def _style(self, request: Request) -> Response:
        del request
        text = _TEMPLATES.get_template("style.css").render()
        return Response(text, media_type="text/css", headers=self._headers | {"Cache-Control": "max-age=3600"})

    def _visited(self, handler: Callable[[Visit], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The handler with a session, checked against forgery, with the headers, and with a page for each failure."""

        async def visited(request: Request) -> Response:
            session = self._sessions.find(request.cookies.get(self._cookie, ""))
            try:
                session = await self._in_force(session)
                form = await self._form(request, session) if request.method == "POST" else {}
                answer = await handler(Visit(request, session or self._sessions.new(), form))
            except PageError as error:
                answer = self._page("message.html", session, error.status, title=error.title, message=error.message)
            except SignInError as error:
                answer = self._page("message.html", session, 502, title="Not signed in", message=str(error))
            except OSError as error:
                _LOG.error("the break-glass accounts cannot be read: the provider must mount their Secret: %s", error)
                answer = self._page("message.html", session, 503, title="Not now", message=NO_ACCOUNTS)
            except KubernetesError as error:
                _LOG.error("the API server refused a request of the console, or did not answer: %s", error)
                answer = self._page("message.html", session, 503, title="Not now", message=LATER)
            except Exception:  # noqa: BLE001 - whatever it is, the answer has the headers, and the log the reason
                _LOG.exception("a request ended with a fault of the console")
                answer = self._page("message.html", session, 500, title="A fault", message=FAULT)
            answer.headers.update(self._headers)
            if answer.status_code == 429:
                answer.headers["Retry-After"] = "600"
            return answer

        return visited

    async def _in_force(self, session: Session | None) -> Session | None:
        """The session, unless the entry of its break-glass account was changed or removed meanwhile. Raises OSError."""
        if session is None or session.account is None or await self._accounts.find(session.account.name) == session.account:
            return session
        self._sessions.end(session)
        return None

    async def _form(self, request: Request, session: Session | None) -> dict[str, str]:
        """The form of a POST, if this site's own page in this session has sent it (OWASP, "Cross-Site Request Forgery Prevention")."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise PageError(413, "Too large", "The form is too large: paste only the private key and its certificate.")
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        sent = form.pop("csrf", "").encode()
        origin = request.headers.get("origin", self._settings.public_url)
        if session is None or origin != self._settings.public_url or not hmac.compare_digest(sent, session.csrf.encode()):
            raise PageError(
                403, "Not sent by this page", "The form is out of date, or another site sent it. Nothing was changed."
            )
        return form

    def _page(self, template: str, session: Session | None, status: int = 200, **values: Any) -> Response:  # noqa: ANN401 - what templates show
        person = session.person if session is not None else None
        csrf = session.csrf if session is not None else ""
        return HTMLResponse(_TEMPLATES.get_template(template).render(person=person, csrf=csrf, **values), status)

    def _with_cookie(self, answer: Response, session: Session) -> Response:
        answer.set_cookie(self._cookie, session.id, path="/", secure=self._secure, httponly=True, samesite="lax")
        return answer

    def _limited(self, visit: Visit) -> None:
        address = visit.request.client.host if visit.request.client is not None else ""
        if not self._sign_ins.allows(address):
            raise PageError(429, "Too many sign-ins", "Too many sign-ins came from your network. Try again in ten minutes.")

    # Signing in

    async def _client(self) -> Client:
        try:
            secret = await read_text(self._settings.client_secret_file)
        except OSError as error:
            raise SignInError("The console cannot read its client secret: the provider must mount it.") from error
        redirect = f"{self._settings.public_url}/sign-in/callback"
        return Client(self._settings.issuer, self._settings.client_id, redirect, secret_proof(secret))

    async def start(self, visit: Visit) -> Response:
        """The person's organizations, or the button to sign in."""
        person = visit.session.person
        if person is None:
            page = self._page("sign_in.html", visit.session, break_glass=self._accounts.offered)
            return self._with_cookie(page, visit.session)
        found = await self._keys.visible_to(person)
        return self._page("organizations.html", visit.session, organizations=found)

    async def sign_in(self, visit: Visit) -> Response:
        """Begin a sign-in at the provider's identity provider."""
        self._limited(visit)
        begun = self._sessions.begin(visit.session, "sign-in")
        url = await self._openid.authorization_url(
            await self._client(), state=begun.state, nonce=begun.nonce, verifier=begun.verifier
        )
        return RedirectResponse(url, 303)

    async def signed_in(self, visit: Visit) -> Response:
        """The end of a sign-in: a new session for the person, and the old one is over."""
        self._limited(visit)
        begun, code = self._ended(visit, "sign-in")
        claims = await self._openid.claims(await self._client(), code, nonce=begun.nonce, verifier=begun.verifier)
        person = person_of(claims, self._settings.subject_claim)
        if isinstance(person, str):
            raise PageError(403, "Not signed in", person)
        _LOG.info("signed in", extra={"person": person.recorded})
        return self._with_cookie(RedirectResponse("/", 303), self._sessions.signed_in(visit.session, person))

    async def break_glass(self, visit: Visit) -> Response:
        """The form for an account that needs no identity provider."""
        if not self._accounts.offered:
            raise PageError(404, "No such page", "The provider has not set up break-glass accounts.")
        return self._with_cookie(self._page("break_glass.html", visit.session, account="", wrong=""), visit.session)

    async def signed_in_by_account(self, visit: Visit) -> Response:
        """Sign in with a break-glass account: a shorter session, which ends when the account changes."""
        name, password = visit.form.get("account", "").strip(), visit.form.get("password", "")
        device = visit.request.cookies.get(self._device_cookie, "")
        if not await self._break_glass.is_known(name, device):
            self._limited(visit)
        address = visit.request.client.host if visit.request.client is not None else ""
        found = await self._break_glass.sign_in(name, password, address, device)
        if isinstance(found, Refused):
            # What was typed as a name may be a password: only a name that exists is logged.
            known = name if await self._accounts.find(name) is not None else ""
            _LOG.warning("break-glass sign-in refused", extra={"account": known, "address": address, "why": found.name})
            status = 429 if found is Refused.TOO_MANY else 403
            return self._page("break_glass.html", visit.session, status, account="", wrong=found.value)
        person = person_of_account(found.account)
        # Nobody gets in by this way without a record of it: if the report cannot be written, the sign-in fails.
        await self.reports.used(found.account)
        _LOG.warning("signed in with a break-glass account", extra={"person": person.recorded, "address": address})
        signed_in = self._sessions.signed_in(visit.session, person, found.account)
        answer = self._with_cookie(RedirectResponse("/", 303), signed_in)
        answer.set_cookie(
            self._device_cookie,
            found.device,
            max_age=DEVICE_SECONDS,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _ended(self, visit: Visit, purpose: str) -> tuple[Pending, str]:
        """What a callback ends, and its code. Raises PageError for what this session has not begun, and for a refusal."""
        query = visit.request.query_params
        begun = self._sessions.take(visit.session, purpose, query.get("state", ""))
        if begun is None:
            raise PageError(
                400,
                "Nothing was begun here",
                "This address ends a sign-in that this browser has not begun, or has ended already. Nothing was changed.",
            )
        if "error" in query or not query.get("code"):
            message = "The sign-in page refused the sign-in, or you cancelled it. Nothing was changed."
            if purpose == "tenant":
                message += (
                    " If Entra asked for an administrator's approval: go on once it is given, and sign in at the tenant again."
                )
            raise PageError(400, "Not signed in", message)
        return begun, query["code"]

    async def sign_out(self, visit: Visit) -> Response:
        """End the session."""
        self._sessions.end(visit.session)
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(self._cookie, path="/", secure=self._secure, httponly=True, samesite="lax")
        return answer

    # The customer's tenant

    async def _found(self, visit: Visit, path: str = "", *, change: bool = False) -> Found:
        """The organization of the address. Raises PageError: 404 if the person may not see it, 403 if they may only look."""
        parameters = visit.request.path_params
        namespace, _, name = path.partition("/") if path else (parameters["namespace"], "", parameters["name"])
        # Names that are none, such as "..", would be another address of the API server.
        named = _NAME.fullmatch(namespace) and _NAME.fullmatch(name)
        found = await self._keys.find(namespace, name, visit.person) if named else None
        if found is None:
            raise PageError(404, "No such organization", "There is no such organization, or you have no role in it.")
        if change and found.role is not Role.ADMINISTRATOR:
            raise PageError(
                403, "Only administrators change it", "You may look at this organization's encryption, but not change it."
            )
        return found

    async def _choice(self, found: Found, name: str) -> TenantChoice:
        tenants = await self._keys.tenants(found.reference.namespace)
        choice = next((one for one in tenants if one.name == name), None)
        if choice is None or choice.application is None:
            raise PageError(
                400, "No such tenant", "Choose a tenant of the list. If yours is not listed, the provider must add it first."
            )
        return choice

    def _consent_url(self, choice: TenantChoice, state: str | None) -> str:
        query = {"client_id": choice.application or "", "redirect_uri": f"{self._settings.public_url}/consent/callback"}
        known = {"state": state} if state is not None else {}
        return f"{choice.authority}/{choice.tenant_id}/adminconsent?{urlencode(query | known)}"

    async def _tenant_client(self, choice: TenantChoice) -> Client:
        if self._settings.federated_token_file is None:
            raise SignInError(
                "The console has no ServiceAccount token for Entra: the provider must set --federated-token-file."
            )
        try:
            assertion = await read_text(self._settings.federated_token_file)
        except OSError as error:
            raise SignInError("The console cannot read its ServiceAccount token: the provider must mount it.") from error
        redirect = f"{self._settings.public_url}/tenant/callback"
        return Client(choice.issuer, choice.application or "", redirect, assertion_proof(assertion))

    async def ask_tenant(self, visit: Visit) -> Response:
        """Begin what proves the customer's tenant: the consent of its administrator, or only the sign-in after one."""
        found = await self._found(visit, change=True)
        self._limited(visit)
        choice = await self._choice(found, visit.form.get("tenant", ""))
        if visit.form.get("consent"):
            begun = self._sessions.begin(visit.session, "consent", found.path, choice.name)
            return RedirectResponse(self._consent_url(choice, begun.state), 303)
        return await self._to_tenant(visit, found, choice)

    async def _to_tenant(self, visit: Visit, found: Found, choice: TenantChoice) -> Response:
        begun = self._sessions.begin(visit.session, "tenant", found.path, choice.name)
        client = await self._tenant_client(choice)
        url = await self._openid.authorization_url(
            client, state=begun.state, nonce=begun.nonce, verifier=begun.verifier, select=True
        )
        return RedirectResponse(url, 303)

    async def consented(self, visit: Visit) -> Response:
        """Entra's answer to a consent. Anybody can write one, so it proves nothing: the sign-in at the tenant comes next."""
        self._limited(visit)
        query = visit.request.query_params
        begun = self._sessions.take(visit.session, "consent", query.get("state", "")) if visit.session.person else None
        if begun is None:
            message = (
                "Entra sent you here after a consent. Tell the administrator of the organization who asked you for it: they sign in at "
                "the tenant on their page, which shows whether the consent is in force. Nothing was changed here."
            )
            raise PageError(400, "Nothing was begun here", message)
        if "error" in query or query.get("admin_consent", "").lower() != "true":
            raise PageError(400, "No consent", "The tenant's administrator did not consent. Nothing was changed.")
        found = await self._found(visit, begun.organization, change=True)
        return await self._to_tenant(visit, found, await self._choice(found, begun.tenant))

    async def proven(self, visit: Visit) -> Response:
        """The end of a sign-in at the customer's tenant: the verified id_token names the tenant, and nothing else does."""
        self._limited(visit)
        person = visit.person
        begun, code = self._ended(visit, "tenant")
        found = await self._found(visit, begun.organization, change=True)
        choice = await self._choice(found, begun.tenant)
        client = await self._tenant_client(choice)
        claims = await self._openid.claims(client, code, nonce=begun.nonce, verifier=begun.verifier)
        if str(claims.get("tid", "")).lower() != choice.tenant_id:
            raise PageError(
                403, "Another tenant", "The sign-in was at another tenant than the one you chose. Nothing was changed."
            )
        if claims.get("idp", claims["iss"]) != claims["iss"] or claims.get("acct") == 1:
            raise PageError(403, "A guest", "You are a guest in that tenant. Somebody who belongs to it must sign in.")
        visit.session.tenants.setdefault(found.path, set()).add(choice.tenant_id)
        visit.session.told = f"You have signed in at the tenant {choice.tenant_id}: the platform's application is there."
        _LOG.info("tenant proven", extra={"person": person.recorded, "organization": found.path, "tenant": choice.tenant_id})
        return RedirectResponse(f"/organizations/{found.path}", 303)

    # Encryption

    async def show(self, visit: Visit) -> Response:
        """The page *Encryption* of an organization."""
        found = await self._found(visit)
        return await self._encryption(visit, found, draft_of_spec(found.key.spec))

    async def _encryption(
        self,
        visit: Visit,
        found: Found,
        draft: Draft,
        *,
        status: int = 200,
        wrong: list[str] | None = None,
        test: PreflightStatus | None = None,
    ) -> Response:
        told, visit.session.told = visit.session.told, ""
        tenants = await self._keys.tenants(found.reference.namespace)
        licence = next((one for one in found.key.status.conditions if one.type == "LicenceAllowsChange"), None)
        return self._page(
            "encryption.html",
            visit.session,
            status,
            found=found,
            key=found.key,
            draft=draft,
            draft_in_force=draft_of_spec(found.key.spec),
            told=told,
            wrong=wrong or [],
            test=test,
            managers=await self._keys.managers(found) if found.role is Role.ADMINISTRATOR else (),
            frozen=licence.message if licence is not None and licence.status == "False" else "",
            may_change=found.role is Role.ADMINISTRATOR,
            tenants=tenants,
            proven=visit.session.tenants.get(found.path, set()),
            consent_urls={one.name: self._consent_url(one, None) for one in tenants if one.application is not None},
        )

    async def save(self, visit: Visit) -> Response:
        """Test and save: the operator tries the settings, and only those that pass are written."""
        found = await self._found(visit, change=True)
        if not self._saves.allows(visit.person.subject):
            raise PageError(429, "Too many tests", "You have tested settings very often. Try again in ten minutes.")
        draft = draft_of_form(visit.form)
        if draft.generation != str(found.key.metadata.generation):
            message = "Somebody has changed the settings since you opened the page. It shows them now; make your change again."
            return await self._encryption(visit, found, draft_of_spec(found.key.spec), status=409, wrong=[message])
        tenants = await self._keys.tenants(found.reference.namespace)
        secret = f"{found.reference.name}-console"
        proven = visit.session.tenants.get(found.path, set())
        fields = wanted(draft, found.key.spec, tenants, proven, secret, self._now().astimezone(UTC))
        if isinstance(fields, list):
            return await self._encryption(visit, found, draft, status=422, wrong=fields)
        refused = await self._keys.admitted(found, fields.fields, visit.person)
        if refused is not None:
            told = (
                f"{', '.join(refused.managers)} manages these settings: change them there."
                if refused.managers
                else refused.message
            )
            return await self._encryption(visit, found, draft, status=409, wrong=[told])
        return await self._tested_and_saved(visit, found, draft, fields)

    async def _tested_and_saved(self, visit: Visit, found: Found, draft: Draft, wanted_: Wanted) -> Response:
        namespace, stored = found.reference.namespace, wanted_.credential
        if stored is not None:
            try:
                await self._keys.store(namespace, *stored)
            except KubernetesError as error:
                _LOG.error("the Secret %s/%s cannot be changed: status %s", namespace, stored[0], error.status)
                told = f"The console may not write the Secret {stored[0]}: the provider must create it, empty, and allow patch on it."
                return await self._encryption(visit, found, draft, status=503, wrong=[told])
        saved = False
        try:
            test = await self._keys.test(found, whole_spec(found.raw, wanted_.fields))
            if test is None or test.result != "Pass":
                told = (
                    "The settings did not pass their test, and nothing was saved."
                    if test
                    else "The operator did not answer in time."
                )
                return await self._encryption(visit, found, draft, status=422, wrong=[told], test=test)
            refused = await self._keys.apply(found, wanted_.fields, visit.person)
            if refused is not None:
                return await self._encryption(visit, found, draft, status=409, wrong=[refused.message], test=test)
            saved = True
        finally:
            if stored is not None and not saved:
                await self._keys.drop(namespace, stored[0], stored[1])
        _LOG.info("settings saved", extra={"person": visit.person.recorded, "organization": found.path})
        visit.session.told = (
            "The settings have passed their test and are saved. They are in force once the status below names them."
        )
        return RedirectResponse(f"/organizations/{found.path}", 303)

    # Audit log

    async def audit(self, visit: Visit) -> Response:
        """The page *Audit log* of an organization: its own entries, the newest first."""
        found, chosen = await self._found(visit), self._filter(visit)
        record = await self._record.read()
        own = record.entries.get(found.key.metadata.uid, ())
        before = visit.request.query_params.get("before", "")
        entries, older = one_page((one for one in own if chosen.wants(one)), int(before) if before.isdecimal() else 0)
        return self._page(
            "audit.html",
            visit.session,
            found=found,
            key=found.key,
            record=record,
            whole=whole_from(own, record.kept),
            entries=[(kind_of(one), {**_SHOWN, **one.body}) for one in entries],
            chosen=chosen,
            kinds=BY_HAND,
            events=sorted(str(event) for event in {one.body.get("event") for one in own} | {chosen.event} if event),
            words={event.value: event.words for event in Event},
            query=urlencode(chosen.query),
            older=urlencode(chosen.query | {"before": str(older)}) if older else "",
        )

    @staticmethod
    def _filter(visit: Visit) -> Filter:
        chosen = filter_of(visit.request.query_params)
        if isinstance(chosen, str):
            raise PageError(400, "No such filter", chosen)
        return chosen

    async def _wanted_entries(self, visit: Visit) -> tuple[str, list[Entry]]:
        """The name of the file, and what it is to hold."""
        found, chosen = await self._found(visit), self._filter(visit)
        own = (await self._record.read()).entries.get(found.key.metadata.uid, ())
        return f"audit-{found.key.spec.organization.id}", [one for one in own if chosen.wants(one)]

    async def export_lines(self, visit: Visit) -> Response:
        """The chosen entries as lines of JSON."""
        name, entries = await self._wanted_entries(visit)
        return _attached(as_lines(entries), "application/x-ndjson", f"{name}.ndjson")

    async def export_table(self, visit: Visit) -> Response:
        """The chosen entries for a spreadsheet."""
        name, entries = await self._wanted_entries(visit)
        return _attached(as_table(entries), "text/csv", f"{name}.csv")


def _attached(text: str, media_type: str, name: str) -> Response:
    """A file to keep; `name` is made of an organization's id, which is a DNS label."""
    return Response(text, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
