"""OpenID Connect: the authorization code flow with PKCE, as a confidential client, and an id_token that is verified in full.

Sources: OpenID Connect Core 1.0 (3.1.2.1, 3.1.3.7), Discovery 1.0 (4.3), RFC 6749 (4.1), RFC 7636, RFC 9700. PyJWT verifies signatures.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import jwt

from cmk_operator.answer_gate import LARGEST_ANSWER, UnreadableError, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG: Final = logging.getLogger("cmk_keyservice.console")
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
"""Only asymmetric ones: with HS256, who knows the client secret could write an id_token."""
LEEWAY_SECONDS: Final = 60.0
PATIENCE: Final = aiohttp.ClientTimeout(total=15)
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class SignInError(Exception):
    """A sign-in that did not end well; the sentence is for the person, and holds no token."""


@dataclass(frozen=True)
class Client:
    """An application at an issuer. `proof`: what shows at the token endpoint that it is this one."""

    issuer: str
    client_id: str
    redirect_uri: str
    proof: Mapping[str, str]


def secret_proof(secret: str) -> dict[str, str]:
    """A client secret."""
    return {"client_secret": secret}


def assertion_proof(assertion: str) -> dict[str, str]:
    """A token of another issuer that the application trusts (RFC 7523)."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def challenge_of(verifier: str) -> str:
    """The S256 challenge (RFC 7636, section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class OpenId:
    """Requests to issuers, over TLS only."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def authorization_url(self, client: Client, *, state: str, nonce: str, verifier: str, select: bool = False) -> str:
        """Where to send the browser. Raises SignInError."""
        found = await self._configuration(client.issuer)
        query = {
            "client_id": client.client_id,
            "response_type": "code",
            "response_mode": "query",
            "redirect_uri": client.redirect_uri,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            **({"prompt": "select_account"} if select else {}),
        }
        return f"{found['authorization_endpoint']}?{urlencode(query)}"

    async def claims(self, client: Client, code: str, *, nonce: str, verifier: str) -> dict[str, Any]:
        """The verified claims of the id_token that a code is worth. Raises SignInError."""
        found = await self._configuration(client.issuer)
        form = {
            "grant_type": "authorization_code",
            "client_id": client.client_id,
            "code": code,
            "redirect_uri": client.redirect_uri,
            "code_verifier": verifier,
            **client.proof,
        }
        answer = await self._answer("POST", found["token_endpoint"], form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            told = f"{answer.get('error')}: {answer.get('error_description')}"[:300]
            _LOG.warning("the token endpoint of %s refused a code of client %s: %s", client.issuer, client.client_id, told)
            raise SignInError("The identity provider did not accept the sign-in. Sign in again.")
        keys = await self._answer("GET", found["jwks_uri"])
        return _verified(token, keys, client, nonce)

    async def _configuration(self, issuer: str) -> dict[str, str]:
        answer = await self._answer("GET", f"{issuer}/.well-known/openid-configuration")
        if answer.get("issuer") != issuer:
            raise SignInError("The identity provider calls itself by another name: the provider must correct --issuer.")
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if not all(urlsplit(str(answer.get(name, ""))).scheme == "https" for name in wanted):
            raise SignInError("The identity provider names an endpoint without TLS.")
        return {name: str(answer[name]) for name in wanted}

    async def _answer(self, method: str, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            async with self._session.request(method, url, data=form, timeout=PATIENCE, allow_redirects=False) as response:
                raw = await _whole(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _LOG.warning("%s does not answer: %s", url, type(error).__name__)
            raise SignInError("The identity provider does not answer. Try again in a minute.") from error
        try:
            return read_object(raw)
        except UnreadableError as error:
            raise SignInError("The identity provider gave no usable answer. Try again in a minute.") from error


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body, in however many pieces it arrives. Not `response.read()`: that keeps the access token only, and no id_token."""
    kept = bytearray()
    async for piece in response.content.iter_any():
        kept += piece
        if len(kept) > LARGEST_ANSWER:
            raise SignInError("The identity provider gave no usable answer. Try again in a minute.")
    return bytes(kept)


def _verified(token: str, keys: Mapping[str, Any], client: Client, nonce: str) -> dict[str, Any]:
    """OpenID Connect Core 1.0, section 3.1.3.7."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        key = next(one for one in jwt.PyJWKSet.from_dict(dict(keys)).keys if one.key_id == kid)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(ALGORITHMS),
            audience=client.client_id,
            issuer=client.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud", "sub"], "strict_aud": True},
        )
    except (jwt.PyJWTError, StopIteration, ValueError) as error:
        raise SignInError("The identity provider's id_token is not valid. Sign in again.") from error
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise SignInError("The identity provider's id_token belongs to another sign-in. Sign in again.")
    return claims


async def read_text(file: Any) -> str:  # noqa: ANN401 - a path
    """A file's text, off the loop. Raises OSError."""
    text: str = await asyncio.to_thread(file.read_text, encoding="utf-8")
    return text.strip()
