"""Plain REST calls to Azure with the pipeline of azure-core: token, retries that honour Retry-After, errors as exceptions."""

from __future__ import annotations

import asyncio
import json
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from azure.core import AsyncPipelineClient
from azure.core.exceptions import ClientAuthenticationError, ResourceExistsError, ResourceNotFoundError, map_error
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AsyncRetryPolicy,
    HeadersPolicy,
    ProxyPolicy,
    RequestIdPolicy,
    UserAgentPolicy,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest
from typing_extensions import override

from sandbox.azure.endpoints import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.rest import AsyncHttpResponse

    from sandbox.azure.endpoints import Endpoints

ARM = "https://management.azure.com"
GRAPH = "https://graph.microsoft.com/v1.0"
ERRORS = {401: ClientAuthenticationError, 404: ResourceNotFoundError, 409: ResourceExistsError}


def cloud_of(env: Mapping[str, str]) -> Endpoints:
    """The cloud behind the proxy in `env`."""
    return CLOUDS[env.get("SANDBOX_CLOUD", "AzurePublic")]


@lru_cache(maxsize=8)
def _trusting(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


class Transport(AioHttpTransport):  # type: ignore[misc] # azure-core exports it through an untyped __getattr__
    """azure-core's own transport with one TLS context: given a CA file, it would make a new one, and so a new connection, each time."""

    session: aiohttp.ClientSession | None

    def __init__(self, ca_file: str, read_timeout: float) -> None:
        super().__init__(use_env_settings=False, read_timeout=read_timeout)
        self._ca_file = ca_file

    @override
    async def open(self) -> None:
        if self.session is None and not self._has_been_opened:
            connector = aiohttp.TCPConnector(ssl=_trusting(self._ca_file))
            self.session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        await super().open()


def connection(env: Mapping[str, str], read_timeout: float = 300) -> dict[str, Any]:
    """The keyword arguments that send one asynchronous Azure client through the proxy in `env`, trusting its CA."""
    return {"proxies": {"https": env["HTTPS_PROXY"]}, "transport": Transport(env["SSL_CERT_FILE"], read_timeout)}


def blocking_connection(env: Mapping[str, str]) -> dict[str, Any]:
    """The same for the clients that are not asynchronous."""
    return {"proxies": {"https": env["HTTPS_PROXY"]}, "connection_verify": env["SSL_CERT_FILE"]}


class AzureRest:
    """One HTTP session against one service."""

    def __init__(self, credential: AsyncTokenCredential, base_url: str, scope: str, env: Mapping[str, str]) -> None:
        settings = connection(env)
        policies = [
            RequestIdPolicy(),
            HeadersPolicy(),
            UserAgentPolicy("cmk-operator-sandbox"),
            ProxyPolicy(settings["proxies"]),
            AsyncRetryPolicy(retry_total=12, retry_backoff_factor=0.2),
            AsyncBearerTokenCredentialPolicy(credential, scope),
        ]
        self._base_url = base_url
        self._client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            base_url, policies=policies, transport=settings["transport"]
        )

    async def __aenter__(self) -> Self:
        """Open the session."""
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close the session."""
        await self._client.close()

    async def send(self, method: str, url: str, body: object = None) -> AsyncHttpResponse:
        """One request; `url` is absolute or a path. Raises azure.core.exceptions.HttpResponseError."""
        request = HttpRequest(method, url if url.startswith("https://") else self._base_url + url, json=body)
        response: AsyncHttpResponse = await self._client.send_request(request)
        if response.status_code >= 400:
            map_error(response.status_code, response, ERRORS)
            response.raise_for_status()
        return response

    async def json(self, method: str, url: str, body: object = None) -> dict[str, Any]:
        """As `send`, and the JSON object of the answer; a 202 is followed to its end."""
        response = await self.send(method, url, body)
        while response.status_code == 202 and "Location" in response.headers:
            await asyncio.sleep(float(response.headers.get("Retry-After", "1")))
            response = await self.send("GET", response.headers["Location"])
        text = response.text()
        value: dict[str, Any] = json.loads(text) if text else {}
        return value
