"""What kstatus, Flux and Argo CD conclude from every status that the reports can write, each by its own library."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cmk_operator.api.model import RECONCILE_REQUESTED_AT
from cmk_operator.api.preflight import Preflight
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.faults.missing_reference import MISSING_REFERENCES
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.preflight import Check, CheckResult, CheckStage
from cmk_operator.reconcile.identity.report import RegistrationObstacle, identity_status
from cmk_operator.reconcile.key.report import Usage, refused_key_status
from cmk_operator.reconcile.notifications.delivery import notifications_delivered
from cmk_operator.reconcile.organization.acceptance import refused_by_reference
from cmk_operator.reconcile.preflight.reconciler import preflight_status
from cmk_operator.reconcile.resource.outcome import (
    CallRefused,
    Obstructed,
    Operating,
    OperationUnknown,
    Planned,
    Refused,
    ResourceOutcome,
    Settled,
    Waiting,
)
from cmk_operator.reconcile.tenant.reconciler import refused_tenant_status, tenant_status
from sandbox.kubernetes.gitops import argo_lua, kstatus
from tests.gitops.law import ARGO_CD, BY_PERSONS, DEPLOY, argo_cd_setting, broken_laws, flux_expressions
from tests.unit import test_identity_and_tenant_reports as identities
from tests.unit import test_organization_report as organizations
from tests.unit import test_resource_report as resources
from tests.unit.samples import NOW, customer_managed_key, customer_tenant, encrypted_resource, entra, federated_identity, states
from tests.unit.test_organization_settings import organization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cmk_operator.api.model import Shape
    from sandbox.kubernetes.gitops import Manifest

REASONS = [one for one in Reason if one.kind in {FaultKind.BLOCKED, FaultKind.INVALID, FaultKind.BUSY}]
FAULTY: list[Callable[[Fault], ResourceOutcome]] = [
    Refused,
    OperationUnknown,
    lambda fault: CallRefused(fault, None),
    lambda fault: CallRefused(fault, resources.facts()),
    lambda fault: Obstructed(fault, resources.facts()),
]
CODES = [None, 700016, 7000112, 53003, 90002, 650059, 70021, 700213, 90033, 999999]


def manifest(found: Shape, status: Shape) -> Manifest:
    """The object as the API server has it."""
    whole = found.model_copy(update={"status": status})
    body: Manifest = whole.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": type(found).__name__, **body}


def faults() -> Iterator[Fault]:
    """One for every reason; what is missing is also awaited."""
    for reason in REASONS:
        yield Fault(reason, "the platform engineer must act", Actor.PLATFORM_ENGINEER)
        if reason in MISSING_REFERENCES:
            yield Fault(reason, "it may still come", Actor.PLATFORM_ENGINEER, awaited=True)


def of_resources() -> Iterator[Manifest]:
    read = resources.facts()
    for fault, outcome in zip(faults(), itertools.cycle(FAULTY)):
        yield told(encrypted_resource(), outcome(fault))
    for mode in ("Enforce", "Observe"):
        for coverage in (True, False):
            resource = encrypted_resource(mode=mode, requireFullCoverage=coverage)
            for key in map(resources.probed, states().values()):
                yield told(resource, Settled(read), key)
                yield told(resource, Waiting(Reason.DISABLED, "somebody must act", read, keeps_key=True), key)
                yield told(
                    resource, Waiting(Reason.WAITING_FOR_KEY, "the key has not been probed yet", read, keeps_key=False), key
                )
            yield told(resource, Operating(resources.OPERATION, 5.0, read))
    observing = encrypted_resource(mode="Observe", requireFullCoverage=True)
    for protection in (resources.ON_MICROSOFT, resources.ON_V1):
        for plan in (resources.PLAN, replace(resources.PLAN, keeps_key=True)):
            yield told(observing, Planned(plan, resources.facts(protection)))


def told(resource: Any, outcome: Any, key: Any = None) -> Manifest:
    found = resources.Found(outcome, key if key is not None else resources.probed())
    return manifest(resource, resources.report(resource, found, NOW))


def of_keys() -> Iterator[Manifest]:
    for fault in faults():
        key = customer_managed_key()
        yield manifest(key, refused_key_status(key, fault, Usage((), {}), NOW))
    for prerequisites in ("Enforce", "Warn"):
        for found in states().values():
            key = resources.probed(found, prerequisites=prerequisites)
            yield manifest(key, key.status)


def of_administrators() -> Iterator[Manifest]:
    identity, tenant = federated_identity(), customer_tenant()
    delivered = notifications_delivered(tenant, None)
    for fault in faults():
        yield manifest(tenant, refused_tenant_status(tenant, fault, delivered, NOW))
        obstacle = RegistrationObstacle(fault, unread=fault.reason.passes_by_itself)
        yield manifest(identity, identity_status(identity, None, identities.MANAGED, identities.application(), NOW, obstacle))
    for code in CODES:
        for stage in (Stage.OPERATOR_TOKEN, Stage.APPLICATION_TOKEN):
            failure = entra(code, stage) if code is not None else None
            yield manifest(tenant, tenant_status(tenant, identity, failure, delivered, NOW))
            yield manifest(identity, identity_status(identity, failure, identities.MANAGED, identities.application(), NOW))


def of_organizations() -> Iterator[Manifest]:
    whole = organization()
    for facts, *_ in organizations.FINDINGS:
        yield manifest(whole, organizations.status_of(facts))
    for fault in faults():
        refused = refused_by_reference(fault)
        yield manifest(whole, organizations.status_of(organizations.facts(in_force=False, refused=refused)))


def test_current_failed_and_in_progress_mean_what_they_say_in_every_tool() -> None:
    found = [*of_resources(), *of_keys(), *of_administrators(), *of_organizations()]
    assert set(kstatus(found)) == {"Current", "Failed", "InProgress"}
    assert broken_laws(found, whole_messages=False) == []


def body(kind: str, status: dict[str, Any] | None, **spec: Any) -> Manifest:
    """An object of the second generation."""
    found: Manifest = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "it", "generation": 2},
        "spec": spec,
    }
    return found if status is None else {**found, "status": status}


def test_what_the_operator_has_not_seen_is_in_progress_and_a_licence_which_needs_no_operator_is_current() -> None:
    fresh = [body(kind, {"observedGeneration": -1}) for kind in flux_expressions()]
    old = {
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "all is well"}],
    }
    assert broken_laws([*fresh, *(body(kind, old) for kind in flux_expressions() if kind != "Preflight")]) == []
    without_conditions = [body("Licence", None), *(body(kind, {"state": "Active"}) for kind in BY_PERSONS)]
    assert kstatus(without_conditions) == ["Current"] * len(without_conditions)
    assert broken_laws(without_conditions) == []


@pytest.mark.parametrize(
    ("result", "reason", "said"),
    [("Pass", "Passed", "Current"), ("Fail", "Failed", "Failed"), ("Unchecked", "NotAllChecked", "Failed")],
)
def test_a_preflight_is_current_only_when_every_check_has_passed(result: str, reason: str, said: str) -> None:
    found = Preflight.model_validate(body("Preflight", None, keys=[]))
    checks = {"Pass": CheckResult.PASS, "Fail": CheckResult.FAIL, "Unchecked": CheckResult.UNCHECKED}
    check = Check(CheckStage.GET, checks[result], Reason.READY, "the customer's administrator must look")
    status = preflight_status(found, [("CustomerManagedKey", "it", check)], NOW)
    assert status.conditions[0].reason == reason
    whole = manifest(found, status)
    assert kstatus([whole]) == [said]
    assert broken_laws([whole]) == []


def test_a_lost_key_is_degraded_and_an_outage_is_not() -> None:
    health = argo_cd_setting("health", "CustomerManagedKey")
    said = {
        name: argo_lua(health, [manifest(key := resources.probed(found), key.status)])[0]["status"]
        for name, found in states().items()
    }
    assert {name for name, status in said.items() if status == "Healthy"} == {"Accessible"}
    by_itself = {"CredentialReplicating", "VersionReplicating", "VaultUnreachable", "Unknown"}
    assert {name for name, status in said.items() if status == "Progressing"} == by_itself
    assert {"Disabled", "Purged", "PermissionDenied", "ConsentMissing"} <= {
        name for name, status in said.items() if status == "Degraded"
    }


def test_the_action_of_argo_cd_requests_one_pass_and_changes_nothing_else() -> None:
    for kind in flux_expressions():
        if kind == "Preflight":
            continue  # It is checked once, and a new one is made for the next time.
        actions = yaml.safe_load(argo_cd_setting("actions", kind))
        (definition,) = actions["definitions"]
        for metadata in ({"name": "it"}, {"name": "it", "annotations": {"a": "b"}}):
            before = {**body(kind, None, a=[1], b={"c": "d"}), "metadata": metadata}
            assert argo_lua(actions["discovery.lua"], [before]) == [{definition["name"]: {"disabled": False}}]
            (after,) = argo_lua(definition["action.lua"], [before])
            requested = after["metadata"]["annotations"].pop(RECONCILE_REQUESTED_AT)
            assert datetime.fromisoformat(requested).tzinfo is not None
            after["metadata"]["annotations"] = dict(
                after["metadata"]["annotations"]
            )  # Lua knows no empty map, only an empty list
            assert after == {**before, "metadata": {"annotations": {}, **metadata}}


def test_each_kind_with_a_status_has_its_health_in_each_tool() -> None:
    with_status = {found["spec"]["names"]["kind"] for found in definitions() if "subresources" in found["spec"]["versions"][0]}
    with_status -= BY_PERSONS
    assert set(flux_expressions()) == with_status
    assert {kind for kind in with_status if argo_cd_setting("health", kind)} == with_status
    names = set(yaml.safe_load(ARGO_CD.read_text(encoding="utf-8"))["data"])
    assert {name.rpartition("_")[2] for name in names} == with_status


def definitions() -> list[Manifest]:
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((DEPLOY.parent / "crds").glob("*.yaml"))]


def test_a_script_of_argo_cd_can_reach_nothing_outside() -> None:
    for script in ("return io", "return os.getenv", "return string"):
        assert argo_lua(script, [body("Licence", None)]) == [None]
