"""An HTTP(S) endpoint for copies of the record: any log collector that accepts newline-delimited JSON."""

from __future__ import annotations

import asyncio
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
        try:
            if self._token_file is not None:
                token = await asyncio.to_thread(self._token_file.read_text, encoding="ascii")
                headers["Authorization"] = f"Bearer {token.strip()}"
            body = "".join(f"{line}\n" for line in lines).encode()
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return None
                return f"the audit sink answered {answer.status}: the owner of the sink must allow the operator to post there"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"the audit sink could not be reached: {type(error).__name__}"
