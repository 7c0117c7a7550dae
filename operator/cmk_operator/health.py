"""Answers the kubelet and Prometheus: /healthz, /readyz and /metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STUCK_AFTER: Final = 180.0
"""Seconds: if a reconcile is overdue by this much, the workers hang."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state behind the endpoints: the metrics, the progress of the queue, and what is not watched yet."""

    exposition: Callable[[], Awaitable[bytes]]
    overdue: Callable[[], float]
    fruitless: Callable[[], float]
    """Seconds for which reconciles were started and none has ended."""
    patience: float
    """Value of `fruitless`, in seconds, from which the process counts as broken."""
    missing: Callable[[], list[str]]
    """What must happen before the operator sees everything, one line each."""

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the workers make progress; 500 makes the kubelet restart the pod, which is cheap.

        Failures of Azure and of the Kubernetes API do not count: a restart does not repair them (docs/decisions/0085-a-claim-grows-old.md).
        """
        overdue = self.overdue()
        if overdue >= STUCK_AFTER:
            return web.Response(status=500, text=f"a reconcile is overdue by {overdue:.0f} s\n")
        fruitless = self.fruitless()
        if fruitless >= self.patience:
            return web.Response(status=500, text=f"for {fruitless:.0f} s no reconcile has ended: all raise or hang\n")
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """200 while every kind has been listed and is watched; else 503, and which kind is not, and why."""
        missing = self.missing()
        return web.Response(status=503 if missing else 200, text="".join(f"{line}\n" for line in missing or ["ok"]))

    async def metrics(self, _: web.Request) -> web.Response:
        """Metrics in Prometheus' text format."""
        return web.Response(body=await self.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def serve(self, address: str, port: int) -> web.AppRunner:
        """Listen; the caller cleans the runner up."""
        application = web.Application()
        routes: tuple[tuple[str, Any], ...] = (
            ("/healthz", self.healthz),
            ("/readyz", self.readyz),
            ("/metrics", self.metrics),
        )
        for path, handler in routes:
            application.router.add_get(path, handler)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, port).start()
        return runner
