"""Which key versions of an organization are still needed, by the key service's count and the retention of backups; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.durations import parse_retention
from cmk_operator.api.organization_key import KeyVersionReport
from cmk_operator.core.organization.safe_to_disable import DataKeyUse, safe_to_disable, unused_since
from cmk_operator.reconcile.organization.settings import PLATFORM_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cmk_operator.api.organization_key import OrganizationKeyStatus


def version_reports(
    status: OrganizationKeyStatus, counted: Mapping[str, int] | None, backup_retention: str | None, now: datetime
) -> tuple[KeyVersionReport, ...]:
    """Every version that is or was in force, and any other that data keys are on; `counted` None: the count is not known now."""
    accepted = status.accepted
    if accepted is None:
        return ()
    kids = dict.fromkeys((accepted.kid, *(entry.kid for entry in status.earlier), *sorted(counted or ())))
    before = {entry.kid: entry for entry in status.versions}
    retention = parse_retention(backup_retention) if backup_retention is not None else None
    reports: list[KeyVersionReport] = []
    for kid in kids:
        data_keys = counted.get(kid, 0) if counted is not None else None
        in_force = kid == accepted.kid
        superseded_at = None if in_force else max((one.until for one in status.earlier if one.kid == kid), default=None)
        was_unused = before[kid].unused_since if kid in before else None
        since = None if in_force else unused_since(data_keys, was_unused, now)
        needed = safe_to_disable(DataKeyUse(in_force, data_keys, since), retention, now)
        reports.append(
            KeyVersionReport(
                kid=kid,
                data_keys=data_keys,
                superseded_at=superseded_at,
                unused_since=since,
                safe_to_disable=needed.safe,
                safe_to_disable_after=needed.after,
                required_until=needed.required_until,
                reason=needed.reason,
            )
        )
    return tuple(reports)


def platform_key_needed_until(versions: tuple[KeyVersionReport, ...]) -> datetime | None:
    """Until when backups may need the platform's key; None if it is in force, was never, or that is not known."""
    return next((entry.required_until for entry in versions if entry.kid == PLATFORM_KEY), None)
