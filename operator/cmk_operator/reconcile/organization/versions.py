"""Which key versions of an organization are still needed, by the key service's count and the retention of backups; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_operator.api.durations import parse_retention
from cmk_operator.api.organization_key import KeyVersionReport
from cmk_operator.core.organization.safe_to_disable import DataKeyUse, safe_to_disable
from cmk_operator.reconcile.organization.settings import PLATFORM_KEY

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.organization_key import DataKeysReport, OrganizationKeyStatus


def version_reports(
    status: OrganizationKeyStatus, known: DataKeysReport | None, backup_retention: str | None, now: datetime
) -> tuple[KeyVersionReport, ...]:
    """Every version that is or was in force, and any other that data keys are on; `known` None: the count is not known now."""
    accepted = status.accepted
    if accepted is None:
        return ()
    counted = {entry.kid: entry.data_keys for entry in known.by_kid} if known is not None else {}
    kids = dict.fromkeys((accepted.kid, *(entry.kid for entry in status.earlier), *sorted(counted)))
    before = {entry.kid: entry for entry in status.versions}
    retention = parse_retention(backup_retention) if backup_retention is not None else None
    reports: list[KeyVersionReport] = []
    for kid in kids:
        data_keys = counted.get(kid, 0) if known is not None else None
        in_force = kid == accepted.kid
        superseded_at = None if in_force else max((one.until for one in status.earlier if one.kid == kid), default=None)
        was_unused = before[kid].unused_since if kid in before else None
        unused_since = was_unused if data_keys is None else (was_unused or now) if data_keys == 0 and not in_force else None
        needed = safe_to_disable(DataKeyUse(in_force, data_keys, unused_since), retention, now)
        reports.append(
            KeyVersionReport(
                kid=kid,
                data_keys=data_keys,
                superseded_at=superseded_at,
                unused_since=unused_since,
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
