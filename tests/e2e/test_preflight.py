"""`kubectl cmk preflight` as a platform engineer of one namespace runs it, before anything is applied; and `impact` after."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.administrators.provider import ROLES
from sandbox.kubernetes import binaries
from sandbox.kubernetes.objects import has

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from tests.environment import Environment

ENGINEER = "engineer"
MICROSOFT = "a Microsoft-managed key"
KEY_STAGES = ("Token", "Consent", "Get", "Wrap", "Unwrap")


@dataclass
class Answer:
    """What the command answered."""

    exit_code: int
    data: Any
    stderr: str

    def result(self, stage: str, name: str = "cmk") -> str:
        """The result of a stage of a manifest."""
        return str(self.check(stage, name)["result"])

    def check(self, stage: str, name: str = "cmk") -> dict[str, Any]:
        """The one check of a stage of a manifest."""
        (found,) = [one for one in self.data["checks"] if (one["stage"], one["name"]) == (stage, name)]
        return dict(found)

    def prerequisite(self, reason: str) -> dict[str, Any]:
        """The check of one prerequisite of the key."""
        (found,) = [one for one in self.data["checks"] if (one["stage"], one["reason"]) == ("Prerequisite", reason)]
        return dict(found)


@dataclass
class CommandLine:
    """`kubectl cmk` as one person runs it."""

    cluster: Cluster
    directory: Path
    environment: Environment
    user: str | None = ENGINEER

    async def run(self, *arguments: str) -> Answer:
        """One command, as data."""
        person = ("--as", self.user) if self.user is not None else ()
        path = f"{binaries.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cmk_operator.cli", *arguments, *person, "-o", "json",
            env={"PATH": path, "KUBECONFIG": str(self.cluster.kubeconfig), "HOME": str(self.directory)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return Answer(process.returncode or 0, json.loads(out) if out else None, err.decode())

    async def preflight(self, *manifests: dict[str, Any], **options: str) -> Answer:
        """Check manifests."""
        file = self.directory / "manifests.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}), encoding="utf-8")
        given = (f"--{name}={value}" for name, value in options.items())
        return await self.run("preflight", "--filename", str(file), *given)

    def manifest(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        """A manifest in the namespace."""
        metadata = {"name": name, "namespace": self.environment.namespace}
        return {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

    def key(self, **spec: Any) -> dict[str, Any]:
        """The manifest of the key."""
        whole = {"tenantRef": {"name": self.environment.name}, "keyUri": self.environment.key_uri(), **spec}
        return self.manifest("CustomerManagedKey", "cmk", whole)

    def resource(self, name: str = "docs", **spec: Any) -> dict[str, Any]:
        """The manifest of the account of this name."""
        resource_id = self.environment.accounts.get(name, "")
        return self.manifest("EncryptedResource", name, {"keyRef": {"name": "cmk"}, "resourceId": resource_id, **spec})


@pytest.fixture
async def command_line(empty_cluster: Cluster, environment: Environment, tmp_path: Path) -> CommandLine:
    """The command line of an engineer who may only what the chart's roles give in one namespace."""
    bindings = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"engineer-{role}", "namespace": environment.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"cmk-operator-{role}"},
            "subjects": [{"kind": "User", "name": ENGINEER, "apiGroup": "rbac.authorization.k8s.io"}],
        }
        for role in ("view", "edit")
    ]
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": bindings})
    await asyncio.to_thread(empty_cluster.kubectl, "apply", "--filename", "-", stdin=items)
    await environment.apply_identity()
    await environment.apply_tenant()
    return CommandLine(empty_cluster, tmp_path, environment)


async def requests_left(environment: Environment) -> list[Any]:
    """Requests for checks that are still in the cluster."""
    found = await environment.objects.call("GET", "/apis/cmk-operator.dev/v1alpha1/preflights")
    return list(found["items"])


async def test_good_manifests_pass_and_nothing_is_changed_by_asking(
    command_line: CommandLine, environment: Environment
) -> None:
    await environment.vault_with_key()
    await environment.account()
    since = await environment.position()
    answer = await command_line.preflight(command_line.key(), command_line.resource())
    assert (answer.exit_code, answer.data["result"]) == (0, "Pass"), answer
    stages = [one["stage"] for one in answer.data["checks"] if one["name"] == "docs"]
    assert stages == ["Schema", "Admission", "Read", "Write", "Effect", "Coverage", "Deletion"]
    left = answer.check("Deletion", "docs")["message"]
    assert "deleting the manifest changes nothing in Azure" in left
    assert environment.key_uri() in left, "it says on which key the resource stays"
    coverage = answer.check("Coverage", "docs")
    assert (coverage["result"], coverage["reason"]) == ("Warn", "DataNotCovered")
    assert coverage["message"] == f"the key would not protect: queues ({MICROSOFT}), tables ({MICROSOFT})"
    assert [change.partition(" (")[0] for change in coverage["changes"]] == ["queues", "tables"]
    assert {answer.result(stage) for stage in ("Schema", "Admission", *KEY_STAGES)} == {"Pass"}
    assert (answer.prerequisite("PurgeProtection")["result"], answer.prerequisite("VaultLock")["result"]) == (
        "Pass",
        "NotVisible",
    )
    effect = answer.check("Effect", "docs")
    assert effect["reason"] == "WouldChange"
    assert any(change.startswith("properties.encryption.keySource: Microsoft.Storage") for change in effect["changes"]), effect
    assert await environment.writes(since) == []
    assert await environment.objects.all("CustomerManagedKey") == []
    assert await requests_left(environment) == []


async def test_what_is_in_force_is_left_and_what_a_changed_key_takes_along_is_told(
    command_line: CommandLine, environment: Environment
) -> None:
    old = await environment.ready()
    same = await command_line.preflight(command_line.key(), command_line.resource())
    assert (same.exit_code, same.check("Effect", "docs")["message"]) == (0, "nothing changes: the resource is as wanted")
    await environment.customer.new_version(environment.vault, "cmk")
    pinned = await command_line.preflight(command_line.key(keyUri=environment.key_uri(old)))
    effect = pinned.check("Effect", "docs")
    assert effect["reason"] == "WouldChange", "a resource that is not in the file and names the key"
    assert any(old in change for change in effect["changes"]), effect
    impact = await command_line.run("impact", f"{environment.namespace}/cmk", "--namespace", environment.namespace)
    assert [(one["service"], one["resources"]) for one in impact.data["stops"]] == [("Azure Storage", ["docs"])]
    await environment.customer.disable(environment.vault, "cmk", old)
    await environment.key_until("lost", lambda status: status["access"].get("stops"))
    lost = await command_line.run("impact", f"{environment.namespace}/cmk", "--version", old, "-n", environment.namespace)
    assert (lost.data["accessNow"], [one["resources"] for one in lost.data["stops"]]) == ("Disabled", [["docs"]])
    table = await command_line.run("versions", f"{environment.namespace}/cmk", "--namespace", environment.namespace)
    assert [one["mayDisable"] for one in table.data["versions"] if one["version"] == old] == ["AlreadyDisabled"]


async def test_the_first_missing_step_of_the_customer_is_named_and_the_next_once_it_is_done(
    command_line: CommandLine, environment: Environment
) -> None:
    await environment.customer.withdraw_consent(environment.identity.application_client_id)
    await environment.account()
    manifests = (command_line.key(), command_line.resource())
    answer = await command_line.preflight(*manifests)
    assert (answer.exit_code, answer.data["result"]) == (1, "Fail")
    assert [answer.result(stage) for stage in KEY_STAGES] == ["Pass", "Fail", "Unchecked", "Unchecked", "Unchecked"]
    assert "the customer's administrator must open the consent URL" in answer.check("Consent")["message"]
    assert answer.result("Read", "docs") == "Pass", "what does not depend on it is checked all the same"
    effect = answer.check("Effect", "docs")
    assert (effect["result"], effect["reason"]) == ("Fail", "ConsentMissing")
    await environment.vault_with_key(grant=False, size=3072)
    answer = await command_line.preflight(*manifests)
    assert [answer.result(stage) for stage in KEY_STAGES] == ["Pass", "Pass", "Fail", "Unchecked", "Unchecked"]
    assert answer.check("Get")["reason"] == "PermissionDenied"
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    answer = await command_line.preflight(*manifests)
    assert {answer.result(stage) for stage in KEY_STAGES} == {"Pass"}
    lacking = answer.prerequisite("KeySize")
    assert (answer.exit_code, lacking["result"]) == (1, "Fail")
    assert "--size 2048" in lacking["command"]
    assert answer.check("Effect", "docs")["reason"] == "KeySizeFailed"
    warned = await command_line.preflight(command_line.key(prerequisites="Warn"), command_line.resource())
    assert (warned.exit_code, warned.prerequisite("KeySize")["result"]) == (0, "Warn")


async def test_a_target_without_the_right_to_write_is_told_before_a_write(
    command_line: CommandLine, environment: Environment
) -> None:
    provider, principal = environment.provider, environment.identity.managed_identity_principal_id
    await environment.vault_with_key()
    await environment.account()
    group = f"{provider.subscription}/resourceGroups/{environment.group}"
    manifests = (command_line.key(), command_line.resource())
    await provider.withdraw_roles(principal, provider.subscription)
    try:
        blind = await command_line.preflight(*manifests)
        assert (blind.exit_code, blind.result("Read", "docs"), blind.result("Write", "docs")) == (1, "Fail", "NotVisible")
        assert "provider's administrator must assign it a role" in blind.check("Read", "docs")["message"]
        await provider.assign_role(principal, "Reader", group)
        answer = await command_line.preflight(*manifests)
    finally:
        for role in ROLES:
            await provider.assign_role(principal, role, provider.subscription)
    assert (answer.exit_code, answer.result("Read", "docs")) == (1, "Pass")
    write = answer.check("Write", "docs")
    assert (write["result"], write["reason"]) == ("Fail", "RoleMissing")
    assert f"Microsoft.Storage/storageAccounts/write on {environment.accounts['docs']}" in write["message"]
    assert "assign/action" not in write["message"], "that right is held on the managed identity itself"


async def test_what_can_never_be_is_refused_by_the_api_server_or_the_operator(
    command_line: CommandLine, environment: Environment
) -> None:
    await environment.vault_with_key()
    group = f"{environment.provider.subscription}/resourceGroups/{environment.group}/providers"
    hubs = command_line.resource("hubs", resourceId=f"{group}/Microsoft.EventHub/namespaces/hubs")
    cache = command_line.resource("cache", resourceId=f"{group}/Microsoft.Cache/redis/cache")
    away = command_line.resource(
        "away", resourceId=f"{group.replace(environment.group, 'elsewhere')}/Microsoft.Sql/servers/away"
    )
    since = await environment.position()
    answer = await command_line.preflight(command_line.key(), hubs, cache, away)
    assert answer.exit_code == 1
    assert "Event Hubs needs its key vault in its own tenant" in answer.check("Schema", "hubs")["message"]
    assert answer.check("Admission", "cache")["reason"] == "UnsupportedResourceType"
    assert answer.check("Admission", "away")["reason"] == "ScopeNotAllowed"
    assert answer.result("Read", "away") == "Unchecked"
    assert await environment.operator_requests("/elsewhere/", since) == [], "refused before any call"
    assert answer.result("Unwrap") == "Pass", "the rest is checked all the same"


async def test_what_cannot_be_checked_ends_with_its_own_code(command_line: CommandLine, environment: Environment) -> None:
    await environment.vault_with_key()
    fault = await environment.control.inject(kind="status", host=f"{environment.vault}.vault.azure.net", status=503)
    answer = await command_line.preflight(command_line.key())
    assert (answer.exit_code, answer.data["result"], answer.check("Get")["reason"]) == (2, "Unchecked", "VaultUnreachable")
    await environment.control.clear_fault(fault)
    administrator = CommandLine(command_line.cluster, command_line.directory, environment, user=None)
    applied = (await environment.objects.get("CustomerTenant", environment.name))["spec"]
    tenant = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": "CustomerTenant", "metadata": {"name": environment.name}}
    other = {**applied, "allowedNamespaces": ["nowhere"]}
    unapplied = await administrator.preflight(tenant | {"spec": other}, command_line.key())
    assert (unapplied.exit_code, unapplied.check("Admission", environment.name)["reason"]) == (2, "NotApplied")
    assert unapplied.result("Unwrap") == "Pass", "with the tenant that is applied"
    same = await administrator.preflight(tenant | {"spec": applied}, command_line.key())
    assert same.exit_code == 0


async def test_one_that_is_not_answered_soon_says_that_it_waits_until_it_is(environment: Environment) -> None:
    await environment.vault_with_key()
    spec = {"keys": [{"name": "cmk", "spec": {"tenantRef": {"name": environment.name}, "keyUri": environment.key_uri()}}]}
    await environment.apply_identity()
    await environment.apply_tenant()
    fault = await environment.control.inject(kind="delay", host=f"{environment.vault}.vault.azure.net", seconds=3.0)
    for name in ("first", "second"):
        await environment.objects.apply("Preflight", name, spec, environment.namespace)
    waits = has("Complete", "False", "WaitsForTurn")
    await environment.objects.until("what it waits for", "Preflight", "second", waits, environment.namespace)
    await environment.control.clear_fault(fault)
    for name in ("first", "second"):
        await environment.objects.until("its answer", "Preflight", name, has("Complete"), environment.namespace)
        await environment.objects.delete("Preflight", name, environment.namespace)


async def test_only_what_one_may_apply_oneself_is_checked(command_line: CommandLine, environment: Environment) -> None:
    since = await environment.position()
    stranger = CommandLine(command_line.cluster, command_line.directory, environment, user="stranger")
    answer = await stranger.preflight(command_line.key())
    assert (answer.exit_code, [one["stage"] for one in answer.data["checks"]]) == (1, ["Schema"])
    assert answer.check("Schema")["reason"] == "Forbidden"
    elsewhere = command_line.key()
    elsewhere["metadata"]["namespace"] = "default"
    refused = await command_line.preflight(elsewhere)
    assert (refused.exit_code, refused.check("Schema")["reason"]) == (1, "Forbidden")
    by_hand = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "Preflight",
        "metadata": {"name": "by-hand", "namespace": "default"},
        "spec": {
            "keys": [{"name": "cmk", "spec": command_line.key()["spec"]}, {"name": "odd", "spec": {"keyUri": "x"}}],
            "resources": [{"name": "none", "spec": {"keyRef": {"name": "cmk"}}}],
        },
    }
    await environment.objects.call("POST", "/apis/cmk-operator.dev/v1alpha1/namespaces/default/preflights", by_hand)

    async def answered() -> Any:
        path = "/apis/cmk-operator.dev/v1alpha1/namespaces/default/preflights/by-hand"
        return (await environment.objects.call("GET", path))["status"].get("checks")

    await environment.eventually("an answer", answered)
    kept = {"type": "Complete", "status": "True", "reason": "Passed", "message": "", "observedGeneration": 1}
    old = {"observedGeneration": 1, "conditions": [kept | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    reasons = {one["name"]: one["reason"] for one in await answered() if one["stage"] == "Admission"}
    assert reasons == {"cmk": "NamespaceNotAllowed", "odd": "InvalidManifest", "none": "InvalidResourceId"}
    assert await environment.operator_requests(environment.vault, since) == [], "a namespace that the tenant does not list"
    path = "/apis/cmk-operator.dev/v1alpha1/namespaces/default/preflights/by-hand/status"
    await environment.objects.call("PATCH", path, {"status": old}, "application/merge-patch+json")

    async def gone() -> bool:
        return await requests_left(environment) == []

    await environment.eventually("that the operator deletes what was answered long ago", gone)


async def test_the_resource_is_put_on_the_key_as_it_was_foretold(command_line: CommandLine, environment: Environment) -> None:
    await environment.vault_with_key()
    await environment.account()
    foretold = await command_line.preflight(command_line.key(), command_line.resource(mode="Observe"))
    await environment.apply_key()
    await environment.apply_resource(mode="Observe")
    status = await environment.resource_until("planned", has("Ready", "True", "PlanOnly"))
    assert foretold.check("Effect", "docs")["reason"] == "PlanOnly"
    assert foretold.check("Effect", "docs")["changes"] == status["plan"]["summary"]


HSM = "https://contoso.managedhsm.azure.net"


async def test_each_protection_is_told_in_its_own_words_and_only_two_of_them_would_be_changed(
    command_line: CommandLine, environment: Environment
) -> None:
    """On a key, on Microsoft's, on a key that the operator cannot read, and not readable: the same words as the status has."""
    version = await environment.ready()
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    account, control = environment.accounts["docs"], environment.control
    since = await environment.position()

    async def check() -> Answer:
        return await command_line.preflight(command_line.key(), command_line.resource(deletionPolicy="RevertToPlatformKey"))

    on_key = await check()
    assert f"it is on {environment.key_uri(version)}" in on_key.check("Read", "docs")["message"]
    assert on_key.check("Effect", "docs")["message"] == "nothing changes: the resource is as wanted"
    assert f"back on {MICROSOFT} first" in on_key.check("Deletion", "docs")["message"]

    microsoft = {
        "/properties/encryption/keySource": "Microsoft.Storage",
        "/properties/encryption/keyvaultproperties": None,
    }
    fault = await control.inject(kind="alter", resource=account, replace=microsoft)
    managed = await check()
    assert f"it is on {MICROSOFT}" in managed.check("Read", "docs")["message"]
    assert managed.check("Effect", "docs")["reason"] == "WouldChange"
    observed = await command_line.preflight(command_line.key(), command_line.resource(mode="Observe"))
    assert observed.check("Deletion", "docs")["message"].endswith(f"stays on {MICROSOFT}"), "nothing puts it on the key"
    await control.clear_fault(fault)

    elsewhere = {"/properties/encryption/keyvaultproperties/keyvaulturi": f"{HSM}/"}
    fault = await control.inject(kind="alter", resource=account, replace=elsewhere)
    another = await check()
    assert (another.exit_code, another.result("Read", "docs")) == (1, "Pass")
    assert f"it is on {HSM}/keys/cmk" in another.check("Read", "docs")["message"]
    effect = another.check("Effect", "docs")
    assert (effect["result"], effect["reason"], effect.get("changes", [])) == ("Fail", "OnAnotherKey", [])
    assert "the provider's administrator must put the account on Microsoft-managed keys" in effect["message"]
    assert another.check("Deletion", "docs")["message"].endswith(f"docs stays on {HSM}/keys/cmk")
    await control.clear_fault(fault)

    fault = await control.inject(kind="alter", resource=account, replace={"/properties/encryption": None})
    unreadable = await check()
    read = unreadable.check("Read", "docs")
    assert (unreadable.exit_code, read["result"], read["reason"]) == (2, "Unchecked", "Unreadable")
    assert "nothing is concluded from it and nothing is written" in read["message"]
    assert [unreadable.result(stage, "docs") for stage in ("Effect", "Coverage", "Deletion")] == ["Unchecked"] * 3
    assert unreadable.result("Write", "docs") == "Pass", "what does not depend on it is checked all the same"
    await control.clear_fault(fault)
    assert await environment.writes(since) == []
