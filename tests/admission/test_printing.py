"""What `kubectl get` shows of statuses as the operator writes them, and how the status subresource keeps them."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.api.conditions import Aspect, dated
from cmk_operator.api.conditions import Progress as Kstatus
from cmk_operator.api.customer_tenant import Consent, CustomerTenantStatus
from cmk_operator.api.encrypted_resource import TargetReport
from cmk_operator.api.federated_identity import (
    ApplicationHandover,
    FederatedIdentityStatus,
    ManagedIdentityReport,
    Registration,
)
from cmk_operator.api.organization_key import (
    AcceptedKey,
    DataKeysReport,
    OrganizationKeyStatus,
    ServingReport,
)
from cmk_operator.api.preflight import CheckReport, PreflightStatus
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.protection import OnKey
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import ResourceFacts
from cmk_operator.reconcile.key import report as key_report
from cmk_operator.reconcile.key.report import KeyFacts, Usage
from cmk_operator.reconcile.resource import report as resource_report
from cmk_operator.reconcile.resource.outcome import Settled
from tests.admission.api import NAMESPACE, path_of
from tests.admission.manifests import GUID, IDENTITY, KEY, KINDS, manifest
from tests.unit import samples
from tests.unit.samples import NOW, V1, V2, healthy, probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cmk_operator.api.model import Shape
    from cmk_operator.core.access.state import KeyProbe
    from sandbox.kubernetes.cluster import Cluster
    from tests.admission.api import Api

pytestmark = pytest.mark.cluster

URL = f"https://login.microsoftonline.com/{GUID}/adminconsent?client_id={GUID}"
ASPECTS = (Aspect(ConditionType.READY, "False", Reason.PENDING, "the customer has not consented yet"),)
CONDITIONS = dated(ASPECTS, Kstatus(stalled=True, reason=Reason.PENDING, message="somebody must act"), (), 1, NOW)


def _key_status(found: KeyProbe | None = None) -> Shape:
    found = found or probe(healthy(V1, expires=NOW + timedelta(days=365)))
    facts = KeyFacts(samples.guard(found, KEY), Usage(("data",), {V1: ("data",)}))
    return key_report.key_status(samples.customer_managed_key(), facts, NOW)


def _resource_status() -> Shape:
    key = samples.customer_managed_key(_key_status())
    protection = OnKey(KeyUri("contoso.vault.azure.net", "storage"), V1)
    target = TargetReport(kind="StorageAccount", name="contosodata")
    settled = Settled(ResourceFacts(protection, None))
    return resource_report.resource_status(samples.encrypted_resource(), settled, NOW, target=target, key=key, own=None)


STATUSES: dict[str, Shape] = {
    "federatedidentities": FederatedIdentityStatus(
        observed_generation=1,
        conditions=CONDITIONS,
        application=ApplicationHandover(client_id=GUID, display_name="Fabrikam CMK"),
        managed_identity=ManagedIdentityReport(resource_id=IDENTITY, client_id=GUID, principal_id=GUID),
        registration=Registration(application_client_id=GUID, application_object_id=GUID, changed_at=NOW),
    ),
    "customertenants": CustomerTenantStatus(
        observed_generation=1, conditions=CONDITIONS, consent=Consent(state="Pending", url=URL, since=NOW)
    ),
    "customermanagedkeys": _key_status(),
    "encryptedresources": _resource_status(),
    "organizationkeys": OrganizationKeyStatus(
        observed_generation=1,
        conditions=(
            *CONDITIONS,
            *dated(
                (Aspect(ConditionType.KEY_ACCESSIBLE, "True", Reason.ACCESSIBLE, "the key unwraps"),), Kstatus(), (), 1, NOW
            ),
        ),
        accepted=AcceptedKey(
            revision=1,
            mode="CustomerManaged",
            key_uri=KEY,
            kid=f"{KEY}/{V1}",
            since=NOW,
            probe_interval_seconds=60,
            outage_grace_seconds=600,
        ),
        pending_version=V2,
        data_keys=DataKeysReport(revision=1, total=3, serving=ServingReport(state="Serving", since=NOW)),
    ),
    "preflights": PreflightStatus(
        observed_generation=1,
        conditions=dated((Aspect(ConditionType.COMPLETE, "True", Reason.FAILED, "a check has failed"),), Kstatus(), (), 1, NOW),
        result="Fail",
        checks=(
            CheckReport(
                kind="EncryptedResource",
                name="data",
                stage="Effect",
                result="Fail",
                reason=Reason.DISABLED,
                message="waiting for the key",
                command="az version",
                changes=("a: b -> c",),
            ),
        ),
    ),
}


def wire(status: Shape) -> dict[str, Any]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.fixture(scope="module")
def shown(api: Api) -> Iterator[dict[str, dict[str, Any]]]:
    """One object of each kind, with a status written as the operator writes it."""
    made = {plural: manifest(plural, "shown") for plural in KINDS}
    for plural, body in made.items():
        api.create(body)
        answer = api.apply_status(body, wire(STATUSES[plural]), fieldValidation="Strict")
        assert answer.status == 200, answer.message
    yield made
    for body in made.values():
        api.request("DELETE", path_of(body))


def table(printed: str) -> dict[str, str]:
    """The one row of a table of kubectl, by column."""
    header, row = printed.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    ends = [*starts[1:], None]
    return {header[start:end].strip(): row[start:end].strip() for start, end in zip(starts, ends, strict=True)}


NARROW = {
    "cmk": {
        "NAME": "shown",
        "KEY": KEY,
        "VERSION": V1,
        "ACCESS": "Accessible",
        "ROTATION": "Following",
        "READY": "True",
        "REASON": "Ready",
    },
    "encres": {
        "NAME": "shown",
        "KIND": "StorageAccount",
        "TARGET": "contosodata",
        "KEY": "storage",
        "VERSION": V1,
        "ACCESS": "Accessible",
        "READY": "True",
        "REASON": "Ready",
    },
    "ctenant": {"NAME": "shown", "TENANT": GUID, "CONSENT": "Pending", "READY": "False", "REASON": "Pending"},
    "fedid": {"NAME": "shown", "TENANT": GUID, "APPLICATION": "Fabrikam CMK", "READY": "False", "REASON": "Pending"},
    "orgkey": {
        "NAME": "shown",
        "ORGANIZATION": "acme",
        "MODE": "CustomerManaged",
        "KEY": f"{KEY}/{V1}",
        "ACCESS": "Accessible",
        "SERVING": "Serving",
        "READY": "False",
        "REASON": "Pending",
    },
    "cmkpf": {"NAME": "shown", "COMPLETE": "True", "RESULT": "Fail", "MESSAGE": "a check has failed"},
}
WIDE = {
    "cmk": {
        "MESSAGE": "the key was read, and wrapped and unwrapped in the vault",
        "EXPIRES": "2027-11-24T12:00:00Z",
        "USED-BY": "1",
    },
    "encres": {"MESSAGE": f"Azure reports that the resource is on {KEY}"},
    "ctenant": {"CONSENT-URL": URL, "MESSAGE": "the customer has not consented yet"},
    "fedid": {"CLIENT-ID": GUID, "MESSAGE": "the customer has not consented yet"},
    "orgkey": {"DATA-KEYS": "3", "PENDING-VERSION": V2, "MESSAGE": "the customer has not consented yet"},
    "cmkpf": {},
}


LICENCE = {"NAME": "organizations", "ACCESS-METHODS": '["Application"]', "VIEW-ONLY-ENCRYPT": "Refused"}
"""The Licence: its name is given, and it has no status."""


SUPPORT = {
    "NAME": "ticket",
    "ORGANIZATION": "acme",
    "SUBJECT": "8c1d",
    "REQUESTED-BY": "alice",
    "APPROVED-BY": "bob",
    "UNTIL": "2026-12-01T00:00:00Z",
    "STATE": "Active",
    "MESSAGE": "until then",
}
"""A SupportRequest, with its wide columns."""


def of(short_name: str) -> tuple[str, ...]:
    return (
        "get",
        short_name,
        "shown",
        *(("--namespace", NAMESPACE) if short_name in {"cmk", "encres", "orgkey", "cmkpf"} else ()),
    )


@pytest.mark.parametrize("short_name", list(NARROW))
def test_kubectl_shows_the_columns_by_the_short_name(
    cluster: Cluster, shown: dict[str, dict[str, Any]], short_name: str
) -> None:
    row = table(cluster.kubectl(*of(short_name)))
    assert re.fullmatch(r"\d+s|\d+m(\d+s)?", row.pop("AGE"))
    assert row == NARROW[short_name]
    assert list(row) == list(NARROW[short_name])


def test_kubectl_shows_the_columns_of_the_licence(api: Api, cluster: Cluster) -> None:
    body = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "Licence",
        "metadata": {"name": "organizations"},
        "spec": {"accessMethods": ["Application"], "viewOnlyEncrypt": "Refused"},
    }
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(body))
    try:
        row = table(cluster.kubectl("get", "cmklicence"))
    finally:
        cluster.kubectl("delete", "cmklicence", "organizations")
    assert row.pop("AGE")
    assert row == LICENCE


def test_kubectl_shows_the_columns_of_a_support_request(cluster: Cluster) -> None:
    spec = {"organizationId": "acme", "subject": "8c1d", "ticket": "4711", "until": SUPPORT["UNTIL"], "requestedBy": "alice"}
    body = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "SupportRequest",
        "metadata": {"name": "ticket"},
        "spec": {**spec, "approvedBy": "bob"},
    }
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(body))
    try:
        status = json.dumps({"status": {"state": "Active", "message": SUPPORT["MESSAGE"]}})
        cluster.kubectl("patch", "cmksupport", "ticket", "--subresource=status", "--type=merge", "--patch", status)
        row = table(cluster.kubectl("get", "cmksupport", "--output", "wide"))
    finally:
        cluster.kubectl("delete", "cmksupport", "ticket")
    assert row.pop("AGE")
    assert row == SUPPORT


@pytest.mark.parametrize("short_name", list(WIDE))
def test_kubectl_shows_more_when_asked_for_more(cluster: Cluster, shown: dict[str, dict[str, Any]], short_name: str) -> None:
    row = table(cluster.kubectl(*of(short_name), "--output", "wide"))
    assert {name: row[name] for name in WIDE[short_name]} == WIDE[short_name]


def test_one_category_shows_all_kinds(cluster: Cluster, shown: dict[str, dict[str, Any]]) -> None:
    names = cluster.kubectl("get", "cmk-operator", "--namespace", NAMESPACE, "--output", "name").split()
    assert {name for name in names if name.endswith("/shown")} == {
        f"{KINDS[plural].name.lower()}.cmk-operator.dev/shown" for plural in KINDS
    }


@pytest.mark.parametrize(
    ("plural", "selector"),
    [
        ("customermanagedkeys", "spec.tenantRef.name=contoso"),
        ("encryptedresources", "spec.keyRef.name=storage"),
        ("organizationkeys", "spec.organization.id=acme"),
        ("organizationkeys", "spec.tenantRef.name=contoso"),
        ("customertenants", "spec.identityRef.name=provider"),
    ],
)
def test_who_refers_to_an_object_can_be_selected(
    cluster: Cluster, shown: dict[str, dict[str, Any]], plural: str, selector: str
) -> None:
    where = ("--namespace", NAMESPACE) if KINDS[plural].namespaced else ()
    found = cluster.kubectl("get", plural, *where, "--field-selector", selector, "--output", "name").split()
    assert any(name.endswith("/shown") for name in found)
    assert cluster.kubectl("get", plural, *where, "--field-selector", f"{selector}-not", "--output", "name") == ""


@pytest.mark.parametrize("condition", ["Ready", "KeyAccessible", "RotationCurrent"])
def test_kubectl_wait_understands_the_conditions(cluster: Cluster, shown: dict[str, dict[str, Any]], condition: str) -> None:
    cluster.kubectl("wait", "cmk/shown", "--namespace", NAMESPACE, f"--for=condition={condition}", "--timeout=5s")


@pytest.mark.parametrize("plural", list(KINDS))
def test_a_status_comes_back_as_it_was_written_and_changes_no_generation(
    api: Api, shown: dict[str, dict[str, Any]], plural: str
) -> None:
    body = api.request("GET", path_of(shown[plural])).body
    assert body["metadata"]["generation"] == 1
    assert type(STATUSES[plural]).model_validate(body["status"]) == STATUSES[plural]


@pytest.mark.parametrize("name", sorted(samples.states()))
def test_the_status_of_every_access_state_is_taken_by_the_api_server(
    api: Api, shown: dict[str, dict[str, Any]], name: str
) -> None:
    status = wire(_key_status(samples.states()[name]))
    answer = api.apply_status(shown["customermanagedkeys"], status, fieldValidation="Strict", dryRun="All")
    assert answer.status == 200, answer.message
    assert answer.body["status"]["access"]["state"] == name


def test_what_a_status_no_longer_says_is_gone_and_conditions_of_others_stay(api: Api, shown: dict[str, dict[str, Any]]) -> None:
    key = manifest("customermanagedkeys", "owned")
    api.create(key)
    ours = wire(_key_status())
    theirs = dict(ours["conditions"][0], type="example.com/Backed-Up")
    try:
        api.apply_status(key, ours)
        api.apply_status(key, {"conditions": [theirs]}, manager="someone-else")
        ours["conditions"] = ours["conditions"][:2]
        del ours["rotations"]
        after = api.apply_status(key, ours).body["status"]
        assert {entry["type"] for entry in after["conditions"]} == {"Ready", "KeyAccessible", "example.com/Backed-Up"}
        assert "rotations" not in after
    finally:
        api.request("DELETE", path_of(key))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reason": "not a reason"}, "should match"),
        ({"reason": ""}, "should be at least 1 chars long"),
        ({"status": "Maybe"}, "Unsupported value"),
        ({"observedGeneration": -1}, "should be greater than or equal to 0"),
        ({"lastTransitionTime": "yesterday"}, "must be of type date-time"),
    ],
)
def test_a_condition_that_is_none_is_refused(
    api: Api, shown: dict[str, dict[str, Any]], change: dict[str, Any], words: str
) -> None:
    status = wire(_key_status())
    status["conditions"][0] |= change
    answer = api.apply_status(shown["customermanagedkeys"], status, dryRun="All")
    assert answer.status == 422
    assert words in answer.message


def test_every_column_of_the_definitions_is_looked_at_here() -> None:
    from cmk_operator.api.crd import KINDS as DEFINED  # noqa: PLC0415 - the operator's own list

    for kind in DEFINED:
        others = {"cmklicence": LICENCE, "cmksupport": SUPPORT}
        shown_here = others.get(kind.short_name) or NARROW[kind.short_name] | WIDE[kind.short_name]
        looked_at = {"AGE", *shown_here} - {"NAME"}
        assert {column.name.upper() for column in kind.columns} == looked_at
