"""The metrics, judged by Prometheus' own promtool."""

from __future__ import annotations

import subprocess

from sandbox.kubernetes import binaries
from tests.unit.test_metrics import every_metric_as_text


def test_prometheus_own_linter_has_nothing_to_say() -> None:
    answer = subprocess.run(
        [binaries.promtool(), "check", "metrics"], input=every_metric_as_text(), capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")
