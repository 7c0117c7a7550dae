"""The commit-msg hook, as git runs it: in a repository of its own, with this one's configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def _run(repository: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """No configuration of this machine counts."""
    names = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= dict.fromkeys(names, "somebody@example.com") | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PRE_COMMIT_HOME": str(repository / ".git" / "pre-commit"),
    }
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(repository, "git", *arguments)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    assert _git(folder, "init", "--quiet").returncode == 0
    shutil.copy(ROOT / ".pre-commit-config.yaml", folder)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".gitignore").write_text(".venv\n")
    assert _git(folder, "add", "--all").returncode == 0
    installed = _run(folder, sys.executable, "-m", "pre_commit", "install", "--hook-type", "commit-msg")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return folder


@pytest.mark.parametrize(
    "message",
    ["x" * 72, "ä" * 72, "x" * 72 + "\n\n" + "y" * 200, "fixup! " + "x" * 72],
    ids=["72 characters", "72 characters outside ASCII", "a long body", "a fixup"],
)
def test_a_subject_of_at_most_72_characters_is_committed(repository: Path, message: str) -> None:
    answer = _git(repository, "commit", "--allow-empty", "--message", message)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert _git(repository, "log", "-1", "--format=%B").stdout.strip() == message


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("x" * 73, "The subject has 73 characters; at most 72 are allowed"),
        ("x" * 72 + "\n" + "y", "Leave the second line of the message empty"),
    ],
    ids=["73 characters", "no empty line"],
)
def test_any_other_subject_is_refused(repository: Path, message: str, complaint: str) -> None:
    before = _git(repository, "rev-parse", "--verify", "HEAD").stdout
    answer = _git(repository, "commit", "--allow-empty", "--message", message)
    assert answer.returncode != 0
    assert complaint in answer.stdout + answer.stderr
    assert _git(repository, "rev-parse", "--verify", "HEAD").stdout == before
