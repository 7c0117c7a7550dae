"""Events stay within what Kubernetes accepts, and one occurrence makes few of them, however many objects it concerns."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.faults.reason import Reason
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.events import ALONE, GATHER_FOR, EventRecorder, cut_note, event_name
from cmk_operator.kubernetes.inventory import Inventory
from tests.unit import samples
from tests.unit.leaping_loop import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.api.encrypted_resource import EncryptedResource

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
names = st.from_regex(SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= 253)


class Server(KubernetesClient):
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    async def create_event(self, _: str, event: Mapping[str, Any]) -> None:
        self.events.append(event)


def resources(count: int, **spec: Any) -> list[EncryptedResource]:
    template = samples.encrypted_resource(**spec)
    return [
        template.model_copy(update={"metadata": template.metadata.model_copy(update={"name": f"r{number}"})})
        for number in range(count)
    ]


def recorded(
    *batches: list[EncryptedResource], note: str = "the key is disabled", pause: float = 0.0
) -> list[Mapping[str, Any]]:
    async def record() -> list[Mapping[str, Any]]:
        server, inventory = Server(), Inventory()
        inventory.put("customermanagedkeys", samples.key_body())
        events = EventRecorder(server, "i" * 300, inventory)
        for batch in batches:
            for resource in batch:
                await events.record(resource, "Warning", Reason.DISABLED, note, "Reconcile")
            await asyncio.sleep(pause)
        await asyncio.sleep(2 * GATHER_FOR)
        return server.events

    return run(record())


def test_few_objects_get_an_event_each() -> None:
    events = recorded(resources(ALONE))
    assert [event["regarding"]["name"] for event in events] == [f"r{number}" for number in range(ALONE)]
    assert all("series" not in event for event in events)
    assert {len(event["reportingInstance"]) for event in events} == {128}


def test_a_loss_that_concerns_many_makes_one_more_event_on_their_key() -> None:
    events = recorded(resources(44))
    assert len(events) == ALONE + 1
    together = events[-1]
    assert (together["regarding"]["kind"], together["regarding"]["name"]) == ("CustomerManagedKey", "storage")
    assert together["regarding"]["uid"]
    assert together["series"]["count"] == 44 - ALONE
    assert together["series"]["lastObservedTime"]
    assert together["reason"] == Reason.DISABLED
    assert together["note"].startswith("39 more of kind EncryptedResource: the key is disabled; r10, r11, ")
    assert together["note"].endswith(" and 19 others")


def test_resources_of_another_key_are_counted_apart() -> None:
    events = recorded(resources(ALONE + 2), resources(ALONE + 3, keyRef={"name": "other"}))
    assert len(events) == 2 * ALONE + 2
    assert sorted(event["series"]["count"] for event in events if "series" in event) == [2, 3]


def test_what_happens_later_is_another_occurrence() -> None:
    events = recorded(resources(2), resources(2), pause=GATHER_FOR + 1)
    assert len(events) == 4
    assert len(recorded(resources(ALONE + 1), resources(ALONE + 1), pause=GATHER_FOR + 1)) == 2 * (ALONE + 1)


@given(st.text())
def test_a_note_has_at_most_so_many_bytes_and_whole_characters(text: str) -> None:
    for note in (text, text * 200):
        cut = cut_note(note)
        assert len(cut.encode()) <= 1024
        assert cut.removesuffix("…") in note.encode(errors="replace").decode()
        assert len(note.encode(errors="replace")) > 1024 or cut == note.encode(errors="replace").decode()


def test_an_event_about_many_objects_with_long_names_has_a_legal_note() -> None:
    long = [
        resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"name": f"{number}" + "n" * 250})})
        for number, resource in enumerate(resources(60))
    ]
    assert all(len(event["note"].encode()) <= 1024 for event in recorded(long, note="é" * 5000))


@given(names)
def test_an_events_name_is_legal_wherever_the_objects_name_is_cut(name: str) -> None:
    made = event_name(name, "0123456789abcdef")
    assert SUBDOMAIN.fullmatch(made)
    assert len(made) <= 253


def test_a_name_is_cut_at_a_legal_character() -> None:
    assert event_name("a" * 198 + "-.b" + "c" * 30, "f") == "a" * 198 + ".f"
