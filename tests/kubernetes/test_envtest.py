"""The published archive of the local Kubernetes' programs: downloaded by its hash, or else not used."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import socket
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes import binaries, envtest
from sandbox.kubernetes.cache import UnavailableProgramError
from sandbox.kubernetes.envtest import Archive
from sandbox.kubernetes.go_modules import GoProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "envtest-v9.9.9-linux-amd64.tar.gz"


def _archive(*names: str) -> bytes:
    """An archive with the published ones' layout (hack/envtest/linux/Dockerfile of controller-tools)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in names:
            content = f"#!/bin/sh\necho {name}\n".encode()
            member = tarfile.TarInfo(f"controller-tools/envtest/{name}")
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


CONTENT = _archive(*envtest.PROGRAMS)
PINNED = Archive(NAME, hashlib.sha512(CONTENT).hexdigest())


@pytest.fixture
def published() -> Iterator[Callable[..., str]]:
    """Serves a body on loopback and returns its address; `claimed` is a Content-Length other than the true one."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(body: bytes, *, claimed: int | None = None) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(claimed or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/{NAME}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_programs_come_out_of_an_archive_with_the_pinned_hash(tmp_path: Path, published: Callable[..., str]) -> None:
    envtest.fetch(PINNED, tmp_path, published(CONTENT))
    assert {path.name for path in tmp_path.iterdir()} == set(envtest.PROGRAMS)
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("body", "claimed", "words"),
    [
        (b"<html>Sign in to the proxy</html>", None, "not used: its SHA-512 is .* and not .* as pinned"),
        (CONTENT[:-20], len(CONTENT), "ended after"),
        (_archive("etcd"), None, "SHA-512"),
    ],
    ids=["another file", "a part of it", "another archive"],
)
def test_nothing_but_the_pinned_archive_is_used(
    tmp_path: Path, published: Callable[..., str], body: bytes, claimed: int | None, words: str
) -> None:
    with pytest.raises(UnavailableProgramError, match=words):
        envtest.fetch(PINNED, tmp_path, published(body, claimed=claimed))
    assert not any((tmp_path / name).exists() for name in envtest.PROGRAMS)


def test_an_archive_without_one_of_the_programs_is_refused(tmp_path: Path, published: Callable[..., str]) -> None:
    body = _archive("etcd", "kubectl")
    with pytest.raises(UnavailableProgramError, match="has no kube-apiserver"):
        envtest.fetch(Archive(NAME, hashlib.sha512(body).hexdigest()), tmp_path, published(body))


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envtest, "CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(UnavailableProgramError, match="no answer within"):
            envtest.fetch(PINNED, tmp_path, address)


def test_without_a_network_the_programs_are_built_and_the_reason_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = Path("/built")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(GoProgram, "built", lambda program: built / program.name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr(envtest, "RELEASES", refused)
    envtest.downloaded.cache_clear()
    try:
        assert (binaries.etcd(), binaries.kube_apiserver()) == (built / "etcd", built / "kube-apiserver")
    finally:
        envtest.downloaded.cache_clear()
    assert capsys.readouterr().err.count("Building the programs instead") == 1


def test_what_was_downloaded_is_used_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Callable[..., str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(envtest, "pinned", lambda: PINNED)
    monkeypatch.setattr(Archive, "url", property(lambda _: published(CONTENT)))
    envtest.downloaded.cache_clear()
    binaries.kubectl.cache_clear()
    try:
        assert binaries.etcd() == PINNED.directory / "etcd"
        monkeypatch.delattr(Archive, "url")
        assert binaries.kube_apiserver() == PINNED.directory / "kube-apiserver"
        assert binaries.kubectl() == PINNED.directory / "kubectl"
    finally:
        envtest.downloaded.cache_clear()
        binaries.kubectl.cache_clear()


@pytest.mark.parametrize(
    ("system", "machine", "file"),
    [
        ("Linux", "x86_64", "linux-amd64"),
        ("Linux", "aarch64", "linux-arm64"),
        ("Darwin", "arm64", "darwin-arm64"),
        ("Darwin", "x86_64", "darwin-amd64"),
    ],
)
def test_each_system_has_an_archive_of_one_release(system: str, machine: str, file: str) -> None:
    archive = envtest.pinned(system, machine)
    assert archive is not None
    release = re.fullmatch(rf"(envtest-v[0-9.]+)-{file}\.tar\.gz", archive.name)
    assert release is not None
    assert re.fullmatch(r"[0-9a-f]{128}", archive.sha512)
    assert archive.url == f"{envtest.RELEASES}/{release[1]}/{archive.name}"


@pytest.mark.parametrize(("system", "machine"), [("Linux", "riscv64"), ("SunOS", "x86_64")])
def test_a_system_without_an_archive_builds(system: str, machine: str) -> None:
    assert envtest.pinned(system, machine) is None


@pytest.mark.parametrize(
    ("name", "answer", "taken"),
    [
        ("kube-apiserver", "Kubernetes v1.36.2", True),
        ("kube-apiserver", "Kubernetes v1.32.9", False),
        ("etcd", "etcd Version: 3.6.8", True),
        ("etcd", "etcd Version: 3.4.30", False),
        ("etcd", "", False),
    ],
)
def test_the_machines_own_program_is_taken_if_it_is_recent_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, answer: str, *, taken: bool
) -> None:
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    found = {"etcd": binaries.etcd, "kube-apiserver": binaries.kube_apiserver}[name]()
    assert (found == program) is taken
    assert ("it is not used" in capsys.readouterr().err) is not taken
