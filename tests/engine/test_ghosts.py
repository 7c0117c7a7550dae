"""Objects that are gone are forgotten, and nothing is written to Azure for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes.objects import has
from tests.definitions import delete_definitions
from tests.engine.operators import until

if TYPE_CHECKING:
    from tests.engine.world import World

RESOURCES = "/apis/cmk-operator.dev/v1alpha1/encryptedresources"
DEFINITION = "encryptedresources.cmk-operator.dev"
PLATFORM_KEY = {"properties": {"encryption": {"keySource": "Microsoft.Storage"}}}
STORAGE = "2026-09-01"


async def _drift(world: World, name: str) -> None:
    """Somebody puts an account back to a Microsoft-managed key."""
    await world.environment.provider.patch(world.environment.accounts[name], STORAGE, PLATFORM_KEY)


@pytest.mark.parametrize("left", [0, 2])
async def test_resources_deleted_in_a_gap_that_ends_with_a_new_list_leave_no_ghosts(world: World, left: int) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    names = await world.accounts(4)
    await world.apply(names)
    await world.until_ready(names)
    await world.environment.key_until("all counted", lambda status: status["usedByCount"] == len(names))
    kept, gone = names[:left], names[left:]

    world.proxy.hold_events(RESOURCES)
    for name in gone:
        await world.environment.objects.delete("EncryptedResource", name, world.environment.namespace)
    assert world.proxy.end_watches(RESOURCES, 410) == 1
    world.proxy.release_events()
    await world.environment.key_until("a usage without ghosts", lambda status: status["usedByCount"] == left)
    azure = await world.environment.position()
    for name in names:
        await _drift(world, name)
    passes = world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources")
    (witness,) = await world.accounts()
    await world.apply([witness])
    await world.until_ready([witness])
    if kept:
        await until(
            "three more passes",
            lambda: world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources") >= passes + 6,
        )

    async def mended() -> bool:
        return all([await world.encrypted(name) for name in kept])

    await until("drift of the manifests that stayed is mended", mended)
    assert await world.patches(azure) == dict.fromkeys([*kept, witness], 1)
    assert [(await world.environment.encryption(name))["keySource"] for name in gone] == ["Microsoft.Storage"] * len(gone)
    assert world.operator.metric("cmk_reconcile_passes_total", result="failed") == 0


async def test_a_definition_that_is_deleted_and_created_again_changes_nothing_in_azure(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    names = await world.accounts(3)
    await world.apply(names)
    await world.until_ready(names)
    await world.environment.key_until("all counted", lambda status: status["usedByCount"] == len(names))
    process, azure = world.operator.process.pid, await world.environment.position()
    definition = world.cluster.kubectl("get", "crd", DEFINITION, "--output", "yaml")

    delete_definitions(world.cluster, DEFINITION)
    await world.environment.key_until("a key that nobody uses", lambda status: status["usedByCount"] == 0)
    world.cluster.kubectl("create", "--filename", "-", stdin=_without_server_fields(definition))
    world.cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/{DEFINITION}")

    await world.apply(names)
    await world.until_ready(names)
    assert await world.patches(azure) == {}
    assert world.operator.alive
    assert world.operator.process.pid == process


async def test_a_definition_that_discovery_shows_late_is_watched_all_the_same(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    definition = world.cluster.kubectl("get", "crd", DEFINITION, "--output", "yaml")
    process = world.operator.process.pid

    delete_definitions(world.cluster, DEFINITION)
    late = world.proxy.inject("answer", "get", r"/apis/cmk-operator\.dev/v1alpha1$", times=None, status=404)
    world.cluster.kubectl("create", "--filename", "-", stdin=_without_server_fields(definition))
    world.cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/{DEFINITION}")
    await until("kopf has looked for the kind in vain", lambda: late.hits > 0)
    await until("the watches are started again", lambda: "served but not watched" in world.operator.log.read_text("utf-8"))
    world.proxy.clear()

    names = await world.accounts(2)
    for name in names:
        await world.apply([name])
        await world.until_ready([name])
    assert world.operator.alive
    assert world.operator.process.pid == process


def _without_server_fields(definition: str) -> str:
    import yaml  # noqa: PLC0415 -- only here

    content = yaml.safe_load(definition)
    content["metadata"] = {
        key: content["metadata"][key] for key in ("name", "labels", "annotations") if key in content["metadata"]
    }
    content.pop("status", None)
    return str(yaml.safe_dump(content))


async def test_a_manifest_deleted_unheard_is_read_again_before_a_write(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    names = await world.accounts(2)
    await world.apply(names)
    await world.until_ready(names)
    azure = await world.environment.position()

    world.proxy.hold_events(RESOURCES)
    await world.environment.objects.delete("EncryptedResource", names[0], world.environment.namespace)
    for name in names:
        await _drift(world, name)

    async def mended() -> bool:
        return await world.encrypted(names[1])

    await until("the drift of the manifest that exists is mended", mended)
    passes = world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources")
    await until(
        "passes over both", lambda: world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources") >= passes + 3
    )
    assert await world.patches(azure) == {names[1]: 1}


async def test_a_tenant_narrowed_unheard_is_read_again_before_a_write(world: World) -> None:
    # Names of its own: what passes of another test have read a moment ago is shared for a second.
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    objects, name = world.environment.objects, world.environment.name
    spec = (await objects.get("CustomerTenant", name))["spec"]
    await objects.apply("CustomerTenant", "narrowed", spec)
    await world.environment.apply_key("narrowed", tenantRef={"name": "narrowed"})
    await world.environment.key_until("Ready", has("Ready"), "narrowed")
    world.proxy.hold_events("/customertenants")
    azure = await world.environment.position()
    (account,) = await world.accounts()
    await objects.apply("CustomerTenant", "narrowed", {**spec, "allowedScopes": [f"{spec['allowedScopes'][0]}-other"]})

    await world.apply([account], keyRef={"name": "narrowed"})
    await world.environment.resource_until("refused", has("Ready", "False", "ScopeNotAllowed"), account)

    assert await world.patches(azure) == {}


async def test_a_key_changed_unheard_is_read_again_before_a_write(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    await world.environment.customer.create_key(world.environment.vault, "next")
    await world.environment.apply_key("changing")
    await world.environment.key_until("Ready", has("Ready"), "changing")
    world.proxy.hold_events("/customermanagedkeys")
    (name,) = await world.accounts()
    await world.environment.apply_key("changing", keyUri=world.environment.key_uri(key="next"))

    await world.apply([name], keyRef={"name": "changing"})
    await world.until_ready([name])

    assert (await world.environment.encryption(name))["keyvaultproperties"]["keyname"] == "next"
    (rotation,) = (await world.resource(name))["status"]["rotations"]
    assert "/keys/next/" in rotation["to"]


async def test_a_policy_softened_unheard_is_read_again_before_a_revert(world: World) -> None:
    await world.operator.with_settings(drift_check_interval=2, key_check_interval=2)
    await world.foundation()
    (name,) = await world.accounts()
    await world.apply([name], deletionPolicy="RevertToPlatformKey")
    await world.until_ready([name])
    azure = await world.environment.position()
    await world.environment.customer.disable(world.environment.vault, "cmk")
    await world.environment.key_until("a disabled key", has("KeyAccessible", "False", "Disabled"))
    await world.environment.objects.delete("EncryptedResource", name, world.environment.namespace)
    await world.environment.resource_until("waiting for the key", has("Ready", "False", "RevertWaitsForKey"), name)
    world.proxy.hold_events(RESOURCES)
    await world.environment.apply_resource(name, deletionPolicy="Orphan")
    await world.environment.customer.enable(world.environment.vault, "cmk")

    await world.environment.objects.until_gone("EncryptedResource", name, world.environment.namespace)
    assert await world.patches(azure) == {}
    assert await world.encrypted(name)


async def test_a_re_read_that_finds_nothing_is_repeated(world: World) -> None:
    await world.operator.with_settings()
    await world.foundation()
    names = dict(zip(("customermanagedkeys", "encryptedresources"), await world.accounts(2), strict=True))
    absent = [
        world.proxy.inject("answer", "get", f"/{plural}/{name}", status=404)
        for plural, name in (("customermanagedkeys", "absent"), ("encryptedresources", names["encryptedresources"]))
    ]
    await world.environment.apply_key("absent")
    await world.environment.key_until("Ready", has("Ready"), "absent")

    await world.apply([names["customermanagedkeys"]], keyRef={"name": "absent"})
    await world.apply([names["encryptedresources"]])

    await world.until_ready(names.values())
    assert [fault.hits for fault in absent] == [1, 1]
