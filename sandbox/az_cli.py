"""The real az CLI: found, or installed once into an environment of its own (it pins old versions of the SDKs used here)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "2.91.0"
LOCK = Path(__file__).parents[1] / "requirements" / "az.lock"
COMMAND_SECONDS = 180
SCRIPT_SECONDS = 600


class AzCommandError(Exception):
    """The az CLI ended with an error; its own words are in the message."""


def cache_directory() -> Path:
    """Where the CLI is installed: below `$XDG_CACHE_HOME` or `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cmk-operator" / f"az-{VERSION}"


def found() -> list[str] | None:
    """The command line that runs az without installing it: `$CMK_SANDBOX_AZ`, or the cached install."""
    if given := os.environ.get("CMK_SANDBOX_AZ"):
        return [given]
    python = cache_directory() / "bin" / "python"
    return [str(python), "-m", "azure.cli"] if python.exists() else None


def find_or_install() -> list[str]:
    """The command line that runs az, which is installed if it is not found."""
    if (command := found()) is None:
        _install(cache_directory())
        command = found()
    if command is None:
        raise AzCommandError(f"there is no az below {cache_directory()} although it was installed")
    return command


def _install(directory: Path) -> None:
    """Into a directory beside it first, so that an install that was cut short is never taken for a whole one."""
    partial = directory.with_name(f"{directory.name}.partial-{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    venv.create(partial, with_pip=False, clear=True)
    python = str(partial / "bin" / "python")
    wanted = ["--require-hashes", "-r", str(LOCK)] if LOCK.exists() else [f"azure-cli=={VERSION}"]
    uv = shutil.which("uv") or Path(sys.executable).with_name("uv")
    try:
        subprocess.run([str(uv), "pip", "install", "--quiet", "--python", python, *wanted], check=True)
        if not directory.exists():
            partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class Az:
    """Runs az as one person: with a configuration directory of its own and only the sandbox's variables."""

    config_directory: Path
    env: Mapping[str, str]

    def _environment(self) -> dict[str, str]:
        names = ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.config_directory),
            "LANG": "C.UTF-8",
            **{name: self.env[name] for name in names},
            "AZURE_CONFIG_DIR": str(self.config_directory),
            "AZURE_CORE_COLLECT_TELEMETRY": "no",
            "AZURE_CORE_NO_COLOR": "yes",
            "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
        }

    def __call__(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever JSON the command prints
        """Run one command and parse its output. Raises AzCommandError."""
        command = [*find_or_install(), *arguments, "--output", "json", "--only-show-errors"]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode != 0:
            raise AzCommandError(f"az {' '.join(arguments[:3])}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def script(self, text: str, **variables: str) -> str:
        """Run a bash script in which `az` is this person's; what it prints. Raises AzCommandError."""
        commands = self.config_directory / "commands"
        commands.mkdir(exist_ok=True)
        az = commands / "az"
        az.write_text(f'#!/bin/sh\nexec {shlex.join(find_or_install())} "$@"\n', encoding="utf-8")
        az.chmod(0o755)
        environment = {**self._environment(), "AZURE_CORE_ONLY_SHOW_ERRORS": "yes", **variables}
        environment["PATH"] = f"{commands}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-s"], input=text, env=environment, capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False
        )
        if done.returncode != 0:
            raise AzCommandError(f"the script ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout
