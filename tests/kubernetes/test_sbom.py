"""The bill of materials names every package of the image, with its hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LOCKED = re.compile(r"^(\S+)==([^\s;]+)", re.MULTILINE)


def _made(directory: Path) -> bytes:
    """What `make sbom` writes."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nsbom:")[2].partition("\n\n")[0]
    [command] = re.findall(r"cyclonedx-py (.*?) -o dist/", recipe.replace("\\\n", " "))
    file = directory / "sbom.json"
    program = Path(sys.executable).with_name("cyclonedx-py")
    subprocess.run([program, *command.split(), "-o", file], cwd=ROOT, check=True, capture_output=True)
    return file.read_bytes()


def test_the_bill_of_materials_is_complete_and_the_same_each_time(tmp_path: Path) -> None:
    content = _made(tmp_path)
    bill = json.loads(content)
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "cmk-operator")
    locked = set(LOCKED.findall((ROOT / "requirements" / "operator.lock").read_text(encoding="utf-8")))
    assert {(part["name"], part["version"]) for part in bill["components"]} == locked
    assert locked
    hashed = [part["name"] for part in bill["components"] if part["externalReferences"][0].get("hashes")]
    assert len(hashed) == len(bill["components"])
    assert _made(tmp_path) == content
