"""Checks one resource of a preflight: admission, read, write rights and effect; writes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.azure.permissions import permissions_at
from cmk_operator.core.encryption.coverage import Parts, not_covered
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnKey, key_in_force, start_of, text_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.kinds.required_actions import ASSIGN_IDENTITY, RightsNotVisible
from cmk_operator.core.preflight import (
    RESOURCE_STAGES,
    Check,
    CheckResult,
    CheckStage,
    Outlook,
    Rights,
    coverage_check,
    deletion_check,
    effect_check,
    not_reached,
    of_fault,
    passed,
    write_check,
)
from cmk_operator.providers.registry import unsupported
from cmk_operator.reconcile.references import resolve_resource
from cmk_operator.reconcile.resource.admitted_resource import AdmittedResource
from cmk_operator.reconcile.resource.change import due_change
from cmk_operator.reconcile.resource.report import effective_resource_policy
from cmk_operator.reconcile.resource.targets import target_of

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.kinds.required_actions import Permission
    from cmk_operator.providers.protocol import ResourceFacts
    from cmk_operator.reconcile.preflight.context import PreflightContext


async def check_resource(context: PreflightContext, name: str, namespace: str) -> tuple[Check, ...]:
    """Run every stage for one resource of the planned inventory."""
    resource = context.cluster.inventory.get(EncryptedResource, name, namespace)
    if resource is None:
        return ()
    admitted = await _admit(context, resource)
    if isinstance(admitted, Fault):
        return (of_fault(CheckStage.ADMISSION, admitted), *not_reached(RESOURCE_STAGES, "Admission must pass first"))
    admission = passed(CheckStage.ADMISSION, f"CustomerTenant {admitted.path.path.tenant.metadata.name} allows this resource")
    seen, writable = await asyncio.gather(admitted.observe(0.0), _writable(context.session, admitted))
    if isinstance(seen, AzureFailure):
        read = of_fault(CheckStage.READ, admitted.provider.judge(seen, admitted.path.target.shown_name))
        later = not_reached((CheckStage.EFFECT, CheckStage.COVERAGE, CheckStage.DELETION), "Read must pass first")
        return (admission, read, writable, *later)
    on = text_in_force(seen.protection) or resource.platform_key
    read = passed(CheckStage.READ, f"the operator read the resource: it is on {on}")
    effect, coverage = await asyncio.gather(_effect(admitted, seen), _coverage(admitted, seen))
    return (admission, read, writable, effect, coverage, _deletion(admitted, seen))


def _deletion(admitted: AdmittedResource, seen: ResourceFacts[Any]) -> Check:
    """The same plan of a revert as a deletion has; a key that the operator cannot read is left alone."""
    uri, active = admitted.path.path.key_uri, admitted.path.key.status.active_version
    policy, now = effective_resource_policy(admitted.resource), key_in_force(seen.protection)
    writes = policy.mode == "Enforce" and isinstance(start_of(seen.protection, ""), OnKey | MicrosoftManaged)
    on_ours = now is not None and now.versionless == uri.versionless
    wanted = str(uri.at(active) if uri.version is None and active is not None else uri)
    reverts = policy.deletion_policy == "RevertToPlatformKey" and writes
    plan = admitted.provider.plan_revert(admitted.target, seen) if reverts else None
    outlook = Outlook(
        admitted.path.target.shown_name,
        wanted if writes else text_in_force(seen.protection) or admitted.resource.platform_key,
        on_wanted_key=writes or on_ours,
        leaves=str(now) if writes and not on_ours and now is not None else "",
        restores=admitted.provider.kind.timing.restores,
    )
    obstacle = plan if isinstance(plan, Fault) and plan.needs_a_person else None
    reverts = reverts and (plan is not None or admitted.provider.kind.has_platform_key)
    return deletion_check(outlook, admitted.resource.platform_key, reverts=reverts, obstacle=obstacle)


async def _admit(context: PreflightContext, resource: EncryptedResource) -> AdmittedResource | Fault:
    target = resource.spec.target
    provider = context.providers.get(target.resource_type)
    if provider is None:
        return unsupported(target, context.providers)
    path = resolve_resource(context.cluster.inventory, resource)
    if isinstance(path, Fault):
        return path
    admitted_target = await target_of(context.cluster.client, provider, resource, path)
    if isinstance(admitted_target, Fault):
        return admitted_target
    return AdmittedResource(context.cluster, context.reading, resource, path, provider, admitted_target)


async def _writable(session: AzureSession, admitted: AdmittedResource) -> Check:
    rights, identity = admitted.provider.kind.rights, admitted.path.path.managed_identity
    if isinstance(rights, RightsNotVisible):
        return Check(CheckStage.WRITE, CheckResult.NOT_VISIBLE, Reason.RIGHTS_NOT_VISIBLE, rights.why)
    wanted: list[tuple[ArmId, tuple[str, ...], tuple[str, ...]]] = [
        (ArmId(admitted.path.target.text), rights.on_resource, rights.polls)
    ]
    if rights.attaches_identity:
        wanted.append((identity, (ASSIGN_IDENTITY,), ()))
    found = await asyncio.gather(*(_permissions(session, admitted.path.path.chain, scope) for scope, *_ in wanted))
    return write_check(
        Rights(scope.text, actions, permissions, polls)
        for (scope, actions, polls), permissions in zip(wanted, found, strict=True)
    )


async def _permissions(session: AzureSession, chain: IdentityChain, scope: ArmId) -> tuple[Permission, ...] | AzureFailure:
    """The permissions at the resource, or at its resource group if it does not exist yet."""
    found = await permissions_at(session, chain, scope)
    if isinstance(found, AzureFailure) and found.status == 404:
        return await permissions_at(session, chain, ArmId("/".join(scope.text.split("/")[:5])))
    return found


async def _effect(admitted: AdmittedResource, seen: ResourceFacts[Any]) -> Check:
    due = await due_change(admitted, seen, observe_only=effective_resource_policy(admitted.resource).mode == "Observe")
    if isinstance(due.plan, Fault):
        return of_fault(CheckStage.EFFECT, due.plan)
    changes = tuple(str(change) for change in due.plan.changes) if due.plan is not None else ()
    return effect_check(due.decision, due.key_state, changes)


async def _coverage(admitted: AdmittedResource, seen: ResourceFacts[Any]) -> Check:
    """Read the parts of the resource now, and compare what protects them with the key of the manifest."""
    path, provider = admitted.path.path, admitted.provider
    parts = await provider.read_parts(path.chain, admitted.target, seen) if provider.has_parts else Parts(reads=0)
    if isinstance(parts, AzureFailure):
        return of_fault(CheckStage.COVERAGE, admitted.judge(parts))
    uncovered = not_covered((*seen.parts, *parts.found), path.key_uri)
    required = bool(admitted.resource.spec.require_full_coverage)
    return coverage_check(uncovered, required=required, never=provider.kind.never_covered)
