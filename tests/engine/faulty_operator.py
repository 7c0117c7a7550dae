"""The operator with a bug: passes over the objects that a file names raise, or never end. A composition of the tests only."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cmk_operator.__main__ import main
from cmk_operator.reconcile.dispatch import Passes

if TYPE_CHECKING:
    from cmk_operator.core.schedule import Next
    from cmk_operator.kubernetes.client import ObjectReference

FAULTS = "TEST_FAULTY_OBJECTS"
"""Environment variable with the path of a JSON object: `raise` or `hang` by an object's kind and name."""

_reconcile = Passes.reconcile


async def reconcile(passes: Passes, reference: ObjectReference) -> Next:
    """As the product's, but for what the file names."""
    if _fault(reference) == "raise":
        raise KeyError("a bug of ours")
    while _fault(reference) == "hang":  # noqa: ASYNC110 - a file tells nobody that it changed
        await asyncio.sleep(0.1)
    return await _reconcile(passes, reference)


def _fault(reference: ObjectReference) -> str | None:
    file = Path(os.environ[FAULTS])
    faults: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return faults.get(f"{reference.plural}/{reference.name}")


if __name__ == "__main__":
    Passes.reconcile = reconcile  # type: ignore[method-assign,assignment]  # the bug
    main()
