"""What one customer notices of what another does: each attack, the victim's figure with and without it, and the bound."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.detection import States
from bench.fleet import IDENTITY, OWN_GRANTS_VAULT, VAULT
from bench.measurements import Row
from bench.receiver import Receiver
from bench.watching import watching
from sandbox.azure.timings import WITHOUT_LIMITS, Timings
from sandbox.kubernetes.objects import Objects, has
from sandbox.operator_process import OperatorProcess, start_operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from rich.console import Console

    from bench.fleet import Fleet
    from bench.measurements import Bench
    from bench.watching import Readiness

VICTIM: Final = "rg-victim"
NEIGHBOUR: Final = "rg-neighbour"
"""A tenant of its own in the same subscription, and its namespace."""
STRANGER: Final = "stranger"
"""A namespace in no tenant."""
KEYS: Final = 12
"""Of the victim; one is disabled for each figure of a loss."""
RESOURCES: Final = 10
"""Of the victim, on its last key; more are made for the figures."""
OWN: Final = 20
EVENTS: Final = 40
SILENT_KEYS: Final = 50
MISSING_KEYS: Final = 3_000
REFUSED: Final = 3_500
PREFLIGHTS: Final = 40
SPARE: Final = 40
PATIENCE: Final = 150.0
QUIET_AFTER: Final = 90.0
"""Seconds that the operator gets at most to finish what an attack left, before the next begins."""
LOOKED_AT_FOR: Final = 100.0
AT_ONCE: Final = 16


@dataclass(frozen=True)
class Figure:
    """What the victim waited without and with an attack, in seconds, and what it may wait at most."""

    attack: str
    what: str
    quiet: float
    attacked: float
    at_most: float
    remark: str = ""

    @property
    def row(self) -> Row:
        """As a row of the table."""
        verdict = "met" if self.attacked <= self.at_most else "MISSED"
        remark = f"at most {self.at_most:.0f} s: {verdict}{'; ' if self.remark else ''}{self.remark}"
        return Row(f"{self.attack}: {self.what}, quiet / attacked", f"{self.quiet:.1f} s / {self.attacked:.1f} s", remark)


@dataclass
class Neighbours:
    """One victim with an operator that it shares with a neighbour."""

    fleet: Fleet
    bench: Bench
    console: Console
    states: States = field(default_factory=States)
    _spare: list[str] = field(default_factory=list)
    _operator: OperatorProcess | None = None
    _bare: float = 0.0
    """The longest bare write since the last figure."""
    _late: float = 0.0
    """The longest time since the last figure after which a watch of the API server showed a new manifest, to whomever."""
    _losses: itertools.count[int] = field(default_factory=itertools.count)

    async def measure(self) -> list[Row]:
        """A row for each attack. Takes about eight minutes on an idle machine."""
        began, load = time.monotonic(), os.getloadavg()[0]
        bundle = Path(self.bench.env["SSL_CERT_FILE"])
        with Receiver(bundle) as quick, Receiver(bundle, delay=9.5) as slow:
            await self._prepare(quick, slow)
            operator = start_operator(self.fleet.cluster, self.bench.env, self.bench.directory / "operator")
            self._operator = operator
            try:
                async with (
                    watching(self.fleet.objects, VICTIM) as readiness,
                    self._states(),
                    Objects(self.fleet.cluster) as hostile,
                ):
                    self.console.print("everything becomes Ready …")
                    await readiness.until_ready(RESOURCES, PATIENCE)
                    await self._until_ready(NEIGHBOUR, OWN)
                    await asyncio.sleep(5.0)
                    figures = await self._attacks(Attacker(self.fleet, hostile), readiness, quick)
            finally:
                operator.stop()
        busy = f"load of the machine {load:.1f} before and {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores"
        return [*(one.row for one in figures), Row("took", f"{time.monotonic() - began:.0f} s", busy)]

    async def _attacks(self, attacker: Attacker, readiness: Readiness, receiver: Receiver) -> list[Figure]:
        self.console.print("quiet …")
        quiet_gap, (quiet_loss, quiet_told) = await asyncio.gather(self._longest_gap(), self._loss(receiver))
        quiet_new = max([await self._new(readiness) for _ in range(3)])
        self._bare = self._late = 0.0
        figures: list[Figure] = []

        def told(figure: Figure) -> None:
            bare, late, self._bare, self._late = self._bare, self._late, 0.0, 0.0
            alone = f"; by the API server alone: a bare write {bare:.1f} s, until a watch shows a new manifest {late:.1f} s"
            shown = replace(figure, remark=f"{figure.remark}{alone if bare else ''}")
            self.console.print(f"  {shown.row.what}: {shown.row.figure}, {shown.row.remark}")
            figures.append(shown)

        self.console.print(f"{MISSING_KEYS} keys of missing names …")
        seconds = await attacker.make_missing_keys()
        loss, _ = await self._loss(receiver)
        told(
            Figure("keys of missing names", "loss seen", quiet_loss, loss, 60.0, f"{MISSING_KEYS} keys made in {seconds:.0f} s")
        )
        await attacker.remove("CustomerManagedKey", NEIGHBOUR, "missing-")

        await self._until_idle()
        self.console.print("annotation storm …")
        async with attacker.storm() as count:
            new = max([await self._new(readiness) for _ in range(3)])
        told(Figure("annotation storm on own resources", "new resource Ready", quiet_new, new, 2.0, f"{count[0]} annotations"))

        await self._until_idle()
        self.console.print(f"{REFUSED} refused manifests …")
        flood = asyncio.create_task(attacker.make_refused())
        during = []
        while not flood.done():
            during.append(await self._new(readiness) if len(self._spare) > 12 else 0.0)
            await asyncio.sleep(0.5)
        told(Figure("refused manifests", "new resource Ready", quiet_new, max(during), 1.0, f"made in {await flood:.0f} s"))
        await attacker.remove("CustomerManagedKey", STRANGER, "refused-")

        await self._until_idle()
        self.console.print("a slow receiver …")
        await attacker.make_events()
        await asyncio.sleep(3.0)
        _, notified = await self._loss(receiver)
        told(Figure("a receiver that answers after 9.5 s", "loss notified", quiet_told, notified, 5.0, f"{EVENTS} events"))

        await self._until_idle()
        self.console.print("a vault falls silent …")
        async with self._silent():
            gap = await self._longest_gap()
        told(Figure("a vault of 50 keys falls silent", "longest time between looks", quiet_gap, gap, 55.0))

        await self._until_idle()
        self.console.print(f"{PREFLIGHTS} Preflights …")
        began = time.monotonic()
        await attacker.make_preflights()
        new = max([await self._new(readiness) for _ in range(3)])
        answered = await attacker.until_answered(began)
        remark = (
            f"of {PREFLIGHTS}, {answered[0]} answered, the last after {answered[2]:.0f} s, and {answered[1]} say that they wait"
        )
        told(Figure("Preflights of 100 resources", "new resource Ready", quiet_new, new, 2.0, remark))
        return figures

    async def _prepare(self, quick: Receiver, slow: Receiver) -> None:
        fleet, objects = self.fleet, self.fleet.objects
        await fleet.create_accounts(VICTIM, RESOURCES + SPARE)
        await fleet.create_accounts(NEIGHBOUR, OWN + EVENTS)
        await fleet.apply_tenant((VICTIM,))
        tenant = (await objects.get("CustomerTenant", IDENTITY))["spec"]
        await objects.apply("CustomerTenant", IDENTITY, tenant | {"notifications": {"sink": quick.url}})
        scopes = [f"{fleet.provider.subscription}/resourceGroups/{NEIGHBOUR}"]
        theirs = {"allowedNamespaces": [NEIGHBOUR], "allowedScopes": scopes, "notifications": {"sink": slow.url}}
        await objects.apply("CustomerTenant", "neighbour", tenant | theirs)
        for namespace in (VICTIM, NEIGHBOUR, STRANGER):
            await objects.create_namespace(namespace)
        for name in fleet.keys:
            vault = fleet.vaults.get(name, VAULT)
            namespace, owner = (NEIGHBOUR, "neighbour") if vault == OWN_GRANTS_VAULT else (VICTIM, IDENTITY)
            spec = {"tenantRef": {"name": owner}, "keyUri": f"https://{vault}.vault.azure.net/keys/{name}"}
            await objects.apply("CustomerManagedKey", name, spec, namespace)
        self._spare = fleet.accounts[VICTIM][RESOURCES:]
        for resource_id in fleet.accounts[VICTIM][:RESOURCES]:
            await self._apply(VICTIM, resource_id)
        for resource_id in fleet.accounts[NEIGHBOUR][:OWN]:
            await self._apply(NEIGHBOUR, resource_id)
        azure = Timings()
        await fleet.control.set_timings(**{name: getattr(azure, name) for name in WITHOUT_LIMITS})

    async def _apply(self, namespace: str, resource_id: str) -> None:
        key = f"key-{KEYS - 1:03}" if namespace == VICTIM else f"own-{SILENT_KEYS - 1:03}"
        spec = {"keyRef": {"name": key}, "resourceId": resource_id}
        await self.fleet.objects.apply("EncryptedResource", _name(resource_id), spec, namespace)

    async def _until_ready(self, namespace: str, number: int) -> None:
        async with watching(self.fleet.objects, namespace) as readiness:
            await readiness.until_ready(number, PATIENCE)

    @asynccontextmanager
    async def _states(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.states.follow(self.fleet, "CustomerManagedKey", VICTIM, self.states.keys))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _until_idle(self) -> None:
        """Wait until the operator has no pass that is due: each attack is measured alone."""
        began = time.monotonic()
        while time.monotonic() - began < QUIET_AFTER and self._operator is not None:
            metrics = await asyncio.to_thread(self._operator.metrics)
            if sum(float(depth) for depth in re.findall(r"^cmk_queue_depth\{[^}]*\} (\S+)$", metrics, re.MULTILINE)) == 0:
                return
            await asyncio.sleep(1.0)

    async def _bare_write(self) -> float:
        """Seconds of one write to the API server, by nobody's operator: what the machine adds to every figure."""
        began = time.monotonic()
        annotations = {"example.com/bare-write": str(began)}
        name = _name(self.fleet.accounts[VICTIM][0])
        await self.fleet.objects.merge("EncryptedResource", name, {"metadata": {"annotations": annotations}}, VICTIM)
        return time.monotonic() - began

    async def _loss(self, receiver: Receiver) -> tuple[float, float]:
        """Seconds from the customer's call until status shows the loss of a key, and from there until its receiver is told."""
        name, began = f"key-{next(self._losses):03}", time.monotonic()
        await self.fleet.customer.disable(VAULT, name)
        await _until(lambda: self.states.keys.get(name, ("", 0.0))[0] == "Disabled", began, f"the loss of {name}")
        seen = self.states.keys[name][1]

        def arrived() -> list[float]:
            return [at for at, body in list(receiver.arrived) if _is_loss(body, name)]

        await _until(lambda: bool(arrived()), began, f"the notification of {name}")
        return seen - began, max(0.0, min(arrived()) - seen)

    async def _new(self, readiness: Readiness) -> float:
        """Seconds from a new manifest of the victim to Ready, as a read of the object shows it."""
        self._bare = max(self._bare, await self._bare_write())
        resource_id = self._spare.pop()
        name, began = _name(resource_id), time.monotonic()
        await self._apply(VICTIM, resource_id)
        made = time.monotonic()
        await self.fleet.objects.until("Ready", "EncryptedResource", name, has("Ready"), VICTIM, PATIENCE)
        ended = time.monotonic()
        await _until(lambda: name in readiness.shown_at, began, f"the manifest {name}")
        self._late = max(self._late, readiness.shown_at[name] - made)
        return ended - began

    async def _longest_gap(self) -> float:
        """The longest time in which nobody looked at one of the victim's keys: neither at it alone nor at the list of them."""
        await self.fleet.control.clear_requests()
        began = await self.fleet.control.now()
        await asyncio.sleep(LOOKED_AT_FOR)
        end, own = await self.fleet.control.now(), self.fleet.customer.client_id
        looks = [
            (one["time"], one["path"].rstrip("/"))
            for one in await self.fleet.control.requests()
            if one["host"].startswith(f"{VAULT}.") and one["application"] != own and one["status"] < 400
        ]
        longest = 0.0
        for name in (f"key-{number:03}" for number in range(KEYS // 2, KEYS)):
            times = [at for at, path in looks if f"/keys/{name}" in path or path.partition("?")[0] == "/keys"]
            longest = max(longest, *(after - before for before, after in itertools.pairwise([began, *sorted(times), end])))
        return longest

    @asynccontextmanager
    async def _silent(self) -> AsyncIterator[None]:
        fault = await self.fleet.control.inject(kind="hang", host=f"{OWN_GRANTS_VAULT}.vault.azure.net")
        try:
            yield
        finally:
            await self.fleet.control.clear_fault(fault)


@dataclass
class Attacker:
    """What an editor of one namespace can do; `objects` is a session of its own."""

    fleet: Fleet
    objects: Objects

    async def make_missing_keys(self) -> float:
        """Keys of names that the vault does not have, as fast as the API server takes them; the seconds that took."""
        vault = f"https://{OWN_GRANTS_VAULT}.vault.azure.net"

        def key(number: int) -> Mapping[str, Any]:
            return {"tenantRef": {"name": "neighbour"}, "keyUri": f"{vault}/keys/missing-{number}"}

        return await self._make("CustomerManagedKey", NEIGHBOUR, "missing-", MISSING_KEYS, key)

    async def make_refused(self) -> float:
        """Manifests of the victim's tenant in a namespace that it does not allow; the seconds that took."""
        vault = f"https://{VAULT}.vault.azure.net"

        def key(number: int) -> Mapping[str, Any]:
            return {"tenantRef": {"name": IDENTITY}, "keyUri": f"{vault}/keys/key-{number % KEYS:03}"}

        return await self._make("CustomerManagedKey", STRANGER, "refused-", REFUSED, key)

    async def make_preflights(self) -> None:
        """Each of a hundred resources."""
        accounts, keys = itertools.cycle(self.fleet.accounts[NEIGHBOUR]), itertools.cycle(range(SILENT_KEYS))

        def preflight(_: int) -> Mapping[str, Any]:
            specs = [{"keyRef": {"name": f"own-{next(keys):03}"}, "resourceId": next(accounts)} for _ in range(100)]
            return {"resources": [{"name": f"n{number}", "spec": spec} for number, spec in enumerate(specs)]}

        await self._make("Preflight", NEIGHBOUR, "preflight-", PREFLIGHTS, preflight)

    async def until_answered(self, began: float) -> tuple[int, int, float]:
        """How many Preflights have a result, how many say why not, and when the last result came; waits a minute for the rest."""
        answered, waiting, last = 0, 0, 0.0
        path = self.objects.path("Preflight", namespace=NEIGHBOUR)
        while answered < PREFLIGHTS and time.monotonic() - began < 60.0:
            found = [item.get("status", {}) for item in (await self.objects.call("GET", path))["items"]]
            now = sum(1 for status in found if status.get("result"))
            waiting = sum(1 for status in found if status.get("conditions") and not status.get("result"))
            if now > answered:
                answered, last = now, time.monotonic() - began
            await asyncio.sleep(0.5)
        return answered, waiting, last

    async def make_events(self) -> None:
        """Resources of its own that become encrypted: an event for each to a receiver that answers late."""
        for resource_id in self.fleet.accounts[NEIGHBOUR][OWN:]:
            spec = {"keyRef": {"name": f"own-{SILENT_KEYS - 1:03}"}, "resourceId": resource_id}
            await self.objects.apply("EncryptedResource", _name(resource_id), spec, NEIGHBOUR)

    @asynccontextmanager
    async def storm(self) -> AsyncIterator[list[int]]:
        """Request passes of its own resources without a pause; yields how many, at the end."""
        count = [0]

        async def one(resource_id: str) -> None:
            while True:
                count[0] += 1
                annotations = {"cmk-operator.dev/reconcile-requested-at": f"storm-{count[0]}"}
                await self.objects.merge(
                    "EncryptedResource", _name(resource_id), {"metadata": {"annotations": annotations}}, NEIGHBOUR
                )

        tasks = [asyncio.create_task(one(resource_id)) for resource_id in self.fleet.accounts[NEIGHBOUR][:OWN]]
        await asyncio.sleep(3.0)
        try:
            yield count
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def remove(self, kind: str, namespace: str, prefix: str) -> None:
        """Delete what was made."""
        items = (await self.objects.call("GET", self.objects.path(kind, namespace=namespace)))["items"]
        names = [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith(prefix)]
        await self._at_once(names, lambda name: self.objects.delete(kind, name, namespace))

    async def _make(
        self, kind: str, namespace: str, prefix: str, number: int, spec: Callable[[int], Mapping[str, Any]]
    ) -> float:
        began, path = time.monotonic(), self.objects.path(kind, namespace=namespace)

        async def make(index: int) -> None:
            metadata = {"name": f"{prefix}{index:04}", "namespace": namespace}
            body = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec(index)}
            await self.objects.call("POST", path, body)

        await self._at_once(range(number), make)
        return time.monotonic() - began

    @staticmethod
    async def _at_once(items: Any, act: Callable[[Any], Awaitable[Any]]) -> None:  # noqa: ANN401 - whatever the caller lists
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(item: Any) -> None:  # noqa: ANN401 - as above
            async with slots:
                await act(item)

        await asyncio.gather(*(one(item) for item in items))


def _name(resource_id: str) -> str:
    return resource_id.rsplit("/", 1)[-1]


def _is_loss(body: str, name: str) -> bool:
    event = json.loads(body)
    return str(event.get("type", "")).endswith("key.lost") and name in body


async def _until(done: Callable[[], bool], began: float, what: str) -> None:
    while not done():
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"{what} was not seen within {PATIENCE:.0f} s")
        await asyncio.sleep(0.05)
