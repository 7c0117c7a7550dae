"""Server processes that outlive the program that started them, and are only stopped while they are still the same ones."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable


STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process known by its id and the moment it started: ids are reused by the system, the pair is not."""

    name: str
    pid: int
    started: str

    @classmethod
    def start(cls, name: str, command: Iterable[str | Path], log: Path, record: Path) -> Self:
        """Start `command` in a session of its own, its output going to `log`, and write into `record` which process it is."""
        words = [str(word) for word in command]
        opened = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        pid = os.posix_spawn(
            words[0],
            words,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), opened, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        return cls.of(name, pid, record)

    @classmethod
    def of(cls, name: str, pid: int, record: Path) -> Self:
        """Return a running process that somebody else started, and write down in `record` which one it is."""
        process = cls(name, pid, _started(pid))
        record.write_text(json.dumps(asdict(process)))
        return process

    @classmethod
    def recorded(cls, record: Path) -> Self | None:
        """Return the process that `record` tells of, or `None` if there is no such record; whether it runs is another question."""
        try:
            return cls(**json.loads(record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def running(self) -> bool:
        """Whether this very process still runs."""
        alive = self.started != "" and _started(self.pid) == self.started
        if not alive:
            with contextlib.suppress(ChildProcessError):  # another program started it, and collects its exit code
                os.waitpid(self.pid, os.WNOHANG)
        return alive

    def stop(self) -> None:
        """End the process and wait until it is gone: by SIGTERM, after 15 seconds by SIGKILL. Does nothing if it is gone."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while self.running and time.monotonic() < deadline:
                time.sleep(0.02)


def _started(pid: int) -> str:
    """Return when `pid` started, as the system writes it, or `""` if it is gone or only its exit code is left (zombie)."""
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        # proc(5): after the name in parentheses, field 3 is the state and field 22 the start time in clock ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in {"Z", "X"} else fields[19]
    except (FileNotFoundError, ProcessLookupError):  # the second if it ends between open and read
        if Path("/proc/self").is_dir():
            return ""
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], env=environment, capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


_PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections (from 32768): one of those could be taken while a server restarts."""


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports that nothing listens on at 127.0.0.1 at the moment of the call."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(_PORTS, len(_PORTS)):
            listener = stack.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise OSError("no free port below the outgoing ones")
