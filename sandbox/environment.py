"""The whole sandbox, Kubernetes and Azure, as one thing that is started, found again and stopped."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import az_cli
from sandbox.azure import process as azure_process
from sandbox.kubernetes import binaries, cluster
from sandbox.kubernetes.cache import say
from sandbox.kubernetes.processes import ServerProcess
from sandbox.kubernetes.servers import ClusterError
from sandbox.operator_process import start_operator

if TYPE_CHECKING:
    from sandbox.azure.process import AzureProcess
    from sandbox.operator_process import OperatorProcess

MARK = ".cmk-operator-sandbox"
AZURE_RECORD = "azure.process.json"
OPERATOR_RECORD = "operator.process.json"
KEY_SERVICE_RECORD = "keyservice.process.json"
CONSOLE_RECORD = "console.process.json"
SECOND_STORY = "second-story"
"""Folder of what the demo's second story starts: PostgreSQL, the key service and its console."""
ENVIRONMENT_FILE = "env"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running Kubernetes API server and a simulated Azure that trusts its ServiceAccount tokens.

    `env` are the variables with which any Azure or Kubernetes client uses both (names: README, "The sandbox").
    """

    directory: Path
    cluster: cluster.Cluster
    azure: AzureProcess
    env: dict[str, str]

    def stop(self) -> None:
        """End what `start` started."""
        self.azure.stop()
        self.cluster.stop()
        (self.directory / ENVIRONMENT_FILE).unlink(missing_ok=True)


def start(directory: Path, existing: Path | None = None, *, clock_scale: float = 1.0) -> Sandbox:
    """Start everything below `directory` and write `directory/env`; what an earlier call left running there is ended first.

    With `existing`, a kubeconfig, that cluster is used instead of a local one. `clock_scale` is how much faster than ours the
    time of the simulated Azure goes. Raises `ClusterError`, `AzureDidNotStartError` or `UnavailableProgramError` with what to do.
    """
    stop(directory)
    directory = _claimed(directory)
    kubernetes = directory / "kubernetes"
    running = cluster.start(kubernetes) if existing is None else cluster.from_kubeconfig(existing, kubernetes)
    say(f"Kubernetes: {running.server}")
    try:
        azure = azure_process.start(directory / "azure", oidc_ca=running.ca_file, clock_scale=clock_scale)
    except BaseException:
        running.stop()
        raise
    sandbox = Sandbox(directory, running, azure, {"KUBECONFIG": str(running.kubeconfig), **azure.env})
    try:
        ServerProcess.of("simulated Azure", azure.pid, directory / AZURE_RECORD)
        _write_environment(directory, sandbox.env)
    except BaseException:
        sandbox.stop()
        raise
    say(f"Azure: simulated, behind the proxy {azure.env['HTTPS_PROXY']}")
    return sandbox


def run_operator(directory: Path) -> OperatorProcess:
    """Start the operator of the chart that is installed, in place of a node; one that was started so before is ended first.

    Raises `ClusterError` if nothing was started below `directory`, or the chart is not installed there, and
    `OperatorDidNotStartError`.
    """
    directory = directory.resolve()
    file = directory / ENVIRONMENT_FILE
    if not file.is_file():
        raise ClusterError(f"there is no {file}; start the sandbox with: make sandbox")
    words = (word for line in file.read_text().splitlines() for word in shlex.split(line)[1:])
    env = dict(word.split("=", 1) for word in words)
    if running := ServerProcess.recorded(directory / OPERATOR_RECORD):
        running.stop()
    operator = start_operator(
        cluster.from_kubeconfig(Path(env["KUBECONFIG"]), directory / "kubernetes"), env, directory / "operator"
    )
    ServerProcess.of("operator", operator.pid, directory / OPERATOR_RECORD)
    return operator


def processes(directory: Path) -> list[ServerProcess]:
    """Return the processes that `start` left below `directory`, running or not, in the order in which to stop them."""
    azure = ServerProcess.recorded(directory / AZURE_RECORD)
    kubernetes = cluster.recorded(directory / "kubernetes")
    records = (CONSOLE_RECORD, KEY_SERVICE_RECORD, f"{SECOND_STORY}/postgresql/postgresql.json", OPERATOR_RECORD)
    found = [process for record in records if (process := ServerProcess.recorded(directory / record))]
    return [*found, *([azure] if azure else []), *(kubernetes.processes if kubernetes else ())]


def stop(directory: Path) -> list[ServerProcess]:
    """End what `start` left running below `directory`, remove what it wrote, and return the processes that had to be ended.

    A process that only happens to have the id of one of ours is never touched, nor a folder that `start` did not make its own.
    """
    if not (directory / MARK).exists():
        return []
    ended = [process for process in processes(directory) if process.running]
    for process in ended:
        process.stop()
    for name in (ENVIRONMENT_FILE, AZURE_RECORD, OPERATOR_RECORD, KEY_SERVICE_RECORD, CONSOLE_RECORD):
        (directory / name).unlink(missing_ok=True)
    for name in ("kubernetes", "azure", "bin", "operator", "az", SECOND_STORY):
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / MARK).unlink()
    if not any(directory.iterdir()):
        directory.rmdir()
    return ended


def _claimed(directory: Path) -> Path:
    """Make `directory` and mark it as the sandbox's own, so that `stop` may remove things in it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (directory / MARK).exists() and any(directory.iterdir()):
        raise ClusterError(f"{directory} has files of somebody else in it: name an empty folder, or one that does not exist")
    (directory / MARK).touch()
    return directory.resolve()


def _write_environment(directory: Path, env: dict[str, str]) -> None:
    """Write `env`, which only its owner can read since it has administrators' secrets in it, and `bin/` with the programs."""
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    plugin = Path(sys.executable).with_name("kubectl-cmk")
    for program in (binaries.kubectl(), binaries.helm(), *([plugin] if plugin.exists() else [])):
        (programs / program.name).symlink_to(program)
    if az := az_cli.found():
        script = programs / "az"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(az)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    lines.append(f'export PATH={shlex.quote(str(programs))}:"$PATH"')
    file = directory / ENVIRONMENT_FILE
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write("\n".join(lines) + "\n")
