"""The token endpoint of `login.microsoftonline.com` for client credentials and authorization codes, and its discovery documents."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING
from urllib.parse import unquote

import jwt
from cryptography.hazmat.primitives import hashes

from sandbox.azure.clock import utc
from sandbox.azure.endpoints import here
from sandbox.azure.entra.directory import matching_password
from sandbox.azure.entra.federation import not_within_time, refused
from sandbox.azure.entra.sign_in import ANY_TENANT, registered, verified
from sandbox.azure.entra.tokens import LIFETIME_SECONDS, audience_of
from sandbox.azure.entra.users import group_claims
from sandbox.azure.exchange import Answer, Exchange, Router

if TYPE_CHECKING:
    from cryptography import x509

    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Application, Directory, ServicePrincipal, Tenant
    from sandbox.azure.entra.federation import Federation
    from sandbox.azure.entra.sign_in import SignIn
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.errors import EntraRefusedError
    from sandbox.azure.timings import Timings

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def bad_request(code: str, message: str, error: str = "invalid_request") -> EntraRefusedError:
    """A refusal of the request itself."""
    return refused(code, message, error=error, status=400)


class TokenEndpoint:
    """Turns a client's credential into an access token of one tenant."""

    def __init__(
        self, directory: Directory, tokens: Tokens, federation: Federation, sign_in: SignIn, clock: Clock, timings: Timings
    ) -> None:
        self._directory = directory
        self._tokens = tokens
        self._federation = federation
        self._sign_in = sign_in
        self._clock = clock
        self._timings = timings

    def add_routes(self, router: Router) -> None:
        """The token endpoint, the keys and the discovery documents."""
        router.add("POST", "/{tenant}/oauth2/v2.0/token", self.token)
        router.add("GET", "/{tenant}/v2.0/.well-known/openid-configuration", self.configuration)
        router.add("GET", "/{tenant}/discovery/v2.0/keys", self.keys)
        router.add("GET", "/common/discovery/instance", self.instance)

    async def token(self, exchange: Exchange) -> Answer:
        """RFC 6749, section 4.4, with a secret or a JWT assertion (RFC 7523)."""
        form = exchange.form()
        if form.get("grant_type") == "authorization_code":
            return await self._redeemed(exchange, form)
        tenant = self._tenant(exchange["tenant"])
        for name in ("grant_type", "client_id", "scope"):
            if not form.get(name):
                raise bad_request("900144", f"The request body must contain the following parameter: '{name}'.")
        if form["grant_type"] != "client_credentials":
            raise bad_request(
                "70003", f"The app requested an unsupported grant type '{form['grant_type']}'.", "unsupported_grant_type"
            )
        exchange.notes.application = form["client_id"]
        principal = self.principal(tenant, form["client_id"])
        exchange.notes.principal = principal.object_id
        audience = self.audience(tenant, form["scope"], principal)
        by_secret = await self.authenticate(principal, form)
        token = self._tokens.issue(principal, audience, by_secret=by_secret)
        body = {
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
            "ext_expires_in": LIFETIME_SECONDS,
            "access_token": token,
        }
        return Answer(json=body)

    async def _redeemed(self, exchange: Exchange, form: dict[str, str]) -> Answer:
        """RFC 6749, section 4.1.3, and RFC 7636: an authorization code for an id_token."""
        tenant = None if exchange["tenant"] in ANY_TENANT else self._tenant(exchange["tenant"])
        basic = _basic(exchange)
        form = {**form, **basic} if basic is not None else form
        for name in ("client_id", "code", "redirect_uri"):
            if not form.get(name):
                raise bad_request("900144", f"The request body must contain the following parameter: '{name}'.")
        exchange.notes.application = form["client_id"]
        code = self._sign_in.redeem(form["code"], form["client_id"], tenant)
        asked, user = code.asked, code.user
        if form["redirect_uri"] != asked.redirect_uri:
            raise bad_request(
                "500112",
                f"The reply address '{form['redirect_uri']}' does not match the reply address '{asked.redirect_uri}' provided when "
                "requesting Authorization code.",
                "invalid_grant",
            )
        if registered(asked.application).get(asked.redirect_uri) == "web":
            principal = self._directory.tenants[user.tenant_id].principal_of(asked.application.app_id)
            if principal is None:
                raise bad_request(
                    "65001", "The user or administrator has not consented to use the application.", "invalid_grant"
                )
            await self.authenticate(principal, form)
        elif form.get("client_secret") or form.get("client_assertion"):
            raise refused("700025", "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.")
        verified(code, form.get("code_verifier"))
        self._sign_in.spend(form["code"])
        exchange.notes.principal = user.object_id
        claims = asked.application.other.get("groupMembershipClaims") or ""
        wanted = {"SecurityGroup", "All"} & {one.strip() for one in str(claims).split(",")}
        groups = group_claims(user, here().graph) if wanted else {}
        tokens = self._tokens.issue_for_user(user, asked.application.app_id, asked.scopes, asked.nonce, groups)
        body = {"token_type": "Bearer", "scope": " ".join(asked.scopes), "expires_in": LIFETIME_SECONDS, **tokens}
        return Answer(json=body, headers={"Cache-Control": "no-store, no-cache"})

    async def exchange_assertion(self, tenant_id: str, client_id: str, assertion: str, scope: str) -> str:
        """The same as `token` for Azure's own services, which hold a managed identity's token. Raises EntraRefusedError."""
        tenant = self._tenant(tenant_id)
        principal = self.principal(tenant, client_id)
        audience = self.audience(tenant, scope, principal)
        await self.authenticate(principal, {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE})
        return self._tokens.issue(principal, audience, by_secret=False)

    def _tenant(self, name: str) -> Tenant:
        tenant = self._directory.tenant(name)
        if tenant is None:
            raise bad_request(
                "90002",
                f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the correct "
                "cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the "
                "tenant.",
            )
        return tenant

    def principal(self, tenant: Tenant, client_id: str) -> ServicePrincipal:
        """The client in this tenant. Raises EntraRefusedError: 700016 or 7000229 (not consented), 7000112 (disabled)."""
        principal = tenant.principal_of(client_id.lower())
        if principal is None or not self._replicated(principal):
            if self._timings.missing_principal_is_an_invalid_client:
                raise refused(
                    "7000229",
                    f"The client application {client_id} is missing service principal in the tenant {tenant.id}. See instructions here: "
                    "https://go.microsoft.com/fwlink/?linkid=2225119",
                )
            raise bad_request(
                "700016",
                f"Application with identifier '{client_id}' was not found in the directory '{tenant.display_name}'. This can happen "
                "if the application has not been installed by the administrator of the tenant or consented to by any user in the "
                "tenant. You may have sent your authentication request to the wrong tenant.",
                "unauthorized_client",
            )
        if not principal.account_enabled:
            raise bad_request(
                "7000112", f"Application '{client_id}'({principal.display_name}) is disabled.", "unauthorized_client"
            )
        return principal

    def _application(self, principal: ServicePrincipal) -> Application | None:
        return self._directory.application(principal.app_id)

    def _replicated(self, principal: ServicePrincipal) -> bool:
        """A managed identity, or an application that still exists and whose consent is old enough; at home at once."""
        if principal.managed_identity is not None:
            return True
        application = self._application(principal)
        if application is None or application.tenant_id == principal.tenant_id:
            return application is not None
        return principal.created <= self._clock.now() - self._timings.consent_replication_seconds

    @staticmethod
    def audience(tenant: Tenant, scope: str, principal: ServicePrincipal) -> str:
        """The audience of a token for this scope.

        Raises EntraRefusedError: 1002012 (no /.default), 500011 (unknown resource), 500014 (disabled), 501051 (not assigned to it).
        """
        scopes = [one for one in scope.split() if one not in {"openid", "profile", "offline_access"}]
        if len(scopes) != 1 or not scopes[0].endswith("/.default"):
            raise bad_request(
                "1002012",
                f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default "
                "suffixed to the resource identifier (application ID URI).",
                "invalid_scope",
            )
        resource = scopes[0].removesuffix("/.default")
        known = audience_of(resource)
        if known is None or (known[0] is not None and tenant.principal_of(known[0]) is None):
            raise bad_request(
                "500011",
                f"The resource principal named {resource} was not found in the tenant named {tenant.display_name}. This can happen if "
                "the application has not been installed by the administrator of the tenant or consented to by any user in the "
                "tenant. You might have sent your authentication request to the wrong tenant.",
                "invalid_resource",
            )
        service = tenant.principal_of(known[0]) if known[0] is not None else None
        if service is not None and not service.account_enabled:
            raise bad_request(
                "500014",
                f"The service principal for resource '{resource}' is disabled. This indicate that a subscription within the tenant has "
                "lapsed, or that the administrator for this tenant has disabled the application, preventing tokens from being issued "
                "for it.",
                "invalid_resource",
            )
        if service is not None and service.assignment_required and not _is_assigned(principal, service):
            raise bad_request(
                "501051",
                f"Application '{principal.app_id}'({principal.display_name}) is not assigned to a role for the application "
                f"'{resource}'({service.display_name}).",
                "invalid_grant",
            )
        return known[1]

    async def authenticate(self, principal: ServicePrincipal, form: dict[str, str]) -> bool:
        """Check the credential; True if it was a secret. Raises EntraRefusedError."""
        application = self._application(principal)
        assertion = form.get("client_assertion")
        if assertion and form.get("client_assertion_type") != ASSERTION_TYPE:
            raise bad_request("50027", "JWT token is invalid or malformed. The client_assertion_type is not supported.")
        if assertion and principal.managed_identity is not None:
            await self._federation.check(principal.app_id, principal.managed_identity.federated.values(), assertion)
            return False
        if assertion and application is not None:
            await self._application_assertion(application, assertion)
            return False
        if form.get("client_secret") and application is not None:
            self._secret(application, form["client_secret"])
            return True
        raise refused(
            "7000218", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
        )

    def _secret(self, application: Application, secret: str) -> None:
        found = matching_password(application, secret)
        if found is None:
            raise refused(
                "7000215",
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the "
                f"client secret ID, for a secret added to app '{application.app_id}'.",
            )
        if found.end < self._clock.wall():
            raise refused(
                "7000222",
                f"The provided client secret keys for app '{application.app_id}' are expired. Visit the Azure portal to create new "
                "keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: "
                "https://aka.ms/certCreds.",
            )

    async def _application_assertion(self, application: Application, assertion: str) -> None:
        try:
            header = jwt.get_unverified_header(assertion)
            claims = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise bad_request("50027", f"JWT token is invalid or malformed. {error}") from error
        if claims.get("iss") == application.app_id:
            self._certificate_assertion(application, assertion, header, claims)
            return
        await self._federation.check(application.app_id, application.federated.values(), assertion, application.tenant_id)

    def _certificate_assertion(
        self, application: Application, assertion: str, header: dict[str, str], claims: dict[str, object]
    ) -> None:
        """Claims: https://learn.microsoft.com/entra/identity-platform/certificate-credentials."""
        thumbprints = {
            "x5t": hashes.SHA1(),  # noqa: S303 - the format names certificates by SHA-1; nothing is trusted by it
            "x5t#S256": hashes.SHA256(),
        }
        for name, algorithm in thumbprints.items():
            for credential in application.keys:
                if name in header and credential.thumbprint(algorithm) == _decoded(header[name]):
                    self._certificate_in_time(credential.certificate)
                    self._certificate_signed(credential.certificate.public_key(), assertion, claims)
                    return
        raise refused(
            "700027",
            "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key "
            f"was not found., Thumbprint of key used by client: '{header.get('x5t', '')}', Please visit the Azure Portal, Graph "
            f"Explorer or directly use MS Graph to see configured keys for app Id '{application.app_id}'.]",
        )

    def _certificate_in_time(self, certificate: x509.Certificate) -> None:
        """Words: https://learn.microsoft.com/entra/identity/authentication/howto-mfa-nps-extension-errors."""
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if begins <= utc(self._clock.wall()) <= ends:
            return
        thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Entra names certificates by SHA-1
        raise refused(
            "700027",
            f"Client assertion contains an invalid signature. [Reason - The key used is expired., Thumbprint of key used by client: "
            f"'{thumbprint}', Found key 'Start={begins:%m/%d/%Y %H:%M:%S}, End={ends:%m/%d/%Y %H:%M:%S}']",
        )

    def _certificate_signed(self, key: object, assertion: str, claims: dict[str, object]) -> None:
        audiences = [
            f"{here().authority}/{tenant}/{path}"
            for tenant in self._directory.tenants
            for path in ("oauth2/v2.0/token", "v2.0")
        ]
        try:
            jwt.decode(
                assertion,
                key,  # type: ignore[arg-type] # a certificate may hold any kind of key; PyJWT refuses what RS256 cannot use
                algorithms=["RS256", "PS256"],
                audience=audiences,
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
            raise not_within_time(dict(claims), self._clock.wall()) from error
        except jwt.InvalidAudienceError as error:
            raise refused("700023", f"Client assertion audience claim does not match Realm issuer. {error}") from error
        except (jwt.PyJWTError, TypeError) as error:
            raise refused(
                "700027",
                "Client assertion contains an invalid signature. [Reason - The key was found, but use of the key "
                "to verify the signature failed.]",
            ) from error

    async def configuration(self, exchange: Exchange) -> Answer:
        """OpenID Connect discovery of a tenant."""
        # A client that serves all tenants gets a template, and checks `iss` against the token's own `tid`.
        anybody = exchange["tenant"] in ANY_TENANT
        tenant_id = exchange["tenant"] if anybody else self._tenant(exchange["tenant"]).id
        base = f"{here().authority}/{tenant_id}"
        return Answer(
            json={
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "response_modes_supported": ["query", "fragment", "form_post"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "issuer": f"{here().issuer}/{'{tenantid}' if anybody else tenant_id}/v2.0",
                "request_uri_parameter_supported": False,
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "http_logout_supported": True,
                "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
                "tenant_region_scope": "EU",
                "cloud_instance_name": "microsoftonline.com",
                "cloud_graph_host_name": "graph.windows.net",
                "msgraph_host": here().graph,
            }
        )

    async def keys(self, exchange: Exchange) -> Answer:
        """Entra's public keys."""
        if exchange["tenant"] not in ANY_TENANT:
            self._tenant(exchange["tenant"])
        return Answer(json=self._tokens.jwks())

    async def instance(self, exchange: Exchange) -> Answer:
        """Instance discovery, as MSAL asks for it."""
        endpoint = exchange.query.get("authorization_endpoint", "")
        tenant = endpoint.removeprefix(f"{here().authority}/").split("/")[0]
        return Answer(
            json={
                "tenant_discovery_endpoint": f"{here().authority}/{tenant}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [
                    {
                        "preferred_network": here().login,
                        "preferred_cache": here().login_alias,
                        "aliases": [here().login, here().login_alias],
                    }
                ],
            }
        )


def _basic(exchange: Exchange) -> dict[str, str] | None:
    """The client's name and secret from an Authorization header (RFC 6749, section 2.3.1)."""
    scheme, _, value = exchange.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    name, mark, secret = _decoded(value.replace("+", "-").replace("/", "_")).decode("utf-8", "replace").partition(":")
    return {"client_id": unquote(name), "client_secret": unquote(secret)} if mark else None


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


def _is_assigned(principal: ServicePrincipal, service: ServicePrincipal) -> bool:
    return any(resource == service.object_id for resource, _ in principal.app_roles.values())
