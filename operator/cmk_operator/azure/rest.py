"""JSON requests through azure-core's pipeline, for calls that none of the operator's SDKs offers.

These are Microsoft Graph, Snowflake, Key Vault's wrapKey, and polls of a long-running operation after a restart
(docs/decisions/0070).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.rest import HttpRequest

from cmk_operator.answer_gate import UnreadableError, read_object
from cmk_operator.azure.failures import seconds_to_wait
from cmk_operator.azure.list_bounds import ListBounds
from cmk_operator.azure.management import CONNECTION_TIMEOUT, READ_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from azure.core import AsyncPipelineClient


@dataclass(frozen=True, slots=True)
class Answer:
    """The JSON object of an answer (empty if it has no body), with facts from its headers."""

    body: dict[str, Any]
    request_id: str | None
    status: int = 200
    operation_url: str | None = None
    """The URL to poll a long-running operation; None if the request is complete."""
    retry_after: float | None = None
    """Seconds to wait before the next request, from the headers."""
    has_body: bool = True


@dataclass(frozen=True, slots=True)
class RestClient:
    """A client of one endpoint with its credential."""

    pipeline: AsyncPipelineClient[HttpRequest, Any]

    async def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request to a path of the endpoint, or to a whole URL, such as a nextLink.

        Raises azure-core's `HttpResponseError` for any status from 400, and its other errors if there is no answer.
        """
        content = dict(body) if body is not None else None
        request = HttpRequest(method, path, params=dict(query or {}), json=content, headers=dict(headers or {}))
        request.url = self.pipeline.format_url(request.url)
        response = await self.pipeline.send_request(request, connection_timeout=CONNECTION_TIMEOUT, read_timeout=READ_TIMEOUT)
        response.raise_for_status()
        received: Mapping[str, str] = response.headers
        accepted: int = response.status_code
        location = received.get("Location") if accepted == 202 else None
        return Answer(
            read_object(response.content) if response.content else {},
            received.get("x-ms-request-id"),
            accepted,
            received.get("Azure-AsyncOperation") or location,
            seconds_to_wait(received),
            has_body=bool(response.content),
        )

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As `send`, but returns only the body."""
        return (await self.send(method, path, query, body)).body

    async def pages(self, path: str, query: Mapping[str, str]) -> AsyncIterator[list[dict[str, Any]]]:
        """The objects in each page of a list; follows nextLink, which has a prefix in Graph.

        Raises `UnreadableError` for a page that is not a list, and for a list that exceeds `ListBounds`.
        """
        async for entries in self.entries(path, query):
            yield [entry for entry in entries if isinstance(entry, dict)]

    async def entries(self, path: str, query: Mapping[str, str]) -> AsyncIterator[list[object]]:
        """As `pages`, with whatever each page has in place of an object, for a reader that may leave nothing out."""
        bounds, page = ListBounds(), await self.call("GET", path, query)
        while True:
            entries, link = page.get("value"), page.get("nextLink") or page.get("@odata.nextLink")
            if not isinstance(entries, list) or not isinstance(link, str | None):
                raise UnreadableError("the answer is not a page of a list")
            bounds.page(len(entries), link)
            yield entries
            if not link:
                return
            page = await self.call("GET", link)

    async def close(self) -> None:
        """Close the pipeline, but not the HTTP session, which the caller owns."""
        await self.pipeline.close()
