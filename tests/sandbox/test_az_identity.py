"""The commands of docs/identity.md, run as they are by the real az CLI; and what it makes of applications by hand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.administrators import ProviderAdministrator
from sandbox.administrators.provider import GRAPH_ROLES
from sandbox.az_cli import Az, find_or_install
from tests.sandbox.issuer import SERVICE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import ProviderIdentity
    from tests.sandbox.issuer import Issuer

pytestmark = [pytest.mark.az, pytest.mark.timeout(900)]
AUDIENCE = "api://AzureADTokenExchange"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "identity.md"


@pytest.fixture
def az(env: Mapping[str, str], tmp_path: Path) -> Az:
    made = Az(tmp_path, env)
    made(
        "login", "--service-principal", "--tenant", env["PROVIDER_TENANT_ID"],
        "--username", env["PROVIDER_ADMIN_CLIENT_ID"], "--password", env["PROVIDER_ADMIN_CLIENT_SECRET"],
    )  # fmt: skip
    return made


def run(az: Az, script: str, variables: Mapping[str, str]) -> str:
    """Run a script with the real az CLI as `az`; what it printed."""
    programs = az.config_directory / "programs"
    programs.mkdir()
    shim = programs / "az"
    shim.write_text(f'#!/bin/sh\nexec {shlex.join(find_or_install())} "$@"\n', encoding="utf-8")
    shim.chmod(0o700)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(az.config_directory),
        "AZURE_CONFIG_DIR": str(az.config_directory),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_ONLY_SHOW_ERRORS": "yes",
        **{name: az.env[name] for name in ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")},
        **variables,
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_the_documented_commands_make_a_registrar_with_two_rights_and_no_others(
    env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer, az: Az
) -> None:
    (script,) = [block for block in re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "cmk-registrar" in block]
    variables = {
        "SUBSCRIPTION_ID": env["SUBSCRIPTION_ID"],
        "ISSUER": issuer.url,
        "AUDIENCE": AUDIENCE,
    }
    client_id = run(az, script, variables).rsplit("spec.registrar.clientId: ", 1)[1].strip()
    async with ProviderAdministrator(env) as provider:
        principal = await provider.principal_id(client_id)
        path = f"/servicePrincipals/{principal}/appRoleAssignments"
        roles = [one["appRoleId"] for one in (await provider.graph.json("GET", path))["value"]]
        assert roles == [GRAPH_ROLES["Application.ReadWrite.OwnedBy"]]
        scope = f"{provider.subscription}/resourceGroups/rg-cmk-identities"
        query = f"?$filter=principalId eq '{principal}'&api-version=2022-04-01"
        found = await provider.arm.json(
            "GET", f"{provider.subscription}/providers/Microsoft.Authorization/roleAssignments{query}"
        )
        assert [one["properties"]["scope"].lower() for one in found["value"]] == [scope.lower()]
        credentials = (
            f"{scope}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cmk-registrar/federatedIdentityCredentials"
        )
        (credential,) = (await provider.arm.json("GET", f"{credentials}?api-version=2024-11-30"))["value"]
    assert credential["properties"] == {"issuer": issuer.url, "subject": SERVICE_ACCOUNT, "audiences": [AUDIENCE]}


def test_az_makes_an_application_its_owner_and_its_federated_credential(
    identity: ProviderIdentity, az: Az, name: Callable[[str], str]
) -> None:
    made = az("ad", "app", "create", "--display-name", name("by-hand"), "--sign-in-audience", "AzureADMultipleOrgs")
    credential = {
        "name": "managed-identity",
        "issuer": f"https://login.microsoftonline.com/{az.env['PROVIDER_TENANT_ID']}/v2.0",
        "subject": identity.managed_identity_principal_id,
        "audiences": [AUDIENCE],
    }
    written = az("ad", "app", "federated-credential", "create", "--id", made["appId"], "--parameters", json.dumps(credential))
    assert {key: written[key] for key in credential} == credential
    az("ad", "app", "owner", "add", "--id", made["appId"], "--owner-object-id", identity.managed_identity_principal_id)
    owners = az("ad", "app", "owner", "list", "--id", made["appId"])
    assert identity.managed_identity_principal_id in {one["id"] for one in owners}
