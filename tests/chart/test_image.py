"""The Dockerfile's steps, run without Docker: both images start, and have what their locks say and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from release import image
from release.image import DockerfileError, Stage, build, contents, instructions, is_sent, report
from sandbox.kubernetes.cache import cache_directory, digest, made_once, run_with_progress
from tests.chart.conftest import rendered
from tests.chart.lint import EVERYTHING
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
INSTALLED = "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
LOCKS = [ROOT / "requirements" / f"{lock}.lock" for lock in ("build", *image.TARGETS)]
CONTAINERS = {"cmk-operator": "operator", "cmk-operator-keyservice": "keyservice"}

pytestmark = pytest.mark.timeout(1800)


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    for lock in LOCKS:
        run_with_progress(
            f"downloading the packages of {lock.name}",
            [*pip, "-r", str(lock)],
            directory=folder,
            environment=os.environ,
            log=folder.with_name(f"{folder.name}.log"),
        )


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """Both images. Unlike in an image, packages are downloaded once and nothing is compiled, which takes most of the time."""
    packages = made_once(cache_directory() / "wheels" / f"images-{digest(LOCKS)}", _download)
    fast = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages), "PIP_NO_COMPILE": "1"}
    return build(tmp_path_factory.mktemp("image"), environment=fast)


@pytest.mark.parametrize("target", image.TARGETS)
def test_an_image_has_the_locked_packages_and_the_product_and_no_installer(stages: dict[str, Stage], target: str) -> None:
    stage = stages[target]
    python = stage.path(stage.entrypoint[0]).with_name("python")
    listed = subprocess.run([python, "-c", INSTALLED], capture_output=True, text=True, check=True).stdout
    found = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in listed.splitlines())}
    lock = (ROOT / "requirements" / f"{target}.lock").read_text()
    assert found.pop(canonicalize_name("cmk-operator"))
    found.pop(canonicalize_name("setuptools"), None)  # put there by Python before 3.12, and not by that of the base image
    # What only other systems need is in the lock with its condition, and not in the image.
    assert found.items() <= {canonicalize_name(name): version for name, version in LOCKED.findall(lock)}.items()
    unconditional = re.findall(r"^([A-Za-z0-9._-]+)==[^ ;\\]+ \\", lock, re.MULTILINE)
    assert set(map(canonicalize_name, unconditional)) <= found.keys()
    assert not {"pip", "rich", "pytest", "ruff"} & found.keys()


@pytest.mark.parametrize(("target", "program"), [("operator", "cmk-operator"), ("keyservice", "cmk-keyservice")])
def test_an_image_starts_and_is_for_a_user_without_rights(stages: dict[str, Stage], target: str, program: str) -> None:
    stage = stages[target]
    helped = stage.run("--help")
    assert (helped.returncode, program in helped.stdout) == (0, True), helped.stderr
    script = stage.path(stage.entrypoint[0])
    [shebang] = script.read_text().splitlines()[:1]
    assert shebang.endswith(str(script.with_name("python")).removeprefix(str(stage.root))), "the path of the container"
    assert stage.user == "65532:65532"
    assert [str(path) for path in stage.path("/opt").rglob("*") if not path.stat().st_mode & 0o004] == []


def test_the_operator_of_the_image_checks_its_installation(stages: dict[str, Stage], tmp_path: Path) -> None:
    said = stages["operator"].run("check", environment={"HOME": str(tmp_path)})
    assert (said.returncode, said.stdout.splitlines()[-1]) == (1, "1 of 1 checks failed."), said.stderr


def test_the_key_service_of_the_image_makes_a_key_ring(stages: dict[str, Stage]) -> None:
    made = stages["keyservice"].run("new-keyring", "-")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)
    assert stages["keyservice"].command == ("serve",)


def test_the_chart_starts_the_images_as_they_are(stages: dict[str, Stage]) -> None:
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]
        for item in rendered("--values", EVERYTHING)
        if item["kind"] == "Deployment"
    }
    for name, target in CONTAINERS.items():
        container, stage = pods[name]["containers"][0], stages[target]
        assert "command" not in container
        assert {port["containerPort"] for port in container["ports"]} <= set(stage.ports)
        ids = pods[name]["securityContext"]
        assert f"{ids['runAsUser']}:{ids['runAsGroup']}" == stage.user


def test_the_contents_of_an_image_are_told_by_package(stages: dict[str, Stage]) -> None:
    sizes = contents(stages["operator"])
    text = report("cmk-operator", sizes)
    locked = dict(LOCKED.findall((ROOT / "requirements" / "operator.lock").read_text()))
    assert f"  kopf {locked['kopf']}" in text
    assert sizes["(other)"] < sum(sizes.values()) / 20, "nearly everything belongs to a package"
    shown = [float(size) for size in re.findall(r"^ +([0-9.]+) MB", text, re.MULTILINE)]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("operator/cmk_operator/check.py", True),
        ("operator/cmk_operator/__pycache__/check.pyc", False),
        ("requirements/operator.lock", True),
        ("requirements/dev.lock", False),
        ("tests/conftest.py", False),
        ("README.md", True),
        (".env", False),
    ],
)
def test_the_context_has_what_the_images_are_built_from(path: str, sent: bool) -> None:  # noqa: FBT001 - a table
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert is_sent(path, rules) is sent


def test_continued_lines_are_one_instruction_and_comments_are_none() -> None:
    text = '# one\nFROM a AS b\nRUN x \\\n && y\n# two\nCMD ["z"]\n'
    assert instructions(text) == [("FROM", "a AS b"), ("RUN", "x   && y"), ("CMD", '["z"]')]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("HEALTHCHECK NONE", "cannot be run here"),
        ("RUN exit 3", "RUN exit 3"),
        ("COPY requirements/dev.lock .", "is not in the context"),
        ("COPY --from=a /opt/x /opt/y", "works only at the path where it was made"),
    ],
)
def test_a_step_that_fails_or_is_not_known_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, told: str
) -> None:
    changed = tmp_path / "context"
    changed.mkdir()
    (changed / "Dockerfile").write_text(f"FROM python AS a\n{line}\n")
    (changed / ".dockerignore").write_text("requirements\n")
    subprocess.run(["git", "init", "--quiet"], cwd=changed, check=True)
    monkeypatch.setattr(image, "ROOT", changed)
    with pytest.raises(DockerfileError, match=told):
        build(tmp_path / "image")
