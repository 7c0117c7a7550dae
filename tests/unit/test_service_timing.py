"""What stops when a key stays lost, service by service."""

from __future__ import annotations

from datetime import timedelta

from cmk_operator.core.kinds.service_timing import longest_use_of_an_old_version, restores_under, stops
from cmk_operator.providers.disk.kind import DISK, DISK_ENCRYPTION_SET
from cmk_operator.providers.registry import timing_of
from cmk_operator.providers.snowflake.kind import SNOWFLAKE_ACCOUNT
from cmk_operator.providers.sql.kind import SQL_DATABASE, SQL_SERVER
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT
from tests.unit.samples import NOW

STORAGE, SERVER, DISKS = STORAGE_ACCOUNT.timing, SQL_SERVER.timing, DISK_ENCRYPTION_SET.timing


def test_each_service_stops_at_its_own_time_the_earliest_first() -> None:
    found = stops([("set", DISKS), ("orders", SERVER), ("docs", STORAGE), ("archive", STORAGE)], NOW)
    assert [(stop.service, stop.resources, stop.expected_at - NOW) for stop in found] == [
        ("Azure SQL", ("orders",), timedelta(minutes=10)),
        ("Azure Storage", ("archive", "docs"), timedelta(minutes=10)),
        ("managed disks", ("set",), timedelta(hours=1)),
    ]
    assert all(stop.effect and stop.recovery for stop in found)


def test_machines_stop_with_the_disks_that_they_use_and_with_nothing_else() -> None:
    machines = {"set": ("vm2", "vm1"), "data": ("vm1",)}
    disks, storage = stops([("set", DISKS), ("data", DISK.timing), ("docs", STORAGE)], NOW, machines)[::-1]
    assert (disks.resources, disks.machines) == (("data", "set"), ("vm1", "vm2"))
    assert storage.machines == ()


def test_only_sql_restores_its_own_past_under_an_old_version() -> None:
    assert restores_under([STORAGE, DISKS, SNOWFLAKE_ACCOUNT.timing]) == ()
    assert restores_under([SERVER, SQL_DATABASE.timing]) == ("point-in-time restores of its databases to a moment before",)


def test_nothing_stops_where_nothing_uses_the_key() -> None:
    assert stops([], NOW) == ()


def test_a_type_that_is_not_known_is_taken_for_the_fastest_to_stop() -> None:
    assert timing_of("microsoft.example/things").cut_off_after == timedelta(minutes=10)


def test_disks_need_an_old_version_an_hour_longer_and_nothing_needs_it_for_less_than_no_time() -> None:
    assert longest_use_of_an_old_version([STORAGE, DISKS, SERVER]) == timedelta(hours=1)
    assert longest_use_of_an_old_version([STORAGE]) == timedelta(0)
    assert longest_use_of_an_old_version([]) == timedelta(0)
