"""The one way in for answers over HTTP: read within bounds of size, time and nesting, or not at all.

It lies beneath every SDK, as the answer class of the HTTP session: Azure, Entra, Graph and Snowflake, receivers of events and the
audit sink. What reaches a reader is empty or one JSON object without anything that a parser trips over.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import ssl
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from azure.core.exceptions import DecodeError
from multidict import CIMultiDict, CIMultiDictProxy

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_ANSWER: Final = 1 << 20
"""Bytes of one answer after decompression."""
LARGEST_PAGE: Final = 8 << 20
"""The same for Resource Manager, whose lists have large pages."""
LONGEST_ANSWER: Final = 30.0
"""Seconds from a request until its answer has been read to the end, whatever drips in meanwhile."""
DEEPEST: Final = 32
"""Objects and lists within one another."""
LONGEST_TOKEN_LIFE: Final = 2 * 86_400
"""Seconds; Entra's own tokens live for a day at most."""
LONGEST_RETRY_AFTER: Final = 900.0
"""Seconds for which anyone outside may ask to be left alone."""
_LARGEST_INTEGER: Final = 1 << 63
_TOKEN_ENDPOINT: Final = "/oauth2/v2.0/token"  # noqa: S105 - a path, not a secret


class UnreadableError(DecodeError):
    """An answer came, and it is not one that a reader can read."""


def open_session(
    *, connections: int, timeout: aiohttp.ClientTimeout | None = None, trust_env: bool = False
) -> aiohttp.ClientSession:
    """A session whose answers all pass the gate. It keeps no cookies."""
    # aiohttp's own context is as old as its import; this one trusts what SSL_CERT_FILE names now.
    connector = aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context())
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=GatedAnswer,
        timeout=timeout if timeout is not None else aiohttp.ClientTimeout(total=LONGEST_ANSWER),
        trust_env=trust_env,
    )


class GatedAnswer(aiohttp.ClientResponse):
    """An answer whose body is read within bounds, and of which an error keeps only what can be read."""

    _gated: CIMultiDictProxy[str] | None = None

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers, without what would have an SDK decode or wait in another way."""
        if self._gated is None:
            headers = CIMultiDict(super().headers)
            # What passes the gate is JSON in UTF-8, whatever the answer calls itself.
            headers["Content-Type"] = "application/json"
            if "Retry-After" in headers:
                _bound_wait(headers)
            self._gated = CIMultiDictProxy(headers)
        return self._gated

    async def read(self) -> bytes:
        """The body. Raises `UnreadableError`, and TimeoutError for one that takes too long; the connection is closed then."""
        if self._body is None:
            try:
                async with asyncio.timeout(LONGEST_ANSWER):
                    self._body = self._checked(await self._bounded())
            except BaseException:
                self.close()
                raise
        return await super().read()

    async def _bounded(self) -> bytes:
        limit = LARGEST_PAGE if (self.url.host or "").startswith("management.") else LARGEST_ANSWER
        kept = bytearray()
        # aiohttp decompresses a piece at a time, and no further than has been taken from it.
        async for piece in self.content.iter_any():
            kept += piece
            if len(kept) > limit:
                raise UnreadableError(f"the answer is larger than {limit >> 20} MiB")
        return bytes(kept)

    def _checked(self, content: bytes) -> bytes:
        if not content:
            return content
        succeeded = self.status < HTTPStatus.MULTIPLE_CHOICES
        try:
            found = read_object(content)
        except UnreadableError:
            if succeeded:
                raise
            return b""
        if succeeded and self.url.path.endswith(_TOKEN_ENDPOINT):
            return json.dumps(read_token_answer(found)).encode()
        if b"\\ud" in content.lower():
            # Half a pair of surrogates can be written in JSON and nowhere else.
            return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
        return content


def read_object(content: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises `UnreadableError`."""
    try:
        found = json.loads(
            content.decode("utf-8-sig"), parse_constant=_refused, parse_float=_finite, parse_int=_bounded_integer
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableError("the answer is no JSON that can be read") from error
    if not isinstance(found, dict):
        raise UnreadableError("the answer is no JSON object")
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return found
    raise UnreadableError("the answer is nested too deeply")


def _refused(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _bounded_integer(text: str) -> int:
    # Before the conversion, whose time grows with the square of the length.
    if len(text) > len(str(_LARGEST_INTEGER)) + 1 or abs(number := int(text)) > _LARGEST_INTEGER:
        raise ValueError("a number of more than 64 bits")
    return number


def read_token_answer(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Entra's token endpoint grants, and nothing else of it. Raises `UnreadableError`.

    Source: Microsoft identity platform, "Successful response (access token response)".
    """
    token, life = body.get("access_token"), body.get("expires_in")
    if not isinstance(token, str) or not token or not all("!" <= sign <= "~" for sign in token):
        raise UnreadableError("the answer of the token endpoint holds no token")
    seconds = int(life) if isinstance(life, str) and life.isascii() and life.isdecimal() and len(life) < 10 else life
    if type(seconds) is not int or not 0 < seconds <= LONGEST_TOKEN_LIFE:
        raise UnreadableError("the answer of the token endpoint says no time for which the token is good")
    return {"token_type": "Bearer", "access_token": token, "expires_in": seconds}


def _bound_wait(headers: CIMultiDict[str]) -> None:
    """Leave a `Retry-After` of whole seconds within bounds, which every SDK can read, or none."""
    seconds = read_wait(headers.popall("Retry-After")[-1])
    if seconds is not None:
        headers["Retry-After"] = str(math.ceil(seconds))


def bounded_wait(text: str, factor: float = 1.0) -> float | None:
    """Seconds that a header asks to wait, at most `LONGEST_RETRY_AFTER`; None when it is no number."""
    try:
        seconds = float(text) * factor
    except ValueError:
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def read_wait(text: str) -> float | None:
    """Seconds that a `Retry-After` asks to wait, in either form of RFC 9110, bounded; None when it is neither."""
    seconds = bounded_wait(text)
    if seconds is not None:
        return seconds
    try:
        until = email.utils.parsedate_to_datetime(text)
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), LONGEST_RETRY_AFTER)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
