"""The checkout that a release is made from: whether it may be, and its files with the version of the release."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from release.version import InvalidVersionError, Version, released_in, unreleased_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHANGELOG: Final = "CHANGELOG.md"
_PLACES: Final = (
    ("pyproject.toml", r'^version = "(.*)"$'),
    ("operator/cmk_operator/__init__.py", r'^__version__ = "(.*)"$'),
    ("charts/cmk-operator/Chart.yaml", r"^version: (.*)$"),
    ("charts/cmk-operator/Chart.yaml", r"^appVersion: (.*)$"),
)
"""Where the version stands, once in each."""


class RefusedError(Exception):
    """Why no release is made, and what to do."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit that is released, and the day of it in UTC."""

    name: str
    day: str


def checked(root: Path, version: Version) -> Commit:
    """The commit to release. Raises `RefusedError` unless the tree is clean and the version follows all that were released."""
    if _git(root, "rev-parse", "--is-inside-work-tree") != "true":
        raise RefusedError(f"{root} is not a checkout of git: clone the repository, and release from there")
    changed = _git(root, "status", "--porcelain")
    if changed:
        raise RefusedError(f"these files are not committed; commit them, or put them aside by `git stash -u`:\n{changed}")
    name, day = _git(root, "log", "-1", "--format=%H %cd", "--date=format-local:%Y-%m-%d").split()
    changelog = (root / CHANGELOG).read_text(encoding="utf-8")
    try:
        listed = released_in(changelog)
    except InvalidVersionError as error:
        raise RefusedError(f"{CHANGELOG}: {error}") from error
    tag = f"v{version}"
    tags = dict(_tags(root))
    if tag in tags and tags[tag] != name:
        raise RefusedError(
            f"{version} is released already: {tag} is commit {tags[tag][:12]}. To build it again: git checkout {tag}"
        )
    written = bool(listed) and listed[0] == version and not unreleased_in(changelog)
    others = [one for one in (*listed, *(_version_of(known) for known in tags)) if one is not None and one != version]
    newest = max(others, key=lambda one: one.order, default=None)
    if newest is not None and version.order < newest.order and tag not in tags:
        raise RefusedError(f"{version} is not newer than {newest}, which is released: choose a version above it")
    if version in listed and not written:
        raise RefusedError(f"{version} is in {CHANGELOG} already, with entries under Unreleased: choose a version above it")
    if version not in listed and not unreleased_in(changelog):
        raise RefusedError(
            f"{CHANGELOG} has nothing under Unreleased: write what users can notice since {newest}, and commit it"
        )
    return Commit(name, day)


def _version_of(tag: str) -> Version | None:
    try:
        return Version.parse(tag.removeprefix("v"))
    except InvalidVersionError:
        return None


def _tags(root: Path) -> Iterator[tuple[str, str]]:
    """The tags of releases, each with its commit."""
    for line in _git(
        root, "for-each-ref", "refs/tags/v*", "--format=%(refname:short) %(objectname) %(*objectname)"
    ).splitlines():
        tag, *objects = line.split()
        yield tag, objects[-1]


def exported(root: Path, commit: Commit, into: Path) -> None:
    """Write the files of a commit into an empty folder."""
    content = subprocess.run(["git", "archive", "--format=tar", commit.name], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # absent before Python 3.11.4
        archive.extractall(into)  # noqa: S202 - git made it, a moment ago


def with_version(root: Path, version: Version, day: str) -> None:
    """Write the version into the files that have one, and its heading into the changelog; nothing if it is there already."""
    old = ""
    for name, pattern in _PLACES:
        own = version.python if name == "pyproject.toml" else str(version)
        text = (root / name).read_text(encoding="utf-8")
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise RefusedError(f"{name} has no version: a line like {pattern} is missing")
        old = found[1]
        (root / name).write_text(text[: found.start(1)] + own + text[found.end(1) :], encoding="utf-8")
    for file in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        text = file.read_text(encoding="utf-8")
        changed = re.sub(rf"(?<=cmk-)(operator|keyservice):{re.escape(old)}(?![\w.-])", rf"\1:{version}", text)
        if changed != text:
            file.write_text(changed, encoding="utf-8")
    changelog = (root / CHANGELOG).read_text(encoding="utf-8")
    if version not in released_in(changelog):
        heading = f"## [Unreleased]\n\n## [{version}] - {day}\n"
        (root / CHANGELOG).write_text(changelog.replace("## [Unreleased]\n", heading, 1), encoding="utf-8")


def _git(root: Path, *arguments: str) -> str:
    """What git prints; empty if it fails."""
    environment = {"TZ": "UTC0", "LC_ALL": "C"}
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return done.stdout.strip()
