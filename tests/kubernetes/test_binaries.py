from __future__ import annotations

import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes import binaries, go_modules
from sandbox.kubernetes.go_modules import GoProgram

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("v1.30.0", True),
        ("v1.37.1", True),
        ("v1.34.2+k3s1", True),
        ("v1.29.9", False),
        ("v1.32.4-dispatcher", False),
        ("", False),
    ],
)
def test_only_a_recent_kubectl_that_is_the_program_itself_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, taken: bool
) -> None:
    _program(tmp_path / "kubectl", f'echo \'{{"clientVersion": {{"gitVersion": "{version}"}}}}\'')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    binaries.kubectl.cache_clear()
    try:
        assert (binaries.kubectl() == tmp_path / "kubectl") is taken
    finally:
        binaries.kubectl.cache_clear()


def test_the_assets_of_setup_envtest_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("etcd", "kube-apiserver"):
        _program(tmp_path / name, "true")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert (binaries.etcd(), binaries.kube_apiserver()) == (tmp_path / "etcd", tmp_path / "kube-apiserver")


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_a_changed_module_is_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    shutil.copytree(go_modules.MODULES / "etcd", tmp_path / "etcd")
    monkeypatch.setattr(go_modules, "MODULES", tmp_path)
    before = binaries.ETCD.cached
    with (tmp_path / "etcd" / file).open("a") as module:
        module.write("\n")
    assert binaries.ETCD.cached != before


def test_a_program_is_built_from_its_module_and_then_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "modules" / "hello"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module example.invalid/hello\n\ngo 1.21\n\n// example.invalid/it v1.2.3\n")
    (module / "main.go").write_text("package main\n\nvar gitVersion string\n\nfunc main() { print(gitVersion) }\n")
    go = go_modules.go_toolchain((1, 21))
    monkeypatch.setattr(go_modules, "go_toolchain", lambda _wanted: go)
    monkeypatch.setattr(go_modules, "MODULES", tmp_path / "modules")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hello = GoProgram("hello", "hello", ".", "example.invalid/it", "a second", "main")
    assert not hello.cached.exists()
    built = hello.built()
    made = built.stat().st_mtime_ns
    assert (hello.version, built) == ("v1.2.3", hello.cached)
    assert hello.built().stat().st_mtime_ns == made


def test_an_old_toolchain_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path / "go", "echo go1.19.2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert go_modules.go_toolchain((1, 19)) == tmp_path / "go"
    other = tmp_path / "wheel"
    (other / "go" / "bin").mkdir(parents=True)
    _program(other / "go" / "bin" / "go", "echo go1.26.3")
    monkeypatch.setattr(go_modules, "installed", lambda _lock: other)
    assert go_modules.go_toolchain((1, 26, 0)) == other / "go" / "bin" / "go"


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
