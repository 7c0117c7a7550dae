"""What the client of the Kubernetes API keeps, and for how long; the API itself is tried by the tests with a cluster."""

from __future__ import annotations

import asyncio

from aiohttp import web

from cmk_operator.kubernetes.client import SHARED_FOR, KubernetesClient, ObjectReference
from cmk_operator.kubernetes.connection import CONNECTIONS, Connection
from cmk_operator.telemetry import Telemetry
from tests.unit import leaping_loop

KEYS = 1_000
FLOOD = 40
MOST_ANSWERS = 2_000


def test_a_shared_answer_is_asked_for_once_and_forgotten_after_its_time() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"metadata": {"name": request.path.rpartition("/")[2]}})

    async def main() -> None:
        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port, *_ = runner.addresses[0]
        async with Connection(f"http://{host}:{port}").open() as http:
            client = KubernetesClient(http, Telemetry())
            keys = [ObjectReference("customermanagedkeys", "team", f"key-{number}") for number in range(KEYS)]
            found = await asyncio.gather(*(client.get_shared(key) for key in keys for _ in range(3)))
            assert {body["metadata"]["name"] for body in found if body is not None} == {key.name for key in keys}
            assert len(asked) == KEYS
            await asyncio.sleep(SHARED_FOR)
            assert client._shared == {}  # noqa: SLF001 - the table itself is what must shrink
            await client.get_shared(keys[0])
            assert len(asked) == KEYS + 1
        await runner.cleanup()

    leaping_loop.run(main())


def test_a_request_that_waits_is_sent_before_later_ones_of_passes_that_never_pause() -> None:
    answered: list[str] = []
    flooded = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        answered.append(request.path)
        if len(answered) == FLOOD:
            flooded.set()
        return web.json_response({})

    async def main() -> None:
        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port, *_ = runner.addresses[0]
        async with Connection(f"http://{host}:{port}").open() as http:
            client = KubernetesClient(http, Telemetry())

            async def flood() -> None:
                while len(answered) < MOST_ANSWERS:
                    await client.request("GET", "/flood")

            passes = [asyncio.create_task(flood()) for _ in range(FLOOD)]
            await flooded.wait()
            before = len(answered)
            await client.request("GET", "/victim")
            assert answered.index("/victim") - before <= FLOOD + CONNECTIONS
            await asyncio.gather(*passes)
        await runner.cleanup()

    asyncio.run(main())
