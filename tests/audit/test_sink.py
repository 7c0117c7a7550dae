"""Copies at an HTTP endpoint: all of them, in order, whatever happens to it; and the chain holds outside the cluster."""

from __future__ import annotations

import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from cmk_operator.audit.sink import AuditSink
from cmk_operator.core.audit.chain import Entry, parse_entry
from cmk_operator.core.audit.copies import lines_in
from cmk_operator.core.audit.layout import KEPT_SLOTS, SLOTS
from cmk_operator.core.audit.verification import Flaw, verify
from tests.audit.conftest import TINY
from tests.audit.test_store import LONG
from tests.engine.operators import until
from tests.unit.audit.records import change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from cmk_operator.audit.journal import Journal
    from tests.audit.conftest import Archive

pytestmark = pytest.mark.cluster
UID = "uid-1"


@dataclass
class Collector:
    """A log collector that answers `answer`; it keeps the lines of what it took."""

    answer: int = 200
    raw: bytes | None = None
    """These bytes instead of an answer."""
    lines: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0
    url: str = ""

    @property
    def entries(self) -> list[Entry]:
        found = (parse_entry(line.text) for line in lines_in(self.lines, "sink"))
        return [entry for entry in found if entry is not None]


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if collector.answer < 300:
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector.lines += body.splitlines()
            else:
                collector.refused += 1
            if collector.raw is not None:
                self.close_connection = True
                self.wfile.write(collector.raw)
                return
            self.send_response(collector.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *unused: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector.url = f"https://127.0.0.1:{server.server_address[1]}/audit"
    yield collector
    server.shutdown()
    server.server_close()


@pytest.fixture
async def sink(collector: Collector, tmp_path: Path) -> AsyncIterator[AuditSink]:
    token = tmp_path / "token"
    token.write_text("not-for-the-log\n", encoding="ascii")
    async with AuditSink(collector.url, token) as sink:
        yield sink


async def _recorded(journal: Journal, *numbers: int, **fields: Any) -> None:
    for number in numbers:
        journal.note(change(number, **fields))
    await journal.settled(UID)


async def test_every_entry_is_posted_once_and_in_order_over_a_restart(
    archive: Archive, collector: Collector, sink: AuditSink
) -> None:
    first = archive.journal(send=sink.send)
    first.start()
    await _recorded(first, 1, 2)
    await until("delivered", lambda: len(collector.entries) == 3)
    await until("the head knows", lambda: _delivered(archive, 3))
    await first.close(5.0)
    again = archive.journal(send=sink.send)
    again.start()
    await _recorded(again, 3)
    await until("delivered", lambda: len(collector.entries) == 4)
    assert collector.entries == await archive.entries()
    assert collector.headers[0]["authorization"] == "Bearer not-for-the-log"
    assert collector.headers[0]["content-type"] == "application/x-ndjson"
    assert verify(lines_in(collector.lines, "sink")).whole


async def _delivered(archive: Archive, sequence: int) -> bool:
    store = archive.store()
    await store.load()
    return store.head.delivered == sequence


async def test_a_sink_that_is_down_gets_everything_when_it_is_back_and_keeps_nobody_waiting(
    archive: Archive, collector: Collector, sink: AuditSink, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer = 503
    journal = archive.journal(send=sink.send)
    journal.start()
    await _recorded(journal, 1, 2, 3)
    await until("refused", lambda: collector.refused)
    assert len(await archive.entries()) == 4
    assert "the audit sink answered 503" in str([vars(record) for record in caplog.records])
    assert "not-for-the-log" not in str([vars(record) for record in caplog.records])
    collector.answer = 202
    await until("delivered", lambda: len(collector.entries) == 4)
    assert collector.entries == await archive.entries()


async def test_a_sink_that_answers_oddly_keeps_nobody_waiting_and_gets_everything_in_the_end(
    archive: Archive, collector: Collector, sink: AuditSink, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer, collector.raw = 500, b"SSH-2.0-OpenSSH_9.6\r\n"
    journal = archive.journal(send=sink.send)
    journal.start()
    await _recorded(journal, 1)
    await until("not HTTP", lambda: "is not HTTP" in str([vars(record) for record in caplog.records]))
    collector.answer, collector.raw = 307, None
    await until("a redirect", lambda: "redirects are not followed" in str([vars(record) for record in caplog.records]))
    assert len(await archive.entries()) == 2
    collector.answer = 200
    collector.raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 629145600\r\n\r\n{"
    await until("delivered", lambda: len(collector.entries) >= 2)
    assert collector.entries == await archive.entries(), "each once: the status counts, and no body is read"


async def test_a_sink_that_is_down_for_too_long_is_told_what_it_missed(
    archive: Archive, collector: Collector, sink: AuditSink
) -> None:
    collector.answer = 500
    journal = archive.journal(TINY, send=sink.send)
    journal.start()
    await _recorded(journal, *range(SLOTS + KEPT_SLOTS), why=LONG)
    await journal.close(5.0)
    assert len(await archive.segments()) == SLOTS, "the bound holds"
    assert len(await archive.kept()) < KEPT_SLOTS
    kept = await archive.entries()

    collector.answer = 200
    again = archive.journal(TINY, send=sink.send)
    again.start()
    await until("delivered", lambda: len(collector.entries) == len(kept))
    assert collector.entries == kept
    missed = [entry.body["to"] for entry in collector.entries if entry.body["event"] == "CopyMissed"]
    assert missed[0].startswith("entries 2 to "), "the operator's own first entry is kept: it takes a share of its own"
    told = {number for one in missed for number in _numbers(one)}
    flaws = verify(lines_in(collector.lines, "sink")).findings
    assert {number for flaw in flaws for number in range(flaw.first, flaw.last + 1)} == told
    assert {flaw.flaw for flaw in flaws} == {Flaw.MISSING}
    assert (await archive.verdict()).whole


def _numbers(missed: str) -> range:
    """The entries that a CopyMissed entry names."""
    first, last = re.findall(r"\d+", missed)
    return range(int(first), int(last) + 1)


async def test_a_token_is_never_sent_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="over https only"):
        AuditSink("http://127.0.0.1:9/audit", tmp_path / "token")
    async with AuditSink("http://127.0.0.1:9/audit?code=not-for-the-log") as sink:
        assert "not-for-the-log" not in str(await sink.send(["{}"]))
