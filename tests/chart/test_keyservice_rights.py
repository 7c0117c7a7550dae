"""The key service's own token on a real API server: each right is needed, and a policy denies what RBAC cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.servers import ClusterError
from tests.chart.conftest import CHART, NAMESPACE, rendered
from tests.chart.test_console import ALL, CONSOLE
from tests.chart.test_each_right import APPLY, GROUP, Right, asked_by, replaced, until, without
from tests.chart.test_keyservice import KEY_SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

ACCOUNT = "cmk-keyservice"
ROLE = "cmk-operator-keyservice"
SECRET = f"keyService.secrets[0].namespace={NAMESPACE},keyService.secrets[0].names={{registration}}"
KEYS = f"/apis/{GROUP}/v1alpha1/organizationkeys"
KEY = f"/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/organizationkeys/absent"
STATUS = json.dumps(
    {"apiVersion": f"{GROUP}/v1alpha1", "kind": "OrganizationKey", "metadata": {"name": "absent"}, "status": {}}
)
WATCH = (("watch", "true"), ("timeoutSeconds", "1"))
FORCED = (("fieldManager", ACCOUNT), ("force", "true"))
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
RIGHTS = (
    Right("ClusterRole", "authentication.k8s.io", "tokenreviews", "create", "callers", "POST", TOKENS, body="{}"),
    Right("ClusterRole", "authorization.k8s.io", "subjectaccessreviews", "create", "rights", "POST", ACCESS, body="{}"),
    Right("ClusterRole", GROUP, "organizationkeys", "get", "a second look before a refusal", "GET", KEY),
    Right("ClusterRole", GROUP, "organizationkeys", "list", "the start", "GET", KEYS, (("limit", "1"),)),
    Right("ClusterRole", GROUP, "organizationkeys", "watch", "changes at once", "GET", KEYS, WATCH),
    Right(
        "ClusterRole", GROUP, "organizationkeys/status", "patch", "the count", "PATCH", f"{KEY}/status", FORCED, STATUS, APPLY
    ),
    Right("Role", "", "secrets", "get", "own registrations", "GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/registration"),
)


@pytest.fixture(scope="module")
def served(bare: Installation) -> Installation:
    """The chart with the key service and its console; nothing here runs Jobs, so the migration is left out."""
    bare.helm("install", "cmk-operator", CHART, "--set", f"{CONSOLE},{ALL},{SECRET},keyService.migration.enabled=false")
    return bare


@pytest.fixture(scope="module")
def ask(served: Installation) -> Callable[[Right], bool]:
    """Whether RBAC allows the key service's own token a request."""
    return asked_by(served, ACCOUNT)


def test_nothing_else_is_held() -> None:
    held = {
        (item["kind"], group, resource, verb)
        for item in rendered("--set", f"{KEY_SERVICE},{SECRET}")
        if item["kind"] in {"Role", "ClusterRole"} and item["metadata"]["name"].startswith(ROLE)
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert held == {right.key for right in RIGHTS}


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right.verb} {right.resource}: {right.stops}")
def test_without_it_the_key_service_cannot_go_on(served: Installation, ask: Callable[[Right], bool], right: Right) -> None:
    name = f"{ROLE}-secrets" if right.resource == "secrets" else ROLE
    place = () if right.role == "ClusterRole" else ("--namespace", NAMESPACE)
    role = json.loads(served.cluster.kubectl("get", right.role, name, *place, "--output", "json"))
    until(lambda: ask(right), "allowed")
    try:
        replaced(served, {**role, "rules": without(role["rules"], right)})
        until(lambda: not ask(right), f"refused: {right.stops}")
        others = [other for other in RIGHTS if other != right and other.verb != "watch" and other.role == right.role]
        assert [other.key for other in others if not ask(other)] == []
    finally:
        replaced(served, role)


def test_each_pod_is_admitted_where_restricted_is_enforced(served: Installation) -> None:
    objects = rendered("--set", CONSOLE)
    for item in objects:
        if item["kind"] in {"Deployment", "Job"}:
            template = item["spec"]["template"]
            pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "pod"}}
            pod["spec"]["containers"][0]["image"] = "cmk-keyservice:0"
            # Without controllers, the namespace has no ServiceAccount `default`.
            pod["spec"].setdefault("serviceAccountName", ACCOUNT)
            served.cluster.kubectl(
                "create", "--dry-run=server", "--namespace", NAMESPACE, "--filename", "-", stdin=yaml.safe_dump(pod)
            )


@pytest.fixture(scope="module")
def leaked(served: Installation, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """kubectl with the key service's own token, which RBAC allows everything: what is refused, the policy refuses."""
    manifest = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "OrganizationKey",
        "metadata": {"name": "acme", "namespace": NAMESPACE},
        "spec": {"organization": {"id": "acme", "name": "Acme Corp"}},
    }
    served.cluster.kubectl("create", "--filename", "-", stdin=json.dumps(manifest))
    accepted = {"accepted": ACCEPTED}
    served.cluster.kubectl(*_patch({"status": accepted}), "--namespace", NAMESPACE, "--subresource=status")
    return _with_token_of(ACCOUNT, served, tmp_path_factory)


@pytest.fixture(scope="module")
def leaked_console(
    served: Installation, leaked: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """The same with the console's own token."""
    return _with_token_of("cmk-console", served, tmp_path_factory)


def _with_token_of(account: str, served: Installation, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    binding = ["create", "clusterrolebinding", f"leaked-{account}", "--clusterrole=cluster-admin"]
    served.cluster.kubectl(*binding, f"--serviceaccount={NAMESPACE}:{account}")
    path: Path = tmp_path_factory.mktemp("token") / "kubeconfig"
    kubeconfig = served.cluster.service_account_kubeconfig(NAMESPACE, account, path)

    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        return clusters.kubectl(kubeconfig, "--namespace", NAMESPACE, *arguments, stdin=stdin)

    def refused() -> bool:
        try:
            kubectl(*_patch({"metadata": {"annotations": {"a": "b"}}}), "--dry-run=server")
        except ClusterError:
            return True
        return False

    until(refused, "refused by the policy")
    return kubectl


ACCEPTED: dict[str, Any] = {
    "revision": 1,
    "mode": "PlatformManaged",
    "kid": "platform-key",
    "since": "2026-11-30T00:00:00Z",
    "probeIntervalSeconds": 60,
    "outageGraceSeconds": 600,
}


def _patch(change: dict[str, Any]) -> tuple[str, ...]:
    return ("patch", "organizationkey", "acme", "--type=merge", "--patch", json.dumps(change))


def test_it_writes_its_own_part_of_a_status(leaked: Callable[..., str]) -> None:
    for total in (3, 4):
        leaked(*_patch({"status": {"dataKeys": {"total": total}}}), "--subresource=status")
    assert leaked("get", "organizationkey", "acme", "--output", "jsonpath={.status.dataKeys.total}") == "4"


@pytest.mark.parametrize(
    "change",
    [
        {"status": {"accepted": {"revision": 2}}},
        {"status": {"accepted": None}},
        {"status": {"observedGeneration": 7}},
        {"status": {"earlier": [{**ACCEPTED, "until": "2026-11-30T00:00:00Z"}]}},
        {"status": {"dataKeys": {"total": 5}, "platformKeyNeededUntil": "2026-11-30T00:00:00Z"}},
    ],
    ids=json.dumps,
)
def test_it_changes_nothing_else_of_a_status(leaked: Callable[..., str], change: dict[str, Any]) -> None:
    with pytest.raises(ClusterError, match=r"the key service (changes nothing of a status but|adds and removes nothing of)"):
        leaked(*_patch(change), "--subresource=status")


@pytest.mark.parametrize(
    "arguments",
    [
        _patch({"spec": {"suspend": True}}),
        _patch({"metadata": {"annotations": {"a": "b"}}}),
        ("delete", "organizationkey", "acme", "--wait=false"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]) + arguments[-1],
)
def test_it_changes_nothing_of_an_object_but_its_status(leaked: Callable[..., str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(ClusterError, match="the key service changes nothing but the status of an OrganizationKey"):
        leaked(*arguments)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"spec": {"mode": "PlatformManaged"}, "metadata": {"annotations": {"cmk-operator.dev/changed-by": "s (A)"}}}, ()),
        ({"spec": {"mode": None}, "metadata": {"annotations": {"cmk-operator.dev/changed-by": None}}}, ()),
        ({"status": {"breakGlass": {"uses": []}}}, ("--subresource=status",)),
        ({"status": {"breakGlass": None}}, ("--subresource=status",)),
    ],
    ids=json.dumps,
)
def test_the_console_saves_settings_and_what_it_knows_of_accounts(
    leaked_console: Callable[..., str], change: dict[str, Any], part: tuple[str, ...]
) -> None:
    assert "patched" in leaked_console(*_patch(change), *part)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (_patch({"spec": {"administrators": [{"subject": "me"}]}}), "changes nothing of an OrganizationKey but"),
        (_patch({"spec": {"backupRetention": "1d", "mode": "PlatformManaged"}}), "changes nothing of an OrganizationKey but"),
        (_patch({"metadata": {"annotations": {"cmk-operator.dev/confirm-deletion": "Acme Corp"}}}), "writes no annotation but"),
        (_patch({"metadata": {"annotations": {"cmk-operator.dev/approved-version": "1"}}}), "writes no annotation but"),
        (_patch({"metadata": {"finalizers": ["cmk-operator.dev/mine"]}}), "and no finalizer"),
        ((*_patch({"status": {"accepted": None}}), "--subresource=status"), "changes nothing of an OrganizationKey but"),
        (
            (*_patch({"status": {"breakGlass": {"uses": []}, "pendingVersion": "1"}}), "--subresource=status"),
            "changes nothing of an OrganizationKey but",
        ),
        (
            ("delete", "organizationkey", "acme", "--wait=false"),
            "changes nothing but OrganizationKeys, and creates nothing but",
        ),
        (("delete", "customertenant", "absent", "--wait=false"), None),
        (("annotate", "organizationkey", "acme", "a=b"), "writes no annotation but"),
    ],
    ids=lambda value: " ".join(value[:2]) + value[-1] if isinstance(value, tuple) else str(value),
)
def test_the_console_changes_nothing_else(
    leaked_console: Callable[..., str], arguments: tuple[str, ...], words: str | None
) -> None:
    with pytest.raises(ClusterError, match=words or "NotFound"):
        leaked_console(*arguments)


def test_the_console_creates_preflights_and_no_organization(leaked_console: Callable[..., str]) -> None:
    def create(kind: str, spec: dict[str, Any]) -> str:
        manifest = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": "b"}, "spec": spec}
        return leaked_console("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(manifest))

    organization = {"organization": {"id": "b", "name": "B"}}
    assert "created" in create("Preflight", {"organizationKeys": [{"name": "b", "spec": organization}]})
    with pytest.raises(ClusterError, match="creates nothing but Preflights"):
        create("OrganizationKey", organization)
