"""Versions of releases: Semantic Versioning, of those kinds that Python's and Helm's tools take, too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-(alpha|beta|rc)\.(0|[1-9]\d*))?")
_PEP440: Final = {"alpha": "a", "beta": "b", "rc": "rc"}
_RELEASED: Final = re.compile(r"^## \[([^\]]+)\]", re.MULTILINE)


class InvalidVersionError(ValueError):
    """A text that is no version; the message says what is one."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version such as 1.2.3 or 1.3.0-rc.1; a release is newer than its candidates. Source: semver.org, 2.0.0, item 11."""

    numbers: tuple[int, int, int]
    stage: str = ""
    candidate: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a version. Raises `InvalidVersionError`."""
        found = _VERSION.fullmatch(text)
        if found is None:
            raise InvalidVersionError(
                f"{text!r} is not a version of a release: write MAJOR.MINOR.PATCH as in 1.2.3, or a candidate as in 1.3.0-rc.1 "
                "(alpha, beta or rc); no leading v, and no +build, which image tags cannot hold"
            )
        major, minor, patch, stage, candidate = found.groups()
        return cls((int(major), int(minor), int(patch)), stage or "", int(candidate or 0))

    def __str__(self) -> str:
        numbers = ".".join(map(str, self.numbers))
        return f"{numbers}-{self.stage}.{self.candidate}" if self.stage else numbers

    @property
    def python(self) -> str:
        """As Python's packages spell it. Source: PEP 440."""
        numbers = ".".join(map(str, self.numbers))
        return f"{numbers}{_PEP440[self.stage]}{self.candidate}" if self.stage else numbers

    @property
    def order(self) -> tuple[tuple[int, int, int], bool, str, int]:
        """What versions are sorted by."""
        return self.numbers, not self.stage, self.stage, self.candidate


def released_in(changelog: str) -> tuple[Version, ...]:
    """The versions that a changelog has a section for, in its order. Raises `InvalidVersionError`."""
    return tuple(Version.parse(name) for name in _RELEASED.findall(changelog) if name != "Unreleased")


def unreleased_in(changelog: str) -> str:
    """The entries below *Unreleased*."""
    return section_of(changelog, "Unreleased")


def section_of(changelog: str, name: str) -> str:
    """The text below a heading, without the heading; empty if there is none."""
    _, _, rest = changelog.partition(f"\n## [{name}]")
    return re.split(r"^## \[", rest.partition("\n")[2], maxsplit=1, flags=re.MULTILINE)[0].strip()
