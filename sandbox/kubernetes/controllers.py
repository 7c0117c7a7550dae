"""kube-controller-manager beside a local API server, for what the server alone does not do.

That is: deleting a namespace to its end, collecting garbage, making default ServiceAccounts, filling aggregated roles. Few
tests need it: `make controller-manager` builds it, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kubernetes.processes import ServerProcess, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
)


def start_controllers(cluster: Cluster, program: Path, directory: Path) -> ServerProcess:
    """Start `CONTROLLERS`, as administrator of `cluster`; the log goes to `directory`. Whoever calls stops it before the cluster."""
    [port] = free_ports(1)
    return ServerProcess.start(
        "kube-controller-manager",
        [
            program,
            f"--kubeconfig={cluster.kubeconfig}",
            f"--authentication-kubeconfig={cluster.kubeconfig}",
            f"--authorization-kubeconfig={cluster.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory}",
        ],
        directory / "kube-controller-manager.log",
        directory / "kube-controller-manager.process.json",
    )
