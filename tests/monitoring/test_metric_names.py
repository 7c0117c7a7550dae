"""The metrics, judged by Prometheus' own promtool."""

from __future__ import annotations

import re
import subprocess

from prometheus_client import generate_latest

from cmk_keyservice.telemetry import KeyServiceTelemetry
from sandbox.kubernetes import binaries
from tests.conftest import ROOT
from tests.unit.test_metrics import every_metric_as_text


def test_prometheus_own_linter_has_nothing_to_say() -> None:
    answer = subprocess.run(
        [binaries.promtool(), "check", "metrics"], input=every_metric_as_text(), capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


def _key_service() -> KeyServiceTelemetry:
    telemetry = KeyServiceTelemetry()
    telemetry.requests.labels("encrypt", "200").inc()
    telemetry.request_seconds.labels("encrypt").observe(0.1)
    telemetry.items.labels("encrypt", "Done").inc()
    telemetry.count_review("TokenReview", "allowed")
    telemetry.part_ready.labels("database").set(1)
    return telemetry


def test_prometheus_own_linter_has_nothing_to_say_of_the_key_service_either() -> None:
    text = generate_latest(_key_service().registry).decode()
    answer = subprocess.run([binaries.promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


def test_the_page_of_the_key_service_lists_its_metrics_in_their_own_words() -> None:
    page = (ROOT / "docs" / "application-level-encryption.md").read_text()
    listed = set(re.findall(r"^\| `(cmk_keyservice_\w+)` \| (\w+) \| (.*) \|$", page, re.MULTILINE))
    own = {
        (metric.name + ("_total" if metric.type == "counter" else ""), metric.type, metric.documentation)
        for metric in _key_service().registry.collect()
        if metric.name.startswith("cmk_keyservice")
    }
    assert listed == own
