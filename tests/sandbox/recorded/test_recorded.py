"""The sandbox answers as Azure was recorded to: status, error code, headers, and the fields of the body with their types."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.sandbox.recorded.given import GIVEN, World
from tests.sandbox.recorded.shapes import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Reply, Wire
    from tests.sandbox.issuer import Issuer

FILES = sorted(Path(__file__).parent.glob("*.json"))


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        names = [name for _, name, _, _ in Formatter().parse(value) if name] if "{" in value else []
        return value.format_map(values) if names and all(name in values for name in names) else value
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, dict):
        return {_filled(name, values): _filled(one, values) for name, one in value.items()}
    return value


def _at(value: Any, path: str) -> str:
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return str(value)


def _header(reply: Reply, path: str) -> str | None:
    kind, _, name = path.partition(" ")
    return {one.lower(): value for one, value in reply.headers.items()}[name.lower()] if kind == "header" else None


def _wrong(exchange: dict[str, Any], reply: Reply) -> Iterator[str]:
    if reply.status != exchange["status"]:
        yield f"status {reply.status} instead of {exchange['status']}: {reply.text[:600]}"
        return
    present = {name.lower() for name in reply.headers}
    yield from (f"no header {one}" for one in exchange.get("headers", ()) if one.lower() not in present)
    if "body" not in exchange:
        if reply.text:
            yield f"a body: {reply.text[:300]}"
        return
    try:
        body = json.loads(reply.text)
    except ValueError:
        yield f"no JSON: {reply.text[:300]!r}"
        return
    yield from differences(exchange["body"], body)


@pytest.fixture
def world(
    env: Mapping[str, str],
    identity: ProviderIdentity,
    issuer: Issuer,
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    name: Callable[[str], str],
) -> World:
    return World(env, provider, customer, identity, issuer, control, name)


@pytest.mark.parametrize("file", FILES, ids=[one.stem for one in FILES])
async def test_the_sandbox_answers_as_azure_was_recorded_to(file: Path, world: World, wire: Wire) -> None:
    recorded = json.loads(await asyncio.to_thread(file.read_text))
    assert recorded["source"], "a fact without a source is none"
    for name in recorded["given"]:
        world.values.update(await GIVEN[name](world))
    for number, raw in enumerate(recorded["exchanges"]):
        exchange = _filled(raw, world.values)
        method, url = exchange["asked"].split(" ", 1)
        token = await world.token(exchange.get("caller", recorded["caller"]), urlsplit(url).hostname or "")
        headers = {"Content-Type": exchange["media_type"]} if "media_type" in exchange else None
        text = exchange.get("sent_text")
        reply = await wire(method, url, token=token, body=exchange.get("sent"), text=text, headers=headers)
        wrong = list(_wrong(exchange, reply))
        await world.control.advance(float(exchange.get("advance", 0)))
        assert not wrong, f"{file.name}, exchange {number + 1} ({exchange['asked']}): " + "; ".join(wrong)
        for remembered, path in exchange.get("remember", {}).items():
            world.values[remembered] = _header(reply, path) or _at(reply.json, path)


def test_every_kind_of_difference_is_found() -> None:
    shape = {"id": "text", "size?": "number", "tags": {"*": "text"}, "on": "boolean", "none": "null|text", "all": ["number"]}
    good: dict[str, Any] = {"id": "a", "tags": {"b": "c"}, "on": True, "none": None, "all": [1]}
    assert not list(differences(shape, good))
    changes: tuple[dict[str, Any], ...] = (
        {"id": 5},
        {"size": "5"},
        {"size": True},
        {"tags": {"b": 5}},
        {"tags": []},
        {"on": "yes"},
        {"none": 5},
        {"all": []},
        {"all": ["1"]},
        {"all": {}},
        {"more": 1},
    )
    for change in changes:
        assert len(list(differences(shape, {**good, **change}))) == 1, change
    assert list(differences(shape, {name: value for name, value in good.items() if name != "id"})) == ["body.id is missing"]
    assert list(differences("=KeyNotFound", "NotFound"))
    assert list(differences("~^AKV10000", "AKV10022: no"))
    assert not list(differences("~^AKV10000", "AKV10000: no"))
