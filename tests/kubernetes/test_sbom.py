"""The bill of materials names every package of the image, with its hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKED = re.compile(r"^(\S+)==([^\s;]+)", re.MULTILINE)


def _made(image: str, directory: Path) -> bytes:
    """What `make sbom` writes about the packages of an image."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nsbom:")[2].partition("\n\n")[0]
    [command] = re.findall(r"cyclonedx-py (.*?) -o dist/", recipe.replace("\\\n", " "))
    file = directory / "sbom.json"
    program = Path(sys.executable).with_name("cyclonedx-py")
    arguments = command.replace("$$image", image).split()
    subprocess.run([program, *arguments, "-o", file], cwd=ROOT, check=True, capture_output=True)
    return file.read_bytes()


@pytest.mark.parametrize("image", ["operator", "keyservice"])
def test_the_bill_of_materials_is_complete_and_the_same_each_time(tmp_path: Path, image: str) -> None:
    content = _made(image, tmp_path)
    bill = json.loads(content)
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "cmk-operator")
    locked = set(LOCKED.findall((ROOT / "requirements" / f"{image}.lock").read_text(encoding="utf-8")))
    assert {(part["name"], part["version"]) for part in bill["components"]} == locked
    assert locked
    hashed = [part["name"] for part in bill["components"] if part["externalReferences"][0].get("hashes")]
    assert len(hashed) == len(bill["components"])
    assert _made(image, tmp_path) == content
