"""The second story's people: a service that stores encrypted rows, and the key service that it asks."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg

from sandbox import postgresql
from sandbox.console_process import ConsoleProcess, start_console
from sandbox.keyservice_process import KeyServiceProcess, start_key_service

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql

ORGANIZATION = "acme"
NAMESPACE = "acme"
CALLER = "orders"
PURPOSE = "orders"
CONTEXT = {"table": "orders", "column": "note", "id": "1"}
FAST = {"CMK_KEYSERVICE_CONFIRM_SECONDS": "1", "CMK_KEYSERVICE_LEASE_SECONDS": "2"}
"""So that the demo need not wait for the default of a minute."""


@dataclass
class Services:
    """A running PostgreSQL and key service, and the table of a service that stores what it encrypts."""

    server: Postgresql
    key_service: KeyServiceProcess
    directory: Path
    key_database: str
    own_database: str
    console: ConsoleProcess | None = None

    @classmethod
    def start(cls, cluster: Cluster, azure: dict[str, str], directory: Path) -> Services:
        """Start the database server and one replica of the key service, and create the service's own table."""
        directory.mkdir(parents=True, exist_ok=True)
        server = postgresql.start(directory / "postgresql")
        try:
            keys, own = server.create("keyservice"), server.create("orders")
            with psycopg.connect(own, autocommit=True) as connection:
                connection.execute("CREATE TABLE orders (id integer PRIMARY KEY, note bytea NOT NULL)")
            running = start_key_service(cluster, azure, directory / "keyservice", keys, FAST)
        except BaseException:
            server.stop()
            raise
        return cls(server, running, directory, keys, own)

    def restart(self, cluster: Cluster, azure: dict[str, str]) -> None:
        """Kill the key service and start it anew: what it held in memory is gone."""
        self.key_service.kill()
        self.key_service = start_key_service(cluster, azure, self.directory / "keyservice", self.key_database, FAST)

    def open_console(self, cluster: Cluster, azure: dict[str, str]) -> ConsoleProcess:
        """Start the page for the organization's administrators, with a break-glass account for one of them."""
        self.console = start_console(
            cluster, azure, self.directory / "console", f"{NAMESPACE}/{ORGANIZATION}", "Erika Mustermann"
        )
        return self.console

    def stop(self) -> int:
        """End all; the exit status of the key service."""
        if self.console is not None:
            self.console.stop()
        status = self.key_service.stop()
        self.server.stop()
        return status

    def write_row(self, note: bytes) -> None:
        """Store an encrypted note."""
        with psycopg.connect(self.own_database, autocommit=True) as connection:
            connection.execute("INSERT INTO orders VALUES (1, %s)", (note,))

    def read_row(self) -> bytes:
        """The encrypted note as it is stored."""
        with psycopg.connect(self.own_database) as connection:
            row = connection.execute("SELECT note FROM orders WHERE id = 1").fetchone()
        if row is None:
            raise AssertionError("the row was written by an earlier step")
        return bytes(row[0])


async def call(cluster: Cluster, services: Services, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ask the key service as the service's ServiceAccount; the status, and the result or the problem."""
    token = await asyncio.to_thread(cluster.service_account_token, NAMESPACE, CALLER, "cmk-key-service")
    context = ssl.create_default_context(cafile=services.key_service.ca_file)
    url = f"{services.key_service.url}/v1/organizations/{ORGANIZATION}/{operation}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, ssl=context) as answer,
    ):
        found: dict[str, Any] = await answer.json(content_type=None)
        return answer.status, found


async def encrypt(cluster: Cluster, services: Services, plaintext: bytes) -> bytes:
    """A ciphertext of the key service. Raises `AssertionError` with its problem."""
    body = {"plaintext": base64.b64encode(plaintext).decode(), "purpose": PURPOSE, "context": CONTEXT}
    status, found = await call(cluster, services, "encrypt", body)
    if status != 200:
        raise AssertionError(found)
    return base64.b64decode(found["ciphertext"])


async def decrypt(cluster: Cluster, services: Services, ciphertext: bytes) -> bytes | dict[str, Any]:
    """The plaintext, or the problem."""
    body = {"ciphertext": base64.b64encode(ciphertext).decode(), "context": CONTEXT}
    status, found = await call(cluster, services, "decrypt", body)
    return base64.b64decode(found["plaintext"]) if status == 200 else found


async def read_pages(console: ConsoleProcess, *paths: str) -> list[str]:
    """Sign in at the console as its account does in a browser, and open pages. Raises `AssertionError` if it is not let in."""
    async with aiohttp.ClientSession(console.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get("/break-glass") as answer:
            token = re.search(r'name="csrf" value="([^"]+)"', await answer.text())
        form = {"csrf": token[1] if token else "", "account": console.account, "password": console.password}
        async with session.post("/break-glass", data=form) as answer:
            text = await answer.text()
            if "Acme Corp" not in text:
                raise AssertionError(text)
        pages = []
        for path in paths:
            async with session.get(path) as answer:
                pages.append(await answer.text())
        return pages
