"""`kubectl cmk audit` on a real API server, through the real kubectl: what it says of a record, and of one that was tampered with."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.audit.kept import Kept, held_of, keep
from cmk_operator.core.audit.layout import HEAD_KEY, HEAD_NAME, KEPT_KEY, Head, entry_key, kept_name, segment_name, with_index
from tests.unit.audit.records import change, head_of, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from cmk_operator.core.audit.chain import Entry
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster
_NUMBERS = itertools.count(1)


@dataclass
class Cabinet:
    """A namespace with a record of five entries in two segments."""

    cluster: Cluster
    namespace: str = field(default_factory=lambda: f"audit-cli-{next(_NUMBERS)}")
    entries: list[Entry] = field(default_factory=lambda: record(change(number) for number in range(5)))

    def put(self, name: str, data: dict[str, str]) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self.cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(body))

    def fill(self, head: Head | None = None) -> None:
        self.cluster.kubectl("create", "namespace", self.namespace)
        for slot, entries in enumerate((self.entries[:3], self.entries[3:])):
            self.put(segment_name(slot), {entry_key(entry.sequence): entry.line for entry in entries})
        self.put(HEAD_NAME, {HEAD_KEY: (head or head_of(self.entries)).dump()})
        self.put("something-else", {"000000000001": "not of the record"})

    def log(self) -> str:
        """What the operator's log has of it, with other lines between and the first entry twice."""
        lines = [
            json.dumps({"time": "now", "level": "INFO", "logger": "cmk_operator.audit", "message": "m", "audit": entry.body})
            for entry in (self.entries[0], *self.entries)
        ]
        unrecorded = {"level": "ERROR", "message": "m", "audit": {"event": "KeyChanged", "recorded": False}}
        return "\n".join([json.dumps({"level": "INFO", "message": "started"}), *lines, json.dumps(unrecorded), ""])


@pytest.fixture
def cabinet(cluster: Cluster) -> Cabinet:
    cabinet = Cabinet(cluster)
    cabinet.fill()
    return cabinet


def _verdict(done: Result) -> tuple[int, list[dict[str, Any]]]:
    found = json.loads(done.stdout)
    assert found["whole"] is (done.exit_code == 0)
    return done.exit_code, found["findings"]


def test_a_whole_record_is_told_so_with_its_extent(run: Callable[..., Result], cabinet: Cabinet) -> None:
    done = run("audit", "verify", "-n", cabinet.namespace)
    assert (done.exit_code, done.stdout) == (0, f"Whole: 5 entries, 1 to 5, in namespace {cabinet.namespace}\n")


def test_it_is_said_from_when_on_the_record_of_each_tenant_is_whole(
    run: Callable[..., Result], cluster: Cluster, tmp_path: Path
) -> None:
    tenants = ["quiet", "noisy", "noisy", "noisy", "quiet", "noisy"]
    cabinet = Cabinet(cluster, entries=record(change(number, tenant=tenant) for number, tenant in enumerate(tenants)))
    cluster.kubectl("create", "namespace", cabinet.namespace)
    index, _ = keep(Kept(), [], [held_of(entry, 100) for entry in cabinet.entries[:4]], 4, 200)
    head, line = with_index(head_of(cabinet.entries, cabinet.entries[3].anchor), replace(index, going={}))
    for name, numbers in ((kept_name(0), sorted(index.digests)), (segment_name(7), [5, 6])):
        cabinet.put(name, {entry_key(number): cabinet.entries[number - 1].line for number in numbers})
    cabinet.put(HEAD_NAME, {HEAD_KEY: head.dump(), KEPT_KEY: line})

    done = run("audit", "verify", "-n", cabinet.namespace)
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            f"Whole: 4 entries, 1 to 6, in namespace {cabinet.namespace}",
            "  CustomerTenant noisy: whole since 2026-11-25T10:00:00Z, after entry 3",
            "  CustomerTenant quiet: whole from its first entry on",
        ],
    )
    told = json.loads(run("audit", "verify", "-n", cabinet.namespace, "-o", "json").stdout)
    assert told["tenants"] == [
        {"tenant": "noisy", "lostUpTo": 3, "wholeSince": "2026-11-25T10:00:00Z"},
        {"tenant": "quiet", "lostUpTo": 0},
    ]
    shown = json.loads(run("audit", "show", "-n", cabinet.namespace, "--tenant", "quiet", "-o", "json").stdout)
    assert [entry["sequence"] for entry in shown] == [1, 5]
    export = tmp_path / "record.ndjson"
    assert run("audit", "export", "--to", str(export), "-n", cabinet.namespace).exit_code == 0
    for arguments in ((str(export),), ("--against", str(export), "-n", cabinet.namespace)):
        done = run("audit", "verify", *arguments)
        assert (done.exit_code, done.stdout.splitlines()[1:]) == (
            0,
            [
                "  CustomerTenant noisy: whole since 2026-11-25T10:00:00Z, after entry 3",
                "  CustomerTenant quiet: whole from its first entry on",
            ],
        )


def test_each_flaw_is_named_for_people_and_for_programs(run: Callable[..., Result], cabinet: Cabinet) -> None:
    edited = cabinet.entries[1].line.replace("the manifest says so", "nobody said so")
    cabinet.put(segment_name(0), {entry_key(1): cabinet.entries[0].line, entry_key(2): edited})
    cabinet.put(segment_name(1), {entry_key(4): cabinet.entries[3].line})
    code, findings = _verdict(run("audit", "verify", "-n", cabinet.namespace, "-o", "json"))
    assert code == 1
    assert [(one["flaw"], one["first"], one["last"]) for one in findings] == [
        ("Edited", 2, 2),
        ("Missing", 3, 3),
        ("Truncated", 5, 5),
    ]
    done = run("audit", "verify", "-n", cabinet.namespace)
    assert done.exit_code == 1
    assert "Edited: entry 2 was edited: its content does not have the hash that it states (ConfigMap cmk-operator-audit-0" in (
        done.stdout
    )
    assert done.stdout.splitlines()[-1] == f"3 flaws in 3 entries, 1 to 4, in namespace {cabinet.namespace}"


def test_a_head_that_is_gone_is_a_flaw_and_so_is_no_record_at_all(run: Callable[..., Result], cabinet: Cabinet) -> None:
    cabinet.cluster.kubectl("delete", "configmap", HEAD_NAME, "--namespace", cabinet.namespace)
    code, findings = _verdict(run("audit", "verify", "-n", cabinet.namespace, "-o", "json"))
    assert (code, findings[0]["message"]) == (
        1,
        "the head of the record, ConfigMap cmk-operator-audit, is missing or unreadable",
    )
    done = run("audit", "verify", "-n", "default")
    assert done.exit_code == 1
    assert "there is no audit record in namespace default" in done.stderr


def test_a_copy_shows_what_a_rewritten_record_hides(run: Callable[..., Result], cabinet: Cabinet, tmp_path: Path) -> None:
    export, log = tmp_path / "record.ndjson", tmp_path / "operator.log"
    assert run("audit", "export", "--to", str(export), "-n", cabinet.namespace).exit_code == 0
    assert export.read_text(encoding="utf-8") == "".join(f"{entry.line}\n" for entry in cabinet.entries)
    log.write_text(cabinet.log(), encoding="utf-8")
    for copy in (export, log):
        done = run("audit", "verify", "--against", str(copy), "-n", cabinet.namespace)
        assert done.exit_code == 0, done.output
        assert run("audit", "verify", str(copy)).exit_code == 0

    forged = cabinet.entries[:3] + record((change(number) for number in (8, 9)), cabinet.entries[2].anchor)
    cabinet.put(segment_name(1), {entry_key(entry.sequence): entry.line for entry in forged[3:]})
    cabinet.put(HEAD_NAME, {HEAD_KEY: head_of(forged).dump()})
    assert run("audit", "verify", "-n", cabinet.namespace).exit_code == 0
    for copy in (export, log):
        code, findings = _verdict(run("audit", "verify", "--against", str(copy), "-n", cabinet.namespace, "-o", "json"))
        assert code == 1
        assert {(one["flaw"], one["first"]) for one in findings} == {("DiffersFromCopy", 4), ("DiffersFromCopy", 5)}


def test_an_edited_copy_is_no_proof(run: Callable[..., Result], cabinet: Cabinet, tmp_path: Path) -> None:
    copy = tmp_path / "operator.log"
    copy.write_text(cabinet.log().replace("version 3", "version 7"), encoding="utf-8")
    for arguments in ((str(copy),), ("--against", str(copy), "-n", cabinet.namespace)):
        code, findings = _verdict(run("audit", "verify", *arguments, "-o", "json"))
        assert code == 1
        assert {"Edited"} <= {one["flaw"] for one in findings if one["first"] == 4}
    copy.write_text("level=info msg=nothing\n", encoding="utf-8")
    assert run("audit", "verify", str(copy)).exit_code == 1


def test_entries_are_shown_for_people_and_cannot_move_the_cursor(run: Callable[..., Result], cabinet: Cabinet) -> None:
    done = run("audit", "show", "-n", cabinet.namespace, "--last", "2")
    assert "  KeyChanged  EncryptedResource team/docs  by cmk-operator\n" in done.stdout
    assert "a key of Microsoft -> version 4" in done.stdout
    assert "version 2" not in done.stdout
    filtered = json.loads(run("audit", "show", "-n", cabinet.namespace, "--object", "docs", "-o", "json").stdout)
    assert filtered == [dict(entry.body) for entry in cabinet.entries]
    for option, value in (("--object", "other"), ("--event", "ConsentChanged")):
        assert json.loads(run("audit", "show", "-n", cabinet.namespace, option, value, "-o", "json").stdout) == []
    (entry,) = record([change(1, why="red \x1b[31m and \x9b31m")])
    cabinet.put(segment_name(0), {entry_key(1): entry.line})
    assert not {"\x1b", "\x9b"} & set(run("audit", "show", "-n", cabinet.namespace).stdout)
