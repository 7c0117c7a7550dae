"""Dispatches a reference to the pass over its kind."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight
from cmk_operator.core.schedule import FAILED, Next
from cmk_operator.kubernetes.client import KubernetesError
from cmk_operator.kubernetes.inventory import MODELS, WATCHED
from cmk_operator.kubernetes.licences import Licences
from cmk_operator.providers.registry import make_user_lists
from cmk_operator.reconcile.audit import note_configuration, record_departed
from cmk_operator.reconcile.identity.context import IdentityContext
from cmk_operator.reconcile.identity.reconciler import reconcile_identity
from cmk_operator.reconcile.key.azure_lists import LANE as LISTS
from cmk_operator.reconcile.key.azure_lists import AzureLists, read_lists
from cmk_operator.reconcile.key.context import KeyContext
from cmk_operator.reconcile.key.reconciler import reconcile_key
from cmk_operator.reconcile.key.user_counts import UserCounts
from cmk_operator.reconcile.notifications.delivery import LANE as DELIVERIES
from cmk_operator.reconcile.notifications.delivery import DeliveryContext, reconcile_delivery
from cmk_operator.reconcile.organization.context import OrganizationContext
from cmk_operator.reconcile.organization.gates import Gates
from cmk_operator.reconcile.organization.reconciler import reconcile_organization
from cmk_operator.reconcile.preflight.context import PreflightContext
from cmk_operator.reconcile.preflight.reconciler import reconcile_preflight
from cmk_operator.reconcile.preflight.waiting import LANE as WAITING_PREFLIGHTS
from cmk_operator.reconcile.preflight.waiting import tell_waiting
from cmk_operator.reconcile.resource.authorship import Authorship
from cmk_operator.reconcile.resource.contentions import Contentions
from cmk_operator.reconcile.resource.context import ResourceContext
from cmk_operator.reconcile.resource.part_readings import PartReadings
from cmk_operator.reconcile.resource.reconciler import reconcile_resource
from cmk_operator.reconcile.support.requests import ALL, Support, read_requests
from cmk_operator.reconcile.support.requests import LANE as SUPPORT
from cmk_operator.reconcile.tenant.context import TenantContext
from cmk_operator.reconcile.tenant.reconciler import reconcile_tenant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cmk_operator.azure.session import AzureSession
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.providers.registry import Providers
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.intervals import Intervals
    from cmk_operator.reconcile.collaborators.reporting import Reporting
    from cmk_operator.reconcile.key.reading import KeyReading
    from cmk_operator.reconcile.notifications.delivery import Deliveries
    from cmk_operator.telemetry import Telemetry

UNTIL_LISTED: Final = 5.0
"""Seconds until an object is looked at again that rests on a kind which has not been listed yet."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Passes:
    """The pass over each kind, with its collaborators."""

    cluster: Cluster
    reporting: Reporting
    telemetry: Telemetry
    by_plural: Mapping[str, Callable[[ObjectReference], Awaitable[Next]]]

    async def reconcile(self, reference: ObjectReference) -> Next:
        """Run one pass over one object; if the Kubernetes API refuses a request, the pass is retried."""
        try:
            if reference.plural in WATCHED and self.cluster.inventory.waits_for(reference):
                return Next(after=UNTIL_LISTED)
            if reference.plural in MODELS:
                await record_departed(self.cluster, self.reporting, reference)
                if not self.cluster.serves(reference):
                    return Next()
                if note_configuration(self.cluster, self.reporting, reference):
                    self.telemetry.refused_manifests.labels(reference.plural).inc()
            return await self.by_plural[reference.plural](reference)
        except KubernetesError as error:
            _LOG.warning(
                "the Kubernetes API refused or did not answer a request; the pass will be retried",
                extra={"object": str(reference), "kind": reference.plural, "error": str(error)},
            )
            return Next(backoff=FAILED)


def make_passes(
    cluster: Cluster,
    reporting: Reporting,
    intervals: Intervals,
    *,
    session: AzureSession,
    reading: KeyReading,
    providers: Providers,
    deliveries: Deliveries,
    telemetry: Telemetry,
) -> Passes:
    """Build the pass over each kind."""
    authorship = Authorship(reporting.journal, reporting.clock)
    identity = IdentityContext(cluster, reporting, session, intervals)
    tenant = TenantContext(cluster, reporting, session, intervals, deliveries)
    user_counts = UserCounts(session.monotonic)
    lists = AzureLists(session, make_user_lists(session), intervals.drift_check, reporting.clock)
    key = KeyContext(cluster, reporting, session, reading, intervals, deliveries, telemetry, user_counts, lists)
    part_readings = PartReadings(intervals.drift_check)
    resource = ResourceContext(
        cluster,
        reporting,
        reading,
        providers,
        intervals,
        deliveries,
        authorship,
        user_counts,
        part_readings,
        Contentions(reporting.now),
    )
    gates = Gates(session)
    licences = Licences(cluster.client, session.monotonic, used=cluster.licences_used)
    support = Support(known=not cluster.support_used)
    if cluster.support_used:
        cluster.wake(ALL, 0.0)
    organization = OrganizationContext(cluster, reporting, gates, intervals, deliveries, session.monotonic, licences, support)
    delivery = DeliveryContext(cluster, deliveries, telemetry)
    preflight = PreflightContext(cluster, session, reading, gates, providers, reporting.now)
    by_plural = {
        FederatedIdentity.plural: partial(reconcile_identity, identity),
        CustomerTenant.plural: partial(reconcile_tenant, tenant),
        CustomerManagedKey.plural: partial(reconcile_key, key),
        EncryptedResource.plural: partial(reconcile_resource, resource),
        OrganizationKey.plural: partial(reconcile_organization, organization),
        DELIVERIES: partial(reconcile_delivery, delivery),
        LISTS: partial(read_lists, cluster, lists),
        Preflight.plural: partial(reconcile_preflight, preflight),
        SUPPORT: partial(read_requests, cluster, reporting, support),
        WAITING_PREFLIGHTS: partial(tell_waiting, preflight),
    }
    return Passes(cluster, reporting, telemetry, by_plural)
