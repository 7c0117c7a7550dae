"""The collaborators of a pass over a `CustomerManagedKey`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.intervals import Intervals
    from cmk_operator.reconcile.collaborators.reporting import Reporting
    from cmk_operator.reconcile.key.azure_lists import AzureLists
    from cmk_operator.reconcile.key.reading import KeyReading
    from cmk_operator.reconcile.key.user_counts import UserCounts
    from cmk_operator.reconcile.notifications.delivery import Deliveries
    from cmk_operator.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class KeyContext:
    """What the pass reads from and writes to."""

    cluster: Cluster
    reporting: Reporting
    session: AzureSession
    reading: KeyReading
    intervals: Intervals
    deliveries: Deliveries
    telemetry: Telemetry
    user_counts: UserCounts
    lists: AzureLists
