"""What the people of the demo use: kubectl on one side, Azure on the other."""

from __future__ import annotations

import asyncio
import json
import string
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from sandbox.administrators.snowflake import SnowflakeAdministrator
    from sandbox.demo.services import Services
    from sandbox.kubernetes.cluster import Cluster

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MANIFESTS = tuple(
    f"one-key-for-all/{name}.yaml"
    for name in ("1-identity", "2-tenant", "3-key", "4-storage", "5-sql", "6-disks", "7-snowflake")
)
RESOURCES = ("documents", "database-server", "disk-encryption", "data-disk", "warehouse")
PATIENCE = 60.0
VAULT = "fabrikam-kv"
KEY = "cmk"
ACCOUNT = "fabrikamdocuments"
OUTSIDER = "contosointernal"
SQL_SERVER = "fabrikam-sql"
DATABASE = "orders"
DISK_ENCRYPTION_SET = "fabrikam-disks"
DISK = "fabrikam-data"
SNOWFLAKE_ACCOUNT = "fabrikam-prod"
SNOWFLAKE_USER = "CMK_OPERATOR"
CUSTOMER_GROUP = "rg-fabrikam"
NAMESPACES = ("fabrikam", "adventure-works", "acme")


class StoryFailedError(Exception):
    """A step had another result than the story says; the message says what was expected and what was observed."""


@dataclass
class Stage:
    """Everyone and everything that the story needs."""

    cluster: Cluster
    provider: ProviderAdministrator
    snowflake: SnowflakeAdministrator
    customer: CustomerAdministrator
    control: SandboxControl
    variables: dict[str, str]
    directory: Path
    identity: ProviderIdentity | None = None
    account_id: str = ""
    outsider_id: str = ""
    passes: int = 0
    services: Services | None = None
    ciphertext: bytes = b""
    """What the service of the second story stored in its row."""
    notes: dict[str, str] = field(default_factory=dict)
    protected: list[tuple[str, ...]] = field(default_factory=list)
    """Rows of the table of all targets: kind, target, version, access, ready, what is said."""

    @property
    def required_identity(self) -> ProviderIdentity:
        """The provider's identity, which the first step prepares."""
        if self.identity is None:
            raise StoryFailedError("the provider has no identity yet: an earlier step prepares it")
        return self.identity

    @property
    def required_services(self) -> Services:
        """The key service and its database, which the second story starts first."""
        if self.services is None:
            raise StoryFailedError("the key service does not run yet: an earlier step starts it")
        return self.services

    async def create_key(self, vault: str, key: str) -> str:
        """Create a key as soon as the administrator's own new role has reached the vault."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await self.customer.create_key(vault, key)
            except HttpResponseError as error:
                if error.status_code != 403 or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the platform engineer would."""
        return await asyncio.to_thread(lambda: self.cluster.kubectl(*arguments, stdin=stdin))

    async def apply(self, *examples: str, **replaced: str) -> None:
        """`envsubst < example | kubectl apply -f -`, with some variables replaced."""
        for example in examples:
            text = (EXAMPLES / example).read_text(encoding="utf-8")
            await self.kubectl("apply", "-f", "-", stdin=string.Template(text).substitute({**self.variables, **replaced}))

    async def status(self, kind: str, name: str, namespace: str | None = "fabrikam") -> dict[str, Any]:
        """The status of one object."""
        scope = ["--namespace", namespace] if namespace else []
        found: dict[str, Any] = json.loads(await self.kubectl("get", kind, name, *scope, "--output", "json"))
        status: dict[str, Any] = found.get("status", {})
        return status

    async def until(
        self,
        what: str,
        kind: str,
        name: str,
        test: Callable[[dict[str, Any]], object],
        namespace: str | None = "fabrikam",
        *,
        ask: bool = False,
    ) -> dict[str, Any]:
        """Wait until the status of an object passes `test`, and return it; StoryFailedError says what was seen instead.

        With `ask`, request a reconcile of a resource every second; a resource that waits for a person is checked rarely otherwise.
        """
        deadline = time.monotonic() + PATIENCE
        asked = 0.0
        while True:
            status = await self.status(kind, name, namespace)
            if test(status):
                return status
            if time.monotonic() > deadline:
                raise StoryFailedError(f"expected of {kind}/{name}: {what}; seen: {json.dumps(status, indent=1)}")
            if ask and time.monotonic() - asked > 1.0:
                await self.ask_for_a_pass(name, kind=kind, namespace=namespace)
                asked = time.monotonic()
            await asyncio.sleep(0.1)

    async def ask_for_a_pass(self, *names: str, kind: str = "encres", namespace: str | None = "fabrikam") -> None:
        """Request a reconcile of resources now, as an engineer would after the customer has acted."""
        self.passes += 1
        stamp = f"cmk-operator.dev/reconcile-requested-at={self.passes}"
        scope = ["--namespace", namespace] if namespace else []
        await self.kubectl("annotate", "--overwrite", kind, *names, stamp, *scope)

    async def writes_to(self, account: str, since: int) -> int:
        """How many requests since log entry `since` changed a storage account."""
        requests = await self.control.requests(since)
        return sum(1 for request in requests if request["method"] in {"PATCH", "PUT", "POST"} and account in request["path"])

    async def mentions_of(self, name: str, since: int) -> int:
        """How many requests since log entry `since` named something at all, apart from lists of a whole subscription."""
        requests = await self.control.requests(since)
        return sum(1 for request in requests if name in request["path"] or name in request["host"])

    async def log_position(self) -> int:
        """The number of the newest entry of the request log."""
        requests = await self.control.requests()
        return int(requests[-1]["n"]) if requests else 0


def expect(condition: object, what: str, seen: object = "") -> None:
    """StoryFailedError unless `condition` holds."""
    if not condition:
        raise StoryFailedError(f"expected: {what}; seen: {seen}")


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a status, or an empty object."""
    found: dict[str, Any] = next((entry for entry in status.get("conditions", []) if entry["type"] == kind), {})
    return found


def is_true(status: dict[str, Any], kind: str) -> bool:
    """Whether a condition is True."""
    return bool(condition(status, kind).get("status") == "True")
