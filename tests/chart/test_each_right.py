"""Every right of the chart's roles is needed: with one of them removed, one request of the operator is refused, and no other."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.audit.layout import HEAD_NAME
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, ObjectReference, collection_path
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.credential import Credential
from cmk_operator.kubernetes.leadership import LEASE_NAME
from cmk_operator.telemetry import Telemetry
from tests.chart.conftest import NAMESPACE, rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

GROUP = "cmk-operator.dev"
KINDS = {
    "federatedidentities": ("FederatedIdentity", ""),
    "customertenants": ("CustomerTenant", ""),
    "customermanagedkeys": ("CustomerManagedKey", "team"),
    "encryptedresources": ("EncryptedResource", "team"),
    "organizationkeys": ("OrganizationKey", "team"),
    "preflights": ("Preflight", "team"),
}
ROLE = "cmk-operator"
LEASES = "kube-system"
SECRET = "signing"  # noqa: S105 - the name of a Secret
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
ATTEMPTS = 2000
"""The API server notices a changed role after some moments; an attempt takes a few milliseconds."""


@dataclass(frozen=True)
class Right:
    """What one right is for, and the request of the operator that needs it."""

    role: str
    group: str
    resource: str
    verb: str
    stops: str
    """What the operator cannot do without it."""
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: str = ""
    content: str = "application/json"

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.role, self.group, self.resource, self.verb)


def _kind_rights() -> Iterator[Right]:
    for plural, (kind, namespace) in KINDS.items():
        one = ObjectReference(plural, namespace, "absent").path
        status = json.dumps(
            {
                "apiVersion": f"{GROUP}/v1alpha1",
                "kind": kind,
                "metadata": {"name": "absent"},
                "status": {"observedGeneration": 1},
            }
        )
        apply = (("fieldManager", ROLE), ("force", "true"))
        watch = (("watch", "true"), ("timeoutSeconds", "1"))
        stops = "read again before a write" if plural != "preflights" else "checks of manifests"
        yield Right("ClusterRole", GROUP, plural, "get", stops, "GET", one)
        yield Right("ClusterRole", GROUP, plural, "list", "the start", "GET", collection_path(plural), (("limit", "1"),))
        yield Right("ClusterRole", GROUP, plural, "watch", "changes at once", "GET", collection_path(plural), watch)
        yield Right("ClusterRole", GROUP, f"{plural}/status", "patch", "status", "PATCH", f"{one}/status", apply, status, APPLY)
        if kind != "Preflight":
            finalizers = json.dumps({"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": "absent"}})
            yield Right("ClusterRole", GROUP, plural, "patch", "a deletion that waits", "PATCH", one, apply, finalizers, APPLY)
    preflight = ObjectReference("preflights", "team", "absent").path
    yield Right("ClusterRole", GROUP, "preflights", "delete", "the end of a Preflight", "DELETE", preflight)


def _other_rights() -> Iterator[Right]:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    extensions = ("ClusterRole", "apiextensions.k8s.io", "customresourcedefinitions")
    yield Right(*extensions, "list", "watches of a definition that is new", "GET", crds, (("limit", "1"),))
    watch = (("watch", "true"), ("timeoutSeconds", "1"))
    yield Right(*extensions, "watch", "watches of a definition that is new", "GET", crds, watch)
    events = "/apis/events.k8s.io/v1/namespaces/team/events"
    yield Right("ClusterRole", "events.k8s.io", "events", "create", "events", "POST", events, body="{}")
    maps = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    config = ("Role", "", "configmaps")
    yield Right(*config, "create", "the first entry of the record", "POST", maps, body="{}")
    yield Right(*config, "get", "the record after a restart", "GET", f"{maps}/{HEAD_NAME}")
    yield Right(*config, "patch", "the next entry of the record", "PATCH", f"{maps}/{HEAD_NAME}", (), "{}", MERGE)
    yield Right(*config, "delete", "room for new entries of the record", "DELETE", f"{maps}/{HEAD_NAME}-0")
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
    lease = ("Role", "coordination.k8s.io", "leases")
    yield Right(*lease, "create", "the first election", "POST", leases, body="{}")
    yield Right(*lease, "get", "elections", "GET", f"{leases}/{LEASE_NAME}")
    yield Right(*lease, "update", "leadership", "PUT", f"{leases}/{LEASE_NAME}", body="{}")
    secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}"
    yield Right("Role", "", "secrets", "get", "signatures and Snowflake", "GET", secrets)


RIGHTS = (*_kind_rights(), *_other_rights())


def test_nothing_else_is_held() -> None:
    held = {
        (item["kind"], group, resource, verb)
        for item in rendered("--set", f"rbac.secrets[0].namespace={NAMESPACE},rbac.secrets[0].names={{{SECRET}}}")
        if item["kind"] in {"Role", "ClusterRole"} and not item["metadata"]["name"].endswith(("-view", "-edit"))
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert held == {right.key for right in RIGHTS}
    assert len(held) == len(RIGHTS), "one request for each right"


@pytest.fixture(scope="module")
def ask(installed: Installation) -> Callable[[Right], bool]:
    """Whether RBAC allows the operator's own token a request."""
    return asked_by(installed, "cmk-operator")


def asked_by(installed: Installation, account: str) -> Callable[[Right], bool]:
    """Whether RBAC allows the token of a ServiceAccount of the release a request."""
    tls = ssl.create_default_context(cafile=str(installed.cluster.ca_file))
    token = installed.cluster.service_account_token(NAMESPACE, account)

    def allowed(right: Right) -> bool:
        async def send() -> bool:
            async with Connection(installed.cluster.server, tls, Credential.bearer(token)).open() as session:
                client = KubernetesClient(session, Telemetry())
                body: Any = json.loads(right.body) if right.body else None
                try:
                    await client.request(
                        right.method, right.path, query=dict(right.query), body=body, content_type=right.content
                    )
                except KubernetesError as error:
                    return error.status != 403
                return True

        return asyncio.run(send())

    return allowed


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right.verb} {right.resource}: {right.stops}")
def test_without_it_the_operator_cannot_go_on(installed: Installation, ask: Callable[[Right], bool], right: Right) -> None:
    name = ROLE + {"secrets": "-secrets", "leases": "-lease"}.get(right.resource, "")
    place = () if right.role == "ClusterRole" else ("--namespace", LEASES if right.resource == "leases" else NAMESPACE)
    role = json.loads(installed.cluster.kubectl("get", right.role, name, *place, "--output", "json"))
    until(lambda: ask(right), "allowed")
    try:
        replaced(installed, {**role, "rules": without(role["rules"], right)})
        until(lambda: not ask(right), f"refused: {right.stops}")
        others = [other for other in RIGHTS if other != right and other.verb != "watch" and other.role == right.role]
        assert [other.key for other in others if not ask(other)] == []
    finally:
        replaced(installed, role)


def replaced(installed: Installation, role: dict[str, Any]) -> None:
    metadata = {key: value for key, value in role["metadata"].items() if key in {"name", "namespace", "labels", "annotations"}}
    installed.cluster.kubectl("replace", "--filename", "-", stdin=json.dumps({**role, "metadata": metadata}))


def without(rules: list[dict[str, Any]], right: Right) -> list[dict[str, Any]]:
    """The rules, with one verb on one resource less."""
    return [
        {**rule, "resources": [resource], "verbs": verbs}
        for rule in rules
        for resource in rule["resources"]
        if (
            verbs := [verb for verb in rule["verbs"] if (resource, verb) != (right.resource, right.verb)]
            if _of(rule, right)
            else rule["verbs"]
        )
    ]


def _of(rule: dict[str, Any], right: Right) -> bool:
    return bool(right.group in rule["apiGroups"])


def until(test: Callable[[], bool], what: str) -> None:
    for _ in range(ATTEMPTS):
        if test():
            return
    pytest.fail(f"never {what}")
