"""The page for administrators in the chart: absent by default, one pod of least rights, refused with a sentence when half configured."""

from __future__ import annotations

from typing import Any

import pytest

from cmk_keyservice.settings import ConsoleSettings
from cmk_operator.core.audit.layout import NAMES
from tests.chart.conftest import CHART, NAMESPACE, HelmError, helm, only, rendered, selects
from tests.chart.test_keyservice import KEY_SERVICE

CONSOLE = (
    f"{KEY_SERVICE},keyService.console.enabled=true,keyService.console.publicUrl=https://page.example:8443,"
    "keyService.console.openid.issuer=https://issuer.example,keyService.console.openid.clientId=page,"
    "keyService.console.openid.clientSecretRef.name=openid,keyService.console.tls.secretName=page-tls"
)
SECRETS = "keyService.console.secrets[0].namespace=team,keyService.console.secrets[0].names={acme-console}"
ALL = "networkPolicy.enabled=true,keyService.console.ingress.enabled=true,keyService.console.podDisruptionBudget.enabled=true"


def parts(*settings: str) -> list[dict[str, Any]]:
    """The objects of the console alone."""
    objects = rendered(*(argument for value in (CONSOLE, *settings) for argument in ("--set", value)))
    return [item for item in objects if item["metadata"]["labels"]["app.kubernetes.io/name"] == "cmk-console"]


def test_nothing_of_it_is_installed_unless_asked_for() -> None:
    assert [item["kind"] for item in rendered("--set", f"{KEY_SERVICE},{ALL}") if "console" in str(item["metadata"])] == []


def test_it_passes_helms_strict_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--set", f"{CONSOLE},{ALL},{SECRETS}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("keyService.enabled=false", "keyService.console.enabled needs keyService.enabled"),
        ("keyService.console.publicUrl=", "the scheme and host that browsers use"),
        ("keyService.console.openid.issuer=", "name your OpenID Connect issuer"),
        ("keyService.console.openid.clientId=", "the redirect URI https://page.example:8443/sign-in/callback"),
        ("keyService.console.openid.clientSecretRef.name=", "put the client secret into a Secret"),
        ("keyService.console.tls.secretName=", f"page.example, or behind an Ingress for cmk-operator-console.{NAMESPACE}.svc"),
    ],
)
def test_what_nobody_can_guess_is_asked_for_with_the_sentence_that_helps(change: str, sentence: str) -> None:
    with pytest.raises(HelmError, match=sentence):
        rendered("--set", f"{CONSOLE},{change}")


@pytest.mark.parametrize(
    "setting",
    [
        "publicUrl=http://page.example",
        "publicUrl=https://page.example/path",
        "openid.issuer=http://issuer.example",
        "openid.clientSecret=in-the-values",
        "replicas=2",
        "podDisruptionBudget.maxUnavailable=2",
    ],
)
def test_a_value_that_is_unsafe_or_unknown_is_refused(setting: str) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        rendered("--set", f"{CONSOLE},keyService.console.{setting}")


def test_there_is_one_pod_because_it_alone_knows_who_is_signed_in() -> None:
    spec = only(parts(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_every_variable_is_a_setting_that_the_program_takes_and_every_file_is_mounted_from_a_secret_by_reference() -> None:
    pod = only(parts(), "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    fields: dict[str, Any] = {
        name.removeprefix("CMK_KEYSERVICE_").lower(): value
        for name, value in variables.items()
        if name.startswith("CMK_KEYSERVICE_")
    }
    assert fields.keys() <= ConsoleSettings.model_fields.keys()
    made = ConsoleSettings(**fields)
    assert (made.public_url, made.operator_namespace, made.port) == ("https://page.example:8443", NAMESPACE, 8443)
    found = {}
    for name, file in variables.items():
        if not name.endswith("_FILE"):
            continue
        [mount] = [item for item in container["volumeMounts"] if file.startswith(item["mountPath"] + "/")]
        [volume] = [item for item in pod["volumes"] if item["name"] == mount["name"]]
        assert mount["readOnly"]
        found[name.removeprefix("CMK_KEYSERVICE_")] = volume.get("secret", {}).get("secretName", "a token")
    assert found == {
        "AZURE_FEDERATED_TOKEN_FILE": "a token",
        "CLIENT_SECRET_FILE": "openid",
        "TLS_CERTIFICATE_FILE": "page-tls",
        "TLS_KEY_FILE": "page-tls",
    }


def test_local_accounts_are_mounted_from_a_secret_that_may_be_missing() -> None:
    pod = only(parts("keyService.console.breakGlass.secretName=accounts"), "Deployment")["spec"]["template"]["spec"]
    [volume] = [item["secret"] for item in pod["volumes"] if item["name"] == "break-glass"]
    assert (volume["secretName"], volume["optional"]) == ("accounts", True)
    [container] = pod["containers"]
    [folder] = [item["value"] for item in container["env"] if item["name"] == "CMK_KEYSERVICE_BREAK_GLASS_FOLDER"]
    assert folder in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_every_selector_chooses_its_pod_and_none_of_the_operator_or_the_key_service() -> None:
    objects = rendered("--set", f"{CONSOLE},{ALL}")
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in objects
        if item["kind"] in {"Deployment", "Job"}
    }
    for item in objects:
        selector = item["spec"].get("podSelector", item["spec"].get("selector")) if "spec" in item else None
        if selector is None:
            continue
        chosen = {name for name, own in pods.items() if selects(selector, own)}
        own = "console" in item["metadata"]["name"]
        assert ("cmk-operator-console" in chosen) == own, item["metadata"]["name"]
        assert not own or chosen == {"cmk-operator-console"}


def test_probes_ask_over_tls_where_the_container_listens() -> None:
    [container] = only(parts(), "Deployment")["spec"]["template"]["spec"]["containers"]
    probes = [container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    assert probes == [{"path": "/healthz", "port": "https", "scheme": "HTTPS"}] * 2
    assert container["ports"] == [{"name": "https", "containerPort": 8443}]


def test_an_ingress_leads_the_host_of_the_page_to_its_service() -> None:
    objects = parts(
        ALL, "keyService.console.ingress.className=nginx,keyService.console.ingress.tlsSecretName=outer", "commonLabels.cost=b"
    )
    ingress = only(objects, "Ingress")["spec"]
    assert (ingress["ingressClassName"], ingress["tls"]) == ("nginx", [{"hosts": ["page.example"], "secretName": "outer"}])
    [rule] = ingress["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = only(objects, "Service")
    assert rule["host"] == "page.example"
    assert (backend["name"], backend["port"]["name"]) == (service["metadata"]["name"], service["spec"]["ports"][0]["name"])
    assert [item["metadata"]["name"] for item in objects if item["metadata"]["labels"].get("cost") != "b"] == []


def test_the_network_policy_lets_in_browsers_and_lets_out_what_is_needed() -> None:
    peers = "keyService.console.networkPolicy.browsersFrom[0].namespaceSelector.matchLabels.team=ingress"
    policy = only(parts(ALL, peers), "NetworkPolicy")["spec"]
    assert policy["ingress"] == [
        {"ports": [{"port": "https", "protocol": "TCP"}], "from": [{"namespaceSelector": {"matchLabels": {"team": "ingress"}}}]}
    ]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 443, 6443]


def test_a_drain_can_be_made_to_wait_for_a_person() -> None:
    assert only(parts(ALL), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    waits = parts(ALL, "keyService.console.podDisruptionBudget.maxUnavailable=0")
    assert only(waits, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 0


def test_it_may_write_the_secrets_of_a_list_which_operator_and_key_service_may_read_and_no_other() -> None:
    roles = {
        item["metadata"]["name"]: item
        for item in rendered("--set", f"{CONSOLE},{SECRETS},rbac.secrets[0].namespace=team,rbac.secrets[0].names={{other}}")
        if item["kind"] == "Role" and item["metadata"]["namespace"] == "team"
    }
    rules = {name: [(rule["verbs"], rule["resourceNames"]) for rule in role["rules"]] for name, role in roles.items()}
    assert rules == {
        "cmk-operator-console-secrets": [(["patch"], ["acme-console"])],
        "cmk-operator-keyservice-secrets": [(["get"], ["acme-console"])],
        "cmk-operator-secrets": [(["get"], ["other", "acme-console"])],
    }
    assert [item for item in parts() if item["kind"] == "Role" and "secrets" in str(item["rules"])] == []


def test_it_reads_each_config_map_of_the_record_and_no_other() -> None:
    [rule] = only(parts(), "Role")["rules"]
    assert (rule["resources"], rule["verbs"], tuple(rule["resourceNames"])) == (["configmaps"], ["get"], NAMES)


def test_it_holds_what_it_asks_for_and_nothing_else() -> None:
    held = {
        (item["kind"], resource, verb)
        for item in parts(SECRETS, "supportRequests.enabled=true")
        if item["kind"] in {"Role", "ClusterRole"}
        for rule in item["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert held == {
        ("ClusterRole", "organizationkeys", "list"),  # those that a person has a role in
        ("ClusterRole", "organizationkeys", "get"),
        ("ClusterRole", "organizationkeys", "patch"),
        ("ClusterRole", "organizationkeys/status", "patch"),  # what is known of break-glass accounts
        ("ClusterRole", "customertenants", "list"),  # the choice of tenants
        ("ClusterRole", "federatedidentities", "get"),  # the platform's application
        ("ClusterRole", "supportrequests", "get"),  # whether support has made a person an administrator
        ("ClusterRole", "preflights", "create"),
        ("ClusterRole", "preflights", "get"),
        ("Role", "configmaps", "get"),
        ("Role", "secrets", "patch"),
    }
