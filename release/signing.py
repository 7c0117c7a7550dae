"""Checksums of a release, and signatures over them."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING, Final

from release.command_line import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHECKSUMS: Final = "SHA256SUMS"
NAMESPACE: Final = "cmk-operator-release"
"""What the signature is for: ssh-keygen refuses one that was made for something else. Source: ssh-keygen(1), -Y sign."""


def checksums(files: Mapping[str, bytes]) -> bytes:
    """What `sha256sum --check` reads."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)).encode()


def sign(folder: Path, key: Path) -> None:
    """Sign the checksums in a folder with a key of SSH (its public half, if an agent has the other). Raises `BuildError`."""
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), str(folder / CHECKSUMS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError("ssh-keygen is not on the PATH: install OpenSSH 8.0 or newer, or leave out KEY") from error
    if done.returncode != 0:
        raise BuildError(f"ssh-keygen cannot sign with {key}: {done.stderr.strip()}")
