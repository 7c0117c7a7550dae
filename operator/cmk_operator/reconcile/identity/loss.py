"""Attributes a lost sign-in: checks whether the provider's tenant lost the application before blaming the customer's consent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.azure.identities import application_is_gone
from cmk_operator.core.access.token_verdict import may_be_a_missing_application
from cmk_operator.kubernetes.status import reference_of

if TYPE_CHECKING:
    from cmk_operator.api.federated_identity import FederatedIdentity
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.reconcile.collaborators.cluster import Cluster


async def provider_lost_application(
    cluster: Cluster,
    session: AzureSession,
    identity: FederatedIdentity,
    chain: IdentityChain,
    failure: AzureFailure | None,
    *,
    consent_was_there: bool,
) -> bool:
    """Whether a sign-in failed because the provider lost the application; asks Azure only if consent existed before."""
    if failure is None or not may_be_a_missing_application(failure) or identity.application_missing:
        return identity.application_missing
    if not consent_was_there:
        return False
    cluster.wake(reference_of(identity), 0.0)
    return await application_is_gone(session, chain)
