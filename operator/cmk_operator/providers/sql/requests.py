"""The requests that put a server or a database on the wanted key, one frozen type for each.

A plan holds one of them; `bodies.py` and `client.py` turn it into a call of azure-mgmt-sql.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.key_uri import KeyUri


@dataclass(frozen=True, slots=True)
class SetServerIdentity:
    """PATCH a server: all its identities, and the identity and application with which it accesses its key."""

    server: ArmId
    kind: str
    """The `type` of Azure's identity block; SQL writes a pair of types without a space."""
    user_assigned: tuple[ArmId, ...]
    primary: ArmId
    application_client_id: str


@dataclass(frozen=True, slots=True)
class AddServerKey:
    """PUT a vault's key on a server; the key protects nothing yet."""

    server: ArmId
    name: str
    key: KeyUri


@dataclass(frozen=True, slots=True)
class SetProtector:
    """PUT the server's protector: one of the keys that were added to the server."""

    server: ArmId
    key_name: str
    follow_latest: bool


@dataclass(frozen=True, slots=True)
class SetServiceManagedProtector:
    """PUT the server's protector: the Microsoft-managed key."""

    server: ArmId


@dataclass(frozen=True, slots=True)
class RevalidateServer:
    """POST: the server tries its key now, and opens the databases for which it works."""

    server: ArmId


@dataclass(frozen=True, slots=True)
class SetDatabaseKey:
    """PATCH a database: the only identity that it may have, and the key; if `key` is None, the key stays."""

    database: ArmId
    identity: ArmId
    dropped: tuple[ArmId, ...]
    """Identities to remove: a PATCH keeps those that it does not name."""
    application_client_id: str
    key: KeyUri | None
    follow_latest: bool


@dataclass(frozen=True, slots=True)
class RevalidateDatabase:
    """POST: the database tries its own key now."""

    database: ArmId


@dataclass(frozen=True, slots=True)
class RevertDatabase:
    """POST: the server's protector protects the database again."""

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
