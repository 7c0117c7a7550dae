"""One scrape: it reads what has changed since the last one, in small steps, and makes the text in a thread."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from pydantic import ValidationError

from cmk_operator import __version__
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.metrics import families
from cmk_operator.metrics.digests import digest_identity, digest_key, digest_organization, digest_resource, digest_tenant
from cmk_operator.metrics.samples import Objects, families_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from cmk_operator.azure.call_budget import BudgetState
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.metrics.digests import (
        IdentityDigest,
        KeyDigest,
        OrganizationDigest,
        ResourceDigest,
        TenantDigest,
    )
    from cmk_operator.telemetry import Telemetry

_STEP: Final = 50
"""Objects that are parsed before other work may run; about 5 ms."""

ResourceT = TypeVar("ResourceT", FederatedIdentity, CustomerTenant, CustomerManagedKey, EncryptedResource, OrganizationKey)
DigestT = TypeVar("DigestT")


@dataclass(frozen=True, slots=True)
class Work:
    """What the process is doing at one moment."""

    leading: bool
    queue_depths: Mapping[str, int] = field(default_factory=dict)
    queue_overdue: float = 0.0
    budgets: tuple[BudgetState, ...] = ()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    work: Work
    objects: Objects
    now: float
    oldest: Mapping[str, float] = field(default_factory=dict)
    """Seconds by kind; empty in a standby."""


class _Kept(Generic[DigestT]):
    """Digests of all objects of a kind, each with the resource version that it was made from."""

    def __init__(self) -> None:
        self._digests: dict[ObjectReference, tuple[int, DigestT]] = {}

    async def read(
        self,
        inventory: Inventory,
        model: type[ResourceT],
        digest: Callable[[ResourceT], DigestT],
        serves: Callable[[ObjectReference], bool],
    ) -> dict[ObjectReference, DigestT]:
        """The digests of the objects that there are now and that this operator serves; only those that changed are parsed."""
        versions = inventory.versions(model.plural)
        for gone in self._digests.keys() - versions.keys():
            del self._digests[gone]
        changed = [reference for reference, version in versions.items() if self._version(reference) != version]
        for number, reference in enumerate(changed, 1):
            try:
                found = inventory.get(model, reference.name, reference.namespace)
            except ValidationError:
                # Its own reconcile fails and reports it; the others must still be exposed.
                continue
            if found is not None:
                self._digests[reference] = (versions[reference], digest(found))
            if number % _STEP == 0:
                await asyncio.sleep(0)
        return {reference: kept for reference, (_, kept) in self._digests.items() if serves(reference)}

    def _version(self, reference: ObjectReference) -> int | None:
        return self._digests[reference][0] if reference in self._digests else None


class Exposition(Collector):
    """The metrics of one process.

    A standby exposes no metrics of objects: the leader does, and two answers would not agree.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        inventory: Inventory,
        work: Callable[[], Work],
        intervals: Mapping[str, float],
        *,
        age: Callable[[ObjectReference], float],
        serves: Callable[[ObjectReference], bool] = lambda _: True,
        each_resource: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._telemetry = telemetry
        self._inventory = inventory
        self._work = work
        self._intervals = intervals
        self._age = age
        self._serves = serves
        self._each_resource = each_resource
        self._clock = clock
        self._identities: _Kept[IdentityDigest] = _Kept()
        self._tenants: _Kept[TenantDigest] = _Kept()
        self._keys: _Kept[KeyDigest] = _Kept()
        self._resources: _Kept[ResourceDigest] = _Kept()
        self._organizations: _Kept[OrganizationDigest] = _Kept()
        self._lock = asyncio.Lock()
        self._snapshot = _Snapshot(Work(leading=False), Objects(), 0.0)
        telemetry.registry.register(self)

    async def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        async with self._lock:
            work = self._work()
            objects = await self._read() if work.leading else Objects()
            if work.leading:
                self._telemetry.keep_vaults({key.vault_host for key in objects.keys.values()})
            self._snapshot = _Snapshot(work, objects, self._clock(), objects.oldest(self._age))
            return await asyncio.to_thread(generate_latest, self._telemetry.registry)

    async def _read(self) -> Objects:
        inventory, serves = self._inventory, self._serves
        return Objects(
            identities=await self._identities.read(inventory, FederatedIdentity, digest_identity, serves),
            tenants=await self._tenants.read(inventory, CustomerTenant, digest_tenant, serves),
            keys=await self._keys.read(inventory, CustomerManagedKey, digest_key, serves),
            resources=await self._resources.read(inventory, EncryptedResource, digest_resource, serves),
            organizations=await self._organizations.read(inventory, OrganizationKey, digest_organization, serves),
        )

    def describe(self) -> Iterator[Metric]:
        """The families without samples: the registry uses them to refuse a name that is used twice."""
        return (family.of() for family in families.FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """The families of the last snapshot; runs in another thread, and so touches nothing else."""
        work = self._snapshot.work
        yield families.LEADING.of([((), float(work.leading))])
        yield families.VERSION.of([((__version__,), 1.0)])
        yield families.CHECK_INTERVAL.of(((check,), seconds) for check, seconds in self._intervals.items())
        yield families.QUEUE_DEPTH.of(((kind,), depth) for kind, depth in work.queue_depths.items())
        yield families.QUEUE_OVERDUE.of([((), work.queue_overdue)] if work.leading else ())
        yield families.BUDGET_LEFT.of(((state.owner, state.bucket), state.left) for state in work.budgets)
        yield families.BUDGET_CLOSED.of(
            ((state.owner, state.bucket), state.closed_for) for state in work.budgets if state.closed_for
        )
        yield families.OLDEST_CLAIM.of(((kind,), age) for kind, age in self._snapshot.oldest.items())
        yield from families_of(self._snapshot.objects, self._snapshot.now, each_resource=self._each_resource)
