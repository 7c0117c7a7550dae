"""The whole operator under the tools of GitOps: any order, several writers, nothing to differ, and true health."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from cmk_operator.api.model import API_VERSION, RECONCILE_REQUESTED_AT
from sandbox.kubernetes.gitops import argo_lua
from sandbox.kubernetes.objects import has
from tests.gitops.law import argo_cd_setting
from tests.gitops.test_kustomize import CONFIGURATION, built, write

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.kubernetes.gitops import Manifest
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

REVERSED = ("OrganizationKey", "EncryptedResource", "CustomerManagedKey", "CustomerTenant", "FederatedIdentity")
"""Each before what it refers to."""


def repository(environment: Environment, directory: Path) -> list[Manifest]:
    """What an overlay with a prefix makes of one customer's manifests, in the worst order."""
    identity, customer = environment.identity, environment.name
    managed = {"resourceId": identity.managed_identity_resource_id, "clientId": identity.managed_identity_client_id}
    specs = {
        "FederatedIdentity": {
            "tenantId": environment.provider.tenant_id,
            "application": {"clientId": identity.application_client_id},
            "managedIdentity": managed,
        },
        "CustomerTenant": {
            "tenantId": environment.customer.tenant_id,
            "identityRef": {"name": "it"},
            "allowedNamespaces": [environment.namespace],
            "allowedScopes": [f"/subscriptions/{environment.provider.subscription_id}/resourceGroups/{environment.group}"],
            "allowedVaults": [f"{environment.vault}{environment.customer.cloud.vault_suffix}"],
        },
        "CustomerManagedKey": {"tenantRef": {"name": "it"}, "keyUri": environment.key_uri()},
        "EncryptedResource": {"keyRef": {"name": "it"}, "resourceId": environment.accounts["docs"]},
        "OrganizationKey": {
            "organization": {"id": customer, "name": "Acme"},
            "mode": "CustomerManaged",
            "confirmation": "Acme",
            "tenantRef": {"name": "it"},
            "keyUri": environment.key_uri(),
            "access": {"application": {}},
        },
    }
    shutil.copytree(CONFIGURATION, directory / "names")
    objects = [
        {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "it"}, "spec": spec} for kind, spec in specs.items()
    ]
    (directory / "base").mkdir()
    (directory / "base" / "objects.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    write(directory / "base", resources=["objects.yaml"], components=["../names"])
    prefixed = {"namePrefix": f"{customer}-", "namespace": environment.namespace}
    write(directory / "overlay", resources=["../base"], labels=[{"pairs": {"customer": customer}}], **prefixed)
    found = {one["kind"]: one for one in built(directory / "overlay")}
    return [found[kind] for kind in REVERSED]


async def kubectl(cluster: Cluster, *arguments: str, manifests: list[Manifest]) -> str:
    return await asyncio.to_thread(cluster.kubectl, *arguments, "--filename", "-", stdin=yaml.safe_dump_all(manifests))


async def events_about(cluster: Cluster, prefix: str) -> list[dict[str, Any]]:
    text = await asyncio.to_thread(cluster.kubectl, "get", "events.events.k8s.io", "--all-namespaces", "--output", "json")
    return [event for event in json.loads(text)["items"] if event["regarding"]["name"].startswith(prefix)]


async def test_a_repository_can_be_applied_backwards_by_two_writers_and_pruned_without_a_warning(
    environment: Environment, operator: Operator, empty_cluster: Cluster, tmp_path: Path
) -> None:
    await environment.vault_with_key()
    await environment.account()
    manifests = repository(environment, tmp_path)
    name, namespace = f"{environment.name}-it", environment.namespace
    await kubectl(empty_cluster, "apply", manifests=manifests)
    await environment.resource_until("Ready", has("Ready", "True", "Ready"), name)
    await environment.key_until("Ready", has("Ready"), name)
    await environment.organization_until("in force", has("ConfigurationAccepted"), name)
    told = await events_about(empty_cluster, environment.name)
    assert told, "there are events at all"
    assert [event for event in told if event["type"] == "Warning"] == []

    # Nothing differs after the operator has acted, for the writer who applied it and for one who adds labels by server-side apply.
    await kubectl(empty_cluster, "diff", manifests=manifests)
    label = {"metadata": {"name": name, "namespace": namespace, "labels": {"team": "b"}}}
    others = [{"apiVersion": API_VERSION, "kind": kind, **label} for kind in ("EncryptedResource", "CustomerManagedKey")]
    await kubectl(empty_cluster, "apply", "--server-side", "--field-manager=team-b", manifests=others)
    await kubectl(empty_cluster, "apply", manifests=manifests)
    await operator.after_passes(2)
    await kubectl(empty_cluster, "diff", manifests=manifests)
    for kind in REVERSED:
        found = await environment.objects.get(kind, name, namespace)
        assert kind not in {"EncryptedResource", "CustomerManagedKey"} or found["metadata"]["labels"]["team"] == "b"
        for owner in found["metadata"]["managedFields"]:
            if owner["manager"] not in {"kubectl-client-side-apply", "team-b"}:
                owned = set(owner["fieldsV1"])
                assert owned == {"f:status"} or owner["fieldsV1"] == {
                    "f:metadata": {"f:finalizers": owner["fieldsV1"]["f:metadata"]["f:finalizers"]}
                }

    # What is no longer in the repository goes, and Azure stays as it is.
    since, before = await environment.position(), await environment.encryption()
    allowed = [f"--prune-allowlist={API_VERSION}/{kind}" for kind in REVERSED]
    kept = [one for one in manifests if one["kind"] not in {"EncryptedResource", "OrganizationKey"}]
    pruned = await kubectl(
        empty_cluster, "apply", "--prune", f"--selector=customer={environment.name}", *allowed, manifests=kept
    )
    assert f"encryptedresource.cmk-operator.dev/{name} pruned" in pruned
    await environment.objects.until_gone("EncryptedResource", name, namespace)
    await environment.organization_until("data keys may be on it", has("Stalled", "True", "DeletionHeld"), name)
    await environment.key_until("used by nothing", lambda seen: not seen.get("usedBy"), name)
    assert await environment.writes(since) == []
    assert await environment.encryption() == before


async def test_argo_cd_shows_a_lost_key_as_degraded_and_its_action_makes_the_operator_look(environment: Environment) -> None:
    async def health() -> dict[str, str]:
        answer: dict[str, dict[str, str]] = {}
        for kind, name in (("CustomerManagedKey", "cmk"), ("EncryptedResource", "docs")):
            found = await environment.objects.get(kind, name, environment.namespace)
            (answer[kind],) = await asyncio.to_thread(argo_lua, argo_cd_setting("health", kind), [found])
        assert len({one["message"] for one in answer.values()}) >= 1
        return {kind: one["status"] for kind, one in answer.items()}

    await environment.ready()
    await environment.key_until("Ready", has("Ready"))
    assert await health() == {"CustomerManagedKey": "Healthy", "EncryptedResource": "Healthy"}
    await environment.customer.disable(environment.vault, "cmk")
    (definition,) = yaml.safe_load(argo_cd_setting("actions", "CustomerManagedKey"))["definitions"]
    found = await environment.objects.get("CustomerManagedKey", "cmk", environment.namespace)
    (requested,) = await asyncio.to_thread(argo_lua, definition["action.lua"], [found])
    annotations = {RECONCILE_REQUESTED_AT: requested["metadata"]["annotations"][RECONCILE_REQUESTED_AT]}
    await environment.objects.merge(
        "CustomerManagedKey", "cmk", {"metadata": {"annotations": annotations}}, environment.namespace
    )
    status = await environment.key_until(
        "looked at", lambda seen: seen.get("lastHandledReconcileAt") == annotations[RECONCILE_REQUESTED_AT]
    )
    assert has("KeyAccessible", "False", "Disabled")(status)
    await environment.resource_until("lost", has("Ready", "False", "Disabled"))
    assert await health() == {"CustomerManagedKey": "Degraded", "EncryptedResource": "Degraded"}
