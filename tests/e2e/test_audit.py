"""Everything that happens to one key is one entry each, with who, from what to what, and Azure's request id; the record is whole."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from cmk_operator.cli.commands import cmk
from cmk_operator.core.audit.layout import lines_of
from sandbox.kubernetes import binaries
from sandbox.kubernetes.objects import has
from sandbox.operator_process import NAMESPACE
from tests.e2e.test_rotation import new_version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

    Audit = Callable[..., Awaitable[tuple[int, str]]]

STORAGE = "2026-09-01"
OURS, OTHERS = "cmk-operator", "Azure or the customer"


@pytest.fixture
def audit(empty_cluster: Cluster) -> Audit:
    """An auditor at a terminal: the exit code and the words of `kubectl cmk audit`."""
    path = f"{binaries.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    runner = CliRunner(env={"KUBECONFIG": str(empty_cluster.kubeconfig), "PATH": path})

    async def run(*arguments: str) -> tuple[int, str]:
        command = ["audit", *arguments, "-n", NAMESPACE]
        done = await asyncio.to_thread(runner.invoke, cmk, command, catch_exceptions=False)
        return done.exit_code, done.output

    return run


async def entries_of(environment: Environment, kind: str) -> list[dict[str, Any]]:
    """The entries about the environment's object of a kind."""
    found = await environment.objects.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps")
    bodies = [json.loads(line.text) for line in lines_of(found["items"])]
    about = [body for body in bodies if body.get("object", {}).get("kind") == kind]
    scope = (
        {"namespace": environment.namespace}
        if kind in {"EncryptedResource", "CustomerManagedKey"}
        else {"name": environment.name}
    )
    return [one for one in about if scope.items() <= one["object"].items()]


def _told(entries: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [(one["event"], one["by"], one.get("from", ""), one["to"]) for one in entries]


async def test_the_life_of_a_key_is_one_entry_for_each_change_with_the_request_that_showed_it(
    environment: Environment,
) -> None:
    old = await environment.ready()
    await environment.customer.disable(environment.vault, "cmk", old)
    await environment.key_until("lost", has("KeyAccessible", "False", "Disabled"))
    await environment.customer.enable(environment.vault, "cmk", old)
    await environment.key_until("back", has("KeyAccessible"))
    new = await new_version(environment)
    await environment.key_until("a new version", lambda status: status.get("activeVersion") == new)

    entries = await entries_of(environment, "CustomerManagedKey")
    assert _told(entries) == [
        ("ConfigurationChanged", "field manager tests", "", "generation 1"),
        ("KeyAccessChanged", OTHERS, "", "Accessible"),
        ("KeyVersionChanged", OTHERS, "", old),
        ("KeyAccessChanged", OTHERS, "Accessible", "Disabled"),
        ("KeyAccessChanged", OTHERS, "Disabled", "Accessible"),
        ("KeyVersionChanged", OTHERS, old, new),
    ]
    reads = {request["request_id"] for request in await environment.requests_about(f"{environment.vault}.vault", 0)}
    assert {one["azureRequestId"] for one in entries[1:]} <= reads
    (consent,) = [one for one in await entries_of(environment, "CustomerTenant") if one["event"] == "ConsentChanged"]
    assert (consent["to"], consent["by"]) == ("Granted", "the customer's administrator")


async def test_the_life_of_a_resource_is_one_entry_for_each_change_with_who_and_the_request_that_did_it(
    environment: Environment, operator: Operator, audit: Audit, tmp_path: Path
) -> None:
    version = await environment.ready()
    since = await environment.position()
    customers, platform = environment.key_uri(version), "a Microsoft-managed key"
    taken, mended = ("KeyChangeFound", OTHERS, customers, platform), ("KeyChanged", OURS, platform, customers)

    async def entries() -> list[dict[str, Any]]:
        return await entries_of(environment, "EncryptedResource")

    for times in (1, 2):
        body = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
        await environment.provider.patch(environment.accounts["docs"], STORAGE, body)

        async def mended_again(times: int = times) -> bool:
            changes = [one for one in _told(await entries()) if one[0].startswith("Key")]
            return changes == [mended, *[taken, mended] * times]

        await environment.eventually("the drift and its end in the record", mended_again)
    await environment.apply_resource(deletionPolicy="RevertToPlatformKey")
    await environment.resource_until("answered", lambda status: status["observedGeneration"] == 2)
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)

    async def ended() -> bool:
        return bool((await entries())[-1]["event"] == "ManifestDeleted")

    await environment.eventually("the end of the manifest", ended)
    found = await entries()
    assert ("KeyChanged", OURS, customers, platform) in _told(found)
    own = [one["azureRequestId"] for one in found if one["event"] == "KeyChanged"]
    assert own[1:] == [request["request_id"] for request in await environment.writes(since)]
    created, changed = [one for one in found if one["event"] == "ConfigurationChanged"][:2]
    assert created["spec"]["resourceId"] == environment.accounts["docs"]
    assert (changed["from"], changed["to"], changed["by"]) == ("generation 1", "generation 2", "field manager tests")
    assert changed["spec"]["deletionPolicy"] == "RevertToPlatformKey"

    code, text = await audit("show", "--object", f"{environment.namespace}/docs", "-o", "json")
    assert (code, json.loads(text)) == (0, found)
    exported = tmp_path / "record.ndjson"
    assert (await audit("export", "--to", str(exported)))[0] == 0
    for arguments in (("verify",), ("verify", "--against", str(exported)), ("verify", "--against", str(operator.process.log))):
        code, text = await audit(*arguments)
        assert (code, text.partition(":")[0]) == (0, "Whole"), text


async def test_withdrawn_consent_is_one_entry(environment: Environment, audit: Audit) -> None:
    await environment.ready()
    await environment.customer.withdraw_consent(environment.identity.application_client_id)

    async def consents() -> list[tuple[str, str]]:
        found = [one for one in await entries_of(environment, "CustomerTenant") if one["event"] == "ConsentChanged"]
        return [(one.get("from", ""), one["to"]) for one in found]

    async def revoked() -> bool:
        return (await consents())[-1] == ("Granted", "Revoked")

    await environment.eventually("the withdrawal in the record", revoked)
    assert await consents() == [("", "Granted"), ("Granted", "Revoked")]
    await environment.customer.consent(environment.identity.application_client_id)


async def test_manifests_that_no_tenant_admits_are_counted_and_not_recorded_until_one_admits_them(
    environment: Environment, operator: Operator
) -> None:
    await environment.ready()
    stranger = f"{environment.name}-stranger"
    await environment.objects.create_namespace(stranger)
    spec = {"tenantRef": {"name": environment.name}, "keyUri": environment.key_uri()}
    names = [f"flood-{number}" for number in range(30)]
    for name in names:
        await environment.objects.apply("CustomerManagedKey", name, spec, stranger)
    for name in names:
        await environment.objects.until(
            "refused", "CustomerManagedKey", name, has("Ready", "False", "NamespaceNotAllowed"), stranger
        )

    async def recorded() -> list[dict[str, Any]]:
        found = await environment.objects.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps")
        bodies = [json.loads(line.text) for line in lines_of(found["items"])]
        return [body for body in bodies if body.get("object", {}).get("namespace") == stranger]

    assert await recorded() == []
    counted = re.findall(
        r'^cmk_refused_manifests_total\{kind="customermanagedkeys"\} (\S+)$', operator.process.metrics(), re.MULTILINE
    )
    assert float(counted[0]) >= len(names)
    await environment.objects.delete("CustomerManagedKey", names[0], stranger)
    await environment.objects.until_gone("CustomerManagedKey", names[0], stranger)
    await environment.apply_tenant(allowedNamespaces=[environment.namespace, stranger])
    for name in names[1:]:
        await environment.objects.until("admitted", "CustomerManagedKey", name, has("KeyAccessible"), stranger)
    configured = [one for one in await recorded() if one["event"] == "ConfigurationChanged"]
    assert sorted(one["object"]["name"] for one in configured) == sorted(names[1:])
    assert {(one.get("from", ""), one["to"]) for one in configured} == {("", "generation 1")}
    assert {one["tenant"] for one in configured} == {environment.name}, "they take the share of the tenant that admits them"
    assert {one["object"]["name"] for one in await recorded()} == set(names[1:]), "nothing of what was never admitted"
