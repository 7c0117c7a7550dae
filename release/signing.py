"""Checksums of a release, and signatures: of SSH over the checksums, of OpenPGP over the chart, as Helm reads it."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
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
    _run(
        ["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), str(folder / CHECKSUMS)],
        "OpenSSH 8.0 or newer",
        "KEY",
    )


def sign_chart(chart: Path, key: str) -> None:
    """Write the provenance of a chart beside it, signed by an OpenPGP key that gpg knows by this name. Raises `BuildError`.

    Source: Helm, "Helm Provenance and Integrity": the chart's metadata and the archive's hash, as a signed message.
    """
    with tarfile.open(chart) as archive:
        metadata = archive.extractfile("cmk-operator/Chart.yaml")
        described = metadata.read().decode("utf-8") if metadata is not None else ""
    digest = hashlib.sha256(chart.read_bytes()).hexdigest()
    message = f"{described}\n...\nfiles:\n  {chart.name}: sha256:{digest}\n"
    command = ["gpg", "--batch", "--yes", "--clearsign", "--digest-algo", "SHA512", "--local-user", key]
    _run([*command, "--output", f"{chart}.prov"], "GnuPG", "GPG", message)


def _run(command: list[str], comes_with: str, option: str, text: str = "") -> None:
    program = command[0]
    try:
        done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{program} is not on the PATH: install {comes_with}, or leave out {option}") from error
    if done.returncode != 0:
        raise BuildError(f"{program} cannot sign with this {option}: {done.stderr.strip()}")
