"""`kubectl cmk handoff` on a real API server, through the real kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import NAMESPACE
from tests.unit.samples import APPLICATION, CUSTOMER, VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from click.testing import Result

    from sandbox.kubernetes.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE_ID = "/subscriptions/66666666-6666-4666-8666-666666666666/resourceGroups/x"


def test_kubectl_finds_the_plugin(customer: str, environment: Mapping[str, str], tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # kubectl keeps a cache below HOME, else below the present directory.
    own = {**environment, "PATH": path, "HOME": str(tmp_path)}
    command = ["kubectl", "cmk", "handoff", customer, "--format", "az"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/usr/bin/env bash\n")


def test_every_command_explains_itself(run: Callable[..., Result]) -> None:
    for arguments in (("--help",), ("handoff", "--help"), ("handoff", "-h")):
        assert "Usage: " in run(*arguments).stdout
    assert run("handoff").exit_code == 2


def test_a_program_gets_the_whole_hand_over_as_data(run: Callable[..., Result], customer: str) -> None:
    done = run("handoff", customer, "-o", "json", "--format", "bicep")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert (data["tenantId"], data["cloud"], data["application"]["clientId"]) == (CUSTOMER, "AzurePublic", APPLICATION)
    assert data["keys"] == [
        {"keyUri": f"https://{VAULT}/keys/sql", "protects": []},
        {"keyUri": f"https://{VAULT}/keys/storage", "protects": ["storage accounts"]},
    ]
    assert data["file"]["name"] == "handover.bicep"
    assert data["file"]["content"].endswith("]\n")
    assert data["steps"][0]["title"] == "Check settings and sign-in"


def test_a_region_without_failover_is_warned_of(run: Callable[..., Result], customer: str) -> None:
    done = run("handoff", customer, "-o", "json", "--location", "West US 3")
    assert "Warning: Key Vault does not fail over from westus3" in done.stderr
    assert json.loads(done.stdout)["warnings"][0] in done.stderr
    assert json.loads(run("handoff", customer, "-o", "json", "--location", "westeurope").stdout)["warnings"] == []


def test_a_key_that_the_tenant_does_not_allow_is_named_and_left_out(run: Callable[..., Result], customer: str) -> None:
    done = run("handoff", customer, "--format", "text")
    assert f"Left out: {NAMESPACE}/borrowed" in done.stderr
    assert "spec.allowedVaults" in done.stderr
    assert "elsewhere" not in done.stdout


def test_for_people_it_prints_what_the_letter_says(run: Callable[..., Result], customer: str) -> None:
    shown = " ".join(run("handoff", customer).stdout.split())
    assert f"For the administrator of tenant {CUSTOMER}" in shown
    assert "Allow the application to use the key storage" in shown
    assert f"kubectl cmk handoff {customer} --write DIRECTORY" in shown


@pytest.mark.parametrize("wanted", ["sql", f"{NAMESPACE}/sql"])
def test_one_key_can_be_handed_over_alone(run: Callable[..., Result], customer: str, wanted: str) -> None:
    data = json.loads(run("handoff", customer, "-o", "json", "--key", wanted).stdout)
    assert [key["keyUri"] for key in data["keys"]] == [f"https://{VAULT}/keys/sql"]


def test_files_are_written_ready_to_run_and_never_replaced_unasked(
    run: Callable[..., Result], customer: str, tmp_path: Path
) -> None:
    directory = tmp_path / "for the customer"
    done = run("handoff", customer, "--write", str(directory))
    assert done.exit_code == 0, done.output
    names = {path.name for path in directory.iterdir()}
    assert names == {"handover.sh", "handover.tf", "handover.bicep", "handover.txt"}
    assert os.access(directory / "handover.sh", os.X_OK)
    assert run("handoff", customer, "--write", str(directory)).exit_code == 0, "the same again is no change"
    (directory / "handover.tf").write_text("mine", encoding="utf-8")
    refused = run("handoff", customer, "--write", str(directory))
    assert refused.exit_code == 1
    assert "handover.tf would be replaced" in refused.stderr
    assert (directory / "handover.tf").read_text(encoding="utf-8") == "mine"
    assert run("handoff", customer, "--write", str(directory), "--format", "terraform", "--force").exit_code == 0
    assert (directory / "handover.tf").read_text(encoding="utf-8").startswith("# What the administrator")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), 'customertenants.cmk-operator.dev "nobody" not found'),
        (("--everything",), "No such option"),
        (("--", "--all"), "'--all' is not the name of an object"),
        (("cli-fabrikam", "--context", "nowhere"), "nowhere"),
        (("cli-fabrikam", "--key", "storages"), "there are: cli/borrowed, cli/sql, cli/storage"),
        (("cli-fabrikam", "--key-size", "1024"), "'1024' is not one of"),
        (("cli-fabrikam", "--operator-address", "10.0.0.1"), "public addresses only"),
        (("cli-fabrikam", "--log-workspace", WORKSPACE_ID), "Log Analytics workspace"),
        (("cli-fabrikam", "-n", "a;b"), "is not the name of an object"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_by_the_exit_code(
    run: Callable[..., Result], customer: str, arguments: tuple[str, ...], words: str
) -> None:
    done = run("handoff", *arguments)
    assert done.exit_code != 0
    assert done.stdout == ""
    assert words in done.stderr


def test_a_person_without_rights_is_told_in_the_words_of_the_api_server(run: Callable[..., Result], customer: str) -> None:
    done = run("handoff", customer, "--as", "somebody")
    assert done.exit_code == 1
    assert 'User "somebody" cannot get resource "customertenants"' in done.stderr


def test_without_kubectl_it_says_what_to_install(run: Callable[..., Result], customer: str, tmp_path: Path) -> None:
    done = run("handoff", customer, PATH=str(tmp_path))
    assert done.exit_code == 1
    assert "kubectl is not on the PATH" in done.stderr


def test_the_options_of_kubectl_choose_the_cluster(run: Callable[..., Result], customer: str, cluster: Cluster) -> None:
    done = run(
        "handoff", customer, "--kubeconfig", str(cluster.kubeconfig), "-n", NAMESPACE, "-o", "json", KUBECONFIG="/dev/null"
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["keys"]) == 2


def test_without_its_libraries_it_says_how_to_get_them() -> None:
    hidden = "import sys; sys.modules['rich'] = None; from cmk_operator.cli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden], env={"PYTHONPATH": str(ROOT / "operator")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install kubectl_cmk-VERSION-py3-none-any.whl" in done.stderr
