"""What the log of an operator that all tests of a process used must not hold; judged when the operator has ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORBIDDEN = {
    "eyJ": "a JSON Web Token",
    "Bearer ": "an authorization header",
    "PRIVATE KEY": "a private key",
    "whsec_": "a signing secret",
    "?code=": "a receiver's credential",
}
_FIELDS = {"level", "time", "message"}


def faults_of_log(log: str, env: Mapping[str, str]) -> list[str]:
    """A line for each token, secret, failed pass, traceback and line that is not JSON with a level and a time."""
    secrets = {value: name for name, value in env.items() if "SECRET" in name}
    faults = []
    for line in log.splitlines():
        faults += [f"{what} is in {line!r}" for text, what in (_FORBIDDEN | secrets).items() if text in line]
        if "pass failed" in line or "Traceback" in line:
            faults.append(f"a bug was met: {line}")
        if not _is_structured(line):
            faults.append(f"not JSON with a level, a time and a message: {line}")
    return faults


def _is_structured(line: str) -> bool:
    try:
        return set(json.loads(line)) >= _FIELDS
    except ValueError:
        return False
