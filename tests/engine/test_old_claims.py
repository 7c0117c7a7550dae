"""Whatever keeps the operator from seeing an object, its status soon says that nobody knows; and it heals by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import has
from tests.engine import faulty_operator
from tests.engine.operators import until
from tests.monitoring.live import LASTING, Scrape, Timeline, fired
from tests.monitoring.live_alerts import SEEN_WITH_A_BUG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.engine.world import World

SOON = {"key_check_interval": 3, "drift_check_interval": 3, "identity_check_interval": 3}
UNKNOWN = ("Unknown", "NotSeenLately")


@dataclass
class FaultyWorld:
    """A world whose operator has a bug that a test turns on and off."""

    world: World
    file: Path

    def break_passes(self, **how: str) -> None:
        """`raise` or `hang` for a key or a resource."""
        names = {"key": "customermanagedkeys/cmk"}
        faults = {names.get(what, f"encryptedresources/{what}"): fault for what, fault in how.items()}
        part = self.file.with_suffix(".new")
        part.write_text(json.dumps(faults), encoding="utf-8")
        part.replace(self.file)

    def mend(self) -> None:
        self.file.unlink(missing_ok=True)

    async def said(self, kind: str, name: str) -> dict[str, tuple[str, str]]:
        status = await self.world.environment.objects.get(kind, name, self.world.environment.namespace)
        return {one["type"]: (one["status"], one["reason"]) for one in status["status"]["conditions"]}

    async def events(self, name: str, reason: str) -> list[str]:
        path = f"/apis/events.k8s.io/v1/namespaces/{self.world.environment.namespace}/events"
        items = (await self.world.environment.objects.call("GET", path))["items"]
        return [one["note"] for one in items if one["regarding"]["name"] == name and one["reason"] == reason]


@pytest.fixture
async def faulty(world: World, tmp_path: Path) -> AsyncIterator[FaultyWorld]:
    file = tmp_path / "faults.json"
    world.operator.stop()
    world.operator.module = faulty_operator.__name__
    world.operator.extra = {faulty_operator.FAULTS: str(file)}
    await world.operator.start(**SOON)
    await world.foundation()
    yield FaultyWorld(world, file)
    file.unlink(missing_ok=True)
    world.operator.stop()
    world.operator.module = "cmk_operator"
    world.operator.extra = {}


async def _until_said(faulty: FaultyWorld, kind: str, name: str, condition: str, what: tuple[str, str]) -> dict[str, Any]:
    async def is_said() -> bool:
        return (await faulty.said(kind, name)).get(condition) == what

    await until(f"{kind} {name} {condition} {what}", is_said)
    return await faulty.said(kind, name)


async def test_a_key_whose_passes_all_raise_is_not_called_accessible_any_more(faulty: FaultyWorld, tmp_path: Path) -> None:
    world, key = faulty.world, "cmk"
    scrapes: list[Scrape] = []

    async def scrape() -> None:
        scrapes.append(await world.operator.scrape())

    def failures() -> float:
        return world.operator.metric("cmk_reconcile_passes_total", kind="customermanagedkeys", result="failed")

    (name,) = await world.accounts()
    await world.apply([name])
    await world.until_ready([name])

    # Other tests use the same names; what is told from here on counts.
    earlier = {name: len(await faulty.events(name, "NotSeenLately")) for name in (key, name)}
    await scrape()
    faulty.break_passes(key="raise")
    await until("a failure", failures)
    await scrape()
    position = world.proxy.position
    said = await _until_said(faulty, "CustomerManagedKey", key, "Ready", UNKNOWN)
    assert said["KeyAccessible"] == UNKNOWN
    status = (await world.environment.objects.get("CustomerManagedKey", key, world.environment.namespace))["status"]
    assert status["access"]["state"] == "Unknown"
    assert {one["access"] for one in status["versions"]} == {"Unknown"}
    said = await _until_said(faulty, "EncryptedResource", name, "Ready", UNKNOWN)
    assert said["KeyAccessible"] == UNKNOWN
    assert said["Encrypted"][0] == "True", "the resource itself is seen"

    async def counted() -> bool:
        return world.operator.metric("cmk_objects_not_seen") == 2

    await until("the metric", counted)
    await scrape()
    failed = failures()
    passed = world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources", result="done")
    await until(
        "more failures",
        lambda: (
            failures() > failed
            and world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources", result="done") > passed + 1
        ),
    )
    await scrape()
    assert not SEEN_WITH_A_BUG & fired(Timeline(scrapes[:1], LASTING), tmp_path).keys(), "before the bug"
    assert fired(Timeline(scrapes, held=9), tmp_path).keys() >= SEEN_WITH_A_BUG, "a rate over ten minutes sees each growth"
    assert len(world.status_writes(key, position, "customermanagedkeys")) == 1, "said once"
    writes = world.status_writes(name, position)
    assert len({one.resource_version for one in writes}) == 1, "said once"
    assert {name: len(await faulty.events(name, "NotSeenLately")) - count for name, count in earlier.items()} == {
        key: 1,
        name: 1,
    }

    accessible, seen_again = len(await faulty.events(key, "KeyAccessible")), len(await faulty.events(name, "SeenAgain"))
    position = world.proxy.position
    faulty.mend()
    await world.until_ready([name])
    assert len(world.status_writes(key, position, "customermanagedkeys")) == 1
    assert len(await faulty.events(key, "KeyAccessible")) == accessible + 1

    async def is_told() -> bool:
        return len(await faulty.events(name, "SeenAgain")) == seen_again + 1

    await until("the event", is_told)


async def test_a_resource_whose_pass_never_ends_is_not_called_encrypted_even_after_a_restart(faulty: FaultyWorld) -> None:
    world = faulty.world
    hung, other = await world.accounts(2)
    await world.apply([hung, other])
    await world.until_ready([hung, other])

    faulty.break_passes(**{hung: "hang"})
    said = await _until_said(faulty, "EncryptedResource", hung, "Encrypted", UNKNOWN)
    assert said["Ready"] == said["KeyCurrent"] == UNKNOWN
    before = await world.resource(hung)
    world.operator.kill()
    await world.operator.start(**SOON)

    async def other_seen() -> bool:
        return world.operator.metric("cmk_reconcile_passes_total", kind="encryptedresources", result="done") >= 4

    await until("passes over the other", other_seen)
    assert (await world.resource(hung))["status"] == before["status"], "a restart alone brings nothing back"
    assert has("Ready")((await world.resource(other))["status"])
    faulty.mend()
    await world.until_ready([hung])


async def test_a_restart_in_the_middle_counts_from_its_own_start(faulty: FaultyWorld) -> None:
    world = faulty.world
    (name,) = await world.accounts()
    await world.apply([name])
    await world.until_ready([name])
    world.operator.kill()
    faulty.break_passes(**{name: "raise"})
    await world.operator.start(**SOON)
    await _until_said(faulty, "EncryptedResource", name, "Encrypted", UNKNOWN)
    conditions = (await world.resource(name))["status"]["conditions"]
    (encrypted,) = (one for one in conditions if one["type"] == "Encrypted")
    assert encrypted["message"].startswith("not seen since the operator began to watch it at ")
    assert len(await faulty.events(name, "NotSeenLately")) == 1


@pytest.mark.parametrize("fault", ["hang", "throttled"])
async def test_a_vault_that_does_not_answer_is_not_called_accessible(faulty: FaultyWorld, fault: str) -> None:
    """The passes see the outage themselves, or the budget is closed; either way nothing is claimed, and it heals."""
    world = faulty.world
    host = f"{world.environment.vault}.vault.azure.net"
    how: dict[str, Any] = {"kind": "hang"} if fault == "hang" else {"kind": "status", "status": 429, "retry_after": 25}
    injected = await world.environment.control.inject(host=host, **how)

    async def nothing_is_claimed() -> bool:
        said = await faulty.said("CustomerManagedKey", "cmk")
        return said["KeyAccessible"][0] == said["Ready"][0] == "Unknown"

    await until("no claim", nothing_is_claimed)
    await world.environment.control.clear_faults()
    assert injected
    await world.environment.key_until("Ready", has("Ready"))
