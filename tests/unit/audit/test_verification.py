"""Every edit, deletion, truncation, reordering and doubling is found, and the entry is named."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.audit.chain import ORIGIN, Entry, Line, parse_entry
from cmk_operator.core.audit.layout import Head
from cmk_operator.core.audit.verification import Flaw, Verdict, verify
from tests.unit.audit.records import change, head_of, lines, record, records


def _flaws(verdict: Verdict) -> set[tuple[Flaw, int, int]]:
    return {(finding.flaw, finding.first, finding.last) for finding in verdict.findings}


def _named(verdict: Verdict) -> set[int]:
    return {number for finding in verdict.findings for number in range(finding.first, finding.last + 1)}


def _rehashed(entry: Entry, **fields: object) -> Entry:
    """An edit by somebody who knows the format, and corrects the hash."""
    body = {**json.loads(entry.line), **fields}
    del body["hash"]
    body["hash"] = sha256(rfc8785.dumps(body)).hexdigest()
    found = parse_entry(rfc8785.dumps(body).decode())
    assert found is not None
    assert found.is_intact
    return found


@given(records())
def test_an_untouched_record_is_whole(entries: list[Entry]) -> None:
    verdict = verify(lines(entries), head_of(entries), entries)
    assert verdict == Verdict(1, len(entries), len(entries))
    assert verdict.whole


@given(records(), st.data())
def test_any_edit_of_any_character_is_found_and_named(entries: list[Entry], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    line = entries[index].line
    place = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters(exclude_characters=line[place], codec="utf-8") | st.just(""))
    edited = line[:place] + other + line[place + 1 :]
    read = [Line(entry.line, "here", entry.sequence) for entry in entries]
    read[index] = replace(read[index], text=edited)
    verdict = verify(read, head_of(entries))
    assert not verdict.whole
    assert index + 1 in _named(verdict)


@given(records(2), st.data())
def test_an_edit_with_a_corrected_hash_is_found_and_named(entries: list[Entry], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    read = list(entries)
    read[index] = _rehashed(entries[index], why="another reason than any of these")
    assert _flaws(verify(lines(read), head_of(entries))) == {(Flaw.EDITED, index + 1, index + 1)}


@given(records(2), st.data())
def test_any_deletion_is_found_and_tells_from_where_to_where(entries: list[Entry], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(entries) - 1))
    last = data.draw(st.integers(first, len(entries) - 1))
    left = entries[:first] + entries[last + 1 :]
    flaw = Flaw.TRUNCATED if last == len(entries) - 1 else Flaw.MISSING
    assert _flaws(verify(lines(left), head_of(entries))) == {(flaw, first + 1, last + 1)}


@given(records(2), st.data())
def test_a_truncation_is_found_by_a_copy_when_the_head_was_cut_too(entries: list[Entry], data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, len(entries) - 1))
    cut = entries[:kept]
    assert verify(lines(cut), head_of(cut)).whole, "whoever may write everything deceives the cluster"
    assert _flaws(verify(lines(cut), head_of(cut), entries)) == {(Flaw.TRUNCATED, kept + 1, len(entries))}


@given(records(2), st.data())
def test_a_record_that_was_rewritten_as_a_whole_differs_from_its_copy(entries: list[Entry], data: st.DataObject) -> None:
    from_here = data.draw(st.integers(0, len(entries) - 1))
    anchor = entries[from_here - 1].anchor if from_here else ORIGIN
    forged = entries[:from_here] + record((change(number) for number in range(from_here, len(entries))), anchor)
    assert verify(lines(forged), head_of(forged)).whole
    verdict = verify(lines(forged), head_of(forged), entries)
    assert _flaws(verdict) == {(Flaw.DIFFERS_FROM_COPY, number, number) for number in range(from_here + 1, len(entries) + 1)}


@given(records(2), st.data())
def test_any_two_entries_that_changed_places_are_found(entries: list[Entry], data: st.DataObject) -> None:
    one = data.draw(st.integers(0, len(entries) - 2))
    other = data.draw(st.integers(one + 1, len(entries) - 1))
    read = list(entries)
    read[one], read[other] = read[other], read[one]
    verdict = verify(lines(read), head_of(entries))
    assert {finding.flaw for finding in verdict.findings} == {Flaw.OUT_OF_ORDER}
    assert one + 1 in _named(verdict)


@given(records(), st.data())
def test_an_entry_that_is_there_twice_is_found_but_in_a_log_it_may(entries: list[Entry], data: st.DataObject) -> None:
    twice = data.draw(st.sampled_from(entries))
    place = data.draw(st.integers(0, len(entries)))
    read = [*entries[:place], twice, *entries[place:]]
    assert (Flaw.DOUBLED, twice.sequence, twice.sequence) in _flaws(verify(lines(read), head_of(entries)))
    assert verify(lines(read), repeats_allowed=True).whole


@given(records(2), st.data())
def test_two_different_entries_of_one_number_are_a_fork_even_in_a_log(entries: list[Entry], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    forked = _rehashed(entries[index], why="another reason than any of these")
    verdict = verify(lines([*entries, forked]), repeats_allowed=True)
    assert (Flaw.DOUBLED, index + 1, index + 1) in _flaws(verdict)


@given(records(2), st.data())
def test_older_entries_may_be_gone_up_to_where_the_head_says_and_no_further(entries: list[Entry], data: st.DataObject) -> None:
    gone = data.draw(st.integers(1, len(entries) - 1))
    head = head_of(entries, entries[gone - 1].anchor)
    assert verify(lines(entries[gone:]), head, entries).whole
    assert verify(lines(entries[gone - 1 :]), head).whole, "they were to go, and the operator was ended before they did"
    assert _flaws(verify(lines(entries[gone + 1 :]), head)) >= {
        (Flaw.TRUNCATED if gone == len(entries) - 1 else Flaw.MISSING, gone + 1, gone + 1)
    }
    swapped = Head(head.last, replace(head.base, digest="f" * 64))
    assert (Flaw.EDITED, gone + 1, gone + 1) in _flaws(verify(lines(entries[gone:]), swapped))


def test_a_record_may_be_longer_than_its_head_says() -> None:
    # The head is written after the entries.
    entries = record(change(number) for number in range(5))
    assert verify(lines(entries), head_of(entries[:3])).whole


def test_all_entries_gone_is_a_truncation_and_an_empty_cluster_is_whole() -> None:
    entries = record(change(number) for number in range(5))
    assert _flaws(verify([], head_of(entries))) == {(Flaw.TRUNCATED, 1, 5)}
    assert verify([], Head()).whole
    assert verify([]).whole


def test_an_export_from_the_middle_is_whole_by_itself_and_not_with_another_beginning() -> None:
    entries = record(change(number) for number in range(5))
    assert verify(lines(entries[2:])) == Verdict(3, 5, 3)
    forged = record([change(7)], replace(ORIGIN, digest="a" * 64))
    assert _flaws(verify(lines(forged))) == {(Flaw.EDITED, 1, 1)}


def test_a_copy_that_ends_where_the_cluster_begins_is_joined_to_it() -> None:
    entries = record(change(number) for number in range(6))
    head = head_of(entries, entries[2].anchor)
    assert verify(lines(entries[3:]), head, entries[:3]).whole
    other = record(change(number + 9) for number in range(3))
    verdict = verify(lines(entries[3:]), head, other)
    assert _flaws(verdict) == {(Flaw.EDITED, 4, 4)}


def test_the_sentences_name_the_entry_and_the_place() -> None:
    entries = record(change(number) for number in range(6))
    read = [Line(entry.line, f"ConfigMap cmk-operator-audit-0, key {entry.sequence:012d}", entry.sequence) for entry in entries]
    read[1] = replace(read[1], text=read[1].text.replace("version 1", "version 9"))
    del read[3]
    messages = [finding.message for finding in verify(read[:-1], head_of(entries)).findings]
    assert messages == [
        "entry 2 was edited: its content does not have the hash that it states (ConfigMap cmk-operator-audit-0, key 000000000002)",
        "entry 4 is missing",
        "the record was cut: entry 6 at its end is missing, which the head counts",
    ]
