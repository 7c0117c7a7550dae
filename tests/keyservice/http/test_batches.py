"""A batch gives for each item what the item gives alone: what it does once for many items changes no result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.keyservice.http.world import TEAM, decoded, encoded

if TYPE_CHECKING:
    from tests.keyservice.http.world import Caller, ServedProcess

pytestmark = pytest.mark.cluster
OPENED = {"encrypt": "decrypt", "reencrypt": "decrypt", "wrap": "unwrap", "rewrap": "unwrap"}
"""Operations that make another ciphertext each time, and what opens it."""
FIELDS = {"decrypt": "ciphertext", "unwrap": "wrappedKey"}

SERVICES = st.sampled_from([None, None, None, f"{TEAM}/orders", f"{TEAM}/sharer", f"{TEAM}/reader"])
CONTEXTS = st.dictionaries(st.sampled_from(["row", "Zeile", "é"]), st.sampled_from(["", "1", "ü" * 200]), max_size=2)
PURPOSES = st.sampled_from(["orders", "cards", "a.b"])


@st.composite
def new_items(draw: st.DrawFn) -> dict[str, Any]:
    """An item for encrypt, and with its key also for wrap."""
    made = {"plaintext": encoded(draw(st.binary(min_size=16, max_size=64))), "purpose": draw(PURPOSES)}
    return _whole(draw, made)


@st.composite
def damages(draw: st.DrawFn) -> dict[str, Any]:
    """What becomes of a ciphertext before it is sent: nothing, mostly."""
    what = draw(st.sampled_from(["nothing"] * 6 + ["cut", "bit", "text", "unknown", "suite", "context", "other use"]))
    return _whole(draw, {"what": what, "at": draw(st.integers(1, 30)), "newContext": draw(st.none() | CONTEXTS)})


def _whole(draw: st.DrawFn, made: dict[str, Any]) -> dict[str, Any]:
    made |= {"context": draw(CONTEXTS), "service": draw(SERVICES), "reference": draw(st.none() | st.text("ab", max_size=2))}
    return {name: value for name, value in made.items() if value is not None}


def _damaged(ciphertext: str, damage: dict[str, Any], other: str) -> str:
    data = decoded(ciphertext)
    changed = {
        "cut": data[: damage["at"]],
        "bit": data[: 21 + damage["at"]] + bytes([data[21 + damage["at"]] ^ 1]) + data[22 + damage["at"] :],
        "text": b"no ciphertext, but long enough for one of them, whatever it is to be",
        "unknown": data[:5] + UUID(int=7).bytes + data[21:],
        "suite": data[:4] + b"\x02" + data[5:],
        "other use": decoded(other),
    }
    return encoded(changed.get(damage["what"], data))


async def _agree(caller: Caller, operation: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send the items at once and one by one; the results of the batch, which are those of the items alone."""
    together = (await caller.done(operation, items=items))["items"]
    assert len(together) == len(items)
    for item, result in zip(items, together, strict=True):
        status, alone = await caller.post(operation, item)
        if status != 200:
            reference = {"reference": item["reference"]} if "reference" in item else {}
            assert result == {"problem": alone, **reference}
        elif operation in OPENED and alone.get("changed", True):
            field = FIELDS[OPENED[operation]]
            assert {**result, field: ""} == {**alone, field: ""}
            opened = [await _opened(caller, operation, item, one[field]) for one in (result, alone)]
            assert opened[0] == opened[1]
            assert operation not in {"encrypt", "wrap"} or opened[0] == item.get("plaintext", item.get("key"))
        else:
            assert result == alone
    return list(together)


async def _opened(caller: Caller, operation: str, item: dict[str, Any], ciphertext: str) -> str:
    body = {"context": item.get("newContext", item["context"])} | {key: item[key] for key in ("service",) if key in item}
    opening = OPENED[operation]
    answer = await caller.done(opening, **{FIELDS[opening]: ciphertext}, **body)
    return str(answer.get("plaintext", answer.get("key")))


several = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("name", ["orders", "sharer"])
@several
@given(new=st.lists(new_items(), min_size=1, max_size=5), changes=st.lists(damages(), min_size=5, max_size=8))
async def test_a_batch_gives_what_its_items_give_alone(
    served: ServedProcess, name: str, new: list[dict[str, Any]], changes: list[dict[str, Any]]
) -> None:
    keys = [{"key": item["plaintext"], **{key: item[key] for key in item if key != "plaintext"}} for item in new]
    values = [
        {"value": key["key"], "field": "email", **{k: key[k] for k in key if k not in {"key", "context"}}} for key in keys
    ]
    async with served.caller(name) as caller:
        other = {
            "ciphertext": (await caller.done("wrap", key=encoded(bytes(16)), purpose="orders"))["wrappedKey"],
            "wrappedKey": (await caller.done("encrypt", plaintext="", purpose="orders"))["ciphertext"],
        }
        await _agree(caller, "index", values)
        for make, field, opening, renewing in (
            ("encrypt", "ciphertext", "decrypt", "reencrypt"),
            ("wrap", "wrappedKey", "unwrap", "rewrap"),
        ):
            items = new if make == "encrypt" else keys
            made = await _agree(caller, make, items)
            sealed = [(item, one[field]) for item, one in zip(items, made, strict=True) if field in one]
            asked = [
                _asked(*sealed[number % len(sealed)], change, field, other[field])
                for number, change in enumerate(changes if sealed else [])
            ]
            if asked:
                await _agree(caller, opening, asked)
                moves = [{"newContext": one["newContext"]} if "newContext" in one else {} for one in changes]
                if renewing == "reencrypt":
                    asked = [item | move for item, move in zip(asked, moves, strict=True)]
                await _agree(caller, renewing, asked)


def _asked(item: dict[str, Any], ciphertext: str, change: dict[str, Any], field: str, other: str) -> dict[str, Any]:
    """An item that has a ciphertext opened: as it was sealed, but for one change."""
    kept = change if change["what"] == "context" else item
    named: dict[str, Any] = {key: kept[key] for key in ("service", "context") if key in kept}
    return {field: _damaged(ciphertext, change, other), **named, "reference": change.get("reference", "")}
