"""The picture of the dashboard: it has every panel of today's dashboard, is small, and shows what the scrapes hold."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from tests.conftest import ROOT
from tests.monitoring.live import Scrape, Timeline
from tests.monitoring.picture import drawn
from tests.monitoring.queries import DASHBOARD

PICTURE = ROOT / "docs" / "images" / "dashboard.svg"
NOW = 1_795_000_000.0
LOST = 'cmk_key_access_state{namespace="team-a",name="%s",state="Disabled"} 1\n'


def _texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own


def test_the_picture_shows_every_panel_of_the_dashboard_and_is_small() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    titles = [panel["title"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    shown = _texts(svg)
    assert [title for title in titles if title not in shown] == [], "run `make dashboard-picture`"
    assert len(svg) < 150_000
    assert "Disabled" in shown


def test_each_panel_shows_what_prometheus_finds_in_the_scrapes() -> None:
    text = "# TYPE cmk_key_access_state gauge\n" + LOST % "first" + LOST % "second & <last>"
    shown = _texts(drawn(json.loads(DASHBOARD.read_text()), Timeline([Scrape(NOW, text)] * 2)))
    assert shown[shown.index("Lost keys") + 1] == "2"
    assert shown[shown.index("Keys that cannot be seen") + 1] != "2"
    assert shown[shown.index("Data stops first in") + 1] == "none"
