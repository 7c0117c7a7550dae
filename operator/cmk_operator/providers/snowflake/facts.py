"""What is known of one Snowflake account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmk_operator.providers.protocol import ResourceFacts

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.providers.snowflake.answers import CmkInfo, Verification


@dataclass(frozen=True, slots=True)
class SnowflakeDetail:
    """What Snowflake says of its keys, and of its own way to the registered one."""

    info: CmkInfo
    verification: Verification | None = None
    """None: not asked, because no key is registered or everything is being encrypted anew."""
    wait: float | None = None
    """Seconds for which Snowflake has just refused to activate the registered key."""
    in_force: KeyUri | None = None
    """The version under which the account was put, as this operator remembers it."""
    not_newer_than: KeyUri | None = None
    """Where that is not known: the newest version that it can be."""
    said: str = ""
    """The words of the verification."""


Facts = ResourceFacts[SnowflakeDetail]
