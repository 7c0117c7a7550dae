"""The chart's admission policies on a real API server: what the operator's own token may not do, and how large metadata may be."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.servers import ClusterError
from tests.admission.manifests import ACCOUNT
from tests.chart.conftest import CHART, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

TEAM = "policies"
OWN_FINALIZER = "cmk-operator.dev/revert-to-platform-key"
RESOURCE: dict[str, Any] = {"keyRef": {"name": "storage"}, "resourceId": ACCOUNT}
API_VERSION = "cmk-operator.dev/v1alpha1"


@pytest.fixture(scope="module")
def token(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """kubectl with the operator's own token, which RBAC allows everything: what is refused, a policy refuses."""
    binding = ["create", "clusterrolebinding", "leaked", "--clusterrole=cluster-admin"]
    installed.cluster.kubectl(*binding, f"--serviceaccount={NAMESPACE}:cmk-operator")
    installed.cluster.kubectl("create", "namespace", TEAM)
    path: Path = tmp_path_factory.mktemp("token") / "kubeconfig"
    kubeconfig = installed.cluster.service_account_kubeconfig(NAMESPACE, "cmk-operator", path)

    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        return clusters.kubectl(kubeconfig, "--namespace", TEAM, *arguments, stdin=stdin)

    # A policy is in force some moments after it was made.
    _until_refused(
        lambda: kubectl("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(manifest("Preflight", "a")))
    )
    return kubectl


def manifest(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    spec = RESOURCE if kind == "EncryptedResource" else {"resources": [{"name": "a", "spec": RESOURCE}]}
    body = {"name": name, "namespace": TEAM, **metadata}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": body, "spec": copy.deepcopy(spec)}


def created(installed: Installation, kind: str, name: str, **metadata: Any) -> None:
    """Made by the administrator."""
    text = json.dumps(manifest(kind, name, **metadata))
    installed.cluster.kubectl("delete", kind, name, "--namespace", TEAM, "--ignore-not-found", "--wait=false")
    installed.cluster.kubectl("create", "--filename", "-", stdin=text)


def patch(name: str, change: dict[str, Any], kind: str = "EncryptedResource") -> tuple[str, ...]:
    return ("patch", kind, name, "--type=merge", "--patch", json.dumps(change))


def test_the_operators_own_writes_are_allowed(installed: Installation, token: Callable[..., str]) -> None:
    created(installed, "EncryptedResource", "own", finalizers=["example.com/theirs"])
    token(*patch("own", {"metadata": {"finalizers": ["example.com/theirs", OWN_FINALIZER]}}))
    token(*patch("own", {"metadata": {"finalizers": ["example.com/theirs"]}}))
    token(
        "patch",
        "EncryptedResource",
        "own",
        "--subresource=status",
        "--type=merge",
        "--patch",
        '{"status":{"observedGeneration":7}}',
    )
    assert token("get", "EncryptedResource", "own", "--output", "jsonpath={.status.observedGeneration}") == "7"
    installed.cluster.kubectl(*patch("own", {"metadata": {"finalizers": []}}), "--namespace", TEAM)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec": {"deletionPolicy": "RevertToPlatformKey"}}, "changes nothing of a manifest except"),
        ({"spec": {"mode": "Observe"}}, "changes nothing of a manifest except"),
        ({"metadata": {"labels": {"a": "b"}}}, "changes nothing of a manifest except"),
        (
            {"metadata": {"annotations": {"cmk-operator.dev/approved-version": "a" * 32}}},
            "changes nothing of a manifest except",
        ),
        (
            {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]}},
            "changes nothing of a manifest except",
        ),
        ({"metadata": {"finalizers": ["example.com/theirs", "example.com/other"]}}, "adds and removes only its own finalizer"),
        ({"metadata": {"finalizers": []}}, "adds and removes only its own finalizer"),
        ({"metadata": {"finalizers": [OWN_FINALIZER]}}, "adds and removes only its own finalizer"),
    ],
)
def test_a_leaked_token_changes_no_manifest(
    installed: Installation, token: Callable[..., str], change: dict[str, Any], words: str
) -> None:
    created(installed, "EncryptedResource", "victim", finalizers=["example.com/theirs"])
    try:
        with pytest.raises(ClusterError, match=words):
            token(*patch("victim", change))
        # A server-side apply of the same, as the operator writes its finalizer.
        applied = {"apiVersion": API_VERSION, "kind": "EncryptedResource", **change}
        applied["metadata"] = {"name": "victim", "namespace": TEAM, **change.get("metadata", {})}
        if change.get("metadata", {}).get("finalizers") in (None, ["example.com/theirs", "example.com/other"]):
            with pytest.raises(ClusterError, match=words):
                token("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(applied))
    finally:
        installed.cluster.kubectl(*patch("victim", {"metadata": {"finalizers": []}}), "--namespace", TEAM)


@pytest.mark.parametrize("kind", ["EncryptedResource", "Preflight"])
def test_a_leaked_token_makes_nothing_and_deletes_no_manifest(
    installed: Installation, token: Callable[..., str], kind: str
) -> None:
    with pytest.raises(ClusterError, match="the operator creates no manifest; if you did not send this request"):
        token("create", "--filename", "-", stdin=json.dumps(manifest(kind, "new")))
    with pytest.raises(ClusterError, match="the operator creates no manifest"):
        token("apply", "--server-side", "--filename", "-", stdin=json.dumps(manifest(kind, "new")))
    created(installed, kind, "old")
    with pytest.raises(ClusterError, match="deletes nothing except Preflights that are complete"):
        token("delete", kind, "old", "--wait=false")
    with pytest.raises(ClusterError, match="deletes nothing except Preflights that are complete"):
        token("delete", kind, "--all", "--wait=false")


def test_the_operator_deletes_a_complete_preflight(installed: Installation, token: Callable[..., str]) -> None:
    created(installed, "Preflight", "done")
    complete = {
        "type": "Complete",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Passed",
        "message": "",
    }
    status = json.dumps({"status": {"observedGeneration": 1, "conditions": [complete]}})
    token("patch", "Preflight", "done", "--subresource=status", "--type=merge", "--patch", status)
    token("delete", "Preflight", "done")


def test_everybody_else_is_not_affected(installed: Installation) -> None:
    created(installed, "EncryptedResource", "theirs")
    change = {"spec": {"mode": "Observe"}, "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}
    installed.cluster.kubectl(*patch("theirs", change), "--namespace", TEAM)
    installed.cluster.kubectl("delete", "EncryptedResource", "theirs", "--namespace", TEAM)


@pytest.mark.parametrize(
    ("kind", "metadata", "words"),
    [
        ("EncryptedResource", {"annotations": {"a": "b" * 40_000}}, "the annotations have 40001 characters, and at most 32768"),
        ("EncryptedResource", {"annotations": {f"a{n}": "b" * 500 for n in range(70)}}, "and at most 32768 are allowed"),
        ("EncryptedResource", {"labels": {f"a{n}": "b" for n in range(65)}}, "at most 64 labels"),
        ("EncryptedResource", {"finalizers": [f"example.com/{n}" for n in range(17)]}, "at most 16 finalizers"),
        (
            "Preflight",
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": f"a{n}", "uid": f"{n}"} for n in range(17)]},
            "at most 16 owners",
        ),
    ],
)
def test_metadata_that_is_too_large_is_refused(
    installed: Installation, kind: str, metadata: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClusterError, match=words):
        created(installed, kind, "large", **metadata)


def test_what_was_large_before_the_policy_may_stay_and_shrink_but_not_grow(installed: Installation) -> None:
    name = "cmk-operator-sizes"
    kubectl = installed.cluster.kubectl
    binding = kubectl("get", "validatingadmissionpolicybinding", name, "--output", "json")
    kubectl("delete", "validatingadmissionpolicybinding", name)
    large = {"annotations": {"a": "b" * 40_000}, "labels": {f"a{n}": "b" for n in range(65)}}
    _eventually_created(installed, large)
    kept = {key: value for key, value in json.loads(binding).items() if key != "metadata"}
    kubectl("create", "--filename", "-", stdin=json.dumps({**kept, "metadata": {"name": name}}))
    # The policy is in force once a second object like it is refused.
    _until_refused(lambda: created(installed, "EncryptedResource", "second", **large))
    kubectl(*patch("large", {"spec": {"mode": "Observe"}, "metadata": {"labels": {"a0": None}}}), "--namespace", TEAM)
    with pytest.raises(ClusterError, match="the annotations have 40003 characters"):
        kubectl(*patch("large", {"metadata": {"annotations": {"c": "d", "a": "b" * 40_000}}}), "--namespace", TEAM)
    kubectl(*patch("large", {"metadata": {"annotations": {"a": "b"}}}), "--namespace", TEAM)
    kubectl("delete", "EncryptedResource", "large", "--namespace", TEAM)


def _eventually_created(installed: Installation, metadata: dict[str, Any]) -> None:
    for _ in range(200):
        try:
            created(installed, "EncryptedResource", "large", **metadata)
        except ClusterError:
            continue
        return
    pytest.fail("the policy is still in force")


def _until_refused(act: Callable[[], object]) -> None:
    for _ in range(200):
        try:
            act()
        except ClusterError:
            return
    pytest.fail("the policy is not in force")


SERVICE = f"system:serviceaccount:{NAMESPACE}:automation"
"""Not the operator's own, which another policy refuses as well."""
PEOPLE = {"alice": ("requester", "approver"), "bob": ("approver",), "carol": ("approver",), SERVICE: ("requester", "approver")}
REQUEST: dict[str, Any] = {"organizationId": "acme", "subject": "8c1d", "ticket": "4711", "requestedBy": "alice"}


@pytest.fixture(scope="module")
def support(installed: Installation) -> Callable[..., str]:
    """kubectl as a person, whom RBAC lets do what the chart's ClusterRoles give."""
    installed.helm("upgrade", "cmk-operator", CHART, "--reuse-values", "--set", "supportRequests.enabled=true")
    for number, (person, roles) in enumerate(PEOPLE.items()):
        for role in roles:
            binding = ("create", "clusterrolebinding", f"support-{number}-{role}", f"--user={person}")
            installed.cluster.kubectl(*binding, f"--clusterrole=cmk-operator-support-{role}")

    def kubectl(person: str, *arguments: str, stdin: str | None = None) -> str:
        return installed.cluster.kubectl("--as", person, *arguments, stdin=stdin)

    _until_refused(lambda: kubectl("alice", "create", "--dry-run=server", "--filename", "-", stdin=request(requestedBy="bob")))
    kubectl("alice", "create", "--filename", "-", stdin=request())
    return kubectl


def request(hours: float = 4, name: str = "ticket", **spec: Any) -> str:
    until = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "apiVersion": API_VERSION,
        "kind": "SupportRequest",
        "metadata": {"name": name},
        "spec": {**REQUEST, "until": until},
    }
    return json.dumps({**body, "spec": {**body["spec"], **spec}})  # type: ignore[dict-item] # a manifest


@pytest.mark.parametrize(
    ("person", "hours", "spec", "words"),
    [
        ("alice", 23.9, {}, None),
        ("alice", 4, {"requestedBy": "bob"}, "requestedBy must be you: alice"),
        ("alice", 4, {"approvedBy": "bob"}, "a new request is not approved yet"),
        ("alice", 4, {"approvedBy": "alice"}, "who asks cannot approve: somebody else must set approvedBy"),
        ("alice", 24.1, {}, "until must be within 24 hours from now"),
        ("alice", -0.1, {}, "until must be within 24 hours from now"),
        ("bob", 4, {"requestedBy": "bob"}, 'User "bob" cannot create resource'),
        (SERVICE, 4, {"requestedBy": SERVICE}, "only persons ask for support and approve it"),
        ("alice", 4, {"organizationId": "Acme"}, "spec.organizationId: Invalid value"),
        ("alice", 4, {"ticket": ""}, "spec.ticket"),
    ],
    ids=str,
)
def test_a_request_for_support_is_made_by_the_person_it_names(
    support: Callable[..., str], person: str, hours: float, spec: dict[str, Any], words: str | None
) -> None:
    def ask() -> str:
        made = request(hours, "another", **spec)
        return support(person, "create", "--dry-run=server", "--filename", "-", stdin=made)

    if words is None:
        assert "created" in ask()
        return
    with pytest.raises(ClusterError, match=words):
        ask()


def approve(name: str, **spec: Any) -> tuple[str, ...]:
    return ("patch", "supportrequest", name, "--type=merge", "--patch", json.dumps({"spec": spec}))


@pytest.mark.parametrize(
    ("person", "spec", "words"),
    [
        ("bob", {"approvedBy": "bob"}, None),
        ("bob", {"approvedBy": "carol"}, "approvedBy must be you: bob"),
        ("alice", {"approvedBy": "alice"}, "who asks cannot approve"),
        ("alice", {"approvedBy": "bob"}, "approvedBy must be you: alice"),
        (SERVICE, {"approvedBy": SERVICE}, "only persons ask for support and approve it"),
        ("bob", {"approvedBy": "bob", "subject": "bob"}, "subject may not change"),
        ("bob", {"approvedBy": "bob", "organizationId": "other"}, "organizationId may not change"),
        ("bob", {"approvedBy": "bob", "until": "2099-01-01T00:00:00Z"}, "until may not change"),
        ("bob", {"approvedBy": "bob", "requestedBy": "carol"}, "requestedBy may not change"),
        ("bob", {"approvedBy": "bob", "ticket": "1"}, "ticket may not change"),
    ],
    ids=str,
)
def test_a_second_person_approves_and_changes_nothing_else(
    support: Callable[..., str], person: str, spec: dict[str, Any], words: str | None
) -> None:
    if words is None:
        assert "patched" in support(person, *approve("ticket", **spec), "--dry-run=server")
        return
    with pytest.raises(ClusterError, match=words):
        support(person, *approve("ticket", **spec), "--dry-run=server")


def test_an_approval_stays_until_the_request_is_deleted(support: Callable[..., str]) -> None:
    support("bob", *approve("ticket", approvedBy="bob"))
    for person, value in (("carol", "carol"), ("bob", None)):
        with pytest.raises(ClusterError, match="an approval stays"):
            support(person, *approve("ticket", approvedBy=value), "--dry-run=server")
    assert "labeled" in support("bob", "label", "supportrequest", "ticket", "a=b")
    assert "deleted" in support("alice", "delete", "supportrequest", "ticket")
