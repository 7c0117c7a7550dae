"""What the operator says may be disabled: never what is active, never what is in use, never too early (law 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.core.rotation.azure_use import AzureUser, BackupUse, FoundUse, UseInAzure
from cmk_operator.core.rotation.versions import (
    MAXIMUM_VERSIONS,
    HoldTerms,
    KeyVersion,
    VersionFacts,
    VersionHistory,
    advance,
    retire,
    shortened,
    users_by_version,
    watched,
)
from tests.unit.samples import AZURE_FAULT, KEY, LISTED, NOW, V1, V2

many_versions = [f"{number:032x}" for number in range(30)]


@dataclass(frozen=True)
class Visit:
    facts: VersionFacts
    after: timedelta


@st.composite
def visits(draw: st.DrawFn) -> Visit:
    versions = many_versions[:5]
    active = draw(st.one_of(st.none(), st.sampled_from(versions)))
    users = draw(st.dictionaries(st.sampled_from(versions), st.just(("a",)), max_size=3))
    seen = draw(st.sets(st.sampled_from(versions), max_size=3)) | ({active} if active else set())
    details = {version: KeyVersion(version, enabled=draw(st.booleans())) for version in sorted(seen)}
    return Visit(VersionFacts(active, details, users), timedelta(minutes=draw(st.integers(0, 3000))))


lives = st.lists(visits(), max_size=8)


def test_a_new_version_supersedes_the_old_one_once_nothing_is_on_it() -> None:
    first = advance(VersionHistory(), VersionFacts(V1, users={V1: ("a",)}), NOW)
    moving = advance(first, VersionFacts(V2, users={V1: ("a",)}), NOW + timedelta(hours=1))
    assert moving.active == V2
    assert all(entry.superseded_at is None for entry in moving.versions)
    moved = advance(moving, VersionFacts(V2, users={V2: ("a",)}), NOW + timedelta(hours=9))
    old = next(entry for entry in moved.versions if entry.version == V1)
    assert old.superseded_at == NOW + timedelta(hours=9)
    assert retire(old, moved.active, HoldTerms(), LISTED).safe_to_disable_after == NOW + timedelta(hours=33)
    later = advance(moved, VersionFacts(V2, users={V2: ("a",)}), NOW + timedelta(hours=99))
    assert next(entry for entry in later.versions if entry.version == V1).superseded_at == NOW + timedelta(hours=9)


def test_a_version_that_comes_back_into_use_is_not_superseded_any_more() -> None:
    history = VersionHistory(V2, (KeyVersion(V2), KeyVersion(V1, superseded_at=NOW)))
    back = advance(history, VersionFacts(V2, users={V1: ("a",)}), NOW + timedelta(days=2))
    old = next(entry for entry in back.versions if entry.version == V1)
    assert old.superseded_at is None
    assert retire(old, back.active, HoldTerms(), LISTED).safe_to_disable_after is None


@given(lives)
def test_the_active_version_only_moves_to_one_that_passed_the_probe(life: list[Visit]) -> None:
    history, now = VersionHistory(), NOW
    for visit in life:
        now += visit.after
        following = advance(history, visit.facts, now)
        assert following.active == (visit.facts.active or history.active)
        history = following


@given(lives)
def test_what_is_used_is_never_forgotten_never_superseded_and_never_safe_to_disable(life: list[Visit]) -> None:
    history, now = VersionHistory(), NOW
    for visit in life:
        now += visit.after
        history = advance(history, visit.facts, now)
        by_name = {entry.version: entry for entry in history.versions}
        needed = set(visit.facts.users) | ({history.active} if history.active else set())
        assert needed <= set(by_name)
        for version in needed:
            assert by_name[version].superseded_at is None
            assert (
                retire(
                    by_name[version], history.active, HoldTerms(backup_retention=timedelta(days=1)), LISTED
                ).safe_to_disable_after
                is None
            )
        for version, names in visit.facts.users.items():
            assert by_name[version].users == names


@given(lives, st.integers(24, 2000), st.one_of(st.none(), st.integers(0, 5000)))
def test_nothing_is_safe_to_disable_before_a_day_has_passed_since_the_last_use(
    life: list[Visit], hold: int, backups: int | None
) -> None:
    history, now = VersionHistory(), NOW
    last_needed: dict[str, datetime] = {}
    retention = timedelta(hours=backups) if backups is not None else None
    for visit in life:
        now += visit.after
        history = advance(history, visit.facts, now)
        for version in {*visit.facts.users, *([history.active] if history.active else [])}:
            last_needed[version] = now
        for entry in history.versions:
            retirement = retire(entry, history.active, HoldTerms(timedelta(hours=hold), retention), LISTED)
            if retirement.safe_to_disable_after is None:
                assert retirement.keep_until is None
                continue
            needed = last_needed.get(entry.version)
            assert entry.superseded_at is not None
            assert needed is None or retirement.safe_to_disable_after >= needed + timedelta(hours=24)
            assert retirement.safe_to_disable_after >= entry.superseded_at + timedelta(hours=24)
            if retention is not None:
                assert retirement.keep_until == entry.superseded_at + retention


@given(lives)
def test_the_time_of_supersession_never_moves_while_a_version_rests(life: list[Visit]) -> None:
    history, now = VersionHistory(), NOW
    for visit in life:
        now += visit.after
        following = advance(history, visit.facts, now)
        before = {entry.version: entry.superseded_at for entry in history.versions}
        for entry in following.versions:
            if entry.superseded_at is not None and before.get(entry.version) is not None:
                assert entry.superseded_at == before[entry.version]
        history = following


@given(st.lists(st.tuples(st.sampled_from(many_versions), st.sets(st.sampled_from(many_versions))), min_size=25, max_size=40))
def test_the_history_stays_small_and_names_each_version_once(life: list[tuple[str, set[str]]]) -> None:
    history = VersionHistory()
    for day, (active, used) in enumerate(life):
        history = advance(history, VersionFacts(active, users=dict.fromkeys(sorted(used), ("a",))), NOW + timedelta(days=day))
        names = [entry.version for entry in history.versions]
        assert len(names) == len(set(names))
        assert len(names) <= max(MAXIMUM_VERSIONS, len(used | {active}))
        if history.active is not None:
            assert names[0] == history.active


@given(lives, visits())
def test_the_same_visit_twice_changes_nothing_but_times_of_nothing(life: list[Visit], last: Visit) -> None:
    history, now = VersionHistory(), NOW
    for visit in [*life, last]:
        now += visit.after
        history = advance(history, visit.facts, now)
    assert advance(history, last.facts, now + timedelta(days=3)) == history


def test_of_many_resting_versions_the_latest_retired_are_kept() -> None:
    resting = tuple(KeyVersion(name, superseded_at=NOW + timedelta(days=day)) for day, name in enumerate(many_versions))
    history = advance(VersionHistory(V1, resting), VersionFacts(V1), NOW + timedelta(days=99))
    assert len(history.versions) == MAXIMUM_VERSIONS
    assert {entry.version for entry in history.versions[1:]} == set(many_versions[-19:])


def test_what_backups_need_is_told_apart_from_what_resources_need() -> None:
    old = KeyVersion(V1, superseded_at=NOW)
    assert retire(old, V2, HoldTerms(backup_retention=timedelta(days=35)), LISTED).keep_until == NOW + timedelta(days=35)
    told = retire(old, V2, HoldTerms(), LISTED)
    assert told.keep_until is None
    assert "set spec.rotation.backupRetention" in told.reason


def test_a_superseded_version_is_watched_until_neither_services_nor_backups_can_need_it() -> None:
    old = KeyVersion(V1, superseded_at=NOW)
    for retention, until in ((None, timedelta(hours=24)), (timedelta(days=35), timedelta(days=35))):
        retired = [(old, retire(old, V2, HoldTerms(backup_retention=retention), LISTED))]
        assert watched(retired, NOW + until - timedelta(seconds=1)) == {V1}
        assert watched(retired, NOW + until) == frozenset()
    assert watched([(KeyVersion(V1), retire(KeyVersion(V1), V2, HoldTerms(), LISTED))], NOW) == frozenset(), (
        "in use, so probed anyway"
    )


def test_what_a_service_restores_from_an_old_version_is_named() -> None:
    told = retire(KeyVersion(V1, superseded_at=NOW), V2, HoldTerms(restores=("restores of databases",)), LISTED)
    assert "backups made under it, and restores of databases still need it" in told.reason


def test_resources_are_grouped_by_version_in_order_of_their_names() -> None:
    assert users_by_version([("b", V1), ("a", V1), ("c", V2)]) == {V1: ("a", "b"), V2: ("c",)}


def test_long_lists_of_names_are_cut() -> None:
    assert shortened([str(number) for number in range(30)]) == tuple(str(number) for number in range(20))


SERVER = ArmId("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Sql/servers/sql1")
ANY_KEY = parse_key_uri(KEY)


def backup(retention: timedelta | None, version: str = V1) -> BackupUse:
    return BackupUse(SERVER, ANY_KEY, version, retention, "" if retention is not None else "nobody may read it")


moments = st.one_of(st.none(), st.builds(lambda seconds: NOW + timedelta(seconds=seconds), st.integers(-100, 100)))
listings = st.builds(
    UseInAzure,
    st.builds(
        FoundUse,
        st.just(()),
        st.lists(st.builds(backup, st.one_of(st.none(), st.builds(timedelta, days=st.integers(0, 4000)))), max_size=2).map(
            tuple
        ),
        st.sampled_from([(), (AZURE_FAULT,)]),
    ),
    moments,
    moments,
)
entries = st.builds(
    KeyVersion,
    st.sampled_from([V1, V2]),
    users=st.sampled_from([(), ("a",), ("/subscriptions/s/resourceGroups/rg/providers/x/y/z",)]),
    superseded_at=st.sampled_from([None, NOW]),
)


@given(entries, st.sampled_from([None, V2]), listings, st.one_of(st.none(), st.integers(0, 4000)))
def test_there_is_no_date_while_anything_is_on_a_version_or_a_list_is_unknown_or_old(
    entry: KeyVersion, active: str | None, listing: UseInAzure, days: int | None
) -> None:
    retention = timedelta(days=days) if days is not None else None
    found = retire(entry, active, HoldTerms(backup_retention=retention), listing)
    newer = all(one is not None and one > NOW for one in (listing.listed_at, listing.parts_at))
    proven = newer and not listing.found.unlisted
    free = not entry.users and entry.version != active and entry.superseded_at is not None
    assert (found.safe_to_disable_after is not None) == (free and proven)
    if found.safe_to_disable_after is None:
        assert found.keep_until is None
    if listing.found.unlisted and free:
        assert AZURE_FAULT.message in found.reason
    backups = listing.backups_of(entry.version)
    if found.keep_until is not None:
        assert entry.superseded_at is not None
        assert all(one.retention is not None for one in backups)
        assert found.keep_until >= entry.superseded_at + max(
            (one.retention for one in backups if one.retention is not None), default=timedelta(0)
        )


def test_a_server_that_left_a_version_needs_it_as_long_as_it_keeps_backups() -> None:
    old = KeyVersion(V1, superseded_at=NOW)
    azure = UseInAzure(
        FoundUse(backups=(backup(timedelta(days=35)), backup(timedelta(days=99), V2))), LISTED.listed_at, LISTED.parts_at
    )
    alone = retire(old, V2, HoldTerms(), azure)
    assert alone.keep_until == NOW + timedelta(days=35)
    assert "the backups of sql1 need it until keepUntil" in alone.reason
    assert "spec.rotation.backupRetention" in alone.reason, "what other backups need is not known"
    shorter = retire(old, V2, HoldTerms(backup_retention=timedelta(days=7)), azure)
    assert shorter.keep_until == NOW + timedelta(days=35)
    longer = retire(old, V2, HoldTerms(backup_retention=timedelta(days=70)), azure)
    assert longer.keep_until == NOW + timedelta(days=70)


def test_backups_whose_retention_cannot_be_read_are_kept_for_an_unknown_time() -> None:
    azure = UseInAzure(FoundUse(backups=(backup(timedelta(days=7)), backup(None))), LISTED.listed_at, LISTED.parts_at)
    told = retire(KeyVersion(V1, superseded_at=NOW), V2, HoldTerms(backup_retention=timedelta(days=7)), azure)
    assert told.keep_until is None
    assert "sql1 keeps its own backups is not known: nobody may read it" in told.reason


def test_a_version_of_which_nothing_is_known_is_probed_on() -> None:
    old = KeyVersion(V1, superseded_at=NOW)
    assert watched([(old, retire(old, V2, HoldTerms(), UseInAzure()))], NOW + timedelta(days=99)) == {V1}


def test_what_several_lists_show_counts_once() -> None:
    use = FoundUse((AzureUser(SERVER, ANY_KEY, V1),), (backup(None),), (AZURE_FAULT,))
    assert FoundUse.of_all([use, FoundUse(), use]) == use
