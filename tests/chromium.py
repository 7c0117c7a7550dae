"""A headless Chromium, driven by the DevTools protocol over aiohttp: no driver program is needed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sandbox.browser import find_or_fetch
from sandbox.kubernetes.cache import UnavailableProgramError
from sandbox.npm_packages import package

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from sandbox.browser import Program

PATIENCE = 60.0
AXE = "axe-core"
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowDown": (40, "")}
"""Keys that tests press: the code of each, and the text that it types."""
FOCUSED = "(e => e && e !== document.body ? (e.name || e.textContent.trim()) : '')(document.activeElement)"


async def program() -> Program:
    """A Chromium, fetched if need be; without one the test fails with the sentence how to get one."""
    try:
        return await asyncio.to_thread(find_or_fetch)
    except UnavailableProgramError as failure:
        pytest.fail(str(failure), pytrace=False)


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

    async def key(self, name: str) -> None:
        """Press a key."""
        code, text = KEYS[name]
        pressed = {"key": name, "code": "Space" if name == " " else name, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **pressed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def tab_to(self, name: str) -> None:
        """Press Tab until the field of this name, or the link or button of this text, has the focus and can be seen to have it."""
        passed = []
        for _ in range(80):
            await self.key("Tab")
            passed.append(await self.ask(FOCUSED))
            if passed[-1] == name:
                outline = await self.ask("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"nobody sees that {name} has the focus"
                return
        raise AssertionError((name, passed))

    async def type(self, text: str) -> None:
        """Type into the field that has the focus."""
        await self.call("Input.insertText", text=text)

    async def accessibility_findings(self) -> list[str]:
        """What axe-core finds wrong in the page as it is now: rule and element. Nothing of it is loaded by the page itself."""
        source = (await asyncio.to_thread(package, AXE)) / "axe.min.js"
        await self.scripts(allowed=True)  # axe-core waits for timers
        await self.ask(await asyncio.to_thread(source.read_text, encoding="utf-8"))
        found = await self.call(
            "Runtime.evaluate", expression="axe.run(document).then(JSON.stringify)", awaitPromise=True, returnByValue=True
        )
        await self.scripts(allowed=False)
        report = json.loads(found["result"]["value"])
        assert len(report["passes"]) > 5, "axe-core has looked at the page"
        return [f"{rule['id']}: {node['html'][:200]}" for rule in report["violations"] for node in rule["nodes"]]

    async def scripts(self, *, allowed: bool) -> None:
        """Whether pages may run scripts of their own from now on; without this call, they may."""
        await self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    async def screenshot(self, file: Path, highest: float = 10_000) -> None:
        """A picture of the page from its top, as high as it is or as `highest` says."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], highest), "scale": 1}
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def chromium(env: Mapping[str, str], directory: Path) -> AsyncIterator[Tab]:
    """A tab of a new browser that reaches loopback and the simulated sign-in page only."""
    proxy = env["HTTPS_PROXY"].removeprefix("http://")
    pac = f"function FindProxyForURL(u, h) {{ return h.startsWith('login.') ? 'PROXY {proxy}' : 'DIRECT'; }}"
    found = await program()
    process = await asyncio.create_subprocess_exec(
        found.path,
        "--headless",
        "--no-sandbox",  # of Chromium: a test may run as root
        "--no-zygote",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1000,800",
        "--disable-component-update",
        "--ignore-certificate-errors",  # the simulated Azure has a certificate authority of its own
        f"--proxy-pac-url=data:application/x-ns-proxy-autoconfig;base64,{base64.b64encode(pac.encode()).decode()}",
        "--remote-debugging-port=0",
        f"--user-data-dir={directory}",
        "about:blank",
        env={**os.environ, **found.environment},
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
