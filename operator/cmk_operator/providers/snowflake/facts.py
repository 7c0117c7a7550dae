"""The facts of one Snowflake account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmk_operator.providers.protocol import ResourceFacts

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.providers.snowflake.answers import CmkInfo, Verification


@dataclass(frozen=True, slots=True)
class SnowflakeDetail:
    """What Snowflake reports of an account's keys, and of its own access to the registered one."""

    info: CmkInfo
    verification: Verification | None = None
    """None: not read, because no key is registered or a rekey runs."""
    wait: float | None = None
    """Seconds until Snowflake will activate the registered key, from its last refusal."""
    in_force: KeyUri | None = None
    """The version that the account uses, as this operator activated it."""
    not_newer_than: KeyUri | None = None
    """The newest version that the account can use, if `in_force` is unknown."""
    said: str = ""
    """The words of the verification."""


Facts = ResourceFacts[SnowflakeDetail]
