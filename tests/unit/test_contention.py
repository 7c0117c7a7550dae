"""When a resource is contested, how long the operator then waits, and when it ends: by its times alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.api.conditions import find
from cmk_operator.api.encrypted_resource import ContentionReport, EncryptedResource, EncryptedResourceStatus, TargetReport
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.contention import (
    CONTESTED_FROM,
    FIRST_PAUSE,
    KEPT,
    LONGEST_PAUSE,
    WITHIN,
    Contention,
    change_due,
    in_place,
    paused_until,
    wanted_of,
)
from cmk_operator.core.encryption.long_running import Operation
from cmk_operator.core.encryption.protection import FieldChange, KeyChoice, MicrosoftManaged, OnKey
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import parse_arm_id
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.providers.protocol import Plan, ResourceFacts
from cmk_operator.providers.sql.bodies import planned
from cmk_operator.providers.sql.requests import RevalidateDatabase, RevalidateServer, SetServiceManagedProtector
from cmk_operator.reconcile.resource.contentions import Contentions
from cmk_operator.reconcile.resource.outcome import Operating, Planned, ResourceOutcome, Settled, Waiting
from cmk_operator.reconcile.resource.reconciler import _next
from cmk_operator.reconcile.resource.report import resource_status
from tests.unit.samples import NOW, V1, V2, VAULT, encrypted_resource, identity_body
from tests.unit.test_resource_report import probed

MINUTE = timedelta(minutes=1)
A = "a"
waits = st.integers(0, 7200).map(lambda seconds: timedelta(seconds=seconds))


@dataclass
class Story:
    """A resource, its operator and somebody else, in virtual time."""

    now: datetime = NOW
    state: Contention | None = None
    writes: int = 0

    def write(self, wanted: str = A) -> datetime | None:
        """A pass that finds a change due; returns until when it waits instead of writing."""
        self.state = change_due(self.state, wanted, self.now)
        until = paused_until(self.state, self.now)
        if until is None:
            self.writes += 1
            self.state = in_place(self.state, wanted, self.now)
        return until

    def rest(self, wanted: str = A) -> None:
        """A pass that finds nothing due."""
        self.state = in_place(self.state, wanted, self.now)

    def contested(self) -> bool:
        return self.state is not None and self.state.is_contested


def fight(story: Story, flips: int) -> list[timedelta]:
    """Somebody changes the resource back a minute after each write; the pauses before the writes."""
    pauses = []
    for _ in range(flips):
        story.now += MINUTE
        until, began = story.write(), story.now
        if until is not None:
            story.now = until
            assert story.write() is None, "a pause ends by itself"
        pauses.append(story.now - began)
    return pauses


def test_the_third_change_back_within_an_hour_is_contested_and_pauses_double_up_to_an_hour_without_end() -> None:
    story = Story()
    story.write()
    pauses = fight(story, 25)
    assert pauses[:2] == [timedelta(), timedelta()]
    assert pauses[2:9] == [FIRST_PAUSE * 2**n if n < 6 else LONGEST_PAUSE for n in range(7)]
    assert set(pauses[9:]) == {LONGEST_PAUSE}
    assert story.writes == 26
    assert story.state is not None
    assert len(story.state.changed_back) == KEPT


@given(st.lists(waits, max_size=30))
def test_the_operator_never_waits_for_longer_than_an_hour(gaps: list[timedelta]) -> None:
    story = Story()
    story.write()
    for gap in gaps:
        story.now += gap
        until = story.write()
        if until is not None:
            assert story.now < until <= story.now + LONGEST_PAUSE
            assert story.contested()


@given(st.lists(waits, max_size=30))
def test_a_rotation_an_approval_or_another_manifest_is_never_contested(gaps: list[timedelta]) -> None:
    story = Story()
    for number, gap in enumerate(gaps):
        story.now += gap
        assert story.write(f"version {number}") is None
        story.rest(f"version {number}")
        assert not story.contested()


@given(st.lists(st.booleans(), max_size=30), st.lists(waits, min_size=30, max_size=30))
def test_two_changes_back_in_any_hour_are_never_contested(back: list[bool], gaps: list[timedelta]) -> None:
    story, lately = Story(), list[datetime]()
    story.write()
    for changed, gap in zip(back, gaps, strict=False):
        story.now += gap
        lately = [at for at in lately if story.now - at < WITHIN]
        if changed and len(lately) < CONTESTED_FROM - 1:
            lately.append(story.now)
            assert story.write() is None
        else:
            story.rest()
        assert not story.contested()


@given(st.integers(3, 20), waits, st.integers(1, 30))
def test_it_ends_once_the_resource_has_stayed_in_place_for_an_hour(flips: int, gap: timedelta, passes: int) -> None:
    story = Story()
    story.write()
    fight(story, flips)
    last = story.now
    for _ in range(passes):
        story.now += gap
        story.rest()
    assert story.contested() == (story.now - last < WITHIN)
    if not story.contested():
        story.now += MINUTE
        assert story.write() is None, "the next single change is one person's"


def test_a_fight_that_goes_on_after_a_time_without_an_operator_begins_anew() -> None:
    story = Story()
    story.write()
    fight(story, 5)
    story.now += 2 * WITHIN
    assert story.write() is None


def test_quiet_times_change_nothing_in_status() -> None:
    story = Story()
    story.rest()
    assert story.state is None, "what the operator never changed needs no entry"
    story.write()
    kept = story.state
    for _ in range(10):
        story.now += MINUTE
        story.rest()
        assert story.state is kept


def test_a_change_that_stays_due_is_one_change_back() -> None:
    story = Story()
    story.write()
    for _ in range(5):
        story.now += MINUTE
        story.state = change_due(story.state, A, story.now)
    assert story.state is not None
    assert len(story.state.changed_back) == 1


def test_a_clock_that_went_back_makes_no_endless_pause() -> None:
    future = tuple(NOW + timedelta(days=300) for _ in range(5))
    assert paused_until(Contention(A, None, future), NOW) is None


IDENTITY = parse_arm_id(identity_body()["spec"]["managedIdentity"]["resourceId"])
WANT = KeyChoice(KeyUri(VAULT, "storage"), V1, IDENTITY, "11111111-1111-1111-1111-111111111111")
PLAN: Plan[dict[str, object]] = Plan({}, (FieldChange("keySource", "Microsoft.Storage", "Microsoft.Keyvault"),))
ON_V1 = Settled(ResourceFacts(OnKey(KeyUri(VAULT, "storage"), V1), None))
UNPROTECTED = ResourceFacts(MicrosoftManaged(), None)
TARGET = TargetReport(kind="StorageAccount", name="contosodata")


def test_what_is_wanted_is_the_generation_key_version_and_identity() -> None:
    others = (
        replace(WANT, key_uri=KeyUri(VAULT, "other")),
        replace(WANT, probed_version=V2),
        replace(WANT, application_client_id="22222222-2222-2222-2222-222222222222"),
    )
    words = {wanted_of(WANT, 1), wanted_of(WANT, 2), *(wanted_of(other, 1) for other in others)}
    assert len(words) == 5
    assert wanted_of(replace(WANT, vault_region="westeurope", key_size=2048), 1) == wanted_of(WANT, 1)


class Fought:
    """A resource through passes of the operator, each of which may be another process."""

    def __init__(self) -> None:
        self.now = NOW
        self.resource: EncryptedResource = encrypted_resource()
        self.contentions = Contentions(lambda: self.now)

    def restart(self) -> None:
        self.contentions = Contentions(lambda: self.now)

    def pass_over(self, outcome: ResourceOutcome) -> EncryptedResourceStatus:
        state = self.contentions.after(self.resource, outcome, WANT)
        status = resource_status(self.resource, outcome, self.now, target=TARGET, key=probed(), own=None, contention=state)
        self.resource = self.resource.model_copy(update={"status": status})
        self.contentions.forget(reference_of(self.resource))
        return status

    def flipped(self) -> EncryptedResourceStatus:
        """One pass that finds the resource changed back, and writes or waits."""
        pause = self.contentions.pause(self.resource, WANT)
        if pause is None:
            return self.pass_over(ON_V1)
        seconds, message = pause
        return self.pass_over(Waiting(Reason.CONTESTED, message, UNPROTECTED, keeps_key=False, seconds=seconds))


def ready(status: EncryptedResourceStatus) -> tuple[str, str, str]:
    found = find(status.conditions, ConditionType.READY)
    assert found is not None
    return found.status, found.reason, found.message


def test_a_contested_resource_says_so_until_it_ends_also_after_restarts() -> None:
    fought = Fought()
    for _ in range(3):
        status = fought.flipped()
        assert ready(status)[:2] == ("True", "Ready")
        fought.restart()
        fought.now += MINUTE
    status = fought.flipped()
    assert ready(status)[:2] == ("False", "Contested")
    message = ready(status)[2]
    assert "3 times" in message
    assert "the platform engineer must take these settings of the resource out of the other tool" in message
    assert "Terraform" in message
    stalled = find(status.conditions, ConditionType.STALLED)
    assert stalled is not None
    assert (stalled.reason, stalled.message) == ("Contested", message)
    encrypted = find(status.conditions, ConditionType.ENCRYPTED)
    assert encrypted is not None
    assert encrypted.status == "False"
    fought.restart()
    fought.now += FIRST_PAUSE
    status = fought.flipped()
    encrypted = find(status.conditions, ConditionType.ENCRYPTED)
    assert encrypted is not None
    assert encrypted.status == "True", "it is on its key again"
    assert ready(status)[:2] == ("False", "Contested")
    before = status
    fought.now += MINUTE
    assert fought.pass_over(ON_V1) == before, "nothing is written while nothing happens"
    fought.now += WITHIN
    assert ready(fought.pass_over(ON_V1))[:2] == ("True", "Ready")


def test_a_pass_whose_status_could_not_be_written_is_repeated_with_the_same_time() -> None:
    fought = Fought()
    assert fought.contentions.pause(fought.resource, WANT) is None
    first = fought.contentions.after(fought.resource, ON_V1, WANT)
    fought.now += MINUTE
    assert fought.contentions.after(fought.resource, ON_V1, WANT) == first
    assert first is not None
    assert first.in_place_since == NOW


def test_a_running_operation_does_not_hide_that_the_resource_is_contested() -> None:
    fought = Fought()
    flips = (NOW, NOW, NOW)
    known = ContentionReport(wanted=wanted_of(WANT, 1), changed_back=flips)
    fought.resource = fought.resource.model_copy(update={"status": EncryptedResourceStatus(contention=known)})
    operating = Operating(Operation("url", "put the set on the key"), 5.0, UNPROTECTED)
    assert ready(fought.pass_over(operating))[:2] == ("False", "Contested")
    planned_only = Planned(PLAN, UNPROTECTED)
    status = fought.pass_over(planned_only)
    assert (ready(status)[1], status.contention) == ("PlanOnly", None), "under Observe nobody is fought"


def test_a_pass_comes_when_the_pause_is_over_and_not_later_than_drift() -> None:
    assert _next(Waiting(Reason.CONTESTED, "", UNPROTECTED, keeps_key=False, seconds=60.0), 300.0) == Next(after=60.0)
    late = _next(Waiting(Reason.CONTESTED, "", UNPROTECTED, keeps_key=False, seconds=3600.0), 300.0).after
    assert late is not None
    assert late <= 330.0


def test_opening_what_lost_its_key_is_nobodys_change_back() -> None:
    server = parse_arm_id(
        "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.Sql/servers/s"
    )
    assert planned(RevalidateServer(server), (), "revalidate").reopens
    assert planned(RevalidateDatabase(server), (), "revalidate").reopens
    assert not planned(SetServiceManagedProtector(server), (), "revert").reopens
