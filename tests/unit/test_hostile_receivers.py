"""What a receiver of notifications and the audit sink may answer: each is one sentence on who must act, and nothing is obeyed."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from cmk_operator.answer_gate import LONGEST_RETRY_AFTER
from cmk_operator.audit.sink import AuditSink
from cmk_operator.sinks.receivers import Message, Receivers
from tests.unit.internet import Internet, Raw, answer
from tests.unit.test_answer_gate import ELSEWHERE, internet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cmk_operator.core.faults.fault import Fault

__all__ = ["internet"]
NOT_HTTP, TAKEN = "not HTTP", ""
EMPTY = b"Content-Length: 0\r\n\r\n"


def raw(*pieces: bytes) -> Callable[[], Raw]:
    return lambda: Raw(pieces)


HOSTILE: dict[str, tuple[Callable[[], Raw], str, str]] = {
    "bytes that are no HTTP": (raw(b"\x00\x01 odd\r\n\r\n"), "SinkUnreachable", NOT_HTTP),
    "another protocol": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "SinkUnreachable", NOT_HTTP),
    "a page without a head": (raw(b"<html>hello</html>"), "SinkUnreachable", NOT_HTTP),
    "a status of five digits": (raw(b"HTTP/1.1 99999 x\r\n" + EMPTY), "SinkUnreachable", NOT_HTTP),
    "status 0": (raw(b"HTTP/1.1 000 x\r\n" + EMPTY), "SinkRefuses", "0"),
    "status 999": (raw(b"HTTP/1.1 999 x\r\n" + EMPTY), "SinkBusy", "999"),
    "another protocol is offered": (
        raw(b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "SinkRefuses",
        "101",
    ),
    "a header without an end": (
        lambda: Raw(itertools.chain([b"HTTP/1.1 200 x\r\nX: "], itertools.repeat(b"y" * 1000))),
        "SinkUnreachable",
        NOT_HTTP,
    ),
    "two lengths": (
        raw(b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 5\r\n\r\nx"),
        "SinkUnreachable",
        NOT_HTTP,
    ),
    "chunks that are none": (raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "SinkUnreachable", NOT_HTTP),
    "a redirect into the cloud": (
        lambda: answer(None, 307, {"Location": f"https://{ELSEWHERE}/x"}),
        "SinkRedirects",
        "not followed",
    ),
    "not modified": (lambda: answer(None, 304), "SinkRedirects", "304"),
    "waits that contradict each other": (
        raw(b"HTTP/1.1 429 x\r\nRetry-After: 5\r\nRetry-After: 1e99\r\n" + EMPTY),
        "SinkBusy",
        "429",
    ),
    "a wait until no day": (lambda: answer(None, 503, {"Retry-After": "Fri, 99 Abc 9999 99:99:99 GMT"}), "SinkBusy", "503"),
    "many promises, then yes": (raw(*(b"HTTP/1.1 103 x\r\n\r\n",) * 50, b"HTTP/1.1 204 x\r\n\r\n"), TAKEN, ""),
    "a coding that nobody knows": (lambda: answer(b"x", 200, {"Content-Encoding": "\xff"}), TAKEN, ""),
    "a packed body that is none": (lambda: answer(b"x", 200, {"Content-Encoding": "gzip"}), TAKEN, ""),
}


async def told(url: str) -> tuple[Fault | None, str | None]:
    receivers = Receivers()
    try:
        fault = await receivers.send(url, Message("1", "application/json", "{}"), None)
    finally:
        await receivers.close()
    async with AuditSink(url) as sink:
        return fault, await sink.send(["{}"])


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_a_receiver_answers_is_taken_or_one_sentence(internet: Internet, name: str) -> None:
    make, reason, words = HOSTILE[name]
    internet.say(ELSEWHERE, lambda _: make())
    fault, said = await told(f"https://{ELSEWHERE}/?code=a-secret")
    assert (fault is None) == (said is None) == (reason == TAKEN)
    assert len(internet.asked) == 2, "nothing is asked again at once, here or elsewhere"
    if fault is None or said is None:
        return
    assert fault.reason == reason
    assert fault.retry_after is None or 0 <= fault.retry_after <= LONGEST_RETRY_AFTER
    for text in (fault.message, said):
        assert words in text
        assert "must" in text, "it says who acts"
        assert text.isprintable()
        assert "a-secret" not in text


async def test_a_proxy_that_lets_nothing_through_is_told_as_that(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuses, "127.0.0.1", 0) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        fault, said = await told(f"https://{ELSEWHERE}/")
    assert fault is not None
    for text in (fault.message, said):
        assert "the egress proxy answers 403" in str(text)
        assert "the platform engineer must let" in str(text)


async def test_a_token_that_cannot_be_read_is_not_the_sinks_fault(tmp_path: Path) -> None:
    async with AuditSink(f"https://{ELSEWHERE}/", tmp_path / "absent") as sink:
        assert await sink.send(["{}"]) == (
            "the token file of the audit sink cannot be read (FileNotFoundError): the platform engineer must mount it"
        )
