"""What people see and copy, whatever the terminal; the options of kubectl; completion by kubectl itself."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
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


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "shift_jis"])
def test_any_locale_and_code_page_prints_every_character(customer: str, environment: Mapping[str, str], encoding: str) -> None:
    """Python takes the encoding of a pipe from the locale, on Windows from the code page, and both from this variable."""
    own = {**environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    command = [str(PROGRAMS / "kubectl-cmk"), "handoff", customer, "--format", "text"]
    done = subprocess.run(command, env=own, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == letter_of(environment, customer)


def letter_of(environment: Mapping[str, str], customer: str) -> str:
    """The letter as a terminal with UTF-8 shows it."""
    command = [str(PROGRAMS / "kubectl-cmk"), "handoff", customer, "--format", "text"]
    own = {**environment, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, env=own, capture_output=True, check=True).stdout.decode("utf-8")


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


SHELLS = {
    "bash": """
source <(kubectl completion bash)
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}; }
COMP_WORDS=(kubectl cmk stat) COMP_CWORD=2 COMP_LINE="kubectl cmk stat" COMP_POINT=16 COMP_TYPE=9
__start_kubectl
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "zsh": """
compdef() { : }
source <(kubectl completion zsh)
_describe() { print -rl -- "${(@P)2}"; }
words=(kubectl cmk stat) CURRENT=3
_kubectl
""",
    "fish": 'kubectl completion fish | source; complete -C "kubectl cmk stat"',
}
"""How the shell asks kubectl's own script what may stand in place of the last word, without its line editor."""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_kubectl_completes_the_plugin_in_a_shell(
    environment: Mapping[str, str], tmp_path: Path, shell: str
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    own = {
        **environment,
        "PATH": f"{PROGRAMS}{os.pathsep}{environment['PATH']}",
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
    }
    done = subprocess.run([program, "-c", SHELLS[shell]], env=own, capture_output=True, text=True, check=True)
    assert "status" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "--as", "nobody", "-n", NAMESPACE), "the API server answers (Forbidden): customermanagedkeys"),
        (("status", "--as", "nobody"), "If you may read one namespace only, name it: -n NAMESPACE"),
        (("handoff", "never-was"), "the API server answers (NotFound): customertenants"),
        (("status", "--context", "never-was"), "kubectl's configuration: context was not found"),
        (("versions", "never-was"), "there is no CustomerManagedKey 'never-was'"),
        (("versions", "Not_A_Name"), "is not the name of an object"),
        (("approve", "storage", "--no-such-option"), "No such option"),
        (("status", "-n", NAMESPACE, "-A"), "exclude each other"),
        (("status", "--kubeconfig", "/nowhere"), "/nowhere"),
        (("audit", "show", "-n", "never-was"), "there is no audit record in namespace never-was"),
        (("preflight", "-f", "/nowhere.yaml"), "nowhere.yaml"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_every_error_has_one_prefix(run: Callable[..., Result], customer: str, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code in {1, 2}
    assert words in done.stderr
    assert len(re.findall(r"error", done.stderr.split(words)[0], re.IGNORECASE)) == 1
    assert "\nError: " in f"\n{done.stderr}"


@pytest.fixture
def reader(cluster: Cluster) -> str:
    """A person who may read keys and resources of one namespace, and nothing else."""
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": ["cmk-operator.dev"],
        "resources": ["customermanagedkeys", "encryptedresources"],
        "verbs": ["get", "list"],
    }
    common = {"apiVersion": f"{group}/v1", "metadata": {"name": "cmk-one", "namespace": NAMESPACE}}
    binding = {
        "subjects": [{"apiGroup": group, "kind": "User", "name": "one-namespace"}],
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "cmk-one"},
    }
    items = [common | {"kind": "Role", "rules": [rule]}, common | {"kind": "RoleBinding"} | binding]
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return "one-namespace"


@pytest.mark.parametrize("command", ["versions", "impact"])
def test_a_key_of_one_namespace_is_told_of_without_the_right_to_list_others(
    run: Callable[..., Result], customer: str, reader: str, command: str
) -> None:
    done = run(command, f"{NAMESPACE}/storage", "--as", reader)
    assert done.exit_code == 0, done.output
    told = f"Warning: EncryptedResources of other namespaces than {NAMESPACE} are not seen: you may not list them"
    assert told in done.stderr
    within = run(command, "storage", "-n", NAMESPACE, "--as", reader)
    assert (within.exit_code, within.stderr) == (0, "")
