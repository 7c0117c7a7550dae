"""Answers the kubelet and Prometheus: /healthz, /readyz and /metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STUCK_AFTER: Final = 180.0
"""Seconds: a wish for a pass that is overdue by so much means that the workers hang."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the endpoints tell: the metrics, how overdue the queue is, and whether the first lists are in."""

    exposition: Callable[[], Awaitable[bytes]]
    overdue: Callable[[], float]
    missing: Callable[[], list[str]]
    """What must happen before the operator sees everything, one line each."""

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while work goes on; 500 asks the kubelet for a restart, which is cheap."""
        overdue = self.overdue()
        healthy = overdue < STUCK_AFTER
        text = "ok" if healthy else f"a pass is overdue by {overdue:.0f} s"
        return web.Response(status=200 if healthy else 500, text=f"{text}\n")

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
