"""Draws the Grafana dashboard from real scrapes, as one SVG: what each panel asks is evaluated by Prometheus' own engine.

`make dashboard-picture` lets the operator run through many troubles in the simulated Azure and writes docs/images/dashboard.svg.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.monitoring.live import Scrape, Timeline, evaluated
from tests.monitoring.queries import DASHBOARD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLUMN: Final = 50
ROW: Final = 28
GAP: Final = 6
COLOURS: Final = ("#3274d9", "#e0752d", "#37872d", "#c4162a", "#8f3bb8", "#b7950b", "#117a8b", "#6e6e6e")
THRESHOLDS: Final = {"green": "#37872d", "orange": "#e0752d", "red": "#c4162a"}
_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))

Sample = tuple[dict[str, str], float]
Found = dict[tuple[str, int], list[Sample]]


def scrapes_in(folder: Path) -> list[Scrape]:
    """The scrapes that tests/e2e/test_alerts.py left there."""
    return [Scrape(float(file.stem.split("-")[1]), file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.prom"))]


def filled(query: str) -> str:
    """A query of the dashboard without Grafana's variables."""
    return query.replace("$namespace", ".*").replace("$__rate_interval", "5m")


def drawn(dashboard: Mapping[str, Any], timeline: Timeline) -> str:
    """The SVG."""
    panels = dashboard["panels"]
    queries = [filled(target["expr"]) for panel in panels for target in panel.get("targets", ())]
    with tempfile.TemporaryDirectory() as folder:
        found = evaluated(timeline, dict.fromkeys(queries), range(timeline.minutes + 1), Path(folder))
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW
    parts = [part for panel in panels for part in _Panel(panel, found, timeline.minutes).parts()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" font-family="sans-serif" font-size="11">\n'
        f'<title>{escape(dashboard["title"])}</title>\n<rect width="100%" height="100%" fill="#f4f5f5"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


@dataclass(frozen=True, slots=True)
class _Panel:
    panel: Mapping[str, Any]
    found: Found
    last: int

    def parts(self) -> Iterator[str]:
        place = self.panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP // 2, place["y"] * ROW + GAP // 2
        width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        yield f'<g transform="translate({x},{y})">'
        if self.panel["type"] == "row":
            yield _text(2, 15, self.panel["title"], size=14, weight="bold")
        else:
            yield f'<rect width="{width}" height="{height}" rx="3" fill="#fff" stroke="#d8d9da"/>'
            yield _text(6, 16, self.panel["title"], size=11 if width > 200 else 10, weight="bold", room=width - 12)
            draw = {"stat": self._stat, "timeseries": self._lines, "table": self._table}[self.panel["type"]]
            yield from draw(width, height)
        yield "</g>"

    def _of(self, target: Mapping[str, Any], minute: int) -> list[Sample]:
        return self.found[filled(target["expr"]), minute]

    def _unit(self) -> str:
        return str(self.panel["fieldConfig"]["defaults"].get("unit", ""))

    def _stat(self, width: int, height: int) -> Iterator[str]:
        samples = self._of(self.panel["targets"][0], self.last)
        value = samples[0][1] if samples else None
        colour = "#464c54"
        for step in self.panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ()) if value is not None else ():
            if step["value"] is None or (value is not None and value >= step["value"]):
                colour = THRESHOLDS.get(step["color"], colour)
        yield _text(width // 2, height // 2 + 18, _shown(value, self._unit()), size=24, colour=colour, anchor="middle")

    def _series(self) -> dict[str, list[tuple[int, float]]]:
        series: dict[str, list[tuple[int, float]]] = {}
        for target in self.panel["targets"]:
            for minute in range(self.last + 1):
                for labels, value in self._of(target, minute):
                    if value == value:  # noqa: PLR0124 - not NaN
                        series.setdefault(_legend(target["legendFormat"], labels), []).append((minute, value))
        return dict(sorted(series.items(), key=lambda one: -max(value for _, value in one[1]))[: len(COLOURS)])

    def _lines(self, width: int, height: int) -> Iterator[str]:
        series = self._series()
        left, top, right, bottom = 46, 26, width - 10, height - 16 - 13 * ((len(series) + 1) // 2)
        most = max((value for points in series.values() for _, value in points), default=1.0) or 1.0
        for share in (0.0, 0.5, 1.0):
            y = bottom - share * (bottom - top)
            yield f'<path d="M{left} {y:.0f}H{right}" stroke="#e3e4e5"/>'
            yield _text(left - 4, y + 4, _shown(most * share, self._unit()), size=10, colour="#6e7680", anchor="end")
        if not series:
            yield _text((left + right) // 2, (top + bottom) // 2, "nothing to show", colour="#9fa7b3", anchor="middle")
        for number, (name, points) in enumerate(series.items()):
            colour = COLOURS[number]
            path = " ".join(
                f"{left + minute / max(self.last, 1) * (right - left):.0f},{bottom - value / most * (bottom - top):.0f}"
                for minute, value in points
            )
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            x, y = 10 + (number % 2) * (width // 2), bottom + 18 + 13 * (number // 2)
            yield f'<rect x="{x}" y="{y - 7}" width="8" height="3" fill="{colour}"/>'
            yield _text(x + 12, y, name, size=10, room=width // 2 - 26)

    def _table(self, width: int, height: int) -> Iterator[str]:
        samples = self._of(self.panel["targets"][0], self.last)
        named, unit = _value_column(self.panel["fieldConfig"]["overrides"])
        columns = sorted({label for labels, _ in samples for label in labels})
        heads = [*columns, *([named] if named else [])]
        step = (width - 16) // max(len(heads), 1)
        for number, head in enumerate(heads):
            yield _text(8 + number * step, 34, head, size=10, weight="bold", colour="#3274d9", room=step - 6)
        shown = int((height - 46) // 15)
        for row, (labels, value) in enumerate(samples[:shown]):
            cells = [labels.get(column, "") for column in columns] + ([_shown(value, unit)] if named else [])
            for number, cell in enumerate(cells):
                yield _text(8 + number * step, 50 + row * 15, cell, size=10, room=step - 6)
        if not samples:
            yield _text(width // 2, height // 2, "nothing to show", colour="#9fa7b3", anchor="middle")


def _value_column(overrides: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Title and unit of the column with the value; no title: it is hidden."""
    for one in overrides:
        if re.fullmatch(one["matcher"]["options"], "Value"):
            properties = {found["id"]: found["value"] for found in one["properties"]}
            if properties.get("custom.hidden"):
                return "", ""
            return str(properties.get("displayName", "Value")), str(properties.get("unit", ""))
    return "Value", ""


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form).strip()


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        size, name = next((one for one in _UNITS if abs(value) >= one[0]), (1.0, "s"))
        return f"{value / size:.3g} {name}"
    return f"{value:.3g}"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 11,
    weight: str = "",
    colour: str = "#24292e",
    anchor: str = "",
    room: int | None = None,
) -> str:
    """Text, cut where it would leave its room."""
    most = int(room / (size * 0.5)) if room is not None else len(text)
    told = text if len(text) <= most else text[: max(most - 1, 0)] + "…"
    more = (f' font-size="{size}"' if size != 11 else "") + (f' font-weight="{weight}"' if weight else "")
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}"{more}>{escape(told)}</text>'


if __name__ == "__main__":
    Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
    Path(sys.argv[2]).write_text(
        drawn(json.loads(DASHBOARD.read_text()), Timeline(scrapes_in(Path(sys.argv[1])))), encoding="utf-8"
    )
