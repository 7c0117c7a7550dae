"""What is asked of Snowflake for a change of key, one frozen type for each, and the operations that it starts.

Snowflake takes the key's latest version, whatever a statement says, so a request holds the version that must be the latest.
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
    """Register the key, which starts the 72 hours of waiting."""

    version: KeyUri
    pinned: bool

    @property
    def statement(self) -> str:
        """The statement that is sent."""
        return statements.register(self.version.versionless)


@dataclass(frozen=True, slots=True)
class Activate:
    """Put the account on the registered key."""

    version: KeyUri
    pinned: bool
    statement: ClassVar[str] = statements.ACTIVATE


@dataclass(frozen=True, slots=True)
class Rekey:
    """Move the account to the latest version of the key that it is on."""

    version: KeyUri
    pinned: bool
    statement: ClassVar[str] = statements.REKEY


@dataclass(frozen=True, slots=True)
class Deactivate:
    """Put the account back on a key of Snowflake."""

    statement: ClassVar[str] = statements.DEACTIVATE


SnowflakeRequest = Register | Activate | Rekey | Deactivate


def shown(request: SnowflakeRequest) -> Mapping[str, Any]:
    """The request as status shows it."""
    if isinstance(request, Deactivate):
        return {"statement": request.statement}
    return {"statement": request.statement, "keyVersion": str(request.version), "pinned": request.pinned}


def operation_token(request: Activate | Rekey | Deactivate) -> str:
    """What status keeps of the operation that the request starts: the version that the account is to be on."""
    return _DEACTIVATION if isinstance(request, Deactivate) else f"{_TOKEN}{request.version}"


def version_begun(token: str) -> KeyUri | None:
    """The version of an operation that moves the account to a key; None for any other."""
    return read_version(token.removeprefix(_TOKEN))


def read_version(text: str) -> KeyUri | None:
    """A key version that was kept in status, where others may write too; None when it is none."""
    try:
        found = parse_key_uri(text)
    except InvalidKeyUriError:
        return None
    return found if found.version else None
