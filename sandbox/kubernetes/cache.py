"""Where programs that were built or installed once are kept, and how two processes agree who makes them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PROGRESS_SECONDS = 20.0


class UnavailableProgramError(RuntimeError):
    """A program could be neither found nor made; the message says what to install or to run."""


def cache_directory() -> Path:
    """Return the folder of this project's programs, under `XDG_CACHE_HOME` (XDG Base Directory specification) or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "cmk-operator"


def say(message: str) -> None:
    """Print one line of progress at once, on standard error so that a command's own output stays clean."""
    print(message, file=sys.stderr, flush=True)


def digest(files: Iterable[Path], settings: str = "") -> str:
    """Return 16 hexadecimal digits that change with `files`, `settings`, and the machine's system and architecture."""
    total = hashlib.sha256(f"{platform.system()} {platform.machine()} {settings}".encode())
    for file in sorted(files):
        total.update(f"\n{file.name}\n".encode() + file.read_bytes())
    return total.hexdigest()[:16]


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder `target`, after `make` filled it if it did not exist.

    `make` gets an empty folder beside it, which is renamed when `make` returned: nobody ever sees half of it. A lock on a file
    beside it keeps a second process waiting instead of doing the same work; the system frees the lock if the first one dies.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(target.name + ".lock")):
        if not target.is_dir():
            unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
            try:
                make(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process is making {path.stem}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_with_progress(
    what: str, command: Sequence[str | Path], *, directory: Path, environment: Mapping[str, str], log: Path
) -> None:
    """Run `command` in `directory` and tell every 20 seconds that it still runs.

    Its output goes to `log`; raises `UnavailableProgramError` with the end of it when the command fails.
    """
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        while process.returncode is None:
            try:
                process.wait(PROGRESS_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"  … {what}: {time.monotonic() - started:.0f} s")
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise UnavailableProgramError(
            f"{what} failed with exit code {process.returncode}; all of its output is in {log}, the end is:\n{end}"
        )
    say(f"  {what}: done in {time.monotonic() - started:.0f} s")
