"""What the dashboard asks for."""

from __future__ import annotations

import json
import re

from tests.conftest import ROOT

DASHBOARD = ROOT / "charts" / "cmk-operator" / "files" / "monitoring" / "dashboard.json"


def queries() -> list[str]:
    """Every query of every panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def metrics_of(query: str) -> set[str]:
    """Metrics that a query asks for; a histogram by its own name."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\b((?:cmk|process)_\w+)", query)}
