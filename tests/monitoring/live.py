"""Real scrapes in Prometheus' own engine: promtool evaluates rules and queries over what a running process exposed.

Each scrape stands for some minutes of a timeline, so that a state that was watched for seconds satisfies a rule that waits for an
hour. Ages stay as they were: every `*_timestamp_seconds` moves with each minute of its scrape.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

from sandbox.kubernetes import binaries
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

RULES: Final = ROOT / "charts" / "cmk-operator" / "files" / "monitoring" / "alerts.yaml"
MINUTE: Final = 60.0
LASTING: Final = 61
"""Minutes that are enough for every rule."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a target exposed at a Unix time; an empty text: it did not answer."""

    at: float
    text: str
    instance: str = "operator"


@dataclass(frozen=True, slots=True)
class Timeline:
    """Scrapes one after the other, each `held` for so many minutes."""

    scrapes: Sequence[Scrape]
    held: int = 1

    @property
    def minutes(self) -> int:
        """The last minute with a sample."""
        return len(self.scrapes) * self.held - 1

    def series(self, metrics: Container[str] | None = None) -> list[dict[str, str]]:
        """The samples of these metrics (None: of all) in promtool's notation: `_` before a series begins, `stale` when it ends."""
        values: dict[str, list[str]] = {}
        for number, scrape in enumerate(self.scrapes):
            moved = self.scrapes[0].at + number * self.held * MINUTE - scrape.at
            for family in text_string_to_metric_families(scrape.text):
                for sample in family.samples:
                    if metrics is not None and sample.name not in metrics:
                        continue
                    aged = sample.name.endswith("_timestamp_seconds")
                    first, step = (sample.value + moved, MINUTE) if aged else (sample.value, 0.0)
                    labels = {**sample.labels, "instance": scrape.instance}
                    told = values.setdefault(_selector(sample.name, labels), [])
                    _fill(told, number * self.held)
                    told += [repr(first + minute * step) for minute in range(self.held)]
        for told in values.values():
            _fill(told, len(self.scrapes) * self.held)
        return [{"series": name, "values": " ".join(told)} for name, told in values.items()]


def _fill(told: list[str], until: int) -> None:
    while len(told) < until:
        told.append("stale" if told and told[-1] not in {"stale", "_"} else "_")


def _selector(name: str, labels: dict[str, str]) -> str:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return name + "{" + ",".join(f'{label}="{quoted(text)}"' for label, text in sorted(labels.items())) + "}"


def _asked(timeline: Timeline, folder: Path, series: list[dict[str, str]], **tests: Any) -> str:
    start = datetime.fromtimestamp(timeline.scrapes[0].at, UTC).isoformat().replace("+00:00", "Z")
    group = {"interval": "1m", "start_timestamp": start, "input_series": series, **tests}
    file = folder / "live.yaml"  # JSON is YAML, and written faster
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [group]}))
    answer = subprocess.run([binaries.promtool(), "test", "rules", file], capture_output=True, text=True, check=False)
    return answer.stdout + answer.stderr


@cache
def _rules() -> tuple[list[str], frozenset[str]]:
    """The names of all alerts, and the metrics for which they ask: promtool takes its time over each that it is given."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return [rule["alert"] for rule in rules], frozenset(re.findall(r"\bcmk_\w+", " ".join(rule["expr"] for rule in rules)))


def fired(timeline: Timeline, folder: Path) -> dict[str, list[dict[str, str]]]:
    """The alerts that fire at the end, each with the labels of its instances: promtool is told to expect none."""
    names, metrics = _rules()
    expected = [{"eval_time": f"{timeline.minutes}m", "alertname": name, "exp_alerts": []} for name in names]
    told = _asked(timeline, folder, timeline.series(metrics), alert_rule_test=expected)
    assert "error" not in told.lower().split("failed:")[0], told[:2000]
    found: dict[str, list[dict[str, str]]] = {}
    for labels in re.findall(r"^ *Labels:\{(.*)\}$", told, re.MULTILINE):
        pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
        found.setdefault(pairs.pop("alertname"), []).append(pairs)
    return found


def begun(before: Scrape, after: Scrape, folder: Path, **labels: str) -> set[str]:
    """The names of the alerts with these labels that fire once `after` has lasted, and would not if `before` had.

    The labels are those of a test's own objects: those of others may be in the same scrapes.
    """

    def about(scrape: Scrape) -> set[str]:
        found = fired(Timeline([scrape], LASTING), folder)
        return {name for name, alerts in found.items() if any(labels.items() <= one.items() for one in alerts)}

    return about(after) - about(before)


def evaluated(
    timeline: Timeline, queries: Iterable[str], minutes: Iterable[int], folder: Path
) -> dict[tuple[str, int], list[tuple[dict[str, str], float]]]:
    """The result of each query at each minute, as label sets and values: promtool is told to expect nothing."""
    wanted = [(query, minute) for query in queries for minute in minutes]
    tests = [{"expr": query, "eval_time": f"{minute}m", "exp_samples": []} for query, minute in wanted]
    told = _asked(timeline, folder, timeline.series(), promql_expr_test=tests)
    found: dict[tuple[str, int], list[tuple[dict[str, str], float]]] = {one: [] for one in wanted}
    for quoted, hours, minutes_told, got in re.findall(
        r'^ *expr: ("(?:[^"\\]|\\.)*"), time: (?:(\d+)h)?(?:(\d+)m)?0?s?,\n *exp: nil\n *got: (.*)$', told, re.MULTILINE
    ):
        query = yaml.safe_load(quoted)
        minute = int(hours or 0) * 60 + int(minutes_told or 0)
        for labels, value in re.findall(r"\{((?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*)\} ([-+.\deEInfNa]+)", got):
            pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
            found[query, minute].append((pairs, float(value)))
    return found
