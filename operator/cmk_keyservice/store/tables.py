"""The tables, as SQLAlchemy Core knows them; the migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)
_NOW: Final = func.clock_timestamp()


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else _NOW)


ORGANIZATION: Final = Table(
    "organization",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    _moment("reported_at", nullable=True),
    _moment("restored_at", nullable=True),
)
"""The settings that were observed last (the fence of all writes of data keys), and the newest report to the object's status."""

ACCESS: Final = Table(
    "access",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("organization", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("kid", Text, nullable=False),
    Column("access_digest", Text, nullable=False),
    Column("access", JSONB, nullable=False),
    Column("credentials", LargeBinary, nullable=True),
    _moment("recorded_at"),
    UniqueConstraint("organization", "uid", "revision", "kid", "access_digest"),
    Index(None, "organization", "kid"),
)
"""How each key version was ever reached; credentials are sealed by the internal key ring."""

DATA_KEY: Final = Table(
    "data_key",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("suite", SmallInteger, nullable=False),
    Column("state", Text, nullable=False, server_default="Active"),
    Column("kid", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("edek", LargeBinary, nullable=False),
    Column("context_digest", LargeBinary, nullable=False),
    _moment("created_at"),
    Column("row_version", Integer, nullable=False, server_default="1"),
    Column("previous_kid", Text, nullable=True),
    Column("previous_algorithm", Text, nullable=True),
    Column("previous_edek", LargeBinary, nullable=True),
    UniqueConstraint("organization", "service", "purpose", "epoch"),
    CheckConstraint("epoch >= 1", name="epoch"),
    CheckConstraint("octet_length(context_digest) = 32", name="context_digest"),
    CheckConstraint("octet_length(edek) > 0", name="edek"),
    CheckConstraint("state IN ('Active', 'Retired')", name="state"),
)
"""One wrapped data key in each row; what it encrypted carries its id alone."""

PROOF: Final = Table(
    "proof",
    METADATA,
    Column("organization", Text, primary_key=True),
    Column("uid", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("kid", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    _moment("proven_at", nullable=True),
    Column("verdict", Text, nullable=False),
    _moment("refused_at", nullable=True),
    Column("detail", Text, nullable=False, server_default=""),
)
"""The newest word on whether an organization's key can be used."""

CHAIN: Final = Table(
    "chain",
    METADATA,
    Column("organization", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
)
"""The newest entry of each organization's record, so that a record that was cut is noticed."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("organization", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False),
    Column("hash", Text, nullable=False),
    _moment("written_at"),
)
"""The record: triggers refuse UPDATE, DELETE and TRUNCATE."""

COUNTER: Final = Table(
    "counter",
    METADATA,
    Column("organization", Text, primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("service", Text, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("data_key", Text, primary_key=True),
    Column("items", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
)
"""Data operations of minutes that are not in the record yet."""
