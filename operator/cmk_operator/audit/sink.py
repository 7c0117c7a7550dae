"""An HTTP(S) endpoint for copies of the record: any log collector that accepts newline-delimited JSON."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from cmk_operator.answer_gate import open_session

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=5)


class AuditSink:
    """Posts lines to one URL, with a token from a file that is read each time. Used as an async context manager."""

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        if token_file is not None and not url.lower().startswith("https://"):
            raise ValueError("a bearer token is sent over https only: the URL of the audit sink must start with https://")
        self._url = url
        self._token_file = token_file
        self._session = open_session(connections=1, timeout=_TIMEOUT, trust_env=True)

    async def __aenter__(self) -> Self:
        """Open nothing before the first post."""
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(self, lines: list[str]) -> str | None:
        """Post lines as one body; return what went wrong, or None if a 2xx confirms them."""
        headers = {"Content-Type": "application/x-ndjson"}
        if self._token_file is not None:
            try:
                token = await asyncio.to_thread(self._token_file.read_text, encoding="ascii")
            except (OSError, ValueError) as error:
                return f"the token file of the audit sink cannot be read ({type(error).__name__}): the platform engineer must mount it"
            headers["Authorization"] = f"Bearer {token.strip()}"
        body = "".join(f"{line}\n" for line in lines).encode()
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                return _judge_answer(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _judge_silence(error)


def _judge_answer(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    said = f"the audit sink answered {status}"
    if 300 <= status < 400:
        return f"{said}, and redirects are not followed: the platform engineer must name its final address"
    if status in {401, 403}:
        return f"{said}: the owner of the sink must allow the operator to post there"
    if status in {408, 425, 429} or status >= 500:
        return f"{said}: if that lasts, the owner of the sink must repair it"
    return f"{said}: the owner of the sink must accept the entries, or the platform engineer correct its address"


def _judge_silence(error: BaseException) -> str:
    """What prevented an answer, without the URL, whose query may be a secret."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        return (
            "no trusted TLS connection to the audit sink: its owner must correct its certificate, or the platform engineer make "
            "cmk-operator trust its authority (SSL_CERT_FILE)"
        )
    if isinstance(error, TimeoutError):
        return "the audit sink does not answer in time: if that lasts, the owner of the sink must repair it"
    if isinstance(error, ValueError):
        return "the address or the token of the audit sink is not usable: the platform engineer must correct it"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return (
            f"the egress proxy answers {error.status} for the audit sink: the platform engineer must let the operator reach it"
        )
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return "what the audit sink answers is not HTTP: the owner of the sink must repair it, or the platform engineer correct its address"
    return f"the audit sink cannot be reached ({type(error).__name__}): if that lasts, the owner of the sink must repair it"
