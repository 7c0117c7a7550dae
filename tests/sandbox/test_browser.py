"""Which Chromium tests use, and that none is the reason to fail with the sentence how to get one."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from sandbox import browser, npm_packages
from sandbox.kubernetes.cache import UnavailableProgramError
from tests import chromium

if TYPE_CHECKING:
    from pathlib import Path


def program(directory: Path, name: str = "chromium") -> Path:
    made = directory / name
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def archive(directory: Path) -> tuple[Path, str]:
    """An archive of npm and its integrity."""
    made = directory / "package.tgz"
    with tarfile.open(made, "w:gz") as packed:
        entry = tarfile.TarInfo("package/axe.min.js")
        entry.size = 2
        packed.addfile(entry, io.BytesIO(b"ok"))
    return made, f"sha512-{base64.b64encode(hashlib.sha512(made.read_bytes()).digest()).decode()}"


def test_the_one_that_is_named_comes_before_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, named = program(tmp_path), program(tmp_path, "mine")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert browser.find_or_fetch().path == on_path
    monkeypatch.setenv("CHROMIUM", str(named))
    assert browser.find_or_fetch().path == named


@pytest.mark.parametrize("reason", ["a name of nothing", "another system", "no network"])
async def test_without_one_a_test_fails_with_the_sentence_how_to_get_one(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    if reason == "a name of nothing":
        monkeypatch.setenv("CHROMIUM", str(tmp_path / "absent"))
    elif reason == "another system":
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
    else:
        program(tmp_path, "npm").write_text("#!/bin/sh\nexit 1\n")
        program(tmp_path, "node")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        await chromium.program()


def test_an_archive_that_is_not_the_known_one_is_not_unpacked(tmp_path: Path) -> None:
    made, integrity = archive(tmp_path)
    npm_packages.unpack(made, integrity, tmp_path / "good")
    assert (tmp_path / "good" / "package" / "axe.min.js").read_text() == "ok"
    made.write_bytes(made.read_bytes() + b"x")
    with pytest.raises(UnavailableProgramError, match=r"and not .* as pinned in npm.integrity"):
        npm_packages.unpack(made, integrity, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
