"""Removes custom resource definitions, for tests of an operator that finds none."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox.kubernetes.servers import ClusterError

if TYPE_CHECKING:
    from sandbox.kubernetes.cluster import Cluster


def delete_definitions(cluster: Cluster, *names: str) -> None:
    """Delete definitions, and return when they are gone.

    While the API server loads the storage of a definition that was just changed, its own finalizer fails with "storage is
    (re)initializing", and then waits for minutes, because each failure doubles its pause. A change of the definition ends the pause.
    """
    cluster.kubectl("delete", "crd", *names, "--wait=false")
    attempt = 0
    while left := cluster.kubectl("get", "crd", *names, "--ignore-not-found", "--output", "name").split():
        attempt += 1
        with suppress(ClusterError):  # gone in the meantime
            cluster.kubectl("annotate", *left, f"tests.cmk-operator.dev/attempt={attempt}", "--overwrite")
