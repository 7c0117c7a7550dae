"""Probes keys: one check for each key and interval; concurrent callers share a probe and its result."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cmk_operator.azure.key_vault import (
    denied_by_tenant,
    probe_key,
    probe_versions,
    round_trip_again,
    unanswered,
    unwrap_again,
)
from cmk_operator.azure.table import Table
from cmk_operator.azure.vault_answers import ASKED_AGAIN_AFTER, VaultAnswers
from cmk_operator.azure.vault_list import VaultList, Watched
from cmk_operator.core.access.probe_plan import (
    NOT_DUE_WITHIN,
    ProbeStep,
    Proof,
    accessible_versions,
    is_accessible,
    needs_unwrap,
    next_probe_step,
)
from cmk_operator.core.access.verdict import is_missed
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.turns import Turns, owner_of_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.key_vault import ProbedKey, ProbeResult
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.access.state import KeyProbe

EXPLANATION_MAX_AGE: Final = 1.0
"""Seconds for which all keys of a tenant share the reason of a denial, so that a lost vault causes few sign-ins.

A caller with `max_age` 0 gets a reason that was requested after its call.
"""
KNOWN_FOR: Final = 1 / 3
"""Intervals for which a check may reuse what is known of the vault and of the tenant; each has its own limit too."""


@dataclass(slots=True)
class _Explanation:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    requested_at: float = float("-inf")
    failure: AzureFailure | None = None


class KeyProber:
    """Probes keys in vaults, at most `concurrency` at a time; `monotonic` is the clock, in seconds, for the age of results."""

    def __init__(
        self,
        session: AzureSession,
        clock: Callable[[], datetime],
        concurrency: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._clock = clock
        self._monotonic = monotonic
        self._slots = Turns(concurrency)
        """Whoever asks a vault that does not answer leaves some for others."""
        self._watched: Table[ProbedKey, Watched] = Table(lambda _: Watched(), monotonic)
        self._lists: Table[tuple[IdentityChain, str, str], VaultList] = Table(
            lambda place: VaultList(session, *place, monotonic), monotonic
        )
        self._answers: Table[str, VaultAnswers] = Table(lambda _: VaultAnswers(), monotonic)
        self._explanations: Table[tuple[IdentityChain, str], _Explanation] = Table(lambda _: _Explanation(), monotonic)

    def drop_unused(self) -> None:
        """Drop keys, vaults and tenants that were not used for an hour."""
        for table in (self._watched, self._lists, self._answers, self._explanations):
            table.drop_unused()

    def held(self) -> int:
        """The number of keys, vaults and tenants held in memory."""
        return sum(len(table) for table in (self._watched, self._lists, self._answers, self._explanations))

    async def probe(
        self, key: ProbedKey, versions_in_use: frozenset[str], max_age: float, *, read_max_age: float | None = None
    ) -> KeyProbe:
        """A whole probe at most `max_age` seconds old that covers the wanted version and all of `versions_in_use`.

        `read_max_age`: the key was read at most that many seconds ago, and was as in that probe. What differs, such as a new
        version, is probed with wrapKey and unwrapKey again. None: the read may be as old as the probe.
        """
        watched = self._watch(key)
        async with watched.lock:
            last = watched.last
            if last is None or self._since(watched.full_at) > max_age or not _covers(last, versions_in_use):
                return await self._probe(key, watched, versions_in_use, known_for=max_age)
            read_at = max(watched.full_at, watched.proof.read if watched.proof is not None else watched.full_at)
            if read_max_age is None or self._since(read_at) <= read_max_age:
                return last
            known = last if is_accessible(last, self._clock()) else None
            return await self._probe(key, watched, versions_in_use, known, known_for=max_age)

    async def check(
        self, key: ProbedKey, versions_in_use: frozenset[str], interval: float, who: Hashable, wake: Callable[[], None]
    ) -> KeyProbe:
        """The state of the key, after the next step of the probe (`core.access.probe_plan`) if it is due.

        `wake` replaces an earlier one of `who`. It is called once, when the vault's list shows that this key has changed.
        """
        watched = self._watch(key)
        watched.wakes[who] = wake
        async with watched.lock:
            last, due = watched.last, self._since(watched.turn_at) > interval * NOT_DUE_WITHIN
            if last is None or not _covers(last, versions_in_use):
                return await self._probe(key, watched, versions_in_use, known_for=interval * KNOWN_FOR)
            if watched.proof is None or not is_accessible(last, self._clock()):
                return await self._probe(key, watched, versions_in_use, known_for=interval * KNOWN_FOR) if due else last
            if not due and not watched.doubted:
                return last
            watched.turn_at = self._monotonic()
            in_use = {version: seen for version, seen in last.in_use.items() if version in versions_in_use}
            watched.last = replace(last, in_use=in_use)
            return await self._next_step(key, watched, versions_in_use, interval)

    def age(self, key: ProbedKey) -> float:
        """Seconds since the key was last checked; infinite before the first check."""
        watched = self._watched.find(key)
        return self._since(watched.turn_at) if watched is not None else float("inf")

    def _since(self, moment: float) -> float:
        return self._monotonic() - moment

    def _watch(self, key: ProbedKey) -> Watched:
        watched = self._watched[key]
        watched.requested_at = self._monotonic()
        return watched

    async def _probe(
        self,
        key: ProbedKey,
        watched: Watched,
        versions_in_use: frozenset[str],
        known: KeyProbe | None = None,
        *,
        known_for: float,
    ) -> KeyProbe:
        """Probe the key. With `known`, only versions that differ from it are probed with wrapKey and unwrapKey.

        `known_for`: seconds for which facts about the vault and the tenant, but not about the key, may be reused.
        """
        watched.doubted = False
        return self._taken(watched, await self._probe_vault(key, versions_in_use, known, known_for), known)

    def _taken(self, watched: Watched, found: ProbeResult, known: KeyProbe | None = None) -> KeyProbe:
        """Keep what a probe found. With `known`, it was a read, and only what differs was tried."""
        at = self._monotonic()
        watched.turn_at = at
        step = ProbeStep.READ
        if known is None:
            watched.full_at, step = at, ProbeStep.FULL
        found = replace(found, probe=_missed(found.probe, watched.last))
        covered = _versions(found.probe)
        watched.wrapped = {
            version: kept for version, kept in (dict(watched.wrapped) | dict(found.wrapped)).items() if version in covered
        }
        if not is_accessible(found.probe, self._clock()):
            watched.proof, watched.last, watched.accepted = None, found.probe, None
            return found.probe
        watched.proof = (watched.proof or Proof(at, at, at)).after(step, at)
        return self._proven(watched, found.probe)

    async def _probe_vault(
        self, key: ProbedKey, versions_in_use: frozenset[str], known: KeyProbe | None, known_for: float
    ) -> ProbeResult:
        """Probe the vault, unless another probe just timed out there: a second timeout would delay the probes of other vaults."""
        explain = functools.partial(self._explain, within=min(known_for, EXPLANATION_MAX_AGE))
        answers = self._answers[key.key_uri.vault_url]
        spared = min(known_for, ASKED_AGAIN_AFTER)
        timeout = answers.known_timeout(self._monotonic(), spared)
        if timeout is not None:
            return unanswered(timeout, versions_in_use, self._clock())
        async with self._slots.turn(owner_of_calls()):
            # While this probe waited for its turn, another one may have timed out.
            timeout = answers.known_timeout(self._monotonic(), spared)
            if timeout is not None:
                return unanswered(timeout, versions_in_use, self._clock())
            began = self._monotonic()
            with answers.probing():
                found = await probe_key(self._session, key, versions_in_use, self._clock(), explain, known)
            answers.record(found.probe.wanted, began, self._monotonic())
            return found

    async def _next_step(self, key: ProbedKey, watched: Watched, versions_in_use: frozenset[str], interval: float) -> KeyProbe:
        last, proof = watched.last, watched.proof
        if last is None or proof is None:
            raise RuntimeError("a key that is not accessible needs a whole probe")
        known_for = interval * KNOWN_FOR
        answers = self._answers.find(key.key_uri.vault_url)
        if answers is not None and answers.timeout is not None:
            return await self._probe(key, watched, versions_in_use, known_for=known_for)
        vault = self._list_of(key)
        # The list shows only the latest version: neither a pinned one nor an older one that is still in use.
        shared = not watched.doubted and key.key_uri.version is None and not last.in_use
        listed = shared and await vault.shows_no_change(key, watched, interval)
        now = self._monotonic()
        step = next_probe_step(proof, now, interval, doubted=watched.doubted, listed=listed)
        if step is ProbeStep.READ:
            entry = vault.entry(key)
            seen = await self._read(key, watched, versions_in_use, last, interval)
            watched.accepted = entry if watched.proof is not None else None
            return seen
        accessible = accessible_versions(last, self._clock())
        passed = step is ProbeStep.LIST or await self._repeat(key, watched, step, accessible)
        if isinstance(passed, AzureFailure):
            return self._taken(watched, unanswered(passed, versions_in_use, self._clock()))
        if not passed:
            return await self._probe(key, watched, versions_in_use, known_for=known_for)
        last = await self._probe_lost(key, watched, last, accessible)
        watched.proof = proof.after(step, now)
        return self._proven(watched, replace(last, at=self._clock()))

    async def _read(
        self, key: ProbedKey, watched: Watched, versions_in_use: frozenset[str], last: KeyProbe, interval: float
    ) -> KeyProbe:
        """Read the key, and unwrap with it if the last unwrap is too old for a claim of access to rest on it."""
        known_for = interval * KNOWN_FOR
        seen = await self._probe(key, watched, versions_in_use, last, known_for=known_for)
        now = self._monotonic()
        if watched.proof is None or not needs_unwrap(watched.proof, now, interval):
            return seen
        passed = await self._repeat(key, watched, ProbeStep.UNWRAP, accessible_versions(seen, self._clock()))
        if isinstance(passed, AzureFailure):
            return self._taken(watched, unanswered(passed, versions_in_use, self._clock()))
        if not passed:
            return await self._probe(key, watched, versions_in_use, known_for=known_for)
        watched.proof = watched.proof.after(ProbeStep.UNWRAP, now)
        return self._proven(watched, seen)

    async def _probe_lost(self, key: ProbedKey, watched: Watched, last: KeyProbe, accessible: frozenset[str]) -> KeyProbe:
        """Probe the older versions that were lost, because the steps of the key itself do not cover them."""
        lost = sorted(set(last.in_use) - accessible)
        if not lost:
            return last
        async with self._slots.turn(owner_of_calls()):
            found = await probe_versions(self._session, key, lost, self._clock())
        watched.wrapped = dict(watched.wrapped) | dict(found.wrapped)
        return _missed(replace(last, in_use=dict(last.in_use) | dict(found.probe.in_use)), last)

    async def _repeat(self, key: ProbedKey, watched: Watched, step: ProbeStep, versions: frozenset[str]) -> bool | AzureFailure:
        """Unwrap with each version, or wrap and unwrap; returns whether all of them succeeded.

        The timeout if the vault is silent: a whole probe would only wait for a second one.
        """
        if not versions <= set(watched.wrapped):
            return False
        kept = {version: watched.wrapped[version] for version in sorted(versions)}
        async with self._slots.turn(owner_of_calls()):
            if step is ProbeStep.UNWRAP:
                return await unwrap_again(self._session, key, kept)
            wrapped = await round_trip_again(self._session, key, kept)
        if wrapped is None or isinstance(wrapped, AzureFailure):
            return wrapped or False
        watched.wrapped = dict(watched.wrapped) | dict(wrapped)
        return True

    def _proven(self, watched: Watched, probe: KeyProbe) -> KeyProbe:
        since = self._since(watched.proof.since) if watched.proof is not None else 0.0
        watched.last = replace(probe, proven_at=self._clock() - timedelta(seconds=since))
        return watched.last

    def _list_of(self, key: ProbedKey) -> VaultList:
        chain, tenant, url = key.chain, key.customer_tenant_id, key.key_uri.vault_url
        return self._lists[chain, tenant.lower(), url]

    async def _explain(self, chain: IdentityChain, customer_tenant_id: str, *, within: float) -> AzureFailure | None:
        wanted_since = self._monotonic() - within
        explanation = self._explanations[chain, customer_tenant_id.lower()]
        async with explanation.lock:
            if explanation.requested_at < wanted_since:
                requested_at = self._monotonic()
                explanation.failure = await denied_by_tenant(self._session, chain, customer_tenant_id)
                explanation.requested_at = requested_at
            return explanation.failure


def _missed(probe: KeyProbe, before: KeyProbe | None) -> KeyProbe:
    """The probe with the time since which the key has been missed."""
    if not is_missed(probe):
        return replace(probe, missing_since=None)
    return replace(probe, missing_since=(before.missing_since if before is not None else None) or probe.at)


def _versions(probe: KeyProbe) -> set[str]:
    wanted = {probe.wanted.attributes.version} if probe.wanted.attributes is not None else set()
    return wanted | set(probe.in_use)


def _covers(probe: KeyProbe, versions: frozenset[str]) -> bool:
    return versions <= _versions(probe)
