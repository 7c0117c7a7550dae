"""How often each kind of object is reconciled without a change."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.old_claims import limit_of

if TYPE_CHECKING:
    from collections.abc import Mapping

LIST_MAX_AGE: Final = 0.85
"""Fraction of the interval: the greatest age of the list that the reconcile of a resource reads."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between regular passes, and until a missing reference needs a person."""

    key_check: float
    drift_check: float
    identity_check: float
    reference_grace: float = 0.0
    """Seconds for which a reference to an object that is not there needs no person: it may still be created."""

    def claim_limits(self) -> Mapping[str, float]:
        """Seconds after a reconcile until the claims of its status are old, by the kind's plural."""
        return {
            FederatedIdentity.plural: limit_of(self.identity_check),
            CustomerTenant.plural: limit_of(self.identity_check),
            CustomerManagedKey.plural: limit_of(self.key_check),
            EncryptedResource.plural: limit_of(self.drift_check, LIST_MAX_AGE),
            # One whose settings are in force has an interval of its own (`Observations`).
            OrganizationKey.plural: limit_of(self.identity_check),
        }


def jittered(interval: float) -> float:
    """`interval` plus or minus up to ten percent, so that objects spread out."""
    return interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, not cryptography
