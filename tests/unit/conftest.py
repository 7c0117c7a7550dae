"""How hypothesis explores: the same examples on every run, and no verdict by the clock of a busy machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# `--hypothesis-profile=explore` looks at many other examples; `laws` is what every run must pass.
settings.register_profile(
    "laws", deadline=None, derandomize=True, database=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", deadline=None, database=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")
