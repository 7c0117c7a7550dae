"""What happened lately, from three sources."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cmk_operator.api.customer_managed_key import CustomerManagedKey, RotationReport
from cmk_operator.cli.events import Happening, newest_first, recorded, rotations, told
from cmk_operator.core.audit.chain import ORIGIN, follow
from cmk_operator.core.audit.change import Change, Event, Subject
from cmk_operator.core.audit.layout import entry_key, segment_name
from tests.unit.samples import NOW, V1, V2, customer_managed_key


def event(reason: str, minutes: int, **regarding: Any) -> dict[str, Any]:
    return {
        "eventTime": (NOW - timedelta(minutes=minutes)).isoformat(),
        "reason": reason,
        "note": "it is so",
        "type": "Warning",
        "regarding": {"kind": "CustomerManagedKey", "namespace": "team-a", "name": "storage"} | regarding,
    }


def test_the_newest_is_first_and_what_is_older_is_left_out() -> None:
    found = told([event("KeyDisabled", 30), event("KeyAccessible", 10), event("KeyExpired", 90)])
    chosen = newest_first(found, NOW - timedelta(hours=1), None, None)
    assert [one.what for one in chosen] == ["KeyAccessible", "KeyDisabled"]
    assert chosen[0].warning


def test_one_object_or_namespace_can_be_asked_for() -> None:
    found = told([event("A", 1), event("B", 1, name="sql"), event("C", 1, namespace="team-b")])
    assert [one.what for one in newest_first(found, NOW - timedelta(hours=1), "team-a/storage", None)] == ["A"]
    assert [one.what for one in newest_first(found, NOW - timedelta(hours=1), None, "team-b")] == ["C"]


def test_entries_of_the_record_are_told_with_who_and_the_request() -> None:
    change = Change(
        "1", NOW.isoformat(), Event.KEY_CHANGED, Subject("EncryptedResource", "team-a", "docs", "u"), "cmk-operator",
        "old", "new", "the manifest says so", request_id="request-1",
    )  # fmt: skip
    segment = {"metadata": {"name": segment_name(0)}, "data": {entry_key(1): follow(ORIGIN, change).line, entry_key(2): "{"}}
    (found,) = recorded([segment])
    assert found == Happening(
        NOW, "record", "EncryptedResource", "team-a", "docs", "KeyChanged", "old -> new: the manifest says so",
        by="cmk-operator", request_id="request-1",
    )  # fmt: skip


def test_without_the_record_status_tells_the_last_rotations() -> None:
    key: CustomerManagedKey = customer_managed_key()
    status = key.status.model_copy(update={"rotations": (RotationReport(from_=V1, to=V2, at=NOW, by="Key Vault"),)})
    (found,) = rotations([key.model_copy(update={"status": status})], [])
    assert (found.what, found.message, found.by) == ("KeyVersionChanged", f"{V1} -> {V2}", "Key Vault")
