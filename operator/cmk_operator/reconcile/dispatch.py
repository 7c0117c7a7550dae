"""From a reference to the pass over its kind."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.preflight import Preflight
from cmk_operator.core.schedule import FAILED, Next
from cmk_operator.kubernetes.client import KubernetesError
from cmk_operator.kubernetes.inventory import MODELS
from cmk_operator.reconcile.audit import note_configuration, record_departed
from cmk_operator.reconcile.identity.reconciler import reconcile_identity
from cmk_operator.reconcile.key.reconciler import reconcile_key
from cmk_operator.reconcile.notifications.delivery import LANE as DELIVERIES
from cmk_operator.reconcile.notifications.delivery import reconcile_delivery
from cmk_operator.reconcile.preflight.reconciler import reconcile_preflight
from cmk_operator.reconcile.resource.reconciler import reconcile_resource
from cmk_operator.reconcile.tenant.reconciler import reconcile_tenant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.context import Context

_LOG: Final = logging.getLogger(__name__)
PASSES: Final[Mapping[str, Callable[[Context, ObjectReference], Awaitable[Next]]]] = MappingProxyType(
    {
        FederatedIdentity.plural: reconcile_identity,
        CustomerTenant.plural: reconcile_tenant,
        CustomerManagedKey.plural: reconcile_key,
        EncryptedResource.plural: reconcile_resource,
        DELIVERIES: reconcile_delivery,
        Preflight.plural: reconcile_preflight,
    }
)


async def reconcile(context: Context, reference: ObjectReference) -> Next:
    """One pass over one object. A refusal by the Kubernetes API is expected now and then, and the pass is repeated."""
    try:
        if reference.plural in MODELS:
            await record_departed(context, reference)
            note_configuration(context, reference)
        return await PASSES[reference.plural](context, reference)
    except KubernetesError as error:
        _LOG.warning(
            "the Kubernetes API did not take a request; the pass will be repeated",
            extra={"object": str(reference), "kind": reference.plural, "error": str(error)},
        )
        return Next(backoff=FAILED)
