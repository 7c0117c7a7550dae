"""`kubectl cmk` in one file for each platform, which any Python from 3.11 on runs; and the archives that hold it.

Everything is pure Python except pydantic-core, which is there for each version of CPython (`release/launcher.py` chooses).
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release import launcher
from release.archives import files_below, tarred, zipped
from release.command_line import NAME, BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_COMPLETES: Final = b'#!/bin/sh\nexec "$(dirname -- "$0")/kubectl-cmk" __complete "$@"\n'
_WINDOWS: Final = b'@py -3 "%~dp0kubectl-cmk.pyz" %*\r\n'
_WINDOWS_COMPLETES: Final = b'@py -3 "%~dp0kubectl-cmk.pyz" __complete %*\r\n'
_NATIVE: Final = (".so", ".pyd")
_NOT_SHIPPED: Final = re.compile(r"^(bin/.*|\.lock)$|\.dist-info/(sboms/.*|RECORD|WHEEL|INSTALLER|REQUESTED|\w+\.json)$")


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and a processor, as kubectl and krew name them; `wheels` is uv's name of both."""

    system: str
    processor: str
    wheels: str

    @property
    def name(self) -> str:
        """Such as `linux-amd64`."""
        return f"{self.system}-{self.processor}"


PLATFORMS: Final = (
    Platform("linux", "amd64", "x86_64-unknown-linux-gnu"),
    Platform("linux", "arm64", "aarch64-unknown-linux-gnu"),
    Platform("darwin", "amd64", "x86_64-apple-darwin"),
    Platform("darwin", "arm64", "aarch64-apple-darwin"),
    Platform("windows", "amd64", "x86_64-pc-windows-msvc"),
)


def libraries(platform: Platform, lock: Path) -> dict[str, bytes]:
    """What the command line needs of others, for every version of Python, checked by the hashes of the lock.

    Raises `BuildError` if the index cannot be reached, or two versions need different files.
    """
    found: dict[str, bytes] = {}
    for python in PYTHONS:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *(str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
                *("--requirements", str(lock), "--target", folder, "--only-binary", ":all:", "--link-mode", "copy"),
                *("--python-platform", platform.wheels, "--python-version", python),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BuildError(f"the libraries for {platform.name} cannot be installed: {done.stderr.strip()}")
            more = shipped(files_below(Path(folder)))
        different = [name for name in found.keys() & more.keys() if found[name] != more[name]]
        if different:
            raise BuildError(f"Python {python} needs other files than the ones before: {', '.join(sorted(different))}")
        found |= more
    return found


def shipped(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The installed files without what differs by machine and wheel: programs, and notes of the installer and the build."""
    return {name: content for name, content in files.items() if not _NOT_SHIPPED.search(name)}


def one_file(parts: Iterable[Mapping[str, bytes]]) -> bytes:
    """The file of libraries and the command line's own files; the same bytes at every run."""
    files = {name: content for part in parts for name, content in part.items()}
    packed = {f"{launcher.NATIVE if name.endswith(_NATIVE) else launcher.LIBRARIES}{name}": files[name] for name in files}
    digest = hashlib.sha256()
    for name in sorted(packed):
        digest.update(name.encode() + b"\0" + hashlib.sha256(packed[name]).digest())
    start = Path(launcher.__file__).read_bytes() + b"\n\nmain()\n"
    return _SHEBANG + zipped(packed | {launcher.CONTENT: digest.hexdigest().encode(), "__main__.py": start})


def archive(platform: Platform, version: str, program: bytes) -> tuple[str, bytes]:
    """The name and content of what people download and put on their PATH: the program, and how kubectl completes it."""
    name = f"{NAME}-{version}-{platform.name}"
    if platform.system == "windows":
        files = {"kubectl-cmk.pyz": program, "kubectl-cmk.cmd": _WINDOWS, "kubectl_complete-cmk.cmd": _WINDOWS_COMPLETES}
        return f"{name}.zip", zipped(files)
    files = {"kubectl-cmk": program, "kubectl_complete-cmk": _COMPLETES}
    return f"{name}.tar.gz", tarred(files, programs=files.keys())
