"""Labels of requests to Azure for metrics. Their number is bounded, whatever names, ids and queries the URLs contain."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.telemetry import KEY_VAULT

if TYPE_CHECKING:
    from collections.abc import Mapping

_VAULT_ENDINGS: Final[Mapping[str, str]] = MappingProxyType(
    {"wrapkey": "wrapKey", "unwrapkey": "unwrapKey", "versions": "listKeyVersions"}
)
_VAULT_COLLECTIONS: Final[Mapping[str, str]] = MappingProxyType({"keys": "getKey", "deletedkeys": "getDeletedKey"})


def service_of(host: str) -> str:
    """The label of the service to which a host belongs."""
    if ".vault." in host:
        return KEY_VAULT
    if host.startswith("management."):
        return "resource_manager"
    if host.startswith("login."):
        return "entra"
    if host.endswith(".snowflakecomputing.com"):
        return "snowflake"
    return "graph" if "graph" in host else "other"


def shown_host(host: str) -> str:
    """The label of a host: its name for vaults, Resource Manager and Entra; for others only the last two parts of the name."""
    return host if service_of(host) in {KEY_VAULT, "resource_manager", "entra"} else ".".join(host.split(".")[-2:])


def operation_of(service: str, method: str, path: str) -> str:
    """The label of what a request does, without any name or id from its path."""
    segments = path.lower().strip("/").split("/")
    if service == KEY_VAULT:
        return _VAULT_ENDINGS.get(segments[-1]) or _VAULT_COLLECTIONS.get(segments[0], method)
    if service == "resource_manager":
        if "providers" not in segments:
            return f"{method} {'/'.join(segments[::2])}"
        provider = len(segments) - segments[::-1].index("providers")
        return (
            f"{method} {'/'.join([segments[provider], *segments[provider + 1 :: 2]])}" if provider < len(segments) else method
        )
    if service == "entra":
        return "token" if segments[-1] == "token" else method
    if service == "graph":
        return f"{method} {segments[1].partition('(')[0]}" if len(segments) > 1 else method
    return method
