"""References to values in Kubernetes Secrets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One entry of one Secret."""

    namespace: str
    name: str
    key: str
