"""A new user follows docs/tutorial.md word for word, in one shell, with a home of their own and nothing exported."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes.cache import cache_directory
from tests.conftest import ROOT
from tests.documents.blocks import Block, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.az, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "tutorial.md"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
WHERE_PROGRAMS_ARE = ("KUBEBUILDER_ASSETS", "CMK_SANDBOX_AZ")
SENTINEL = "=== block at line {} ==="


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A clone as git would make it, in which `make` has made the Python environment and nothing else has been done."""
    made = tmp_path / "cmk-operator"
    (made / ".venv").mkdir(parents=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in {file.partition("/")[0] for file in tracked.split("\0") if file}:
        (made / name).symlink_to(ROOT / name)
    for part in ("bin", "lib", "lib64", "pyvenv.cfg"):
        if (Path(sys.prefix) / part).exists():
            (made / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (made / ".venv" / ".ready").touch()
    yield made
    subprocess.run([sys.executable, "-m", "sandbox", "down", "--directory", made / ".sandbox"], cwd=ROOT, check=True)


def _home(folder: Path) -> Path:
    """A new user's home, in which the programs of the local Kubernetes and az have been built or installed before."""
    cache = folder / ".cache"
    cache.mkdir(parents=True)
    (cache / "cmk-operator").symlink_to(cache_directory())
    return folder


def _followed(steps: list[Block], clone: Path, home: Path, output: Path) -> int:
    """Give all commands to one shell, which ends at the first that fails; its exit status."""
    script = "".join(f"echo '{SENTINEL.format(step.line)}'\n{step.text}" for step in steps if step.language == "sh")
    environment = {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **{name: os.environ[name] for name in WHERE_PROGRAMS_ARE if name in os.environ},
    }
    with output.open("w") as out:
        command = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(
            command, cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        ).returncode


def _matches(expected: str, printed: str) -> bool:
    """Whether lines of `printed` that follow each other are the expected ones; … is any word, and columns may be wider."""
    lines = (r"\s+".join(re.escape(word).replace("…", r"\S+") for word in line.split()) for line in expected.splitlines())
    return re.search(r"^" + r"[ ]*\n[ ]*".join(lines) + r"[ ]*$", printed, re.MULTILINE) is not None


def test_a_new_user_comes_to_a_ready_resource_breaks_and_heals_its_key_upgrades_and_removes_everything(
    clone: Path, tmp_path: Path
) -> None:
    steps, output = blocks(PAGE), tmp_path / "output"
    status = _followed(steps, clone, _home(tmp_path / "home"), output)
    printed = output.read_text(encoding="utf-8")
    assert status == 0, printed[-4000:]
    shown = dict(zip(*[iter(re.split(r"^=== block at line (\d+) ===\n", printed, flags=re.MULTILINE)[1:])] * 2, strict=True))
    for before, step in itertools.pairwise(steps):
        if step.language == "text":
            assert _matches(step.text, shown[str(before.line)]), f"line {step.line}: {shown[str(before.line)]}"
    left = {path.name for path in clone.iterdir() if not path.is_symlink()}
    assert left == {".venv"}, "what the lesson made is gone"


def test_the_page_has_commands_and_what_they_print_and_nothing_else() -> None:
    steps = blocks(PAGE)
    assert {step.language for step in steps} == {"sh", "text"}
    assert all(before.language == "sh" for before, step in itertools.pairwise(steps) if step.language == "text")


def test_the_key_is_healed_by_the_command_of_the_runbook() -> None:
    runbook = next(line for line in RUNBOOKS.read_text().splitlines() if line.endswith("# Disabled")).removesuffix("# Disabled")
    for name, value in {"VAULT": "fabrikam-kv", "NAME": "cmk", "VERSION": '"$VERSION"'}.items():
        runbook = re.sub(rf"\b{name}\b", value.replace("\\", ""), runbook, count=1)
    assert f"{runbook.strip()} --output none\n" in PAGE.read_text()


@pytest.mark.parametrize(
    ("expected", "printed", "matches"),
    [
        ("a  b\n", "a    b\n", True),
        ("a …  b\n", "first\na 12s b\nlast\n", True),
        ("a\nb\n", "a\nx\nb\n", False),
        ("a\n", "a b\n", False),
    ],
    ids=["wider columns", "an ellipsis between other lines", "a line between them", "more on the line"],
)
def test_what_was_printed_is_compared_by_whole_lines(expected: str, printed: str, matches: bool) -> None:  # noqa: FBT001 - a table
    assert _matches(expected, printed) is matches
