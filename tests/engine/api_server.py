"""A real API server that dies and comes back on the same port with the same store."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.kubernetes.processes import ServerProcess
from sandbox.kubernetes.servers import APISERVER_RECORD, wait_until_ready

if TYPE_CHECKING:
    from sandbox.kubernetes.cluster import Cluster


def restart_api_server(cluster: Cluster) -> None:
    """SIGKILL kube-apiserver and start it again as it was started; its etcd goes on."""
    directory = cluster.ca_file.parent
    server = ServerProcess.recorded(directory / APISERVER_RECORD)
    assert server is not None
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    os.kill(server.pid, signal.SIGKILL)
    while server.running:
        pass
    again = ServerProcess.start(server.name, command, directory / "kube-apiserver.log", directory / APISERVER_RECORD)
    wait_until_ready(f"{cluster.server}/readyz", cluster.ca_file, (again,))
