"""`kubectl cmk` as people install it: its wheel in an empty environment, and the one file; both on the real API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release.archives import files_below
from release.command_line import Closure, closure, sources, wheel
from release.one_file import PLATFORMS, archive, one_file, shipped
from tests.cli.conftest import TENANT
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 40e6
"""Bytes of the installed wheel with its libraries, and with what Python compiles; with everything else it would be 110 MB."""
LOCKED = re.compile(r"^(\S+?)==(\S+)", re.MULTILINE)
EVERY_MODULE = """
import importlib, importlib.metadata, json, pkgutil, sys
import cmk_operator
for one in pkgutil.walk_packages(cmk_operator.__path__, "cmk_operator."):
    importlib.import_module(one.name)
print(json.dumps({
    "modules": sorted(name for name in sys.modules if name.partition(".")[0] in {"cmk_operator", "kopf", "azure", "kubernetes"}),
    "installed": sorted(one.metadata["Name"].lower().replace("_", "-") for one in importlib.metadata.distributions()),
}))
"""


@pytest.fixture(scope="module")
def needed() -> Closure:
    return closure(ROOT)


@pytest.fixture(scope="module")
def installed(needed: Closure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, by pip; its libraries come from the lock's versions that are on this machine."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    for name, version in LOCKED.findall((ROOT / "requirements" / "cli.lock").read_text(encoding="utf-8")):
        found = distribution(name)
        assert found.version == version, "the locks of the command line and of the tests have the same versions"
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(Path(str(file.locate())).read_bytes())
    built = wheel(ROOT, needed, folder)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-index", str(built)], check=True, capture_output=True)
    subprocess.run([*pip, "check"], check=True, capture_output=True)
    return folder / "venv"


def _run(program: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl, which finds the plugin; nothing of this checkout is in the environment."""
    own = {**environment, "PATH": f"{program.parent}{os.pathsep}{environment['PATH']}"}
    return subprocess.run(["kubectl", *arguments], env=own, cwd="/", capture_output=True, text=True, check=False)


def test_the_wheel_has_what_it_imports_and_nothing_of_the_operator(installed: Path, needed: Closure) -> None:
    done = subprocess.run([installed / "bin" / "python", "-I", "-c", EVERY_MODULE], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert set(found["modules"]) == set(needed.modules)
    locked = {name.lower() for name, _ in LOCKED.findall((ROOT / "requirements" / "cli.lock").read_text(encoding="utf-8"))}
    assert set(found["installed"]) == locked | {"kubectl-cmk"}
    size = sum(file.stat().st_size for file in installed.rglob("*") if file.is_file() and not file.is_symlink())
    assert size < LARGEST


def test_the_wheel_works_on_a_cluster(installed: Path, environment: Mapping[str, str], customer: str) -> None:
    program = installed / "bin" / "kubectl-cmk"
    assert "--exit-code" in _run(program, environment, "cmk", "status", "--help").stdout
    done = _run(program, environment, "cmk", "status", "--tenant", TENANT, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert [one["name"] for one in json.loads(done.stdout)["tenants"]] == [customer]
    assert _run(program, environment, "__complete", "cmk", "hand").stdout.splitlines()[0].startswith("handoff")


@pytest.fixture(scope="module")
def unpacked(installed: Path, needed: Closure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the program in one file, as its archive is unpacked."""
    packages = installed / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    libraries = {name: text for name, text in shipped(files_below(packages)).items() if not name.startswith("cmk_operator/")}
    folder = tmp_path_factory.mktemp("one-file")
    parts = [libraries, sources(ROOT, needed.modules)]
    name, content = archive(PLATFORMS[0], "1.2.3", one_file(parts))
    assert one_file(parts) == one_file(reversed(parts)), "the same bytes at every run"
    (folder / name).write_bytes(content)
    subprocess.run(["tar", "-xzf", name], cwd=folder, check=True)
    return folder


def test_the_one_file_works_on_a_cluster(unpacked: Path, environment: Mapping[str, str], customer: str, tmp_path: Path) -> None:
    own = {**environment, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}
    program = unpacked / "kubectl-cmk"
    for _ in range(2):  # the second time it is unpacked already
        done = _run(program, own, "cmk", "status", "--tenant", TENANT, "-o", "json")
        assert done.returncode == 0, done.stderr
        assert [one["name"] for one in json.loads(done.stdout)["tenants"]] == [customer]
        assert len(list((tmp_path / ".cache" / "kubectl-cmk").iterdir())) == 1
    assert _run(program, own, "__complete", "cmk", "stat").stdout.splitlines()[0].startswith("status")


def test_the_one_file_leaves_nothing_where_it_can_keep_nothing(
    unpacked: Path, environment: Mapping[str, str], tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    own = {**environment, "HOME": "/proc/none", "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, unpacked / "kubectl-cmk", "--version"], env=own, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    assert list(temporary.iterdir()) == []


def test_the_one_file_says_which_pythons_it_is_for(unpacked: Path, needed: Closure, tmp_path: Path) -> None:
    native = {"pydantic_core/_pydantic_core.cp314-win_amd64.pyd": b""}
    file = tmp_path / "kubectl-cmk.pyz"
    file.write_bytes(one_file([native, sources(ROOT, needed.modules)]))
    done = subprocess.run([sys.executable, file, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "but for: cp314-win_amd64.pyd. Take the file of your platform, or install the wheel" in done.stderr
