"""The distribution `kubectl-cmk`: the command line and what it imports, without kopf and the SDKs of Azure.

What belongs to it is computed, not listed: the modules that it imports by name, and those that are loaded with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grimp

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE: Final = "cmk_operator"
COMMANDS: Final = f"{PACKAGE}.cli"
NAME: Final = "kubectl-cmk"
_LOADED: Final = """
import importlib, json, pkgutil, sys
for one in pkgutil.iter_modules(importlib.import_module({commands!r}).__path__, {commands!r} + "."):
    importlib.import_module(one.name)
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == {package!r})))
"""
_README: Final = """\
# kubectl cmk

The command line of cmk-operator: the state of customer-managed keys, what stops when, and who must act. It runs the
kubectl on the PATH, and needs nothing else of the operator. Run `kubectl cmk --help`.
"""


class BuildError(Exception):
    """What hinders a build, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Closure:
    """What the command line consists of: modules of the project, and requirements of others as pyproject.toml bounds them."""

    modules: tuple[str, ...]
    requirements: tuple[str, ...]


def closure(root: Path) -> Closure:
    """What the command line of a checkout consists of. Raises `BuildError` if a requirement is not in pyproject.toml."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or not Path(spec.origin).resolve().is_relative_to(root.resolve()):
        raise BuildError(f"{PACKAGE} is not imported from {root}: set PYTHONPATH to its folder operator")
    graph = grimp.build_graph(PACKAGE, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)
    named = graph.find_upstream_modules(COMMANDS, as_package=True) | graph.find_descendants(COMMANDS)
    code = _LOADED.format(commands=COMMANDS, package=PACKAGE)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = {name for name in named if name.partition(".")[0] == PACKAGE} | set(json.loads(done.stdout))
    found |= {name.rsplit(".", depth)[0] for name in found for depth in range(1, name.count(".") + 1)}
    imported = {other for name in found for other in graph.find_modules_directly_imported_by(name)}
    needed = sorted(name for name in imported if name not in sys.stdlib_module_names and name.partition(".")[0] != PACKAGE)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = {_name_of(one): one for one in (*project["dependencies"], *project["optional-dependencies"]["cli"])}
    unknown = [name for name in needed if name not in bounds]
    if unknown:
        raise BuildError(f"{COMMANDS} imports {', '.join(unknown)}: add it to the extra cli in pyproject.toml")
    return Closure(tuple(sorted(found)), tuple(bounds[name] for name in needed))


def _name_of(requirement: str) -> str:
    end = next((at for at, character in enumerate(requirement) if character in "[<>=!~; "), len(requirement))
    return requirement[:end]


def sources(root: Path, modules: Iterable[str]) -> dict[str, bytes]:
    """The files of modules, by their names below the folder operator."""
    found = {}
    for module in modules:
        folder = root / "operator" / Path(*module.split("."))
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        found[file.relative_to(root / "operator").as_posix()] = file.read_bytes()
    return found


def wheel(root: Path, needed: Closure, into: Path) -> Path:
    """Build the wheel into a folder; the same bytes at every run. Raises `BuildError`."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as made:
        stage = Path(made)
        (stage / "README.md").write_text(_README, encoding="utf-8")
        (stage / "pyproject.toml").write_text(_project(project, needed.requirements), encoding="utf-8")
        for name, content in sources(root, needed.modules).items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_bytes(content)
        return built(stage, into)


def built(project: Path, into: Path) -> Path:
    """Build a project's wheel by its backend, uv_build, into a folder. Raises `BuildError`."""
    into.mkdir(parents=True, exist_ok=True)
    code = f"import uv_build; print(uv_build.build_wheel({str(into.resolve())!r}))"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"uv_build cannot build {project}: {done.stderr.strip()}")
    return into / done.stdout.split()[-1]


def _project(project: dict[str, Any], needed: tuple[str, ...]) -> str:
    """The pyproject.toml of the distribution."""
    own = project["project"]
    lines = [
        "[project]",
        f'name = "{NAME}"',
        f"version = {json.dumps(own['version'])}",
        'description = "kubectl cmk: the command line of cmk-operator"',
        'readme = "README.md"',
        f"requires-python = {json.dumps(own['requires-python'])}",
        f"dependencies = {json.dumps(list(needed))}",
        "[project.scripts]",
        f'kubectl-cmk = "{COMMANDS}.__main__:main"',
        f'kubectl_complete-cmk = "{COMMANDS}.completion:main"',
        "[build-system]",
        f"requires = {json.dumps(project['build-system']['requires'])}",
        'build-backend = "uv_build"',
        "[tool.uv.build-backend]",
        'module-root = ""',
        f'module-name = "{PACKAGE}"',
    ]
    return "\n".join(lines) + "\n"
