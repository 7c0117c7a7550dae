"""Azure's own clients in Go and JavaScript, unmodified and with their older api-versions, put a server on a customer's key."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.identity.aio import ClientSecretCredential

from sandbox.administrators.rest import ARM, connection
from sandbox.kubernetes.cache import cache_directory, digest, made_once, run_with_progress
from sandbox.kubernetes.go_modules import ENVIRONMENT, GoProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.administrators import ProviderAdministrator, ProviderIdentity

pytestmark = pytest.mark.timeout(900)  # the first run on a machine builds or installs the clients
HERE = Path(__file__).parent
MODULE = "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/sql/armsql"
GO = GoProgram("armsql-client", str(HERE / "go"), ".", MODULE, "a minute")
JAVASCRIPT = HERE / "javascript"


def _node_program() -> list[str]:
    """The JavaScript client with its packages, installed once for each state of its files."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed: @azure/arm-sql is not tried against the sandbox")
    files = sorted(JAVASCRIPT.iterdir())
    target = cache_directory() / "npm" / f"arm-sql-{digest(files)}"

    def install(unfinished: Path) -> None:
        for one in files:
            shutil.copy(one, unfinished)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        log = target.with_name(f"{target.name}.log")
        run_with_progress("installing @azure/arm-sql", command, directory=unfinished, environment=os.environ, log=log)

    return [node, str(made_once(target, install) / "main.js")]


def _go_program() -> list[str]:
    return [str(GO.built())]


async def _protected(
    env: Mapping[str, str], command: Sequence[str], server: str, identity: ProviderIdentity, key_id: str
) -> dict[str, Any]:
    """What the client tells at its end; it has only the standard variables."""
    credential = ClientSecretCredential(
        env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    async with credential:
        token = (await credential.get_token(f"{ARM}/.default")).token
    vault, _, path = key_id.removeprefix("https://").partition(".")
    name = "_".join((vault, *path.split("/keys/")[1].split("/")))
    process = await asyncio.create_subprocess_exec(
        *command,
        identity.resource_group,
        server,
        identity.managed_identity_resource_id,
        identity.application_client_id,
        name,
        key_id,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**env, "PATH": os.environ["PATH"], "NODE_EXTRA_CA_CERTS": env["SSL_CERT_FILE"], "TOKEN": token},
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(output)
    assert found == {"protector": name, "keys": ["ServiceManaged", name], "encryption": "Enabled"}
    return found


@pytest.mark.parametrize("program", [_go_program, _node_program], ids=["armsql v1.2.0", "@azure/arm-sql 10"])
async def test_an_older_client_puts_a_server_on_the_customers_key(
    env: Mapping[str, str],
    provider: ProviderAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    program: Callable[[], list[str]],
) -> None:
    command = await asyncio.to_thread(program)
    server = name("clients-sql")
    await provider.sql.create_database(await provider.sql.create_server(server), "orders")
    await _protected(env, command, server, identity, key_of_customer[2])
    protector = await provider.sql.protector(provider.sql.server_id(server))
    assert (protector["uri"], protector["autoRotationEnabled"]) == (key_of_customer[2], True)


def test_the_clients_are_the_versions_that_users_have() -> None:
    assert GO.version == "v1.2.0"
    assert json.loads((JAVASCRIPT / "package.json").read_text())["dependencies"] == {"@azure/arm-sql": "10.0.0"}
    assert ENVIRONMENT["GOTOOLCHAIN"] == "local", "no toolchain is downloaded unasked"
