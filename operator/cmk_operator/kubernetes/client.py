"""All requests of this operator to the Kubernetes API, through the client of `kubernetes.aio` (docs/decisions/0045)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp

from cmk_operator.api.model import GROUP, VERSION
from cmk_operator.kubernetes.bounded_answer import METADATA_ONLY, AnswerTooLargeError, PageLimits
from cmk_operator.kubernetes.connection import CONNECTIONS
from cmk_operator.turns import Turns, calls_of, owner_of_calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kubernetes.aio.client.api_client import ApiClient

    from cmk_operator.telemetry import Telemetry

FIELD_MANAGER: Final = "cmk-operator"
REQUEST_TIMEOUT: Final = 15.0
_PATIENCE: Final = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
SHARED_FOR: Final = 1.0
_TOO_LARGE: Final = 413
_OUTCOME_UNKNOWN: Final = frozenset({0, 500, 502, 504})
"""The API server, or a proxy before it, may have carried out a request that ended like this."""


class KubernetesError(Exception):
    """The API server refused a request, or did not answer (`status` 0). The work queue retries the reconcile with backoff."""

    def __init__(self, verb: str, what: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{verb} {what}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason

    @property
    def outcome_unknown(self) -> bool:
        """Whether a write that ended like this may have changed the object all the same."""
        return self.status in _OUTCOME_UNKNOWN


class ObjectReference(NamedTuple):
    """A custom resource by the plural of its kind, its namespace (empty: cluster-scoped) and its name.

    A tuple, because it is the key of every table: a dataclass is hashed and compared in Python, several times slower.
    """

    plural: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def path(self) -> str:
        """Path of the object on the API server."""
        return f"{collection_path(self.plural, self.namespace)}/{quote(self.name)}"


def collection_path(plural: str, namespace: str = "") -> str:
    """Path of all objects of a kind, in one namespace or in all."""
    scope = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{plural}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, and the resource version of the snapshot it belongs to."""

    resource_version: int
    items: list[dict[str, Any]]


class KubernetesClient:
    """The requests of this operator. Each answer is a plain JSON object; each failure raises `KubernetesError`."""

    def __init__(self, api: ApiClient, telemetry: Telemetry) -> None:
        self._api = api
        self._telemetry = telemetry
        self._limits = PageLimits()
        self._turns = Turns(CONNECTIONS)
        """Namespaces take turns at the connections. aiohttp gives a free one to whoever asks at that moment, so that passes that send
        one request after the other would keep it from one that waits, for as long as they last."""
        self._shared: dict[ObjectReference, asyncio.Future[dict[str, Any] | None]] = {}
        """Answers to share. Each is dropped after `SHARED_FOR` seconds: it takes 27 kB, and its object may not exist any more."""

    async def get(self, reference: ObjectReference) -> dict[str, Any] | None:
        """The current object from the API server; None if it does not exist."""
        return await self.find(reference.path)

    async def find(self, path: str) -> dict[str, Any] | None:
        """The object at a path; None if it does not exist."""
        try:
            return await self.request("GET", path)
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    async def get_shared(self, reference: ObjectReference) -> dict[str, Any] | None:
        """As `get`, but callers within `SHARED_FOR` seconds share one answer, for instance the tenant before 1,000 writes."""
        answer = self._shared.get(reference)
        if answer is None:
            with calls_of(str(reference)):  # it is not only for the owner of this pass
                answer = self._shared[reference] = asyncio.ensure_future(self.get(reference))
            asyncio.get_running_loop().call_later(SHARED_FOR, self._shared.pop, reference)
        return await asyncio.shield(answer)

    async def pages(self, plural: str) -> AsyncIterator[Page]:
        """All objects of a kind, in pages of one consistent snapshot and of bounded size.

        Source: Kubernetes API concepts, "Retrieving large results sets in chunks".
        """
        path, token = collection_path(plural), ""
        while True:
            query = {"limit": str(self._limits.of(path))} | ({"continue": token} if token else {})
            try:
                answer = await self.request("GET", path, query=query)
            except KubernetesError as error:
                if error.status != _TOO_LARGE or not self._limits.shrink(path):
                    raise
                continue
            self._limits.grow(path)
            metadata = answer.get("metadata", {})
            yield Page(int(metadata.get("resourceVersion", "0")), answer.get("items", []))
            token = metadata.get("continue")
            if not token:
                return

    async def apply_status(
        self,
        reference: ObjectReference,
        kind: str,
        uid: str,
        status: Mapping[str, Any],
        resource_version: str | None = None,
        manager: str = FIELD_MANAGER,
    ) -> dict[str, Any]:
        """Server-side apply of all of the status that `manager` writes.

        With `resource_version`, it fails if the object has changed since that version.

        An API server does not compare the `uid` of a custom resource's status: without `resource_version`, the status may land
        on a new object of the same name. The answer then shows the other uid, so that its own pass follows at once.
        """
        body = self._applied(reference, kind, uid) | {"status": status}
        if resource_version is not None:
            body["metadata"]["resourceVersion"] = resource_version
        return await self._apply(f"{reference.path}/status", manager, body)

    async def apply_finalizers(
        self, reference: ObjectReference, kind: str, uid: str, finalizers: tuple[str, ...]
    ) -> dict[str, Any]:
        """Server-side apply of our own finalizers; those of other field managers stay."""
        body = self._applied(reference, kind, uid)
        body["metadata"]["finalizers"] = list(finalizers)
        return await self._apply(reference.path, f"{FIELD_MANAGER}-finalizer", body)

    async def delete(self, reference: ObjectReference, uid: str) -> None:
        """Delete the object with this `uid`. It is no error if it does not exist or another object has its name now."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self.request("DELETE", reference.path, body=body)
        except KubernetesError as error:
            if error.status not in {404, 409}:
                raise

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Create an `events.k8s.io/v1` Event."""
        await self.request("POST", f"/apis/events.k8s.io/v1/namespaces/{quote(namespace)}/events", body=event)

    @staticmethod
    def _applied(reference: ObjectReference, kind: str, uid: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": reference.name, "uid": uid}
        if reference.namespace:
            metadata["namespace"] = reference.namespace
        return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata}

    async def _apply(self, path: str, manager: str, body: Mapping[str, Any]) -> dict[str, Any]:
        query = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")

    async def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        only_metadata: bool = False,
    ) -> dict[str, Any]:
        """Send one request and return the JSON answer. Raises `KubernetesError` for every status from 400 and for no answer.

        `only_metadata` asks for an answer without spec and status. Source: Kubernetes API concepts, "Metadata-only fetches".
        """
        url = f"{self._api.configuration.host}{path}{f'?{urlencode(query)}' if query else ''}"
        headers = {"Content-Type": content_type} if body is not None else {}
        if only_metadata:
            headers["Accept"] = f"{METADATA_ONLY},application/json"
        status = 0
        try:
            async with self._turns.turn(owner_of_calls()):
                response = await self._api.call_api(verb, url, headers, body, _request_timeout=_PATIENCE)
                status = response.status
                await response.read()
        except AnswerTooLargeError as error:
            raise KubernetesError(verb, path, _TOO_LARGE, "AnswerTooLarge", str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(verb, path, 0, type(error).__name__, "no answer") from error
        finally:
            self._telemetry.kubernetes_requests.labels(verb, str(status)).inc()
        answer: dict[str, Any] | None = None
        with suppress(ValueError):
            answer = await response.response.json(content_type=None)
        if not isinstance(answer, dict):
            raise KubernetesError(verb, path, status, "NotJson", "the answer is not an object in JSON")
        if status >= 400:
            raise KubernetesError(verb, path, status, str(answer.get("reason", "")), str(answer.get("message", "")))
        return answer
