"""Posts one CloudEvent to a receiver over HTTPS, and interprets the answer.

Whoever writes a CustomerTenant chooses the receiver. Redirects are not followed and bodies are not read, so that a receiver can
neither send the operator to another host nor put text into a status.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from cmk_operator.answer_gate import open_session, read_wait
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.redaction import host_of
from cmk_operator.egress_proxy import egress_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.sinks.signing import Signer

TIMEOUT: Final = 10.0
CONNECTIONS: Final = 8
_USER_AGENT: Final = "cmk-operator"


@dataclass(frozen=True, slots=True)
class Message:
    """One notification in structured JSON, ready to be sent as often as needed; only its signature is new each time."""

    id: str
    content_type: str
    body: str


def message_of(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> Message:
    """Write a CloudEvent 1.0 in structured JSON. Source: CloudEvents JSON Event Format 1.0.2."""
    # Imported late: it costs 4 MB, which only an operator with a receiver needs.
    from cloudevents.core.formats.json import JSONFormat  # noqa: PLC0415
    from cloudevents.core.v1.event import CloudEvent  # noqa: PLC0415

    event = CloudEvent(dict(attributes), dict(data))
    form = JSONFormat()
    return Message(str(attributes["id"]), form.get_content_type(), form.write(event).decode())


class Receivers:
    """One pooled session for all receivers, with the trust and the proxy of the environment; close it at shutdown."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, message: Message, signer: Signer | None) -> Fault | None:
        """Post once; None if the receiver has accepted the notification, with any status from 200 to 299."""
        headers = {"Content-Type": message.content_type, "User-Agent": _USER_AGENT}
        if signer is not None:
            headers |= signer.headers(message.id, datetime.now(UTC), message.body)
        host = host_of(url)
        try:
            async with self._opened().post(
                URL(url, encoded=True),  # as it was written: a query may be signed
                data=message.body.encode(),
                headers=headers,
                allow_redirects=False,
                proxy=egress_proxy(host),
            ) as response:
                return _judge_answer(host, response.status, response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _judge_silence(host, error)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(connections=CONNECTIONS, timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self._session

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()


def _judge_answer(host: str, status: int, retry_after: str | None) -> Fault | None:
    if 200 <= status < 300:
        return None
    wait = read_wait(retry_after) if retry_after is not None else None
    if status in {408, 425, 429} or status >= 500:
        message = f"the receiver at {host} answers {status}: if that lasts, the owner of the receiver must repair it"
        return Fault(Reason.SINK_BUSY, message, Actor.PROVIDER_ADMINISTRATOR, wait)
    if 300 <= status < 400:
        message = (
            f"the receiver at {host} answers {status}, and redirects are not followed: the provider's administrator must name the "
            "final address in spec.notifications.sink"
        )
        return Fault(Reason.SINK_REDIRECTS, message, Actor.PROVIDER_ADMINISTRATOR, wait)
    message = (
        f"the receiver at {host} refuses notifications with {status}: the provider's administrator must correct spec.notifications, "
        "or the owner of the receiver must accept them"
    )
    return Fault(Reason.SINK_REFUSES, message, Actor.PROVIDER_ADMINISTRATOR, wait)


def _judge_silence(host: str, error: BaseException) -> Fault:
    administrator = Actor.PROVIDER_ADMINISTRATOR
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
        message = (
            f"no trusted TLS connection to the receiver at {host}: the owner of the receiver must correct its certificate, or the "
            "provider's administrator must make cmk-operator trust its authority (SSL_CERT_FILE)"
        )
        return Fault(Reason.SINK_NOT_TRUSTED, message, administrator)
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        message = f"spec.notifications.sink names no usable address ({host}): the provider's administrator must correct it"
        return Fault(Reason.SINK_ADDRESS_NOT_USABLE, message, administrator)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        message = f"the name of the receiver at {host} does not resolve: the provider's administrator must correct spec.notifications.sink"
        return Fault(Reason.SINK_NOT_FOUND, message, administrator)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        message = f"the egress proxy answers {error.status} for the receiver at {host}: the platform engineer must let cmk-operator reach it"
        return Fault(Reason.SINK_UNREACHABLE, message, Actor.PLATFORM_ENGINEER)
    what = "does not answer in time" if isinstance(error, TimeoutError | asyncio.TimeoutError) else "cannot be reached"
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        what = "answers something that is not HTTP"
    message = f"the receiver at {host} {what}: if that lasts, the owner of the receiver must repair it"
    return Fault(Reason.SINK_UNREACHABLE, message, administrator)
