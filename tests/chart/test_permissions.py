"""What the chart's roles allow, asked of the API server that enforces them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.conftest import NAMESPACE, SERVICE_ACCOUNT

if TYPE_CHECKING:
    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

GROUP = "cmk-operator.dev"
READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")
KINDS = ("federatedidentities", "customertenants", "customermanagedkeys", "encryptedresources", "organizationkeys")
CLUSTER_KINDS = KINDS[:2]
NAMESPACED_KINDS = (*KINDS[2:], "preflights")
EVERYWHERE = {
    *((GROUP, kind, verb) for kind in KINDS for verb in READ),
    *((GROUP, f"{kind}/status", "patch") for kind in KINDS),
    *((GROUP, kind, "patch") for kind in KINDS),
    *((GROUP, "preflights", verb) for verb in (*READ, "delete")),
    (GROUP, "preflights/status", "patch"),
    ("events.k8s.io", "events", "create"),
    *(("apiextensions.k8s.io", "customresourcedefinitions", verb) for verb in ("list", "watch")),
}
AT_HOME = {
    *(("", "configmaps", verb) for verb in ("create", "get", "patch", "delete")),
    ("", "secrets", "get"),
}
LEASES = {("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "update")}
EVERY_ACCOUNT = {"authentication.k8s.io", "authorization.k8s.io"}  # asking who one is and what one may do


@pytest.mark.parametrize(
    ("namespace", "permissions"),
    [("elsewhere", EVERYWHERE), (NAMESPACE, EVERYWHERE | AT_HOME), ("kube-system", EVERYWHERE | LEASES)],
)
def test_the_operator_may_do_exactly_this(
    installed: Installation, namespace: str, permissions: set[tuple[str, str, str]]
) -> None:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    status = _create(installed, review, "--as", SERVICE_ACCOUNT)["status"]
    assert not status["incomplete"]
    found = {
        (group, resource, verb)
        for rule in status["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if group not in EVERY_ACCOUNT
    }
    assert found == permissions


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("get", "leases.coordination.k8s.io"),
        ("update", "leases.coordination.k8s.io"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("get", "configmaps"),
        ("list", "configmaps"),
        ("patch", "configmaps"),
        ("delete", "configmaps"),
        ("update", "configmaps"),
        ("list", "namespaces"),
        ("list", "pods"),
        ("create", "serviceaccounts/token"),
        ("update", f"customertenants.{GROUP}"),
        ("delete", f"federatedidentities.{GROUP}"),
        ("create", f"customertenants.{GROUP}"),
        ("update", f"encryptedresources.{GROUP}"),
        ("delete", f"encryptedresources.{GROUP}"),
        ("create", f"customermanagedkeys.{GROUP}"),
        ("create", f"preflights.{GROUP}"),
        ("patch", f"preflights.{GROUP}"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
    ],
)
def test_the_operator_may_not(installed: Installation, verb: str, resource: str) -> None:
    name, _, group = resource.partition(".")
    assert not _allowed(installed, verb, group, name, user=SERVICE_ACCOUNT, namespace=NAMESPACE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_may_patch_status_and_the_object_whose_spec_a_policy_protects(installed: Installation, kind: str) -> None:
    allowed = {
        part: _allowed(installed, "patch", GROUP, f"{kind}{part}", user=SERVICE_ACCOUNT, namespace="team")
        for part in ("", "/status", "/scale")
    }
    assert allowed == {"": True, "/status": True, "/scale": False}


@pytest.mark.parametrize("role", ["view", "edit"])
def test_users_of_a_namespace_get_its_kinds_and_never_the_cluster_wide_ones(installed: Installation, role: str) -> None:
    granted = _rules(installed, "cmk-operator-view") | (_rules(installed, "cmk-operator-edit") if role == "edit" else set())
    assert granted == {(GROUP, kind, verb) for kind in NAMESPACED_KINDS for verb in (READ if role == "view" else READ + WRITE)}
    assert not any(kind in CLUSTER_KINDS or kind.endswith("/status") for _, kind, _ in granted)


@pytest.mark.parametrize(
    ("suffix", "into"),
    [("view", {"view", "edit", "admin"}), ("edit", {"edit", "admin"})],
)
def test_the_clusters_own_roles_select_them(installed: Installation, suffix: str, into: set[str]) -> None:
    role = json.loads(installed.cluster.kubectl("get", "clusterrole", f"cmk-operator-{suffix}", "--output", "json"))
    own = json.loads(installed.cluster.kubectl("get", "clusterroles", "view", "edit", "admin", "--output", "json"))["items"]
    labels = role["metadata"]["labels"]
    selecting = {
        each["metadata"]["name"]
        for each in own
        for selector in each.get("aggregationRule", {}).get("clusterRoleSelectors", [])
        if selector["matchLabels"].items() <= labels.items()
    }
    assert selecting == into


def _rules(installed: Installation, role: str) -> set[tuple[str, str, str]]:
    rules = json.loads(installed.cluster.kubectl("get", "clusterrole", role, "--output", "json"))["rules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _allowed(installed: Installation, verb: str, group: str, resource: str, *, user: str, namespace: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": attributes},
    }
    return bool(_create(installed, review)["status"]["allowed"])


def _create(installed: Installation, review: dict[str, Any], *arguments: str) -> dict[str, Any]:
    answer = installed.cluster.kubectl(
        "create", "--filename", "-", "--output", "json", *arguments, stdin=yaml.safe_dump(review)
    )
    result: dict[str, Any] = json.loads(answer)
    return result
