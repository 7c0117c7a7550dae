"""What a new kopf must still do, since the operator relies on it: list and watch each kind over our session, and end altogether."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from cmk_operator.changes import Changes
from cmk_operator.handlers import Watches
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import find_connection
from cmk_operator.kubernetes.inventory import WATCHED, Inventory
from cmk_operator.queue import WorkQueue
from cmk_operator.telemetry import Telemetry
from tests.engine.operators import until

if TYPE_CHECKING:
    from cmk_operator.core.schedule import Next
    from cmk_operator.kubernetes.client import ObjectReference
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster


async def _nobody(_: ObjectReference) -> Next:
    raise AssertionError("no pass is made here")


@pytest.mark.parametrize("end", ["while it watches", "at once"])
async def test_kopf_watches_every_kind_over_our_session_and_ends_with_all_its_tasks(cluster: Cluster, end: str) -> None:
    connection = await find_connection({"KUBECONFIG": str(cluster.kubeconfig)})
    telemetry, stop = Telemetry(), asyncio.Event()
    lanes = dict.fromkeys(WATCHED, 1)
    queue: WorkQueue[ObjectReference] = WorkQueue(_nobody, lambda item: item.plural, lanes, telemetry)
    async with connection.open() as api:
        changes = Changes(5.0, 3, queue.add)
        watches = Watches(connection, KubernetesClient(api, telemetry), Inventory(), queue, telemetry, lambda _: 0.0, changes)
        before = asyncio.all_tasks()
        watching = asyncio.create_task(watches.run(stop))
        opened = watches.open_watches
        await until("kopf's login", lambda: watches._sessions)  # noqa: SLF001 - the first thing that kopf does of what we see
        if end == "while it watches":
            await until("an open watch of every kind", lambda: all(opened.is_open(plural) for plural in WATCHED))
            await until("readiness", lambda: watches.missing() == [])
            samples = {plural: telemetry.watch_established.labels(plural) for plural in WATCHED}
            await until("the metric", lambda: all(sample._value.get() == 1 for sample in samples.values()))  # noqa: SLF001 - no other way
        stop.set()
        await watching
        assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
        assert not any(opened.is_open(plural) for plural in WATCHED)
