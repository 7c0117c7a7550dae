"""The options of SQL servers in a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SqlServerOptions:
    """Whether a server may use a Microsoft-managed key for a moment while its identity or application changes."""

    switch_through_service_managed_key: bool = False


def read_options(part: Mapping[str, Any]) -> SqlServerOptions | None:
    """Read `spec.sqlServer`; None when it is absent."""
    return SqlServerOptions(bool(part.get("switchThroughServiceManagedKey"))) if part else None
