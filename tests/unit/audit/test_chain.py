"""Entries: their canonical form, their bounds, and ids that are the same for the same change."""

from __future__ import annotations

import json
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.audit.chain import ORIGIN, Entry, entry_of, follow, parse_entry
from cmk_operator.core.audit.change import Change, identity_of
from cmk_operator.core.audit.layout import SLOTS, Head, entry_key, parse_head, segment_name
from tests.unit.audit.records import TEXTS, change, changes, record, records


def test_the_form_of_an_entry_is_stable() -> None:
    # Records of earlier versions must verify for ever: a change of this line breaks them.
    entry = follow(ORIGIN, change(spec={"keyRef": {"name": "cmk"}, "mode": "Enforce"}))
    assert entry.line == (
        '{"at":"2026-11-25T10:00:00Z","azureRequestId":"request-1","by":"cmk-operator","event":"KeyChanged",'
        '"from":"a key of Microsoft",'
        f'"hash":"{entry.digest}","id":"{change().id}",'
        '"object":{"kind":"EncryptedResource","name":"docs","namespace":"team","uid":"uid-1"},'
        f'"previous":"{"0" * 64}","sequence":1,"spec":{{"keyRef":{{"name":"cmk"}},"mode":"Enforce"}},"to":"version 1",'
        '"why":"the manifest says so"}'
    )
    without_hash = entry.line.replace(f'"hash":"{entry.digest}",', "")
    assert entry.digest == sha256(without_hash.encode()).hexdigest()
    assert (change().id, entry.digest) == (
        "09df3250121008a990020e5c2ee847df",
        "c52fed026944a0451f590835939542a6bab372272263519e6168a79bb51f1d3e",
    )


@given(st.lists(changes(), min_size=1, max_size=3).map(record))
def test_every_entry_is_read_back_as_it_was_written(entries: list[Entry]) -> None:
    for entry in entries:
        found = parse_entry(entry.line)
        assert found == entry
        assert entry.is_intact
        # A log line holds the object, not the line: another JSON library may have written it.
        assert entry_of(json.loads(json.dumps(json.loads(entry.line), indent=1))) == entry


@given(changes())
def test_what_is_empty_is_left_out(one: Change) -> None:
    assert "" not in one.wire().values()
    assert None not in one.wire().values()


def test_texts_are_bounded_and_hold_no_token() -> None:
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    wire = change(why=f"refused: {jwt}", after="x" * 5000, spec={"scopes": ["y" * 5000]}).wire()
    assert wire["why"] == "refused: [token]"
    assert len(wire["to"]) == 1024
    assert set(wire["spec"]) == {"sha256"}
    assert len(record([change(why="w" * 9999, by="b" * 9999, before="c" * 9999, after="d" * 9999)])[0].line) < 9000


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_an_id_tells_every_part_apart(uid: str, what: str, epoch: str, after: str) -> None:
    known = identity_of(uid, what, epoch, after)
    assert known == identity_of(uid, what, epoch, after)
    assert known not in {
        identity_of(uid + "x", what, epoch, after),
        identity_of(uid, what + "x", epoch, after),
        identity_of(uid, what, epoch + "x", after),
        identity_of(uid, what, epoch, after + "x"),
    }


@given(st.text() | st.sampled_from(["[]", "{}", "null", '{"sequence":true}', '{"a":' * 50_000, '{"sequence":1e400}']))
def test_no_other_text_is_an_entry(text: str) -> None:
    assert parse_entry(text) is None


@given(records())
def test_a_head_is_read_back_and_nothing_else_is_one(entries: list[Entry]) -> None:
    head = Head(entries[-1].anchor, entries[0].anchor, 3)
    assert parse_head(head.dump()) == head
    assert parse_head(head.dump()[:-1]) is None
    assert parse_head("[]") is None


def test_slots_and_keys_have_the_names_that_the_chart_allows() -> None:
    assert [segment_name(slot) for slot in (0, SLOTS - 1)] == ["cmk-operator-audit-0", "cmk-operator-audit-63"]
    assert sorted(entry_key(number) for number in (10, 9, 100_000)) == [entry_key(9), entry_key(10), entry_key(100_000)]
