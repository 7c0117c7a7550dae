"""Every api-version of Azure that the operator, the hand-over and the sandbox's administrators use, with its known end."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cmk_operator.core.handover.bicep import bicep_file
from cmk_operator.core.handover.request import Choices
from cmk_operator.core.handover.steps import VAULTS_API_VERSION
from cmk_operator.core.handover.terraform import terraform_configuration
from tests.conftest import ROOT
from tests.unit.handover.variants import ALL_CHOICES, EVERYTHING, PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = r"20\d\d-\d\d-\d\d(?:-preview)?"
FOLDERS = ("operator/cmk_operator", "sandbox/administrators", "sandbox/demo", "bench")
SDKS = ("azure.mgmt.storage", "azure.mgmt.sql", "azure.mgmt.compute")
KEY_VAULT = "https://learn.microsoft.com/azure/key-vault/general/migrate-api-version"
STABLE = "https://learn.microsoft.com/rest/api/azure/ (no end is announced)"


@dataclass(frozen=True)
class Known:
    """A version in use: of what, until when it is known to work, and who says so."""

    of: str
    end: str | None
    source: str


KNOWN = {
    "2026-02-01": Known("Microsoft.KeyVault control plane", None, KEY_VAULT),
    "2025-07-01": Known("Key Vault data plane", None, f"{KEY_VAULT} (the retirement does not affect the data plane)"),
    "2023-01-31": Known("Microsoft.ManagedIdentity", None, STABLE),
    "2024-11-30": Known("Microsoft.ManagedIdentity", None, STABLE),
    "2022-04-01": Known("Microsoft.Authorization role assignments and permissions", None, STABLE),
    "2020-05-01": Known("Microsoft.Authorization locks", None, STABLE),
    "2022-12-01": Known("Microsoft.Resources subscriptions", None, STABLE),
    "2021-04-01": Known("Microsoft.Resources resources", None, STABLE),
    "2024-11-01": Known("Microsoft.Resources resource groups", None, STABLE),
    "2021-05-01-preview": Known("Microsoft.Insights diagnostic settings", None, f"{STABLE}; the newest that has them"),
    "2021-10-01": Known("Microsoft.Subscription aliases", None, STABLE),
    "2026-09-01": Known("Microsoft.Storage", None, STABLE),
    "2025-01-01": Known("Microsoft.Sql", None, STABLE),
    "2026-03-02": Known("Microsoft.Compute disks and disk encryption sets", None, STABLE),
    "2026-04-01": Known("Microsoft.Compute virtual machines", None, STABLE),
}
"""A version with an end may stand here only until it is replaced: `test_none_of_them_ends` fails from the day it is written down."""
ONLY_DATES = {"READ_ON"}
"""Constants that are days, not versions."""


def versions_in(path: Path) -> Iterator[str]:
    """Api-versions in the strings of a module, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in ONLY_DATES:
            skipped.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield from re.findall(rf"(?:^|@|api-version=)({DATE})(?=$|[&'\"])", node.value)


def used() -> dict[str, set[str]]:
    """Where each version is used."""
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for version in versions_in(path):
                found.setdefault(version, set()).add(str(path.relative_to(ROOT)))
    for sdk in SDKS:
        spec = importlib.util.find_spec(sdk)
        assert spec is not None
        assert spec.origin is not None
        for path in Path(spec.origin).parent.glob("**/_configuration.py"):
            # Of Compute each operation has a version of its own; these are the ones that the operator calls.
            operations = path.with_name("operations") / "_operations.py"
            text = operations.read_text(encoding="utf-8") if sdk == "azure.mgmt.compute" and operations.exists() else ""
            of_disks = rf'def build_(?:disks|disk_encryption_sets)_\w+\(.*?"api-version", "({DATE})"'
            for version in re.findall(of_disks, text, re.DOTALL):
                found.setdefault(version, set()).add(sdk)
            for version in re.findall(rf'api_version", "({DATE})"', path.read_text(encoding="utf-8")):
                found.setdefault(version, set()).add(sdk)
    return found


def test_each_version_in_use_is_listed_with_its_end_and_its_source_and_no_other() -> None:
    assert {version: where for version, where in used().items() if version not in KNOWN} == {}
    written = {
        *used(),
        *re.findall(DATE, bicep_file(EVERYTHING, ALL_CHOICES) + terraform_configuration(EVERYTHING, ALL_CHOICES)),
    }
    assert set(KNOWN) <= written, "what is not used any more is not listed"
    assert all(one.source for one in KNOWN.values())
    assert set(SDKS) <= set().union(*used().values()), "the versions of each SDK are found"


def test_none_of_them_ends() -> None:
    assert {version: one.end for version, one in KNOWN.items() if one.end is not None} == {}


def test_every_call_to_a_vaults_control_plane_uses_a_version_that_stays() -> None:
    from cmk_operator.azure import vault_reader  # noqa: PLC0415 - one constant of it
    from sandbox.administrators import customer  # noqa: PLC0415 - one constant of it

    assert {vault_reader.VAULTS, customer.VAULTS, VAULTS_API_VERSION} == {"2026-02-01"}


@pytest.mark.parametrize("write", [bicep_file, terraform_configuration])
def test_whatever_is_handed_over_names_listed_versions_only(write: object) -> None:
    assert callable(write)
    for handover, choices in ((PLAIN, Choices()), (EVERYTHING, ALL_CHOICES)):
        text = write(handover, choices)
        named = re.findall(rf"(Microsoft\.[A-Za-z/]+)@({DATE})", text)
        assert {version for _, version in named} <= set(KNOWN)
        assert {version for kind, version in named if kind.startswith("Microsoft.KeyVault")} == {"2026-02-01"}
