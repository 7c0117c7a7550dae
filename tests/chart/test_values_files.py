"""The schema and the README are made of values.yaml, and a list that replaces its default is said to do so."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import values_files
from tests.chart.conftest import CHART, helm
from tests.chart.values_files import README, SCHEMA, VALUES, schema, table, values
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.values_files import Value

TEXT = """\
# Not of a value.

# How many of them.
# @schema {minimum: 1}
count: 1
group:
  # May be <anything>:
  #   - an example
  # @schema named-objects
  listed: []
  # @schema any-keys
  free:
    memory: 1Gi
"""


def test_the_files_are_those_that_values_yaml_makes() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "tests.chart.values_files", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert json.loads(SCHEMA.read_text()) == schema(VALUES.read_text())
    assert table(VALUES.read_text()) in README.read_text()


def test_the_check_names_the_files_that_are_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "values.yaml"
    changed.write_text(VALUES.read_text().replace("listenPort: 8080", "listenPort: 8081"))
    monkeypatch.setattr(values_files, "VALUES", changed)
    monkeypatch.setattr(sys, "argv", ["values_files", "--check"])
    assert values_files.main() == 1
    told = capsys.readouterr().err
    assert [str(path) in told for path in (SCHEMA, README)] == [True, True]
    assert "run `make chart`" in told


def test_a_comment_describes_and_an_annotation_restricts() -> None:
    made = schema(TEXT)["properties"]
    assert made["count"] == {"type": "integer", "description": "How many of them.", "minimum": 1, "default": 1}
    group = made["group"]
    assert (group["additionalProperties"], set(group["properties"])) == (False, {"listed", "free"})
    assert group["properties"]["listed"]["items"]["required"] == ["name"]
    assert group["properties"]["free"] == {"type": "object", "additionalProperties": True}
    assert "| `group.listed` | `[]` | May be &lt;anything&gt;: |" in table(TEXT)


def test_each_value_is_described_itself_or_by_its_group() -> None:
    found = list(values(VALUES.read_text()))
    described = {value.path for value in found if value.description}

    def explained(value: Value) -> bool:
        return any(value.path[:length] in described - {("keyService",)} for length in range(1, len(value.path) + 1))

    assert [".".join(value.path) for value in found if not value.is_group and not explained(value)] == []


def test_each_default_is_in_the_schema_and_none_is_missing() -> None:
    assert {value.path[0] for value in values(VALUES.read_text())} == set(yaml.safe_load(VALUES.read_text()))
    assert all(value.keywords or value.default is not None for value in values(VALUES.read_text())), (
        "a value without a default needs a type"
    )


SHORTENED: dict[str, tuple[Any, str]] = {
    "networkPolicy.egressPorts": ([3128], "networkPolicy.egressPorts replaces its default, 443 and 6443"),
    "securityContext.capabilities.drop": (["NET_RAW"], "securityContext.capabilities.drop replaces its default, ALL"),
}


def test_every_list_with_a_default_says_so_when_it_is_replaced() -> None:
    listed = {".".join(value.path) for value in values(VALUES.read_text()) if isinstance(value.default, list) and value.default}
    assert listed == set(SHORTENED), "let NOTES.txt tell of this list"


@pytest.mark.parametrize("path", SHORTENED)
def test_a_list_that_drops_its_default_is_told_in_the_notes(path: str) -> None:
    shortened, told = SHORTENED[path]
    assert told in _notes(f"{path}={json.dumps(shortened)}")
    assert told not in _notes()


def test_a_list_that_adds_to_its_default_is_not_told() -> None:
    assert "replaces its default" not in _notes("networkPolicy.egressPorts=[443, 6443, 3128]")


def _notes(*values: str) -> str:
    arguments = [argument for value in ("networkPolicy.enabled=true", *values) for argument in ("--set-json", value)]
    # Only an installation prints the notes; a dry run of the client asks no cluster.
    return helm("install", "cmk-operator", CHART, "--dry-run=client", "--namespace", "x", *arguments)
