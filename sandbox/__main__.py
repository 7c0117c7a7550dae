"""`python -m sandbox`: starts the simulated Azure and a real local Kubernetes API server, and leaves them running."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from sandbox import environment
from sandbox.azure.process import AzureDidNotStartError
from sandbox.kubernetes.cache import UnavailableProgramError, say
from sandbox.kubernetes.servers import ClusterError
from sandbox.operator_process import OperatorDidNotStartError

DEFAULT_DIRECTORY = Path(".sandbox")


def main() -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed or not running, 2 wrong usage."""
    arguments = _parser().parse_args()
    commands = {"up": _up, "down": _down, "operator": _operator, "env": _env, "status": _status}
    try:
        return commands[arguments.command](arguments)
    except (ClusterError, AzureDidNotStartError, OperatorDidNotStartError, UnavailableProgramError) as failure:
        say(f"error: {failure}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "up": "start both, anew if they run already, and write the file `env` with the variables to source",
        "operator": "start the operator of the chart that is installed, in place of a node; anew if it runs already",
        "down": "stop them and remove what they wrote",
        "env": 'print the `export` lines, to be used by: eval "$(python -m sandbox env)"',
        "status": "tell what runs",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--directory", type=Path, default=DEFAULT_DIRECTORY, help="where its files and logs are (default: %(default)s)"
        )
        if name == "up":
            command.add_argument(
                "--existing-cluster",
                action="store_true",
                help="use the cluster of $KUBECONFIG (or ~/.kube/config); its issuer must be readable from here",
            )
    return parser


def _up(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    existing = None
    if arguments.existing_cluster:
        existing = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
        if not existing.is_file():
            say(f"error: {existing} is no file; set KUBECONFIG to one kubeconfig file")
            return 2
    environment.start(arguments.directory, existing)
    say(f"The sandbox is ready after {time.monotonic() - started:.1f} s. Go on with: source {arguments.directory / 'env'}")
    return 0


def _operator(arguments: argparse.Namespace) -> int:
    operator = environment.run_operator(arguments.directory)
    say(f"The operator is ready: process {operator.pid}, log {operator.log}, metrics {operator.url}/metrics")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    ended = environment.stop(arguments.directory)
    say("Stopped: " + ", ".join(process.name for process in ended) if ended else "Nothing was running.")
    return 0


def _env(arguments: argparse.Namespace) -> int:
    file = arguments.directory / environment.ENVIRONMENT_FILE
    if not file.is_file():
        say(f"error: there is no {file}; start the sandbox with: make sandbox")
        return 1
    sys.stdout.write(file.read_text())
    return 0


def _status(arguments: argparse.Namespace) -> int:
    processes = environment.processes(arguments.directory)
    for process in processes:
        print(f"{process.name}: {'running' if process.running else 'ended'} (process {process.pid})")
    if not processes:
        print(f"Nothing was started below {arguments.directory}.")
    return 0 if processes and all(process.running for process in processes) else 1


if __name__ == "__main__":
    sys.exit(main())
