"""`python -m release`: what `make dist` and `make release` run."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release import build
from release.checkout import RefusedError, checked, exported, with_version
from release.command_line import BuildError, closure
from release.one_file import PLATFORMS, Platform
from release.signing import CHECKSUMS, sign, sign_chart
from release.version import InvalidVersionError, Version


def main() -> int:
    """Run one of the commands; returns 1 with a sentence on standard error if it is refused."""
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "requirements":
                sys.stdout.writelines(f"{one}\n" for one in closure(arguments.root).requirements)
            case "dist":
                version = _version_of(arguments.root)
                _write(build.command_line(arguments.root, version, arguments.platforms, arguments.url), arguments.into)
            case "files":
                version = Version.parse(arguments.version)
                _write(build.everything(arguments.root, version, arguments.platforms, arguments.url), arguments.into)
            case _:
                _release(arguments)
    except (BuildError, RefusedError, InvalidVersionError) as problem:
        sys.stderr.write(f"Error: {problem}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: the current folder)")
    common.add_argument("--into", type=Path, default=Path("dist"), help="folder to write (default: dist)")
    common.add_argument(
        "--platforms", type=_platforms, default=PLATFORMS, metavar="NAMES", help="such as linux-amd64,darwin-arm64"
    )
    common.add_argument("--url", default="", help="where the archives will be served, for krew's manifest")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("requirements", parents=[common], help="print what kubectl cmk needs of others")
    commands.add_parser("dist", parents=[common], help="make the wheel and the archives of kubectl cmk")
    files = commands.add_parser(
        "files", parents=[common], help="make all files of a release from a checkout that has its version"
    )
    release = commands.add_parser("release", parents=[common], help="make all files of a release from the present commit")
    for command in (files, release):
        command.add_argument("version")
    release.add_argument("--key", type=Path, help="SSH key that signs the checksums")
    release.add_argument("--gpg", default="", help="OpenPGP key that signs the chart's provenance, as gpg names it")
    release.add_argument("--write", action="store_true", help="also write the version into the checkout")
    return parser


def _platforms(text: str) -> tuple[Platform, ...]:
    """Platforms by their names, separated by commas; `none` for none."""
    known = {platform.name: platform for platform in PLATFORMS}
    names = [] if text == "none" else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
    return tuple(known[name] for name in names)


def _version_of(root: Path) -> Version:
    line = next(
        line for line in (root / "charts/cmk-operator/Chart.yaml").read_text().splitlines() if line.startswith("version: ")
    )
    return Version.parse(line.partition(" ")[2])


def _release(arguments: argparse.Namespace) -> None:
    """Build in a copy of the commit, by the copy's own code, so that nothing of this folder gets in."""
    version = Version.parse(arguments.version)
    commit = checked(arguments.root, version)
    if arguments.key is not None and not arguments.key.is_file():
        raise RefusedError(f"there is no key {arguments.key}: name the file of an SSH key, or leave out KEY")
    place = arguments.into.resolve() / str(version)
    with tempfile.TemporaryDirectory() as made:
        copy, files = Path(made, "cmk-operator"), Path(made, "files")
        copy.mkdir()
        exported(arguments.root, commit, copy)
        with_version(copy, version, commit.day)
        names = ",".join(platform.name for platform in arguments.platforms) or "none"
        command = [sys.executable, "-P", "-m", "release", "files", str(version), "--into", str(files), "--platforms", names]
        path = f"{copy}{os.pathsep}{copy / 'operator'}"
        done = subprocess.run([*command, "--url", arguments.url], cwd=copy, env={**os.environ, "PYTHONPATH": path}, check=False)
        if done.returncode != 0:
            raise BuildError(f"no release is made, and nothing is written to {place}")
        if arguments.key is not None:
            sign(files, arguments.key)
        if arguments.gpg:
            sign_chart(files / f"cmk-operator-{version}.tgz", arguments.gpg)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(files, place)
    sys.stderr.write(
        f"{version} of commit {commit.name[:12]} is in {place}. To check it: cd {place} && sha256sum --check {CHECKSUMS}\n"
    )
    if arguments.write:
        with_version(arguments.root, version, commit.day)
        sys.stderr.write(
            f"The version is written into the checkout. Next: git commit -am 'Release {version}' && git tag v{version}\n"
        )


def _write(files: dict[str, bytes], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(files.items()):
        (into / name).write_bytes(content)
        sys.stderr.write(f"{into / name}  {len(content) / 1e6:.1f} MB\n")


if __name__ == "__main__":
    sys.exit(main())
