"""Every block of commands says which test runs it, or why none does; and can be copied as it stands."""

from __future__ import annotations

import ast
import re

import pytest
from click.testing import CliRunner

from cmk_operator.cli.commands import cmk
from tests.conftest import ROOT
from tests.documents.blocks import NOT_RUN, PAGES, Block, arguments_of, blocks, commands_to_try, filled_in

TEST = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")
WITH_COMMANDS = [block for page in PAGES for block in blocks(page) if block.has_commands]


@pytest.mark.parametrize("block", WITH_COMMANDS, ids=str)
def test_a_block_of_commands_names_the_test_that_runs_it_or_says_why_none_does(block: Block) -> None:
    assert block.language, "say what it is: sh, or text"
    if block.marker.startswith(NOT_RUN):
        assert len(block.marker.removeprefix(NOT_RUN).removesuffix("-->").split()) > 3, "say why"
        return
    named = TEST.findall(block.marker)
    assert named, "write above it: <!-- run by tests/….py::test_… --> or <!-- not run: why -->"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}, file


@pytest.mark.parametrize("block", [block for block in WITH_COMMANDS if block.language != "console"], ids=str)
def test_a_block_of_commands_can_be_copied(block: Block) -> None:
    assert re.findall(r"<[a-z][^>\n]*>", block.text) == [], "a shell reads from a file: use a variable or a word in capitals"


def test_kubectl_cmk_takes_every_documented_command() -> None:
    called = [(block, words[1:]) for block, words in arguments_of("kubectl", commands_to_try()) if words[0] == "cmk"]
    assert len(called) > 10
    for block, words in called:
        answer = CliRunner().invoke(cmk, [*words, "--help"])
        assert answer.exit_code == 0, f"{block}: {answer.output}"


def test_each_variable_of_the_examples_is_set_by_a_block_of_the_pages() -> None:
    used = {name for path in (ROOT / "examples").rglob("*.yaml") for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    assert used, "the examples are manifests for envsubst"
    set_by_a_block = {name for block in WITH_COMMANDS for name in re.findall(r"(\w+)=", block.text) if "export " in block.text}
    assert used - set_by_a_block == set()


def test_the_readme_can_be_read_at_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_words_in_capitals_stand_for_names_and_other_words_stay() -> None:
    assert filled_in("kubectl get cmk KEY -n NS $NAME KEYS NAME=x cmk/KEY") == (
        "kubectl get cmk fabrikam -n fabrikam $NAME KEYS NAME=x cmk/fabrikam"
    )
