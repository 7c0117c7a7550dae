"""What must hold for a fresh clone to work anywhere."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


def test_the_source_root_is_no_package() -> None:
    """A package named `operator` would take the place of Python's own module of that name."""
    assert (ROOT / "operator").is_dir()
    assert not list((ROOT / "operator").glob("__init__.*"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.name))
def test_a_lock_pins_by_hash_and_names_no_registry(lock: Any) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "--index" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert "==" in entry, entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("operator", ["dependencies"]),
        ("dev", ["dependencies", "dev", "keyservice"]),
        ("keyservice", ["dependencies", "keyservice"]),
        ("az", ["az"]),
        ("build", ["requires"]),
    ],
)
def test_a_lock_has_what_the_project_asks_for(lock: str, groups: list[str]) -> None:
    pinned = dict(
        re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / "requirements" / f"{lock}.lock").read_text(), re.MULTILINE)
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        **project["dependency-groups"],
        **project["project"]["optional-dependencies"],
        "dependencies": project["project"]["dependencies"],
        **project["build-system"],
    }
    for requirement in (Requirement(text) for group in groups for text in wanted[group]):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in requirements/{lock}.lock: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} is not met by {version}: run `make lock`"
