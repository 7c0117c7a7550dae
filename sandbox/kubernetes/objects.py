"""Custom resources as tests and the benchmark see them: applied, read and awaited over REST, as the cluster's administrator."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sandbox.kubernetes.cluster import Cluster

GROUP = "cmk-operator.dev"
VERSION = "v1alpha1"
PLURALS = {
    "FederatedIdentity": "federatedidentities",
    "CustomerTenant": "customertenants",
    "CustomerManagedKey": "customermanagedkeys",
    "EncryptedResource": "encryptedresources",
    "OrganizationKey": "organizationkeys",
    "Preflight": "preflights",
    "SupportRequest": "supportrequests",
}
NAMESPACED = frozenset({"CustomerManagedKey", "EncryptedResource", "OrganizationKey", "Preflight"})
PATIENCE = 90.0
POLL = 0.05
ADMIN = "sandbox-objects"


class NotSeenError(AssertionError):
    """An object did not come to the awaited state in time; the message says what was awaited and what was seen."""


class RefusedError(Exception):
    """The API server refused a request; `message` is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def administrator_token(cluster: Cluster) -> str:
    """A token, good for two hours, of a ServiceAccount that is bound to cluster-admin."""
    manifests = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ADMIN, "namespace": "default"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ADMIN},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": ADMIN, "namespace": "default"}],
        },
    ]
    items = {"apiVersion": "v1", "kind": "List", "items": manifests}
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(items))
    return cluster.service_account_token("default", ADMIN, seconds=7200)


BUSY_ATTEMPTS = 10
"""How often a request is sent again that the API server was too busy for (429)."""


@dataclass
class Objects:
    """A session with the API server; use it as an async context manager. Many of them may share one `administrator_token`."""

    cluster: Cluster
    token: str | None = None
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Sign in with a token of a ServiceAccount that is bound to cluster-admin."""
        token = self.token or await asyncio.to_thread(administrator_token, self.cluster)
        tls = ssl.create_default_context(cafile=str(self.cluster.ca_file))
        self._session = aiohttp.ClientSession(
            self.cluster.server,
            connector=aiohttp.TCPConnector(ssl=tls, limit=32),
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **query: str
    ) -> dict[str, Any]:
        """One request. Raises `RefusedError`."""
        if self._session is None:
            raise RuntimeError("use Objects as an async context manager")
        data = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type} if data is not None else {}
        for attempt in itertools.count():
            async with self._session.request(method, path, data=data, headers=headers, params=query) as response:
                answer: dict[str, Any] = await response.json()
                if response.status < 400:
                    return answer
                if response.status != 429 or attempt >= BUSY_ATTEMPTS:
                    raise RefusedError(response.status, str(answer.get("message", "")))
                # A kind that was just defined has no storage yet: the API server says when to come again.
                await asyncio.sleep(float(response.headers.get("Retry-After", "1")))
        raise AssertionError("a request is answered or refused")

    @staticmethod
    def path(kind: str, name: str = "", namespace: str = "") -> str:
        """Path of an object, or of all of a kind (in one namespace, or in all)."""
        scope = f"/namespaces/{namespace}" if namespace and kind in NAMESPACED else ""
        return f"/apis/{GROUP}/{VERSION}{scope}/{PLURALS[kind]}" + (f"/{name}" if name else "")

    async def create_namespace(self, name: str) -> None:
        """Create a namespace; one that exists stays."""
        try:
            await self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        except RefusedError as error:
            if error.status != 409:
                raise

    async def apply(
        self, kind: str, name: str, spec: Mapping[str, Any], namespace: str = "", annotations: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Server-side apply of a custom resource, as GitOps tools do."""
        metadata: dict[str, Any] = {"name": name}
        if namespace:
            metadata["namespace"] = namespace
        if annotations:
            metadata["annotations"] = dict(annotations)
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": dict(spec)}
        path = self.path(kind, name, namespace)
        return await self.call("PATCH", path, body, "application/apply-patch+yaml", fieldManager="tests", force="true")

    async def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """One object. Raises `RefusedError` 404."""
        return await self.call("GET", self.path(kind, name, namespace))

    async def all(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        items: list[dict[str, Any]] = (await self.call("GET", self.path(kind)))["items"]
        return items

    async def table(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """What `kubectl get` prints, a row an object by column names: much less to read than the objects."""
        if self._session is None:
            raise RuntimeError("use Objects as an async context manager")
        headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        async with self._session.get(
            self.path(kind, namespace=namespace), headers=headers, params={"includeObject": "None"}
        ) as response:
            answer: dict[str, Any] = await response.json()
        names = [column["name"] for column in answer["columnDefinitions"]]
        return [dict(zip(names, row["cells"], strict=True)) for row in answer["rows"]]

    async def changes(self, kind: str, namespace: str) -> AsyncIterator[dict[str, Any]]:
        """Each object of a kind as it is, then after each change, until the caller has seen enough or the server ends the watch."""
        if self._session is None:
            raise RuntimeError("use Objects as an async context manager")
        endless = aiohttp.ClientTimeout(total=None)
        async with self._session.get(
            self.path(kind, namespace=namespace), params={"watch": "true"}, timeout=endless, read_bufsize=1 << 20
        ) as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RefusedError(int(event["object"].get("code", 0)), str(event["object"].get("message", "")))
                yield event["object"]

    async def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Delete an object; its finalizers may hold it."""
        await self.call("DELETE", self.path(kind, name, namespace))

    async def merge(self, kind: str, name: str, patch: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """JSON merge patch, as `kubectl patch --type merge` and `kubectl annotate` do."""
        return await self.call("PATCH", self.path(kind, name, namespace), dict(patch), "application/merge-patch+json")

    async def until(
        self,
        what: str,
        kind: str,
        name: str,
        test: Callable[[dict[str, Any]], object],
        namespace: str = "",
        patience: float = PATIENCE,
    ) -> dict[str, Any]:
        """Wait until the STATUS of an object passes `test`, and return the status. Raises `NotSeenError`."""
        deadline = time.monotonic() + patience
        while True:
            status: dict[str, Any] = (await self.get(kind, name, namespace)).get("status", {})
            if test(status):
                return status
            if time.monotonic() > deadline:
                raise NotSeenError(f"awaited of {kind} {namespace}/{name}: {what}; seen: {json.dumps(status, indent=1)}")
            await asyncio.sleep(POLL)

    async def until_gone(self, kind: str, name: str, namespace: str = "", patience: float = PATIENCE) -> None:
        """Wait until an object is no more. Raises `NotSeenError`."""
        deadline = time.monotonic() + patience
        while True:
            try:
                found = await self.get(kind, name, namespace)
            except RefusedError as error:
                if error.status == 404:
                    return
                raise
            if time.monotonic() > deadline:
                raise NotSeenError(f"awaited: {kind} {namespace}/{name} gone; seen: {json.dumps(found, indent=1)}")
            await asyncio.sleep(POLL)


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a status, or an empty object."""
    found: dict[str, Any] = next((entry for entry in status.get("conditions", []) if entry["type"] == kind), {})
    return found


def has(kind: str, status: str = "True", reason: str | None = None) -> Callable[[Mapping[str, Any]], bool]:
    """A test for `until`: the condition has this status and, if given, this reason."""

    def test(seen: Mapping[str, Any]) -> bool:
        found = condition(seen, kind)
        return found.get("status") == status and (reason is None or found.get("reason") == reason)

    return test
