"""A headless Chromium for tests and pictures: `$CHROMIUM`, the one on PATH, or one of npm in the cache, which needs no root.

The package @sparticuz/chromium holds Chromium for x86-64 Linux with the libraries and fonts that small systems lack.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sandbox.archives import extract_all
from sandbox.kubernetes.cache import UnavailableProgramError, cache_directory, digest, made_once
from sandbox.npm_packages import node, package, pinned

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOW: Final = (
    "this needs a Chromium: install one (as root on Debian: apt-get install chromium), or name one by the environment variable "
    "CHROMIUM. On x86-64 Linux it is fetched from npm (`make chromium`), which needs the network once"
)
_PACKAGE: Final = "@sparticuz/chromium"
_UNPACK: Final = (
    "const [from, to] = process.argv.slice(1), fs = require('fs'), zlib = require('zlib'); require('stream').pipeline("
    "fs.createReadStream(from), zlib.createBrotliDecompress(), fs.createWriteStream(to), e => { if (e) throw e })"
)
_UNPACK_SECONDS: Final = 300
_FONTS: Final = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""
"""The same fonts wherever a picture is made."""


@dataclass(frozen=True)
class Program:
    """The program, and the variables that it needs beside those of the process."""

    path: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_or_fetch() -> Program:
    """A Chromium. Raises UnavailableProgramError with the sentence how to get one."""
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        if shutil.which(found) is None:
            raise UnavailableProgramError(f"{found}, which CHROMIUM names, is no program: {HOW}")
        return Program(Path(found))
    if (platform.system(), platform.machine().lower()) not in {("Linux", "x86_64"), ("Linux", "amd64")}:
        raise UnavailableProgramError(HOW)
    try:
        home = _fetched()
    except UnavailableProgramError as failure:
        raise UnavailableProgramError(f"{HOW}. That failed: {failure}") from failure
    libraries = [str(home / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    variables = {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "FONTCONFIG_PATH": str(home)}
    return Program(home / "chromium", variables)


def _fetched() -> Path:
    """The folder with the program, its libraries and its fonts."""
    version, integrity = pinned(_PACKAGE)

    def unpack(unfinished: Path) -> None:
        packed = package(_PACKAGE) / "bin"
        _unpacked(packed / "chromium.br", unfinished / "chromium")
        (unfinished / "chromium").chmod(0o755)
        for name in ("al2023", "fonts", "swiftshader"):
            archive = unfinished / f"{name}.tar"
            _unpacked(packed / f"{name}.tar.br", archive)
            with tarfile.open(archive) as files:
                extract_all(files, unfinished)
            archive.unlink()
        # The package's own names the folders of a cloud that it is made for.
        (unfinished / "fonts.conf").write_text(_FONTS, encoding="utf-8")

    return made_once(cache_directory() / "chromium" / f"{version}-{digest([Path(__file__)], integrity)}", unpack)


def _unpacked(source: Path, target: Path) -> None:
    """Undo Brotli, which Node.js has in its own library."""
    command = [*node(), "-e", _UNPACK, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_UNPACK_SECONDS)
    if done.returncode != 0:
        raise UnavailableProgramError(f"{source.name} cannot be unpacked: {done.stderr.strip()[-300:]}")


def main() -> int:
    """Print where it is, after fetching it if need be."""
    try:
        print(find_or_fetch().path)
    except UnavailableProgramError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
