"""The last requests, and counts of all of them by operation."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that was answered, or broken by a fault."""

    n: int
    time: float
    service: str
    host: str
    method: str
    path: str
    operation: str
    status: int
    principal: str
    application: str
    error_code: str
    request_id: str
    client_request_id: str
    user_agent: str
    fault: str


class RequestLog:
    """Bounded in entries; the counts go on."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._counts: Counter[tuple[str, str, str, int]] = Counter()
        self._n = 0

    def add(self, **values: Any) -> None:  # noqa: ANN401 - the fields of an Entry but its number
        """Write one down."""
        self._n += 1
        entry = Entry(n=self._n, **values)
        self._entries.append(entry)
        self._counts[entry.service, entry.method, entry.operation, entry.status] += 1

    def since(self, number: int) -> list[dict[str, Any]]:
        """The kept entries with a greater number."""
        return [asdict(one) for one in self._entries if one.n > number]

    def counts(self) -> list[dict[str, Any]]:
        """How often each operation was answered with each status."""
        names = ("service", "method", "operation", "status")
        return [dict(zip(names, key, strict=True), count=count) for key, count in sorted(self._counts.items())]

    def clear(self) -> None:
        """Forget the entries and the counts; the numbers go on."""
        self._entries.clear()
        self._counts.clear()
