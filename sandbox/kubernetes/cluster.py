"""A Kubernetes API server for the sandbox: a real kube-apiserver with its etcd on loopback, or one that exists already."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.kubernetes import binaries
from sandbox.kubernetes.credentials import ClusterCredentials, write_kubeconfig
from sandbox.kubernetes.processes import ServerProcess
from sandbox.kubernetes.servers import APISERVER_RECORD, ETCD_RECORD, ClusterError, readable, start_servers, wait_until_ready

if TYPE_CHECKING:
    from pathlib import Path

ISSUER_DISCOVERY = "system:service-account-issuer-discovery"


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server that answers, with the administrator's `kubeconfig`.

    `issuer` is what its ServiceAccount tokens carry as `iss`; `<issuer>/.well-known/openid-configuration` can be read there
    without credentials by anyone who trusts `ca_file`. `processes` is empty if the server was not started here.
    """

    server: str
    issuer: str
    ca_file: Path
    kubeconfig: Path
    processes: tuple[ServerProcess, ...] = ()

    @property
    def running(self) -> bool:
        """Whether every process that was started for this cluster still runs."""
        return all(process.running for process in self.processes)

    def stop(self) -> None:
        """End what `start` started, the API server before its etcd; an existing cluster is left alone."""
        for process in self.processes:
            process.stop()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return what it printed.

        Raises `ClusterError` with kubectl's own message when it fails.
        """
        return kubectl(self.kubeconfig, *arguments, stdin=stdin)

    def service_account_token(self, namespace: str, name: str, audience: str | None = None, seconds: int = 3600) -> str:
        """Return a new token of a ServiceAccount (TokenRequest API); without `audience` it is for the API server itself.

        The API server refuses less than 600 seconds.
        """
        wanted = [] if audience is None else ["--audience", audience]
        command = ["create", "token", name, "--namespace", namespace, "--duration", f"{seconds}s", *wanted]
        return self.kubectl(*command).strip()

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path, hours: float = 8) -> Path:
        """Write to `path` a kubeconfig with which a program is this ServiceAccount, and nobody else, for some hours."""
        token = self.service_account_token(namespace, name, seconds=int(hours * 3600))
        return write_kubeconfig(path, server=self.server, ca_file=self.ca_file, user={"token": token}, namespace=namespace)


def start(directory: Path) -> Cluster:
    """Start etcd and kube-apiserver with an empty store below `directory`, and return when `/readyz` says ok.

    The first call on a machine builds both, which takes minutes. Raises `ClusterError` with the end of the server's log when it
    does not come up, and `UnavailableProgramError` when it cannot be built.
    """
    programs = (binaries.etcd(), binaries.kube_apiserver(), binaries.kubectl())
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    directory = directory.resolve()
    credentials = ClusterCredentials.create(directory)
    server, processes = start_servers(directory, credentials, etcd=programs[0], kube_apiserver=programs[1])
    kubeconfig = write_kubeconfig(
        directory / "kubeconfig", server=server, ca_file=credentials.ca_file, user=credentials.admin_user()
    )
    cluster = Cluster(server, server, credentials.ca_file, kubeconfig, processes)
    (directory / "server").write_text(server)
    try:
        _publish_issuer(cluster)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def recorded(directory: Path) -> Cluster | None:
    """Return the cluster that `start` left below `directory`, or `None` if there was none; its parts may have ended since."""
    directory = directory.resolve()
    found = [ServerProcess.recorded(directory / name) for name in (APISERVER_RECORD, ETCD_RECORD)]
    processes = tuple(process for process in found if process is not None)
    if not processes:
        return None
    try:
        server = (directory / "server").read_text().strip()
    except OSError:  # it was interrupted while it started; there is still something to stop
        server = ""
    return Cluster(server, server, directory / "ca.crt", directory / "kubeconfig", processes)


def from_kubeconfig(kubeconfig: Path, directory: Path) -> Cluster:
    """Take an existing cluster, in the current context of `kubeconfig`, whose authority's certificate goes to `directory`.

    Nothing is changed in it. Raises `ClusterError` when its issuer cannot be read without credentials under the cluster's own
    authority, since then the simulated Entra could check no ServiceAccount's token.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    view = json.loads(kubectl(kubeconfig, "config", "view", "--minify", "--raw", "--flatten", "--output", "json"))
    described = view["clusters"][0]["cluster"]
    ca_file = directory / "ca.crt"
    ca_file.write_bytes(base64.b64decode(described.get("certificate-authority-data", "")))
    issuer = str(json.loads(kubectl(kubeconfig, "get", "--raw", "/.well-known/openid-configuration"))["issuer"])
    for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
        if not readable(issuer + path, ca_file):
            raise ClusterError(
                f"{issuer}{path} cannot be read from here without credentials. The simulated Entra reads it to check tokens, as Azure "
                "does: start the API server with --service-account-issuer set to its own address, and bind the ClusterRole: "
                f"kubectl create clusterrolebinding issuer-discovery --clusterrole={ISSUER_DISCOVERY} --group=system:unauthenticated"
            )
    return Cluster(str(described["server"]), issuer, ca_file, kubeconfig)


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl with `kubeconfig` and return what it printed; raises `ClusterError` with its message when it fails."""
    command = [str(binaries.kubectl()), "--kubeconfig", str(kubeconfig), *arguments]
    answer = subprocess.run(command, input=stdin or "", capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise ClusterError(f"kubectl {' '.join(arguments[:3])}: {answer.stderr.strip()}")
    return answer.stdout


def _publish_issuer(cluster: Cluster) -> None:
    """Let everybody read the issuer's metadata and public keys, as Azure must be able to (Kubernetes docs, issuer discovery)."""
    binding = ["create", "clusterrolebinding", "service-account-issuer-discovery", "--group=system:unauthenticated"]
    cluster.kubectl(*binding, f"--clusterrole={ISSUER_DISCOVERY}")
    wait_until_ready(cluster.issuer + "/openid/v1/jwks", cluster.ca_file, cluster.processes)
