"""The steps away from a version that may be in wrong hands."""

from __future__ import annotations

import shlex
from datetime import timedelta

import pytest

from cmk_operator.cli.approve import why_not
from cmk_operator.cli.compromised import away_from
from cmk_operator.core.handover.compromise import DISABLE, NEW_VERSION, WAIT
from tests.unit.cli.samples import KEPT, environment, key, superseded, version
from tests.unit.samples import CUSTOMER, KEY, NOW, V1, V2, V3

EFFECTIVE = {"prerequisites": "Enforce", "holdSupersededFor": "24h"}


def effective(rotation: str, apply: str | None = None, approval: str | None = None) -> dict[str, str | None]:
    return {"rotation": rotation, "apply": apply, "approval": approval} | EFFECTIVE


def test_the_old_version_is_disabled_last_and_by_the_customer() -> None:
    found, resources = environment()
    told = away_from(found, resources, V1, NOW, CUSTOMER)
    titles = [step["title"] for step in told["steps"]]
    assert titles[0] == "Create a new version of the key"
    assert titles[-1] == "Disable the old version"
    last = told["steps"][-1]
    assert last["who"].startswith("customer's administrator")
    command = shlex.split(last["command"].splitlines()[-1])
    assert f"--version {V1} --enabled false" in last["command"].replace(" \\\n ", "")
    assert "--output" in command
    assert CUSTOMER in last["command"], "nothing is done in another tenant"
    assert (told["still"], told["moved"]) == (["disks", "docs"], ["db"])
    assert [step["done"] for step in told["steps"]] == [True, False, False, False], "there is a newer version in force"


def test_steps_that_are_done_are_told_so() -> None:
    old = superseded(V1, since=timedelta(days=2)) | {"enabled": False}
    told = away_from(key(version(V2), old, spec=KEPT), (), V1, NOW, None)
    assert [step["title"] for step in told["steps"] if step["done"]] == [NEW_VERSION, WAIT, DISABLE]
    told = away_from(key(version(V2)), (), V2, NOW, None)
    assert [step["title"] for step in told["steps"] if step["done"]] == []


@pytest.mark.parametrize(
    ("spec", "rotation", "expected"),
    [
        pytest.param({"keyUri": f"{KEY}/{V2}"}, effective("Pinned"), f"{KEY}/NEW_VERSION", id="pinned"),
        pytest.param({}, effective("Following", "AzureSchedule", "Automatic"), '"apply":"Immediately"', id="by Azure"),
        pytest.param({}, effective("Following", "Immediately", "Manual"), "kubectl cmk approve team-a/storage", id="approval"),
        pytest.param({}, effective("Following", "Immediately", "Automatic"), None, id="at once"),
    ],
)
def test_the_manifest_is_told_to_follow(spec: dict[str, str], rotation: dict[str, str | None], expected: str | None) -> None:
    told = away_from(key(version(V2), spec=spec, effective=rotation), (), V2, NOW, None)
    between = [step["command"] for step in told["steps"][1:-2]]
    assert len(between) == (0 if expected is None else 1)
    assert expected is None or expected in between[0]


@pytest.mark.parametrize("name", ["-h", "--force", "-"])
def test_a_key_that_is_named_like_an_option_is_none(name: str) -> None:
    uri = f"{KEY.rpartition('/')[0]}/{name}"
    told = away_from(key(version(V2), spec={"keyUri": uri}), (), V2, NOW, None)
    commands = [shlex.split(step["command"].replace("\\\n", " ")) for step in told["steps"]]
    words = [word for command in commands for word in command]
    assert f"--name={name}" in words
    assert name not in words


def test_missing_network_protection_is_told_beforehand() -> None:
    lacking = {"name": "NetworkProtection", "result": "Fail", "message": "any network reaches the vault"}
    told = away_from(key(version(V2), prerequisites=[lacking]), (), V2, NOW, None)
    assert told["network"] == {"result": "Fail", "message": "any network reaches the vault"}


def test_backups_that_still_need_the_version_are_told() -> None:
    old = superseded(V1, since=timedelta(days=2), keep=timedelta(days=30))
    told = away_from(key(version(V2), old, spec=KEPT), (), V1, NOW, None)
    assert told["backups"] == [{"until": "2026-12-22T12:00:00Z", "why": "backups made under it until then"}]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param({"pendingVersion": V3}, None, id="waits"),
        pytest.param({"pendingVersion": V1}, f"{V1} waits for approval, not {V3}", id="another waits"),
        pytest.param({"active": V3}, "is already active", id="in force"),
        pytest.param({"effective": effective("Following", "Immediately", "Automatic")}, "needs no approval", id="automatic"),
        pytest.param({"effective": effective("Following", "Immediately", "Manual")}, "no version waits", id="none waits"),
    ],
)  # fmt: skip
def test_only_the_version_that_waits_is_approved_unasked(status: dict[str, object], words: str | None) -> None:
    refusal = why_not(key(version(V2), **status), V3)  # type: ignore[arg-type]
    assert (refusal is None) if words is None else (refusal is not None and words in refusal)
