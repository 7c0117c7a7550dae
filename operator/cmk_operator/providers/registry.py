"""The list of the folders that hold the kinds; a new kind is one line here.

A folder's `kind` module describes its kinds and imports no SDK, so that the command line can read it. Its `provider` and
`key_users` modules are imported when the providers and the lists are made.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.authority import admit_resource_id
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.authority import TenantGrant
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.core.kinds.kind import Kind
    from cmk_operator.core.kinds.service_timing import ServiceTiming
    from cmk_operator.providers.protocol import Provider
    from cmk_operator.providers.user_lists import UserList

FOLDERS: Final = (
    "storage",
    "sql",
    "disk",
    "snowflake",
)
"""In the order in which kinds are shown to people."""
Providers = MappingProxyType[str, "Provider[Any, Any]"]

# Services that cannot use a key from another tenant. Source: Azure Event Hubs and Databricks, "Configure customer-managed keys".
_SAME_TENANT_ONLY: Final[Mapping[str, str]] = MappingProxyType(
    {"microsoft.eventhub/namespaces": "Event Hubs", "microsoft.databricks/workspaces": "Databricks"}
)


def _described() -> Iterator[Kind]:
    for folder in FOLDERS:
        yield from import_module(f"{__package__}.{folder}.kind").KINDS


KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.resource_type: kind for kind in _described()})
"""Every kind, by resource type."""
_FASTEST: Final = min((kind.timing for kind in KINDS.values()), key=lambda timing: timing.cut_off_after)


OWN_IDENTIFIERS: Final = tuple(
    (kind.manifest_field, kind.identifier)
    for kind in KINDS.values()
    if kind.identifier is not None and kind.manifest_field is not None
)
"""Identifiers of resources outside Resource Manager, each with its field of a manifest's spec."""
RATES: Final = tuple(dict.fromkeys(kind.rates for kind in KINDS.values() if kind.rates is not None))
"""The call rates of resource providers that have limits of their own."""


def timing_of(resource_type: str) -> ServiceTiming:
    """The timing of a resource type in lower case. For an unknown type: that of the service that stops soonest."""
    kind = KINDS.get(resource_type)
    return kind.timing if kind is not None else _FASTEST


def named_in(spec: Mapping[str, Any]) -> ResourceId:
    """The target that a manifest's spec, as JSON, names; not validated."""
    for field, identifier in OWN_IDENTIFIERS:
        if spec.get(field) is not None:
            return identifier.read(spec[field][identifier.entry])
    return ArmId(spec.get("resourceId") or "")


def admit(grant: TenantGrant, target: ResourceId) -> ResourceId | Fault:
    """The target to use, or a fault if the tenant does not allow it. Requests must use the returned id."""
    kind = KINDS.get(target.resource_type)
    if kind is None or kind.identifier is None:
        return admit_resource_id(grant, target.text)
    return kind.identifier.judge(grant, target) or target


def make_providers(session: AzureSession, list_max_age: float) -> Providers:
    """All providers, by resource type in lower case. Lists of resources are used for at most `list_max_age` seconds."""
    made: dict[str, Provider[Any, Any]] = {}
    for folder in FOLDERS:
        providers: tuple[Provider[Any, Any], ...] = import_module(f"{__package__}.{folder}.provider").make_providers(
            session, list_max_age
        )
        made |= {provider.kind.resource_type: provider for provider in providers}
    return MappingProxyType(made)


def make_user_lists(session: AzureSession) -> tuple[UserList, ...]:
    """The lists of what uses keys in a subscription, of every kind that Azure lists; they load no SDK."""
    return tuple(
        one for folder in FOLDERS for one in import_module(f"{__package__}.{folder}.key_users").make_user_lists(session)
    )


def unsupported(target: ResourceId, providers: Providers) -> Fault:
    """The fault of a resource type that has no provider."""
    service = _SAME_TENANT_ONLY.get(target.resource_type)
    if service is not None:
        message = (
            f"{service} needs its key vault in its own tenant, so {target} cannot be encrypted with a customer's key from "
            "another tenant: the platform engineer must delete this manifest"
        )
        return Fault(Reason.CROSS_TENANT_KEY_NOT_SUPPORTED, message, Actor.PLATFORM_ENGINEER)
    kinds = ", ".join(sorted(providers))
    message = (
        f"resources of type {target.shown_type} are not supported (supported: {kinds}): the platform engineer must delete this "
        "manifest or correct spec.resourceId"
    )
    return Fault(Reason.UNSUPPORTED_RESOURCE_TYPE, message, Actor.PLATFORM_ENGINEER)
