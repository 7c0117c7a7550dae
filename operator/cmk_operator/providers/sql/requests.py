"""The requests that bring a server or a database to the wanted key, one frozen type for each.

A plan holds one of them; `bodies.py` and `client.py` put it into the words of azure-mgmt-sql.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.key_uri import KeyUri


@dataclass(frozen=True, slots=True)
class SetServerIdentity:
    """PATCH a server: the identities that it keeps and gets, and by which of them it reaches its key."""

    server: ArmId
    kind: str
    """Azure's type of the identity block; SQL spells a pair without a space."""
    user_assigned: tuple[ArmId, ...]
    primary: ArmId
    application_client_id: str


@dataclass(frozen=True, slots=True)
class AddServerKey:
    """PUT a key of a vault on a server; it protects nothing yet."""

    server: ArmId
    name: str
    key: KeyUri


@dataclass(frozen=True, slots=True)
class SetProtector:
    """PUT the server's protector: one of the keys that the server knows."""

    server: ArmId
    key_name: str
    follow_latest: bool


@dataclass(frozen=True, slots=True)
class SetServiceManagedProtector:
    """PUT the server's protector: the key of Microsoft."""

    server: ArmId


@dataclass(frozen=True, slots=True)
class RevalidateServer:
    """POST: the server tries its key now, and opens the databases that it can."""

    server: ArmId


@dataclass(frozen=True, slots=True)
class SetDatabaseKey:
    """PATCH a database: the one identity that it may have, and the key; `key` None leaves the key as it is."""

    database: ArmId
    identity: ArmId
    dropped: tuple[ArmId, ...]
    """Identities that the database must lose: a PATCH merges."""
    application_client_id: str
    key: KeyUri | None
    follow_latest: bool


@dataclass(frozen=True, slots=True)
class RevalidateDatabase:
    """POST: the database tries its own key now."""

    database: ArmId


@dataclass(frozen=True, slots=True)
class RevertDatabase:
    """POST: the database goes back under its server's protector."""

    database: ArmId


SqlRequest = (
    SetServerIdentity
    | AddServerKey
    | SetProtector
    | SetServiceManagedProtector
    | RevalidateServer
    | SetDatabaseKey
    | RevalidateDatabase
    | RevertDatabase
)
