"""The requests that change an account's key, one frozen type for each, and the operations that they start.

Snowflake always uses the key's latest version, so a request holds the version that must be the latest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cmk_operator.core.identifiers.key_uri import InvalidKeyUriError, KeyUri, parse_key_uri
from cmk_operator.providers.snowflake import statements

if TYPE_CHECKING:
    from collections.abc import Mapping


_TOKEN: Final = "snowflake:"  # noqa: S105 - the beginning of an operation's token, not a secret
_DEACTIVATION: Final = f"{_TOKEN}deactivate"


@dataclass(frozen=True, slots=True)
class Register:
    """Register the key, which starts the wait of 72 hours."""

    version: KeyUri
    pinned: bool

    @property
    def statement(self) -> str:
        """The statement to send."""
        return statements.register(self.version.versionless)


@dataclass(frozen=True, slots=True)
class Activate:
    """Put the account on the registered key."""

    version: KeyUri
    pinned: bool
    statement: ClassVar[str] = statements.ACTIVATE


@dataclass(frozen=True, slots=True)
class Rekey:
    """Move the account to the latest version of its current key."""

    version: KeyUri
    pinned: bool
    statement: ClassVar[str] = statements.REKEY


@dataclass(frozen=True, slots=True)
class Deactivate:
    """Put the account back on a Snowflake-managed key."""

    statement: ClassVar[str] = statements.DEACTIVATE


SnowflakeRequest = Register | Activate | Rekey | Deactivate


def shown(request: SnowflakeRequest) -> Mapping[str, Any]:
    """The request as JSON, for status."""
    if isinstance(request, Deactivate):
        return {"statement": request.statement}
    return {"statement": request.statement, "keyVersion": str(request.version), "pinned": request.pinned}


def operation_token(request: Activate | Rekey | Deactivate) -> str:
    """The token that status keeps for the operation of a request; it contains the version that the account will use."""
    return _DEACTIVATION if isinstance(request, Deactivate) else f"{_TOKEN}{request.version}"


def version_begun(token: str) -> KeyUri | None:
    """The key version in an operation's token; None if the operation has none."""
    return read_version(token.removeprefix(_TOKEN))


def read_version(text: str) -> KeyUri | None:
    """Parse a key version from status, which others may write too; None if it is not a URI with a version."""
    try:
        found = parse_key_uri(text)
    except InvalidKeyUriError:
        return None
    return found if found.version else None
