"""The key service in the chart: absent by default, complete when asked for, refused with a sentence when half configured."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cmk_keyservice.settings import ServeSettings
from tests.chart.conftest import CHART, NAMESPACE, HelmError, helm, only, rendered, selects

KEY_SERVICE = (
    "keyService.enabled=true,keyService.database.urlSecretRef.name=database,keyService.tls.secretName=tls,"
    "keyService.keyRings.internalSecretRef.name=internal,keyService.keyRings.platformSecretRef.name=platform"
)
OPTIONAL = "networkPolicy.enabled=true,serviceMonitor.enabled=true"


def _parts(*settings: str) -> list[dict[str, Any]]:
    """The objects of the key service alone."""
    objects = rendered(*(argument for value in (KEY_SERVICE, *settings) for argument in ("--set", value)))
    return [item for item in objects if item["metadata"]["labels"]["app.kubernetes.io/name"] == "cmk-keyservice"]


def _container(objects: list[dict[str, Any]], kind: str = "Deployment") -> dict[str, Any]:
    [container] = only(objects, kind)["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_nothing_of_it_is_installed_unless_asked_for() -> None:
    assert [item["kind"] for item in rendered("--set", OPTIONAL) if "keyservice" in str(item).lower().replace("-", "")] == []


def test_it_passes_helms_strict_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--set", f"{KEY_SERVICE},{OPTIONAL}")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("keyService.database.urlSecretRef.name", "create a Secret with the URL of a PostgreSQL database"),
        ("keyService.keyRings.internalSecretRef.name", "make a key ring with `cmk-keyservice new-keyring -`"),
        ("keyService.keyRings.platformSecretRef.name", "make a second key ring"),
        ("keyService.tls.secretName", f"a certificate for cmk-operator-keyservice.{NAMESPACE}.svc"),
    ],
)
def test_what_nobody_can_guess_is_asked_for_with_the_sentence_that_helps(missing: str, sentence: str) -> None:
    with pytest.raises(HelmError, match=sentence.replace("(", r"\(")):
        rendered("--set", f"{KEY_SERVICE},{missing}=")


@pytest.mark.parametrize("setting", ["keyService.replicas=0", "keyService.settings.leaseSeconds=0", "keyService.tls.secret=x"])
def test_a_value_out_of_its_range_or_unknown_is_refused(setting: str) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        rendered("--set", f"{KEY_SERVICE},{setting}")


def test_no_object_of_the_operator_selects_a_pod_of_the_key_service_or_the_other_way_round() -> None:
    objects = rendered("--set", f"{KEY_SERVICE},{OPTIONAL}")
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in objects
        if item["kind"] in {"Deployment", "Job"}
    }
    assert pods.keys() == {"cmk-operator", "cmk-operator-keyservice", "cmk-operator-keyservice-migrate"}
    selected = {}
    for item in objects:
        selector = item["spec"].get("podSelector", item["spec"].get("selector")) if "spec" in item else None
        if selector is None or item["kind"] == "ServiceMonitor":
            continue
        selected[item["kind"], item["metadata"]["name"]] = {name for name, own in pods.items() if selects(selector, own)}
    service, operator = "cmk-operator-keyservice", "cmk-operator"
    assert selected == {
        ("Deployment", operator): {operator},
        ("Service", operator): {operator},
        ("NetworkPolicy", operator): {operator},
        ("Deployment", service): {service},
        ("Service", service): {service},
        ("PodDisruptionBudget", service): {service},
        ("NetworkPolicy", service): {service, f"{service}-migrate"},
    }


def test_every_variable_that_the_chart_can_set_is_a_setting_in_its_range() -> None:
    settings = yaml.safe_load((CHART / "values.yaml").read_text())["keyService"]["settings"]
    every = ",".join(f"keyService.settings.{name}=9" for name, value in settings.items() if value is None)
    variables = {item["name"]: item["value"] for item in _container(_parts(every))["env"]}
    fields: dict[str, Any] = {
        name.removeprefix("CMK_KEYSERVICE_").lower(): value
        for name, value in variables.items()
        if name.startswith("CMK_KEYSERVICE_")
    }
    assert fields.keys() <= ServeSettings.model_fields.keys()
    made = ServeSettings(**fields)
    assert (made.review_seconds, made.lease_seconds, made.epoch_days, made.vault_calls) == (9, 9, 9, 9)


def test_every_file_that_a_setting_names_is_mounted_from_the_secret_that_a_value_names() -> None:
    pod = only(_parts(), "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    files = {item["name"]: item["value"] for item in container["env"] if item["name"].endswith("_FILE")}
    found = {}
    for name, file in files.items():
        [mount] = [item for item in container["volumeMounts"] if file.startswith(item["mountPath"] + "/")]
        [volume] = [item for item in pod["volumes"] if item["name"] == mount["name"]]
        path = file.removeprefix(mount["mountPath"] + "/")
        assert mount["readOnly"]
        if "secret" in volume:
            keys = [item["path"] for item in volume["secret"].get("items", ())] or ["tls.crt", "tls.key"]
            assert path in keys
            found[name] = volume["secret"]["secretName"]
        else:
            [source] = [each for each in volume["projected"]["sources"] if path in str(each)]
            found[name] = source.get("secret", {}).get("name", "a token")
    assert found == {
        "AZURE_FEDERATED_TOKEN_FILE": "a token",
        "CMK_KEYSERVICE_DATABASE_URL_FILE": "database",
        "CMK_KEYSERVICE_INTERNAL_KEYRING_FILE": "internal",
        "CMK_KEYSERVICE_PLATFORM_KEYRING_FILE": "platform",
        "CMK_KEYSERVICE_TLS_CERTIFICATE_FILE": "tls",
        "CMK_KEYSERVICE_TLS_KEY_FILE": "tls",
    }


def test_the_migration_runs_before_the_pods_and_asks_nothing_of_the_kubernetes_api() -> None:
    job = only(_parts(), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert (pod["containers"][0]["args"], pod["automountServiceAccountToken"]) == (["migrate"], False)
    assert "serviceAccountName" not in pod
    assert [item["kind"] for item in _parts("keyService.migration.enabled=false") if item["kind"] == "Job"] == []


@pytest.mark.parametrize(("seconds", "drain", "grace"), [(60, 5, 20), (180, 15, 60), (6, 0, 2), (2, 0, 1), (7200, 300, 300)])
def test_how_long_a_pod_drains_follows_the_time_until_it_is_killed(seconds: int, drain: int, grace: int) -> None:
    pod = only(_parts(f"keyService.terminationGracePeriodSeconds={seconds}"), "Deployment")["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert (env["CMK_KEYSERVICE_DRAIN_SECONDS"], env["CMK_KEYSERVICE_SHUTDOWN_GRACE"]) == (str(drain), str(grace))
    assert drain + grace < pod["terminationGracePeriodSeconds"]


def test_the_charts_defaults_for_draining_are_those_of_the_program() -> None:
    env = only(_parts(), "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    said = {
        entry["name"]: float(entry["value"]) for entry in env if entry["name"].endswith(("_DRAIN_SECONDS", "_SHUTDOWN_GRACE"))
    }
    fields = ServeSettings.model_fields
    assert said == {f"CMK_KEYSERVICE_{name.upper()}": fields[name].default for name in ("drain_seconds", "shutdown_grace")}


def test_an_upgrade_never_has_fewer_pods_and_a_drain_takes_one_at_a_time() -> None:
    objects = _parts()
    spec = only(objects, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]) == (2, {"maxSurge": 1, "maxUnavailable": 0})
    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_network_policy_lets_in_callers_and_prometheus_and_lets_out_what_is_needed() -> None:
    callers = "keyService.networkPolicy.callersFrom[0].namespaceSelector.matchLabels.team=orders"
    policy = only(_parts("networkPolicy.enabled=true", callers), "NetworkPolicy")["spec"]
    assert [(rule["ports"][0]["port"], rule.get("from")) for rule in policy["ingress"]] == [
        ("https", [{"namespaceSelector": {"matchLabels": {"team": "orders"}}}]),
        ("metrics", None),
    ]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 443, 6443, 5432]


def test_every_object_has_the_labels_that_all_are_to_have() -> None:
    everything = f"{KEY_SERVICE},{OPTIONAL},licences.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true"
    objects = rendered("--set", f"{everything},podDisruptionBudget.enabled=true,commonLabels.cost=b")
    assert [item["metadata"]["name"] for item in objects if item["metadata"]["labels"].get("cost") != "b"] == []


def test_its_pods_have_the_security_contexts_of_the_chart() -> None:
    changes = "podSecurityContext.runAsUser=null,podSecurityContext.fsGroup=7,securityContext.privileged=false"
    objects = rendered("--set", f"{KEY_SERVICE},{changes}")
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] in {"Deployment", "Job"}]
    assert len(pods) == 3
    for pod in pods:
        assert "runAsUser" not in pod["securityContext"]
        assert pod["securityContext"]["fsGroup"] == 7
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
        }


def test_a_proxys_port_is_open_to_it() -> None:
    policy = only(_parts("networkPolicy.enabled=true", "networkPolicy.extraEgressPorts={3128}"), "NetworkPolicy")["spec"]
    assert [port["port"] for port in policy["egress"][1]["ports"]] == [443, 6443, 3128]


def test_its_monitor_is_as_the_operators() -> None:
    set_ = ("serviceMonitor.enabled=true", "serviceMonitor.namespace=seen", "serviceMonitor.scrapeTimeout=9s")
    both = ("serviceMonitor.relabelings[0].action=labeldrop", "serviceMonitor.metricRelabelings[0].action=labelkeep")
    monitor = only(_parts(*set_, *both), "ServiceMonitor")
    assert (monitor["metadata"]["namespace"], monitor["spec"]["namespaceSelector"]) == ("seen", {"matchNames": [NAMESPACE]})
    assert monitor["spec"]["endpoints"] == [
        {
            "port": "metrics",
            "path": "/metrics",
            "interval": "30s",
            "honorLabels": True,
            "scrapeTimeout": "9s",
            "relabelings": [{"action": "labeldrop"}],
            "metricRelabelings": [{"action": "labelkeep"}],
        }
    ]
    waits = _parts("serviceMonitor.enabled=true", "serviceMonitor.onlyIfInstalled=true")
    assert [item for item in waits if item["kind"] == "ServiceMonitor"] == []


def test_it_may_read_the_secrets_of_a_list_and_no_other() -> None:
    assert [item for item in _parts() if item["kind"] == "Role"] == []
    [role] = [
        item
        for item in _parts("keyService.secrets[0].namespace=team,keyService.secrets[0].names={a,b}")
        if item["kind"] == "Role"
    ]
    assert role["metadata"]["namespace"] == "team"
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["a", "b"]}]


def test_the_monitor_finds_the_service() -> None:
    objects = _parts(OPTIONAL)
    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
