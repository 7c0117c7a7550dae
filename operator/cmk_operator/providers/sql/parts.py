"""The data of a SQL server, or of a database, that the key on it does not protect.

Sources: Azure SQL, "Transparent data encryption with customer-managed keys at the database level"; "Transparent data encryption for
SQL Database" (it can be off, and never encrypts master); "Geo-replication and transparent data encryption key management" (a
replica is under the key of its primary).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.coverage import Part
from cmk_operator.core.encryption.protection import MicrosoftManaged, Unreadable, named
from cmk_operator.core.encryption.reported import Reported, ShapeError, protection_of
from cmk_operator.core.identifiers.arm_id import ArmId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azure.mgmt.sql.models import Database, LogicalDatabaseTransparentDataEncryption

    from cmk_operator.core.encryption.protection import Protection
    from cmk_operator.providers.sql.server import Partner

NOT_ENCRYPTED: Final = "no key: transparent data encryption is off"
ENCRYPTION_READ: Final = "Microsoft.Sql/servers/databases/transparentDataEncryption/read on the server"
ENCRYPTION: Final = "transparent data encryption of databases"
DATABASES: Final = "databases"
DATABASES_READ: Final = "Microsoft.Sql/servers/databases/read on the server"
_MASTER: Final = "master"
_OWN_KEY: Final = (
    "the platform engineer can put it on the same key with an EncryptedResource of its own: the server's key does not reach a database "
    "with a key of its own"
)
_UNREADABLE: Final = "Azure's answer about it cannot be read: the provider's administrator must check the database in Azure"
_REPLICAS: Final = frozenset({"geo", "standby"})
_SWITCH_ON: Final = "the provider's administrator must switch transparent data encryption on for it"
_OF_PRIMARY: Final = "a replica is under the key of its primary: the platform engineer must put {} on the same key"


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """A user database of a server."""

    id: ArmId
    own: Protection = field(default_factory=MicrosoftManaged)
    """Its own key; `MicrosoftManaged` if it has none, so that its server's protector protects it."""
    is_replica: bool = False
    """Whether it is the geo-secondary of a database on another server."""


def read_rows(databases: Iterable[Database]) -> tuple[DatabaseRow, ...]:
    """The user databases of a list; system databases are left out, because Azure never encrypts them with a key.

    Raises `ShapeError` for one without an id.
    """
    rows: list[DatabaseRow] = []
    for database in databases:
        answer = Reported(database)
        found = ArmId(answer.required("id"))
        if found.name.lower() == _MASTER or "system" in answer.text("kind").lower().split(","):
            continue
        own = protection_of(database, _own)
        replica = not isinstance(own, Unreadable) and answer.inner("properties").text("secondaryType").lower() in _REPLICAS
        rows.append(DatabaseRow(found, own, replica))
    return tuple(rows)


def _own(database: Reported) -> Protection:
    properties = database.inner("properties")
    properties.text("secondaryType")
    own = properties.text("encryptionProtector")
    return named(own) if own else MicrosoftManaged()


def read_encrypted(found: LogicalDatabaseTransparentDataEncryption) -> bool:
    """Whether transparent data encryption is on. Raises `ShapeError` for an answer that does not say so."""
    state = Reported(found).inner("properties").required("state").lower()
    if state not in {"enabled", "disabled"}:
        raise ShapeError("properties.state has another value")
    return state == "enabled"


def part_of_database(row: DatabaseRow, primaries: tuple[Partner, ...], *, encrypted: bool | None) -> Part | None:
    """The database as a part of its server; None if the server's own protector protects it. `encrypted` None: not known."""
    name = f"database {row.id.name}"
    if encrypted is False:
        return unencrypted(name)
    if not isinstance(row.own, MicrosoftManaged):
        return Part.under(name, row.own, _UNREADABLE if isinstance(row.own, Unreadable) else _OWN_KEY)
    return _replica(name, primaries) if row.is_replica else None


def unread(name: str) -> Part:
    """A database whose entry in the server's list cannot be read."""
    return Part(name, remedy="Azure's answer about it cannot be read")


def unencrypted(name: str) -> Part:
    """A database without transparent data encryption."""
    return Part(name, protected_by=NOT_ENCRYPTED, remedy=_SWITCH_ON)


def _replica(name: str, primaries: tuple[Partner, ...]) -> Part:
    remedy = _OF_PRIMARY.format(" or ".join(one.id.name for one in primaries) or "its primary")
    protectors = {one.protector.protection if one.protector is not None else None for one in primaries}
    if len(protectors) != 1 or None in protectors:
        return Part(name, remedy=remedy)
    return Part.under(name, next(one for one in protectors if one is not None), remedy)
