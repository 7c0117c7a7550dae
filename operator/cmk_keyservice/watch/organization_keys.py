"""Keeps `Organizations` equal to the OrganizationKey objects: a list, then a watch from there, again and again."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp

from cmk_keyservice.vaults.accepted import Organization, read_organization
from cmk_keyservice.vaults.organizations import UnreadableOrganizationError
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, ObjectReference, collection_path

if TYPE_CHECKING:
    from cmk_keyservice.vaults.organizations import Organizations
    from cmk_operator.kubernetes.connection import Connection

PLURAL: Final = OrganizationKey.plural
WATCHED_FOR: Final = 240
"""Seconds of one watch; after it everything is listed again, because a watch may miss a deletion."""
RETRIED_AFTER: Final = 1.0
LONGEST_PAUSE: Final = 30.0
_LOG: Final = logging.getLogger(__name__)


class ExpiredWatchError(Exception):
    """The API server does not know the version to watch from any more."""


async def read_one(client: KubernetesClient, namespace: str, name: str) -> Organization | None:
    """One object as it is now; None if it is gone, or names no organization.

    Raises `UnreadableOrganizationError` if the API server does not say.
    """
    try:
        body = await client.get(ObjectReference(PLURAL, namespace, name))
    except KubernetesError as error:
        raise UnreadableOrganizationError(str(error)) from error
    return read_organization(body) if body is not None else None


class OrganizationKeyWatch:
    """Lists and watches all OrganizationKey objects; `session` is one of the connection's, for the watch alone."""

    def __init__(self, client: KubernetesClient, connection: Connection, organizations: Organizations) -> None:
        self._client = client
        self._connection = connection
        self._organizations = organizations

    async def run(self, stop: asyncio.Event) -> None:
        """List and watch until `stop` is set; what fails is tried again, later and later."""
        pause = RETRIED_AFTER
        async with self._connection.session(connections=2) as session:
            while not stop.is_set():
                try:
                    version = await self._list()
                    pause = RETRIED_AFTER
                    await self._until(stop, self._watch(session, version))
                except ExpiredWatchError:
                    continue
                except (KubernetesError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    _LOG.warning("the OrganizationKey objects cannot be read: %s", error)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await stop.wait()
                    pause = min(LONGEST_PAUSE, 2 * pause)

    @staticmethod
    async def _until(stop: asyncio.Event, watch: Any) -> None:  # noqa: ANN401 - a coroutine
        ended = asyncio.create_task(stop.wait())
        watching = asyncio.create_task(watch)
        try:
            await asyncio.wait({ended, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for task in (ended, watching):
                task.cancel()
            await asyncio.gather(ended, watching, return_exceptions=True)

    async def _list(self) -> int:
        """Take over a whole list; returns its version."""
        listed: set[tuple[str, str]] = set()
        version = 0
        async for page in self._client.pages(PLURAL):
            version = version or page.resource_version
            for body in page.items:
                listed.add(_name_of(body))
                self._note(body)
        self._organizations.keep(listed, version)
        return version

    async def _watch(self, session: aiohttp.ClientSession, version: int) -> None:
        query = {
            "watch": "true",
            "resourceVersion": str(version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCHED_FOR),
        }
        url = f"{self._connection.server}{collection_path(PLURAL)}?{urlencode(query)}"
        patience = aiohttp.ClientTimeout(total=WATCHED_FOR + 30, sock_connect=15)
        async with session.get(url, timeout=patience) as answer:
            if answer.status == 410:
                raise ExpiredWatchError
            if answer.status >= 400:
                raise KubernetesError("WATCH", PLURAL, answer.status, answer.reason or "", "the watch is refused")
            async for lines in answer.content.iter_chunked(1 << 16):
                for line in lines.splitlines():
                    self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        kind, body = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if body.get("code") == 410:
                raise ExpiredWatchError
            raise KubernetesError("WATCH", PLURAL, int(body.get("code") or 0), str(body.get("reason", "")), "the watch ended")
        if kind in {"ADDED", "MODIFIED"}:
            self._note(body)
        elif kind == "DELETED":
            namespace, name = _name_of(body)
            self._organizations.gone(namespace, name, str(body.get("metadata", {}).get("uid", "")))

    def _note(self, body: dict[str, Any]) -> None:
        found = read_organization(body)
        if found is not None:
            self._organizations.note(found)


def _name_of(body: dict[str, Any]) -> tuple[str, str]:
    metadata = body.get("metadata") or {}
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))
