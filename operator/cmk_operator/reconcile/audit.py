"""Derives the changes that a pass must record from the status before and after it; pure except for the journal.

The id of a change covers the state before it and when that state began. A pass that is repeated after a crash therefore finds the
same id, and the same change at a later time gets another id.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.conditions import find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.model import CHANGED_BY, CONSOLE_FIELD_MANAGER
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.audit.change import OBSERVED, OPERATOR, UNKNOWN_AUTHOR, Change, Event, Subject, identity_of
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.text.redaction import host_of
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference, collection_path
from cmk_operator.kubernetes.inventory import MODELS
from cmk_operator.reconcile.references import (
    ADMISSION_REASONS,
    KeyPath,
    ResourcePath,
    refusal_of,
    resolve_key,
    resolve_organization,
    resolve_resource,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKeyStatus
    from cmk_operator.api.customer_tenant import CustomerTenantStatus
    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.core.encryption.long_running import Operation
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.kubernetes.inventory import CustomResource, Inventory
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.reporting import Reporting

_RETRY_READING_AFTER: Final = 0.5
_STATES_OF_THE_KEY: Final = frozenset(state for state in AccessState if state.is_known_loss) | {AccessState.ACCESSIBLE}
NOT_BY_US: Final = "the record has no such change by this operator: somebody else or the service made it, or the operator made it right before a crash"


def subject_of(resource: CustomResource) -> Subject:
    """The object as the record identifies it."""
    metadata = resource.metadata
    return Subject(type(resource).__name__, metadata.namespace or "", metadata.name, metadata.uid)


def tenant_in(inventory: Inventory, subject: Subject) -> str | None:
    """The CustomerTenant whose share of the record a change of an object takes; None if nobody admits the object now, or it is gone.

    What a manifest merely names does not count: else it could fill the share of another tenant.
    """
    models = {model.__name__: model for model in MODELS.values()}
    if subject.kind not in models:
        return None
    resource = inventory.get(models[subject.kind], subject.name, subject.namespace)  # type: ignore[type-var]
    if resource is None or resource.metadata.uid != subject.uid:
        return None
    match resource:
        case CustomerTenant():
            return resource.metadata.name
        case CustomerManagedKey():
            found = resolve_key(inventory, resource)
            return found.tenant.metadata.name if isinstance(found, KeyPath) else None
        case EncryptedResource():
            path = resolve_resource(inventory, resource)
            return path.path.tenant.metadata.name if isinstance(path, ResourcePath) else None
        case OrganizationKey():
            way = resolve_organization(inventory, resource)
            if isinstance(way, Fault):
                return None
            return way.tenant.metadata.name if way is not None else ""
        case _:
            return ""


def author_of(resource: CustomResource) -> str:
    """The last writer of the spec. The client names itself, and the API server does not verify the name.

    The console also names the person who was signed in. Who else may write the annotation could name anybody, as with the manager.
    """
    manager = resource.metadata.changed_by
    person = resource.metadata.annotations.get(CHANGED_BY)
    if manager == CONSOLE_FIELD_MANAGER and person:
        return f"field manager {manager}, for {person}"
    return f"field manager {manager}" if manager else UNKNOWN_AUTHOR


def note_configuration(cluster: Cluster, reporting: Reporting, reference: ObjectReference) -> bool:
    """Record a spec whose generation no status has observed yet; returns whether it is a new one that no tenant admits.

    What is not admitted is not recorded: nobody's data depends on it, and thousands of such manifests would push the entries of
    others out of the record. It is recorded once it is admitted.
    """
    resource = cluster.inventory.get(MODELS[reference.plural], reference.name, reference.namespace)  # type: ignore[type-var]
    if resource is None:
        return False
    ready = find(resource.status.conditions, ConditionType.READY)
    was_refused = ready is not None and ready.reason in ADMISSION_REASONS
    is_new = resource.metadata.generation != resource.status.observed_generation
    if not is_new and not was_refused:
        return False
    if refusal_of(cluster.inventory, resource) is not None:
        return is_new
    # The next status write waits for the record anyway, so this entry may share a write until then.
    reporting.journal.note(configuration_changed(resource, reporting.now()), at_once=False)
    return False


def configuration_changed(resource: CustomResource, now: datetime) -> Change:
    """The change that created or changed a spec."""
    generation, known = resource.metadata.generation, resource.status.observed_generation
    # A deletion request increments the generation too, and Kubernetes does not keep who made it.
    deleting = resource.metadata.deletion_timestamp is not None
    why = "the manifest was changed" if known >= 0 else "the manifest is new to the operator"
    if known == generation:
        why = "the manifest is admitted now"
    return Change(
        identity_of(resource.metadata.uid, "configuration", str(generation)),
        to_rfc3339(now),
        Event.CONFIGURATION_CHANGED,
        subject_of(resource),
        UNKNOWN_AUTHOR if deleting else author_of(resource),
        f"generation {known}" if 0 <= known < generation else "",
        f"generation {generation}",
        "the deletion of the manifest was requested, or the manifest was changed while its deletion is pending"
        if deleting
        else why,
        spec=_shown_spec(resource.spec.model_dump(mode="json", by_alias=True, exclude_none=True)),
    )


def _shown_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with the receiver's host alone: many receivers know a sender only by a secret in path or query."""
    receiver = spec.get("notifications")
    return spec if receiver is None else spec | {"notifications": receiver | {"sink": f"https://{host_of(receiver['sink'])}"}}


async def record_departed(cluster: Cluster, reporting: Reporting, reference: ObjectReference) -> None:
    """Record the deletion of objects of this name that are gone. Raises `KubernetesError` if the record cannot be written."""
    departed = cluster.inventory.departed(reference)
    for uid in departed:
        if not await reporting.journal.knows(uid):
            continue  # An operator of another class served it.
        subject = Subject(MODELS[reference.plural].__name__, reference.namespace, reference.name, uid)
        reporting.journal.note(deleted(subject, reporting.now()))
        await reporting.journal.settled(uid)
    if departed:
        cluster.inventory.forget_departed(reference, departed)


async def note_unseen_deletions(cluster: Cluster, reporting: Reporting, listed: Callable[[], bool]) -> None:
    """Record the deletion of objects that are in the record but not in the API server: no operator watched when it happened."""
    living = None
    while living is None or not listed():
        with suppress(KubernetesError):  # the journal reports this as soon as it has something to record
            living = await reporting.journal.living()
        await asyncio.sleep(_RETRY_READING_AFTER)
    plurals = {model.__name__: plural for plural, model in MODELS.items()}
    for subject in living:
        plural = plurals.get(subject.kind)
        if plural is None:
            continue
        reference = ObjectReference(plural, subject.namespace, subject.name)
        if cluster.inventory.uid_of(reference) != subject.uid and await _is_gone(cluster.client, reference, subject.uid):
            reporting.journal.note(deleted(subject, reporting.now()))


async def _is_gone(client: KubernetesClient, reference: ObjectReference, uid: str) -> bool:
    """Check again at the API server; one that does not serve the kind proves nothing about its objects."""
    try:
        body = await client.get(reference)
        if body is None:
            await client.request("GET", collection_path(reference.plural), query={"limit": "1"})
    except KubernetesError:
        return False
    return body is None or body["metadata"]["uid"] != uid


def deleted(subject: Subject, now: datetime) -> Change:
    """The deletion of a manifest. Kubernetes keeps who deleted an object only in its own audit log."""
    why = "the API server no longer has the object; the API server's audit log names who deleted it"
    identity = identity_of(subject.uid, "deleted", "")
    return Change(identity, to_rfc3339(now), Event.MANIFEST_DELETED, subject, UNKNOWN_AUTHOR, "present", "deleted", why)


def key_change_id(resource: EncryptedResource, after: str) -> str:
    """The id of a change of the key that protects a resource; `after` is a key URI or the name of the platform key."""
    rotations = resource.status.rotations
    return identity_of(resource.metadata.uid, "key", rotations[0].at.isoformat() if rotations else "", after)


def key_changed(
    resource: EncryptedResource, before: str, after: str, why: str, request_id: str | None, now: datetime
) -> Change:
    """A change of key that this operator made; an empty key URI means the platform key."""
    to = after or resource.platform_key
    return Change(
        key_change_id(resource, to),
        to_rfc3339(now),
        Event.KEY_CHANGED,
        subject_of(resource),
        OPERATOR,
        before or resource.platform_key,
        to,
        f"{why} (generation {resource.metadata.generation}, {author_of(resource)})",
        resource.spec.target.text,
        request_id,
    )


def key_change_started(resource: EncryptedResource, before: str, operation: Operation, now: datetime) -> Change:
    """A long-running operation that this operator started."""
    return Change(
        identity_of(resource.metadata.uid, "started", operation.token),
        to_rfc3339(now),
        Event.KEY_CHANGE_STARTED,
        subject_of(resource),
        OPERATOR,
        before or resource.platform_key,
        operation.purpose,
        f"the manifest says so (generation {resource.metadata.generation}, {author_of(resource)})",
        resource.spec.target.text,
        operation.request_id,
    )


def key_change_found(resource: EncryptedResource, after: str, now: datetime) -> Change:
    """A change of key that this operator found but did not make; for a new manifest, the key that it is first observed on."""
    applied = resource.status.applied
    first = applied is None and not resource.status.rotations
    before = applied.key_uri if applied is not None else resource.platform_key
    return Change(
        key_change_id(resource, after),
        to_rfc3339(now),
        Event.KEY_CHANGE_FOUND,
        subject_of(resource),
        f"{resource.service} or the customer",
        "not observed before" if first else before,
        after,
        NOT_BY_US,
        resource.spec.target.text,
    )


def key_changes(
    key: CustomerManagedKey, status: CustomerManagedKeyStatus, request_id: str | None, now: datetime
) -> tuple[Change, ...]:
    """The changes of access and active version between a key's status and its next one."""
    found: list[Change] = []
    before, after = key.status.access, status.access
    accessible = find(status.conditions, ConditionType.KEY_ACCESSIBLE)
    state_before = before.state if before is not None else AccessState.UNKNOWN
    if after is not None and accessible is not None and state_before != after.state:
        found.append(
            Change(
                identity_of(key.metadata.uid, "access", before.since.isoformat() if before is not None else "", after.state),
                to_rfc3339(now),
                Event.KEY_ACCESS_CHANGED,
                subject_of(key),
                OBSERVED if after.state in _STATES_OF_THE_KEY else UNKNOWN_AUTHOR,
                before.state if before is not None else "",
                after.state,
                f"{accessible.reason}: {accessible.message}",
                key.spec.key_uri,
                request_id,
            )
        )
    if status.rotations and status.rotations != key.status.rotations:
        newest, known = status.rotations[0], key.status.rotations
        by_manifest = newest.by == "manifest"
        found.append(
            Change(
                identity_of(key.metadata.uid, "version", known[0].at.isoformat() if known else "", newest.to),
                to_rfc3339(now),
                Event.KEY_VERSION_CHANGED,
                subject_of(key),
                author_of(key) if by_manifest else OBSERVED,
                newest.from_ or "",
                newest.to,
                "the manifest names this version" if by_manifest else "the latest version in Key Vault that passed the probe",
                key.spec.key_uri,
                request_id,
            )
        )
    return tuple(found)


def consent_changed(
    tenant: CustomerTenant, status: CustomerTenantStatus, request_id: str | None, now: datetime
) -> Change | None:
    """The change of consent between a tenant's status and its next one; None if it is unchanged."""
    before, after = tenant.status.consent, status.consent
    if after is None or (before is not None and before.state == after.state):
        return None
    since = before.since.isoformat() if before is not None and before.since is not None else ""
    granted = find(status.conditions, ConditionType.CONSENT_GRANTED)
    return Change(
        identity_of(tenant.metadata.uid, "consent", since, after.state),
        to_rfc3339(now),
        Event.CONSENT_CHANGED,
        subject_of(tenant),
        UNKNOWN_AUTHOR if after.state == "Unknown" else "the customer's administrator",
        before.state if before is not None else "",
        after.state,
        granted.message if granted is not None else "",
        f"tenant {tenant.spec.tenant_id}",
        request_id,
    )


def identity_registered(identity: FederatedIdentity, purpose: str, target: str, registrar: str, now: datetime) -> Change:
    """One write of a registration; a repeated step is another write, with another time."""
    return Change(
        identity_of(identity.metadata.uid, "registered", to_rfc3339(now), purpose),
        to_rfc3339(now),
        Event.IDENTITY_REGISTERED,
        subject_of(identity),
        OPERATOR,
        "",
        purpose,
        f"the manifest says so (generation {identity.metadata.generation}, {author_of(identity)}), as registrar {registrar}",
        target,
    )
