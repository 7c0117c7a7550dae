from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes import processes
from sandbox.kubernetes.processes import ServerProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAITS = "import sys; print('up', flush=True); sys.stdin.read()\nimport threading; threading.Event().wait(120)"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{WAITS}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess.start("waits", [sys.executable, "-c", WAITS], tmp_path / "log", tmp_path / "record")
    yield process
    process.stop()


def test_a_process_is_found_again_by_its_record_and_ended(server: ServerProcess, tmp_path: Path) -> None:
    found = ServerProcess.recorded(tmp_path / "record")
    assert found == server
    assert found.running
    found.stop()
    assert not server.running


def test_a_foreign_process_that_got_the_same_id_is_left_alone(server: ServerProcess) -> None:
    earlier = dataclasses.replace(server, started="1")
    assert not earlier.running
    earlier.stop()
    assert server.running


def test_a_process_that_ignores_the_polite_signal_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.5)
    log = tmp_path / "log"
    process = ServerProcess.start("stubborn", [sys.executable, "-c", IGNORES_SIGTERM], log, tmp_path / "record")
    while process.running and "up" not in log.read_text():
        pass
    process.stop()
    assert not process.running


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"pid": 1}'])
def test_a_missing_or_broken_record_names_no_process(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "record").write_text(content)
    assert ServerProcess.recorded(tmp_path / "record") is None


def test_ports_are_different() -> None:
    assert len(set(free_ports(5))) == 5
