"""Admin consent: what creates an application's service principal in another tenant.

`GET /{tenant}/adminconsent?client_id=…` is a web page, where the administrator signs in (`sign_in.py`). An administrator that is a
program, as most of the sandbox's are, sends its access token for Microsoft Graph as a bearer token instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from sandbox.azure.entra.federation import refused
from sandbox.azure.entra.sign_in import registered, wants_page
from sandbox.azure.entra.tokens import TokenInvalidError, graph_audiences
from sandbox.azure.exchange import Answer, Exchange, Router

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Application, Directory, ServicePrincipal, Tenant
    from sandbox.azure.entra.sign_in import SignIn
    from sandbox.azure.entra.tokens import Tokens


def consented(directory: Directory, tenant: Tenant, application: Application, now: float) -> ServicePrincipal:
    """The application's service principal in the tenant: the one that is there, or a new one."""
    existing = tenant.principal_of(application.app_id)
    return existing or directory.add_principal(tenant, application.app_id, application.display_name, now=now)


class AdminConsent:
    """The consent page."""

    def __init__(self, directory: Directory, tokens: Tokens, sign_in: SignIn, clock: Clock) -> None:
        self._directory = directory
        self._sign_in = sign_in
        self._tokens = tokens
        self._clock = clock

    def add_routes(self, router: Router) -> None:
        """Both addresses of the page, and the sign-in page, where an application that is new to the tenant asks for consent first."""
        router.add("GET", "/{tenant}/adminconsent", self.consent)
        router.add("GET", "/{tenant}/v2.0/adminconsent", self.consent)
        router.add("GET", "/{tenant}/oauth2/authorize", self.authorize)

    async def authorize(self, exchange: Exchange) -> Answer:
        """The v1 sign-in page, as third parties hand it out (Snowflake does): an administrator signs in and consents."""
        if exchange.query.get("response_type") != "code":
            raise refused(
                "900144",
                "The request body must contain the following parameter: 'response_type'.",
                error="invalid_request",
                status=400,
            )
        return await self.consent(exchange)

    async def consent(self, exchange: Exchange) -> Answer:
        """302 to a reply address of the application, or a page that says that it has none. Raises EntraRefusedError."""
        client_id = exchange.query.get("client_id", "")
        if exchange.bearer() is None and wants_page(exchange):
            return self._sign_in.ask_administrator(exchange)
        try:
            claims = self._tokens.verify(exchange.bearer() or "", graph_audiences())
        except TokenInvalidError as error:
            raise refused(
                "50058", "A silent sign-in request was sent but no user is signed in.", error="login_required"
            ) from error
        name = exchange["tenant"]
        tenant = self._directory.tenant(claims.tenant_id if name in {"organizations", "common"} else name)
        if tenant is None:
            raise refused("90002", f"Tenant '{name}' not found.", error="invalid_request", status=400)
        if claims.tenant_id != tenant.id or claims.object_id not in tenant.administrators:
            raise refused(
                "90094",
                "An administrator of the tenant has set a policy that prevents you from granting the application the permissions "
                "it is requesting. Contact your administrator.",
                error="access_denied",
                status=403,
            )
        application = self._directory.application(client_id)
        if application is None:
            raise refused(
                "700016",
                f"Application with identifier '{client_id}' was not found in the directory '{tenant.display_name}'.",
                error="unauthorized_client",
                status=400,
            )
        if application.tenant_id != tenant.id and not application.multitenant:
            raise refused(
                "50194",
                f"Application '{client_id}'({application.display_name}) is not configured as a multi-tenant application.",
                error="invalid_request",
                status=400,
            )
        redirect = exchange.query.get("redirect_uri")
        addresses = list(registered(application))
        if redirect is not None and redirect not in addresses:
            raise refused(
                "50011",
                f"The redirect URI '{redirect}' specified in the request does not match the redirect URIs configured for the "
                f"application '{application.app_id}'. Make sure the redirect URI sent in the request matches one added to your "
                "application in the Azure portal.",
                error="invalid_request",
                status=400,
            )
        consented(self._directory, tenant, application, self._clock.now())
        result = {
            "admin_consent": "True",
            "tenant": tenant.id,
            **({"state": exchange.query["state"]} if "state" in exchange.query else {}),
        }
        if addresses:
            target = f"{redirect or addresses[0]}?{urlencode(result)}"
            return Answer(302, content=b"", media_type="text/html", headers={"Location": target})
        # The consent stands; what the browser shows is an error all the same (Azure/Azure-Lighthouse-samples#122).
        page = "<html><body>AADSTS500113: No reply address is registered for the application.</body></html>"
        return Answer(200, content=page.encode(), media_type="text/html; charset=utf-8")
