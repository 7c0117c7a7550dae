"""The commands that tell how things are, on a real API server, through the real kubectl; the operator's part is written here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.audit.chain import ORIGIN, follow
from cmk_operator.core.audit.change import Change, Event, Subject
from cmk_operator.core.audit.layout import entry_key, segment_name
from tests.unit.samples import ACCOUNT, CUSTOMER, KEY, V1, V2, V3, identity_body, key_body, resource_body, tenant_body

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from sandbox.kubernetes.cluster import Cluster

NAMESPACE = "cli-reading"
OPERATOR = "cli-reading-operator"
LOST_AT, STOPS_AT = "2026-11-24T12:00:00Z", "2026-11-24T12:10:00Z"
MESSAGE = "the key version is disabled: the customer's administrator must enable it, or leave it disabled to keep data cut off"


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": LOST_AT,
    }


def key_status() -> dict[str, Any]:
    """The old version is lost while a resource is on it, and a third waits for approval."""
    return {
        "observedGeneration": 1,
        "conditions": [condition("Ready", "False", "Disabled", MESSAGE), condition("Stalled", "True", "Disabled", MESSAGE)],
        "effective": {
            "rotation": "Following",
            "apply": "Immediately",
            "approval": "Manual",
            "prerequisites": "Enforce",
            "holdSupersededFor": "24h",
        },
        "access": {
            "state": "Disabled",
            "since": LOST_AT,
            "lostSince": LOST_AT,
            "inaccessibleExpectedAt": STOPS_AT,
            "stops": [
                {
                    "service": "Azure Storage",
                    "expectedAt": STOPS_AT,
                    "resources": ["docs"],
                    "resourceCount": 1,
                    "effect": "reads and writes of its data are refused with 403",
                    "recovery": "it heals by itself",
                }
            ],
        },
        "activeVersion": V2,
        "pendingVersion": V3,
        "versions": [
            {"version": V2, "access": "Accessible", "enabled": True},
            {"version": V1, "access": "Disabled", "enabled": False, "inUseBy": ["docs"], "inUseByCount": 1},
        ],
        "rotations": [{"from": V1, "to": V2, "at": LOST_AT, "by": "Key Vault"}],
        "usedByCount": 1,
    }


def applied(version: str) -> dict[str, Any]:
    return {"applied": {"keyUri": f"{KEY}/{version}", "version": version, "since": LOST_AT}}


@pytest.fixture
def write(cluster: Cluster) -> Callable[[str, str, dict[str, Any]], None]:
    """Write a status, as the operator does."""

    def patch(plural: str, name: str, status: dict[str, Any]) -> None:
        where = (
            "--namespace",
            NAMESPACE,
            "--subresource",
            "status",
            "--type",
            "merge",
            "--patch",
            json.dumps({"status": status}),
        )
        cluster.kubectl("patch", f"{plural}.cmk-operator.dev", name, *where)

    return patch


@pytest.fixture(scope="module")
def objects(cluster: Cluster) -> str:
    def manifest(kind: str, name: str, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        return {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": body["spec"]}

    entry = Change(
        "1", "2026-11-25T09:00:00Z", Event.KEY_CHANGED, Subject("EncryptedResource", NAMESPACE, "docs", "u"), "cmk-operator",
        V1, V2, "the manifest says so", request_id="request-1",
    )  # fmt: skip
    segment = {"name": segment_name(0), "namespace": OPERATOR}
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "one", "namespace": NAMESPACE},
        "eventTime": "2026-11-25T10:00:00.000000Z",
        "type": "Warning",
        "reason": "KeyDisabled",
        "action": "ProbeKey",
        "note": MESSAGE,
        "regarding": {"kind": "CustomerManagedKey", "namespace": NAMESPACE, "name": "storage"},
        "reportingController": "cmk-operator.dev/cmk-operator",
        "reportingInstance": "tests",
    }
    foreign = event | {"metadata": {"name": "two", "namespace": NAMESPACE}, "reportingController": "somebody.else/controller"}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR}},
        manifest("FederatedIdentity", "reading-provider", identity_body()),
        manifest(
            "CustomerTenant",
            "reading",
            tenant_body(identityRef={"name": "reading-provider"}, allowedNamespaces=[NAMESPACE]),
        ),
        manifest("CustomerManagedKey", "storage", key_body(tenantRef={"name": "reading"}), NAMESPACE),
        manifest("CustomerManagedKey", "reading-idle", key_body(tenantRef={"name": "reading"}, keyUri=f"{KEY}2"), NAMESPACE),
        manifest("EncryptedResource", "docs", resource_body(resourceId=f"{ACCOUNT}9"), NAMESPACE),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": segment, "data": {entry_key(1): follow(ORIGIN, entry).line}},
        event,
        foreign,
    ]
    stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("apply", "--filename", "-", stdin=stdin)
    return NAMESPACE


@pytest.fixture
def known(objects: str, write: Callable[[str, str, dict[str, Any]], None]) -> str:
    write("customermanagedkeys", "storage", key_status())
    write("encryptedresources", "docs", {"observedGeneration": 1} | applied(V1))
    return objects


def test_status_tells_what_stops_when_and_who_must_act(run: Callable[..., Result], known: str) -> None:
    done = run("status", "--tenant", "reading", "-o", "json", "--exit-code")
    assert done.exit_code == 1, "something is not as it should be"
    data = json.loads(done.stdout)
    assert [(one["name"], one["tenantId"], one["reason"]) for one in data["tenants"]] == [("reading", CUSTOMER, "NotSeen")]
    key = next(one for one in data["keys"] if one["name"] == "storage")
    assert (key["access"], key["activeVersion"], key["whoMustAct"]) == ("Disabled", V2, "customer's administrator")
    assert (key["stops"][0]["expectedAt"], key["stops"][0]["resources"]) == (STOPS_AT, ["docs"])
    assert [(one["name"], one["version"]) for one in data["resources"]] == [("docs", V1)]
    shown = " ".join(run("status", "-n", known).stdout.split())
    assert f"Azure Storage about {STOPS_AT}: docs: reads and writes" in shown
    assert f"{known}/storage: {MESSAGE}" in shown
    assert f"kubectl cmk approve {known}/storage {V3}" in shown


def test_status_says_who_makes_a_plan_come_true(
    run: Callable[..., Result], known: str, write: Callable[[str, str, dict[str, Any]], None]
) -> None:
    planned = condition(
        "Ready", "True", "PlanOnly", "the manifest asks to observe only; status.plan shows what would be written"
    )
    plan = {"summary": ["properties.encryption.keySource: Microsoft.Storage -> Microsoft.Keyvault"], "patch": "{}"}
    write("encryptedresources", "docs", {"conditions": [planned], "plan": plan})
    try:
        (found,) = json.loads(run("status", "-n", known, "-o", "json").stdout)["resources"]
        shown = " ".join(run("status", "-n", known).stdout.split())
    finally:
        write("encryptedresources", "docs", {"conditions": None, "plan": None})
    assert (found["ready"], found["whoMustAct"], found["plan"]) == ("True", "platform engineer", plan["summary"])
    assert f"Planned (mode Observe) {known}/docs: nothing is written; to have it written, the platform engineer sets" in shown


def test_versions_says_plainly_what_may_be_disabled(run: Callable[..., Result], known: str) -> None:
    data = json.loads(run("versions", f"{known}/storage", "-o", "json").stdout)
    assert [(one["version"], one["mayDisable"], one["inUseBy"]) for one in data["versions"]] == [
        (V2, "No", []),
        (V1, "AlreadyDisabled", ["docs"]),
    ]
    shown = " ".join(run("versions", "storage", "-n", known).stdout.split())
    assert f"{V2}: No: it is the active version" in shown
    assert f"{V1}: AlreadyDisabled: it is disabled, and 1 on it stop: docs" in shown


def test_impact_tells_what_stops_and_what_does_not(run: Callable[..., Result], known: str) -> None:
    data = json.loads(run("impact", f"{known}/storage", "-o", "json").stdout)
    assert [(one["service"], one["resources"]) for one in data["stops"]] == [("Azure Storage", ["docs"])]
    assert (data["accessNow"], data["lostSince"]) == ("Disabled", LOST_AT)
    active = json.loads(run("impact", f"{known}/storage", "--version", V2[:4], "-o", "json").stdout)
    assert (active["version"], active["stops"], active["unaffected"]) == (V2, [], ["docs"])
    shown = " ".join(run("impact", f"{known}/storage", "--version", V1).stdout.split())
    assert "Azure Storage about" in shown
    assert "the customer's administrator enables the version again" in shown


def test_events_are_those_of_the_operator_and_of_the_record(run: Callable[..., Result], known: str) -> None:
    done = run("events", "--since", "99999h", "--operator-namespace", OPERATOR, "-n", known, "-o", "json")
    data = json.loads(done.stdout)
    assert [(one["source"], one["what"], one["name"]) for one in data] == [
        ("event", "KeyDisabled", "storage"),
        ("record", "KeyChanged", "docs"),
    ]
    assert data[1]["azureRequestId"] == "request-1"
    assert run("events", "--since", "soon").exit_code == 2
    assert "Nothing happened." in run("events", "--since", "1s", "-n", known).stdout


def test_without_the_record_events_tells_the_rotations_of_status(run: Callable[..., Result], known: str) -> None:
    done = run("events", "--since", "99999h", "--operator-namespace", "nowhere", "--object", f"{known}/storage", "-o", "json")
    assert [(one["source"], one["what"]) for one in json.loads(done.stdout)] == [
        ("event", "KeyDisabled"),
        ("status", "KeyVersionChanged"),
    ]


def test_only_the_version_that_waits_is_approved(run: Callable[..., Result], known: str, cluster: Cluster) -> None:
    refused = run("approve", f"{known}/storage", V1)
    assert refused.exit_code == 1
    assert f"version {V3} waits for approval, not {V1}" in refused.stderr
    assert run("approve", f"{known}/storage", V3[:8]).exit_code == 2, "an approval names the version in full"
    done = run("approve", f"{known}/storage", V3, "-o", "json")
    assert json.loads(done.stdout) == {"key": f"{known}/storage", "approvedVersion": V3}
    annotation = "{.metadata.annotations.cmk-operator\\.dev/approved-version}"
    where = ("--namespace", known, "--output", f"jsonpath={annotation}")
    assert cluster.kubectl("get", "customermanagedkeys", "storage", *where) == V3
    assert run("approve", f"{known}/storage", V1, "--force").exit_code == 0
    assert cluster.kubectl("get", "customermanagedkeys", "storage", *where) == V1
    forbidden = run("approve", f"{known}/storage", V3, "--as", "somebody")
    assert 'User "somebody" cannot get resource' in forbidden.stderr


def test_compromised_prints_who_runs_what_and_what_is_left(run: Callable[..., Result], known: str) -> None:
    data = json.loads(run("compromised", f"{known}/storage", "--version", V1, "-o", "json").stdout)
    assert (data["version"], data["still"], data["moved"]) == (V1, ["docs"], [])
    assert "az keyvault key rotate" in data["steps"][0]["command"]
    assert CUSTOMER in data["steps"][0]["command"]
    shown = " ".join(run("compromised", f"{known}/storage").stdout.split())
    assert f"Replace version {V2} of" in shown, "the active one when none is named"


def test_watch_ends_when_nothing_is_on_the_version_any_more(
    run: Callable[..., Result], known: str, write: Callable[[str, str, dict[str, Any]], None]
) -> None:
    counted = key_status()["versions"]
    counted[1] |= {"inUseBy": [], "inUseByCount": 0}
    listed = condition("UsersKnown", "True", "Listed", "every list of the tenant's subscriptions was read")
    write("customermanagedkeys", "storage", {"versions": counted, "conditions": [*key_status()["conditions"], listed]})
    write("encryptedresources", "docs", applied(V2))
    done = run("compromised", f"{known}/storage", "--version", V1, "--watch", "-o", "json")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    assert (json.loads(line)["still"], json.loads(line)["moved"]) == ([], ["docs"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("versions", "nothing"), "there is no CustomerManagedKey 'nothing'"),
        (("versions", f"{NAMESPACE}/nothing"), 'customermanagedkeys.cmk-operator.dev "nothing" not found'),
        (("impact", f"{NAMESPACE}/storage", "--version", "f"), "no known version is or begins with 'f'"),
        (("compromised", f"{NAMESPACE}/reading-idle"), "no version of this key has passed the probe yet"),
        (("versions", "--", "--all/x"), "is not the name of an object"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    run: Callable[..., Result], known: str, arguments: tuple[str, ...], words: str
) -> None:
    done = run(*arguments)
    assert (done.exit_code == 0, done.stdout) == (False, "")
    assert words in done.stderr


def test_a_preflight_without_an_operator_says_so_and_leaves_nothing(
    run: Callable[..., Result], known: str, cluster: Cluster, tmp_path: Path
) -> None:
    body = key_body(tenantRef={"name": "reading"})
    metadata = {"name": "new", "namespace": known}
    manifest = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "CustomerManagedKey",
        "metadata": metadata,
        "spec": body["spec"],
    }
    file = tmp_path / "key.json"
    file.write_text(json.dumps(manifest), encoding="utf-8")
    done = run("preflight", "-f", str(file), "--timeout", "1")
    assert done.exit_code == 2
    assert "the operator did not answer within 1 s: is it running?" in done.stderr
    assert cluster.kubectl("get", "preflights", "--namespace", known, "--output", "name") == ""


def test_a_preflight_of_what_the_api_server_refuses_needs_no_operator(
    run: Callable[..., Result], known: str, tmp_path: Path
) -> None:
    file = tmp_path / "hubs.yaml"
    hubs = ACCOUNT.replace("Microsoft.Storage/storageAccounts", "Microsoft.EventHub/namespaces")
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: beside}\n---\n"
    spec = f"spec: {{keyRef: {{name: k}}, resourceId: {hubs}}}\n"
    ours = f"apiVersion: cmk-operator.dev/v1alpha1\nkind: EncryptedResource\nmetadata: {{name: hubs}}\n{spec}"
    file.write_text(other + ours, encoding="utf-8")
    done = run("preflight", "-f", str(file), "-n", known)
    assert done.exit_code == 1
    shown = " ".join(done.stdout.split())
    assert f"EncryptedResource {known}/hubs Fail Schema:" in shown
    assert "Event Hubs needs its key vault in its own tenant" in shown
    assert "A check failed." in shown
    file.write_text(other, encoding="utf-8")
    nothing = run("preflight", "-f", str(file), "-n", known)
    assert (nothing.exit_code, "no manifest of this operator's kinds" in nothing.stderr) == (2, True)
    assert run("preflight", "-f", str(tmp_path / "absent.yaml")).exit_code == 2
