"""What is kept of an object, and how large a page, an answer and an event may be."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from cmk_operator.api.model import APPROVED_VERSION, RECONCILE_REQUESTED_AT
from cmk_operator.kubernetes.bounded_answer import (
    FIRST_PAGE,
    LARGEST_ANSWER,
    LARGEST_PAGE,
    LONGEST_VALUE,
    MOST_PER_PAGE,
    AnswerTooLargeError,
    BoundedAnswer,
    PageLimits,
    kept_finalizers,
    kept_value,
    reduced,
)
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, collection_path
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.collaborators.revert_finalizer import FINALIZER
from cmk_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PLURAL = "encryptedresources"
PATH = collection_path(PLURAL)
SPEC = {
    "keyRef": {"name": "k"},
    "resourceId": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
}


def body(number: int = 1, **metadata: Any) -> dict[str, Any]:
    named = {"name": f"a{number}", "namespace": "n", "uid": f"u{number}", "resourceVersion": str(number), "generation": 3}
    return {"kind": "EncryptedResource", "metadata": named | metadata, "spec": SPEC, "status": {"observedGeneration": 3}}


def large(number: int = 1) -> dict[str, Any]:
    fields = [
        {"manager": "flux", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:keyRef": {}}, "f:metadata": {}}},
        {"manager": "cmk-operator", "subresource": "status", "fieldsV1": {"f:status": {}}},
    ]
    annotations = {"a": "b" * 250_000, RECONCILE_REQUESTED_AT: "now", APPROVED_VERSION: "f" * 1000}
    return body(number, annotations=annotations, labels={"c": "d" * 50}, finalizers=["x/y"], managedFields=fields)


def test_the_inventory_learns_the_same_from_a_reduced_object() -> None:
    whole, less = Inventory(), Inventory()
    text = reduced(json.dumps(large()).encode())
    assert len(text) < 1500
    reference, _ = whole.put(PLURAL, large())
    less.put(PLURAL, json.loads(text))
    assert less.body(reference) == whole.body(reference)
    found = less.body(reference)
    assert found is not None
    assert found["metadata"]["changedBy"] == "flux"
    assert found["metadata"]["annotations"] == {RECONCILE_REQUESTED_AT: "now", APPROVED_VERSION: kept_value("f" * 1000)}


@pytest.mark.parametrize("shape", ["list", "event"])
def test_lists_and_events_are_reduced_too(shape: str) -> None:
    whole = {"metadata": {"continue": "c"}, "items": [large()]} if shape == "list" else {"type": "ADDED", "object": large()}
    text = reduced(json.dumps(whole).encode())
    assert len(text) < 1500
    found = json.loads(text)
    assert (found["metadata"]["continue"] if shape == "list" else found["type"]) in {"c", "ADDED"}


def test_an_empty_list_has_a_list_of_items() -> None:
    assert json.loads(reduced(b'{"kind":"PartialObjectMetadataList","metadata":{},"items":null}'))["items"] == []


def test_a_definition_keeps_what_kopf_reads() -> None:
    definition = {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "a.b"},
        "spec": {"group": "b", "versions": ["x" * 9999]},
    }
    found = json.loads(reduced(json.dumps({"type": "ADDED", "object": definition}).encode()))
    assert found["object"]["spec"] == {"group": "b"}


@pytest.mark.parametrize("text", [b"no JSON", b"[]", b'{"kind":"Status","metadata":{},"message":"m"}'])
def test_what_is_no_object_stays_as_it_is(text: bytes) -> None:
    assert reduced(text).replace(b" ", b"") == text.replace(b" ", b"")


def test_a_long_value_is_kept_by_its_digest() -> None:
    short, long = "a" * LONGEST_VALUE, "a" * (LONGEST_VALUE + 1)
    assert kept_value(short) == short
    assert kept_value(long).startswith("sha256:")
    assert kept_value(long) != kept_value(f"{long}a")
    assert kept_value(kept_value(long)) == kept_value(long)


def test_of_very_many_finalizers_a_change_is_still_noticed() -> None:
    many = [f"example.com/{number}" for number in range(10_000)]
    kept = kept_finalizers([*many, FINALIZER])
    assert len(kept) < 20
    assert FINALIZER in kept
    assert kept_finalizers(many) != kept
    assert kept_finalizers([*many[:-1], FINALIZER]) != kept
    assert kept_finalizers(kept_finalizers(["a", FINALIZER])) == ["a", FINALIZER]


def test_a_page_that_was_too_large_is_requested_in_smaller_ones() -> None:
    limits = PageLimits()
    assert limits.of("a") == FIRST_PAGE
    limits.grow("a")
    assert limits.of("a") == 2 * FIRST_PAGE
    while limits.shrink("a"):
        pass
    assert limits.of("a") == 1
    for _ in range(3 * MOST_PER_PAGE):
        limits.grow("a")
    assert limits.of("a") == MOST_PER_PAGE
    assert limits.of("b") == FIRST_PAGE


@pytest.fixture
async def serving() -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    runners: list[web.AppRunner] = []

    async def serve(answer: Any) -> str:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def test_large_objects_are_listed_completely_in_pages_of_bounded_size(
    serving: Callable[[Any], Awaitable[str]],
) -> None:
    asked: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        first, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        asked.append(limit)
        last = min(40, first + limit)
        metadata = {"resourceVersion": "7", "continue": str(last) if last < 40 else ""}
        return web.json_response({"metadata": metadata, "items": [large(number) for number in range(first, last)]})

    async with Connection(await serving(answer)).open() as session:
        pages = [page async for page in KubernetesClient(session, Telemetry()).pages(PLURAL)]
    assert [item["metadata"]["name"] for page in pages for item in page.items] == [f"a{number}" for number in range(40)]
    assert max(len(page.items) for page in pages) * 250_000 < LARGEST_PAGE
    assert sum(len(json.dumps(page.items)) for page in pages) < 40 * 1500
    assert len(asked) < 30


@pytest.mark.parametrize("text", ["", "<html>", "[]", '"a"'])
@pytest.mark.parametrize("status", [200, 502])
async def test_an_answer_that_is_no_object_in_json_is_a_failure(
    text: str, status: int, serving: Callable[[Any], Awaitable[str]]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status, content_type="text/html")

    async with Connection(await serving(answer)).open() as session:
        with pytest.raises(KubernetesError, match=f"{status} NotJson"):
            await KubernetesClient(session, Telemetry()).request("GET", f"{PATH}/a")


async def test_kopf_too_gets_a_page_reduced(serving: Callable[[Any], Awaitable[str]]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": [large()]})

    async with aiohttp.ClientSession(response_class=BoundedAnswer) as session:
        found = await (await session.get(f"{await serving(answer)}{PATH}", params={"limit": "1"})).json()
    assert found == json.loads(reduced(json.dumps({"metadata": {}, "items": [large()]}).encode()))


async def test_an_answer_beyond_all_bounds_is_refused(serving: Callable[[Any], Awaitable[str]]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b'{"a":"' + b"b" * LARGEST_ANSWER + b'"}', content_type="application/json")

    async with aiohttp.ClientSession(response_class=BoundedAnswer) as session:
        with pytest.raises(AnswerTooLargeError):
            await (await session.get(f"{await serving(answer)}{PATH}/a")).read()


async def test_events_arrive_in_order_and_reduced_whatever_pieces_they_come_in(
    serving: Callable[[Any], Awaitable[str]],
) -> None:
    events = [{"type": "MODIFIED", "object": large(number) if number % 3 == 0 else body(number)} for number in range(1, 13)]
    huge = {"type": "MODIFIED", "object": body(99, labels={"a": "b" * (LARGEST_ANSWER + (1 << 20))})}
    lines = "".join(f"{json.dumps(event)}\n" for event in [*events[:6], huge, *events[6:]]).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(lines), 70_001):
            await response.write(lines[start : start + 70_001])
            await asyncio.sleep(0)
        return response

    received = b""
    async with aiohttp.ClientSession(response_class=BoundedAnswer) as session:
        response = await session.get(f"{await serving(answer)}{PATH}", params={"watch": "true"})
        async for piece in response.content.iter_chunked(1 << 20):
            assert piece.endswith(b"\n")
            received += piece
    seen = [json.loads(line) for line in received.splitlines()]
    assert [event["object"]["metadata"]["name"] for event in seen] == [f"a{number}" for number in range(1, 13)]
    assert len(received) < 12 * 2000
