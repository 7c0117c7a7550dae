"""JSON over azure-core's pipeline, for what has no SDK worth its weight.

The models of azure-mgmt-storage alone cost 45 MB of resident memory and a fifth of a pass; azure-mgmt-core, the layer beneath
every management SDK, gives the same authentication, and the wire format is read by the providers themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from azure.core.rest import HttpRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from azure.core import AsyncPipelineClient

CONNECTION_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object that Azure answered, and its request id."""

    body: dict[str, Any]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class RestClient:
    """One endpoint with its credential."""

    pipeline: AsyncPipelineClient[HttpRequest, Any]

    async def send(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Answer:
        """Send one request to a path of the endpoint (or to a whole URL, such as a nextLink).

        Raises azure-core's `HttpResponseError` for any status from 400, and its other errors when no answer comes.
        """
        request = HttpRequest(method, path, params=dict(query or {}), json=dict(body) if body is not None else None)
        request.url = self.pipeline.format_url(request.url)
        response = await self.pipeline.send_request(request, connection_timeout=CONNECTION_TIMEOUT, read_timeout=READ_TIMEOUT)
        response.raise_for_status()
        return Answer(json.loads(response.content), response.headers.get("x-ms-request-id"))

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As `send`, for callers that need the body alone."""
        return (await self.send(method, path, query, body)).body

    async def pages(self, path: str, query: Mapping[str, str]) -> AsyncIterator[list[dict[str, Any]]]:
        """The `value` of each page of a list, following nextLink."""
        page = await self.call("GET", path, query)
        while True:
            yield page.get("value", [])
            link = page.get("nextLink")
            if not link:
                return
            page = await self.call("GET", link)

    async def close(self) -> None:
        """Close the pipeline; the HTTP session is the caller's."""
        await self.pipeline.close()
