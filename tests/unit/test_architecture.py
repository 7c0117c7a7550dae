"""The house itself: its layers, and that the custom resource definitions are those of the models."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from cmk_operator.api import crd

ROOT = Path(__file__).resolve().parents[2]


def test_every_import_goes_down_the_layers_and_the_core_is_pure() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": "operator"}
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("package", ["cmk_operator", "sandbox"])
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle; imports for types count too


def test_the_definitions_are_those_of_the_models() -> None:
    command = [sys.executable, "-m", "cmk_operator.api.crd", "--check"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": "operator"})
    assert answer.returncode == 0, answer.stderr


def test_a_definition_that_differs_or_is_missing_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / "crds", tmp_path / "charts" / "cmk-operator" / "files" / "crds"):
        folder.mkdir(parents=True)
        for name, text in crd.rendered():
            (folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "crds" / "cmk-operator.dev_customertenants.yaml").write_text("other", encoding="utf-8")
    (tmp_path / "charts" / "cmk-operator" / "files" / "crds" / "cmk-operator.dev_encryptedresources.yaml").unlink()
    command = [sys.executable, "-m", "cmk_operator.api.crd", "--check", "--root", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT / "operator")})
    assert answer.returncode == 1
    assert "crds/cmk-operator.dev_customertenants.yaml" in answer.stderr
    assert "files/crds/cmk-operator.dev_encryptedresources.yaml" in answer.stderr
    assert "customermanagedkeys" not in answer.stderr


def test_the_unit_tests_need_no_program_and_no_server() -> None:
    """They are what runs in a minute anywhere: nothing is built or started for them."""
    for path in (ROOT / "tests" / "unit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ImportFrom(module=str(module)):
                    assert not module.startswith("sandbox.kubernetes"), f"{path}: {module}"
                case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name.startswith("test_"):
                    asked = {argument.arg for argument in node.args.args}
                    assert not asked & {"cluster", "empty_cluster", "azure"}, f"{path}: {node.name}"
