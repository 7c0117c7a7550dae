"""Requests to the API server as they are, so that hundreds of manifests are judged in seconds."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import yaml

from tests.admission.manifests import API_VERSION, KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

NAMESPACE = "admission"


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and message of each complaint."""
        found = self.body.get("details", {}).get("causes", [])
        return [(cause.get("field", ""), cause["message"]) for cause in found]

    @property
    def message(self) -> str:
        """The complaint as kubectl prints it."""
        return str(self.body.get("message", ""))


class Api:
    """One connection as the administrator."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        user = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]
        pair = directory / "administrator.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(b"".join(base64.b64decode(user[name]) for name in ("client-certificate-data", "client-key-data")))
        tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        tls.load_cert_chain(pair)
        self._connection = http.client.HTTPSConnection(urlsplit(cluster.server).netloc, context=tls, timeout=30)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str) -> Answer:
        """Send one request."""
        target = f"{path}?{urlencode(query)}" if query else path
        data = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        try:
            self._connection.request(method, target, data, headers)
            response = self._connection.getresponse()
        except (http.client.HTTPException, OSError):
            # The server ends a connection that was idle while tests of other folders ran.
            self._connection.close()
            self._connection.request(method, target, data, headers)
            response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))

    def judge(self, manifest: dict[str, Any]) -> Answer:
        """Let the API server judge a new object, without keeping it."""
        return self.request("POST", path_of(manifest, named=False), manifest, dryRun="All", fieldValidation="Strict")

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create an object, and return it."""
        answer = self.request("POST", path_of(manifest, named=False), manifest, fieldValidation="Strict")
        assert answer.status == 201, answer.message
        return answer.body

    def judge_change(self, manifest: dict[str, Any], change: dict[str, Any]) -> Answer:
        """Let the API server judge a merge patch of an object that exists, without keeping it."""
        content = "application/merge-patch+json"
        return self.request("PATCH", path_of(manifest), change, content, dryRun="All", fieldValidation="Strict")

    def apply_status(self, manifest: dict[str, Any], status: Any, manager: str = "cmk-operator", **query: str) -> Answer:
        """Server-side apply of a status, as the operator does it."""
        metadata = {name: value for name, value in manifest["metadata"].items() if name in {"name", "namespace"}}
        body = {"apiVersion": API_VERSION, "kind": manifest["kind"], "metadata": metadata, "status": status}
        content = "application/apply-patch+yaml"
        return self.request("PATCH", f"{path_of(manifest)}/status", body, content, fieldManager=manager, force="true", **query)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def path_of(manifest: dict[str, Any], *, named: bool = True) -> str:
    """Path of an object, or of its collection."""
    kind = next(kind for kind in KINDS.values() if kind.name == manifest["kind"])
    namespace = manifest["metadata"].get("namespace")
    place = f"/namespaces/{namespace}" if namespace else ""
    tail = f"/{manifest['metadata']['name']}" if named else ""
    return f"/apis/{API_VERSION}{place}/{kind.plural}{tail}"
