"""The example repository for fifty customers: generated, built, applied to the API server, and fit together."""

from __future__ import annotations

import json
import runpy
from typing import TYPE_CHECKING

from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.core.faults.fault import Fault
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.references import resolve_resource
from sandbox.kubernetes.objects import PLURALS
from tests.gitops.law import DEPLOY
from tests.gitops.test_kustomize import built

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

EXAMPLE = DEPLOY.parent / "examples" / "customers"
CUSTOMERS = 50


def test_the_overlays_are_what_the_generator_writes_for_the_list(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "kustomization.yaml").write_text("", encoding="utf-8")
    runpy.run_path(str(EXAMPLE / "generate.py"))["generate"](tmp_path)
    fresh, kept = (
        {file.relative_to(root): file.read_text(encoding="utf-8") for file in root.rglob("*.yaml")}
        for root in (tmp_path, EXAMPLE / "overlays")
    )
    assert fresh == kept, "run python examples/customers/generate.py"
    assert len(kept) == CUSTOMERS + 1


def test_the_api_server_takes_all_fifty_and_every_resource_may_use_the_key_of_its_own_customer(cluster: Cluster) -> None:
    namespaces = [one for one in built(EXAMPLE / "overlays") if one["kind"] == "Namespace"]
    cluster.kubectl("create", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": namespaces}))
    inventory, resources = Inventory(), []
    for folder in ("provider", "overlays"):
        apply = ("apply", "--server-side", "--dry-run=server", "--output", "json", "--kustomize", str(EXAMPLE / folder))
        answer = json.loads(cluster.kubectl(*apply))
        for one in answer.get("items", [answer]):
            if one["kind"] != "Namespace":
                reference, _ = inventory.put(PLURALS[one["kind"]], one)
                resources += [reference] if one["kind"] == "EncryptedResource" else []
    paths = []
    for reference in resources:
        resource = inventory.get(EncryptedResource, reference.name, reference.namespace)
        assert resource is not None
        path = resolve_resource(inventory, resource)
        assert not isinstance(path, Fault), path
        assert path.path.tenant.metadata.name == f"{resource.metadata.namespace}-tenant"
        paths.append(path)
    assert len(paths) == 2 * CUSTOMERS
    assert len({str(path.path.key_uri) for path in paths}) == CUSTOMERS
    assert len({str(path.target) for path in paths}) == 2 * CUSTOMERS
