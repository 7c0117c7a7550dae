"""Reads all answers over HTTP, within bounds of size, time and nesting.

It is the answer class of the HTTP session, below every SDK: for Azure, Entra, Graph and Snowflake, for receivers of events and
the audit sink. A reader gets an empty body, or one JSON object that every parser accepts.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import ssl
import unicodedata
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
"""Most seconds from a request until its answer has been read to the end, however slowly it arrives."""
DEEPEST: Final = 32
"""Greatest depth of objects and lists within each other."""
MOST_VALUES: Final = 400_000
"""Most values in one answer: many small ones take 25 times their bytes in memory. Resource Manager's take 30 bytes each."""
LONGEST_TOKEN_LIFE: Final = 2 * 86_400
"""Seconds; Entra's tokens are valid for a day at most."""
LONGEST_RETRY_AFTER: Final = 900.0
"""Most seconds for which an answer can ask the operator to wait."""
LONGEST_TEXT: Final = 4096
"""Most characters of one text in an answer; of a link to the next page, `LONGEST_LINK`."""
LONGEST_LINK: Final = 16_384
_LINKS: Final = frozenset({"nextLink", "@odata.nextLink"})
_LARGEST_INTEGER: Final = 1 << 63
_LONG_TEXT: Final = re.compile(rb"\"[^\"]{%d}" % LONGEST_TEXT)
_TOKEN_ENDPOINT: Final = "/oauth2/v2.0/token"  # noqa: S105 - a path, not a secret


class UnreadableError(DecodeError):
    """There is an answer, but it cannot be read."""


def open_session(
    *, connections: int, timeout: aiohttp.ClientTimeout | None = None, trust_env: bool = False
) -> aiohttp.ClientSession:
    """A session whose answers are all read within the bounds. It keeps no cookies."""
    # aiohttp makes its default context at import. This one is new, so it trusts what SSL_CERT_FILE names now.
    connector = aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context())
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=GatedAnswer,
        timeout=timeout if timeout is not None else aiohttp.ClientTimeout(total=LONGEST_ANSWER),
        trust_env=trust_env,
    )


class GatedAnswer(aiohttp.ClientResponse):
    """An answer whose body is read within bounds; an error keeps only what can be read of it."""

    _gated: CIMultiDictProxy[str] | None = None

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers, printable, and without values that would make an SDK decode or wait differently."""
        if self._gated is None:
            headers = CIMultiDict((name, _printable_ascii(value)) for name, value in super().headers.items())
            # The body is JSON in UTF-8, whatever content type the answer has.
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
        # aiohttp decompresses piece by piece, and only as much as has been read from it.
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
        if self.url.path.endswith(_TOKEN_ENDPOINT):
            if not succeeded:
                return json.dumps(_cleaned(read_token_refusal(found))).encode() if "error" in found else b""
            return json.dumps(read_token_answer(found)).encode()
        if _may_need_cleaning(content):
            return json.dumps(_cleaned(found), ensure_ascii=False).encode()
        return content


def read_object(content: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises `UnreadableError`."""
    if sum(map(content.count, (b",", b"{", b"["))) > MOST_VALUES:  # signs within texts count too
        raise UnreadableError(f"the answer has more than {MOST_VALUES} values")
    try:
        found = json.loads(
            content.decode("utf-8-sig"), parse_constant=_refused, parse_float=_finite, parse_int=_bounded_integer
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableError("the answer is not valid JSON") from error
    if not isinstance(found, dict):
        raise UnreadableError("the answer is not a JSON object")
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


def _may_need_cleaning(content: bytes) -> bool:
    """Whether JSON has an escape, a byte that is not printable ASCII, or a long text. Most answers have none of them.

    Not one regular expression for all of it: that takes fifteen times as long, six times as long as the JSON takes to parse.
    """
    return not content.isascii() or b"\\" in content or b"\x7f" in content or _LONG_TEXT.search(content) is not None


def _cleaned(value: Any, longest: int = LONGEST_TEXT) -> Any:  # noqa: ANN401 - any value of JSON
    """A copy whose texts and names are printable and at most `longest` characters long."""
    if isinstance(value, str):
        return _printable(value[:longest])
    if isinstance(value, dict):
        return {
            _printable(name[:LONGEST_TEXT]): _cleaned(inner, LONGEST_LINK if name in _LINKS else LONGEST_TEXT)
            for name, inner in value.items()
        }
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def _printable(text: str) -> str:
    """The text with a space in place of each control or format character, and "?" in place of half a surrogate pair."""
    return text if text.isprintable() else "".join(map(_printable_character, text))


def _printable_character(one: str) -> str:
    category = unicodedata.category(one)
    if category == "Cs":  # JSON can contain half a pair, which UTF-8 cannot
        return "?"
    return " " if category[0] == "C" or category in {"Zl", "Zp"} else one


def _printable_ascii(text: str) -> str:
    return text if text.isascii() and text.isprintable() else "".join(one if " " <= one <= "~" else "?" for one in text)


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
    """The token in an answer of Entra's token endpoint, without all other fields. Raises `UnreadableError`.

    Source: Microsoft identity platform, "Successful response (access token response)".
    """
    token, life = body.get("access_token"), body.get("expires_in")
    if not isinstance(token, str) or not token or not all("!" <= sign <= "~" for sign in token):
        raise UnreadableError("the answer of the token endpoint has no token")
    seconds = int(life) if isinstance(life, str) and life.isascii() and life.isdecimal() and len(life) < 10 else life
    if type(seconds) is not int or not 0 < seconds <= LONGEST_TOKEN_LIFE:
        raise UnreadableError("the answer of the token endpoint does not say how long the token is valid")
    return {"token_type": "Bearer", "access_token": token, "expires_in": seconds}


def read_token_refusal(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a refusal of Entra's token endpoint says, without all other fields: azure-identity would take a token from them.

    Source: Microsoft identity platform, "Error response".
    """
    return {name: body[name] for name in ("error", "error_description", "error_codes") if name in body}


def _bound_wait(headers: CIMultiDict[str]) -> None:
    """Replace `Retry-After` by whole seconds within bounds, which every SDK can read, or remove it."""
    seconds = read_wait(headers.popall("Retry-After")[-1])
    if seconds is not None:
        headers["Retry-After"] = str(math.ceil(seconds))


def bounded_seconds(text: str, factor: float = 1.0, longest: float = LONGEST_RETRY_AFTER) -> float | None:
    """A duration in an answer, in seconds, at least 0 and at most `longest`; None if it is not a number.

    Every duration that the operator reads from an answer, and does not refuse when it is too long, is read here.
    """
    try:
        seconds = float(text) * factor
    except ValueError:
        return None
    return min(max(0.0, seconds), longest) if math.isfinite(seconds) else None


def read_wait(text: str) -> float | None:
    """Seconds that a `Retry-After` asks to wait, in either form of RFC 9110, bounded; None if it has neither form."""
    seconds = bounded_seconds(text)
    if seconds is not None:
        return seconds
    try:
        until = email.utils.parsedate_to_datetime(text)
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), LONGEST_RETRY_AFTER)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
