"""Delivers the pending events in objects' statuses; in a lane of its own, so that a slow receiver delays nothing else.

Only the pass over an object writes its status. This module remembers which events were delivered, and the next pass removes them
from status. After a crash an event may be sent again, with the same id.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import Aspect, find
from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.secret_key import SecretKey
from cmk_operator.core.schedule import BLOCKED, BUSY, Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.kubernetes.secrets import read_secret
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.collaborators.intervals import jittered
from cmk_operator.reconcile.notifications.announcements import Audience
from cmk_operator.reconcile.notifications.cloud_event import message_for
from cmk_operator.sinks.signing import Signer, UnusableSecretError

if TYPE_CHECKING:
    from cmk_operator.api.notifications import NotificationSink, NotificationsReport, PendingNotification
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.sinks.receivers import Receivers
    from cmk_operator.telemetry import Telemetry

    Announcer = CustomerManagedKey | EncryptedResource | OrganizationKey
    OfTenant = CustomerManagedKey | OrganizationKey
    """What names a tenant."""

LANE: Final = "deliveries"
WORKERS: Final = 16
"""Deliveries at once; each waits for one answer."""
_AT_ONCE: Final = 4
"""Deliveries at once to a receiver that answers quickly. Any other receiver gets one, so that slow ones do not use all workers."""
_QUICK: Final = 1.0
"""Seconds in which a quick receiver answers."""
_SECRET_KEPT_FOR: Final = 10.0
"""Seconds; without this, thousands of events at once would read one Secret thousands of times."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class SinkState:
    """What this process knows about one tenant's receiver."""

    spec: NotificationSink
    fault: Fault | None = None
    proven: bool = False
    failures: int = 0
    closed_until: float = 0.0
    signer: Signer | None = None
    signer_read_at: float = float("-inf")
    quick: bool = False
    """Whether its last answer came within `_QUICK` seconds."""

    def wait(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self.closed_until - time.monotonic())

    def failed(self, fault: Fault) -> bool:
        """Pause deliveries after a failure; return whether the receiver's state changed."""
        self.failures += 1
        backoff = BLOCKED if fault.needs_a_person else BUSY
        self.closed_until = time.monotonic() + (fault.retry_after or backoff.bound(self.failures))
        changed = self.fault is None or self.fault.message != fault.message
        self.fault, self.proven = fault, False
        return changed

    def succeeded(self) -> bool:
        """Note a delivery; return whether the receiver's state changed."""
        changed = not self.proven
        self.fault, self.proven, self.failures = None, True, 0
        return changed


@dataclass(slots=True)
class Deliveries:
    """The last event delivered for each object, and the state of each tenant's receiver; not kept over a restart."""

    receivers: Receivers
    namespace: str
    """The operator's namespace, which holds Secrets unless a manifest names another."""
    delivered: dict[ObjectReference, tuple[str, int]] = field(default_factory=dict)
    states: dict[str, SinkState] = field(default_factory=dict)

    def receiver_of(self, inventory: Inventory, reference: ObjectReference) -> str:
        """The receiver of a delivery, by the tenant that names it; the empty string if there is none any more."""
        announcer = _announcer(inventory, _origin_of(reference))
        tenant = _tenant_of(inventory, key_of(inventory, announcer)) if announcer is not None else None
        return tenant.metadata.name if tenant is not None else ""

    def at_once(self, receiver: str) -> int:
        """How many deliveries may run at once to the receiver of a tenant."""
        state = self.states.get(receiver)
        return _AT_ONCE if state is not None and state.quick else 1

    def audience(self, inventory: Inventory, announcer: Announcer, key: OfTenant | None) -> Audience:
        """Whether a receiver listens to an object; unknown while its key or tenant does not exist."""
        tenant = _tenant_of(inventory, key)
        if tenant is None:
            return Audience(None)
        uid, sequence = self.delivered.get(reference_of(announcer), ("", 0))
        return Audience(tenant.spec.notifications is not None, sequence if uid == announcer.metadata.uid else 0)

    def state(self, tenant: CustomerTenant) -> SinkState | None:
        """The state of a tenant's receiver, reset if the manifest names another receiver; None if it names none."""
        spec, name = tenant.spec.notifications, tenant.metadata.name
        if spec is None:
            self.states.pop(name, None)
            return None
        held = self.states.get(name)
        if held is None or held.spec != spec:
            held = self.states[name] = SinkState(spec)
        return held


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """What a delivery reads from and writes to."""

    cluster: Cluster
    deliveries: Deliveries
    telemetry: Telemetry


def delivery_of(reference: ObjectReference) -> ObjectReference:
    """The queue item that delivers an object's events."""
    return ObjectReference(LANE, reference.namespace, f"{reference.plural}/{reference.name}")


def _origin_of(reference: ObjectReference) -> ObjectReference:
    """The object of a queue item from `delivery_of`."""
    plural, _, name = reference.name.partition("/")
    return ObjectReference(plural, reference.namespace, name)


def wake_delivery(cluster: Cluster, announcer: Announcer, report: NotificationsReport | None) -> None:
    """Enqueue a delivery if the status that was just written has pending events."""
    if report is not None and report.pending:
        cluster.wake(delivery_of(reference_of(announcer)), 0.0)


def _tenant_of(inventory: Inventory, key: OfTenant | None) -> CustomerTenant | None:
    named = key.spec.tenant_ref if key is not None else None
    return inventory.get(CustomerTenant, named.name) if named is not None else None


def key_of(inventory: Inventory, announcer: Announcer) -> OfTenant | None:
    """The key that an object is, or that it names."""
    if isinstance(announcer, CustomerManagedKey | OrganizationKey):
        return announcer
    return inventory.get(CustomerManagedKey, announcer.spec.key_ref.name, announcer.metadata.namespace or "")


async def reconcile_delivery(context: DeliveryContext, reference: ObjectReference) -> Next:
    """Deliver one object's events in order; after a failure, all later ones wait."""
    origin = _origin_of(reference)
    announcer = _announcer(context.cluster.inventory, origin)
    deliveries = context.deliveries
    if announcer is None:
        deliveries.delivered.pop(origin, None)
        return Next()
    tenant = _tenant_of(context.cluster.inventory, key_of(context.cluster.inventory, announcer))
    state = deliveries.state(tenant) if tenant is not None else None
    waiting = _waiting(deliveries, announcer)
    if tenant is None or state is None or not waiting:
        return Next()
    if announcer.metadata.namespace not in tenant.spec.allowed_namespaces:
        return Next()  # Send nothing for a namespace that may no longer use this customer.
    closed = state.wait()
    if closed > 0:
        return Next(after=jittered(closed) + 0.05)
    fault = await _sign(context, state)
    for entry in waiting if fault is None else ():
        began = time.monotonic()
        fault = await deliveries.receivers.send(state.spec.sink, message_for(announcer, tenant, entry), state.signer)
        state.quick = fault is None and time.monotonic() - began < _QUICK
        context.telemetry.notifications.labels("failed" if fault is not None else "delivered").inc()
        if fault is not None:
            break
        deliveries.delivered[origin] = (announcer.metadata.uid, entry.sequence)
        context.cluster.wake(origin, 0.0)
        _LOG.info("notification delivered", extra={"object": str(origin), "type": entry.type, "id": entry.id})
        if state.succeeded():
            _wake_tenant(context.cluster, tenant)
    if fault is None:
        return Next()
    if state.failed(fault):
        _LOG.warning(
            "a notification was not delivered; delivery will be retried",
            extra={"tenant": tenant.metadata.name, "reason": fault.reason, "why": fault.message},
        )
        _wake_tenant(context.cluster, tenant)
    return Next(after=jittered(state.wait()) + 0.05)


def notifications_delivered(tenant: CustomerTenant, state: SinkState | None) -> Aspect:
    """The condition of a tenant's receiver; after a restart the last known condition stays until an event is sent."""
    kind = ConditionType.NOTIFICATIONS_DELIVERED
    if state is None:
        return Aspect(
            kind, "True", Reason.NOT_CONFIGURED, "spec.notifications names no receiver, so there is nothing to deliver"
        )
    if state.fault is not None:
        return Aspect(kind, "False", state.fault.reason, state.fault.message)
    if state.proven:
        return Aspect(kind, "True", Reason.DELIVERED, "the receiver accepts the events")
    before = find(tenant.status.conditions, kind)
    if (
        before is not None
        and before.reason != Reason.NOT_CONFIGURED
        and before.observed_generation == tenant.metadata.generation
    ):
        return Aspect(kind, before.status, before.known_reason, before.message)
    return Aspect(kind, "Unknown", Reason.NOTHING_SENT_YET, "no event has been sent to the receiver yet")


def _announcer(inventory: Inventory, origin: ObjectReference) -> Announcer | None:
    if origin.plural == CustomerManagedKey.plural:
        return inventory.get(CustomerManagedKey, origin.name, origin.namespace)
    if origin.plural == OrganizationKey.plural:
        return inventory.get(OrganizationKey, origin.name, origin.namespace)
    return inventory.get(EncryptedResource, origin.name, origin.namespace)


def _waiting(deliveries: Deliveries, announcer: Announcer) -> list[PendingNotification]:
    report = announcer.status.notifications
    uid, sequence = deliveries.delivered.get(reference_of(announcer), ("", 0))
    done = sequence if uid == announcer.metadata.uid else 0
    return [entry for entry in report.pending if entry.sequence > done] if report is not None else []


async def _sign(context: DeliveryContext, state: SinkState) -> Fault | None:
    """Load the signing secret, if the manifest names one."""
    given = state.spec.secret_ref
    if given is None or time.monotonic() - state.signer_read_at < _SECRET_KEPT_FOR:
        return None
    wanted = SecretKey(given.namespace or context.deliveries.namespace, given.name, given.key)
    secret = await read_secret(context.cluster.client, wanted, Actor.PROVIDER_ADMINISTRATOR)
    if isinstance(secret, Fault):
        return secret
    try:
        state.signer = Signer(secret)
    except UnusableSecretError as error:
        message = f"Secret {wanted.namespace}/{wanted.name} holds no usable signing secret: {error}: the provider's administrator must correct it"
        return blocked(Reason.SECRET_NOT_USABLE, message, Actor.PROVIDER_ADMINISTRATOR)
    state.signer_read_at = time.monotonic()
    return None


def _wake_tenant(cluster: Cluster, tenant: CustomerTenant) -> None:
    cluster.wake(ObjectReference(CustomerTenant.plural, "", tenant.metadata.name), 0.0)
