"""Reconciles a `Preflight`: runs the checks before a write on manifests that are not applied; changes nothing in Azure.

It uses the same admission, probe and plans as a regular pass, on a copy of the inventory that contains the manifests.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from cmk_operator.api.conditions import Aspect, Progress, dated, find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import COMPLETE, CheckReport, Preflight, PreflightStatus
from cmk_operator.core.faults.fault import Fault, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId, InvalidArmIdError, parse_arm_id
from cmk_operator.core.preflight import (
    KEY_STAGES,
    Check,
    CheckResult,
    CheckStage,
    key_checks,
    not_reached,
    of_fault,
    overall,
    passed,
    prerequisite_checks,
)
from cmk_operator.core.prerequisites.check import check_prerequisites
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import cut_status
from cmk_operator.reconcile.key.known_times import with_known_times
from cmk_operator.reconcile.key.policy import enforces_prerequisites
from cmk_operator.reconcile.key.prerequisite_facts import prerequisite_facts_of
from cmk_operator.reconcile.preflight.organization import check_organization
from cmk_operator.reconcile.preflight.resource import check_resource
from cmk_operator.reconcile.references import resolve_key

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from cmk_operator.api.preflight import PlannedManifest
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.preflight.context import PreflightContext

    Planned = CustomerManagedKey | EncryptedResource | OrganizationKey

KEPT: Final = timedelta(minutes=10)
"""How long a finished preflight stays, so that its result can be read."""
MOST_RESOURCES: Final = 100
CHECKS_AT_ONCE: Final = 4
"""Checks of one preflight at once, so that many preflights do not take the connections that passes need."""
_RESULTS: Final = {
    CheckResult.PASS: (Reason.PASSED, "every check has passed"),
    CheckResult.FAIL: (Reason.FAILED, "a check has failed: each failed check says who must do what"),
    CheckResult.UNCHECKED: (Reason.NOT_ALL_CHECKED, "no check has failed, but some could not be made"),
}


async def reconcile_preflight(context: PreflightContext, reference: ObjectReference) -> Next:
    """Run the checks once, report them, and delete the preflight after `KEPT`."""
    body = await context.cluster.client.get(reference)
    if body is None:
        return Next()
    preflight = Preflight.model_validate(body)
    planned, refused = _planned(context, preflight)
    if _class_of(planned, preflight) != context.cluster.operator_class:
        return Next()
    complete = find(preflight.status.conditions, COMPLETE)
    if complete is None or preflight.status.observed_generation != preflight.metadata.generation:
        status = await _check(context, preflight, planned, refused)
        await context.cluster.client.apply_status(reference, "Preflight", preflight.metadata.uid, cut_status(status))
        return Next(after=KEPT.total_seconds())
    left = complete.last_transition_time + KEPT - context.now()
    if left > timedelta(0):
        return Next(after=left.total_seconds())
    await context.cluster.client.delete(reference, preflight.metadata.uid)
    return Next()


def class_of(context: PreflightContext, preflight: Preflight) -> str:
    """The class of the operator that answers a preflight."""
    planned, _ = _planned(context, preflight)
    return _class_of(planned, preflight)


def _class_of(planned: Inventory, preflight: Preflight) -> str:
    """The class of the operator that answers: of the first manifest that rests on an identity, otherwise the default."""
    namespace = preflight.metadata.namespace or ""
    manifests = (
        *((CustomerManagedKey.plural, manifest) for manifest in preflight.spec.keys or ()),
        *((EncryptedResource.plural, manifest) for manifest in preflight.spec.resources or ()),
        *((OrganizationKey.plural, manifest) for manifest in preflight.spec.organization_keys or ()),
    )
    classes = (planned.class_of(ObjectReference(plural, namespace, manifest.name)) for plural, manifest in manifests)
    return next((one for one in classes if one), "")


async def _check(
    context: PreflightContext, preflight: Preflight, planned: Inventory, refused: list[tuple[str, str, Check]]
) -> PreflightStatus:
    # A planned key must not enqueue anything.
    planning = replace(context, cluster=replace(context.cluster, inventory=planned, wake=_wake_nothing, changed=_note_nothing))
    namespace = preflight.metadata.namespace or ""
    refusals = {(kind, name) for kind, name, _ in refused}
    resources = [name for name in _resources(planned, preflight) if (EncryptedResource.__name__, name) not in refusals]
    keys = [name for name in _keys(planned, preflight, resources) if (CustomerManagedKey.__name__, name) not in refusals]
    found = list(refused)
    slots = asyncio.Semaphore(CHECKS_AT_ONCE)
    of_keys = await asyncio.gather(*(_in_turn(slots, _check_key(planning, name, namespace)) for name in keys))
    found += [
        (CustomerManagedKey.__name__, name, check) for name, checks in zip(keys, of_keys, strict=True) for check in checks
    ]
    # After the keys, so that their probes are fresh.
    of_resources = await asyncio.gather(*(_in_turn(slots, check_resource(planning, name, namespace)) for name in resources))
    found += [
        (EncryptedResource.__name__, name, check)
        for name, checks in zip(resources, of_resources, strict=True)
        for check in checks
    ]
    named = dict.fromkeys(manifest.name for manifest in preflight.spec.organization_keys or ())
    organizations = [name for name in named if (OrganizationKey.__name__, name) not in refusals]
    of_organizations = await asyncio.gather(
        *(_in_turn(slots, check_organization(planning, name, namespace)) for name in organizations)
    )
    found += [
        (OrganizationKey.__name__, name, check)
        for name, checks in zip(organizations, of_organizations, strict=True)
        for check in checks
    ]
    return preflight_status(preflight, found, context.now())


async def _in_turn(slots: asyncio.Semaphore, checks: Awaitable[tuple[Check, ...]]) -> tuple[Check, ...]:
    async with slots:
        return await checks


def _wake_nothing(_: ObjectReference, __: float) -> None:
    """Enqueue nothing."""


async def _note_nothing(_: ObjectReference, __: int) -> None:
    """Enqueue nothing."""


def _planned(context: PreflightContext, preflight: Preflight) -> tuple[Inventory, list[tuple[str, str, Check]]]:
    """The inventory with the manifests in it, and the checks on manifests that are invalid."""
    inventory, namespace = context.cluster.inventory, preflight.metadata.namespace or ""
    bodies: list[tuple[str, dict[str, Any]]] = []
    refused: list[tuple[str, str, Check]] = []
    for manifest in preflight.spec.keys or ():
        body = _body(context, manifest, namespace, inventory.get(CustomerManagedKey, manifest.name, namespace))
        fault = _fault_of(CustomerManagedKey, body)
        if fault is None:
            bodies.append((CustomerManagedKey.plural, body))
        else:
            refused.append((CustomerManagedKey.__name__, manifest.name, of_fault(CheckStage.ADMISSION, fault)))
    for manifest in preflight.spec.resources or ():
        body = _body(context, manifest, namespace, inventory.get(EncryptedResource, manifest.name, namespace))
        fault = _fault_of(EncryptedResource, body) or _target_fault(body)
        if fault is None:
            bodies.append((EncryptedResource.plural, body))
        else:
            refused.append((EncryptedResource.__name__, manifest.name, of_fault(CheckStage.ADMISSION, fault)))
    for manifest in preflight.spec.organization_keys or ():
        body = _body(context, manifest, namespace, inventory.get(OrganizationKey, manifest.name, namespace))
        fault = _fault_of(OrganizationKey, body)
        if fault is None:
            bodies.append((OrganizationKey.plural, body))
        else:
            refused.append((OrganizationKey.__name__, manifest.name, of_fault(CheckStage.ADMISSION, fault)))
    return inventory.planned(bodies), refused


def _body(context: PreflightContext, manifest: PlannedManifest, namespace: str, known: Planned | None) -> dict[str, Any]:
    """The object as applying the manifest would leave it; an existing object keeps its metadata and status."""
    if known is None:
        new = {"name": manifest.name, "namespace": namespace, "creationTimestamp": context.now().isoformat()}
        return {"metadata": new, "spec": manifest.spec}
    return known.model_dump(mode="json", by_alias=True, exclude_none=True) | {"spec": manifest.spec}


def _fault_of(model: type[Planned], body: dict[str, Any]) -> Fault | None:
    """Why the API server would refuse the manifest; the CRD does not validate the manifests within a preflight."""
    try:
        model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        return invalid(Reason.INVALID_MANIFEST, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
    return None


def _target_fault(body: dict[str, Any]) -> Fault | None:
    target = EncryptedResource.model_validate(body).spec.target
    if isinstance(target, ArmId):
        try:
            parse_arm_id(target.text)
        except InvalidArmIdError as error:
            return invalid(Reason.INVALID_RESOURCE_ID, f"spec.resourceId is not usable: {error}")
    return None


def _resources(planned: Inventory, preflight: Preflight) -> list[str]:
    """The resources in the preflight, and those that its keys affect."""
    namespace = preflight.metadata.namespace or ""
    names = dict.fromkeys(manifest.name for manifest in preflight.spec.resources or ())
    for key in preflight.spec.keys or ():
        names.update(dict.fromkeys(planned.names_on(namespace, key.name)))
    return list(names)[:MOST_RESOURCES]


def _keys(planned: Inventory, preflight: Preflight, resources: list[str]) -> list[str]:
    """The keys in the preflight, and existing keys that its resources name."""
    namespace = preflight.metadata.namespace or ""
    names = dict.fromkeys(manifest.name for manifest in preflight.spec.keys or ())
    for name in resources:
        resource = planned.get(EncryptedResource, name, namespace)
        if resource is not None and planned.get(CustomerManagedKey, resource.spec.key_ref.name, namespace) is not None:
            names[resource.spec.key_ref.name] = None
    return list(names)


async def _check_key(context: PreflightContext, name: str, namespace: str) -> tuple[Check, ...]:
    key = context.cluster.inventory.get(CustomerManagedKey, name, namespace)
    if key is None:
        return ()
    path = resolve_key(context.cluster.inventory, key)
    if isinstance(path, Fault):
        return (of_fault(CheckStage.ADMISSION, path), *not_reached(KEY_STAGES, "Admission must pass first"))
    probe, _ = await asyncio.gather(
        context.reading.prober.probe(path.probed, frozenset(), 0.0), context.reading.vaults.read(path.vault, 0.0)
    )
    probe = with_known_times(key, path, probe)
    prerequisites = check_prerequisites(prerequisite_facts_of(context.cluster.inventory, context.reading, key, path, probe))
    return (
        passed(CheckStage.ADMISSION, f"CustomerTenant {path.tenant.metadata.name} allows this namespace and vault"),
        *key_checks(probe),
        *prerequisite_checks(prerequisites, enforce=enforces_prerequisites(key)),
    )


def preflight_status(preflight: Preflight, found: list[tuple[str, str, Check]], now: datetime) -> PreflightStatus:
    """The status of a preflight whose checks have been made; pure."""
    verdict = overall(check.result for _, _, check in found)
    reason, message = _RESULTS[verdict]
    complete = Aspect(COMPLETE, "True", reason, message)
    progress = Progress(stalled=verdict is not CheckResult.PASS, reason=reason, message=message)
    generation = preflight.metadata.generation
    return PreflightStatus(
        observed_generation=generation,
        conditions=dated((complete,), progress, (), generation, now),
        result=verdict.value,
        checks=tuple(CheckReport(kind=kind, name=name, **asdict(check)) for kind, name, check in found),
    )
