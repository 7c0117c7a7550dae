"""What people see and copy, whatever the terminal; the options of kubectl; completion by kubectl itself."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from click.testing import Result

    from sandbox.kubernetes.cluster import Cluster

PROGRAMS = Path(sys.executable).parent


def _in_a_terminal(arguments: list[str], environment: Mapping[str, str], columns: int) -> str:
    """What a command prints into a terminal of so many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    own = {**environment, "TERM": "dumb", "NO_COLOR": "1"}
    with subprocess.Popen(arguments, env=own, stdin=follower, stdout=follower, stderr=subprocess.DEVNULL) as running:
        os.close(follower)
        printed = b""
        while True:
            try:
                more = os.read(leader, 65_536)
            except OSError:  # the last holder of the terminal has ended
                break
            if not more:
                break
            printed += more
    os.close(leader)
    assert running.returncode == 0
    return printed.decode().replace("\r\n", "\n")


def _in_a_pipe(arguments: list[str], environment: Mapping[str, str], columns: int) -> str:
    own = {**environment, "COLUMNS": str(columns)}
    return subprocess.run(arguments, env=own, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shown", [_in_a_terminal, _in_a_pipe], ids=["terminal", "pipe"])
def test_commands_to_copy_are_never_broken(
    run: Callable[..., Result],
    customer: str,
    environment: Mapping[str, str],
    shown: Callable[[list[str], Mapping[str, str], int], str],
) -> None:
    steps = json.loads(run("handoff", customer, "-o", "json").stdout)["steps"]
    commands = [step["command"] for step in steps if step["command"]]
    assert commands
    printed = shown([str(PROGRAMS / "kubectl-cmk"), "handoff", customer], environment, 60)
    for command in commands:
        assert f"\n{command.rstrip()}\n" in printed


def test_a_narrow_terminal_leaves_columns_out_and_says_so(customer: str, environment: Mapping[str, str]) -> None:
    command = [str(PROGRAMS / "kubectl-cmk"), "status", "--tenant", customer]
    narrow = _in_a_terminal(command, environment, 60)
    assert "Not shown: VERSION, KEY, TARGET" in narrow
    assert "-o wide" in narrow
    wide = _in_a_terminal([*command, "-o", "wide"], environment, 60)
    assert "Not shown" not in wide
    assert "ROTATION" in wide
    # No cell is folded to a few characters: names stay whole.
    assert "documents" in narrow
    assert "documents" in wide


def test_any_locale_prints_every_character(customer: str, environment: Mapping[str, str]) -> None:
    own = {**environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [str(PROGRAMS / "kubectl-cmk"), "handoff", customer, "--format", "text"]
    done = subprocess.run(command, env=own, capture_output=True, check=True)
    done.stdout.decode("utf-8")


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "behind it"])
def test_kubectls_options_stand_before_or_behind_the_command(
    run: Callable[..., Result], customer: str, environment: Mapping[str, str], *, before: bool
) -> None:
    options = ("--kubeconfig", environment["KUBECONFIG"], "-n", NAMESPACE, "--request-timeout", "30s")
    arguments = (*options, "status") if before else ("status", *options)
    done = run(*arguments, "-o", "json", KUBECONFIG="/nowhere")
    assert done.exit_code == 0, done.output
    seen = json.loads(done.stdout)
    assert {one["namespace"] for one in seen["keys"]} == {NAMESPACE}
    assert [one["name"] for one in seen["tenants"]] == [customer]


def test_a_namespace_and_all_namespaces_exclude_each_other(run: Callable[..., Result]) -> None:
    done = run("status", "-n", NAMESPACE, "-A")
    assert done.exit_code == 2
    assert "--namespace and --all-namespaces exclude each other" in done.stderr


def test_an_impersonated_group_is_handed_to_kubectl(run: Callable[..., Result], customer: str) -> None:
    refused = run("status", "--as", "nobody", "--as-group", "of-readers", "-n", NAMESPACE)
    assert refused.exit_code == 1
    assert 'User "nobody" cannot list resource' in refused.stderr
    allowed = run("status", "--as", "nobody", "--as-group", "system:masters", "-n", NAMESPACE)
    assert allowed.exit_code == 0, allowed.stderr


def test_the_rights_of_one_namespace_suffice(run: Callable[..., Result], cluster: Cluster, customer: str) -> None:
    cluster.kubectl(
        "create", "role", "cmk-reader", "-n", NAMESPACE, "--verb=get,list",
        "--resource=customermanagedkeys.cmk-operator.dev,encryptedresources.cmk-operator.dev",
    )  # fmt: skip
    cluster.kubectl("create", "rolebinding", "cmk-reader", "-n", NAMESPACE, "--role=cmk-reader", "--user=namespace-reader")
    done = run("status", "--as", "namespace-reader", "-n", NAMESPACE, "-o", "json")
    assert done.exit_code == 0, done.output
    assert {one["namespace"] for one in json.loads(done.stdout)["keys"]} == {NAMESPACE}
    assert "Tenants and identities are not shown" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("--tenant", "never-was"), 1, "there is no CustomerTenant 'never-was'"),
        (("-n", "never-was", "--exit-code"), 1, "there is nothing to show in namespace never-was: --allow-empty accepts that"),
        (("-n", "never-was", "--exit-code", "--allow-empty"), 0, ""),
        (("-n", "never-was"), 0, ""),
    ],
)
def test_status_fails_on_what_does_not_exist(
    run: Callable[..., Result], customer: str, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    done = run("status", *arguments)
    assert done.exit_code == exit_code
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "suggested", "directive"),
    [
        (("st",), ["status"], ":4"),
        (("status", "--all"), ["--all-namespaces", "--allow-empty"], ":4"),
        (("status", "-o", ""), ["json", "wide"], ":4"),
        (("audit", "ver"), ["verify"], ":4"),
        (("handoff", "--write", ""), [], ":0"),
    ],
    ids=" ".join,
)
def test_kubectl_completes_the_plugin(
    environment: Mapping[str, str], tmp_path: Path, words: tuple[str, ...], suggested: list[str], directive: str
) -> None:
    own = {**environment, "PATH": f"{PROGRAMS}{os.pathsep}{environment['PATH']}", "HOME": str(tmp_path)}
    command = ["kubectl", "__complete", "cmk", *words]
    lines = subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(line.partition("\t")[0] for line in lines[:-1]) == suggested
    assert lines[-1] == directive
