"""The audit log of the page: whose entries it has, from when on they are all there, what a filter chooses, and what is exported."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from cmk_keyservice.console.record import (
    PAGE_ENTRIES,
    Filter,
    Whole,
    as_lines,
    as_table,
    filter_of,
    kind_of,
    one_page,
    snapshot_of,
    whole_from,
)
from cmk_operator.core.audit.change import Event, Subject
from cmk_operator.core.audit.kept import Kept, Loss
from cmk_operator.core.audit.layout import HEAD_KEY, HEAD_NAME, Head, entry_key, segment_name
from tests.unit.audit.records import change, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.core.audit.chain import Entry
    from cmk_operator.core.audit.change import Change

ACME = Subject("OrganizationKey", "team", "acme", "uid-acme")
OTHER = Subject("OrganizationKey", "team", "other", "uid-other")
NAMED_LIKE_IT = Subject("OrganizationKey", "team", "acme", "uid-of-one-that-was-deleted")


def configured(generation: int, tenant: str = "contoso", **fields: Any) -> Change:
    known: dict[str, Any] = {
        "event": Event.CONFIGURATION_CHANGED,
        "subject": ACME,
        "by": "field manager console, for s (alice)",
    }
    return change(generation, **known | {"after": f"generation {generation}", "tenant": tenant} | fields)


def found(number: int, tenant: str = "contoso", **fields: Any) -> Change:
    return change(number, **{"subject": ACME, "event": Event.KEY_ACCESS_CHANGED, "tenant": tenant} | fields)


def config_maps(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    head = Head(last=entries[-1].anchor)
    data = {entry_key(entry.sequence): entry.line for entry in entries}
    return [
        {"metadata": {"name": HEAD_NAME}, "data": {HEAD_KEY: head.dump()}},
        {"metadata": {"name": segment_name(0)}, "data": data},
    ]


def test_an_organization_has_the_entries_of_its_own_object_and_of_no_other() -> None:
    entries = record([configured(1), configured(1, subject=OTHER), change(3), found(4), configured(2, subject=NAMED_LIKE_IT)])
    snapshot = snapshot_of(config_maps(entries))
    assert (snapshot.intact, snapshot.present) == (True, True)
    assert [entry.sequence for entry in snapshot.entries["uid-acme"]] == [1, 4]
    assert snapshot.entries.keys() == {"uid-acme", "uid-other", "uid-of-one-that-was-deleted"}


@pytest.mark.parametrize("harm", ["edited", "removed", "no head"])
def test_a_record_that_somebody_altered_is_not_called_intact(harm: str) -> None:
    bodies = config_maps(record([configured(1), configured(1, subject=OTHER), found(3)]))
    match harm:
        case "edited":
            bodies[1]["data"][entry_key(2)] = bodies[1]["data"][entry_key(2)].replace("alice", "bea")
        case "removed":
            del bodies[1]["data"][entry_key(3)]
        case _:
            del bodies[0]
    assert not snapshot_of(bodies).intact
    assert snapshot_of([]).intact


@pytest.mark.parametrize(
    ("changes", "kept", "whole"),
    [
        ([], Kept(), Whole(from_the_first=True)),
        ([], Kept(lost={"contoso": Loss(3, "t3")}), Whole(from_the_first=False)),
        ([configured(1), found(2), configured(2)], Kept(), Whole(from_the_first=True)),
        # Of what other tenants lose, nothing is lost here.
        ([configured(1), found(2)], Kept(lost={"fabrikam": Loss(9, "t9")}), Whole(from_the_first=True)),
        ([configured(1), found(2), found(3)], Kept(lost={"contoso": Loss(1, "t1")}), Whole(from_the_first=False, since="t1")),
        ([configured(1), found(2, at="t2")], Kept(lost_by_all=Loss(1)), Whole(from_the_first=False, since="t2")),
        # The entry of generation 1 was another tenant's, of which nothing is left.
        ([configured(2, at="t2"), found(3)], Kept(), Whole(from_the_first=False, since="t2")),
        ([configured(1), configured(2), configured(4, at="t4")], Kept(), Whole(from_the_first=False, since="t4")),
        ([found(1, at="t1"), found(2)], Kept(), Whole(from_the_first=False, since="t1")),
        # Moved to another tenant, which has lost the newest of its entries.
        (
            [configured(1), configured(2, "fabrikam")],
            Kept(lost={"fabrikam": Loss(1, "t1")}),
            Whole(from_the_first=False, since="t1"),
        ),
    ],
    ids=str,
)
def test_the_record_is_whole_from_where_nothing_of_this_organization_can_be_missing(
    changes: list[Change], kept: Kept, whole: Whole
) -> None:
    assert whole_from(record(changes), kept) == whole


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (configured(1), "Manual"),
        (configured(1, by="unknown"), "Manual"),
        (change(event=Event.MANIFEST_DELETED, by="unknown"), "Manual"),
        (change(by="field manager gitops"), "Manual"),
        (change(by="cmk-operator"), "Automatic"),
        (change(event=Event.KEY_ACCESS_CHANGED, by="Azure or the customer"), "Automatic"),
        (change(event=Event.LICENCE_CHANGED, by="the provider"), "Automatic"),
    ],
)
def test_a_change_is_manual_if_somebody_changed_the_settings(one: Change, kind: str) -> None:
    (entry,) = record([one])
    assert kind_of(entry) == kind


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ({}, [1, 2, 3]),
        ({"kind": "Manual"}, [1]),
        ({"kind": "Automatic", "event": "KeyAccessChanged"}, [2]),
        ({"first": "2026-11-26"}, [2, 3]),
        ({"last": "2026-11-25", "unknown": "x"}, [1]),
        ({"first": "2026-11-26", "last": "2026-11-26"}, [2]),
    ],
    ids=str,
)
def test_a_filter_chooses_by_kind_event_and_day(query: dict[str, str], chosen: list[int]) -> None:
    entries = record(
        [
            configured(1, at="2026-11-25T23:59:59Z"),
            found(2, at="2026-11-26T00:00:00Z"),
            change(3, subject=ACME, at="2026-11-27T10:00:00Z"),
        ]
    )
    read = filter_of(query)
    assert isinstance(read, Filter)
    assert [entry.sequence for entry in entries if read.wants(entry)] == chosen
    assert filter_of(read.query) == read


@pytest.mark.parametrize("query", [{"kind": "x"}, {"event": "x"}, {"first": "yesterday"}, {"last": "2026-13-01"}], ids=str)
def test_a_filter_that_is_none_is_told(query: dict[str, str]) -> None:
    assert isinstance(filter_of(query), str)


def test_pages_go_from_the_newest_to_the_oldest_and_leave_none_out() -> None:
    entries, shown, before = record([found(number) for number in range(2 * PAGE_ENTRIES + 1)]), [], 0
    while True:
        page, before = one_page(entries, before)
        shown += [entry.sequence for entry in page]
        if not before:
            break
    assert shown == sorted((entry.sequence for entry in entries), reverse=True)


def test_an_export_has_each_entry_as_recorded_and_a_table_no_formulas() -> None:
    entries = record([found(1, why="=HYPERLINK(1)"), found(2, before="a,b", by='"x"')])
    assert as_lines(entries).splitlines() == [entry.line for entry in entries]
    rows = list(csv.DictReader(io.StringIO(as_table(entries))))
    assert [row["why"] for row in rows] == ["'=HYPERLINK(1)", "the manifest says so"]
    assert (rows[1]["from"], rows[1]["by"], rows[1]["kind"]) == ("a,b", '"x"', "Automatic")
