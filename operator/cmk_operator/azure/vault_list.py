"""The list of a vault's keys: one check of all its accessible keys, if the customer has granted it and it is short."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.key_vault import API_VERSION, PROBE_TIMEOUT
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.access.probe_plan import NOT_DUE_WITHIN, ListedKey, listed, pages_worth_reading
from cmk_operator.core.identifiers.key_uri import parse_reported_key_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.key_vault import ProbedKey, Wrapped
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.access.probe_plan import Proof
    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.core.faults.azure_failure import AzureFailure

REFUSED_FOR: Final = 600.0
"""Seconds until a refused list is requested again: a role on the key alone, as the hand-over assigns it, is normal."""
TOO_LONG_FOR: Final = 3600.0
"""Seconds until a list that was too long to be worth its calls is tried again with the same limit of pages."""
TRIED_AGAIN_WITH: Final = 2
"""Factor of the limit of pages with which it is tried earlier: after a start the keys join one by one."""
ABANDONED_AFTER: Final = 3.0
"""Intervals after which a key that was not probed any more leaves the list's members."""


@dataclass(slots=True)
class Watched:
    """The state of one key between two checks."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    last: KeyProbe | None = None
    wrapped: Mapping[str, Wrapped] = field(default_factory=dict)
    proof: Proof | None = None
    """None while the key is not accessible."""
    full_at: float = float("-inf")
    """When the last whole probe ended; only a whole probe counts before a write."""
    turn_at: float = float("-inf")
    """When the key was last checked."""
    requested_at: float = float("-inf")
    doubted: bool = False
    """Whether the vault's list differs from the last check of the key, or can no longer be read."""
    accepted: ListedKey | None = None
    """The key's entry in the list before the key itself was read and found accessible."""
    wakes: dict[Hashable, Callable[[], None]] = field(default_factory=dict)

    def doubt(self) -> None:
        """Request a read of the key itself, now."""
        self.doubted = True
        wakes, self.wakes = list(self.wakes.values()), {}
        for wake in wakes:
            wake()

    def matches(self, entry: ListedKey | None) -> bool:
        """Whether the key's entry in the list agrees with the last read of the key itself."""
        attributes = self.last.wanted.attributes if self.last is not None else None
        return entry is not None and attributes is not None and entry in {listed(attributes), self.accepted}


@dataclass(slots=True)
class VaultList:
    """The list of one vault as one identity reads it, with the keys that rely on it."""

    session: AzureSession
    chain: IdentityChain
    customer_tenant_id: str
    vault_url: str
    monotonic: Callable[[], float]
    members: dict[ProbedKey, Watched] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _entries: Mapping[str, ListedKey] | None = None
    _at: float = float("-inf")
    _not_before: float = float("-inf")
    _longer_than: int = 0
    """The list has more pages than this; valid until `_longer_until`."""
    _longer_until: float = float("-inf")

    async def shows_no_change(self, key: ProbedKey, watched: Watched, interval: float) -> bool:
        """Whether a list at most `interval` seconds old shows no change of the key. Other keys that changed are woken."""
        self.members[key] = watched
        async with self._lock:
            if self.monotonic() - self._at > interval * NOT_DUE_WITHIN and self.monotonic() >= self._not_before:
                await self._read(interval)
        if watched.doubted or self.monotonic() - self._at >= interval:
            return False
        return watched.matches(self.entry(key))

    def entry(self, key: ProbedKey) -> ListedKey | None:
        """The key's entry in the last list."""
        return self._entries.get(_name_of(key)) if self._entries is not None else None

    async def _read(self, interval: float) -> None:
        began = self.monotonic()
        for key in [key for key, one in self.members.items() if began - one.requested_at > ABANDONED_AFTER * interval]:
            del self.members[key]
        pages = pages_worth_reading(len(self.members))
        if pages == 0:
            self._end()
            return
        if pages < TRIED_AGAIN_WITH * self._longer_than and began < self._longer_until:
            return
        found = await _list_keys(self.session, self, pages)
        if found is None:
            self._longer_than, self._longer_until = pages, self.monotonic() + TOO_LONG_FOR
            self._end()
            return
        if not isinstance(found, dict):
            self._fail(found, interval)
            return
        self._longer_than = 0
        self._entries, self._at = found, began
        for key, watched in self.members.items():
            if watched.proof is not None and not watched.doubted and not watched.matches(found.get(_name_of(key))):
                watched.doubt()

    def _fail(self, failure: AzureFailure, interval: float) -> None:
        """Stop using the list after a failed read; not after 429, because checks of all keys at once would send more requests."""
        if failure.status == 429:
            self._not_before = self.monotonic() + (failure.retry_after or 0.0)
            return
        self._not_before = self.monotonic() + (REFUSED_FOR if failure.status == 403 else interval)
        self._end()

    def _end(self) -> None:
        """Stop using the list: each key is checked by itself, at once if it relied on the list until now."""
        stood, self._entries = self._entries is not None, None
        for watched in self.members.values() if stood else ():
            if watched.proof is not None:
                watched.doubt()


def _name_of(key: ProbedKey) -> str:
    return key.key_uri.key_name.lower()


async def _list_keys(session: AzureSession, vault: VaultList, most_pages: int) -> dict[str, ListedKey] | AzureFailure | None:
    """The entries by key name in lower case; None if there are more than `most_pages` pages.

    A page may be empty without being the last. Only the query of a nextLink is used, so that no answer can send a token to
    another host.
    """
    chain = vault.chain
    found: dict[str, ListedKey] = {}
    query = {"api-version": API_VERSION}
    try:
        application = session.application(chain, vault.customer_tenant_id)
        rest = session.rest(application, vault.vault_url, chain.cloud.key_vault_scope)
        async with asyncio.timeout(PROBE_TIMEOUT):
            for _ in range(most_pages):
                page = await rest.call("GET", "/keys", query)
                entries = page.get("value")
                if not isinstance(entries, list):
                    raise UnreadableError("the answer is not a page of a list")
                for entry in entries:
                    with suppress(UnreadableError), typed_answer():
                        found[parse_reported_key_uri(str(entry["kid"])).key_name.lower()] = _listed(entry["attributes"])
                link = page.get("nextLink")
                if not link:
                    return found
                with typed_answer():
                    query = dict(parse_qsl(urlsplit(str(link)).query))
    except EXPECTED_FAILURES as error:
        return failure_of(error)
    return None


def _listed(attributes: Mapping[str, Any]) -> ListedKey:
    """Read the attributes of an entry. Raises TypeError for an attribute of another type than Key Vault's."""
    enabled, level = attributes.get("enabled"), attributes.get("recoveryLevel")
    if not isinstance(enabled, bool | None) or not isinstance(level, str | None):
        raise TypeError("attributes")
    return ListedKey(
        enabled is not False,
        _whole(attributes.get("nbf")),
        _whole(attributes.get("exp")),
        _whole(attributes.get("created")),
        _whole(attributes.get("updated")),
        level or "",
        _whole(attributes.get("recoverableDays")),
    )


def _whole(value: object) -> int | None:
    if isinstance(value, int | None) and not isinstance(value, bool):
        return value
    raise TypeError("attributes")
