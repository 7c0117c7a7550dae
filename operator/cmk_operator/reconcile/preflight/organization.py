"""The checks of one `OrganizationKey`: the test of its settings, without bringing them into force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.preflight import (
    ORGANIZATION_STAGES,
    Check,
    CheckResult,
    CheckStage,
    advice_check,
    not_reached,
    of_fault,
    organization_checks,
    organization_effect,
    passed,
)
from cmk_operator.reconcile.organization.acceptance import Refused, TestStage
from cmk_operator.reconcile.organization.report import counted_data_keys
from cmk_operator.reconcile.organization.settings import known_kid
from cmk_operator.reconcile.organization.trial import Trial
from cmk_operator.reconcile.references import resolve_organization

if TYPE_CHECKING:
    from cmk_operator.reconcile.preflight.context import PreflightContext


async def check_organization(context: PreflightContext, name: str, namespace: str) -> tuple[Check, ...]:
    """The checks in their order; the first that fails ends them. Raises `KubernetesError` if a Secret could not be read now."""
    cluster = context.cluster
    organization = cluster.inventory.get(OrganizationKey, name, namespace)
    if organization is None:
        return ()
    path = resolve_organization(cluster.inventory, organization)
    if isinstance(path, Fault):
        return (of_fault(CheckStage.ADMISSION, path), *not_reached(ORGANIZATION_STAGES, "Admission must pass first"))
    trial = Trial(cluster.client, cluster.inventory, context.gates, organization, context.now())
    credentials = await trial.credentials(path)
    wanted = trial.wanted(path, credentials)
    if isinstance(wanted, Refused):
        failed = Check(CheckStage.ADMISSION, CheckResult.FAIL, wanted.reason, wanted.message)
        return (failed, *not_reached(ORGANIZATION_STAGES, "Admission must pass first"))
    allowed = (
        f"CustomerTenant {path.tenant.metadata.name} allows this namespace and vault"
        if path is not None
        else "no vault is needed"
    )
    admitted = passed(CheckStage.ADMISSION, allowed)
    tried = await trial.run(organization.status, wanted, credentials)
    if isinstance(tried, Refused):
        stage = _STAGES[tried.stage]
        return (admitted, *organization_checks(stage, tried.reason, tried.message, needs_a_person=not tried.passes_by_itself))
    status, now = organization.status, context.now()
    counted = counted_data_keys(status, now)
    in_force = status.accepted.kid if status.accepted is not None else ""
    effect = organization_effect(in_force, known_kid(status, tried.kid), counted.get(in_force) if counted is not None else None)
    if wanted.access is None:
        return (admitted, passed(CheckStage.OLD_KEY, "the key in force can be unwrapped, or no data key is on it"), effect)
    gate = await trial.gates.of(cluster.client, wanted.access, namespace, now)
    advice = advice_check(await trial.advice(gate, tried)) if not isinstance(gate, Fault) else None
    checks = organization_checks()
    return (admitted, *checks, *((advice,) if advice is not None else ()), effect)


_STAGES: Final = {
    TestStage.REFERENCE: CheckStage.ADMISSION,
    TestStage.TOKEN: CheckStage.TOKEN,
    TestStage.WRAP: CheckStage.WRAP,
    TestStage.UNWRAP: CheckStage.UNWRAP,
    TestStage.OLD_KEY: CheckStage.OLD_KEY,
}
