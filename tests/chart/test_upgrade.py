"""From the previous release's chart to this one, and definitions that somebody else has applied before."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.conftest import CHART, NAMESPACE, HelmError
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

[PREVIOUS] = (Path(__file__).parent / "previous").glob("cmk-operator-*.tgz")
OWN_VALUES = {
    "image": {"repository": "registry.example.com/cmk-operator"},
    "settings": {"keyCheckIntervalSeconds": 30},
    "serviceAccount": {"annotations": {"team": "platform"}},
    "replicas": 2,
}
IDS = {
    name: f"00000000-0000-4000-8000-00000000000{number}"
    for number, name in enumerate(
        (
            "PROVIDER_TENANT_ID",
            "APPLICATION_CLIENT_ID",
            "MANAGED_IDENTITY_CLIENT_ID",
            "CUSTOMER_TENANT_ID",
            "SUBSCRIPTION_ID",
        )
    )
}
REMOVED = {("Role", "cmk-operator-secrets"), ("RoleBinding", "cmk-operator-secrets")}
"""What an upgrade takes away on purpose: the right to read every Secret of a namespace (CHANGELOG, rbac.secrets)."""
KINDS = "federatedidentities,customertenants,customermanagedkeys,encryptedresources"


def _manifests() -> str:
    """Those of examples/one-key-for-all, of the kinds that the previous release has."""
    identity = (
        f"/subscriptions/{IDS['SUBSCRIPTION_ID']}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    )
    known = {
        **IDS,
        "MANAGED_IDENTITY_RESOURCE_ID": f"{identity}/cmk",
        "CUSTOMER_VAULT": "fabrikam-kv",
        "STORAGE_ACCOUNT": "docs1",
    }
    files = sorted((ROOT / "examples" / "one-key-for-all").glob("[1-4]-*.yaml"))
    return "\n---\n".join(string.Template(file.read_text()).substitute(known) for file in files)


@pytest.fixture(scope="module")
def previous(bare: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The previous release with values of one's own, and manifests of which one has a status and a finalizer."""
    values = tmp_path_factory.mktemp("values") / "own.yaml"
    values.write_text(yaml.safe_dump(OWN_VALUES))
    bare.helm("install", "cmk-operator", PREVIOUS, "--values", values)
    administrator = bare.cluster.kubectl
    administrator("create", "namespace", "fabrikam")
    administrator("create", "--filename", "-", stdin=_manifests())
    resource = ("encryptedresource", "documents", "--namespace", "fabrikam", "--type=merge")
    administrator("patch", *resource, "--patch", '{"metadata": {"finalizers": ["cmk-operator.dev/revert-to-platform-key"]}}')
    administrator("patch", *resource, "--subresource=status", "--patch", '{"status": {"observedGeneration": 1}}')
    return bare


def _custom(installation: Installation) -> dict[str, Any]:
    """What an upgrade may not touch of each custom resource: that it is the same object, its spec, status and finalizers."""
    items = json.loads(installation.cluster.kubectl("get", KINDS, "--all-namespaces", "--output", "json"))["items"]
    return {
        f"{item['kind']} {item['metadata']['name']}": {
            **{name: item["metadata"].get(name) for name in ("uid", "generation", "finalizers", "annotations")},
            **{name: item.get(name) for name in ("spec", "status")},
        }
        for item in items
    }


def _released(installation: Installation) -> dict[tuple[str, str], str]:
    """The uid of each object of the release that is in the cluster."""
    text = installation.helm("get", "manifest", "cmk-operator")
    found = json.loads(installation.cluster.kubectl("get", "--filename", "-", "--output", "json", stdin=text))["items"]
    return {(item["kind"], item["metadata"]["name"]): item["metadata"]["uid"] for item in found}


def test_values_that_are_reused_without_the_new_defaults_are_refused_with_the_option_that_helps(previous: Installation) -> None:
    with pytest.raises(HelmError, match="run helm upgrade with --reset-then-reuse-values"):
        previous.helm("upgrade", "cmk-operator", CHART, "--reuse-values")


def test_an_upgrade_keeps_every_object_and_every_value_of_ones_own(previous: Installation) -> None:
    custom, released = _custom(previous), _released(previous)
    assert len(custom) == 4

    previous.helm("upgrade", "cmk-operator", CHART, "--reset-then-reuse-values")

    assert _custom(previous) == custom
    now = _released(previous)
    kept = {key: uid for key, uid in released.items() if key not in REMOVED}
    assert {key: now.get(key) for key in kept} == kept, "none was removed or made anew"
    assert not REMOVED & set(now)
    assert set(now) > set(kept)
    assert yaml.safe_load(previous.helm("get", "values", "cmk-operator", "--output", "yaml")) == OWN_VALUES
    deployment = json.loads(
        previous.cluster.kubectl("get", "deployment", "cmk-operator", "--namespace", NAMESPACE, "--output", "json")
    )
    environment = {
        entry["name"]: entry.get("value") for entry in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (deployment["spec"]["replicas"], environment["CMK_OPERATOR_KEY_CHECK_INTERVAL"]) == (2, "30")


def test_a_rollback_keeps_every_custom_resource(previous: Installation) -> None:
    """After the upgrade above. The definitions go back too; kinds that are new stay defined."""
    custom = _custom(previous)
    previous.helm("rollback", "cmk-operator", "1")
    assert _custom(previous) == custom
    previous.helm("upgrade", "cmk-operator", CHART, "--reset-then-reuse-values")
    assert _custom(previous) == custom


def test_definitions_that_somebody_else_applied_are_taken_over_with_all_objects(previous: Installation) -> None:
    custom = _custom(previous)
    previous.helm("uninstall", "cmk-operator")
    administrator = previous.cluster.kubectl
    names = administrator("get", "crd", "--output", "name").split()
    administrator("label", *names, "app.kubernetes.io/managed-by-")
    administrator("annotate", *names, "meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-")
    before = _definitions(previous)

    with pytest.raises(HelmError, match="invalid ownership metadata"):
        previous.helm("install", "cmk-operator", CHART)
    previous.helm("install", "cmk-operator", CHART, "--take-ownership")

    assert (_custom(previous), _definitions(previous)) == (custom, before)
    assert before
    owner = "jsonpath={.items[*].metadata.annotations.meta\\.helm\\.sh/release-name}"
    assert set(administrator("get", "crd", "--output", owner).split()) == {"cmk-operator"}


def _definitions(installation: Installation) -> list[str]:
    return sorted(installation.cluster.kubectl("get", "crd", "--output", "jsonpath={.items[*].metadata.uid}").split())
