"""The description of each kind is read by the command line and the metrics, which must not pay for Azure's SDKs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("aiohttp", "azure", "kopf", "msal")


def test_reading_what_kinds_there_are_imports_no_sdk() -> None:
    program = (
        "import sys, cmk_operator.providers.registry as r; assert r.KINDS; print(*{n.partition('.')[0] for n in sys.modules})"
    )
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not set(HEAVY) & set(imported)
