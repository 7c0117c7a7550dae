"""A real API server that dies and comes back on the same port with the same store."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.kubernetes.processes import ServerProcess
from sandbox.kubernetes.servers import APISERVER_RECORD, wait_until_ready

if TYPE_CHECKING:
    from sandbox.kubernetes.cluster import Cluster

PATIENCE = 60.0


def restart_api_server(cluster: Cluster) -> None:
    """SIGKILL kube-apiserver and start it again as it was started; its etcd goes on."""
    directory = cluster.ca_file.parent
    server = ServerProcess.recorded(directory / APISERVER_RECORD)
    assert server is not None
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    os.kill(server.pid, signal.SIGKILL)
    _until_port_is_free(int(cluster.server.rsplit(":", 1)[1]))
    again = ServerProcess.start(server.name, command, directory / "kube-apiserver.log", directory / APISERVER_RECORD)
    wait_until_ready(f"{cluster.server}/readyz", cluster.ca_file, (again,))


def _until_port_is_free(port: int) -> None:
    """Wait until nobody listens any more: a killed process can look ended while its other threads still hold the socket."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                assert time.monotonic() < deadline, f"port {port} stayed in use"
            else:
                return
