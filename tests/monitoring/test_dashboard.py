"""The dashboard: Prometheus can parse each query, and each asks for metrics that exist."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import TYPE_CHECKING, Any

import yaml

from tests.monitoring.queries import DASHBOARD, metrics_of, queries
from tests.monitoring.test_alerts import promtool
from tests.unit.test_metrics import known_metrics

if TYPE_CHECKING:
    from pathlib import Path

PANELS: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
OF_THE_PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    filled = [query.replace("$namespace", ".*").replace("$__rate_interval", "5m") for query in queries()]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(filled)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "--lint=none", file)


def test_every_metric_of_a_query_exists() -> None:
    asked = {metric for query in queries() for metric in metrics_of(query)}
    assert asked - OF_THE_PROCESS <= known_metrics().keys()


def test_every_query_looks_only_at_the_namespaces_that_are_chosen() -> None:
    of_keys = r"\b(?:cmk_key_\w+|cmk_resource_ready)(\{[^}]*\})?"
    for query in queries():
        assert all('namespace=~"$namespace"' in selector for selector in re.findall(of_keys, query)), query


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
