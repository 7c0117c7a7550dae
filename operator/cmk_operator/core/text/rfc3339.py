"""Formats times as Kubernetes does. Source: RFC 3339, and Kubernetes' `Time` and `MicroTime`."""

from __future__ import annotations

from datetime import UTC, datetime


def to_rfc3339(at: datetime) -> str:
    """Format a time in UTC, to the second."""
    return _in_utc(at, "seconds")


def to_rfc3339_micro(at: datetime) -> str:
    """Format a time in UTC, to the microsecond."""
    return _in_utc(at, "microseconds")


def _in_utc(at: datetime, precision: str) -> str:
    # strftime writes years before 1000 without zeros, which Kubernetes refuses; a customer's key may have such a date.
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision)}Z"
