"""The first encryption of a very large fleet by several operators of one cluster, each of its own class."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.fleet import IDENTITY, VAULT, in_batches
from bench.floor import peak_memory, processor_seconds
from bench.measurements import BUDGETS, PATIENCE, Row, began_at
from bench.watching import watching
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT, install_chart, start_operator

if TYPE_CHECKING:
    from bench.fleet import Fleet
    from bench.measurements import Bench
    from sandbox.operator_process import OperatorProcess

BESIDE: Final = ("crds.enabled=false", "rbac.aggregateClusterRoles=false")


@dataclass(frozen=True)
class Shard:
    """One release: the first has no class, each other one a class, a namespace and a ServiceAccount of its own."""

    number: int

    @property
    def operator_class(self) -> str:
        """Empty for the release that serves what names no class."""
        return f"shard-{self.number}" if self.number else ""

    @property
    def release(self) -> str:
        """The namespace of the release."""
        return self.operator_class or NAMESPACE

    @property
    def name(self) -> str:
        """Of its identity, its tenant, its resource group and the namespace of its manifests."""
        return f"rg-shard-{self.number}"


@dataclass
class Shards:
    """Spreads accounts and keys evenly over shards; Azure's limits and the operators' budgets are lifted."""

    fleet: Fleet
    bench: Bench

    async def measure(self, resources: int, shards: int) -> list[Row]:
        """Rows of the time until all are Ready, and what each operator needed."""
        each = [Shard(number) for number in range(shards)]
        for shard in each:
            await self._prepare(shard, resources // shards)
        async with AsyncExitStack() as stack:
            watched = [await stack.enter_async_context(watching(self.fleet.objects, shard.name)) for shard in each]
            operators = await asyncio.gather(*(asyncio.to_thread(self._start, shard) for shard in each))
            for operator in operators:
                stack.callback(operator.stop)
            ready = await asyncio.gather(*(one.until_ready(resources // shards, PATIENCE) for one in watched))
            seconds = max(ready) - min(began_at(operator.pid) for operator in operators)
            rows = [
                Row("all Ready", f"{seconds:.0f} s", f"{resources} resources, {len(self.fleet.keys)} keys, {shards} shards")
            ]
            for shard, operator, at in zip(each, operators, ready, strict=True):
                used = processor_seconds(operator.pid) / (resources // shards) * 1000
                remark = f"peak resident memory {peak_memory(operator.pid):.0f} MB, processor time per resource {used:.1f} ms"
                rows.append(Row(f"shard {shard.number}: all Ready", f"{at - began_at(operator.pid):.0f} s", remark))
        return rows

    def _start(self, shard: Shard) -> OperatorProcess:
        directory = self.bench.directory / f"operator-{shard.number}"
        return start_operator(self.fleet.cluster, self.bench.env, directory, BUDGETS, namespace=shard.release)

    async def _prepare(self, shard: Shard, number: int) -> None:
        fleet, objects = self.fleet, self.fleet.objects
        if shard.number:
            install_chart(
                fleet.cluster, *BESIDE, f"operatorClass={shard.operator_class}", release=shard.release, namespace=shard.release
            )
            subject = f"system:serviceaccount:{shard.release}:{SERVICE_ACCOUNT}"
            await fleet.provider.trust(fleet.identity, fleet.cluster.issuer, subject, shard.release)
        await fleet.create_accounts(shard.name, number)
        await fleet.apply_tenant((shard.name,))
        for kind, change in (
            ("FederatedIdentity", {"operatorClass": shard.operator_class} if shard.number else {}),
            ("CustomerTenant", {"identityRef": {"name": shard.name}}),
        ):
            spec: dict[str, Any] = (await objects.get(kind, IDENTITY))["spec"]
            await objects.apply(kind, shard.name, spec | change)
        for kind in ("CustomerTenant", "FederatedIdentity"):
            await objects.delete(kind, IDENTITY)
        await objects.create_namespace(shard.name)

        async def key(name: str) -> None:
            spec = {"tenantRef": {"name": shard.name}, "keyUri": f"https://{VAULT}.vault.azure.net/keys/{name}"}
            await objects.apply("CustomerManagedKey", name, spec, shard.name)

        await in_batches(list(fleet.keys), key)
        await fleet.apply_resources(shard.name)
