"""What a manifest allows on the way of a SQL server to its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SqlServerOptions:
    """What a manifest allows on the way of a SQL server to another identity."""

    switch_through_service_managed_key: bool = False


def read_options(part: Mapping[str, Any]) -> SqlServerOptions | None:
    """Read `spec.sqlServer`; None when it is absent."""
    return SqlServerOptions(bool(part.get("switchThroughServiceManagedKey"))) if part else None
