"""Deleting manifests: nothing weakens encryption unless the manifest says so, and never because a key was lost (law 2)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes import binaries
from sandbox.kubernetes.controllers import start_controllers
from sandbox.kubernetes.objects import has
from tests.e2e.test_scenarios import noted

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

CONTROLLER_MANAGER = binaries.kube_controller_manager()
REVERT = "RevertToPlatformKey"


async def finalizers(environment: Environment) -> list[str]:
    metadata: dict[str, Any] = (await environment.objects.get("EncryptedResource", "docs", environment.namespace))["metadata"]
    return list(metadata.get("finalizers", []))


async def key_source(environment: Environment) -> str:
    return str((await environment.encryption())["keySource"])


async def until_finalizers(environment: Environment, count: int) -> None:
    async def reached() -> bool:
        return len(await finalizers(environment)) == count

    await environment.eventually(f"{count} finalizers", reached)


async def test_a_finalizer_is_there_exactly_while_deleting_would_write(environment: Environment) -> None:
    await environment.ready()
    assert await finalizers(environment) == []
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    await environment.apply_resource(deletionPolicy=REVERT, mode="Observe")
    await until_finalizers(environment, 0)
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    await environment.apply_resource(deletionPolicy="Orphan")
    await until_finalizers(environment, 0)


async def test_deletion_reverts_to_the_platform_key_where_the_manifest_says_so(environment: Environment) -> None:
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    before = (await environment.provider.storage_account(environment.accounts["docs"]))["identity"]
    since = await environment.position()
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    after = await environment.provider.storage_account(environment.accounts["docs"])
    assert after["properties"]["encryption"]["keySource"] == "Microsoft.Storage"
    assert after["identity"] == before, "identities stay, others may use them"
    assert len(await environment.writes(since)) == 1
    await environment.key_until("used by nothing", lambda seen: not seen.get("usedBy"))


async def test_a_revert_waits_while_the_key_is_disabled_and_goes_on_when_it_is_enabled(
    environment: Environment, operator: Operator
) -> None:
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    await environment.customer.disable(environment.vault, "cmk")
    await environment.key_until("Disabled", has("KeyAccessible", "False", "Disabled"))
    since = await environment.position()
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    status = await environment.resource_until("waiting", has("Ready", "False", "RevertWaitsForKey"))
    assert has("Stalled", "True", "RevertWaitsForKey")(status)
    assert "customer's administrator must enable it" in str(status["conditions"])
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    assert await key_source(environment) == "Microsoft.Keyvault"
    await environment.customer.enable(environment.vault, "cmk")
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    assert await key_source(environment) == "Microsoft.Storage"


async def test_a_waiting_revert_is_let_go_when_the_policy_becomes_orphan(environment: Environment) -> None:
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    await environment.customer.disable(environment.vault, "cmk")
    await environment.key_until("Disabled", has("KeyAccessible", "False", "Disabled"))
    since = await environment.position()
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.resource_until("waiting", has("Ready", "False", "RevertWaitsForKey"))
    await environment.objects.merge("EncryptedResource", "docs", {"spec": {"deletionPolicy": "Orphan"}}, environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    assert await environment.writes(since) == []
    assert await key_source(environment) == "Microsoft.Keyvault"


FOUR = ("FederatedIdentity", "CustomerTenant", "CustomerManagedKey", "EncryptedResource")


async def _reverting(environment: Environment) -> dict[str, tuple[str, str]]:
    """Everything Ready, with a resource that reverts at deletion; name and namespace of the four objects."""
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    names = {
        "FederatedIdentity": (environment.name, ""),
        "CustomerTenant": (environment.name, ""),
        "CustomerManagedKey": ("cmk", environment.namespace),
        "EncryptedResource": ("docs", environment.namespace),
    }

    async def all_held() -> bool:
        found = [await environment.objects.get(kind, *names[kind]) for kind in FOUR]
        return all(one["metadata"].get("finalizers") for one in found)

    await environment.eventually("the finalizer on all that the revert needs", all_held)
    return names


@pytest.mark.parametrize("order", list(itertools.permutations(FOUR)), ids="-".join)
async def test_deletion_in_any_order_ends_after_the_revert(environment: Environment, order: tuple[str, ...]) -> None:
    names = await _reverting(environment)
    for kind in order:
        await environment.objects.delete(kind, *names[kind])
    for kind in order:
        await environment.objects.until_gone(kind, *names[kind])
    assert await key_source(environment) == "Microsoft.Storage"


async def test_a_key_whose_deletion_waits_says_for_what_and_the_resource_stays_on_it(environment: Environment) -> None:
    names = await _reverting(environment)
    since = await environment.position()
    for kind in FOUR[:3]:
        await environment.objects.delete(kind, *names[kind])

    async def told() -> bool:
        note = (await noted(environment)).get("cmk", {}).get("DeletionWaits", "")
        return f"EncryptedResource {environment.namespace}/docs must revert" in note

    await environment.eventually("an event that says what the deletion waits for", told)
    assert await environment.writes(since) == []
    await environment.objects.merge("EncryptedResource", "docs", {"spec": {"deletionPolicy": "Orphan"}}, environment.namespace)
    for kind in FOUR[:3]:
        await environment.objects.until_gone(kind, *names[kind])
    assert await environment.writes(since) == []
    assert await key_source(environment) == "Microsoft.Keyvault"


async def test_deletion_of_everything_waits_for_a_lost_key_and_ends_when_it_is_back(environment: Environment) -> None:
    names = await _reverting(environment)
    await environment.customer.disable(environment.vault, "cmk")
    await environment.key_until("Disabled", has("KeyAccessible", "False", "Disabled"))
    for kind in FOUR:
        await environment.objects.delete(kind, *names[kind])
    await environment.resource_until("waiting", has("Ready", "False", "RevertWaitsForKey"))
    await environment.customer.enable(environment.vault, "cmk")
    for kind in FOUR:
        await environment.objects.until_gone(kind, *names[kind])
    assert await key_source(environment) == "Microsoft.Storage"


async def test_what_no_reverting_resource_needs_has_no_finalizer(environment: Environment) -> None:
    names = await _reverting(environment)
    await environment.apply_resource(deletionPolicy="Orphan")

    async def none_held() -> bool:
        found = [await environment.objects.get(kind, *names[kind]) for kind in FOUR]
        return not any(one["metadata"].get("finalizers") for one in found)

    await environment.eventually("no finalizer", none_held)


async def test_a_revert_waits_when_its_key_object_is_deleted_first_and_says_how_to_let_go(
    environment: Environment, operator: Operator
) -> None:
    async def held() -> bool:
        key = await environment.objects.get("CustomerManagedKey", "cmk", environment.namespace)
        return bool(key["metadata"].get("finalizers"))

    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    await environment.eventually("the key's own finalizer", held)
    since = await environment.position()
    await environment.objects.delete("CustomerManagedKey", "cmk", environment.namespace)
    # The key waits for the revert, until somebody takes its finalizer away.
    await environment.objects.merge("CustomerManagedKey", "cmk", {"metadata": {"finalizers": None}}, environment.namespace)
    await environment.resource_until("the key is missed", has("Ready", "False", "KeyNotFound"))
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    escape = "to delete it without a revert, the platform engineer must set spec.deletionPolicy to Orphan"
    status = await environment.resource_until("waiting, with a way out", lambda seen: escape in str(seen["conditions"]))
    assert has("Stalled", "True", "KeyNotFound")(status)
    await operator.after_passes(2)
    assert await environment.writes(since) == []
    await environment.apply_key()
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    assert await key_source(environment) == "Microsoft.Storage"


async def test_a_revert_lets_go_when_the_account_is_gone(environment: Environment) -> None:
    await environment.ready()
    await environment.apply_resource(deletionPolicy=REVERT)
    await until_finalizers(environment, 1)
    await environment.provider.delete_storage_account(environment.accounts["docs"])
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)


async def test_orphan_deletes_nothing_in_azure(environment: Environment, operator: Operator) -> None:
    await environment.ready()
    since = await environment.position()
    before = await environment.encryption()
    await environment.objects.delete("EncryptedResource", "docs", environment.namespace)
    await environment.objects.until_gone("EncryptedResource", "docs", environment.namespace)
    await environment.key_until("used by nothing", lambda seen: not seen.get("usedBy"))
    await operator.after_passes(2, "customermanagedkeys")
    assert await environment.writes(since) == []
    assert await environment.encryption() == before


@pytest.mark.parametrize("kind", ["CustomerManagedKey", "CustomerTenant", "FederatedIdentity"])
async def test_deleting_what_a_resource_depends_on_changes_nothing_in_azure_and_heals_when_it_is_back(
    environment: Environment, operator: Operator, kind: str
) -> None:
    reason = {
        "CustomerManagedKey": "KeyNotFound",
        "CustomerTenant": "TenantNotFound",
        "FederatedIdentity": "IdentityNotFound",
    }[kind]
    await environment.ready()
    before = await environment.encryption()
    since = await environment.position()
    name = "cmk" if kind == "CustomerManagedKey" else environment.name
    await environment.objects.delete(kind, name, environment.namespace)
    status = await environment.resource_until("missing", has("Reconciling", "True", reason))
    assert status["applied"]["keyUri"].startswith(environment.key_uri()), "what is known of Azure stays known"
    await operator.after_passes(2)
    await environment.resource_until("missing for long", has("Stalled", "True", reason))
    assert await environment.writes(since) == []
    assert await environment.encryption() == before
    await environment.apply_all()
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.writes(since) == []


async def test_removing_the_custom_resource_definition_changes_nothing_in_azure(
    environment: Environment, operator: Operator
) -> None:
    await environment.ready()
    before = await environment.encryption()
    since = await environment.position()
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/encryptedresources.cmk-operator.dev"
    definition = await environment.objects.call("GET", path)
    await environment.objects.call("DELETE", path)

    async def gone() -> bool:
        groups = await environment.objects.call("GET", "/apis/cmk-operator.dev/v1alpha1")
        return all(one["name"] != "encryptedresources" for one in groups["resources"])

    await environment.eventually("the definition is gone", gone)
    try:
        await environment.key_until("used by nothing", lambda seen: not seen.get("usedBy"))
        await operator.after_passes(2, "customermanagedkeys")
        assert await environment.writes(since) == []
        assert await environment.encryption() == before
    finally:
        kept = ("name", "labels", "annotations")
        metadata = {name: definition["metadata"][name] for name in kept if name in definition["metadata"]}
        body = {name: definition[name] for name in ("apiVersion", "kind", "spec")} | {"metadata": metadata}
        collection = path.rsplit("/", 1)[0]
        await environment.objects.call("POST", collection, body)

    async def served() -> bool:
        groups = await environment.objects.call("GET", "/apis/cmk-operator.dev/v1alpha1")
        return any(one["name"] == "encryptedresources" for one in groups["resources"])

    await environment.eventually("the definition is back", served)
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.writes(since) == []


@pytest.mark.skipif(
    CONTROLLER_MANAGER is None, reason="kube-controller-manager was not built on this machine: `make controller-manager` does"
)
@pytest.mark.parametrize("lost", [False, True], ids=["key accessible", "key lost meanwhile"])
async def test_the_deletion_of_a_namespace_ends_after_the_revert(
    environment: Environment, empty_cluster: Cluster, tmp_path: Path, *, lost: bool
) -> None:
    await _reverting(environment)
    assert CONTROLLER_MANAGER is not None
    controllers = start_controllers(empty_cluster, CONTROLLER_MANAGER, tmp_path)
    try:
        if lost:
            await environment.customer.disable(environment.vault, "cmk")
            await environment.key_until("Disabled", has("KeyAccessible", "False", "Disabled"))
        await environment.objects.call("DELETE", f"/api/v1/namespaces/{environment.namespace}")
        if lost:
            await environment.resource_until("waiting", has("Ready", "False", "RevertWaitsForKey"))
            await environment.customer.enable(environment.vault, "cmk")

        async def gone() -> bool:
            namespaces = (await environment.objects.call("GET", "/api/v1/namespaces"))["items"]
            return environment.namespace not in {one["metadata"]["name"] for one in namespaces}

        await environment.eventually("the namespace is gone", gone)
    finally:
        controllers.stop()
    assert await key_source(environment) == "Microsoft.Storage"
