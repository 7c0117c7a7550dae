"""What is kept when the rest has left the cluster: equal shares, and every edit of it is found."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from cmk_operator.core.audit.chain import Entry, parse_entry
from cmk_operator.core.audit.change import Subject
from cmk_operator.core.audit.copies import index_in, index_line, lines_in
from cmk_operator.core.audit.kept import Held, Kept, Loss, held_of, keep, parse_kept
from cmk_operator.core.audit.layout import Head, head_of, kept_bytes, kept_name, kept_of, lines_of, segment_name, with_index
from cmk_operator.core.audit.verification import Extent, Flaw, Verdict, verify
from cmk_operator.settings import Settings
from tests.unit.audit.records import change, lines, record

BUDGET = 1_000


def held(sequence: int, tenant: str = "quiet", cost: int = 100, namespace: str = "") -> Held:
    return Held(sequence, f"{sequence:032x}", tenant, cost, f"at {sequence}", namespace)


def kept_after(arriving: list[Held], budget: int = BUDGET) -> Kept:
    """The index after entries have left the newest part, three at a time."""
    index, there = Kept(), dict[int, Held]()
    for start in range(0, len(arriving), 3):
        leaving = arriving[start : start + 3]
        index, _ = keep(index, there.values(), leaving, leaving[-1].sequence, budget)
        there |= {one.sequence: one for one in leaving}
        there = {number: one for number, one in there.items() if number in index.digests}
    return index


LARGEST_CONFIG_MAP = 1 << 20
"""Bytes. Source: Kubernetes, "ConfigMaps"."""
SMALLEST_ENTRY = 450
SEGMENTS = [bound.ge if hasattr(bound, "ge") else bound.le for bound in Settings.model_fields["audit_segment_bytes"].metadata]


@pytest.mark.parametrize("segment_bytes", SEGMENTS)
def test_the_index_of_a_full_kept_part_fits_into_the_head(segment_bytes: int) -> None:
    full, arriving = kept_bytes(segment_bytes) // SMALLEST_ENTRY, segment_bytes // SMALLEST_ENTRY
    assert len(record([change(1)])[0].line) >= SMALLEST_ENTRY
    there = {number: held(number, cost=SMALLEST_ENTRY) for number in range(1_000_000, 1_000_000 + full)}
    known = Kept(999_999 + full, {number: one.digest for number, one in there.items()})
    leaving = [held(known.to + number, cost=SMALLEST_ENTRY) for number in range(1, arriving + 1)]
    index, given_up = keep(known, there.values(), leaving, known.to + arriving, kept_bytes(segment_bytes))
    assert len(given_up) == arriving
    assert len(index.dump()) < LARGEST_CONFIG_MAP * 0.8, "the tenants' losses and the head itself need room, too"


OWNERS = st.tuples(st.sampled_from(["quiet", "noisy", "third"]), st.sampled_from(["blue", "red"]), st.integers(1, 300))


@given(st.lists(OWNERS, max_size=40))
def test_no_tenant_loses_an_entry_while_it_takes_no_more_than_an_equal_share(owners: list[tuple[str, str, int]]) -> None:
    arriving = [held(number, tenant, cost, name) for number, (tenant, name, cost) in enumerate(owners, start=1)]
    index = kept_after(arriving)
    left = [one for one in arriving if one.sequence in index.digests]
    assert sum(one.cost for one in left) <= BUDGET
    tenants = {one.tenant for one in arriving}
    for tenant in tenants:
        its = [one for one in arriving if one.tenant == tenant]
        lost = [one for one in its if one.sequence not in index.digests]
        if sum(one.cost for one in its) <= BUDGET // len(tenants):
            assert not lost
        newest = max(lost, key=lambda one: one.sequence, default=None)
        assert index.whole_after(str(tenant)) == (Loss(newest.sequence, newest.at) if newest is not None else Loss())


@given(st.lists(OWNERS, min_size=1, max_size=40))
def test_no_namespace_of_a_tenant_loses_an_entry_while_it_takes_no_more_than_an_equal_share_of_that(
    owners: list[tuple[str, str, int]],
) -> None:
    arriving = [held(number, "one", cost, name) for number, (_, name, cost) in enumerate(owners, start=1)]
    index = kept_after(arriving)
    for name in ("blue", "red"):
        its = [one for one in arriving if one.namespace == name]
        if sum(one.cost for one in its) <= BUDGET // 2:
            assert {one.sequence for one in its} <= index.digests.keys()


def test_3500_entries_of_one_tenant_take_nothing_from_another() -> None:
    quiet = [held(1), held(2_000), held(3_000)]
    noisy = [held(number, "noisy") for number in range(1, 3_501) if number not in {1, 2_000, 3_000}]
    index = kept_after(sorted([*quiet, *noisy], key=lambda one: one.sequence))
    assert {one.sequence for one in quiet} <= index.digests.keys()
    assert (index.whole_after("quiet"), index.whole_after("noisy")) == (Loss(), Loss(3_493, "at 3493"))


def test_an_entry_that_somebody_removed_stays_named_until_it_grows_old_and_then_bounds_what_is_said_of_everybody() -> None:
    before = kept_after([held(1), held(2), held(3)])
    index, _ = keep(before, [held(1), held(3)], [held(4)], 4, 2_000)
    assert 2 in index.digests
    index, given_up = keep(index, [held(1), held(3), held(4)], [held(5)], 5, 1_300)
    assert [one.sequence for one in given_up] == [2]
    assert index.whole_after("quiet") == Loss(2)
    assert index.going == {}


def test_entries_that_left_without_being_read_bound_what_is_said_of_everybody() -> None:
    index, _ = keep(Kept(), [], [held(1), held(4)], 4, BUDGET)
    assert {tenant: index.whole_after(tenant) for tenant in ("quiet", "noisy")} == {"quiet": Loss(3), "noisy": Loss(3)}


def test_what_could_not_be_removed_yet_is_still_going() -> None:
    before, _ = keep(kept_after([held(1), held(2), held(3)]), [held(1), held(2), held(3)], [held(4)], 4, 300)
    assert before.going == {1: held(1).digest}
    after, _ = keep(before, [held(number) for number in range(1, 5)], [held(5)], 5, 300)
    assert after.going == {1: held(1).digest, 2: held(2).digest}


@given(st.lists(OWNERS, max_size=20))
def test_an_index_is_read_as_it_was_written(owners: list[tuple[str, str, int]]) -> None:
    index = kept_after([held(number, tenant, cost) for number, (tenant, _, cost) in enumerate(owners, start=1)])
    assert parse_kept(index.dump()) == index


@pytest.mark.parametrize("line", ["", "[]", "{}", "1", '{"to":1}', '{"to":"x","entries":{}}', "[" * 10_000])
def test_another_text_is_no_index(line: str) -> None:
    assert parse_kept(line) is None


@dataclass(frozen=True)
class Shared:
    """A record of which entries 1 to `to` have left the newest part, and some of them are kept."""

    entries: list[Entry]
    index: Kept
    head: Head

    @property
    def there(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.sequence > self.index.to or entry.sequence in self.index.digests]

    def verdict(self, entries: list[Entry], copy: list[Entry] | None = None) -> Verdict:
        return verify(lines(entries), self.head, copy or [], kept=self.index)


@st.composite
def shared_records(draw: st.DrawFn) -> Shared:
    tenants = draw(st.lists(st.sampled_from(["quiet", "noisy", "noisy", "noisy"]), min_size=4, max_size=14))
    entries = record(
        change(number, tenant=tenant, subject=Subject("EncryptedResource", tenant, "docs", tenant))
        for number, tenant in enumerate(tenants)
    )
    to = draw(st.integers(1, len(entries) - 1))
    leaving = [held_of(entry, 100) for entry in entries[:to]]
    index, _ = keep(Kept(), [], leaving, to, draw(st.integers(100, 800)))
    head, _ = with_index(Head(entries[-1].anchor, entries[to - 1].anchor), replace(index, going={}))
    return Shared(entries, replace(index, going={}), head)


def _named(verdict: Verdict) -> set[int]:
    return {number for one in verdict.findings for number in range(one.first, one.last + 1)}


@given(shared_records())
def test_a_record_of_which_a_part_is_kept_is_whole_and_says_from_when_on(shared: Shared) -> None:
    verdict = shared.verdict(shared.there, shared.entries)
    assert verdict.findings == ()
    tenants = {str(entry.body["tenant"]) for entry in shared.entries}
    assert verdict.extents == tuple(Extent(tenant, shared.index.whole_after(tenant)) for tenant in sorted(tenants))
    there = {entry.sequence for entry in shared.there}
    for extent in verdict.extents:
        its = {entry.sequence for entry in shared.entries if entry.body["tenant"] == extent.tenant}
        assert {number for number in its if number > extent.after.sequence} <= there
        assert extent.after.sequence not in there


@given(shared_records(), st.data())
def test_a_kept_entry_that_is_removed_is_found_and_named(shared: Shared, data: st.DataObject) -> None:
    assume(shared.index.digests)
    gone = data.draw(st.sampled_from(sorted(shared.index.digests)))
    verdict = shared.verdict([entry for entry in shared.there if entry.sequence != gone])
    assert (gone in _named(verdict), {one.flaw for one in verdict.findings}) == (True, {Flaw.MISSING})


@given(shared_records(), st.data())
def test_a_kept_entry_that_is_edited_is_found_and_named_even_with_a_corrected_hash(shared: Shared, data: st.DataObject) -> None:
    assume(shared.index.digests)
    number = data.draw(st.sampled_from(sorted(shared.index.digests)))
    body = json.loads(shared.entries[number - 1].line) | {"why": "another reason than any of these"}
    del body["hash"]
    body["hash"] = sha256(rfc8785.dumps(body)).hexdigest()
    edited = parse_entry(rfc8785.dumps(body).decode())
    assert edited is not None
    verdict = shared.verdict([edited if entry.sequence == number else entry for entry in shared.there])
    assert (Flaw.EDITED, number) in {(one.flaw, one.first) for one in verdict.findings}


@given(shared_records(), st.data())
def test_an_entry_that_is_added_to_the_kept_ones_is_found_and_named(shared: Shared, data: st.DataObject) -> None:
    given_up = [entry for entry in shared.entries[: shared.index.to] if entry.sequence not in shared.index.digests]
    assume(given_up)
    template = data.draw(st.sampled_from(given_up))
    [forged] = record([change(99)], replace(template.anchor, sequence=template.sequence - 1))
    verdict = shared.verdict([*shared.there, forged])
    assert (Flaw.ADDED, forged.sequence) in {(one.flaw, one.first) for one in verdict.findings}


@given(shared_records())
def test_an_index_that_is_removed_or_edited_is_found(shared: Shared) -> None:
    assert not verify(lines(shared.there), shared.head).whole
    edited = replace(shared.index, lost={"quiet": Loss(shared.index.to)})
    assume(edited != shared.index)
    assert not verify(lines(shared.there), shared.head, kept=edited).whole


@given(shared_records())
def test_an_export_says_which_of_its_older_entries_are_kept(shared: Shared) -> None:
    export = [index_line(shared.index), *(entry.line for entry in shared.there)]
    read = lines_in(export, "record.ndjson")
    assert [line.text for line in read] == [entry.line for entry in shared.there]
    verdict = verify(read, kept=index_in(export), repeats_allowed=True)
    assert verdict.findings == ()
    assert {extent.tenant: extent.after for extent in verdict.extents} == {
        tenant: shared.index.whole_after(tenant) for tenant in {str(entry.body["tenant"]) for entry in shared.entries}
    }
    assert index_in([entry.line for entry in shared.entries]) is None


@given(shared_records())
def test_entries_are_read_once_while_they_are_copied(shared: Shared) -> None:
    def data(entries: list[Entry]) -> dict[str, str]:
        return {f"{entry.sequence:012d}": entry.line for entry in entries}

    head, line = with_index(shared.head, shared.index)
    found = [
        {"metadata": {"name": "cmk-operator-audit"}, "data": {"head": head.dump(), "kept": line}},
        {"metadata": {"name": kept_name(0)}, "data": data(shared.there[:2])},
        {"metadata": {"name": segment_name(0)}, "data": data(shared.there)},
    ]
    assert [one.text for one in lines_of(found)] == [entry.line for entry in shared.there]
    assert (head_of(found), kept_of(found)) == (head, shared.index)


def test_an_older_version_that_wrote_in_between_bounds_what_is_said_of_everybody() -> None:
    entries = record(change(number, tenant="quiet") for number in range(6))
    index, _ = keep(Kept(), [], [held_of(entry, 100) for entry in entries[:2]], 2, BUDGET)
    head = Head(entries[-1].anchor, entries[3].anchor)
    verdict = verify(lines([*entries[:2], *entries[4:]]), head, kept=index)
    assert verdict == Verdict(1, 6, 4, (), (Extent("", Loss(4)), Extent("quiet", Loss(4))))
