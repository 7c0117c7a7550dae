"""Reads the body of a request within bounds of size and time, and makes the typed body of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec

from cmk_keyservice.http.bodies import MOST_BYTES, MOST_ITEMS
from cmk_keyservice.http.problems import JSON, RequestError
from cmk_keyservice.http.server import EXCHANGE

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from cmk_keyservice.http.server import Exchange

READ_SECONDS: Final = 30.0
"""Most seconds for the body of one request, so that nobody holds memory by sending slowly."""
_CLOSE: Final = ((b"connection", b"close"),)
T = TypeVar("T")


class CallerGoneError(Exception):
    """The caller closed the connection: there is nobody to answer."""


class _Outline(msgspec.Struct):
    """Tells a batch from a single item; everything else is skipped."""

    items: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_BATCH: Final = b'{"items"'
"""How nearly every batch begins: then a large body is read once."""
_OUTLINE: Final = msgspec.json.Decoder(_Outline)


async def read_body(scope: Scope, receive: Receive) -> bytes | bytearray:
    """The whole body. Raises `RequestError` if it is no JSON by its header, too large or too slow, and `CallerGoneError`."""
    headers = dict(scope["headers"])
    content_type = headers.get(b"content-type", b"")
    is_json = content_type == JSON or content_type.partition(b";")[0].strip().lower() == JSON
    if not is_json or b"content-encoding" in headers:
        raise RequestError(
            415,
            "NotJson",
            "the body must be application/json without a content encoding",
            "whoever writes the caller must send the header Content-Type: application/json",
            _CLOSE,
        )
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MOST_BYTES:
        raise _too_large()
    exchange: Exchange | None = scope.get(EXCHANGE)
    body = exchange.body() if exchange is not None else None
    if body is not None:
        if len(body) > MOST_BYTES:
            raise _too_large()
        return body
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _read(receive)
    except TimeoutError:
        raise RequestError(
            400,
            "BodyTooSlow",
            f"the body did not arrive within {READ_SECONDS:.0f} s",
            "whoever runs the caller must look at its network",
            _CLOSE,
        ) from None


async def _read(receive: Receive) -> bytes:
    message = await receive()
    first: bytes = message.get("body", b"")
    parts, size = [first], len(first)
    while True:
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        if size > MOST_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return first if len(parts) == 1 else b"".join(parts)
        message = await receive()
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)


def _too_large() -> RequestError:
    return RequestError(
        413,
        "BodyTooLarge",
        f"the body has more than {MOST_BYTES} bytes",
        f"whoever writes the caller must send smaller batches (at most {MOST_ITEMS} items and {MOST_BYTES} bytes), and encrypt "
        "files with a data key of its own",
        _CLOSE,
    )


class Items:
    """The decoder of a body that is one item, or `{"items": [...]}` with up to `MOST_ITEMS` of them."""

    def __init__(self, item: type[Any]) -> None:
        several: Any = list[item]  # type: ignore[valid-type]  # a type that is made here
        several = Annotated[several, msgspec.Meta(min_length=1, max_length=MOST_ITEMS)]
        batch = msgspec.defstruct(
            f"{item.__name__}Batch", [("items", several)], forbid_unknown_fields=True, frozen=True, gc=False
        )
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(item)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)

    def read(self, body: bytes | bytearray) -> tuple[list[Any], bool]:
        """The items, and whether they came as a batch. Raises `RequestError` (400); its words hold no value of the body."""
        try:
            if body.startswith(_BATCH):
                return self._many.decode(body).items, True
            if _OUTLINE.decode(body).items is msgspec.UNSET:
                return [self._one.decode(body)], False
            return self._many.decode(body).items, True
        except (msgspec.MsgspecError, RecursionError) as error:
            raise not_as_described(error) from None


def read_one(decoder: msgspec.json.Decoder[T], body: bytes | bytearray) -> T:
    """A body that is one object. Raises `RequestError` (400)."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise not_as_described(error) from None


def not_as_described(error: msgspec.MsgspecError | RecursionError) -> RequestError:
    """What is wrong with a body, in msgspec's words: types, lengths and places, and names of unknown fields."""
    return RequestError(
        400,
        "BodyNotAsDescribed",
        f"the body is not as /openapi.json describes it: {error}",
        "whoever writes the caller must correct the body",
    )
