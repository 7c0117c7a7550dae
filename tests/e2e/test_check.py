"""`cmk-operator check` signs in with each FederatedIdentity of its class, as the operator would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

from sandbox.administrators.provider import AUDIENCE
from sandbox.operator_process import SERVICE_ACCOUNT, as_service_account, settings_of_deployment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.environment import Environment


async def test_each_sign_in_is_tried_and_the_one_that_fails_says_who_must_act(
    another_environment: Callable[[], Awaitable[Environment]], empty_cluster: Cluster, azure: AzureProcess, tmp_path: Path
) -> None:
    good, bad, other = [await another_environment() for _ in range(3)]
    await good.apply_identity()
    given = {"resourceId": bad.identity.managed_identity_resource_id, "clientId": str(uuid.uuid4())}
    await bad.apply_identity(managedIdentity=given)
    await other.apply_identity(managedIdentity=given, operatorClass="another")

    environment = {
        **settings_of_deployment(empty_cluster),
        **as_service_account(empty_cluster, azure.env, tmp_path, SERVICE_ACCOUNT, AUDIENCE),
    }
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cmk_operator", "check"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    lines = {line.split()[2]: line for line in said.stdout.splitlines() if "sign-in" in line}
    assert set(lines) == {good.name, bad.name}, said.stdout + said.stderr
    assert lines[good.name].startswith("ok ")
    assert lines[bad.name].startswith("FAILED ")
    assert "AADSTS700016" in lines[bad.name]
    assert "administrator must" in lines[bad.name]
    assert (said.returncode, said.stdout.splitlines()[-1]) == (1, "1 of 6 checks failed.")
