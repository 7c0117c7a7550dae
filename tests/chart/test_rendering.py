from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cmk_operator.core.audit.layout import NAMES
from cmk_operator.settings import Settings
from tests.chart.conftest import CHART, NAMESPACE, HelmError, helm, only, rendered
from tests.chart.lint import EVERYTHING
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

OPTIONAL = "networkPolicy.enabled=true,serviceMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true"
"""Everything that the chart brings only if asked."""


def test_the_chart_passes_helms_strict_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


@pytest.mark.parametrize(
    "setting",
    ["replicaCount=2", "image.name=x", "settings.keyCheckInterval=5", "crds.install=true", "serviceMonitor.enable=true"],
)
def test_a_value_the_chart_does_not_know_is_refused(setting: str) -> None:
    with pytest.raises(HelmError, match="additional properties"):
        rendered("--set", setting)


@pytest.mark.parametrize(
    "setting",
    [
        "settings.keyCheckIntervalSeconds=0",
        "settings.listenPort=80",
        "settings.logFormat=xml",
        "azure.tokenExpirationSeconds=599",
        "image.digest=latest",
    ],
)
def test_a_value_out_of_its_range_is_refused(setting: str) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        rendered("--set", setting)


def test_values_of_an_earlier_release_are_refused_with_the_option_that_helps() -> None:
    with pytest.raises(HelmError, match="run helm upgrade with --reset-then-reuse-values"):
        rendered("--set", "keyService=null,licences=null,podDisruptionBudget=null,podSecurityContext=null")


def test_every_value_is_described_by_the_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def undescribed(value: Any, description: dict[str, Any], path: str) -> list[str]:
        if not isinstance(value, dict) or "properties" not in description:
            return []
        missing = [f"{path}.{name}" for name in value if name not in description["properties"]]
        inner = ((name, item) for name, item in value.items() if name in description["properties"])
        return missing + [
            each for name, item in inner for each in undescribed(item, description["properties"][name], f"{path}.{name}")
        ]

    assert undescribed(values, schema, "") == []
    assert set(schema["properties"]) - {"global"} == set(values)


def test_the_definitions_are_those_that_were_generated() -> None:
    generated = {crd["metadata"]["name"]: crd for crd in map(yaml.safe_load, _texts())}
    charted = {item["metadata"]["name"]: item for item in rendered() if item["kind"] == "CustomResourceDefinition"}
    assert charted.keys() == generated.keys()
    assert generated
    for name, crd in charted.items():
        assert crd["spec"] == generated[name]["spec"]


def test_artifact_hub_is_told_of_exactly_these_definitions() -> None:
    told = yaml.safe_load(yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]["artifacthub.io/crds"])
    generated = [yaml.safe_load(text) for text in _texts()]
    assert {(crd["name"], crd["kind"], crd["version"]) for crd in told} == {
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], version["name"])
        for crd in generated
        for version in crd["spec"]["versions"]
    }


def test_the_definitions_are_kept_unless_told_otherwise() -> None:
    def policies(*arguments: str) -> set[str | None]:
        crds = [item for item in rendered(*arguments) if item["kind"] == "CustomResourceDefinition"]
        return {crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for crd in crds}

    assert policies() == {"keep"}
    assert policies("--set", "crds.keep=false") == {None}
    assert policies("--set", "crds.enabled=false") == set()


def test_the_token_for_azure_is_mounted_where_the_variable_says() -> None:
    pod = only(rendered("--set", "azure.tokenAudience=api://AzureADTokenExchangeUSGov"), "Deployment")["spec"]["template"][
        "spec"
    ]
    [container] = pod["containers"]
    [variable] = [item for item in container["env"] if item["name"] == "AZURE_FEDERATED_TOKEN_FILE"]
    [mount] = [item for item in container["volumeMounts"] if variable["value"].startswith(item["mountPath"] + "/")]
    [volume] = [item for item in pod["volumes"] if item["name"] == mount["name"]]
    [source] = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "api://AzureADTokenExchangeUSGov"
    assert variable["value"] == f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"


def test_settings_reach_the_operator_as_variables_and_the_others_are_left_to_it() -> None:
    settings = ["--set", "settings.keyCheckIntervalSeconds=5,settings.workers=7,settings.logFormat=text"]
    [container] = only(rendered(*settings), "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {item["name"]: item.get("value") for item in container["env"] if item["name"].startswith("CMK_OPERATOR_")}
    assert variables == {
        "CMK_OPERATOR_KEY_CHECK_INTERVAL": "5",
        "CMK_OPERATOR_WORKERS": "7",
        "CMK_OPERATOR_LOG_FORMAT": "text",
        "CMK_OPERATOR_LOG_LEVEL": "INFO",
        "CMK_OPERATOR_RESOURCE_METRICS": "true",
        "CMK_OPERATOR_LISTEN_PORT": "8080",
        "CMK_OPERATOR_LEASE_NAMESPACE": "kube-system",
        "CMK_OPERATOR_SHUTDOWN_GRACE": "25",
    }


def test_the_operator_knows_every_variable_that_the_chart_can_set() -> None:
    settings = yaml.safe_load((CHART / "values.yaml").read_text())["settings"]
    every = ",".join(f"settings.{name}=9" for name, value in settings.items() if value is None)
    [container] = only(rendered("--set", every), "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {item["name"]: item["value"] for item in container["env"] if item["name"].startswith("CMK_OPERATOR_")}
    assert len(variables) == len(settings) + 2, "and the namespace of the Lease, and the grace"
    fields: dict[str, Any] = {name.removeprefix("CMK_OPERATOR_").lower(): value for name, value in variables.items()}
    assert fields.keys() <= Settings.model_fields.keys()
    assert Settings(**fields).key_check_interval == 9


def test_a_class_has_a_lease_of_its_own_in_the_namespace_that_a_value_names() -> None:
    objects = rendered("--set", "operatorClass=blue,leaderElection.namespace=leases")
    [container] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {item["name"]: item.get("value") for item in container["env"]}
    assert (variables["CMK_OPERATOR_OPERATOR_CLASS"], variables["CMK_OPERATOR_LEASE_NAMESPACE"]) == ("blue", "leases")
    [role] = [item for item in objects if item["kind"] == "Role" and item["metadata"]["namespace"] == "leases"]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, ["cmk-operator-blue"]]


def test_the_audit_sink_reaches_the_operator_with_its_token_in_a_file() -> None:
    sink = (
        "audit.sink.url=https://logs.example/in,audit.sink.tokenSecretRef.name=collector,audit.sink.tokenSecretRef.key=bearer"
    )
    pod = only(rendered("--set", sink, "--set", "audit.segmentBytes=65536"), "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    variables = {item["name"]: item.get("value") for item in container["env"] if "_AUDIT_" in item["name"]}
    fields: dict[str, Any] = {name.removeprefix("CMK_OPERATOR_").lower(): value for name, value in variables.items()}
    settings = Settings(**fields)
    assert str(settings.audit_sink_url) == "https://logs.example/in"
    assert settings.audit_segment_bytes == 65536
    [mount] = [item for item in container["volumeMounts"] if item["name"] == "audit-sink"]
    [volume] = [item for item in pod["volumes"] if item["name"] == "audit-sink"]
    [item] = volume["secret"]["items"]
    assert (volume["secret"]["secretName"], item["key"]) == ("collector", "bearer")
    assert str(settings.audit_sink_token_file) == f"{mount['mountPath']}/{item['path']}"


@pytest.mark.parametrize("url", ["", "http://logs.example/in"])
def test_a_token_for_the_audit_sink_needs_an_encrypted_url(url: str) -> None:
    with pytest.raises(HelmError, match="over https only: set audit"):
        rendered("--set", f"audit.sink.url={url},audit.sink.tokenSecretRef.name=collector")


def test_the_operator_may_touch_the_config_maps_of_its_record_and_create_any_missing_one() -> None:
    roles = [item for item in rendered() if item["kind"] == "Role" and not item["metadata"]["name"].endswith("-secrets")]
    rules = [rule for role in roles for rule in role["rules"] if rule["resources"] == ["configmaps"]]
    assert [(rule["verbs"], set(rule.get("resourceNames", ()))) for rule in rules] == [
        (["create"], set()),
        (["get", "patch", "delete"], set(NAMES)),
    ]


def test_the_operator_has_time_to_finish_before_it_is_killed() -> None:
    pod = only(rendered(), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > Settings.model_fields["shutdown_grace"].default


def test_two_operators_never_run_at_once_during_an_upgrade() -> None:
    spec = only(rendered(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_standby_can_be_asked_for_and_is_replaced_one_by_one() -> None:
    spec = only(rendered("--set", "replicas=2"), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (2, {"type": "RollingUpdate"})


def test_a_digest_takes_precedence_over_the_tag() -> None:
    digest = "sha256:" + "0" * 64
    deployment = only(rendered("--set", f"image.repository=r.example/x,image.tag=main,image.digest={digest}"), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"r.example/x@{digest}"


def test_another_release_name_gets_other_cluster_wide_names() -> None:
    cluster_wide = ("ClusterRole", "ValidatingAdmissionPolicy")
    names = {item["metadata"]["name"] for item in rendered(release="second") if item["kind"].startswith(cluster_wide)}
    assert names
    assert all(name.startswith("second-cmk-operator") for name in names)


def test_the_policy_lets_out_dns_azure_and_the_api_server_only() -> None:
    policy = only(rendered("--set", "networkPolicy.enabled=true"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 443, 6443]


def test_the_monitor_and_the_service_find_the_pod() -> None:
    objects = rendered("--set", "serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus")
    pod, service, monitor = (
        only(objects, "Deployment")["spec"]["template"],
        only(objects, "Service"),
        only(objects, "ServiceMonitor"),
    )
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_every_namespaced_object_is_in_the_releases_namespace() -> None:
    policies = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", *policies}
    objects = [item for item in rendered("--set", OPTIONAL) if item["kind"] not in cluster_wide]
    lease = [item for item in objects if item["metadata"]["name"] == "cmk-operator-lease"]
    assert {item["metadata"].get("namespace") for item in objects if item not in lease} == {NAMESPACE}
    assert {item["metadata"]["namespace"] for item in lease} == {"kube-system"}


def test_secrets_are_readable_in_the_named_namespaces_only_and_only_one_by_one() -> None:
    def roles(*arguments: str) -> dict[str, Any]:
        objects = [item for item in rendered(*arguments) if item["metadata"]["name"].endswith("-secrets")]
        bound = {item["metadata"]["namespace"] for item in objects if item["kind"] == "RoleBinding"}
        found = {item["metadata"]["namespace"]: item["rules"] for item in objects if item["kind"] == "Role"}
        assert bound == found.keys()
        return found

    def rules(*names: str) -> list[dict[str, Any]]:
        return [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": list(names)}]

    own = "{{ .Release.Namespace }}"
    secrets = [
        {"namespace": "hooks", "names": ["a", "b"]},
        {"namespace": own, "names": ["c"]},
        {"namespace": "hooks", "names": ["b", "d"]},
    ]
    assert roles() == {}
    assert roles("--set-json", f"rbac.secrets={json.dumps(secrets)}") == {"hooks": rules("a", "b", "d"), NAMESPACE: rules("c")}
    assert roles("--set-json", "rbac.secretNamespaces=[]") == {}


@pytest.mark.parametrize("value", ["namespace=hooks", "namespace=hooks,rbac.secrets[0].names={}", "names={a}"])
def test_secrets_without_a_name_or_a_namespace_are_refused(value: str) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        rendered("--set", f"rbac.secrets[0].{value}")


def test_whoever_sets_the_old_value_is_told_the_new_one() -> None:
    with pytest.raises(HelmError, match="name the Secrets that your manifests use"):
        rendered("--set", "rbac.secretNamespaces={hooks}")


@pytest.mark.parametrize("options", [("--set", OPTIONAL), ("--values", EVERYTHING)], ids=["operator", "every option"])
def test_without_rbac_no_role_and_no_binding_is_rendered(options: tuple[str | Path, ...]) -> None:
    secrets = "rbac.secrets[0].namespace=hooks,rbac.secrets[0].names={a}"
    kinds = [item["kind"] for item in rendered(*options, "--set", f"rbac.create=false,{secrets}")]
    assert "Deployment" in kinds
    assert not [kind for kind in kinds if "Role" in kind]
    with_rbac = {item["kind"] for item in rendered(*options, "--set", secrets)}
    assert {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} <= with_rbac


def _texts() -> list[str]:
    return [file.read_text() for file in (ROOT / "crds").glob("*.yaml")]
