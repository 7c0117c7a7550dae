"""Licences on a real API server: each edit of an OrganizationKey that the policy allows and refuses, however it is sent."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes import cluster as clusters
from sandbox.kubernetes.servers import ClusterError
from tests.admission.api import Api
from tests.chart.conftest import CHART, NAMESPACE, HelmError, helm, only, rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

TEAM = "licensed"
API_VERSION = "cmk-operator.dev/v1alpha1"
GUID = "11111111-1111-4111-8111-111111111111"
ENTERPRISE = {"licensing": "Unified", "plan": "Enterprise", "state": "Active"}
REGISTRATION = {"clientId": GUID, "credentials": [{"secretRef": {"name": "vault", "key": "old"}}]}
RENEWED = {"clientId": GUID, "credentials": [{"secretRef": {"name": "vault", "key": "new"}}]}
KEY = "https://contoso.vault.azure.net/keys/orders"
OWN: dict[str, Any] = {
    "organization": {"id": "acme", "name": "Acme Corp"},
    "mode": "CustomerManaged",
    "confirmation": "Acme Corp",
    "tenantRef": {"name": "contoso"},
    "keyUri": KEY,
    "access": {"registration": REGISTRATION},
}
PLATFORM: dict[str, Any] = {"organization": OWN["organization"]}
FROZEN = ("Free", "ViewOnly")
LEFT = "without a licence only spec.access.registration.credentials may change, or mode, to PlatformManaged"
METHODS = {"accessMethods": ["Application", "Registration"]}


def licence(**organizations: dict[str, Any]) -> dict[str, Any]:
    return {**METHODS, "organizations": organizations}


def in_state(state: str, **more: Any) -> dict[str, Any]:
    return {**ENTERPRISE, "state": state, **more}


def grace(days: int) -> dict[str, Any]:
    return in_state("Grace", graceUntil=(datetime.now(UTC) + timedelta(days=days)).isoformat())


class Cluster:
    """The two kinds that meet, by requests as they are (quick), and kubectl where its own way of writing is tried."""

    def __init__(self, installation: Installation, directory: Path) -> None:
        self.kubectl = installation.cluster.kubectl
        self._api = Api(installation.cluster, directory)
        self._marks = 0

    def send(self, method: str, path: str, body: Any = None, content: str = "application/json", **query: str) -> dict[str, Any]:
        """Send one request; a refusal is an error, as with kubectl."""
        answer = self._api.request(method, f"/apis/{API_VERSION}/{path}", body, content, **query)
        if answer.status >= 400:
            raise ClusterError(answer.message)
        return answer.body

    def licensed(self, spec: dict[str, Any]) -> None:
        """Write the Licence, and wait until the policy judges by it: the API server notices a parameter some moments later."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        spec = {**copy.deepcopy(spec), "organizations": {**spec.get("organizations", {}), mark: ENTERPRISE}}
        metadata = {"name": "organizations"}
        body = {"apiVersion": API_VERSION, "kind": "Licence", "metadata": metadata, "spec": spec}
        try:
            held = self.send("GET", "licences/organizations")
            metadata["resourceVersion"] = held["metadata"]["resourceVersion"]
            self.send("PUT", "licences/organizations", body)
        except ClusterError:
            self.send("POST", "licences", body)
        access = {"Application": {"application": {}}, "Registration": {"registration": REGISTRATION}}
        probe = {**OWN, "organization": {"id": mark, "name": "Acme Corp"}, "access": access[spec["accessMethods"][0]]}
        until(lambda: self.judge(probe))

    def create(self, name: str, spec: dict[str, Any], **query: str) -> None:
        self.send("POST", f"namespaces/{TEAM}/organizationkeys", manifest(name, spec), **query)

    def judge(self, spec: dict[str, Any]) -> None:
        """Create an object without keeping it."""
        self.create("judged", spec, dryRun="All")

    def made(self, name: str, spec: dict[str, Any] = OWN) -> None:
        """An OrganizationKey from the time when the organization was licensed."""
        self.licensed(licence(acme=ENTERPRISE))
        self.create(name, spec)

    def delete(self, name: str) -> None:
        self.send("DELETE", f"namespaces/{TEAM}/organizationkeys/{name}")

    def patch(self, name: str, change: dict[str, Any], part: str = "", **query: str) -> None:
        path = f"namespaces/{TEAM}/organizationkeys/{name}{part}"
        self.send("PATCH", path, change, "application/merge-patch+json", **query)

    def get(self, name: str) -> dict[str, Any]:
        return self.send("GET", f"namespaces/{TEAM}/organizationkeys/{name}")


def manifest(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": TEAM}
    return {"apiVersion": API_VERSION, "kind": "OrganizationKey", "metadata": metadata, "spec": copy.deepcopy(spec)}


def until(act: Callable[[], object]) -> None:
    for _ in range(2000):
        try:
            act()
        except ClusterError:
            continue
        return
    act()


@pytest.fixture(scope="module")
def cluster(bare: Installation, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The chart with licences, and a namespace for OrganizationKeys."""
    bare.helm("install", "cmk-operator", CHART, "--set", "licences.enabled=true")
    bare.cluster.kubectl("create", "namespace", TEAM)
    return Cluster(bare, tmp_path_factory.mktemp("administrator"))


def test_before_the_provider_has_written_a_licence_nothing_can_be_written(cluster: Cluster) -> None:
    until(lambda: refused(cluster))
    with pytest.raises(ClusterError, match="no params found for policy binding with `Deny`"):
        cluster.judge(PLATFORM)


def refused(cluster: Cluster) -> None:
    """Fail until the policy is in force."""
    try:
        cluster.judge(PLATFORM)
    except ClusterError:
        return
    raise ClusterError("the policy is not in force yet")


LISTED: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    (
        {
            "accessMethods": ["Registration"],
            "viewOnlyEncrypt": "Refused",
            "organizations": {"acme": ENTERPRISE, "0": ENTERPRISE},
        },
        None,
    ),
    ({"organizations": {"acme": {**ENTERPRISE, "state": "Grace", "graceUntil": "2027-01-01T00:00:00Z"}}}, None),
    ({"organizations": {"acme": {**ENTERPRISE, "plan": "Standard Plus"}}}, None),
    ({"organizations": {"acme": {**ENTERPRISE, "state": "Grace"}}}, "state Grace needs graceUntil, and no other state has it"),
    ({"organizations": {"acme": {**ENTERPRISE, "graceUntil": "2027-01-01T00:00:00Z"}}}, "no other state has it"),
    ({"organizations": {"acme": {**ENTERPRISE, "state": "Expired"}}}, "Unsupported value"),
    ({"organizations": {"acme": {**ENTERPRISE, "licensing": "Enterprise"}}}, "Unsupported value"),
    ({"organizations": {"acme": {**ENTERPRISE, "plan": "enterprise"}}}, "should match"),
    ({"organizations": {"acme": {"licensing": "Flex", "state": "Active"}}}, "Required value"),
    ({"organizations": {"Acme": ENTERPRISE}}, "organizations must be listed by their id"),
    ({"organizations": {"a" * 64: ENTERPRISE}}, "at most 63 characters"),
    ({"organizations": {"acme-": ENTERPRISE}}, "lower-case letters, digits and hyphens"),
    ({"organizations": {f"o{n}": ENTERPRISE for n in range(3001)}}, "must have at most 3000 items"),
    ({"accessMethods": []}, "should have at least 1 items"),
    ({"accessMethods": ["Application", "Application"]}, "Duplicate value"),
    ({"accessMethods": ["Secret"]}, "Unsupported value"),
    ({"viewOnlyEncrypt": "Sometimes"}, "Unsupported value"),
    ({"organization": {}}, "unknown field"),
]


@pytest.mark.parametrize(("spec", "words"), LISTED)
def test_each_rule_of_a_licence_admits_what_is_good_and_refuses_what_is_not(
    cluster: Cluster, spec: dict[str, Any], words: str | None
) -> None:
    body = {"apiVersion": API_VERSION, "kind": "Licence", "metadata": {"name": "organizations"}, "spec": spec}
    if words is None:
        cluster.send("POST", "licences", body, dryRun="All", fieldValidation="Strict")
    else:
        with pytest.raises(ClusterError, match=words):
            cluster.send("POST", "licences", body, dryRun="All", fieldValidation="Strict")


def test_a_cluster_has_one_licence(cluster: Cluster) -> None:
    body = {"apiVersion": API_VERSION, "kind": "Licence", "metadata": {"name": "acme"}, "spec": {}}
    with pytest.raises(ClusterError, match="a cluster has one Licence, and its name is organizations: list every organization"):
        cluster.send("POST", "licences", body, dryRun="All")


def test_a_full_licence_fits_and_can_be_changed_one_organization_at_a_time(cluster: Cluster) -> None:
    full = licence(**{f"organization-with-a-long-identifier-{n}": grace(30) for n in range(2999)})
    cluster.licensed(full)
    change = {"spec": {"organizations": {"organization-with-a-long-identifier-7": in_state("Free", graceUntil=None)}}}
    cluster.send("PATCH", "licences/organizations", change, "application/merge-patch+json")
    cluster.licensed(licence())
    cluster.judge(PLATFORM)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ENTERPRISE, None),
        ({**ENTERPRISE, "licensing": "Flex", "plan": "Standard"}, None),
        ({**ENTERPRISE, "licensing": "Flex", "plan": "Advanced"}, None),
        (
            {**ENTERPRISE, "licensing": "Flex", "plan": "Enterprise"},
            "the plan Flex Enterprise of organization acme has no customer",
        ),
        ({**ENTERPRISE, "plan": "Standard"}, "the organization must buy Flex Standard, Flex Advanced or Unified Enterprise"),
        (grace(1), None),
        (grace(-1), "has ended, and its grace period too, so its settings are frozen: the organization must renew"),
        (in_state("Free"), "organization acme is on the Free plan, so its settings are frozen: the organization must renew"),
        (in_state("ViewOnly"), "organization acme is view-only, so its settings are frozen: the organization must renew"),
        (None, "organization acme has no licence for a customer-managed key: the provider's administrator must list it in"),
    ],
)
def test_who_may_enable_a_key_of_its_own(cluster: Cluster, entry: dict[str, Any] | None, words: str | None) -> None:
    cluster.licensed(licence(**({"acme": entry} if entry is not None else {"other": ENTERPRISE})))
    if words is None:
        cluster.judge(OWN)
    else:
        with pytest.raises(ClusterError) as refused:
            cluster.judge(OWN)
        assert words in str(refused.value)
        assert "mode PlatformManaged needs no licence" in str(refused.value)
    cluster.judge(PLATFORM)


EDITS: list[dict[str, Any]] = [
    {"keyUri": "https://contoso.vault.azure.net/keys/other"},
    {"keyUri": f"{KEY}/0123456789abcdef0123456789abcdef"},
    {"tenantRef": {"name": "other"}},
    {"access": {"registration": None, "application": {}}},
    {"access": {"registration": {"clientId": GUID.replace("1", "2")}}},
    {"access": {"registration": RENEWED}, "backupRetention": "35d"},
    {"access": {"registration": {"clientId": GUID.replace("1", "2"), "credentials": RENEWED["credentials"]}}},
    {"rotation": {"approval": "Manual"}},
    {"revocation": {"outageGrace": "60m"}},
    {"backupRetention": "35d"},
    {"organization": {"region": "westeurope"}},
]


@pytest.fixture(params=[*FROZEN, "absent", "other plan", "grace over"])
def frozen(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """An organization with a key of its own, whose licence has gone."""
    entries = {
        "absent": {},
        "other plan": {"acme": {**ENTERPRISE, "plan": "Standard"}},
        "grace over": {"acme": grace(-1)},
    }
    cluster.made("own")
    cluster.licensed(licence(**entries.get(request.param, {"acme": in_state(request.param)})))
    yield cluster
    cluster.delete("own")


def test_a_frozen_organization_keeps_its_settings_and_may_go_one_way(frozen: Cluster) -> None:
    for edit in EDITS:
        with pytest.raises(ClusterError, match=LEFT):
            frozen.patch("own", {"spec": edit})
    assert frozen.get("own")["spec"] == OWN
    # What is no edit passes: metadata, requests, finalizers and status.
    asked = {"cmk-operator.dev/reconcile-requested-at": "now", "cmk-operator.dev/approved-version": "a" * 32}
    frozen.patch(
        "own", {"metadata": {"annotations": asked, "labels": {"a": "b"}, "finalizers": ["cmk-operator.dev/data-keys"]}}
    )
    frozen.patch("own", {"metadata": {"finalizers": None}})
    frozen.patch("own", {"status": {"observedGeneration": 1}}, "/status")
    # Renewing the credential.
    frozen.patch("own", {"spec": {"access": {"registration": RENEWED}}})
    # The one way, and not back.
    frozen.patch("own", {"spec": {"mode": "PlatformManaged"}})
    with pytest.raises(ClusterError, match="mode PlatformManaged needs no licence"):
        frozen.patch("own", {"spec": {"mode": "CustomerManaged"}})
    frozen.patch("own", {"spec": {"mode": None, "keyUri": None, "access": None, "confirmation": None, "tenantRef": None}})
    frozen.patch("own", {"spec": {"backupRetention": "35d"}})
    with pytest.raises(ClusterError, match="mode PlatformManaged needs no licence"):
        frozen.patch("own", {"spec": OWN})
    frozen.licensed(licence(acme=ENTERPRISE))
    frozen.patch("own", {"spec": OWN})


def test_a_frozen_edit_is_refused_to_kubectl_and_gitops_too(cluster: Cluster) -> None:
    cluster.made("applied")
    cluster.licensed(licence(acme=in_state("ViewOnly")))
    by_kubectl, by_gitops = ["apply"], ["apply", "--server-side", "--force-conflicts", "--field-manager=gitops"]
    edited = json.dumps(manifest("applied", {**OWN, "keyUri": f"{KEY}-2"}))
    for arguments in (by_kubectl, by_gitops, ["replace"]):
        with pytest.raises(ClusterError, match=LEFT):
            cluster.kubectl(*arguments, "--filename", "-", stdin=edited)
    # The same manifest again, as GitOps sends it all day, is no edit; renewing the credential is allowed.
    for spec in (OWN, {**OWN, "access": {"registration": RENEWED}}):
        for arguments in (by_kubectl, by_gitops):
            cluster.kubectl(*arguments, "--filename", "-", stdin=json.dumps(manifest("applied", spec)))
    assert cluster.get("applied")["spec"]["access"] == {"registration": RENEWED}
    cluster.delete("applied")


@pytest.mark.parametrize("entry", [ENTERPRISE, grace(1)])
def test_a_licensed_organization_may_edit_everything(cluster: Cluster, entry: dict[str, Any]) -> None:
    cluster.made("free")
    cluster.licensed(licence(acme=entry))
    for edit in EDITS:
        cluster.patch("free", {"spec": edit}, dryRun="All")
    cluster.patch("free", {"spec": {"mode": "PlatformManaged"}})
    cluster.patch("free", {"spec": {"mode": "CustomerManaged"}})
    cluster.delete("free")


def test_kubectl_warns_of_the_end_of_a_grace_period_and_of_the_way_without_return(cluster: Cluster) -> None:
    cluster.made("warned")
    cluster.licensed(licence(acme=grace(1)))
    patched = ("patch", "orgkey", "warned", "--namespace", TEAM, "--type=merge", "--dry-run=server", "--warnings-as-errors")
    with pytest.raises(ClusterError, match="organization acme has ended, and changes are allowed until"):
        cluster.kubectl(*patched, "--patch", '{"spec":{"backupRetention":"35d"}}')
    cluster.licensed(licence(acme=in_state("Free")))
    to_platform = '{"spec":{"mode":"PlatformManaged"}}'
    with pytest.raises(ClusterError, match="goes to the platform's key, and without a licence there is no way back to its own"):
        cluster.kubectl(*patched, "--patch", to_platform)
    cluster.licensed(licence(acme=ENTERPRISE))
    cluster.kubectl(*patched, "--patch", to_platform)
    cluster.delete("warned")


def test_forged_dates_do_not_prolong_a_grace_period(cluster: Cluster) -> None:
    cluster.made("dated")
    cluster.licensed(licence(acme=grace(-1)))
    held = cluster.get("dated")
    held["spec"]["backupRetention"] = "35d"
    forged = copy.deepcopy(held)
    for entry in forged["metadata"]["managedFields"]:
        entry["time"] = "2020-01-01T00:00:00Z"
    without = copy.deepcopy(held)
    without["metadata"]["managedFields"] = [{}]
    for body in (forged, without):
        with pytest.raises(ClusterError, match="its grace period too"):
            cluster.send("PUT", f"namespaces/{TEAM}/organizationkeys/dated", body)
    cluster.delete("dated")


@pytest.mark.parametrize("offered", ["Application", "Registration"])
def test_only_what_the_platform_offers_can_be_chosen_and_what_is_in_use_stays(cluster: Cluster, offered: str) -> None:
    access: dict[str, dict[str, Any]] = {"Application": {"application": {}}, "Registration": {"registration": REGISTRATION}}
    other = next(method for method in access if method != offered)
    in_use = {**OWN, "access": access[other]}
    cluster.made("in-use", in_use)
    cluster.licensed({"accessMethods": [offered], "organizations": {"acme": ENTERPRISE}})
    cluster.judge({**OWN, "access": access[offered]})
    with pytest.raises(ClusterError, match=f"does not offer access.{other.lower()}: use access.{offered.lower()}, or let"):
        cluster.judge(in_use)
    cluster.patch("in-use", {"spec": {"backupRetention": "35d"}})
    change = {**dict.fromkeys(access[other], None), **access[offered]}
    cluster.patch("in-use", {"spec": {"access": change}})
    with pytest.raises(ClusterError, match=f"does not offer access.{other.lower()}"):
        cluster.patch("in-use", {"spec": {"access": {**dict.fromkeys(change, None), **access[other]}}})
    cluster.delete("in-use")


def test_a_namespaces_administrator_reads_and_writes_no_licence(cluster: Cluster, bare: Installation, tmp_path: Path) -> None:
    cluster.kubectl("create", "serviceaccount", "administrator", "--namespace", TEAM)
    for role in ("admin", "edit", "view"):
        named = ["create", "rolebinding", role, f"--clusterrole={role}", "--namespace", TEAM]
        cluster.kubectl(*named, f"--serviceaccount={TEAM}:administrator")
    # The controller that collects aggregated roles does not run here: give it what it would collect.
    for part in ("view", "edit"):
        bound = ["create", "clusterrolebinding", f"aggregated-{part}", f"--clusterrole=cmk-operator-{part}"]
        cluster.kubectl(*bound, f"--serviceaccount={TEAM}:administrator")
    kubeconfig = bare.cluster.service_account_kubeconfig(TEAM, "administrator", tmp_path / "kubeconfig")
    cluster.licensed(licence())
    clusters.kubectl(kubeconfig, "get", "orgkey", "--namespace", TEAM)
    change = ("--type=merge", "--patch", json.dumps({"spec": {"organizations": {"acme": ENTERPRISE}}}))
    for arguments in (
        ["get", "licence", "organizations"],
        ["patch", "licence", "organizations", *change],
        ["delete", "licence", "organizations"],
    ):
        with pytest.raises(ClusterError, match=r"[Ff]orbidden"):
            clusters.kubectl(kubeconfig, *arguments)


def test_the_billing_system_writes_one_organization_at_a_time(cluster: Cluster, bare: Installation, tmp_path: Path) -> None:
    cluster.kubectl("create", "serviceaccount", "billing", "--namespace", NAMESPACE)
    bound = ["create", "clusterrolebinding", "billing", "--clusterrole=cmk-operator-licence-writer"]
    cluster.kubectl(*bound, f"--serviceaccount={NAMESPACE}:billing")
    kubeconfig = bare.cluster.service_account_kubeconfig(NAMESPACE, "billing", tmp_path / "kubeconfig")
    cluster.licensed(licence(acme=ENTERPRISE, globex=ENTERPRISE))
    change = json.dumps({"spec": {"organizations": {"acme": {"state": "ViewOnly"}}}})
    clusters.kubectl(kubeconfig, "patch", "licence", "organizations", "--type=merge", "--patch", change)
    found = json.loads(clusters.kubectl(kubeconfig, "get", "licence", "organizations", "--output", "json"))["spec"][
        "organizations"
    ]
    assert (found["acme"]["state"], found["globex"]) == ("ViewOnly", ENTERPRISE)
    with pytest.raises(ClusterError, match=r"[Ff]orbidden"):
        clusters.kubectl(kubeconfig, "delete", "licence", "organizations")


def test_the_operator_reads_the_licence_and_writes_none(cluster: Cluster, bare: Installation, tmp_path: Path) -> None:
    kubeconfig = bare.cluster.service_account_kubeconfig(NAMESPACE, "cmk-operator", tmp_path / "kubeconfig")
    cluster.licensed(licence())
    clusters.kubectl(kubeconfig, "get", "licence", "organizations")
    for arguments in (["get", "licences"], ["patch", "licence", "organizations", "--type=merge", "--patch", '{"spec":{}}']):
        with pytest.raises(ClusterError, match=r"[Ff]orbidden"):
            clusters.kubectl(kubeconfig, *arguments)


def test_the_licence_stays_while_licences_are_used(cluster: Cluster) -> None:
    cluster.licensed(licence())
    with pytest.raises(ClusterError, match="take organizations out of it; to use none, let the provider's administrator set"):
        cluster.kubectl("delete", "licence", "organizations")


def test_without_licences_the_chart_brings_no_policy_of_them() -> None:
    found = {item["metadata"]["name"] for item in rendered() if item["kind"] != "CustomResourceDefinition"}
    used = {item["metadata"]["name"] for item in rendered("--set", "licences.enabled=true")}
    assert not any("licence" in name for name in found)
    for values, told in (((), None), (("--set", "licences.enabled=true"), "true")):
        container = only(rendered(*values), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        settings = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert settings.get("CMK_OPERATOR_LICENCES") == told
    assert {"cmk-operator-licence", "cmk-operator-licence-warning", "cmk-operator-licence-stays"} <= used
    with pytest.raises(HelmError, match="licences"):
        helm("template", CHART, "--set", "licences.enabled=sometimes")
