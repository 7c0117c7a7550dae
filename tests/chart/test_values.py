"""What a platform engineer sets in the values reaches the object that it is for, and the default stays where it is not set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chart.conftest import NAMESPACE, HelmError, only, rendered
from tests.chart.test_keyservice import KEY_SERVICE
from tests.documents.settings_page import chart_values

SPREAD = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
SELECTOR = {"app.kubernetes.io/name": "cmk-operator", "app.kubernetes.io/instance": "cmk-operator"}
CA = {"name": "private-ca", "configMap": {"name": "private-ca"}}
MOUNT = {"name": "private-ca", "mountPath": "/etc/private-ca", "readOnly": True}
SIDECAR = {"name": "proxy", "image": "proxy:1"}
RULE = {"ports": [{"port": 3128, "protocol": "TCP"}]}
RELABEL = {"action": "labeldrop", "regex": "pod"}


def _set(**values: Any) -> list[str]:
    return [argument for name, value in values.items() for argument in ("--set-json", f"{name}={json.dumps(value)}")]


def _at(found: Any, path: str) -> Any:
    for step in path.split("/"):
        found = found[int(step)] if isinstance(found, list) else found[step]
    return found


@pytest.mark.parametrize(
    ("values", "kind", "path", "expected"),
    [
        ({"deploymentLabels": {"team": "a"}}, "Deployment", "metadata/labels/team", "a"),
        ({"deploymentAnnotations": {"team": "a"}}, "Deployment", "metadata/annotations/team", "a"),
        ({"commonLabels": {"cost": "b"}}, "ServiceAccount", "metadata/labels/cost", "b"),
        ({"commonLabels": {"cost": "b"}}, "Deployment", "spec/template/metadata/labels/cost", "b"),
        ({"commonLabels": {"cost": "b"}}, "Deployment", "spec/selector/matchLabels", SELECTOR),
        ({"serviceAccount.labels": {"team": "a"}}, "ServiceAccount", "metadata/labels/team", "a"),
        ({"strategy": {"type": "RollingUpdate"}}, "Deployment", "spec/strategy/type", "RollingUpdate"),
        ({"replicas": 0}, "Deployment", "spec/replicas", 0),
        ({"replicas": 2}, "Deployment", "spec/strategy/type", "RollingUpdate"),
        (
            {"topologySpreadConstraints": [SPREAD]},
            "Deployment",
            "spec/template/spec/topologySpreadConstraints/0",
            {**SPREAD, "labelSelector": {"matchLabels": SELECTOR}},
        ),
        (
            {"topologySpreadConstraints": [{**SPREAD, "labelSelector": {"matchLabels": {"own": "one"}}}]},
            "Deployment",
            "spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels/own",
            "one",
        ),
        ({"extraVolumes": [CA]}, "Deployment", "spec/template/spec/volumes/2", CA),
        ({"extraVolumeMounts": [MOUNT]}, "Deployment", "spec/template/spec/containers/0/volumeMounts/2", MOUNT),
        ({"extraContainers": [SIDECAR]}, "Deployment", "spec/template/spec/containers/1", SIDECAR),
        ({"initContainers": [SIDECAR]}, "Deployment", "spec/template/spec/initContainers", [SIDECAR]),
        ({"hostAliases": [{"ip": "10.0.0.1"}]}, "Deployment", "spec/template/spec/hostAliases/0/ip", "10.0.0.1"),
        ({"dnsPolicy": "Default"}, "Deployment", "spec/template/spec/dnsPolicy", "Default"),
        ({"dnsConfig": {"searches": ["x"]}}, "Deployment", "spec/template/spec/dnsConfig/searches/0", "x"),
        ({"runtimeClassName": "gvisor"}, "Deployment", "spec/template/spec/runtimeClassName", "gvisor"),
        ({"livenessProbe.failureThreshold": 9}, "Deployment", "spec/template/spec/containers/0/livenessProbe/failureThreshold", 9),
        ({"livenessProbe.failureThreshold": 9}, "Deployment", "spec/template/spec/containers/0/livenessProbe/periodSeconds", 15),
        ({"readinessProbe.periodSeconds": 2}, "Deployment", "spec/template/spec/containers/0/readinessProbe/periodSeconds", 2),
        (
            {"securityContext.runAsUser": 1000},
            "Deployment",
            "spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem",
            True,
        ),
        ({"podDisruptionBudget.enabled": True}, "PodDisruptionBudget", "spec/maxUnavailable", 1),
        ({"podDisruptionBudget": {"enabled": True, "minAvailable": "50%"}}, "PodDisruptionBudget", "spec/minAvailable", "50%"),
        (
            {"networkPolicy": {"enabled": True, "extraEgressPorts": [3128]}},
            "NetworkPolicy",
            "spec/egress/1/ports",
            [{"port": port, "protocol": "TCP"} for port in (443, 6443, 3128)],
        ),
        ({"networkPolicy": {"enabled": True, "extraEgress": [RULE]}}, "NetworkPolicy", "spec/egress/2", RULE),
        ({"networkPolicy": {"enabled": True, "extraIngress": [RULE]}}, "NetworkPolicy", "spec/ingress/1", RULE),
        ({"serviceMonitor": {"enabled": True, "scrapeTimeout": "9s"}}, "ServiceMonitor", "spec/endpoints/0/scrapeTimeout", "9s"),
        ({"serviceMonitor": {"enabled": True, "namespace": "seen"}}, "ServiceMonitor", "metadata/namespace", "seen"),
        (
            {"serviceMonitor": {"enabled": True, "namespace": "seen"}},
            "ServiceMonitor",
            "spec/namespaceSelector/matchNames",
            [NAMESPACE],
        ),
        ({"serviceMonitor": {"enabled": True, "relabelings": [RELABEL]}}, "ServiceMonitor", "spec/endpoints/0/relabelings", [RELABEL]),
        (
            {"serviceMonitor": {"enabled": True, "metricRelabelings": [RELABEL]}},
            "ServiceMonitor",
            "spec/endpoints/0/metricRelabelings",
            [RELABEL],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_a_value_reaches_its_object(values: dict[str, Any], kind: str, path: str, expected: Any) -> None:
    assert _at(only(rendered(*_set(**values)), kind), path) == expected


def test_openshift_assigns_ids_itself_if_they_are_set_to_null() -> None:
    nothing = _set(**{f"podSecurityContext.{name}": None for name in ("runAsUser", "runAsGroup", "fsGroup")})
    pod = only(rendered(*nothing), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(("seconds", "grace"), [(60, "25"), (120, "50"), (1, "0")])
def test_the_operators_grace_follows_the_pods(seconds: int, grace: str) -> None:
    pod = only(rendered(*_set(terminationGracePeriodSeconds=seconds)), "Deployment")["spec"]["template"]["spec"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    assert env["CMK_OPERATOR_SHUTDOWN_GRACE"] == grace
    assert int(grace) < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    "extra", [{"kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-own"}}, None], ids=["object", "text"]
)
def test_extra_objects_are_templates(extra: dict[str, Any] | None) -> None:
    written = extra or "kind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-own'}"
    assert only(rendered(*_set(extraObjects=[written])), "ConfigMap")["metadata"]["name"] == "cmk-operator-own"


def test_a_service_monitor_can_wait_for_its_definition() -> None:
    waits = _set(serviceMonitor={"enabled": True, "onlyIfInstalled": True})
    assert not [one for one in rendered(*waits) if one["kind"] == "ServiceMonitor"]
    assert only(rendered(*waits, "--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"), "ServiceMonitor")


@pytest.mark.parametrize(
    "values",
    [
        {"livenessProbe.httpGet": {"path": "/"}},
        {"podDisruptionBudget.minAvailable": "half"},
        {"extraVolumes": [{"configMap": {"name": "x"}}]},
        {"topologySpreadConstraints": [{"maxSkew": 1}]},
        {"serviceMonitor.scrapeTimeout": "soon"},
        {"replicas": -1},
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_value_that_cannot_work_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        rendered(*_set(**values))


def test_every_value_that_the_page_of_settings_names_reaches_its_variable() -> None:
    values = {
        **dict.fromkeys(chart_values().values(), "9"),
        "settings.logFormat": "text",
        "settings.logLevel": "DEBUG",
        "settings.listenPort": "8081",
        "settings.resourceMetrics": "false",
        "audit.segmentBytes": "4096",
        "audit.sink.url": "https://logs.example/in",
        "audit.sink.tokenSecretRef.name": "collector",
        "operatorClass": "blue",
        "leaderElection.namespace": "leases",
        "licences.enabled": "true",
        "supportRequests.enabled": "true",
        "keyService.audience": "callers",
        "keyService.settings.logFormat": "text",
        "keyService.settings.logLevel": "DEBUG",
    }
    objects = rendered(*(argument for value in values.items() for argument in ("--set", "=".join(value))), "--set", KEY_SERVICE)
    found = {
        variable["name"]: variable["value"]
        for item in objects
        if item["kind"] == "Deployment"
        for variable in item["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    derived = {
        "CMK_OPERATOR_SHUTDOWN_GRACE": "3",
        "CMK_KEYSERVICE_DRAIN_SECONDS": "0",
        "CMK_KEYSERVICE_SHUTDOWN_GRACE": "3",
        "CMK_OPERATOR_AUDIT_SINK_TOKEN_FILE": "/var/run/secrets/audit-sink/token",
    }
    named = chart_values().items()
    assert {name: found.get(name) for name, _ in named} == {name: derived.get(name, values[value]) for name, value in named}
