"""The record: one chain for each organization, which nobody changes unnoticed."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner

from cmk_keyservice.audit.counters import Counters
from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.audit.record import KEY_SERVICE, Event, Record
from cmk_keyservice.problem import ProblemError
from cmk_keyservice.store.store import Store
from cmk_operator.cli.commands import cmk
from cmk_operator.core.audit.verification import Flaw
from tests.keyservice.rows import WAITING

if TYPE_CHECKING:
    from pathlib import Path


def _used(number: int) -> Record:
    return Record(Event.KEY_USED, KEY_SERVICE, f"unwrap {number}", target="https://v/keys/k/1", request_id=f"request-{number}")


async def _with_entries(store: Store, count: int = 5) -> Journal:
    journal = Journal(store)
    for number in range(count):
        await journal.append("acme", [_used(number)])
    return journal


async def _exported(journal: Journal, file: Path) -> str:
    file.write_text("".join([f"{line}\n" async for line in journal.lines("acme")]))  # noqa: ASYNC240 - nothing else runs
    return str(file)


def _tampered(url: str, *statements: str) -> None:
    """What somebody does who owns the database: without the triggers."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit DISABLE TRIGGER ALL")
        for statement in statements:
            connection.execute(statement)


async def test_an_export_is_verified_by_the_operators_command(store: Store, tmp_path: Path) -> None:
    journal = await _with_entries(store)
    done = CliRunner().invoke(cmk, ["audit", "verify", await _exported(journal, tmp_path / "record.ndjson")])
    assert done.exit_code == 0, done.output
    assert "Whole: 6 entries, 1 to 6" in done.output
    first, second, *_ = [json.loads(line) async for line in journal.lines("acme")]
    assert (first["event"], first["organization"], first["sequence"]) == ("RecordStarted", "acme", 1)
    assert (second["event"], second["azureRequestId"], second["by"]) == ("KeyUsed", "request-0", "cmk-keyservice")


async def test_writers_of_two_replicas_share_one_chain(store: Store, database_url: str) -> None:
    other = await Store.open(database_url)
    journals = [Journal(store), Journal(other)]
    anchors = await asyncio.gather(*(journals[number % 2].append("acme", [_used(number)]) for number in range(40)))
    verdict = await journals[0].verify("acme")
    assert (verdict.whole, verdict.entries) == (True, 41)
    assert max(anchor.sequence for anchor in anchors) == 41
    written = {json.loads(line).get("azureRequestId") async for line in journals[1].lines("acme")}
    assert written == {None, *(f"request-{number}" for number in range(40))}
    await other.close()


async def test_a_writer_waits_for_another_that_has_not_committed(store: Store, database_url: str) -> None:
    journal = await _with_entries(store, 1)
    other = await Store.open(database_url)
    async with store.transaction() as connection:
        assert (await journal.append_within("acme", [_used(1)], connection)).sequence == 3
        waiting = asyncio.create_task(Journal(other).append("acme", [_used(2)]))
        while (await store.rows(WAITING))[0][0] == 0:
            assert not waiting.done()
    assert (await waiting).sequence == 4
    assert (await journal.verify("acme")).whole
    await other.close()


async def test_each_organization_has_a_chain_of_its_own(store: Store) -> None:
    journal = await _with_entries(store, 2)
    assert (await journal.append("other", [_used(0)])).sequence == 2
    assert [json.loads(line)["organization"] async for line in journal.lines("other")] == ["other", "other"]
    assert (await journal.verify("acme")).entries == 3
    assert (await journal.verify("nobody")).entries == 0


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET entry = ''", "DELETE FROM audit", "TRUNCATE audit", "DELETE FROM audit WHERE false"],
)
async def test_the_database_refuses_to_change_or_remove_an_entry(store: Store, database_url: str, statement: str) -> None:
    await _with_entries(store, 1)
    with (
        psycopg.connect(database_url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="never changed"),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "flaw", "concerned"),
    [
        (["UPDATE audit SET entry = replace(entry, 'unwrap 2', 'unwrap 9') WHERE sequence = 4"], Flaw.EDITED, 4),
        (["DELETE FROM audit WHERE sequence = 3"], Flaw.MISSING, 3),
        (["DELETE FROM audit WHERE sequence = 1"], Flaw.MISSING, 1),
        (["DELETE FROM audit WHERE sequence = 6"], Flaw.TRUNCATED, 6),
        (["DELETE FROM audit"], Flaw.TRUNCATED, 1),
        (["DELETE FROM chain"], Flaw.MISSING, 0),
        (["UPDATE audit SET entry = 'gone' WHERE sequence = 2"], Flaw.UNREADABLE, 2),
        (
            [
                "UPDATE audit SET sequence = 100 WHERE sequence = 3",
                "UPDATE audit SET sequence = 3 WHERE sequence = 4",
                "UPDATE audit SET sequence = 4 WHERE sequence = 100",
            ],
            Flaw.OUT_OF_ORDER,
            3,
        ),
    ],
    ids=["edited", "deleted", "beginning deleted", "cut", "emptied", "head deleted", "overwritten", "swapped"],
)
async def test_what_the_owner_of_the_database_changes_is_found(
    store: Store, database_url: str, statements: list[str], flaw: Flaw, concerned: int
) -> None:
    journal = await _with_entries(store)
    _tampered(database_url, *statements)
    found = (await journal.verify("acme")).findings
    assert (flaw, concerned) in {(finding.flaw, finding.first) for finding in found}


async def test_a_record_that_was_cut_with_its_head_is_found_by_an_earlier_export(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    journal = await _with_entries(store)
    earlier = await _exported(journal, tmp_path / "earlier.ndjson")
    _tampered(
        database_url,
        "DELETE FROM audit WHERE sequence = 6",
        "UPDATE chain SET sequence = 5, digest = (SELECT hash FROM audit WHERE sequence = 5)",
    )
    assert (await journal.verify("acme")).whole
    await journal.append("acme", [_used(99)])
    now = await _exported(journal, tmp_path / "now.ndjson")
    done = CliRunner().invoke(cmk, ["audit", "verify", now, "--against", earlier])
    assert done.exit_code == 1
    assert "entry 6 is another one than in the copy" in done.output


async def test_a_log_of_all_organizations_and_the_operator_is_verified_chain_by_chain(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cmk_keyservice.audit")
    journal = Journal(store)
    for number in range(4):
        await journal.append(("acme", "other")[number % 2], [_used(number)])
    logged = [
        json.dumps({"level": "INFO", "message": record.message, "audit": record.__dict__["audit"]}) for record in caplog.records
    ]
    file = tmp_path / "log"
    for lines, code, told in (
        (logged, 0, "Whole: 6 entries, 1 to 3"),
        ([line for line in logged if "unwrap 0" not in line], 1, "organization acme: entry 2 is missing"),
    ):
        file.write_text("\n".join(lines))
        done = CliRunner().invoke(cmk, ["audit", "verify", str(file)])
        assert (done.exit_code, told in done.output) == (code, True), done.output


async def test_an_act_and_its_entry_are_stored_together_or_not_at_all(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cmk_keyservice.audit")
    journal = Journal(store)

    async def failing() -> None:
        async with store.transaction() as connection:
            await journal.append_within("acme", [_used(0)], connection)
            raise KeyError("the act failed")

    with pytest.raises(KeyError):
        await failing()
    assert [line async for line in journal.lines("acme")] == []
    assert caplog.records == []
    async with store.transaction() as connection:
        await journal.append_within("acme", [_used(1)], connection)
    logged = [record.__dict__["audit"] for record in caplog.records]
    assert logged == [json.loads(line) async for line in journal.lines("acme")]


async def test_everybody_who_waits_is_told_that_the_record_could_not_be_written(store: Store, database_url: str) -> None:
    journal = Journal(store)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE chain RENAME TO elsewhere")
        outcomes = await asyncio.gather(*(journal.append("acme", [_used(n)]) for n in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ProblemError] * 3
        connection.execute("ALTER TABLE elsewhere RENAME TO chain")
    assert (await journal.append("acme", [_used(3)])).sequence == 2


async def test_texts_of_an_entry_are_bounded_redacted_and_always_storable(store: Store) -> None:
    journal = Journal(store)
    why = "client_secret=abcdef \ud800 \0 " + "x" * 5000
    await journal.append("acme", [Record(Event.KEY_REFUSED, KEY_SERVICE, why)])
    *_, last = [json.loads(line) async for line in journal.lines("acme")]
    assert "abcdef" not in last["why"]
    assert len(last["why"]) == 1024
    assert (await journal.verify("acme")).whole


async def test_the_data_operations_of_a_minute_are_one_entry_over_all_replicas(store: Store, database_url: str) -> None:
    other = await Store.open(database_url)
    replicas = [Counters(store, Journal(store)), Counters(other, Journal(other))]
    for replica in replicas:
        replica.count("acme", "shop/orders", "encrypt", "key-1", items=100)
        replica.count("acme", "shop/orders", "encrypt", "key-1", refused=2, items=0)
        replica.count("acme", "shop/orders", "decrypt", "key-1")
        await replica.flush()
    await replicas[0].record()
    journal = Journal(store)
    assert [line async for line in journal.lines("acme")] == []  # the minute is not over
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE counter SET minute = '2026-01-02T03:04:00Z'")
    await asyncio.gather(*(replica.record() for replica in replicas))
    *_, entry = [json.loads(line) async for line in journal.lines("acme")]
    assert entry["sequence"] == 2
    assert (entry["event"], entry["minute"]) == ("DataOperations", "2026-01-02T03:04Z")
    assert entry["operations"] == [
        {"service": "shop/orders", "operation": "decrypt", "dataKey": "key-1", "items": 2, "refused": 0},
        {"service": "shop/orders", "operation": "encrypt", "dataKey": "key-1", "items": 200, "refused": 4},
    ]
    assert (await journal.verify("acme")).whole
    assert await store.due_counters() == []
    await other.close()


async def test_a_record_that_lost_its_head_is_a_problem_of_its_own_organization(store: Store, database_url: str) -> None:
    journal = await _with_entries(store)
    _tampered(database_url, "DELETE FROM chain")
    with pytest.raises(ProblemError) as altered:
        await journal.append("acme", [_used(5)])
    assert (altered.value.problem.code, altered.value.problem.retryable) == ("RecordAltered", False)
    counters = Counters(store, journal)
    for organization in ("acme", "globex"):
        counters.count(organization, "shop/orders", "encrypt", "key-1")
    await counters.flush()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE counter SET minute = '2026-01-02T03:04:00Z'")
    await counters.record()
    assert [organization for organization, _ in await store.due_counters()] == ["acme"]
    assert (await journal.verify("globex")).whole


async def test_counts_wait_for_a_database_that_is_gone(store: Store, database_url: str) -> None:
    counters = Counters(store, Journal(store))
    counters.count("acme", "shop/orders", "encrypt", "key-1", items=3)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE counter RENAME TO elsewhere")
        with pytest.raises(ProblemError):
            await counters.flush()
        connection.execute("ALTER TABLE elsewhere RENAME TO counter")
        counters.count("acme", "shop/orders", "encrypt", "key-1", items=4)
        await counters.flush()
        assert connection.execute("SELECT items FROM counter").fetchall() == [(7,)]
