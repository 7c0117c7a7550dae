"""What the tests of live alerts and the picture rest on: scrapes mean in promtool what they meant when they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.monitoring.live import Scrape, Timeline, evaluated, fired
from tests.monitoring.live_alerts import (
    NOT_REACHED,
    SEEN_BEHIND_FAULTS,
    SEEN_END_TO_END,
    SEEN_IN_SCENARIOS,
    SEEN_OF_THE_KEY_SERVICE,
    SEEN_WITH_A_BUG,
)
from tests.monitoring.test_alerts import NAMES

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_795_000_000.0
STANDBY = "# TYPE cmk_operator_leading gauge\ncmk_operator_leading 0\n"


def test_a_state_that_is_held_for_minutes_fires_and_one_that_is_shorter_does_not(tmp_path: Path) -> None:
    assert "CmkOperatorNotLeading" in fired(Timeline([Scrape(NOW, STANDBY)] * 2, held=4), tmp_path)
    assert "CmkOperatorNotLeading" not in fired(Timeline([Scrape(NOW, STANDBY)] * 2), tmp_path)


def test_a_target_that_no_longer_answers_leaves_no_sample(tmp_path: Path) -> None:
    gone = Timeline([Scrape(NOW, STANDBY), Scrape(NOW + 1, ""), Scrape(NOW + 2, "")], held=5)
    assert fired(gone, tmp_path).keys() == {"CmkOperatorDown"}


def test_ages_stay_as_they_were_when_they_were_scraped(tmp_path: Path) -> None:
    text = '# TYPE cmk_key_expiration_timestamp_seconds gauge\ncmk_key_expiration_timestamp_seconds{name="a"} %s\n'
    timeline = Timeline([Scrape(NOW + second, text % (NOW + 86_400)) for second in range(3)], held=10)
    query = "cmk_key_expiration_timestamp_seconds - time()"
    found = evaluated(timeline, [query, "absent(x)"], [0, 9, 10, 20], tmp_path)
    assert [found[query, minute] for minute in (0, 9, 10, 20)] == [
        [({"name": "a", "instance": "operator"}, 86_400.0 - second)] for second in (0, 0, 1, 2)
    ]
    assert found["absent(x)", 10] == [({}, 1.0)]
    assert [one["name"] for one in fired(timeline, tmp_path)["CmkKeyExpiresIn1Day"]] == ["a"]


def test_each_alert_fires_live_or_has_a_reason_why_not() -> None:
    live = [SEEN_END_TO_END, SEEN_BEHIND_FAULTS, SEEN_OF_THE_KEY_SERVICE, SEEN_WITH_A_BUG, SEEN_IN_SCENARIOS]
    assert sorted(name for names in [*live, NOT_REACHED] for name in names) == sorted(NAMES), "each in exactly one list"
    for name, file in SEEN_IN_SCENARIOS.items():
        assert f'"{name}"' in (ROOT / file).read_text(), f"{file} does not say that {name} fires there"
