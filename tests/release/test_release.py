"""`make release` on a clone of this repository: what it refuses, what it makes, and that it makes the same again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from release.checkout import RefusedError, checked
from release.version import InvalidVersionError, Version
from sandbox.kubernetes import binaries
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = "99.1.0-rc.2"
OWNER = "release@example.com"
ENTRY = "- An entry that only the test has."


def git(repository: Path, *arguments: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True, text=True).stdout.strip()


def release(repository: Path, version: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "release", "release", version, "--platforms", "none", *options]
    return subprocess.run(
        command,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _note(repository: Path) -> None:
    """Commit an entry under Unreleased."""
    changelog = repository / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n### Added\n\n{ENTRY}\n", 1), encoding="utf-8")
    git(repository, "commit", "--all", "--quiet", "--message", "Add an entry")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files of this one, and one entry under Unreleased."""
    clone = tmp_path_factory.mktemp("release") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name.partition("/")[0] not in {"", "tests", "sandbox", "bench"} and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone / name)
    git(clone, "init", "--quiet")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "All files")
    _note(clone)
    return clone


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file


@pytest.fixture(scope="module")
def openpgp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of GnuPG with one key, and the keyring that Helm reads."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:  # its socket's path must be short
        own = {**os.environ, "GNUPGHOME": home}
        made = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", OWNER, "ed25519", "sign", "1d"]
        subprocess.run(made, env=own, check=True, capture_output=True)
        Path(home, "keyring.gpg").write_bytes(
            subprocess.run(["gpg", "--export"], env=own, check=True, capture_output=True).stdout
        )
        yield Path(home)
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], env=own, check=True)


@pytest.fixture(scope="module")
def made(repository: Path, key: Path, openpgp: Path) -> Path:
    """The folder of a signed release; nothing beside it was written."""
    done = release(repository, VERSION, "--key", str(key), "--gpg", OWNER, GNUPGHOME=str(openpgp))
    assert done.returncode == 0, done.stderr
    assert git(repository, "status", "--porcelain") == ""
    assert "sha256sum --check SHA256SUMS" in done.stderr
    return repository / "dist" / VERSION


def test_a_release_is_complete_and_says_its_version_everywhere(made: Path) -> None:
    assert {file.name for file in made.iterdir()} == {
        "RELEASE_NOTES.md",
        "SHA256SUMS",
        "SHA256SUMS.sig",
        f"cmk-operator-{VERSION}.tgz",
        f"cmk-operator-{VERSION}.tgz.prov",
        f"cmk-operator-crds-{VERSION}.yaml",
        "cmk_operator-99.1.0rc2-py3-none-any.whl",
        "kubectl_cmk-99.1.0rc2-py3-none-any.whl",
        *(f"{name}-{VERSION}.cdx.json" for name in ("cmk-operator", "cmk-keyservice", "kubectl-cmk")),
    }
    assert ENTRY in (made / "RELEASE_NOTES.md").read_text(encoding="utf-8")
    for wheel in made.glob("*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            assert f'__version__ = "{VERSION}"'.encode() in opened.read("cmk_operator/__init__.py")
    with tarfile.open(made / f"cmk-operator-{VERSION}.tgz") as chart:
        metadata = chart.extractfile("cmk-operator/Chart.yaml")
        assert metadata is not None
        described = yaml.safe_load(metadata)
    assert (described["version"], described["appVersion"]) == (VERSION, VERSION)
    definitions = list(yaml.safe_load_all((made / f"cmk-operator-crds-{VERSION}.yaml").read_text(encoding="utf-8")))
    assert len(definitions) == len(list((ROOT / "crds").glob("*.yaml")))


def test_helm_takes_the_chart_of_a_release(made: Path, tmp_path: Path) -> None:
    chart = made / f"cmk-operator-{VERSION}.tgz"
    command = [str(binaries.helm()), "template", "cmk", str(chart), "--set", "crds.enabled=true"]
    environment = {**os.environ, "HELM_CACHE_HOME": str(tmp_path), "HELM_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert f"cmk-operator:{VERSION}" in done.stdout


def test_helm_verifies_the_chart_of_a_release(made: Path, openpgp: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "releases.md").read_text(encoding="utf-8")
    found = re.search(r"^helm (verify .*)$", page, re.MULTILINE)
    assert found is not None
    arguments = found[1].replace("$VERSION", VERSION).replace("keyring.gpg", str(openpgp / "keyring.gpg")).split()
    command = [str(binaries.helm()), *arguments]
    verified = subprocess.run(command, cwd=made, check=False, capture_output=True, text=True)
    assert f"Signed by: {OWNER}" in verified.stdout, verified.stderr
    for name in (f"cmk-operator-{VERSION}.tgz", f"cmk-operator-{VERSION}.tgz.prov"):
        shutil.copyfile(made / name, tmp_path / name)
    with (tmp_path / f"cmk-operator-{VERSION}.tgz").open("ab") as chart:
        chart.write(b"more")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_checksums_and_signature_are_checked_by_the_commands_of_the_page(made: Path, key: Path, tmp_path: Path) -> None:
    for line in (made / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest
    signers = tmp_path / "signers"
    signers.write_text(f"release@example.com {key.with_suffix('.pub').read_text()}")
    page = (ROOT / "docs" / "releases.md").read_text(encoding="utf-8")
    found = re.search(r"^(ssh-keygen -Y verify .*)$", page, re.MULTILINE)
    assert found is not None
    command = found[1].replace("allowed_signers", str(signers))
    assert subprocess.run(command, shell=True, cwd=made, check=False, capture_output=True).returncode == 0  # noqa: S602
    changed = tmp_path / "changed"
    shutil.copytree(made, changed)
    (changed / "SHA256SUMS").write_bytes((made / "SHA256SUMS").read_bytes() + b"\n")
    assert subprocess.run(command, shell=True, cwd=changed, check=False, capture_output=True).returncode != 0  # noqa: S602


def _content(folder: Path) -> Mapping[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix not in {".sig", ".prov"}}


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0.1.0", "choose a version above it"),
        ("0.0.9", "0.0.9 is not newer than 0.1.0, which is released: choose a version above it"),
        ("0.1.0-rc.1", "0.1.0-rc.1 is not newer than 0.1.0"),
        ("v1.0.0", "is not a version of a release: write MAJOR.MINOR.PATCH"),
        ("1.0", "is not a version of a release"),
        ("01.0.0", "is not a version of a release"),
        ("1.0.0+build", "which image tags cannot hold"),
        ("", "is not a version of a release"),
    ],
)
def test_a_version_that_is_none_or_not_newer_is_refused(repository: Path, version: str, words: str) -> None:
    with pytest.raises((InvalidVersionError, RefusedError)) as refused:
        checked(repository, Version.parse(version))
    assert words in str(refused.value)


def test_a_tree_that_is_not_committed_is_refused_and_named(repository: Path) -> None:
    (repository / "notes.txt").write_text("not committed")
    try:
        refused = release(repository, "99.2.0")
    finally:
        (repository / "notes.txt").unlink()
    assert refused.returncode == 1
    assert not (repository / "dist" / "99.2.0").exists()
    assert "these files are not committed; commit them, or put them aside by `git stash -u`:\n?? notes.txt" in refused.stderr


def test_a_second_run_elsewhere_makes_the_same_bytes_and_writes_the_version_when_asked(
    made: Path, repository: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "a folder with blanks"
    subprocess.run(["git", "clone", "--quiet", repository, elsewhere], check=True)
    other = {"TZ": "Asia/Kolkata", "PYTHONHASHSEED": "7", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "86400"}
    done = release(elsewhere, VERSION, "--write", **other)
    assert done.returncode == 0, done.stderr
    assert _content(elsewhere / "dist" / VERSION) == _content(made)
    assert f"git tag v{VERSION}" in done.stderr
    git(elsewhere, "commit", "--all", "--quiet", "--message", "Release")
    git(elsewhere, "tag", f"v{VERSION}")
    assert f"## [{VERSION}]" in (elsewhere / "CHANGELOG.md").read_text(encoding="utf-8")
    images = re.findall(
        r"cmk-(operator|keyservice):([\d.]\S*)\b", (elsewhere / "docs" / "installation.md").read_text(encoding="utf-8")
    )
    assert set(images) == {("operator", VERSION), ("keyservice", VERSION)}
    assert "has nothing under Unreleased" in release(elsewhere, "99.1.0").stderr
    _note(elsewhere)
    refused = release(elsewhere, VERSION)
    assert f"{VERSION} is released already: v{VERSION} is commit" in refused.stderr
    assert f"git checkout v{VERSION}" in refused.stderr


def test_versions_are_ordered_as_semantic_versioning_says() -> None:
    texts = [
        "1.0.0-alpha.1",
        "1.0.0-alpha.2",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.10",
        "1.1.0",
        "2.0.0",
    ]
    versions = [Version.parse(text) for text in texts]
    assert sorted([versions[4], *versions[5:], *versions[:4]], key=lambda one: one.order) == versions
    assert [str(one) for one in versions] == texts
    with pytest.raises(InvalidVersionError):
        Version.parse("1.0.0-rc1")
