"""Moments in time as Kubernetes writes them. Source: RFC 3339, and Kubernetes' `Time` and `MicroTime`."""

from __future__ import annotations

from datetime import UTC, datetime


def to_rfc3339(at: datetime) -> str:
    """To the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_micro(at: datetime) -> str:
    """To the microsecond, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
