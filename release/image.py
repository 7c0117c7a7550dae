"""Runs the steps of the Dockerfile without Docker, and tells how large the images are and what is in them.

Each stage has a folder in place of its root file system, and this machine's Python in place of the base image. Only the
instructions that the Dockerfile has are known; any other is an error, so that nothing is passed over in silence.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TARGETS: Final = ("operator", "keyservice")
SHOWN: Final = 12
_UNDER_OPT: Final = re.compile(r"(?<![\w./])/opt(?=/)")
_WITHOUT_EFFECT: Final = {"LABEL"}


class DockerfileError(Exception):
    """A step failed, or is none that can be run here; the message says which."""


@dataclass
class Stage:
    """What a stage has become: `root` is its file system, and the rest is what its container would start with."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))
    user: str = "0:0"
    ports: tuple[int, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def path(self, inside: PurePosixPath | str) -> Path:
        """Where an absolute path of the container is here."""
        return self.root / str(inside).lstrip("/")

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the entry point with these arguments instead of `command`, with nothing of this process' own environment."""
        script = self.path(self.entrypoint[0])
        python = script.with_name("python")
        return subprocess.run(
            [python, script, *self.entrypoint[1:], *arguments],
            env={**self.environment, "PATH": "/usr/bin:/bin", **(environment or {})},
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what follows each, without comments and with continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0].upper(), line.split(maxsplit=1)[1].strip()) for line in joined]


def is_sent(path: str, ignored: list[str]) -> bool:
    """Whether Docker gets a file of the context: the last rule of .dockerignore that matches it or a folder above decides."""
    parents = [path, *map(str, PurePosixPath(path).parents)][:-1] if "/" in path else [path]
    sent = True
    for rule in ignored:
        pattern = rule.removeprefix("!")
        names = parents + [PurePosixPath(each).name for each in parents] * pattern.startswith("**/")
        if any(
            fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) and ("*" not in pattern or "/" not in name) for name in names
        ):
            sent = rule.startswith("!")
    return sent


def build(directory: Path, *, environment: dict[str, str] | None = None) -> dict[str, Stage]:
    """Run every step below `directory` and return the stages by name.

    `environment` is what RUN gets beside the Dockerfile's own, such as how to reach a package registry. Raises
    `DockerfileError`.
    """
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    context = {name for name in tracked.split("\0") if name and (ROOT / name).is_file() and is_sent(name, rules)}
    stages: dict[str, Stage] = {}
    stage = Stage(directory)
    for instruction, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = _derived(stages[base]) if base in stages else _new(directory / name)
            stages[name] = stage
        elif instruction == "RUN":
            _run(stage, rest, environment or {})
        elif instruction == "COPY":
            _copy(stage, rest, stages, context)
        elif instruction not in {"ARG", *_WITHOUT_EFFECT}:
            _configure(stage, instruction, rest)
    return stages


def _new(root: Path) -> Stage:
    """A stage on the base image, which has a Python and nothing else that is used."""
    programs = root / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(Path(sys.executable).resolve())
    return Stage(root)


def _derived(base: Stage) -> Stage:
    """A stage on another one. It works in the same folder, as virtual environments cannot be moved."""
    return Stage(base.root, dict(base.environment), base.directory, base.user)


def _run(stage: Stage, command: str, environment: dict[str, str]) -> None:
    own = {"PATH": f"{stage.path('/usr/local/bin')}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    here = _UNDER_OPT.sub(str(stage.path("/opt")), command)
    stage.path(stage.directory).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["/bin/sh", "-ec", here],
        cwd=stage.path(stage.directory),
        env={**stage.environment, **environment, **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DockerfileError(f"RUN {command}\n{done.stdout}{done.stderr}")


def _copy(stage: Stage, rest: str, stages: dict[str, Stage], context: set[str]) -> None:
    words = rest.split()
    if words[0].startswith("--from="):
        source, target = words[1:]
        if source != target:
            raise DockerfileError(f"COPY {rest}: a virtual environment works only at the path where it was made")
        shutil.copytree(stages[words[0].removeprefix("--from=")].path(source), stage.path(target), symlinks=True)
        return
    *sources, target = words
    into = stage.path(stage.directory / target)
    for source in sources:
        files = [name for name in context if name == source or name.startswith(f"{source}/")]
        if not files:
            raise DockerfileError(f"COPY {rest}: {source} is not in the context; see .dockerignore")
        for name in files:
            below = name.removeprefix(f"{source}/") if name != source else PurePosixPath(name).name
            (into / below).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / below)


def _configure(stage: Stage, instruction: str, rest: str) -> None:
    match instruction:
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in rest.split())
        case "WORKDIR":
            stage.directory = PurePosixPath(rest)
        case "USER":
            stage.user = rest
        case "EXPOSE":
            stage.ports = tuple(int(port) for port in rest.split())
        case "ENTRYPOINT":
            stage.entrypoint = tuple(json.loads(rest))
        case "CMD":
            stage.command = tuple(json.loads(rest))
        case _:
            raise DockerfileError(f"{instruction} {rest}: this instruction cannot be run here")


def contents(stage: Stage) -> Counter[str]:
    """Bytes of each package in the stage's virtual environment, byte code included; what is no package's is `(other)`."""
    sizes: Counter[str] = Counter()
    owners: dict[str, str] = {}
    [site] = stage.root.glob("opt/*/lib/python*/site-packages")
    for record in site.glob("*.dist-info/RECORD"):
        name = re.sub(r"-([0-9][^-]*)$", r" \1", record.parent.name.removesuffix(".dist-info"))
        with record.open(encoding="utf-8", newline="") as lines:
            owners |= {os.path.normpath(f"{site}/{line[0]}"): name for line in csv.reader(lines)}
    for folder, _, files in os.walk(stage.path("/opt")):
        for file in files:
            path = f"{folder}/{file}"
            source = f"{folder.removesuffix('/__pycache__')}/{file.partition('.')[0]}.py"
            size = os.lstat(path).st_size
            sizes[owners.get(path) or owners.get(source if file.endswith(".pyc") else path, "(other)")] += size
    return sizes


def report(name: str, sizes: Counter[str]) -> str:
    """The size on top of the base image, and the packages from the largest to the smallest."""
    lines = [f"{name}: {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} packages, on top of the base image"]
    lines += [
        f"  {size / 1e6:7.2f} MB  {package}" for package, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0]))
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write dist/<image>.contents.txt for both images, and print the largest parts of each."""
    with tempfile.TemporaryDirectory() as folder:
        registry = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "NO_PROXY", "SSL_"))}
        try:
            stages = build(Path(folder), environment=registry)
        except DockerfileError as failure:
            sys.stderr.write(f"the Dockerfile cannot be run: {failure}\n")
            return 1
        for target in TARGETS:
            name = f"cmk-{target}"
            text = report(name, contents(stages[target]))
            (ROOT / "dist").mkdir(exist_ok=True)
            (ROOT / "dist" / f"{name}.contents.txt").write_text(text, encoding="utf-8")
            sys.stdout.write("\n".join(text.splitlines()[: SHOWN + 1]) + f"\n  … all of them: dist/{name}.contents.txt\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
