"""The keys and certificates of a local Kubernetes, and the kubeconfig files that use them."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class ClusterCredentials:
    """The files that kube-apiserver is started with; the certificates are issued by an authority made for this one cluster."""

    ca_file: Path
    server_certificate: Path
    server_key: Path
    service_account_key: Path
    admin_certificate: bytes
    admin_key: bytes

    @classmethod
    def create(cls, directory: Path) -> ClusterCredentials:
        """Make a certificate authority, the server's and the administrator's certificate, and the key that signs tokens.

        The administrator is in the group `system:masters`, which may do everything (Kubernetes docs, RBAC, user-facing roles).
        """
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost", "kubernetes.default.svc", common_name="kube-apiserver")
        admin = authority.issue_cert("admin@sandbox.invalid", common_name="sandbox-admin", organization_name="system:masters")
        signing = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        return cls(
            ca_file=_written(directory / "ca.crt", authority.cert_pem.bytes()),
            server_certificate=_written(directory / "server.crt", b"".join(pem.bytes() for pem in server.cert_chain_pems)),
            server_key=_written(directory / "server.key", server.private_key_pem.bytes()),
            service_account_key=_written(directory / "service-account.key", signing),
            admin_certificate=b"".join(pem.bytes() for pem in admin.cert_chain_pems),
            admin_key=admin.private_key_pem.bytes(),
        )

    def admin_user(self) -> dict[str, str]:
        """Return the administrator as the `user` of a kubeconfig."""
        return {"client-certificate-data": _base64(self.admin_certificate), "client-key-data": _base64(self.admin_key)}


def write_kubeconfig(path: Path, *, server: str, ca_file: Path, user: dict[str, str], namespace: str = "default") -> Path:
    """Write a kubeconfig with one context (Kubernetes docs, kubeconfig v1), readable by its owner only; returns `path`."""
    cluster: dict[str, Any] = {"server": server, "certificate-authority-data": _base64(ca_file.read_bytes())}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "user", "namespace": namespace}}],
        "current-context": "sandbox",
    }
    return _written(path, yaml.safe_dump(content, sort_keys=False).encode())


def _written(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        file.write(content)
    return path


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
