"""The parts of one replica below HTTP, wired: what `serve` runs, and what the tests run two of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.keys.access import Access
from cmk_keyservice.keys.admission import Admission
from cmk_keyservice.keys.cache import Cache
from cmk_keyservice.keys.clock import seconds
from cmk_keyservice.keys.data_keys import DataKeys
from cmk_keyservice.keys.limits import Limits
from cmk_keyservice.keys.wrapping import Wrapping
from cmk_keyservice.rewrap.rewrap import Rewrap
from cmk_keyservice.upkeep import RESTORED, Upkeep
from cmk_keyservice.vaults.credentials import Credentials
from cmk_keyservice.vaults.organizations import Organizations
from cmk_keyservice.vaults.vaults import Vaults
from cmk_keyservice.watch.organization_keys import OrganizationKeyWatch, read_one
from cmk_keyservice.watch.report import apply_report
from cmk_keyservice.watch.secrets import read_entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.problem import Problem
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import Organization
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.kinds.call_rates import Rate
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.kubernetes.connection import Connection


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a replica asks of the Kubernetes API."""

    read: Callable[[str, str], Awaitable[Organization | None]]
    read_secret: Callable[[str, str, str], Awaitable[bytes | Problem]]
    apply: Callable[[Organization, Mapping[str, Any]], Awaitable[None]]

    @classmethod
    def of(cls, client: KubernetesClient) -> Cluster:
        """By the operator's client."""
        return cls(partial(read_one, client), partial(read_entry, client), partial(apply_report, client))


class Replica:
    """The data keys of all organizations, and the work behind them. `clock` counts seconds."""

    def __init__(
        self,
        store: Store,
        session: AzureSession,
        rate: Rate,
        rings: tuple[KeyRing, KeyRing],
        *,
        cluster: Cluster,
        limits: Limits | None = None,
        clock: Callable[[], float] = seconds,
    ) -> None:
        """`rings` are the internal and the platform's; `rate` is the session's for each vault."""
        self._limits = limits = limits or Limits()
        internal, platform = rings
        self.store = store
        self.journal = journal = Journal(store)
        self.organizations = Organizations(cluster.read)
        credentials = Credentials(cluster.read_secret, store, internal)
        self.vaults = Vaults(session, platform, credentials, store, rate, clock)
        admission = Admission(self.organizations, store, journal, credentials.keep)
        cache = Cache(limits.capacity)
        self.access = Access(
            self.organizations,
            admission,
            self.vaults,
            store,
            journal,
            evict=cache.evict,
            clock=clock,
            limits=limits,
        )
        wrapping = Wrapping(internal, self.vaults)
        self.data_keys = DataKeys(
            self.organizations,
            self.access,
            cache,
            wrapping,
            store,
            journal,
            clock=clock,
            limits=limits,
        )
        self.rewrap = Rewrap(store, journal, wrapping)
        self.upkeep = Upkeep(
            self.organizations,
            self.access,
            store,
            journal,
            self.rewrap,
            apply=cluster.apply,
            clock=clock,
            every=limits.report_every,
        )
        self.organizations.listen(lambda organization: self.upkeep.kick(organization.id))

    async def run(self, stop: asyncio.Event, watch: OrganizationKeyWatch | None = None) -> None:
        """Watch, look at keys, re-wrap and report, until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            if watch is not None:
                group.create_task(watch.run(stop), name="watch of OrganizationKeys")
            group.create_task(self.access.run(stop, self._limits.tick), name="looks at keys")
            group.create_task(self.upkeep.run(stop, self._limits.tick), name="upkeep")
            listening = group.create_task(self._listen(), name="notices")
            await stop.wait()
            listening.cancel()

    def watch(self, client: KubernetesClient, connection: Connection) -> OrganizationKeyWatch:
        """The watch that fills `organizations`."""
        return OrganizationKeyWatch(client, connection, self.organizations)

    def missing(self) -> list[str]:
        """What keeps this replica from serving, besides the database and the key rings."""
        return [] if self.organizations.complete else ["the OrganizationKey objects have not been listed yet"]

    async def _listen(self) -> None:
        async for notice in self.store.listen():
            if notice is None:
                for organization in self.organizations:
                    await self.access.learn_from_all(organization.id)
            elif notice.topic == "proof":
                await self.access.learn_from_all(notice.organization)
            elif notice.topic == RESTORED:
                self.data_keys.evict(notice.organization)
                self.access.admission.forget(notice.organization)
