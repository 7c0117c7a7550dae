"""What every way of changing a resource needs: a second look at Kubernetes, and a fresh probe."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.encrypted_resource import EncryptedResource, TargetReport
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import APPROVED_VERSION
from cmk_operator.core.access.key_verdict import judge_key_probe
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.encryption.decide import KeyState, NextAction
from cmk_operator.core.encryption.protection import KeyChoice
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.prerequisites.check import check_prerequisites, failed
from cmk_operator.core.rotation.adoption import probe_of_adopted
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.key.guard import guard_of
from cmk_operator.reconcile.key.policy import adoption_policy, enforces_prerequisites
from cmk_operator.reconcile.references import ResourcePath, resolve_resource
from cmk_operator.reconcile.resource.outcome import Operating, Planned, Settled, Waiting

if TYPE_CHECKING:
    from cmk_operator.api.model import Metadata
    from cmk_operator.core.access.state import Access, KeyAttributes, KeyProbe
    from cmk_operator.core.encryption.decide import Decision
    from cmk_operator.core.encryption.long_running import Operation
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.providers.protocol import AnyTarget, Plan, Provider, ResourceFacts
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.key.reading import KeyReading

PROBE_BEFORE_WRITE_MAX_AGE: Final = 55.0
"""Seconds: a key version counts as just probed for so long. Law 1 says a minute until the write arrives, which takes its time too."""
LONGEST_WAIT: Final = 60.0
"""Seconds between two questions after an operation at most, whatever the service says."""
LATEST_MAX_AGE: Final = 2.0
"""Seconds since a read that showed the same version, where none is on the wire: Azure takes the latest, whoever made it since.

Not zero, so that many resources that are put on one key share a read.
"""


@dataclass(frozen=True, slots=True)
class AdmittedResource:
    """One pass over one resource that is admitted and supported."""

    cluster: Cluster
    reading: KeyReading
    resource: EncryptedResource
    path: ResourcePath
    provider: Provider[Any, Any]
    target: AnyTarget

    @property
    def shown(self) -> TargetReport:
        """The resource, for people."""
        return TargetReport(kind=self.provider.kind.shown, name=self.path.target.shown_name)

    async def observe(self, max_age: float) -> ResourceFacts[Any] | AzureFailure:
        """The facts, at most `max_age` seconds old."""
        return await self.provider.observe(self.path.path.chain, self.target, max_age=max_age)

    def judge(self, failure: AzureFailure) -> Fault:
        """Who must act on a refused call."""
        return self.provider.judge(failure, self.path.target.shown_name)

    def operating(self, operation: Operation, retry_after: float, seen: ResourceFacts[Any] | None) -> Operating:
        """The outcome while the service carries out what was started; `retry_after` in seconds."""
        return Operating(operation, min(retry_after, LONGEST_WAIT), seen)

    def unwritten(self, decision: Decision, plan: Plan[Any] | None, seen: ResourceFacts[Any]) -> Settled | Planned | Waiting:
        """The outcome when nothing is to be written, or not now."""
        if plan is None:
            return Settled(seen)
        if decision.action is NextAction.SHOW_PLAN:
            return Planned(plan, seen)
        return Waiting(decision.reason, decision.message, seen, plan.keeps_key)


async def reread(admitted: AdmittedResource) -> AdmittedResource | None:
    """The same pass on what the API server says now; None when the manifest or what it rests on has changed meanwhile.

    What is gone is forgotten by the watch or a sweep, which wake all it concerns; till then the pass is repeated.
    """
    cluster, resource = admitted.cluster, admitted.resource
    reference, tenant = reference_of(resource), admitted.path.path.tenant
    identity = ObjectReference(FederatedIdentity.plural, "", tenant.spec.identity_ref.name)
    shared = (reference_of(admitted.path.key), reference_of(tenant), identity)
    bodies = await asyncio.gather(cluster.client.get(reference), *(cluster.client.get_shared(known) for known in shared))
    for known, body in zip((reference, *shared), bodies, strict=True):
        if body is None:
            return None
        cluster.put_answer(known, body)
    now = cluster.inventory.get(EncryptedResource, reference.name, reference.namespace)
    if now is None or not _same(now.metadata, resource.metadata):
        cluster.wake(reference, 0.0)
        return None
    path = resolve_resource(cluster.inventory, now)
    if isinstance(path, Fault):
        cluster.wake(reference, 0.0)
        return None
    return replace(admitted, resource=now, path=path, target=admitted.target.within(path.path.grant.covers))


def _same(now: Metadata, before: Metadata) -> bool:
    return (now.uid, now.generation, now.deletion_timestamp) == (before.uid, before.generation, before.deletion_timestamp)


async def probe_again(admitted: AdmittedResource, seen: ResourceFacts[Any]) -> tuple[KeyProbe, KeyState]:
    """Probe the version in force and the one that protects the resource now, through the same identity chain."""
    key, path = admitted.path.key, admitted.path.path
    policy, active = adoption_policy(key), key.status.active_version
    versions = frozenset(
        version for version in (own_version(admitted, seen), active if policy.needs_approval else None) if version
    )
    names_version = policy.by_operator or path.key_uri.version is not None
    read_max_age = None if names_version else LATEST_MAX_AGE
    visited = await admitted.reading.prober.probe(path.probed, versions, PROBE_BEFORE_WRITE_MAX_AGE, read_max_age=read_max_age)
    approved = key.metadata.annotations.get(APPROVED_VERSION)
    probe, _ = probe_of_adopted(visited, policy, active=active, approved=approved)
    access = judge_access(probe)
    known = key.status.access.state if key.status.access is not None else None
    if access.state.value != known:
        admitted.cluster.wake(reference_of(key), 0.0)
    if probe.wanted.attributes is None:
        return probe, KeyState(access)
    enforce = enforces_prerequisites(key)
    broken = failed(
        check_prerequisites(guard_of(admitted.cluster.inventory, admitted.reading, key, path, probe)), enforce=enforce
    )
    if not broken:
        return probe, KeyState(access)
    return probe, KeyState(access, broken[0].name.failed, "; ".join(f"{entry.name}: {entry.message}" for entry in broken))


def own_version(admitted: AdmittedResource, seen: ResourceFacts[Any]) -> str | None:
    """The version of this very key that protects the resource now."""
    uri = seen.protection.active_key_uri
    return uri.version if uri is not None and uri.versionless == admitted.path.path.key_uri.versionless else None


def old_version(admitted: AdmittedResource, seen: ResourceFacts[Any], probe: KeyProbe) -> Access | None:
    """The state of the version that protects the resource now, if it is one of this very key."""
    old = own_version(admitted, seen)
    return judge_key_probe(probe, {}).by_version.get(old) if old is not None else None


def choice_of(path: ResourcePath, attributes: KeyAttributes | None) -> KeyChoice:
    """What the resource must be on: the version that has just passed the probe, or the one that the key's status calls active."""
    known, key_uri = path.key.status, path.path.key_uri
    version = (attributes.version if attributes is not None else known.active_version) or ""
    by_operator = version and adoption_policy(path.key).by_operator
    return KeyChoice(
        key_uri.at(version) if by_operator else key_uri,
        version,
        path.path.managed_identity,
        path.path.chain.application_client_id,
        vault_region=(attributes.vault_region if attributes is not None else None) or known.vault_region,
        key_size=attributes.key_size if attributes is not None else None,
        customer_tenant_id=path.path.tenant.spec.tenant_id,
    )
