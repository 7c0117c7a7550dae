"""The collaborators of a pass over an `EncryptedResource`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.providers.registry import Providers
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.intervals import Intervals
    from cmk_operator.reconcile.collaborators.reporting import Reporting
    from cmk_operator.reconcile.key.reading import KeyReading
    from cmk_operator.reconcile.key.user_counts import UserCounts
    from cmk_operator.reconcile.notifications.delivery import Deliveries
    from cmk_operator.reconcile.resource.authorship import Authorship
    from cmk_operator.reconcile.resource.contentions import Contentions
    from cmk_operator.reconcile.resource.part_readings import PartReadings


@dataclass(frozen=True, slots=True)
class ResourceContext:
    """What the pass reads from and writes to."""

    cluster: Cluster
    reporting: Reporting
    reading: KeyReading
    providers: Providers
    intervals: Intervals
    deliveries: Deliveries
    authorship: Authorship
    user_counts: UserCounts
    part_readings: PartReadings
    contentions: Contentions
