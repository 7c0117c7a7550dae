"""Which version may be disabled, and what stops if one is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cmk_operator.cli.impact import impact_data
from cmk_operator.cli.version_use import MayDisable, UnknownVersionError, impact, may_disable, users_of, version_named
from cmk_operator.cli.versions import version_table
from tests.unit.cli.samples import DISKS, KEPT, SERVER, environment, key, resource, superseded, users_unknown, version
from tests.unit.samples import ACCOUNT, KEY, NOW, V1, V2, V3

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("entry", "may", "words"),
    [
        pytest.param(version(V2), MayDisable.NO, "active version", id="active"),
        pytest.param(version(V1, inUseBy=["docs"], inUseByCount=1), MayDisable.NO, "1 on it would stop: docs", id="in use"),
        pytest.param(version(V1), MayDisable.NO, "does not report which version", id="perhaps in use"),
        pytest.param(superseded(V1, since=DAY / 2, keep=DAY), MayDisable.NOT_YET, "may still use it", id="held"),
        pytest.param(superseded(V1, since=2 * DAY, keep=30 * DAY), MayDisable.BREAKS_BACKUPS, "until keepUntil", id="backups"),
        pytest.param(superseded(V1, since=2 * DAY), MayDisable.BREAKS_BACKUPS, "backupRetention", id="backups not told"),
        pytest.param(superseded(V1, since=31 * DAY, keep=30 * DAY), MayDisable.YES, "no backup", id="free"),
        pytest.param(version(V1, enabled=False), MayDisable.ALREADY, "no resource needs it", id="disabled"),
        pytest.param(
            version(V1, enabled=False, inUseBy=["docs"], inUseByCount=1), MayDisable.ALREADY, "stop: docs", id="disabled in use"
        ),
    ],
)
def test_each_version_has_a_verdict_with_its_reason(entry: dict[str, Any], may: MayDisable, words: str) -> None:
    found = key(entry, spec=KEPT if "keepUntil" in entry else None)
    verdict = may_disable(found, found.status.versions[0], users_of(found, ()), NOW)
    assert verdict.may is may
    assert words in verdict.why


def test_a_resource_on_a_version_counts_before_the_key_has_counted_it() -> None:
    found = key(version(V2), superseded(V1, since=31 * DAY, keep=30 * DAY))
    users = users_of(found, (resource("docs", ACCOUNT, V1),))
    assert may_disable(found, found.status.versions[1], users, NOW).may is MayDisable.NO


def test_resources_of_every_manifest_on_the_key_count_and_those_on_other_keys_do_not() -> None:
    found = key(version(V2))
    resources = (
        resource(
            "docs",
            ACCOUNT,
            V2,
            uri=KEY.upper().replace("HTTPS://CONTOSO.VAULT.AZURE.NET/KEYS", "https://contoso.vault.azure.net/keys"),
        ),
        resource("docs", ACCOUNT, V2, namespace="team-b"),
        resource("other", ACCOUNT, V2, uri=f"{KEY}2"),
    )
    assert [user.name for user in users_of(found, resources)] == ["docs", "team-b/docs"]


def test_disabling_an_old_version_stops_what_is_on_it_at_its_services_pace() -> None:
    found = impact(*environment(), V1, NOW)
    assert [(stop.service, stop.resources, stop.expected_at - NOW) for stop in found.stops] == [
        ("Azure Storage", ("docs",), timedelta(minutes=10)),
        ("managed disks", ("disks",), timedelta(hours=1)),
    ]
    assert "start the virtual machines again" in found.stops[1].recovery
    assert found.stops[1].machines == ("web-1",)
    assert found.unaffected == ("db",)
    assert found.waiting == (), "the manifest that waits would be put on the active version"
    assert [entry.version for entry in found.backups] == [V1]
    assert "point-in-time restores" in found.backups[0].why, "there is a SQL server on the key"


def test_disabling_the_whole_key_stops_everything_and_breaks_all_backups() -> None:
    found = impact(*environment(), None, NOW)
    assert sorted(name for stop in found.stops for name in stop.resources) == ["db", "disks", "docs"]
    assert found.waiting == ("new",)
    assert {entry.version: entry.until for entry in found.backups} == {
        V1: None,
        V2: None,
        V3: NOW + 27 * DAY,
    }


def test_what_does_not_tell_its_version_is_said_to_be_in_doubt() -> None:
    found = impact(key(version(V2), version(V1)), (resource("docs", ACCOUNT, V2), resource("db", SERVER, "")), V1, NOW)
    assert found.in_doubt == ("db",)
    assert [stop.resources for stop in found.stops] == [("db",)]


def test_resources_that_cannot_be_read_are_counted() -> None:
    found = key(version(V1, inUseBy=["docs", "elsewhere/docs"], inUseByCount=2))
    assert impact(found, (resource("docs", ACCOUNT, V1),), V1, NOW).untold == 1


def test_a_version_that_services_have_just_left_may_still_be_in_use() -> None:
    found = key(version(V2), superseded(V1, since=timedelta(hours=1), keep=30 * DAY), spec=KEPT)
    told = impact_data(found, (resource("disks", DISKS, V2),), V1, NOW)
    assert told["stops"] == []
    assert told["mayBeInUseUntil"] == "2026-11-25T11:00:00Z"
    assert told["backups"] == [{"version": V1, "until": "2026-12-24T11:00:00Z", "why": "backups made under it until then"}]


def test_the_table_of_versions_has_every_time_and_the_verdict() -> None:
    found, resources = environment()
    told = version_table(found, resources, NOW)
    assert [(one["version"], one["inUseBy"], one["mayDisable"]) for one in told["versions"]] == [
        (V2, ["db"], "No"),
        (V1, ["disks", "docs"], "No"),
        (V3, [], "BreaksBackups"),
    ]
    assert told["versions"][2]["keepUntil"] == "2026-12-21T12:00:00Z"


def test_a_version_is_named_in_full_or_by_its_beginning() -> None:
    found = key(version(V1), version("1a" + "0" * 30), pendingVersion=V3)
    assert version_named(found, V1) == V1
    assert version_named(found, "1A0") == "1a" + "0" * 30
    assert version_named(found, "3") == V3, "the one that waits for approval is known too"
    with pytest.raises(UnknownVersionError, match="several versions begin with '1'"):
        version_named(found, "1")
    with pytest.raises(UnknownVersionError, match="no known version"):
        version_named(found, V2)


def test_what_only_azure_shows_stops_too_and_holds_its_version() -> None:
    left = f"{ACCOUNT}left"
    found = key(
        version(V2),
        version(V1, inUseBy=[left], inUseByCount=1),
        withoutManifest=[{"resourceId": left, "version": V1}],
        withoutManifestCount=1,
    )
    stopped = impact(found, (), V1, NOW)
    assert [(stop.service, stop.resources) for stop in stopped.stops] == [("Azure Storage", (left,))]
    assert stopped.untold == 0
    verdict = may_disable(found, found.status.versions[1], users_of(found, ()), NOW)
    assert verdict.may is MayDisable.NO
    assert left in verdict.why
    assert impact(found, (), V2, NOW).unaffected == (left,)


def test_a_version_of_which_the_users_could_not_be_listed_is_not_said_to_be_free() -> None:
    entry = version(
        V1, supersededAt=(NOW - 99 * DAY).isoformat(), reason="whether anything is on it is not known: nobody may list"
    )
    found = key(version(V2), entry, spec=KEPT, conditions=[users_unknown("nobody may list")])
    verdict = may_disable(found, found.status.versions[1], (), NOW)
    assert verdict.may is MayDisable.UNKNOWN
    assert "nobody may list" in verdict.why
    told = impact_data(found, (), V1, NOW)
    assert told["stops"] == []
    assert told["usersUnknown"] == "nobody may list"
    assert version_table(found, (), NOW)["usersUnknown"] == "nobody may list"
    disabled = key(version(V1, enabled=False), conditions=[users_unknown("nobody may list")])
    assert "nobody may list" in may_disable(disabled, disabled.status.versions[0], (), NOW).why


def test_backups_that_azure_lists_do_not_stand_for_all_backups() -> None:
    found = key(version(V2), superseded(V1, since=99 * DAY, keep=7 * DAY))
    verdict = may_disable(found, found.status.versions[1], (), NOW)
    assert verdict.may is MayDisable.BREAKS_BACKUPS
    assert "spec.rotation.backupRetention is not set" in verdict.why


def test_data_beside_the_key_is_said_not_to_stop_with_the_resources_that_do() -> None:
    entries = [{"part": "queues", "covered": "No"}, {"part": "disk os", "covered": "Unknown"}]
    resources = (
        resource("docs", ACCOUNT, V1, details={"notCovered": entries}),
        resource("other", f"{ACCOUNT}2", V2, details={"notCovered": entries}),
    )
    told = impact_data(key(version(V2), version(V1)), resources, V1, NOW)
    assert told["notUnderKey"] == ["docs: queues"]
