"""Faults that a test injects: by host and path, a number of times or until they are taken away."""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.azure.exchange import Exchange

OPERATION_KINDS = frozenset({"slow_operation", "failing_operation"})
ALTERATION = "alter"
STREAMS = frozenset({"drip", "endless"})
KINDS = frozenset({"status", "hang", "reset", "delay", "truncate"}) | STREAMS | OPERATION_KINDS | {ALTERATION}


@dataclass
class Fault:
    """What happens to the requests that match.

    `status` answers with `status`, `code` and `message`, or with `body`, or with the bytes of `raw` (base64); `headers` may replace
    any header, and `{url}` in them or in `body` is the request's own URL. `drip` sends its body byte by byte with `seconds` between them, and
    `endless` sends spaces as fast as they are read; neither ends. `hang` answers after `seconds` or never; `reset` closes the
    connection; `delay` waits `seconds` and goes on; `truncate` sends half of the answer. With `after_effect` the work is done first.
    The long-running operation that a matching request starts takes `seconds` of virtual time longer with `slow_operation`, and ends
    as `Failed` with `code` and `message`, without any effect, with `failing_operation`. `alter` changes the object of the `resource` with
    that id in every answer that has it: `replace` has the new values by JSON pointer (an empty one is the whole object), `remove` the
    pointers of what is left out; it comes on top of any other fault.
    """

    kind: str
    host: str = "*"
    path: str = ".*"
    method: str | None = None
    user_agent: str = ""
    times: int | None = None
    status: int = 503
    code: str = "ServiceUnavailable"
    message: str = "The service is unavailable."
    body: Any = None
    raw: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: int | None = None
    seconds: float = 0.0
    after_effect: bool = False
    resource: str = ""
    replace: dict[str, Any] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    hits: int = 0

    def matches(self, exchange: Exchange) -> bool:
        """By host glob, method, and regular expressions on the path with its query and on the User-Agent."""
        return (
            (self.times is None or self.hits < self.times)
            and (self.method is None or self.method.upper() == exchange.method)
            and fnmatchcase(exchange.host, self.host.lower())
            and re.search(self.path, exchange.raw_target, re.IGNORECASE) is not None
            and re.search(self.user_agent, exchange.headers.get("user-agent", "")) is not None
        )


class Faults:
    """The faults in force, in the order of injection."""

    def __init__(self) -> None:
        self._all: dict[str, Fault] = {}

    def inject(self, values: Mapping[str, Any]) -> Fault:
        """Raises ValueError for a field or a kind that does not exist."""
        unknown = set(values) - {one.name for one in fields(Fault)} | (set(values) & {"id", "hits"})
        if unknown:
            raise ValueError(f"a fault has no field {', '.join(sorted(unknown))}")
        if values.get("kind") not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(sorted(KINDS))}")
        fault = Fault(**values)
        if (fault.kind == ALTERATION) != bool(fault.resource):
            raise ValueError("resource is the id of what is to be altered")
        if not all(pointer == "" or pointer.startswith("/") for pointer in (*fault.replace, *fault.remove)):
            raise ValueError("a JSON pointer is empty or begins with a slash")
        try:
            base64.b64decode(fault.raw or "", validate=True)
        except ValueError as error:
            raise ValueError("raw is no base64") from error
        for name, expression in (("path", fault.path), ("user_agent", fault.user_agent)):
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"{name} is no regular expression: {error}") from error
        self._all[fault.id] = fault
        return fault

    def take(self, exchange: Exchange) -> Fault | None:
        """The first fault that matches, counted."""
        return self._taken(exchange, lambda kind: kind not in OPERATION_KINDS and kind != ALTERATION)

    def alterations(self, exchange: Exchange) -> list[Fault]:
        """All alterations that may concern the answer; each is counted only where it changes one."""
        return [fault for fault in self._all.values() if fault.kind == ALTERATION and fault.matches(exchange)]

    def take_operation(self, exchange: Exchange, *kinds: str) -> tuple[Fault | None, ...]:
        """For each kind the first fault that matches the request that starts a long-running operation, counted."""
        return tuple(self._taken(exchange, kind.__eq__) for kind in kinds)

    def _taken(self, exchange: Exchange, wanted: Callable[[str], bool]) -> Fault | None:
        for fault in self._all.values():
            if wanted(fault.kind) and fault.matches(exchange):
                fault.hits += 1
                return fault
        return None

    def shown(self) -> list[dict[str, Any]]:
        """All faults with their hits."""
        return [asdict(one) for one in self._all.values()]

    def remove(self, fault_id: str | None = None) -> None:
        """One, or all."""
        if fault_id is None:
            self._all.clear()
        else:
            self._all.pop(fault_id, None)
