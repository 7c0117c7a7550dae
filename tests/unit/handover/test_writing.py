"""What is handed over: the script, Terraform, Bicep and the letter are well-formed, and no name becomes a command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import hcl2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycep import BicepParser

from cmk_operator.core.handover.azure_cli import azure_cli_script
from cmk_operator.core.handover.bicep import bicep_file
from cmk_operator.core.handover.comments import comment
from cmk_operator.core.handover.letter import letter
from cmk_operator.core.handover.literals import bicep_value, terraform_value
from cmk_operator.core.handover.request import Choices
from cmk_operator.core.handover.shell import quoted
from cmk_operator.core.handover.steps import steps
from cmk_operator.core.handover.terraform import terraform_configuration
from tests.unit.handover.variants import ALL_CHOICES, BITING, EVERYTHING, PLAIN, SNOWFLAKE, SUBNET, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.core.handover.request import Handover

every_variant = pytest.mark.parametrize(("handover", "choices"), list(VARIANTS.values()), ids=list(VARIANTS))
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@every_variant
def test_the_script_is_bash_without_a_fault(handover: Handover, choices: Choices) -> None:
    script = azure_cli_script(handover, choices)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    # SC2016 asks whether a name that holds a dollar was meant to be expanded. It was not.
    command = [str(Path(sys.executable).with_name("shellcheck")), "--severity=style", "--exclude=SC2016", "-"]
    found = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
    assert found.returncode == 0, found.stdout


@settings(max_examples=15)
@given(st.lists(texts, min_size=1, max_size=20))
def test_whatever_a_word_holds_bash_reads_the_same_text(words: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(quoted(word) for word in words)
    read = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == words


@given(texts)
def test_a_comment_stays_one_whatever_it_holds(text: str) -> None:
    lines = list(comment(text, indent="  ", sign="//"))
    assert all(line.startswith("// ") and line.isprintable() for line in lines)


def test_no_free_text_reaches_what_the_script_does() -> None:
    def done(script: str) -> list[str]:
        return [line for line in script.splitlines() if not line.startswith(("#", "echo "))]

    harmless = replace(EVERYTHING, application_name="Contoso")
    harmless = replace(
        harmless,
        applications=tuple(replace(one, principal_name="x", subnets=one.usable_subnets) for one in harmless.applications),
    )
    assert done(azure_cli_script(EVERYTHING, ALL_CHOICES)) == done(azure_cli_script(harmless, ALL_CHOICES))


def test_the_status_and_the_script_say_the_same() -> None:
    script = azure_cli_script(EVERYTHING, ALL_CHOICES)
    for step in steps(EVERYTHING, ALL_CHOICES):
        assert step.command in script


@every_variant
def test_terraform_reads_the_configuration_and_would_lay_it_out_the_same(handover: Handover, choices: Choices) -> None:
    text = terraform_configuration(handover, choices)
    read = hcl2.loads(text)
    types = re.findall(r'type += "(Microsoft[^"@]+)@', text)
    assert set(types) == {"Microsoft.KeyVault/vaults", "Microsoft.KeyVault/vaults/keys"}
    assert {next(iter(block)).strip('"') for block in read["resource"]} >= {"azapi_resource", "azurerm_role_assignment"}
    assert len(read["removed"]) == types.count("Microsoft.KeyVault/vaults"), "an earlier vault is forgotten, never deleted"
    assert text.count("destroy = false") == len(read["removed"])
    if terraform := shutil.which("terraform"):
        laid_out = subprocess.run([terraform, "fmt", "-"], input=text, text=True, capture_output=True, check=True).stdout
        assert laid_out == text


ARGUMENTS: dict[str, tuple[set[str], set[str]]] = {
    "azurerm_resource_group": ({"name", "location"}, set()),
    "azuread_service_principal": ({"client_id"}, {"use_existing", "lifecycle"}),
    "azapi_resource": (
        {"type", "name", "parent_id", "body"},
        {"location", "schema_validation_enabled", "response_export_values", "lifecycle"},
    ),
    "azurerm_role_assignment": ({"scope", "principal_id", "role_definition_name"}, {"principal_type"}),
    "azurerm_monitor_diagnostic_setting": ({"name", "target_resource_id"}, {"log_analytics_workspace_id", "enabled_log"}),
    "azurerm_management_lock": ({"name", "scope", "lock_level"}, {"depends_on", "notes"}),
}
"""Required and used optional arguments, as the documentation of the providers has them."""


@every_variant
def test_terraform_gets_the_arguments_that_the_providers_document_and_refers_to_what_is_there(
    handover: Handover, choices: Choices
) -> None:
    text = terraform_configuration(handover, choices)
    named: set[str] = set()
    for block in hcl2.loads(text)["resource"]:
        ((kind, instances),) = block.items()
        ((label, body),) = instances.items()
        required, optional = ARGUMENTS[kind.strip('"')]
        given_arguments = {name for name in body if not name.startswith("__")}
        assert required <= given_arguments <= required | optional
        named.add(f"{kind.strip(chr(34))}.{label.strip(chr(34))}")
    code = re.sub(r'"(?:[^"\\]|\\.)*"|#.*', "", text)
    referred = set(re.findall(r"\b((?:azurerm|azuread|azapi)_\w+\.\w+)", code))
    assert {one for one in referred if not one.startswith("azurerm_key_vault.")} <= named
    forgotten = set(re.findall(r"from += (azurerm_key_vault\.\w+)", code))
    assert {one for one in referred if one.startswith("azurerm_key_vault.")} == forgotten


@pytest.mark.skipif(shutil.which("terraform") is None, reason="the Terraform CLI is not on this machine")
def test_terraform_evaluates_nothing_in_a_text(tmp_path: Path) -> None:
    nasty = [BITING, "${var.x}", "%{ if true }x%{ endif }", "$${x}", "$$$${x}", '"', "\\", "\u00e9\u2028\t"]
    (tmp_path / "main.tf").write_text(f'output "texts" {{\n  value = {terraform_value(nasty)}\n}}\n', encoding="utf-8")
    subprocess.run(["terraform", "apply", "-auto-approve", "-input=false"], cwd=tmp_path, capture_output=True, check=True)
    evaluated = subprocess.run(["terraform", "output", "-json", "texts"], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(evaluated.stdout) == nasty


@every_variant
def test_bicep_is_read_and_refers_to_what_is_there(handover: Handover, choices: Choices) -> None:
    read = BicepParser().parse(text=bicep_file(handover, choices))
    resources = read["resources"]
    for resource in resources.values():
        config = resource["config"]
        for reference in (config.get("parent"), config.get("scope"), *config.get("dependsOn", ())):
            assert reference is None or reference in resources
    assert {one["type"] for one in resources.values()} >= {
        "Microsoft.KeyVault/vaults",
        "Microsoft.KeyVault/vaults/keys",
        "Microsoft.Authorization/roleAssignments",
        "Microsoft.Authorization/locks",
    }


@given(texts)
@example(BITING)
@example("${resourceGroup().id}")
@example("\\${x}\\")
def test_a_text_in_bicep_ends_where_it_should_and_nothing_in_it_is_evaluated(text: str) -> None:
    literal = bicep_value(text)
    assert re.fullmatch(r"'(?:[^'\\$\r\n]|\\[\\'nrt$]|\$(?!\{))*'", literal)
    meant = {"n": "\n", "r": "\r", "t": "\t"}
    assert re.sub(r"\\(.)", lambda found: meant.get(found[1], found[1]), literal[1:-1]) == text


@every_variant
def test_nothing_that_is_written_moves_the_cursor_of_a_terminal(handover: Handover, choices: Choices) -> None:
    for write in (azure_cli_script, terraform_configuration, bicep_file, letter):
        assert all(sign.isprintable() or sign in "\n\t" for sign in write(handover, choices))


@every_variant
def test_the_letter_has_every_step_and_its_commands(handover: Handover, choices: Choices) -> None:
    text = letter(handover, choices)
    for number, step in enumerate(steps(handover, choices), start=1):
        assert f"{number}. {step.title}".split("\n", maxsplit=1)[0][:40] in text
        for row in step.command.split("\n"):
            assert row in text


def test_the_parts_that_are_optional_are_there_only_when_asked_for() -> None:
    titles = [step.title for step in steps(PLAIN, Choices())]
    assert titles == [
        "Check settings and sign-in",
        "Consent to the application Contoso (33333333-3333-4333-8333-333333333333)",
        "The vault fabrikam-kv",
        "The key cmk in fabrikam-kv.vault.azure.net",
        "Allow the application to use the key cmk",
        "Lock fabrikam-kv",
        "Send what was printed to the provider",
    ]
    script = azure_cli_script(PLAIN, Choices())
    for absent in ("network-rule", "diagnostic-settings", "Key Vault Reader", "rotationPolicy", "Crypto User", "Deny"):
        assert absent not in script


def test_the_customer_is_told_that_a_second_consent_needs_the_grants_again_and_where_disks_want_the_vault() -> None:
    told = {step.title: step.why for step in steps(EVERYTHING, Choices())}
    consent = next(why for title, why in told.items() if title.startswith("Consent to the application"))
    assert "every grant below must be made again" in consent
    assert "protect disks in westeurope: the vault must be in the same region" in told["The vault fabrikam-vm"]
    assert "to withdraw access, remove the lock first, or disable every version of the key" in told["Lock fabrikam-kv"]


def test_snowflake_gets_its_own_consent_and_grant_once_it_has_told_its_application() -> None:
    found = {step.title: step for step in steps(EVERYTHING, Choices())}
    assert SNOWFLAKE in found["Consent to Snowflake's application for account fabrikam-prod"].command
    waiting = found["Consent to Snowflake's application for account fabrikam-test"]
    assert waiting.command == ""
    assert "The provider then sends these steps again" in waiting.why
    grant = found["Allow Snowflake's account fabrikam-prod to use the key warehouse"].command
    assert "Key Vault Crypto User" in grant
    assert "--key-permissions get wrapKey unwrapKey sign verify" in grant
    assert "Allow Snowflake's account fabrikam-test to use the key warehouse" not in found
    assert "Allow Snowflake's account fabrikam-prod to use the key documents" not in found


def test_the_firewall_lets_in_snowflakes_subnets_and_only_what_is_a_subnet() -> None:
    firewall = next(step for step in steps(EVERYTHING, Choices()) if step.title == "The firewall of fabrikam-kv")
    assert firewall.command.count("--subnet") == 1
    assert SUBNET in firewall.command
    assert "Deny" not in firewall.command
    shut = next(step for step in steps(EVERYTHING, ALL_CHOICES) if step.title == "The firewall of fabrikam-kv")
    assert "--default-action Deny" in shut.command
    assert "--bypass AzureServices" in shut.command


WRITERS = (azure_cli_script, terraform_configuration, bicep_file, letter)


def as_one_line(text: str) -> str:
    """Comments and letters are wrapped."""
    return re.sub(r"\s*\n(?:#|//)?\s*", " ", text)


@pytest.mark.parametrize("write", WRITERS)
def test_each_form_says_that_a_page_of_consent_without_reply_address_is_no_failure(
    write: Callable[[Handover, Choices], str],
) -> None:
    told = as_one_line(write(PLAIN, Choices(location="westeurope")))
    assert "ends with AADSTS500113 (no reply address is registered), the consent has been given all the same" in told


@pytest.mark.parametrize("write", WRITERS)
def test_each_form_warns_of_a_region_without_failover(write: Callable[[Handover, Choices], str]) -> None:
    told = as_one_line(write(PLAIN, Choices(location="westus3")))
    assert "Key Vault does not fail over from westus3 to another region" in told
    paired = as_one_line(write(PLAIN, Choices(location="westeurope")))
    assert "does not fail over from westeurope" not in paired
    assert "a private endpoint may need 20 minutes more" in paired
    assert "no key can be created, rotated, changed or deleted" in paired
    unknown = as_one_line(write(PLAIN, Choices(location="atlantis")))
    assert "Whether Key Vault fails over from atlantis to another region is not known" in unknown


@pytest.mark.parametrize(
    ("location", "warned"), [("Brazil South", True), ("QATARCENTRAL", True), ("westeurope", False), ("West India", False)]
)
def test_the_script_warns_of_the_region_that_the_customer_chooses_when_it_runs(location: str, warned: bool) -> None:  # noqa: FBT001 - a column of the table
    script = azure_cli_script(PLAIN, Choices())
    begin = script.index('  case "$(tr')
    end = script.index("esac", begin) + 4
    done = subprocess.run(
        ["bash", "-euc", script[begin:end]],
        env={**os.environ, "LOCATION": location},
        text=True,
        capture_output=True,
        check=True,
    )
    assert ("does not fail over from" in done.stderr) == warned


def test_terraform_checks_the_region_at_each_plan() -> None:
    (check,) = hcl2.loads(terraform_configuration(PLAIN, Choices()))["check"]
    assert '"westus3"' in str(check)
    assert '"westeurope"' not in str(check)
