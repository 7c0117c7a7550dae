"""An admitted resource, and what precedes every change to it: a reread of the Kubernetes objects and a fresh probe."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource, TargetReport
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import APPROVED_VERSION
from cmk_operator.core.access.key_verdict import judge_key_probe
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.encryption.decide import KeyState, NextAction
from cmk_operator.core.encryption.old_key import OF_A_KEY, KeyOwner, blame_old_key
from cmk_operator.core.encryption.protection import KeyChoice, Unreadable, key_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.azure_failure import Unreadable as UnreadableAnswer
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.prerequisites.check import check_prerequisites, failed
from cmk_operator.core.rotation.adoption import probe_of_adopted
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.key.known_times import with_known_times
from cmk_operator.reconcile.key.policy import adoption_policy, enforces_prerequisites
from cmk_operator.reconcile.key.prerequisite_facts import prerequisite_facts_of
from cmk_operator.reconcile.references import ResourcePath, resolve_resource
from cmk_operator.reconcile.resource.outcome import Operating, Planned, Settled, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.api.model import Metadata
    from cmk_operator.core.access.state import Access, KeyAttributes, KeyProbe
    from cmk_operator.core.encryption.decide import Decision
    from cmk_operator.core.encryption.long_running import Operation
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.providers.protocol import AnyTarget, Plan, Provider, ResourceFacts
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.key.reading import KeyReading

PROBE_BEFORE_WRITE_MAX_AGE: Final = 55.0
"""Seconds for which a probe is fresh enough to write. Law 1 allows a minute until the write arrives; sending it takes time too."""
PROBE_VALID_FOR: Final = timedelta(seconds=60)
"""Law 1: the age of a probe at which nothing may be written any more."""
LONGEST_WAIT: Final = 60.0
"""Most seconds between two polls of an operation, whatever the service asks for."""
_LOG: Final = logging.getLogger(__name__)
LATEST_MAX_AGE: Final = 2.0
"""Seconds for which a read of the latest version is fresh enough for a request that names no version.

Azure then uses the latest version, even one created a moment ago. Not zero, so that many resources on one key share a read.
"""


@dataclass(frozen=True, slots=True)
class AdmittedResource:
    """A supported resource that passed admission, with what one pass needs for it."""

    cluster: Cluster
    reading: KeyReading
    resource: EncryptedResource
    path: ResourcePath
    provider: Provider[Any, Any]
    target: AnyTarget

    @property
    def shown(self) -> TargetReport:
        """The resource's kind and name for people."""
        return TargetReport(kind=self.provider.kind.shown, name=self.path.target.shown_name)

    async def observe(self, max_age: float) -> ResourceFacts[Any] | AzureFailure:
        """The facts about the resource, at most `max_age` seconds old; never with a protection that cannot be read."""
        return _readable(await self.provider.observe(self.path.path.chain, self.target, max_age=max_age))

    async def observe_before_write(self) -> ResourceFacts[Any] | AzureFailure:
        """The facts that a write may rely on."""
        return _readable(await self.provider.observe_before_write(self.path.path.chain, self.target))

    def judge(self, failure: AzureFailure) -> Fault:
        """Explain a refused call and name who must act; words of the service that are not known are logged too."""
        fault = self.provider.judge(failure, self.path.target.shown_name)
        if failure.read and fault.reason in {Reason.AZURE_REFUSED, Reason.SNOWFLAKE_REFUSED}:
            about = {"object": str(reference_of(self.resource)), "target": self.path.target.text}
            said = {"azureRequestId": failure.request_id, "code": failure.code, "azureMessage": failure.message}
            _LOG.warning("a read was refused", extra={**about, **said})
        return fault

    def judge_change(self, failure: AzureFailure, seen: ResourceFacts[Any] | None) -> Fault:
        """Explain a refused change and name who must act; the cause may be the key that the resource is to leave."""
        fault, old = self.judge(failure), key_in_force(seen.protection) if seen is not None else None
        owner = self._owner_of(old) if old is not None and fault.reason in OF_A_KEY else None
        name = self.path.target.shown_name
        return blame_old_key(fault, failure, name, old=old, new=self.path.path.key_uri, owner=owner)

    def _owner_of(self, old: KeyUri) -> KeyOwner | None:
        """The owner of a key, from manifests in the same namespace only, so that nothing leaks between namespaces."""
        namespace, inventory = self.resource.metadata.namespace, self.cluster.inventory
        for reference in inventory.all(CustomerManagedKey.plural):
            key = inventory.get(CustomerManagedKey, reference.name, reference.namespace)
            if reference.namespace != namespace or key is None or key.spec.uri is None:
                continue
            if key.spec.uri.versionless == old.versionless:
                state = AccessState.read(key.status.access.state) if key.status.access is not None else AccessState.UNKNOWN
                return KeyOwner(key.spec.tenant_ref.name, state)
        return None

    def operating(self, operation: Operation, retry_after: float, seen: ResourceFacts[Any] | None) -> Operating:
        """The outcome while the service carries out an operation; `retry_after` in seconds."""
        return Operating(operation, min(retry_after, LONGEST_WAIT), seen)

    def unwritten(self, decision: Decision, plan: Plan[Any] | None, seen: ResourceFacts[Any]) -> Settled | Planned | Waiting:
        """The outcome if nothing may be written now."""
        if plan is None:
            return Settled(seen)
        if decision.action is NextAction.SHOW_PLAN:
            return Planned(plan, seen)
        return Waiting(decision.reason, decision.message, seen, plan.keeps_key)


def _readable(seen: ResourceFacts[Any] | AzureFailure) -> ResourceFacts[Any] | AzureFailure:
    """The facts, or a failed read if they do not say what protects the resource: nothing may be concluded from them."""
    if isinstance(seen, AzureFailure) or not isinstance(seen.protection, Unreadable):
        return seen
    return UnreadableAnswer(code=seen.protection.reason.value, message=seen.protection.what)


async def is_still_admitted(admitted: AdmittedResource, probed_at: datetime, now: Callable[[], datetime]) -> bool:
    """Whether the objects that allow a change still allow it, for the same key and target, and the probe is still fresh.

    It reads them from the API server. If not, the object is enqueued and the pass must be repeated.
    """
    fresh = await reread(admitted)
    if fresh is not None and _grounds(fresh) == _grounds(admitted) and now() - probed_at <= PROBE_VALID_FOR:
        return True
    admitted.cluster.wake(reference_of(admitted.resource), 0.0)
    return False


def _grounds(admitted: AdmittedResource) -> tuple[object, ...]:
    """What a change rests on, besides that it is admitted."""
    path, key = admitted.path.path, admitted.path.key
    approved = key.metadata.annotations.get(APPROVED_VERSION)
    return path.probed, path.managed_identity, path.grant, admitted.path.target, key.metadata.uid, key.spec, approved


async def reread(admitted: AdmittedResource) -> AdmittedResource | None:
    """Reread the manifest and the objects that it refers to; None if the manifest changed or is no longer admitted.

    A missing object is left to the watch or the relist, which remove it and enqueue its dependents; until then the pass is
    repeated.
    """
    cluster, resource = admitted.cluster, admitted.resource
    reference, tenant = reference_of(resource), admitted.path.path.tenant
    identity = ObjectReference(FederatedIdentity.plural, "", tenant.spec.identity_ref.name)
    shared = (reference_of(admitted.path.key), reference_of(tenant), identity)
    bodies = await asyncio.gather(cluster.client.get(reference), *(cluster.client.get_shared(known) for known in shared))
    for known, body in zip((reference, *shared), bodies, strict=True):
        if body is None:
            return None
        await cluster.put_answer(known, body)
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
    result = await admitted.reading.prober.probe(path.probed, versions, PROBE_BEFORE_WRITE_MAX_AGE, read_max_age=read_max_age)
    result = with_known_times(key, path, result)
    approved = key.metadata.annotations.get(APPROVED_VERSION)
    probe, _ = probe_of_adopted(result, policy, active=active, approved=approved)
    access = judge_access(probe)
    known = key.status.access.state if key.status.access is not None else None
    if access.state.value != known:
        admitted.cluster.wake(reference_of(key), 0.0)
    if probe.wanted.attributes is None:
        return probe, KeyState(access)
    enforce = enforces_prerequisites(key)
    unmet = failed(
        check_prerequisites(prerequisite_facts_of(admitted.cluster.inventory, admitted.reading, key, path, probe)),
        enforce=enforce,
    )
    if not unmet:
        return probe, KeyState(access)
    return probe, KeyState(access, unmet[0].name.failed, "; ".join(f"{entry.name}: {entry.message}" for entry in unmet))


def own_version(admitted: AdmittedResource, seen: ResourceFacts[Any]) -> str | None:
    """The version of the wanted key that protects the resource now; None if another key does."""
    uri = key_in_force(seen.protection)
    return uri.version if uri is not None and uri.versionless == admitted.path.path.key_uri.versionless else None


def old_version(admitted: AdmittedResource, seen: ResourceFacts[Any], probe: KeyProbe) -> Access | None:
    """The state of the version that protects the resource now; None if that is a version of another key."""
    old = own_version(admitted, seen)
    return judge_key_probe(probe, {}).by_version.get(old) if old is not None else None


def choice_of(path: ResourcePath, attributes: KeyAttributes | None) -> KeyChoice:
    """The key that the resource must be on: the version that just passed the probe, or else the active one in the key's status."""
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
