"""One HTTP request as the services get it, and the router that finds its handler."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Never
from urllib.parse import parse_qsl

JSON = dict[str, Any]
NOT_CACHED = {"Cache-Control": "no-cache", "Expires": "-1", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff"}
"""What Resource Manager and Key Vault say of every answer."""


class MalformedBodyError(Exception):
    """The body is no JSON object."""


@dataclass(frozen=True)
class Answer:
    """What goes back: a JSON value, text or bytes, or nothing."""

    status: int = 200
    json: object = None
    content: bytes | None = None
    media_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The bytes on the wire."""
        if self.content is not None:
            return self.content
        return b"" if self.json is None else json.dumps(self.json, separators=(",", ":")).encode()


@dataclass
class Notes:
    """What a service learnt about a request, for the request log."""

    principal: str = ""
    application: str = ""
    operation: str = ""
    error_code: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exchange:
    """A request; header names are lower case, `path` is percent-decoded, `query` names are lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    raw_target: str
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    notes: Notes = field(default_factory=Notes)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        """The path parameter of this name."""
        return self.parameters[name]

    def json(self) -> JSON:
        """The body as a JSON object; an empty body is an empty object. Raises MalformedBodyError."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise MalformedBodyError(str(error)) from error
        if not isinstance(value, dict):
            raise MalformedBodyError("the body is not an object")
        return value

    def form(self) -> dict[str, str]:
        """The body as application/x-www-form-urlencoded; empty if it is of any other media type."""
        if self.media_type != "application/x-www-form-urlencoded":
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def media_type(self) -> str:
        """The media type of the body in lower case, without parameters; empty if none is named."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def bearer(self) -> str | None:
        """The bearer token, if there is one."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


def _no_number(name: str) -> Never:
    """NaN and the infinities are no JSON (RFC 8259, section 6)."""
    raise ValueError(f"{name} is no JSON value")


Handler = Callable[[Exchange], Awaitable[Answer]]


@dataclass(frozen=True)
class Route:
    """A path template with `{name}` for one segment and `{name:path}` for many, matched without regard to case."""

    method: str
    template: str
    handler: Handler
    pattern: re.Pattern[str]


def _compiled(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", template)
    text = ""
    for part in parts:
        if part.startswith("{"):
            name, _, kind = part[1:-1].partition(":")
            text += f"(?P<{name}>{'.*?' if kind == 'path' else '[^/]+'})"
        else:
            text += re.escape(part)
    return re.compile(text + r"/?", re.IGNORECASE)


class Router:
    """Routes by method and number of path segments, so that a look-up stays short."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[str, int], list[Route]] = defaultdict(list)
        self._any_length: list[Route] = []

    def add(self, method: str, template: str, handler: Handler) -> None:
        """Answer `method` on `template` with `handler`."""
        route = Route(method, template, handler, _compiled(template))
        if ":path}" in template:
            self._any_length.append(route)
        else:
            self._by_length[method, template.strip("/").count("/")].append(route)

    def find(self, exchange: Exchange) -> tuple[Handler, Exchange] | None:
        """The handler and the exchange with its path parameters, or None."""
        length = exchange.path.strip("/").count("/")
        for route in (*self._by_length.get((exchange.method, length), ()), *self._any_length):
            if route.method == exchange.method and (match := route.pattern.fullmatch(exchange.path)):
                exchange.notes.operation = route.template
                return route.handler, replace(exchange, parameters=match.groupdict())
        return None

    def methods(self, path: str) -> list[str]:
        """The methods that this path knows: empty if the path itself is unknown."""
        length = path.strip("/").count("/")
        routes = [*self._any_length]
        for (_, segments), some in self._by_length.items():
            routes += some if segments == length else []
        return sorted({route.method for route in routes if route.pattern.fullmatch(path)})
