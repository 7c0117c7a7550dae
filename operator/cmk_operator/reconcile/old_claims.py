"""Withdraws claims of status that were not observed for too long, whatever the cause.

This is a task of its own, so that it works also if a reconcile raises, hangs or never starts. The next successful reconcile
restores the claim.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from cmk_operator.api.customer_managed_key import CustomerManagedKey, CustomerManagedKeyStatus
from cmk_operator.core.old_claims import withdrawal_message
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference
from cmk_operator.kubernetes.inventory import MODELS
from cmk_operator.reconcile.audit import key_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.kubernetes.inventory import CustomResource
    from cmk_operator.reconcile.collaborators.cluster import Cluster
    from cmk_operator.reconcile.collaborators.reporting import Reporting

_LONGEST_PAUSE: Final = 5.0
_PAUSES_PER_LIMIT: Final = 30.0
_AT_ONCE: Final = 8
"""Most statuses that are written at the same time."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class OldClaims:
    """Finds and withdraws old claims; `limits` are the seconds after which a claim is old, by a kind's plural."""

    cluster: Cluster
    reporting: Reporting
    limits: Mapping[str, float]
    _clean: dict[ObjectReference, tuple[int, bool, bool]] = field(default_factory=dict)
    """Objects without a recent observation that make no old claim: each with its version, and whether it or its key was the old one."""
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def run(self) -> None:
        """Withdraw old claims again and again, while this process is the leader."""
        pause = min(_LONGEST_PAUSE, min(self.limits.values()) / _PAUSES_PER_LIMIT)
        self.reporting.writer.observations.lead()
        while True:
            await asyncio.sleep(pause)
            await self.withdraw()

    async def withdraw(self) -> None:
        """Withdraw every claim that is old now: of a key, and at the same time of the resources that use it."""
        observations, inventory = self.reporting.writer.observations, self.cluster.inventory
        there = set(self.cluster.served())
        old = {reference for reference in there if observations.is_old(reference)}
        observations.keep(there)
        for key in [reference for reference in old if reference.plural == CustomerManagedKey.plural]:
            old |= inventory.referring_to(key) & there
        self._clean = {reference: seen for reference, seen in self._clean.items() if reference in old}
        for model in MODELS.values():
            suspects = [reference for reference in old if reference.plural == model.plural and self._is_suspect(reference)]
            await asyncio.gather(*(self._one(reference, model) for reference in suspects))
        if inventory.is_listed_as_allowed:
            observations.note_round(there)

    def _is_suspect(self, reference: ObjectReference) -> bool:
        return self._clean.get(reference) != self._state(reference)

    def _state(self, reference: ObjectReference) -> tuple[int, bool, bool]:
        basis = self.reporting.writer.observations.basis(reference)
        key_is_old = basis.key is not None and basis.key.is_old
        return self.cluster.inventory.version(reference), basis.own.is_old, key_is_old

    async def _one(self, reference: ObjectReference, model: type[CustomResource]) -> None:
        async with self._slots:
            try:
                await self._withdraw(reference, model)
            except KubernetesError as error:
                _LOG.warning("old claims not withdrawn yet", extra={"object": str(reference), "error": str(error)})
            except Exception:  # noqa: BLE001 - the last frame of the task, as `queue._attempt` is for passes
                # A bug with one object must not keep the old claims of all others in status.
                _LOG.exception("old claims not withdrawn", extra={"object": str(reference)})

    async def _withdraw(self, reference: ObjectReference, model: type[CustomResource]) -> None:
        writer, state = self.reporting.writer, self._state(reference)
        found = writer.old_claims(reference)
        if found is None:
            self._clean[reference] = state
            return
        body, status = found
        resource = _parsed(model, body)
        if isinstance(resource, CustomerManagedKey):
            self._note(resource, status)
        await writer.withdraw(reference, model.__name__, body, status)
        message = withdrawal_message(status)
        _LOG.warning("an object was not observed for too long", extra={"object": str(reference), "detail": message})
        if resource is not None:
            await self.reporting.events.record_withdrawal(resource, message)

    def _note(self, key: CustomerManagedKey, status: Mapping[str, Any]) -> None:
        """Record in the audit record that the state of the key is unknown now."""
        after = CustomerManagedKeyStatus.model_validate(status)
        for change in key_changes(key, after, None, self.reporting.now()):
            self.reporting.journal.note(change)


def _parsed(model: type[CustomResource], body: Mapping[str, Any]) -> CustomResource | None:
    """The parsed object; None if it does not fit the model, which also makes its reconciles fail."""
    try:
        return model.model_validate(body)
    except ValidationError:
        return None
