"""The files of a release, each by its name, from a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release import krew
from release.archives import files_below, tarred
from release.command_line import BuildError, Closure, built, closure, sources, wheel
from release.one_file import Platform, archive, libraries, one_file
from release.signing import CHECKSUMS, checksums
from release.version import Version, section_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCK: Final = Path("requirements", "cli.lock")
CHART: Final = Path("charts", "cmk-operator")
BILLS: Final = (
    ("cmk-operator", Path("requirements", "operator.lock")),
    ("cmk-keyservice", Path("requirements", "keyservice.lock")),
    ("kubectl-cmk", LOCK),
)
"""The programs that have a bill of materials, each with its lock."""


def command_line(root: Path, version: Version, platforms: Sequence[Platform], url: str) -> dict[str, bytes]:
    """The wheel of `kubectl cmk`, its one-file archives, and the manifest for krew. Raises `BuildError`."""
    needed = closure(root)
    archives = {
        platform: archive(platform, str(version), one_file([libraries(platform, root / LOCK), sources(root, needed.modules)]))
        for platform in platforms
    }
    manifest = {"cmk.yaml": krew.manifest(version, archives, url).encode()} if archives else {}
    return _wheel(root, needed) | dict(archives.values()) | manifest


def everything(root: Path, version: Version, platforms: Sequence[Platform], url: str) -> dict[str, bytes]:
    """All files of a release, with their checksums. Raises `BuildError`."""
    notes = section_of((root / "CHANGELOG.md").read_text(encoding="utf-8"), str(version))
    files = command_line(root, version, platforms, url)
    with tempfile.TemporaryDirectory() as made:
        operator = built(root, Path(made))
        files[operator.name] = operator.read_bytes()
    files |= {
        f"cmk-operator-{version}.tgz": chart(root),
        f"cmk-operator-crds-{version}.yaml": definitions(root),
        "RELEASE_NOTES.md": f"# cmk-operator {version}\n\n{notes}\n".encode(),
    }
    files |= {f"{name}-{version}.cdx.json": bill_of_materials(root, name, lock) for name, lock in BILLS}
    return files | {CHECKSUMS: checksums(files)}


def _wheel(root: Path, needed: Closure) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as made:
        file = wheel(root, needed, Path(made))
        return {file.name: file.read_bytes()}


def chart(root: Path) -> bytes:
    """The chart as `helm package` packs it, but with the same bytes at every run."""
    files = {f"{CHART.name}/{name}": content for name, content in files_below(root / CHART).items()}
    return tarred(files, first=f"{CHART.name}/Chart.yaml")


def definitions(root: Path) -> bytes:
    """All custom resource definitions in one file for `kubectl apply --server-side`."""
    return b"---\n".join(content for _, content in sorted(files_below(root / "crds").items()))


def bill_of_materials(root: Path, name: str, lock: Path) -> bytes:
    """The packages of a program with their hashes, in CycloneDX, by the lock in the checkout. Raises `BuildError`."""
    with tempfile.TemporaryDirectory() as made:
        project, bill = Path(made, "pyproject.toml"), Path(made, "bill.json")
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
        project.write_text(text.replace('name = "cmk-operator"', f'name = "{name}"', 1), encoding="utf-8")
        command = [
            *(str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", str(lock), "--pyproject", str(project)),
            *("--mc-type", "application", "--no-validate", "--output-reproducible", "--of", "JSON", "-o", str(bill)),
        ]
        # Neither the folder nor the time that this variable names gets in.
        environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"cyclonedx-py cannot describe {lock}: {done.stderr.strip()}")
        return bill.read_bytes()
