"""The first module of the one-file `kubectl cmk`: unpacks what belongs to this Python once, and runs it.

It imports the standard library alone, and also runs on a Python that is too old, to say so.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

CONTENT, LIBRARIES, NATIVE = "CONTENT", "libraries/", "native/"


def main() -> None:
    """Run the command line from its unpacked libraries."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this one file starts in any Python 3
        sys.exit(f"Error: kubectl cmk needs Python 3.11 or newer; python3 is {sys.version_info[0]}.{sys.version_info[1]}")
    with zipfile.ZipFile(Path(__file__).parent) as opened:
        content = opened.read(CONTENT).decode("ascii")
        natives = [name for name in opened.namelist() if name.startswith(NATIVE)]
        chosen = [name for name in natives if name.endswith(tuple(EXTENSION_SUFFIXES))]
        if natives and not chosen:
            there = ", ".join(sorted({name.rpartition("/")[2].partition(".")[2] for name in natives}))
            sys.exit(
                f"Error: this file is not for the Python of this machine ({EXTENSION_SUFFIXES[0][1:]}) but for: {there}. "
                "Take the file of your platform, or install the wheel (docs/cli.md)"
            )
        names = [name for name in opened.namelist() if name.startswith(LIBRARIES)] + chosen
        place = _unpacked(opened, names, _cache() / f"{content}-{sys.implementation.cache_tag}")
    sys.path[0] = str(place)
    from cmk_operator.cli.__main__ import main as run  # noqa: PLC0415 - it is on the path only now

    run()


def _cache() -> Path:
    """The folder for what can be made again, where each system has it. Sources: XDG Base Directory; Apple; Microsoft."""
    home, given = os.path.expanduser("~"), os.environ.get  # noqa: PTH111 - Path.home() raises where there is none
    if sys.platform == "win32":
        return Path(given("LOCALAPPDATA") or f"{home}/AppData/Local", "kubectl-cmk")
    if sys.platform == "darwin":
        return Path(home, "Library", "Caches", "kubectl-cmk")
    return Path(given("XDG_CACHE_HOME") or f"{home}/.cache", "kubectl-cmk")


def _unpacked(opened: zipfile.ZipFile, names: list[str], place: Path) -> Path:
    """The folder with the libraries; where nothing can be kept, one for this run alone."""
    if place.is_dir():
        return place
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent))
        kept = True
    except OSError:
        made = Path(tempfile.mkdtemp(prefix="kubectl-cmk-"))
        kept = False
    for name in names:
        target = made.joinpath(*name.split("/")[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(opened.read(name))
    if kept:
        try:
            return made.rename(place)
        except OSError:  # another process was first, and its folder is complete
            if place.is_dir():
                shutil.rmtree(made, ignore_errors=True)
                return place
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
