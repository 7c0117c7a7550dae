"""What every pass needs: built once, in the composition root."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cmk_operator.audit.journal import Journal
    from cmk_operator.azure.prober import KeyProber
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.azure.vault_reader import VaultReader
    from cmk_operator.kubernetes.client import KubernetesClient, ObjectReference
    from cmk_operator.kubernetes.events import EventRecorder
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.kubernetes.status import StatusWriter
    from cmk_operator.providers.registry import Providers
    from cmk_operator.reconcile.notifications.delivery import Deliveries
    from cmk_operator.reconcile.resource.authorship import Authorship
    from cmk_operator.telemetry import Telemetry


WAKE_KEY_AFTER: Final = 2.0
"""Seconds in which many resources that moved wake their key only once."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between unprompted passes."""

    key_check: float
    drift_check: float
    identity_check: float


@dataclass(frozen=True, slots=True)
class Context:
    """The collaborators of a pass; `wake` puts another object into the queue, in so many seconds."""

    inventory: Inventory
    client: KubernetesClient
    writer: StatusWriter
    events: EventRecorder
    journal: Journal
    session: AzureSession
    prober: KeyProber
    vaults: VaultReader
    providers: Providers
    intervals: Intervals
    clock: Callable[[], datetime]
    wake: Callable[[ObjectReference, float], None]
    telemetry: Telemetry
    deliveries: Deliveries
    authorship: Authorship

    def now(self) -> datetime:
        """The present, to the second: what Kubernetes' times hold."""
        return self.clock().replace(microsecond=0)


def jittered(interval: float) -> float:
    """`interval` give or take a tenth, so that many objects spread out."""
    return interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, not cryptography
