"""What `make lint` asks of the chart and the Dockerfile beside `helm lint --strict`; each complaint is one line, with its object.

- kubeconform: every object of the chart against Kubernetes' own schemas (from the wheel `kubernetes-validate`), of the oldest
  release that the chart allows and of the newest one that the wheel has. Unknown fields are errors.
- The Pod Security Standard `restricted`: every pod of the chart is admitted by a real API server that enforces it.
- hadolint: the Dockerfile.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from sandbox.kubernetes import binaries, cluster
from sandbox.kubernetes.servers import ClusterError
from sandbox.kubernetes.wheels import installed
from tests.chart.conftest import CHART, NAMESPACE, RESTRICTED_NAMESPACE, rendered
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kubernetes.cluster import Cluster

EVERYTHING: Final = Path(__file__).with_name("everything.yaml")
RENDERINGS: Final[dict[str, tuple[str | Path, ...]]] = {"the defaults": (), "every option": ("--values", EVERYTHING)}
WITHOUT_SCHEMA: Final = ("ServiceMonitor", "PrometheusRule")
"""Kinds of the Prometheus operator, whose definitions are not Kubernetes'."""
REFERENCE: Final = re.compile(r'"(?:/api/_definitions\.json)?#/\$defs/([^"]+)"')
FOLDER: Final = re.compile(r"v(\d+)\.(\d+)\.0-local-strict")


def oldest() -> str:
    """The oldest release of Kubernetes on which Helm installs the chart, such as 1.33.0."""
    constraint = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["kubeVersion"]
    found = re.fullmatch(r">=(\d+\.\d+\.\d+)-0", constraint)
    assert found is not None, constraint
    return found[1]


def newest(schemas: Path) -> str:
    """The newest release that has schemas."""
    major, minor = max((int(found[1]), int(found[2])) for path in schemas.iterdir() if (found := FOLDER.fullmatch(path.name)))
    return f"{major}.{minor}.0"


def schemas() -> Path:
    """The folder of the wheel with one folder of schemas for each release."""
    return installed("kubernetes-schemas") / "kubernetes_validate" / "kubernetes-json-schema"


def _file(item: dict[str, Any]) -> str:
    """The name of an object's schema, as kubeconform and the wheel agree on it: deployment-apps-v1.json, service-v1.json."""
    group, _, version = item["apiVersion"].rpartition("/")
    return "-".join(filter(None, (item["kind"].lower(), group.partition(".")[0], version))) + ".json"


def _standalone(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema with the definitions that it needs in itself: kubeconform would read all of them anew for each kind."""
    needed: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        for name in set(REFERENCE.findall(json.dumps(waiting.pop()))) - needed.keys():
            needed[name] = definitions[name]
            waiting.append(definitions[name])
    whole = {**schema, "$defs": needed}
    whole.pop("$id", None)
    found: dict[str, Any] = json.loads(json.dumps(whole).replace('"/api/_definitions.json#', '"#'))
    return found


def nonconforming(objects: list[dict[str, Any]], release: str) -> list[str]:
    """What kubeconform finds in the objects by the schemas of one release of Kubernetes."""
    source = schemas() / f"v{release}-local-strict"
    definitions = json.loads((source / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    with tempfile.TemporaryDirectory() as folder:
        for name in {_file(item) for item in objects if item["kind"] not in WITHOUT_SCHEMA}:
            schema = json.loads((source / name).read_text(encoding="utf-8"))
            Path(folder, name).write_text(json.dumps(_standalone(schema, definitions)), encoding="utf-8")
        answer = subprocess.run(
            [
                binaries.kubeconform(),
                *("-strict", "-output", "json", "-kubernetes-version", release, "-skip", ",".join(WITHOUT_SCHEMA)),
                *("-schema-location", folder + "/{{ .ResourceKind }}{{ .KindSuffix }}.json"),
            ],
            input=yaml.safe_dump_all(objects),
            capture_output=True,
            text=True,
            check=False,
        )
    if not answer.stdout.startswith("{"):
        return [f"kubeconform: {answer.stderr.strip()}"]
    found = json.loads(answer.stdout)["resources"]
    return [f"{each['kind']} {each['name']}: {' '.join(each['msg'].split())}" for each in found]


def pods(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every pod that the objects make, with a name that says of which it is."""
    for item in objects:
        pod = item if item["kind"] == "Pod" else item.get("spec", {}).get("template")
        if pod is not None and "containers" in pod.get("spec", {}):
            metadata = {**pod["metadata"], "name": f"{item['kind'].lower()}-{item['metadata']['name']}", "namespace": NAMESPACE}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}


def refused(running: Cluster, found: list[dict[str, Any]]) -> list[str]:
    """Why the API server would not admit these pods in the release's namespace, one line for each that it refuses."""
    complaints: list[str] = []
    for pod in found:
        command = ("create", "--dry-run=server", "--validate=strict", "--filename", "-")
        try:
            running.kubectl(*command, stdin=yaml.safe_dump(pod))
        except ClusterError as refusal:
            complaints.append(f"{pod['metadata']['name']}: {refusal}")
    return complaints


def prepare(running: Cluster, objects: list[dict[str, Any]]) -> None:
    """Make the namespace that enforces `restricted`, and the ServiceAccounts without which no pod is admitted."""
    default = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
    needed = [default, *(item for item in objects if item["kind"] == "ServiceAccount")]
    running.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all([RESTRICTED_NAMESPACE, *needed]))


def hadolint(file: Path) -> list[str]:
    """What hadolint finds in a Dockerfile."""
    program = installed("hadolint") / "bin" / "hadolint"
    program.chmod(0o755)  # wheels do not always carry the executable bit
    answer = subprocess.run([program, "--no-color", file], capture_output=True, text=True, check=False, cwd=ROOT)
    return [line for line in (answer.stdout + answer.stderr).splitlines() if line] if answer.returncode else []


def main() -> int:
    """Check everything and print the complaints; returns 1 if there are any."""
    complaints = hadolint(ROOT / "Dockerfile")
    renderings = {name: rendered(*arguments) for name, arguments in RENDERINGS.items()}
    for name, objects in renderings.items():
        for release in (oldest(), newest(schemas())):
            complaints += [f"with {name}, Kubernetes {release}: {line}" for line in nonconforming(objects, release)]
    with tempfile.TemporaryDirectory() as folder:
        running = cluster.start(Path(folder, "kubernetes"))
        try:
            for name, objects in renderings.items():
                prepare(running, objects)
                complaints += [f"with {name}: {line}" for line in refused(running, list(pods(objects)))]
        finally:
            running.stop()
    sys.stderr.writelines(f"{complaint}\n" for complaint in complaints)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
