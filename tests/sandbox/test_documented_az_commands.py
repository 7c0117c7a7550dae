"""The az commands of the documents that no test runs, parsed by the az CLI itself."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from sandbox.az_cli import find_or_install
from tests.conftest import ROOT
from tests.documents.blocks import arguments_of, commands_to_try

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [pytest.mark.az, pytest.mark.timeout(900)]
PARSES = """
import contextlib, io, json, sys
from azure.cli.core import get_default_cli
from knack.events import EVENT_INVOKER_POST_PARSE_ARGS

class Parsed(BaseException):
    "The command is whole: it is not sent."

def parsed(_, **__):
    raise Parsed

cli = get_default_cli()
cli.register_event(EVENT_INVOKER_POST_PARSE_ARGS, parsed)
answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cli.invoke(arguments, out_file=io.StringIO())
        answers.append("it was not parsed")
    except Parsed:
        answers.append("")
    except SystemExit:
        answers.append(said.getvalue() or "it was refused")
json.dump(answers, sys.stdout)
"""


def _refusals(calls: list[list[str]], directory: Path) -> list[str]:
    """What the az CLI says of each command line, without sending anything; empty if it takes it."""
    python = find_or_install()[0]
    home = {"HOME": str(directory), "AZURE_CONFIG_DIR": str(directory), "AZURE_CORE_COLLECT_TELEMETRY": "no"}
    done = subprocess.run(
        [python, "-c", PARSES], input=json.dumps(calls), env=home, capture_output=True, text=True, check=True, timeout=300
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


def test_az_accepts_every_documented_command(tmp_path: Path) -> None:
    here = "test_documented_az_commands.py::test_az_accepts"
    found = [block for block in commands_to_try(ROOT / "docs" / "tutorial.md") if here in block.marker or not block.marker]
    called = {" ".join(arguments): (str(block), arguments) for block, arguments in arguments_of("az", found)}
    wrong = [["keyvault", "key", "rotate", "--vault-name", "x", "--key", "y"], ["keyvault", "key", "revoke"]]
    answers = _refusals([*(arguments for _, arguments in called.values()), *wrong], tmp_path)
    assert all(answers[len(called) :]), "what is wrong is refused"
    assert len(called) > 12
    assert {where: answer for (where, _), answer in zip(called.values(), answers, strict=False) if answer} == {}
