"""The collaborators of a pass over a `Preflight`, which writes only to the preflight itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.azure.session import AzureSession
    from cmk_operator.providers.registry import Providers
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.key.reading import KeyReading
    from cmk_operator.reconcile.organization.gates import Gates


@dataclass(frozen=True, slots=True)
class PreflightContext:
    """What the pass reads from."""

    cluster: Cluster
    session: AzureSession
    reading: KeyReading
    gates: Gates
    providers: Providers
    now: Callable[[], datetime]
