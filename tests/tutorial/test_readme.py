"""A new user follows the README to a Ready resource, and removes everything again, by the commands as they stand on the pages.

The user has a home of their own and no variable but those that docs/installation.md sets. Four things differ from a user's:
Azure is simulated; `az login` opens no browser; CUSTOMER_TENANT_ID is that of the simulated customer; and no node runs the
installed Deployment, so a process does, with its settings (but shorter intervals) and as the chart's ServiceAccount.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
from sandbox.az_cli import find_or_install
from sandbox.azure import process as azure_process
from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS
from sandbox.kubernetes import binaries
from sandbox.kubernetes.objects import Objects
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT, start_operator
from tests.conftest import ROOT, running_cluster
from tests.documents.blocks import Block, section
from tests.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.operator_process import OperatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.az, pytest.mark.timeout(900)]

README, INSTALLATION = ROOT / "README.md", ROOT / "docs" / "installation.md"
PREPARATION: Final = (
    "Installation on a real cluster and real Azure",
    "1. The managed identity, which the operator and the encrypted resources use",
    "2. The multitenant application, which the customer consents to",
)
ACCOUNT = "fabrikamdocuments"
SHORT_INTERVALS = {
    "CMK_OPERATOR_KEY_CHECK_INTERVAL": "1",
    "CMK_OPERATOR_DRIFT_CHECK_INTERVAL": "1",
    "CMK_OPERATOR_IDENTITY_CHECK_INTERVAL": "1",
}
CHANGES = {"PUT", "PATCH", "DELETE"}
OTHERS = (
    ("deployments,services,serviceaccounts,secrets,roles,rolebindings", NAMESPACE),
    ("roles,rolebindings", "kube-system"),
    ("clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings", "default"),
)
"""What a release is made of beside its definitions, and where."""
AZ = """#!/bin/sh
export {variables}
if [ "$*" = login ]; then
  set -- login --service-principal --tenant "$PROVIDER_TENANT_ID" --username "$PROVIDER_ADMIN_CLIENT_ID" \
    --password "$PROVIDER_ADMIN_CLIENT_SECRET"
fi
exec {az} "$@"
"""
"""az, which reaches the simulated Azure, and in which the provider's administrator need not sign in by a browser."""


def _commands(page: Path, heading: str) -> list[Block]:
    return [block for block in section(page, heading) if block.has_commands]


PREPARE = [block for heading in PREPARATION for block in _commands(INSTALLATION, heading)]
[INSTALL] = _commands(README, "Install it")
[UNINSTALL, _] = _commands(INSTALLATION, "Uninstalling")


def test_what_azure_needs_is_prepared_before_the_operator_is_installed() -> None:
    lines = [block.line for block in (*PREPARE, *_commands(INSTALLATION, "3. The operator"))]
    assert len(PREPARE) == 3
    assert lines == sorted(lines)


def test_the_readme_says_where_the_commands_before_and_after_its_own_are() -> None:
    text = README.read_text(encoding="utf-8").partition("## Install it\n")[2].partition("\n## ")[0]
    assert {"docs/installation.md", "docs/cli.md#install", "docs/installation.md#uninstalling"} <= set(
        re.findall(r"\]\((\S+)\)", text)
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    yield from running_cluster(tmp_path / "kubernetes")


@pytest.fixture
def azure(tmp_path: Path, cluster: Cluster) -> Iterator[AzureProcess]:
    running = azure_process.start(tmp_path / "azure", oidc_ca=cluster.ca_file)
    yield running
    running.stop()


class Terminal:
    """The new user's: their home, the programs that installation.md asks for, and nothing else."""

    def __init__(self, home: Path, cluster: Cluster, azure: Mapping[str, str]) -> None:
        programs = home / "programs"
        programs.mkdir(parents=True)
        for name, program in {
            "kubectl": binaries.kubectl(),
            "helm": binaries.helm(),
            "kubectl-cmk": Path(sys.executable).with_name("kubectl-cmk"),
        }.items():
            (programs / name).symlink_to(program)
        variables = {**azure, "AZURE_CORE_COLLECT_TELEMETRY": "no"}
        assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        (programs / "az").touch(mode=0o700)
        (programs / "az").write_text(AZ.format(variables=assigned, az=shlex.join(find_or_install())), encoding="utf-8")
        (home / ".kube").mkdir()
        (home / ".kube" / "config").symlink_to(cluster.kubeconfig)
        self._environment = {"HOME": str(home), "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin"}
        self._shell: asyncio.subprocess.Process | None = None

    async def begin(self, script: str) -> asyncio.StreamReader:
        """Give commands to a shell, which ends at the first that fails; what they print."""
        self._shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script), cwd=ROOT, env=self._environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._shell.stdout is not None
        return self._shell.stdout

    async def ended(self) -> int:
        """The shell's exit status."""
        assert self._shell is not None
        return await self._shell.wait()

    async def run(self, script: str) -> str:
        """Give commands to a shell of their own; what they printed."""
        printed = (await (await self.begin(script)).read()).decode()
        assert await self.ended() == 0, printed
        return printed

    def close(self) -> None:
        """End what still runs."""
        if self._shell is not None and self._shell.returncode is None:
            os.killpg(self._shell.pid, signal.SIGKILL)


async def test_a_new_user_follows_the_readme_to_a_ready_resource_and_removes_everything(
    cluster: Cluster, azure: AzureProcess, tmp_path: Path
) -> None:
    terminal, operator = Terminal(tmp_path / "home", cluster, azure.env), None
    async with AsyncExitStack() as stack:
        environment = await _world(stack, cluster, azure)
        try:
            prepare, changed = re.subn(
                r"(?<=\bCUSTOMER_TENANT_ID=)\S+", environment.customer.tenant_id, "".join(block.text for block in PREPARE)
            )
            assert changed == 1
            output = await terminal.begin(prepare + INSTALL.text)
            printed, application = await _until(output, r"az ad sp create --id (\S+)")
            operator = await asyncio.to_thread(start_operator, cluster, azure.env, tmp_path / "operator", SHORT_INTERVALS)
            environment.identity = await _identity(environment)
            assert application == environment.identity.application_client_id
            await environment.vault_with_key()
            printed += (await output.read()).decode()
            assert await terminal.ended() == 0, printed
            assert printed.endswith("encryptedresource.cmk-operator.dev/documents condition met\n")
            await _azure_is_prepared(environment, cluster)
            await _is_removed(environment, cluster, terminal, operator)
        finally:
            terminal.close()
            if operator is not None:
                operator.stop()


async def _world(stack: AsyncExitStack, cluster: Cluster, azure: AzureProcess) -> Environment:
    """Fabrikam as the pages name it, with a storage account on a key of Microsoft's, before anybody prepares anything."""
    environment = Environment(
        name="fabrikam",
        objects=await stack.enter_async_context(Objects(cluster)),
        provider=await stack.enter_async_context(ProviderAdministrator(azure.env)),
        customer=await stack.enter_async_context(CustomerAdministrator(azure.env)),
        control=await stack.enter_async_context(SandboxControl(azure.env["SANDBOX_CONTROL"])),
        identity=None,  # type: ignore[arg-type]  # the user makes it
        namespace="fabrikam",
    )
    await environment.control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
    await environment.provider.create_resource_group(environment.group)
    environment.accounts["docs"] = await environment.provider.create_storage_account(ACCOUNT, resource_group=environment.group)
    assert (await environment.encryption())["keySource"] == "Microsoft.Storage"
    return environment


async def _until(output: asyncio.StreamReader, pattern: str) -> tuple[str, str]:
    """What was printed up to the first line that has the pattern, and what the pattern's group is there."""
    printed = ""
    async for line in output:
        printed += line.decode()
        if found := re.search(pattern, line.decode()):
            return printed, found[1]
    pytest.fail(f"the shell ended before {pattern!r}: {printed}")


async def _identity(environment: Environment) -> ProviderIdentity:
    """What the user has made, as the applied FederatedIdentity names it."""
    spec = (await environment.objects.get("FederatedIdentity", "contoso"))["spec"]
    client = spec["managedIdentity"]["clientId"]
    return ProviderIdentity(
        application_client_id=spec["application"]["clientId"],
        application_name="Contoso CMK",
        managed_identity_resource_id=spec["managedIdentity"]["resourceId"],
        managed_identity_client_id=client,
        managed_identity_principal_id=await environment.provider.principal_id(client),
        resource_group="rg-platform",
    )


async def _azure_is_prepared(environment: Environment, cluster: Cluster) -> None:
    """The account is on the customer's key, and the identities trust whom they must, and nobody else."""
    provider, identity = environment.provider, environment.identity
    encryption = await environment.encryption()
    assert encryption["keySource"] == "Microsoft.Keyvault"
    assert encryption["keyvaultproperties"]["keyvaulturi"] == f"https://{environment.vault}.vault.azure.net"
    credentials = f"{identity.managed_identity_resource_id}/federatedIdentityCredentials?api-version=2024-11-30"
    (trusted,) = (await provider.arm.json("GET", credentials))["value"]
    assert trusted["properties"] == {
        "issuer": cluster.issuer,
        "subject": f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}",
        "audiences": ["api://AzureADTokenExchange"],
    }
    path = f"/applications(appId='{identity.application_client_id}')/federatedIdentityCredentials"
    (credential,) = (await provider.graph.json("GET", path))["value"]
    assert credential["subject"] == identity.managed_identity_principal_id
    assert credential["issuer"] == f"https://login.microsoftonline.com/{provider.tenant_id}/v2.0"
    query = f"?$filter=principalId eq '{identity.managed_identity_principal_id}'&api-version=2022-04-01"
    assignments = f"{provider.subscription}/providers/Microsoft.Authorization/roleAssignments{query}"
    assert len((await provider.arm.json("GET", assignments))["value"]) == 5


async def _is_removed(environment: Environment, cluster: Cluster, terminal: Terminal, operator: OperatorProcess) -> None:
    """Uninstalling leaves what the notes and the page say; the page's commands remove that too; Azure stays as it is."""
    encryption, objects = await environment.encryption(), await _statuses(environment)
    position = await environment.position()
    notes = await terminal.run("helm get notes cmk-operator -n cmk-operator-system")
    said = await terminal.run(UNINSTALL.text)
    assert operator.stop() == 0, "it ends well although its rights went first"
    assert await _statuses(environment) == objects
    kept = {name for name in _named(cluster, "customresourcedefinitions") if name.endswith(".cmk-operator.dev")}
    assert kept
    assert all(f"[CustomResourceDefinition] {name}" in said for name in kept)
    record = _named(cluster, "configmaps", NAMESPACE) - {"kube-root-ca.crt"}
    assert "cmk-operator-audit" in record
    assert all(name.startswith("cmk-operator-audit") for name in record)
    assert "cmk-operator" in _named(cluster, "leases", "kube-system")
    for kinds, namespace in OTHERS:
        assert not [name for name in _named(cluster, kinds, namespace) if "cmk" in name]
    for told in ("changes nothing in Azure", "cmk-operator-audit", "Lease cmk-operator in kube-system", "definitions"):
        assert told in notes

    for command in _removals():
        await terminal.run(command)
    # Kubernetes may take minutes for one of them, so it is enough that all of them are going.
    going = "jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{'\\n'}{end}"
    left = cluster.kubectl("get", "customresourcedefinitions", "--output", going).splitlines()
    assert [line for line in left if line.rstrip().endswith(".cmk-operator.dev")] == []
    assert "cmk-operator" not in _named(cluster, "leases", "kube-system")
    assert _named(cluster, "configmaps", NAMESPACE) - {"kube-root-ca.crt"} == record
    assert await environment.encryption() == encryption
    assert [each for each in await environment.control.requests(position) if each["method"] in CHANGES] == []


def _removals() -> list[str]:
    """The commands of the table that says how to remove what stays."""
    text = INSTALLATION.read_text(encoding="utf-8").partition("| what stays | to remove it |")[2].partition("\n\n")[0]
    found = [command.replace("\\|", "|") for command in re.findall(r"`(kubectl [^`]+)`", text)]
    assert len(found) == 3
    return found


async def _statuses(environment: Environment) -> dict[str, Any]:
    return {
        f"{kind} {item['metadata']['name']}": (item["metadata"]["uid"], item["spec"], item["status"]["conditions"])
        for kind in ("FederatedIdentity", "CustomerTenant", "CustomerManagedKey", "EncryptedResource")
        for item in await environment.objects.all(kind)
    }


def _named(cluster: Cluster, kind: str, namespace: str = "default") -> set[str]:
    path = "jsonpath={.items[*].metadata.name}"
    return set(cluster.kubectl("get", kind, "--namespace", namespace, "--output", path).split())
