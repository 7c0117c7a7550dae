"""kube-apiserver, etcd and kubectl as the Kubernetes community publishes them for tests: one archive, known by its hash.

The archives and their SHA-512 are listed in envtest-releases.yaml of kubernetes-sigs/controller-tools; `SHA512SUMS` beside the Go
modules has the lines of one release, for the systems that this project knows.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import queue
import tarfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sandbox.kubernetes.cache import PROGRESS_SECONDS, UnavailableProgramError, cache_directory, made_once, say

if TYPE_CHECKING:
    from http.client import HTTPResponse

PINS = Path(__file__).resolve().parent / "binaries" / "envtest" / "SHA512SUMS"
RELEASES = "https://github.com/kubernetes-sigs/controller-tools/releases/download"
PROGRAMS = ("kube-apiserver", "etcd", "kubectl")
CONNECT_SECONDS = 5.0
SILENT_SECONDS = 20.0
MOST_SECONDS = 300.0
"""Longest download: after that, building the programs is as fast."""
CHUNK = 1 << 18
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Archive:
    """One published archive: its file name, such as `envtest-v1.36.2-linux-amd64.tar.gz`, and its SHA-512 in hexadecimal digits."""

    name: str
    sha512: str

    @property
    def url(self) -> str:
        """Where it is published: below the release, whose name is the file's without system and architecture."""
        release = "-".join(self.name.split("-")[:2])
        return f"{RELEASES}/{release}/{self.name}"

    @property
    def directory(self) -> Path:
        """The folder in the cache with its programs, whether they are there or not."""
        return cache_directory() / "envtest" / f"{self.name.removesuffix('.tar.gz')}-{self.sha512[:16]}"

    def program(self, name: str) -> Path | None:
        """Return a program of it that was downloaded before."""
        found = self.directory / name
        return found if found.is_file() else None


def pinned(system: str | None = None, machine: str | None = None) -> Archive | None:
    """Return the archive for a system and an architecture (this machine's by default), or `None` if none is pinned."""
    architecture = ARCHITECTURES.get((machine or platform.machine()).lower(), "")
    ending = f"-{(system or platform.system()).lower()}-{architecture}.tar.gz"
    for line in PINS.read_text().splitlines():
        digits, name = line.split()
        if name.endswith(ending):
            return Archive(name, digits)
    return None


@cache
def downloaded() -> Path | None:
    """Return the folder with the programs, after downloading the archive if need be; `None` if that is not possible.

    The reason is said on standard error. It is tried once in the life of a process.
    """
    archive = pinned()
    if archive is None:
        say(f"No archive of the Kubernetes project is pinned for {platform.system()} {platform.machine()}: building instead.")
        return None
    try:
        return made_once(archive.directory, lambda unfinished: fetch(archive, unfinished))
    except UnavailableProgramError as failure:
        say(f"  {failure}\n  Building the programs instead, which needs Go modules only.")
        return None


def fetch(archive: Archive, directory: Path, url: str | None = None) -> None:
    """Download `archive`, check its SHA-512, and put its programs into `directory`.

    Raises `UnavailableProgramError` if there is no connection within five seconds, the download ends early or lasts longer than
    five minutes, the hash is not the pinned one, or a program is missing.
    """
    url = url or archive.url
    say(f"Downloading {', '.join(PROGRAMS)} for the local Kubernetes, once: {url}")
    file = directory / archive.name
    started = time.monotonic()
    try:
        with _connected(url) as answer, file.open("wb") as out:
            digits = _copied(answer, out, started)
    except (OSError, http.client.HTTPException) as failure:
        raise UnavailableProgramError(f"The download failed: {getattr(failure, 'reason', failure)}.") from failure
    if digits != archive.sha512:
        raise UnavailableProgramError(
            f"What was downloaded is not used: its SHA-512 is {digits[:16]}…, and not {archive.sha512[:16]}… as pinned in {PINS.name}."
        )
    _extract(file, directory)
    file.unlink()
    say(f"  downloaded and checked in {time.monotonic() - started:.0f} s")


def _connected(url: str) -> HTTPResponse:
    """Return the answer to a GET; raises `TimeoutError` if it has not begun within `CONNECT_SECONDS`.

    A thread waits for it, because looking up a name has no bound of its own. Nobody waits for the thread.
    """
    answers: queue.SimpleQueue[HTTPResponse | OSError | http.client.HTTPException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=SILENT_SECONDS))  # noqa: S310 -- the address is a constant of ours
        except (OSError, http.client.HTTPException) as failure:
            answers.put(failure)

    threading.Thread(target=ask, name="download", daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {CONNECT_SECONDS:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _copied(answer: HTTPResponse, out: IO[bytes], started: float) -> str:
    """Write the body to `out` and return its SHA-512; tells every 20 seconds how far it is."""
    total = int(answer.headers.get("Content-Length") or 0)
    digest, size, told = hashlib.sha512(), 0, time.monotonic()
    while chunk := answer.read(CHUNK):
        digest.update(chunk)
        size += out.write(chunk)
        now = time.monotonic()
        if now - started > MOST_SECONDS:
            raise TimeoutError(f"{_megabytes(size)} of {_megabytes(total)} came in {MOST_SECONDS:.0f} s")
        if now - told > PROGRESS_SECONDS:
            told = now
            say(f"  … {_megabytes(size)} of {_megabytes(total)} after {now - started:.0f} s")
    if size < total:
        raise ConnectionError(f"it ended after {_megabytes(size)} of {_megabytes(total)}")
    return digest.hexdigest()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size else "an unknown size"


def _extract(file: Path, directory: Path) -> None:
    """Take the programs out of the archive, whatever folder they are in there, and nothing else."""
    with tarfile.open(file) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
        for name in PROGRAMS:
            content = archive.extractfile(members[name]) if name in members else None
            if content is None:
                raise UnavailableProgramError(f"{file.name} has no {name} in it.")
            program = directory / name
            with content, os.fdopen(os.open(program, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755), "wb") as out:
                while chunk := content.read(CHUNK):
                    out.write(chunk)
