"""Objects as large as etcd accepts neither kill the operator nor keep it from serving others, also without any policy."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.kubernetes.objects import RefusedError, has
from tests.conftest import ROOT
from tests.engine.limited_operator import LIMIT
from tests.engine.operators import Operator, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.azure.process import AzureProcess
    from tests.engine.world import World

ATTACKER = "attacker"
RESOURCES = f"/apis/cmk-operator.dev/v1alpha1/namespaces/{ATTACKER}/encryptedresources"
PREFLIGHTS = f"/apis/cmk-operator.dev/v1alpha1/namespaces/{ATTACKER}/preflights"
TARGET = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts"
ANNOTATED = {f"example.com/{number}": "b" * 50_000 for number in range(5)}
"""250 kB, all that the API server allows."""
LABELS = {f"{'a' * 60}.example/{number:03}{'b' * 55}": "c" * 63 for number in range(3_000)}
"""With what Kubernetes notes of them, 1.1 MB: more than annotations can have."""
QUIET = "TEST_QUIET_MEMORY"
"""Environment variable that keeps what a quiet operator needs, for the tests themselves."""
POLICY = "validatingadmissionpolicybinding"


def _memory(pid: int, field: str) -> int:
    """Bytes of a process, as the kernel counts them."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _chart_limit() -> int:
    values = yaml.safe_load((ROOT / "charts" / "cmk-operator" / "values.yaml").read_text(encoding="utf-8"))
    text = str(values["resources"]["limits"]["memory"])
    assert text.endswith("Mi")
    return int(text[:-2]) << 20


@pytest.fixture
async def limited(world: World, azure: AzureProcess, tmp_path: Path) -> AsyncIterator[World]:
    """A world without the policies, whose operator may map no more than the chart's limit leaves to a quiet one.

    It connects to the API server directly: the proxy would hold what the operator does not read.
    """
    world.operator.stop()
    world = replace(world, operator=Operator(world.cluster, azure.env, tmp_path, world.cluster.server))
    policies = json.loads(world.cluster.kubectl("get", POLICY, "--output", "json"))
    for policy in policies["items"]:
        policy["metadata"] = {"name": policy["metadata"]["name"], "labels": policy["metadata"].get("labels", {})}
    world.cluster.kubectl("delete", POLICY, "--all")
    await world.environment.objects.create_namespace(ATTACKER)
    operator = world.operator
    await operator.start()
    await world.foundation()
    await _serves_a_victim(world)
    pid = operator.process.pid
    quiet = _memory(pid, "VmRSS")
    limit = _memory(pid, "VmSize") + _chart_limit() - quiet
    operator.module, operator.extra = "tests.engine.limited_operator", {LIMIT: str(limit), QUIET: str(quiet)}
    operator.stop()
    yield world
    operator.stop()
    for path in (RESOURCES, PREFLIGHTS):
        await world.environment.objects.call("DELETE", path)
    world.cluster.kubectl("create", "--filename", "-", stdin=json.dumps(policies))


async def _serves_a_victim(world: World) -> None:
    (name,) = await world.accounts()
    await world.apply([name])
    await world.environment.resource_until("Ready", has("Ready"), name)


def _resource(_: int) -> dict[str, Any]:
    return {"keyRef": {"name": "none"}, "resourceId": f"{TARGET}/none"}


def _preflight(_: int) -> dict[str, Any]:
    """As large as the definition allows."""
    account = {"account": "a" * 255, "user": "u" * 255, "role": "r" * 255, "privateKeySecretRef": {"name": "n" * 253}}
    large = {"keyRef": {"name": "k" * 253}, "resourceId": f"{TARGET}/{'x' * 250}", "snowflake": account}
    return {"resources": [{"name": f"n{number}", "spec": large} for number in range(100)]}


async def _create(world: World, path: str, kind: str, count: int, spec: Any, **metadata: Any) -> None:
    """As fast as the API server accepts them."""

    async def create(number: int) -> None:
        named = {"name": _name(kind, next(iter(metadata.values())), number), **metadata}
        body = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": kind, "metadata": named, "spec": spec(number)}
        await _until_accepted(world, path, body)

    for first in range(0, count, 10):
        await asyncio.gather(*(create(number) for number in range(first, min(count, first + 10))))


def _name(kind: str, content: dict[str, str], number: int) -> str:
    return f"{kind.lower()}-{len(content)}-{number}"


async def _until_accepted(world: World, path: str, body: dict[str, Any]) -> None:
    """A policy that was deleted is in force for some moments more."""
    for _ in range(500):
        try:
            await world.environment.objects.call("POST", path, body)
        except RefusedError as error:
            if "ValidatingAdmissionPolicy" not in str(error):
                raise
            continue
        return
    raise AssertionError("the policies are still in force")


@pytest.mark.timeout(900)
async def test_large_objects_neither_end_the_operator_nor_delay_others(limited: World) -> None:
    operator = limited.operator
    await _create(limited, RESOURCES, "EncryptedResource", 130, _resource, annotations=ANNOTATED)
    await _create(limited, RESOURCES, "EncryptedResource", 3, _resource, labels=LABELS)
    await _create(limited, PREFLIGHTS, "Preflight", 50, _preflight, annotations=ANNOTATED)

    # It starts with all of them there.
    await operator.start()
    await _serves_a_victim(limited)
    await until("an answer to each Preflight", lambda: _answered(limited, 50), 120)

    # They change while it watches.
    change = {"spec": {"mode": "Observe"}}
    for first in range(0, 60, 10):
        await asyncio.gather(
            *(
                limited.environment.objects.merge(
                    "EncryptedResource", _name("EncryptedResource", ANNOTATED, number), change, ATTACKER
                )
                for number in range(first, first + 10)
            )
        )
    await _create(limited, PREFLIGHTS, "Preflight", 3, _preflight, labels=LABELS)
    await _serves_a_victim(limited)

    # It starts again, killed at the worst time.
    peak = _memory(operator.process.pid, "VmHWM")
    operator.kill()
    await operator.start()
    await _serves_a_victim(limited)
    peak = max(peak, _memory(operator.process.pid, "VmHWM"))
    assert operator.lines(containing="MemoryError") == []
    room = _chart_limit() - int(operator.extra[QUIET])
    assert peak < _chart_limit() - room / 2, f"the operator needed {peak >> 20} MiB"


async def _answered(world: World, count: int) -> bool:
    # Kept small: a whole list has 60 MB.
    shown = world.cluster.kubectl(
        "get", "preflights", "--namespace", ATTACKER, "--chunk-size=5", "--output", "jsonpath={.items[*].status.result}"
    )
    return len(shown.split()) == count
