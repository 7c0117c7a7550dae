"""The commands by which the provider rotates the internal key ring and hands out a record."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from click.testing import CliRunner

from cmk_keyservice.__main__ import main
from cmk_keyservice.audit.journal import Journal
from cmk_keyservice.audit.record import KEY_SERVICE, Event, Record
from cmk_keyservice.crypto.key_ring import KeyRing, RingName, new_key_ring
from cmk_keyservice.store.store import Store
from cmk_operator.cli.commands import cmk
from tests.keyservice.first_data_keys import mint, opened
from tests.keyservice.rows import FENCE

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Shell:
    """Runs commands against one database."""

    def __init__(self, url: str, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.url, self._patch, self._captured = url, patch, captured

    def run(self, *arguments: str, url: str | None = None) -> Done:
        """Run a command in this process."""
        self._patch.setenv("CMK_KEYSERVICE_DATABASE_URL", url or self.url)
        return Done(main(arguments), *self._captured.readouterr())


@pytest.fixture
def shell(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell whose environment names a new database."""
    return Shell(database_url, monkeypatch, capsys)


async def _mint(url: str, ring: KeyRing) -> tuple[UUID, bytes]:
    """The id and the bytes of a first data key."""
    store = await Store.open(url)
    await store.observe("acme", FENCE, "shop")
    key = await mint(store, ring)
    await store.close()
    return key.id, key.material


async def _material(url: str, id_: UUID, ring: KeyRing) -> bytes:
    store = await Store.open(url)
    row = await store.data_key(id_)
    await store.close()
    assert row is not None
    return opened(row, ring).material


async def _record(url: str) -> None:
    store = await Store.open(url)
    await Journal(store).append("acme", [Record(Event.KEY_USED, KEY_SERVICE, "unwrap")])
    await store.close()


def test_the_internal_key_ring_is_rotated_by_commands_and_everything_still_opens(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ring.json"

    def write(document: str) -> KeyRing:
        file.write_text(document)
        return KeyRing.parse(RingName.INTERNAL, document.encode())

    old = write(shell.run("new-keyring", "-").out)
    id_, material = asyncio.run(_mint(shell.url, old))
    added = write(shell.run("add-key", str(file)).out)
    (new_id,) = added.key_ids - old.key_ids
    write(shell.run("use-key", str(file), str(new_id)).out)

    too_early = shell.run("remove-key", str(file), str(old.primary_id))
    assert (too_early.code, too_early.out) == (1, "")
    assert f"1 values in the database are sealed by key {old.primary_id}" in too_early.err
    sealed = shell.run("seal-again", "--internal-keyring-file", str(file))
    assert (sealed.code, "1; none is left" in sealed.err) == (0, True), sealed.err
    last = write(shell.run("remove-key", str(file), str(old.primary_id)).out)
    assert last.key_ids == {new_id}
    assert asyncio.run(_material(shell.url, id_, last)) == material


def test_a_record_is_exported_by_a_command_and_verified(shell: Shell, tmp_path: Path) -> None:
    asyncio.run(_record(shell.url))
    done = shell.run("export-record", "acme")
    assert done.code == 0, done.err
    assert [json.loads(line)["sequence"] for line in done.out.splitlines()] == [1, 2]
    file = tmp_path / "acme.ndjson"
    file.write_text(done.out)
    assert CliRunner().invoke(cmk, ["audit", "verify", str(file)]).exit_code == 0
    nobody = shell.run("export-record", "nobody")
    assert (nobody.code, nobody.out) == (1, "")
    assert "there is no record of organization nobody" in nobody.err


def test_a_command_that_cannot_work_says_why(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ring.json"
    file.write_bytes(new_key_ring())
    asyncio.run(_mint(shell.url, KeyRing.parse(RingName.INTERNAL, new_key_ring())))
    wrong = shell.run("seal-again", "--internal-keyring-file", str(file))
    assert (wrong.code, "the database is sealed by key" in wrong.err) == (1, True), wrong.err
    no_number = shell.run("remove-key", str(file), "first")
    assert (no_number.code, "not the number of a key" in no_number.err) == (2, True)
    unreachable = shell.run("export-record", "acme", url="postgresql://cmk:hunter2@127.0.0.1:1/keyservice")
    assert (unreachable.code, "hunter2" in unreachable.err) == (1, False)
    assert "check PostgreSQL" in unreachable.err
