"""The identifier of a Snowflake account, as a target of encryption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RESOURCE_TYPE: Final = "snowflake"


@dataclass(frozen=True, slots=True)
class SnowflakeAccount:
    """An account by its identifier, such as `contoso-prod`. It is case-insensitive, and `_` and `-` are equal in host names.

    Source: Snowflake, "Account identifiers".
    """

    text: str

    @property
    def key(self) -> str:
        """One spelling for all spellings of this account, for use in indexes."""
        return "snowflake:" + self.text.lower().replace("_", "-")

    @property
    def shown_name(self) -> str:
        """The identifier as it was written."""
        return self.text

    @property
    def resource_type(self) -> str:
        """The key of its provider in the registry."""
        return RESOURCE_TYPE

    @property
    def shown_type(self) -> str:
        """The type, for people."""
        return "Snowflake account"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SnowflakeAccount) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.text
