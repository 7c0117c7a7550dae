"""Federated credentials: whether an assertion of another issuer is accepted for an application or a managed identity.

Codes: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt

from sandbox.azure.clock import seven_digits
from sandbox.azure.endpoints import here
from sandbox.azure.entra.tokens import EXCHANGE_APP_ID, TokenInvalidError
from sandbox.azure.errors import EntraRefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Directory, FederatedCredential
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.timings import Timings

MORE = (
    "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)


def refused(code: str, message: str, *, error: str = "invalid_client", status: int = 401) -> EntraRefusedError:
    """A refusal of the client's credential."""
    return EntraRefusedError(status, code, message, error=error)


class ExternalIssuers:
    """The signing keys of other OpenID Connect issuers, by discovery; a key id not seen before is looked up again."""

    def __init__(self, certificate_authorities: Sequence[Path]) -> None:
        self._tls = ssl.create_default_context()
        for file in certificate_authorities:
            self._tls.load_verify_locations(cafile=file)
        self._keys: dict[str, dict[str, jwt.PyJWK]] = {}

    async def key(self, issuer: str, key_id: str) -> jwt.PyJWK:
        """The key that signed. Raises EntraRefusedError: 90061 if the issuer cannot be read, 50013 if it has no such key."""
        if key_id not in self._keys.get(issuer, {}):
            self._keys[issuer] = await self._fetched(issuer)
        found = self._keys[issuer].get(key_id)
        if found is None:
            raise refused(
                "50013",
                "Assertion failed signature validation. [Reason - The key was not found., "
                f"Thumbprint of key used by client: '{key_id}', Please visit the Azure Portal, Graph Explorer or directly use MS Graph "
                "to see configured keys.]",
            )
        return found

    async def _fetched(self, issuer: str) -> dict[str, jwt.PyJWK]:
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            connector = aiohttp.TCPConnector(ssl=self._tls)
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                document = await _json(session, issuer.rstrip("/") + "/.well-known/openid-configuration")
                if document.get("issuer") != issuer:
                    raise refused("90061", "Request to External OIDC endpoint failed.", error="invalid_request", status=400)
                keys = (await _json(session, str(document["jwks_uri"])))["keys"]
            return {str(key.get("kid", "")): jwt.PyJWK(key) for key in keys}
        except (aiohttp.ClientError, TimeoutError, asyncio.CancelledError, KeyError, ValueError, jwt.PyJWTError) as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            raise refused("90061", "Request to External OIDC endpoint failed.", error="invalid_request", status=400) from error


async def _json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        response.raise_for_status()
        value = json.loads(await response.text())
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - it is the document that is wrong, not a type in this program
    return value


class Federation:
    """Judges the assertion of a federated client."""

    def __init__(self, directory: Directory, tokens: Tokens, issuers: ExternalIssuers, clock: Clock, timings: Timings) -> None:
        self._directory = directory
        self._tokens = tokens
        self._issuers = issuers
        self._clock = clock
        self._timings = timings

    async def check(
        self, client: str, credentials: Collection[FederatedCredential], assertion: str, home: str | None = None
    ) -> None:
        """Pass if one of these credentials trusts the assertion. Raises EntraRefusedError with the AADSTS code.

        `home` is the tenant of an application: it may trust the managed identities of that tenant, and no others.
        """
        try:
            header = jwt.get_unverified_header(assertion)
            claims = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise refused(
                "50027", f"JWT token is invalid or malformed. {error}", error="invalid_request", status=400
            ) from error
        issuer, subject = str(claims.get("iss", "")), str(claims.get("sub", ""))
        raw = claims.get("aud", "")
        audiences = [str(one) for one in raw] if isinstance(raw, list) else [str(raw)]
        if _is_entra(issuer):
            audiences = self._entra_issued(claims, assertion, audiences, home)
        match(self._replicated(client, credentials, issuer, subject, audiences), issuer, subject, audiences)
        if not _is_entra(issuer):
            await self._externally_signed(assertion, issuer, str(header.get("kid", "")))

    def _entra_issued(self, claims: dict[str, Any], assertion: str, audiences: list[str], home: str | None) -> list[str]:
        """Entra's own tokens are taken from managed identities only (700226), and only for the exchange (700222).

        That the identity must be of the application's own tenant is documented; the code of its refusal is a guess.
        https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
        """
        try:
            self._tokens.claims(assertion)
        except TokenInvalidError as error:
            raise _time_or_signature(error, claims, self._clock.wall()) from error
        if EXCHANGE_APP_ID not in audiences or home not in {None, str(claims["tid"])}:
            raise refused("700222", "AAD-issued tokens may not be used for federated identity flows.")
        tenant = self._directory.tenant(str(claims["tid"]))
        principal = tenant.principals.get(str(claims["oid"])) if tenant else None
        if principal is None or principal.managed_identity is None:
            raise refused(
                "700226", "Only tokens issued to managed identities may be used as client assertions for the AAD issuer."
            )
        return [here().exchange_audience]

    def _replicated(
        self, client: str, credentials: Collection[FederatedCredential], issuer: str, subject: str, audiences: list[str]
    ) -> list[FederatedCredential]:
        visible = self._clock.now() - self._timings.federated_credential_replication_seconds
        replicated = [one for one in credentials if one.created <= visible]
        fresh = [one for one in credentials if one.created > visible]
        if any(trusts(one, issuer, subject, audiences) for one in fresh):
            raise refused(
                "70021",
                f"No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. "
                f"Assertion Subject: '{subject}'. Assertion Audience: '{audiences[0]}'. "
                "https://docs.microsoft.com/en-us/azure/active-directory/develop/workload-identity-federation",
                error="invalid_request",
                status=400,
            )
        if not credentials:
            raise refused("70025", f"The client '{client}' has no configured federated identity credentials.")
        return replicated

    async def _externally_signed(self, assertion: str, issuer: str, key_id: str) -> None:
        key = await self._issuers.key(issuer, key_id)
        try:
            jwt.decode(
                assertion, key, algorithms=["RS256"], options={"verify_aud": False, "require": ["exp", "iss", "sub", "aud"]}
            )
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
            claims = jwt.decode(assertion, options={"verify_signature": False})
            raise not_within_time(claims, self._clock.wall()) from error
        except jwt.InvalidSignatureError as error:
            raise refused(
                "50013", "Assertion failed signature validation. [Reason - The provided signature value did not match.]"
            ) from error
        except jwt.PyJWTError as error:
            raise refused(
                "50027", f"JWT token is invalid or malformed. {error}", error="invalid_request", status=400
            ) from error


def _is_entra(issuer: str) -> bool:
    return issuer.startswith((f"{here().issuer}/", f"{here().token_issuer}/"))


def trusts(credential: FederatedCredential, issuer: str, subject: str, audiences: Collection[str]) -> bool:
    """Exact comparison, case included."""
    return credential.issuer == issuer and credential.subject == subject and bool(set(credential.audiences) & set(audiences))


def match(credentials: Collection[FederatedCredential], issuer: str, subject: str, audiences: Sequence[str]) -> None:
    """Pass, or say which of issuer, subject and audience found no match, in that order."""
    of_issuer = [one for one in credentials if one.issuer == issuer]
    if not of_issuer:
        raise refused(
            "700211", f"No matching federated identity record found for presented assertion issuer '{issuer}'. {MORE}"
        )
    of_subject = [one for one in of_issuer if one.subject == subject]
    if not of_subject:
        raise refused(
            "700213", f"No matching federated identity record found for presented assertion subject '{subject}'. {MORE}"
        )
    if not any(trusts(one, issuer, subject, audiences) for one in of_subject):
        raise refused(
            "7002121", f"No matching federated identity record found for presented assertion audience '{audiences[0]}'. {MORE}"
        )


def not_within_time(claims: dict[str, Any], now: float) -> EntraRefusedError:
    """An assertion that is expired or not valid yet: 700024, as clients of Entra report it (Azure/azure-workload-identity#693)."""
    current, since, until = (seven_digits(float(one)) for one in (now, claims.get("nbf", 0), claims.get("exp", 0)))
    return refused(
        "700024",
        f"Client assertion is not within its valid time range. Current time: {current}, assertion valid from {since}, expiry time of "
        f"assertion {until}. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
    )


def _time_or_signature(error: TokenInvalidError, claims: dict[str, Any], now: float) -> EntraRefusedError:
    if error.reason == "expired":
        return not_within_time(claims, now)
    if error.reason == "signature":
        return refused("50013", "Assertion failed signature validation. [Reason - The provided signature value did not match.]")
    return refused("50027", "JWT token is invalid or malformed.", error="invalid_request", status=400)
