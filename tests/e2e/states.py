"""Every status that the API server stores while the end-to-end tests run, each kind of state once."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

from cmk_operator.kubernetes.client import FIELD_MANAGER
from sandbox.kubernetes.objects import PLURALS, Objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.kubernetes.gitops import Manifest

SECONDS = 60
"""How long one watch lasts; the next goes on where it ended."""


class RecordedStates:
    """Watches every kind in a thread of its own, so that no status between two looks is missed."""

    def __init__(self, cluster: Cluster, token: str) -> None:
        self._server = urlsplit(cluster.server)
        self._tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._token = token
        self._ended = threading.Event()
        self._seen: dict[tuple[object, ...], Manifest] = {}

    def start(self) -> Self:
        """Begin to watch."""
        for kind in PLURALS:
            threading.Thread(target=self._watch, args=(kind,), name=f"states of {kind}", daemon=True).start()
        return self

    def stop(self) -> list[Manifest]:
        """End, and return an example of each state."""
        self._ended.set()
        return list(self._seen.copy().values())

    def of(self, namespace: str) -> list[Manifest]:
        """The states so far that an object of a namespace was the first to be in."""
        return [one for one in self._seen.copy().values() if one["metadata"].get("namespace") == namespace]

    def _watch(self, kind: str) -> None:
        version = ""
        while not self._ended.is_set():
            connection = http.client.HTTPSConnection(str(self._server.hostname), self._server.port or 443, context=self._tls)
            query = {"watch": "true", "timeoutSeconds": str(SECONDS), **({"resourceVersion": version} if version else {})}
            connection.request(
                "GET", f"{Objects.path(kind)}?{urlencode(query)}", headers={"Authorization": f"Bearer {self._token}"}
            )
            try:
                response = connection.getresponse()
                if response.status != http.HTTPStatus.OK:
                    self._ended.wait(0.2)  # A kind that was just defined has no storage yet.
                    continue
                for line in response:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        version = ""  # It was away for too long: begin anew with what is there.
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._note(kind, event["object"])
            except (OSError, http.client.HTTPException):
                if not self._ended.is_set():
                    raise
            finally:
                connection.close()

    def _note(self, kind: str, found: dict[str, Any]) -> None:
        metadata, status = found["metadata"], found.get("status", {})
        if any(_owns_conditions(one) and one["manager"] != FIELD_MANAGER for one in metadata.get("managedFields", ())):
            return  # A test, or a user, has written a status by hand.
        conditions = tuple((one["type"], one["status"], one["reason"]) for one in status.get("conditions", ()))
        mode, coverage = found["spec"].get("mode"), found["spec"].get("requireFullCoverage")
        seen = status.get("observedGeneration") == metadata["generation"]
        state = (
            kind,
            seen,
            "deletionTimestamp" in metadata,
            mode,
            coverage,
            "plan" in status,
            status.get("result"),
            conditions,
        )
        # Only what the judges read: a status may be large.
        kept = {name: metadata[name] for name in ("name", "namespace", "generation", "deletionTimestamp") if name in metadata}
        kept_status = {name: status[name] for name in ("observedGeneration", "conditions", "plan", "result") if name in status}
        whole = {
            "apiVersion": found["apiVersion"],
            "kind": kind,
            "metadata": kept,
            "spec": found["spec"],
            "status": kept_status,
        }
        self._seen.setdefault(state, whole)


def _owns_conditions(owner: Mapping[str, Any]) -> bool:
    return "f:conditions" in owner.get("fieldsV1", {}).get("f:status", {})
