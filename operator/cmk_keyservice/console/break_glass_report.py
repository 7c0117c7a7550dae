"""What the console reports of break-glass accounts, in `status.breakGlass` of each OrganizationKey, under a field manager of its own.

The operator reads no Secret of the accounts: it judges this report (`BreakGlassReady`), records each use and makes an event of it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from cmk_keyservice.console.accounts import Account
from cmk_operator.api.model import CONSOLE_FIELD_MANAGER
from cmk_operator.api.organization_key import (
    MOST_BREAK_GLASS,
    BreakGlassAccount,
    BreakGlassReport,
    BreakGlassUse,
    OrganizationKey,
)
from cmk_operator.core.organization.break_glass import REPORT_INTERVAL
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from cmk_keyservice.console.accounts import Accounts, Unusable
    from cmk_operator.kubernetes.client import KubernetesClient

_LOG: Final = logging.getLogger("cmk_keyservice.console")
LOOK_SECONDS: Final = 30.0
"""How often the mounted Secret is looked at; a change of it is reported at once."""
AGAIN_SECONDS: Final = 120.0
"""How soon reports are tried again that could not be written."""
_TRIES: Final = 8
"""How often a write is repeated because the object has changed meanwhile: the operator writes its status too."""


def report_of(
    path: str, entries: Sequence[Account | Unusable], before: BreakGlassReport, now: datetime, used: Account | None = None
) -> BreakGlassReport:
    """The report on the OrganizationKey at `path` (namespace/name). `used`: the account with which somebody signs in now."""
    at = now.replace(microsecond=0)
    uses = before.uses
    if used is not None:
        # Two uses are never one, whatever the clock does.
        at = max([at, *(one.at + timedelta(seconds=1) for one in uses)]) if uses and uses[0].at >= at else at
        uses = (BreakGlassUse(at=at, account=used.name, person=used.person), *uses)[:MOST_BREAK_GLASS]
    known = {(one.name, one.since): one.last_used_at for one in before.accounts}
    accounts = []
    for one in entries:
        if path not in one.organizations:
            continue
        if isinstance(one, Account):
            last = at if used == one else known.get((one.name, one.since))
            accounts.append(BreakGlassAccount(name=one.name, person=one.person, since=one.since, last_used_at=last))
        else:
            accounts.append(BreakGlassAccount(name=one.name, problem=one.why))
    return BreakGlassReport(accounts=tuple(accounts[:MOST_BREAK_GLASS]), uses=uses, observed_at=now.replace(microsecond=0))


class BreakGlassReports:
    """Writes the reports."""

    def __init__(self, client: KubernetesClient, accounts: Accounts, now: Callable[[], datetime]) -> None:
        self._client, self._accounts, self._now = client, accounts, now

    async def used(self, account: Account) -> None:
        """Report a sign-in on every organization that the account administers. Raises KubernetesError and OSError."""
        entries = await self._accounts.all()
        for path in sorted(account.organizations):
            namespace, _, name = path.partition("/")
            await self._write(ObjectReference(OrganizationKey.plural, namespace, name), entries, account)

    async def run(self) -> None:
        """Report on all organizations again and again, and whenever the accounts change, until it is cancelled."""
        reported: Sequence[Account | Unusable] | None = None
        due = self._now()
        while True:
            pause = AGAIN_SECONDS
            try:
                entries = await self._accounts.all()
                if entries != reported or self._now() >= due:
                    due = self._now() + REPORT_INTERVAL
                    await self.report(entries)
                    reported = entries
                pause = LOOK_SECONDS
            except (KubernetesError, OSError) as error:
                _LOG.error(
                    "break-glass accounts are not reported: the provider must let the console write the status: %s", error
                )
            except Exception:  # noqa: BLE001 - the last frame of the task: a bug must not end the reports of this process
                _LOG.exception("break-glass accounts are not reported")
            await asyncio.sleep(pause)

    async def report(self, entries: Sequence[Account | Unusable]) -> None:
        """Report on all organizations once. Raises KubernetesError."""
        failed: KubernetesError | None = None
        async for page in self._client.pages(OrganizationKey.plural):
            for item in page.items:
                metadata = item["metadata"]
                reference = ObjectReference(OrganizationKey.plural, metadata["namespace"], metadata["name"])
                try:
                    await self._write(reference, entries, None, item)
                except KubernetesError as error:
                    failed = error  # One organization's trouble is not that of the others.
        if failed is not None:
            raise failed

    async def _write(
        self,
        reference: ObjectReference,
        entries: Sequence[Account | Unusable],
        used: Account | None,
        found: Mapping[str, Any] | None = None,
    ) -> None:
        for left in reversed(range(_TRIES)):
            item = found if found is not None else await self._client.get(reference)
            if item is None:
                return
            report = report_of(f"{reference.namespace}/{reference.name}", entries, _reported(item), self._now(), used)
            try:
                await self._apply(reference, item, report)
            except KubernetesError as error:
                if error.status != 409 or not left:
                    raise
                found = None
            else:
                return

    async def _apply(self, reference: ObjectReference, item: Mapping[str, Any], report: BreakGlassReport) -> None:
        metadata = item["metadata"]
        await self._client.apply_status(
            reference,
            OrganizationKey.__name__,
            metadata["uid"],
            {"breakGlass": report.model_dump(mode="json", by_alias=True, exclude_none=True)},
            resource_version=metadata["resourceVersion"],
            manager=CONSOLE_FIELD_MANAGER,
        )


def _reported(item: Mapping[str, Any]) -> BreakGlassReport:
    try:
        return BreakGlassReport.model_validate((item.get("status") or {}).get("breakGlass") or {})
    except ValidationError:
        return BreakGlassReport()
