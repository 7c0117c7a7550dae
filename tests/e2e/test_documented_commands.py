"""A customer comes, is served and leaves by the commands of the documents, as they stand on the pages."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes import binaries
from sandbox.kubernetes.objects import has
from tests.conftest import ROOT
from tests.documents.blocks import PROGRAMS, Block, blocks, commands_to_try, filled_in

if TYPE_CHECKING:
    from sandbox.kubernetes.cluster import Cluster
    from tests.environment import Environment

pytestmark = pytest.mark.cluster

HERE = "test_documented_commands.py::test_a_customer_comes"
ONBOARD = ROOT / "docs" / "how-to" / "onboard-a-customer.md"
LEAVE = ROOT / "docs" / "how-to" / "let-a-customer-leave.md"
LICENCES = ROOT / "docs" / "application-level-encryption.md"
STUBS = (
    "".join(f"{name}() {{ echo '{{}}'; }}\n" for name in PROGRAMS if name != "kubectl")
    # No node runs pods here: of what needs one, kubectl itself checks the options. The key service is not installed, either.
    # tests/documents/test_commands.py parses what goes to kubectl cmk, and the tutorial runs it.
    + """
kubectl() {
  case " $* " in
    " cmk "*) ;;
    *" logs "* | *" run probe "* | *" port-forward "* | *" rollout status "* | *"/proxy/"*) command kubectl "$1" --help "${@:2}" > /dev/null ;;
    *" create namespace "*) command kubectl "$@" --dry-run=client ;;
    *" auth can-i create "*) command kubectl "$@" || test $? -eq 1 ;;
    *) command kubectl "$@" ;;
  esac
}
grep() { command grep "$@" || test $? -eq 1; }
"""
)


class Shell:
    """A shell of the platform engineer, which ends at the first command that fails; with stubs, where programs stand beside kubectl."""

    def __init__(self, cluster: Cluster, folder: Path, variables: dict[str, str]) -> None:
        programs = folder / "programs"
        programs.mkdir()
        (programs / "kubectl-cmk").symlink_to(Path(sys.executable).with_name("kubectl-cmk"))
        path = os.pathsep.join((str(programs), str(binaries.kubectl().parent), os.environ["PATH"]))
        self._folder = folder
        self._env = {"PATH": path, "HOME": str(folder), "KUBECONFIG": str(cluster.kubeconfig), **variables}

    async def run(self, block: Block) -> None:
        """Run a block in a folder of its page; the assertion has what it printed."""
        complaint = await self.complaint(block)
        assert complaint == "", complaint

    async def complaint(self, block: Block, stubs: str = "") -> str:
        """Run a block in a folder of its page, and say what was printed if it failed."""
        here = self._folder / block.page.stem
        if not here.exists():
            here.mkdir()
            (here / "examples").symlink_to(ROOT / "examples")
        command = ["bash", "-euo", "pipefail", "-c", stubs + filled_in(block.text)]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=here, env=self._env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )  # fmt: skip
        return f"{block}: {done.stdout[-1500:]}{done.stderr[-1500:]}" if done.returncode else ""

    async def example(self, *names: str) -> None:
        """Apply manifests of the example as the installation page does."""
        for name in names:
            text = f"envsubst < examples/one-key-for-all/{name}.yaml | kubectl apply -f -\n"
            await self.run(Block(ROOT / "examples", 1, "sh", text))


async def _prepared(environment: Environment) -> dict[str, str]:
    """What the installation page has made before, and what its variables are; nobody has consented yet."""
    provider, customer, identity = environment.provider, environment.customer, environment.identity
    await customer.consent(identity.application_client_id)
    await customer.withdraw_consent(identity.application_client_id)
    await provider.create_resource_group("rg-fabrikam")
    account = f"{environment.name}fabrikam"
    environment.accounts["docs"] = await provider.create_storage_account(account, resource_group="rg-fabrikam")
    return {
        "PROVIDER_TENANT_ID": provider.tenant_id,
        "CUSTOMER_TENANT_ID": customer.tenant_id,
        "SUBSCRIPTION_ID": provider.subscription_id,
        "APPLICATION_CLIENT_ID": identity.application_client_id,
        "MANAGED_IDENTITY_RESOURCE_ID": identity.managed_identity_resource_id,
        "MANAGED_IDENTITY_CLIENT_ID": identity.managed_identity_client_id,
        "CUSTOMER_VAULT": environment.vault,
        "STORAGE_ACCOUNT": account,
        **dict.fromkeys(("REGISTRY", "CLIENT_ID", "CLIENT_SECRET"), "example"),
    }


async def test_a_customer_comes_is_served_by_every_documented_command_and_leaves(
    environment: Environment, empty_cluster: Cluster, tmp_path: Path
) -> None:
    shell = Shell(empty_cluster, tmp_path, await _prepared(environment))
    environment.namespace = "fabrikam"
    await shell.example("1-identity")
    tenant, handover, waiting = (block for block in blocks(ONBOARD) if block.has_commands)
    await shell.run(tenant)
    await shell.example("3-key", "4-storage")
    await shell.run(handover)
    await environment.vault_with_key()
    await shell.run(waiting)

    await environment.apply_organization("fabrikam", tenantRef={"name": "fabrikam"})
    licence = next(block.text for block in blocks(LICENCES) if "kind: Licence\n" in block.text)
    await shell.run(Block(LICENCES, 1, "sh", f"kubectl apply -f - <<END\n{licence}END\n"))
    await dataclasses.replace(environment, name="fabrikam").apply_identity()
    served = [block for block in commands_to_try(ONBOARD, LEAVE) if HERE in block.marker or not block.marker]
    complaints = [await shell.complaint(block, STUBS) for block in served if "kubectl " in block.text]
    assert len(complaints) > 40
    assert "".join(complaints) == ""
    await shell.run(Block(LICENCES, 1, "sh", "kubectl delete licence organizations\n"))

    orphaned, reverted = (block for block in blocks(LEAVE) if block.has_commands)
    await shell.run(orphaned)
    assert (await environment.encryption())["keySource"] == "Microsoft.Keyvault"
    await shell.example("2-tenant", "3-key", "4-storage")
    await environment.objects.until("Ready", "EncryptedResource", "documents", has("Ready"), "fabrikam")
    await shell.run(reverted)
    assert (await environment.encryption())["keySource"] == "Microsoft.Storage"
