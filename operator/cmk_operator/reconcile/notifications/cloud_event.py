"""One event as receivers see it; its content is fixed when the change is observed, so that each attempt is identical."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.model import GROUP, VERSION
from cmk_operator.sinks.receivers import Message, message_of

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.customer_tenant import CustomerTenant
    from cmk_operator.api.notifications import PendingNotification
    from cmk_operator.api.organization_key import OrganizationKey


def message_for(
    announcer: CustomerManagedKey | EncryptedResource | OrganizationKey, tenant: CustomerTenant, entry: PendingNotification
) -> Message:
    """The event as it is sent. Source: CloudEvents 1.0.2, context attributes."""
    namespace, name = announcer.metadata.namespace or "", announcer.metadata.name
    target = announcer.spec.target.text if isinstance(announcer, EncryptedResource) else None
    data = {
        "tenant": tenant.metadata.name,
        "tenantId": tenant.spec.tenant_id,
        "kind": type(announcer).__name__,
        "namespace": namespace,
        "name": name,
        "resource": target,
        "keyUri": entry.key_uri,
        "keyVersion": entry.key_version,
        "state": entry.state,
        "message": entry.message,
        "sequence": entry.sequence,
    }
    attributes = {
        "specversion": "1.0",
        "id": entry.id,
        "type": entry.type,
        "source": f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{announcer.plural}/{name}",
        "subject": target or entry.key_uri,
        "time": entry.time,
        "datacontenttype": "application/json",
    }
    return message_of(attributes, {key: value for key, value in data.items() if value is not None})
