"""Adds to a probe what Kubernetes objects remember of Azure's delays: since when a key is missed, and a credential is there; pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cmk_operator.api.conditions import find
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.verdict import SHOWS_WITHIN
from cmk_operator.core.conditions import ConditionType

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.core.access.state import KeyProbe
    from cmk_operator.reconcile.references import KeyPath


def with_known_times(key: CustomerManagedKey, path: KeyPath, probe: KeyProbe) -> KeyProbe:
    """The probe with the times from which Azure's delays count."""
    known = known_state_of(key)
    missing, credential = _missing_since(key, known, probe), _credential_since(key, known, path)
    return replace(probe, missing_since=missing, credential_since=credential)


def known_state_of(key: CustomerManagedKey) -> AccessState:
    """The state in status, if it is about this generation of the manifest."""
    if key.status.access is None or key.status.observed_generation != key.metadata.generation:
        return AccessState.UNKNOWN
    return AccessState.read(key.status.access.state)


def _missing_since(key: CustomerManagedKey, known: AccessState, probe: KeyProbe) -> datetime | None:
    """Since when the key has been missed, also by an earlier process."""
    if probe.missing_since is None or key.status.access is None:
        return probe.missing_since
    if known is AccessState.PURGED:
        return min(probe.missing_since, key.status.access.since - SHOWS_WITHIN)
    return min(probe.missing_since, key.status.access.since) if known.shows_soon else probe.missing_since


def _credential_since(key: CustomerManagedKey, known: AccessState, path: KeyPath) -> datetime | None:
    """Since when the application trusts the managed identity, as the identity's own check has seen it.

    None if the key has passed a probe since then: the credential was in force, so a refusal is no delay of it.
    """
    federated = find(path.identity.status.conditions, ConditionType.APPLICATION_FEDERATED)
    if federated is None or federated.status != "True" or path.chain.by_service_account:
        return None
    since, access = federated.last_transition_time, key.status.access
    if key.status.active_version is None or access is None or known is AccessState.CREDENTIAL_REPLICATING:
        return since
    return since if known is AccessState.IDENTITY_BROKEN and access.since <= since else None
