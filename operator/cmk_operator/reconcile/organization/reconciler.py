"""Reconciles an `OrganizationKey`: tries new settings before they are in force, probes the key in force, follows its versions.

Only `status.accepted` is in force. The probe unwraps a stored canary; nothing is read from the vault, so that wrapKey and
unwrapKey are the only rights that are needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cmk_operator.api.conditions import grace_left
from cmk_operator.api.durations import parse_duration
from cmk_operator.api.model import APPROVED_VERSION, RECONCILE_REQUESTED_AT
from cmk_operator.api.organization_key import CheckReport, OrganizationKey, TestReport
from cmk_operator.azure.key_gate import Purpose
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.organization.verdict import Operation, VerdictKind
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.collaborators.intervals import jittered
from cmk_operator.reconcile.notifications.announcements import announce_organization
from cmk_operator.reconcile.notifications.delivery import wake_delivery
from cmk_operator.reconcile.organization.acceptance import (
    Refused,
    TestStage,
    of_failure,
    unwrap_canary,
    wrap_and_unwrap,
)
from cmk_operator.reconcile.organization.changes import changes_of, record_events
from cmk_operator.reconcile.organization.deletion import held_by, hold, released
from cmk_operator.reconcile.organization.licensing import refused_by_licence, standing_of, with_encryption
from cmk_operator.reconcile.organization.report import (
    OrganizationFacts,
    break_glass_seen_within,
    organization_status,
    report_seen_within,
)
from cmk_operator.reconcile.organization.settings import (
    PLATFORM_KEY,
    Difference,
    Proven,
    difference,
    effective_settings,
    key_of,
    known_kid,
    version_of,
    wanted_settings,
    with_accepted,
    with_bounds,
)
from cmk_operator.reconcile.organization.support import with_support
from cmk_operator.reconcile.organization.trial import Trial
from cmk_operator.reconcile.references import OrganizationPath, resolve_organization

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.organization_key import AcceptedKey, CredentialReport, OrganizationKeyStatus
    from cmk_operator.core.organization.licence import Standing
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.reconcile.organization.context import OrganizationContext, Visit
    from cmk_operator.reconcile.organization.credentials import ReadCredentials
    from cmk_operator.reconcile.organization.gates import OpenGate
    from cmk_operator.reconcile.organization.settings import Wanted

SIGN_IN_EVERY: Final = 10
"""Probes for which one sign-in may be used: ten minutes, with the default interval."""
SECRETS_AGAIN_AFTER: Final = 30.0
"""Seconds until Secrets are read again that could not be used: they are not watched."""
CHECK_AGAIN_AFTER: Final = 300.0
"""Seconds until the vault is asked again for the latest version, after it wrapped nothing."""


async def reconcile_organization(context: OrganizationContext, reference: ObjectReference) -> Next:
    """Bring the settings of one organization into force if they pass their test, probe the key in force, and report."""
    organization = context.cluster.inventory.get(OrganizationKey, reference.name, reference.namespace)
    if organization is None:
        context.visits.forget(reference)
        return Next()
    if await released(context.cluster, context.reporting, organization):
        return Next()
    visit = context.visits.of(reference, organization.metadata.uid)
    one = _Pass(context, organization, visit, context.reporting.now())
    facts = await one.run()
    status = organization_status(organization, facts, one.now)
    await _write(context, organization, status, one)
    return Next(after=one.next_pass(status))


class _Pass:
    """One pass over one object."""

    def __init__(self, context: OrganizationContext, organization: OrganizationKey, visit: Visit, now: datetime) -> None:
        self.context = context
        self.organization = organization
        self.visit = visit
        self.now = now
        self.status = organization.status
        self.reference = reference_of(organization)
        annotation = organization.metadata.annotations.get(RECONCILE_REQUESTED_AT)
        is_new = organization.metadata.generation != self.status.observed_generation
        self.requested = is_new or annotation != self.status.last_handled_reconcile_at
        """Whether the manifest changed, or its annotation requests a pass, since the last pass."""
        self.waits_for_reference = False
        self.reference_left = 0.0
        """Seconds for which what is missing may still be on its way."""
        self.request_id: str | None = None
        """Azure's id of the request that showed or proved what has changed."""
        self.automatic = False
        """Whether the settings that this pass has accepted were not asked for by a change of the manifest."""
        cluster = context.cluster
        self.trial = Trial(cluster.client, cluster.inventory, context.gates, organization, now)

    async def run(self) -> OrganizationFacts:
        """Everything but the report."""
        path = resolve_organization(self.context.cluster.inventory, self.organization)
        credentials = await self.trial.credentials(path)
        licence = await standing_of(self.context.licences, self.organization, self.now, anew=self.requested)
        refused = await self._settle(path, credentials, licence)
        unprobed = await self._probe()
        if refused is None and isinstance(path, OrganizationPath) and unprobed is None:
            await self._check(path)
        self.status = with_encryption(self.status, licence)
        self.status = with_support(self.status, self.context.support.of(self.reference), self.now)
        accepted = self.status.accepted
        return OrganizationFacts(
            self.status,
            in_force=refused is None and accepted is not None,
            refused=refused,
            unprobed=unprobed,
            probe=self.visit.probe,
            probed=accepted is not None and self.visit.probed_kid == accepted.kid,
            credentials=self._reports(credentials),
            held=held_by(self.organization, self.status, self.now),
            licence=licence,
        )

    def _reports(self, credentials: ReadCredentials | None) -> tuple[CredentialReport, ...]:
        if credentials is None:
            return ()
        known = {(one.secret, one.key): one for one in self.organization.status.credentials}
        return tuple(one.report(known.get((one.secret, one.key)), self.now) for one in credentials.each)

    # Settings.

    async def _settle(
        self, path: OrganizationPath | Fault | None, credentials: ReadCredentials | None, licence: Standing
    ) -> Refused | None:
        """Bring the settings of the manifest into force if they differ; returns why they are not in force."""
        wanted = self.trial.wanted(path, credentials)
        if isinstance(wanted, Refused):
            self.waits_for_reference = True
            grace = self.context.intervals.reference_grace
            self.reference_left = grace_left(wanted.reason, self.organization.status.conditions, self.now, grace)
            wanted = replace(wanted, awaited=wanted.awaited or self.reference_left > 0)
            self.visit.passed()  # What has failed before is not tried again until the reference is mended.
            return self._refuse(wanted)
        differs = difference(self.status.accepted, wanted)
        if differs is Difference.NONE and not self.requested:
            self.visit.passed()
            return None
        if differs is Difference.BOUNDS:
            self.status = with_bounds(self.status, wanted)
            return None
        if differs is not Difference.NONE:
            unlicensed = refused_by_licence(licence, self.status.accepted, wanted)
            if unlicensed is not None:
                return self._refuse(unlicensed)
        visit, monotonic = self.visit, self.context.monotonic()
        waits = visit.tried == wanted and monotonic < visit.try_again_at and not self.requested
        if waits and visit.refused is not None:
            return visit.refused
        tried = await self.trial.run(self.status, wanted, credentials)
        if isinstance(tried, Refused):
            if differs is Difference.NONE:
                return None  # A requested test of what is in force; the probe of this pass says what is wrong.
            visit.failed(wanted, tried, self.context.monotonic())
            return self._refuse(tried)
        visit.passed()
        self._passed("the settings of the manifest have passed their test", tried)
        if differs is not Difference.NONE:
            await self._accept(wanted, tried)
        return None

    async def _accept(self, wanted: Wanted, proven: Proven) -> None:
        await hold(self.context.cluster, self.organization)
        kid, before = known_kid(self.status, proven.kid), self.status.accepted
        self.status = with_accepted(self.status, wanted, proven, self.now)
        if before is None or before.kid != kid or key_of(before) != wanted.key_uri:
            check = CheckReport(at=self.now, kid=kid) if proven.canary is not None else None
            self.status = self.status.model_copy(update={"check": check, "pending_version": None})
        # Another access says nothing about which version is the latest: a version that waits for approval goes on waiting.
        self.request_id = proven.request_id
        if proven.canary is not None:
            self._proved(kid)
        accepted = self.status.accepted
        gate = await self.trial.gate_of(accepted, wanted.access) if accepted is not None and wanted.access is not None else None
        if gate is None or isinstance(gate, Fault):
            self.status = self.status.model_copy(update={"advice": ()})
        else:
            await self._advise(gate, proven)

    async def _advise(self, gate: OpenGate, proven: Proven) -> None:
        self.status = self.status.model_copy(update={"advice": await self.trial.advice(gate, proven)})

    def _proved(self, kid: str) -> None:
        """The test has just unwrapped with the key: that is a probe."""
        self.visit.probed_at, self.visit.probe_time = self.context.monotonic(), self.now
        self.visit.probed_kid, self.visit.probe = kid, None

    def _refuse(self, refused: Refused) -> Refused:
        report = TestReport(
            generation=self.organization.metadata.generation,
            result="Failed",
            stage=refused.stage.value,
            code=refused.code,
            message=refused.message,
            request_id=refused.request_id,
            at=self.now,
        )
        self._report_test(report)
        return refused

    def _passed(self, message: str, proven: Proven) -> None:
        report = TestReport(
            generation=self.organization.metadata.generation,
            result="Passed",
            message=message,
            request_id=proven.request_id,
            at=self.now,
        )
        self._report_test(report)

    def _report_test(self, report: TestReport) -> None:
        """Report a test; one that says the same as the last keeps its time and request id, so that a retry writes nothing."""
        before = self.status.test
        said = before.model_copy(update={"at": report.at, "request_id": report.request_id}) if before is not None else None
        if said != report:
            self.status = self.status.model_copy(update={"test": report})

    # The key in force.

    async def _probe(self) -> Fault | None:
        """Unwrap the canary of the key in force, if that is due; returns why it cannot be probed."""
        accepted, visit = self.status.accepted, self.visit
        if accepted is None or accepted.access is None:
            visit.probe = None
            return None
        elapsed = self.context.monotonic() - visit.probed_at
        if visit.probed_kid == accepted.kid and not self.requested and elapsed < accepted.probe_interval_seconds * 0.95:
            return None
        gate = await self.trial.gate_of(accepted, accepted.access)
        if isinstance(gate, Fault):
            visit.probed_kid, visit.probed_at = "", self.context.monotonic()
            return gate
        found = await self._sign_in(gate, accepted.probe_interval_seconds) or await unwrap_canary(gate, accepted, Purpose.PROBE)
        self._proved(accepted.kid)
        if isinstance(found, Refused):
            visit.probe = found
            self.request_id = self.request_id or found.request_id
        else:
            self.request_id = self.request_id or found or None
        return None

    async def _sign_in(self, gate: OpenGate, interval: float) -> Refused | None:
        """Sign in anew once in `SIGN_IN_EVERY` probes; returns the refusal.

        Azure accepts a token for hours after a consent was withdrawn or a credential deleted: only a new sign-in shows that.
        """
        visit, monotonic = self.visit, self.context.monotonic()
        if visit.probe is None and not self.requested and monotonic - visit.signed_in_at < interval * SIGN_IN_EVERY:
            return None
        failure = await gate.gate.sign_in()
        visit.signed_in_at = monotonic
        refused = of_failure(TestStage.TOKEN, failure, Operation.SIGN_IN, gate) if failure is not None else None
        return refused if refused is not None and refused.kind in {VerdictKind.DENIED, VerdictKind.LOST} else None

    # New versions.

    async def _check(self, path: OrganizationPath) -> None:
        """Ask the vault for the latest version by wrapping, if that is due, and take it if it may be taken."""
        accepted = self.status.accepted
        if accepted is None or accepted.access is None or self.visit.probe is not None or not self._check_is_due():
            return
        gate = await self.trial.gate_of(accepted, accepted.access)
        if isinstance(gate, Fault):
            return
        tried = await wrap_and_unwrap(gate, path.key_uri)
        if isinstance(tried, Refused):
            await self._note_refused_wrap(gate, accepted, tried)
            return
        self.visit.check_again_at = float("-inf")
        await self._advise(gate, tried)
        kid = known_kid(self.status, tried.kid)
        if kid == accepted.kid:
            self._checked(CheckReport(at=self.now, kid=kid))
            return
        version = tried.kid.rpartition("/")[2]
        approved = self.organization.metadata.annotations.get(APPROVED_VERSION)
        if effective_settings(self.organization).approval == "Manual" and approved != version:
            self._checked(CheckReport(at=self.now, kid=tried.kid), pending=version)
            return
        wanted = wanted_settings(self.organization, path.key_uri, accepted.access)
        self._passed(f"version {version} of the key has passed its test", tried)
        self.automatic = accepted == self.organization.status.accepted
        await self._accept(wanted, tried)

    def _check_is_due(self) -> bool:
        check, pending = self.status.check, self.status.pending_version
        approved = self.organization.metadata.annotations.get(APPROVED_VERSION)
        if check is None or self.requested or (pending is not None and approved == pending):
            return True
        if check.reason is not None or self.visit.check_again_at > 0:
            return self.context.monotonic() >= self.visit.check_again_at
        return self.now - check.at >= parse_duration(effective_settings(self.organization).check_interval)

    async def _note_refused_wrap(self, gate: OpenGate, accepted: AcceptedKey, refused: Refused) -> None:
        """The vault wraps nothing with the version that is the latest now, or does not unwrap it."""
        self.visit.check_again_at = self.context.monotonic() + max(CHECK_AGAIN_AFTER, refused.retry_after or 0.0)
        if refused.kind in {VerdictKind.UNAVAILABLE, VerdictKind.THROTTLED}:
            return
        version, key = version_of(accepted), key_of(accepted)
        if version is not None and key is not None and key.version is None:
            # The latest version may be another than the one in force, which may well wrap.
            in_force = await wrap_and_unwrap(gate, version)
            if not isinstance(in_force, Refused):
                message = f"the latest version of the key has not passed its test, and {version.version} stays in force: {refused.message}"
                self._checked(CheckReport(at=self.now, reason=Reason.ROTATION_BLOCKED.value, message=message))
                return
            refused = in_force
        expired = refused.stage is TestStage.WRAP and refused.reason in {Reason.EXPIRED, Reason.NOT_YET_VALID}
        reason = Reason.KEY_EXPIRED if expired else Reason.WRAP_REFUSED
        message = f"existing data stays readable, and nothing new is wrapped: {refused.message}"
        self._checked(CheckReport(at=self.now, reason=reason.value, message=message))

    def _checked(self, check: CheckReport, pending: str | None = None) -> None:
        before = self.status.check
        if before is not None and check.reason is not None and before.model_copy(update={"at": check.at}) == check:
            check = before  # A refusal that lasts is not written anew each time.
        self.status = self.status.model_copy(update={"check": check, "pending_version": pending})

    # When to come again.

    @property
    def observed_at(self) -> datetime | None:
        """When what the status says was observed; None if the vault gave no usable answer."""
        accepted = self.status.accepted
        if accepted is None or accepted.kid == PLATFORM_KEY:
            return self.now
        probe = self.visit.probe
        unanswered = probe is not None and probe.kind in {VerdictKind.UNAVAILABLE, VerdictKind.THROTTLED}
        return None if unanswered or self.visit.probed_kid != accepted.kid else self.visit.probe_time

    def next_pass(self, status: OrganizationKeyStatus) -> float:
        """Seconds until the next pass."""
        accepted, monotonic = status.accepted, self.context.monotonic()
        # Whatever interval the manifest says, the key service's report must not grow old unseen.
        longest = report_seen_within(status.data_keys, self.now) if accepted is not None else float("inf")
        longest = min(longest, break_glass_seen_within(status.break_glass, self.now))
        if accepted is None or accepted.access is None:
            wait = jittered(min(self.context.intervals.identity_check, longest))
        else:
            since = monotonic - self.visit.probed_at
            wait = max(accepted.probe_interval_seconds * 0.05, accepted.probe_interval_seconds - min(since, 1e9))
            wait = min(wait, longest)
            wait = jittered(wait) if accepted.probe_interval_seconds > 5 else wait
        if self.visit.refused is not None:
            wait = min(wait, max(0.1, self.visit.try_again_at - monotonic))
        if self.waits_for_reference and self.organization.spec.access is not None:
            wait = min(wait, SECRETS_AGAIN_AFTER)
        if self.reference_left > 0:
            wait = min(wait, self.reference_left)
        return wait


async def _write(
    context: OrganizationContext, organization: OrganizationKey, status: OrganizationKeyStatus, one: _Pass
) -> None:
    audience = context.deliveries.audience(context.cluster.inventory, organization, organization)
    status = announce_organization(organization, status, audience, one.now)
    for change in changes_of(organization, status, one.request_id, one.now, automatic=one.automatic):
        context.reporting.journal.note(change)
    written = await context.reporting.writer.write(organization, status, one.observed_at)
    wake_delivery(context.cluster, organization, status.notifications)
    if written:
        await record_events(context.reporting, organization, status)
