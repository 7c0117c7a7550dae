"""Which provider serves which resource type: the one list to add a kind to."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.providers.disk.provider import make_disk_providers
from cmk_operator.providers.snowflake.provider import SnowflakeProvider
from cmk_operator.providers.sql.provider import make_sql_providers
from cmk_operator.providers.storage.provider import StorageAccountProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.snowflake_account import SnowflakeAccount
    from cmk_operator.providers.protocol import Provider

Providers = MappingProxyType[str, "Provider[Any, Any]"]

# Types that will never do, with the reason. Source: Azure Event Hubs and Databricks, "Configure customer-managed keys".
_SAME_TENANT_ONLY: Final[Mapping[str, str]] = MappingProxyType(
    {"microsoft.eventhub/namespaces": "Event Hubs", "microsoft.databricks/workspaces": "Databricks"}
)


def make_providers(session: AzureSession, list_max_age: float) -> Providers:
    """All providers, by resource type in lower case; lists of resources are trusted for `list_max_age` seconds."""
    kinds: tuple[Provider[Any, Any], ...] = (
        StorageAccountProvider(session, list_max_age),
        *make_disk_providers(session, list_max_age),
        *make_sql_providers(session, list_max_age),
        SnowflakeProvider(session, list_max_age),
    )
    return MappingProxyType({kind.resource_type: kind for kind in kinds})


def unsupported(target: ArmId | SnowflakeAccount, providers: Providers) -> Fault:
    """Say why a type cannot be put on a customer's key here."""
    service = _SAME_TENANT_ONLY.get(target.resource_type)
    if service is not None:
        message = (
            f"{service} needs its key vault in its own tenant, so {target} cannot be encrypted with a customer's key from "
            "another tenant: the platform engineer must remove this manifest"
        )
        return Fault(FaultKind.INVALID, "CrossTenantKeyNotSupported", message, Actor.PLATFORM_ENGINEER)
    kinds = ", ".join(sorted(provider.resource_type for provider in providers.values()))
    message = (
        f"resources of type {target.shown_type} are not supported (supported: {kinds}): the platform engineer must remove this "
        "manifest or correct spec.resourceId"
    )
    return Fault(FaultKind.INVALID, "UnsupportedResourceType", message, Actor.PLATFORM_ENGINEER)
