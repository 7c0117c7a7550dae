"""The collaborators of a pass over a `FederatedIdentity`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.intervals import Intervals
    from cmk_operator.reconcile.collaborators.reporting import Reporting


@dataclass(frozen=True, slots=True)
class IdentityContext:
    """What the pass reads from and writes to."""

    cluster: Cluster
    reporting: Reporting
    session: AzureSession
    intervals: Intervals
