"""What every way of changing a resource needs: a second look at Kubernetes, a fresh probe, and the audit line."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.encrypted_resource import EncryptedResource, TargetReport
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.access_verdict import judge_access
from cmk_operator.core.decide import KeyState
from cmk_operator.core.faults import Fault
from cmk_operator.core.key_verdict import judge_key_probe
from cmk_operator.core.prerequisites import check_prerequisites, failed
from cmk_operator.core.protection import KeyChoice
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of, take_in
from cmk_operator.reconcile.key_report import effective_of as effective_key
from cmk_operator.reconcile.references import ResourcePath, resolve_resource
from cmk_operator.reconcile.resource_report import ResourceOutcome

if TYPE_CHECKING:
    from cmk_operator.api.model import Metadata
    from cmk_operator.core.access import Access, KeyProbe
    from cmk_operator.providers.protocol import Applied, Provider, ResourceFacts
    from cmk_operator.reconcile.context import Context

PROBE_BEFORE_WRITE_MAX_AGE: Final = 60.0
"""Seconds: a key version counts as just probed for so long (law 1)."""
_AUDIT: Final = logging.getLogger("cmk_operator.audit")


@dataclass(frozen=True, slots=True)
class ResourcePass:
    """One pass over one resource that is admitted and supported."""

    context: Context
    resource: EncryptedResource
    path: ResourcePath
    provider: Provider[Any]

    @property
    def target(self) -> TargetReport:
        """The resource, for people."""
        return TargetReport(kind=self.provider.shown_kind, name=self.path.target.name)

    def refused(self, fault: Fault, facts: ResourceFacts[Any] | None = None) -> ResourceOutcome:
        """The outcome when Azure refused a call; `facts` if the resource could at least be read."""
        return ResourceOutcome(
            self.target,
            self.path.key,
            protection=facts.protection if facts is not None else None,
            fault=fault,
            refused_by_azure=True,
        )


async def reread(step: ResourcePass) -> ResourcePass | None:
    """The same pass on what the API server says now; None when the manifest or what it rests on has changed meanwhile.

    What is gone is forgotten by the watch or a sweep, which wake all it concerns; till then the pass is repeated.
    """
    context, resource = step.context, step.resource
    reference, tenant = reference_of(resource), step.path.path.tenant
    identity = ObjectReference(FederatedIdentity.plural, "", tenant.spec.identity_ref.name)
    shared = (reference_of(step.path.key), reference_of(tenant), identity)
    bodies = await asyncio.gather(context.client.get(reference), *(context.client.get_shared(known) for known in shared))
    for known, body in zip((reference, *shared), bodies, strict=True):
        if body is None:
            return None
        take_in(context.inventory, known.plural, body, context.wake)
    now = context.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if now is None or not _same(now.metadata, resource.metadata):
        context.wake(reference, 0.0)
        return None
    path = resolve_resource(context.inventory, now)
    if isinstance(path, Fault):
        context.wake(reference, 0.0)
        return None
    return replace(step, resource=now, path=path)


def _same(now: Metadata, before: Metadata) -> bool:
    return (now.uid, now.generation, now.deletion_timestamp) == (before.uid, before.generation, before.deletion_timestamp)


async def probe_again(step: ResourcePass, seen: ResourceFacts[Any]) -> tuple[KeyProbe, KeyState]:
    """Probe the wanted version and the one that protects the resource now, through the same identity chain."""
    key, path = step.path.key, step.path.path
    old = own_version(step, seen)
    probe = await step.context.prober.probe(path.probed, frozenset({old} if old else ()), PROBE_BEFORE_WRITE_MAX_AGE)
    access = judge_access(probe)
    known = key.status.access.state if key.status.access is not None else None
    if access.state.value != known:
        step.context.wake(reference_of(key), 0.0)
    if probe.wanted.attributes is None:
        return probe, KeyState(access)
    enforce = effective_key(key).prerequisites == "Enforce"
    broken = failed(check_prerequisites(probe.wanted.attributes, probe.at), enforce=enforce)
    if not broken:
        return probe, KeyState(access)
    return probe, KeyState(access, f"{broken[0].name}Failed", "; ".join(f"{entry.name}: {entry.message}" for entry in broken))


def own_version(step: ResourcePass, seen: ResourceFacts[Any]) -> str | None:
    """The version of this very key that protects the resource now."""
    uri = seen.protection.active_key_uri
    return uri.version if uri is not None and uri.versionless == step.path.path.key_uri.versionless else None


def old_version(step: ResourcePass, seen: ResourceFacts[Any], probe: KeyProbe) -> Access | None:
    """The state of the version that protects the resource now, if it is one of this very key."""
    old = own_version(step, seen)
    return judge_key_probe(probe, {}).by_version.get(old) if old is not None else None


def choice_of(path: ResourcePath, probed_version: str) -> KeyChoice:
    """What the resource must be on, once `probed_version` has passed the probe."""
    return KeyChoice(
        path.path.key_uri,
        probed_version,
        path.path.managed_identity,
        path.path.chain.application_client_id,
        path.key.status.vault_region,
    )


def audit(
    step: ResourcePass,
    what: str,
    before: ResourceFacts[Any],
    after: Applied[Any],
) -> None:
    """One line for each change of a key, by law 8."""
    _AUDIT.info(
        what,
        extra={
            "resource": str(reference_of(step.resource)),
            "target": step.path.target.text,
            "from": str(before.protection.active_key_uri or "a key of Microsoft"),
            "to": str(after.facts.protection.active_key_uri or "a key of Microsoft"),
            "why": "the manifest says so",
            "azureRequestId": after.request_id,
        },
    )
