"""Formats times as Kubernetes does. Source: RFC 3339, and Kubernetes' `Time` and `MicroTime`."""

from __future__ import annotations

from datetime import UTC, datetime


def to_rfc3339(at: datetime) -> str:
    """Format a time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_micro(at: datetime) -> str:
    """Format a time in UTC, to the microsecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
