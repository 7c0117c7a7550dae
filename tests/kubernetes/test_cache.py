from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes import cache

if TYPE_CHECKING:
    from pathlib import Path


def test_two_that_want_the_same_program_make_it_once(tmp_path: Path) -> None:
    target, made, release = tmp_path / "program-1", threading.Semaphore(0), threading.Event()
    makers: list[Path] = []

    def make(folder: Path) -> None:
        makers.append(folder)
        made.release()
        assert release.wait(30)
        (folder / "program").write_text("whole")

    threads = [threading.Thread(target=cache.made_once, args=(target, make)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert made.acquire(timeout=30)
    assert not target.exists(), "nobody may see a folder that is not finished"
    release.set()
    for thread in threads:
        thread.join(30)
    assert len(makers) == 1
    assert (target / "program").read_text() == "whole"


def test_a_build_that_fails_leaves_nothing_and_the_next_one_tries_again(tmp_path: Path) -> None:
    target = tmp_path / "program-1"

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise cache.UnavailableProgramError("no compiler")

    with pytest.raises(cache.UnavailableProgramError, match="no compiler"):
        cache.made_once(target, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["program-1.lock"]
    assert cache.made_once(target, lambda folder: (folder / "program").touch()) == target
    assert (target / "program").exists()


def test_a_failing_command_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo missing go.sum entry >&2; exit 3"]
    with pytest.raises(cache.UnavailableProgramError, match=r"(?s)exit code 3.*missing go\.sum entry"):
        cache.run_with_progress(
            "building", command, directory=tmp_path, environment={"PATH": "/usr/bin:/bin"}, log=tmp_path / "log"
        )


def test_a_relative_cache_home_is_ignored_as_its_specification_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_directory() == tmp_path / ".cache" / "cmk-operator"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.cache_directory() == tmp_path / "cache" / "cmk-operator"
