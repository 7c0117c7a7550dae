"""A headless Chromium, driven by the DevTools protocol over aiohttp: no driver program is needed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

PATIENCE = 30.0
HOW = (
    "this test needs a Chromium: install one (apt-get install chromium), or name one by CHROMIUM. Without root, the npm package "
    "@sparticuz/chromium has one: its executablePath() unpacks it"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str:
    """The program; without one the test is skipped, and the summary of the run has the sentence how to get it."""
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(HOW)
    return found


class Tab:
    """One tab. `requested`: every URL that it has asked for; `complaints`: errors that it shows its developers, such as of a policy."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Take what the tab says until it is closed."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Network.requestWillBeSent":
                self.requested.append(said["params"]["request"]["url"])
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.complaints.append(said["params"]["entry"]["text"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        found = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in found, (method, found)
        return dict(found["result"])

    async def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true, in whatever page is open by then."""
        deadline = time.monotonic() + PATIENCE
        while not await self.ask(expression):
            assert time.monotonic() < deadline, (expression, await self.ask("document.documentElement.outerHTML"))
            await asyncio.sleep(0.05)

    async def fill(self, **fields: str) -> None:
        """Set fields of the page by their names."""
        for name, value in fields.items():
            await self.ask(
                f"(e => e.type === 'radio' ? (document.querySelector(`[name={name}][value={json.dumps(value)}]`).checked = true)"
                f" : (e.value = {json.dumps(value)}))(document.querySelector('[name={name}]'))"
                if value
                else f"document.querySelector('[name={name}]').value = ''"
            )

    async def press(self, button: str) -> None:
        """Click a button by its text; the tab waits for nothing, so wait for what comes."""
        await self.ask(
            f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() === {json.dumps(button)}).click()"
        )

    async def screenshot(self, file: Path) -> None:
        """A picture of the whole page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium(env: Mapping[str, str], directory: Path) -> AsyncIterator[Tab]:
    """A tab of a new browser that reaches loopback and the simulated sign-in page only."""
    proxy = env["HTTPS_PROXY"].removeprefix("http://")
    pac = f"function FindProxyForURL(u, h) {{ return h.startsWith('login.') ? 'PROXY {proxy}' : 'DIRECT'; }}"
    process = await asyncio.create_subprocess_exec(
        executable(),
        "--headless",
        "--no-sandbox",  # of Chromium: a test may run as root
        "--no-zygote",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--ignore-certificate-errors",  # the simulated Azure has a certificate authority of its own
        f"--proxy-pac-url=data:application/x-ns-proxy-autoconfig;base64,{base64.b64encode(pac.encode()).decode()}",
        "--remote-debugging-port=0",
        f"--user-data-dir={directory}",
        "about:blank",
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    port_file, deadline = directory / "DevToolsActivePort", time.monotonic() + PATIENCE
    try:
        while not port_file.exists() or not port_file.read_text().strip():
            assert process.returncode is None, "Chromium has ended"
            assert time.monotonic() < deadline, "Chromium does not start"
            await asyncio.sleep(0.05)
        base = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
        async with aiohttp.ClientSession(trust_env=False) as session:
            async with session.put(f"{base}/json/new?about:blank") as answer:
                target = await answer.json(content_type=None)
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                listening = asyncio.ensure_future(tab.listen())
                for domain in ("Page", "Network", "Log", "Runtime"):
                    await tab.call(f"{domain}.enable")
                yield tab
                listening.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
