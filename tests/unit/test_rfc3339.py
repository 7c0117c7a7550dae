"""Times as Kubernetes takes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.text.rfc3339 import to_rfc3339, to_rfc3339_micro


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_of_any_year_has_four_digits_for_it(at: datetime) -> None:
    assert datetime.fromisoformat(to_rfc3339_micro(at)) == at
    assert len(to_rfc3339(at)) == len("2026-11-30T00:00:00Z")
    assert at - datetime.fromisoformat(to_rfc3339(at)) < timedelta(seconds=1)
