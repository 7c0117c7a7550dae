"""The first tables, and the triggers that keep the record append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "m0001"
down_revision = None
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def upgrade() -> None:
    """Make the tables and the triggers."""
    op.create_table(
        "organization",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        _moment("reported_at", nullable=True),
        _moment("restored_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="organization_pkey"),
    )
    op.create_table(
        "access",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("kid", sa.Text, nullable=False),
        sa.Column("access_digest", sa.Text, nullable=False),
        sa.Column("access", postgresql.JSONB, nullable=False),
        sa.Column("credentials", sa.LargeBinary, nullable=True),
        _moment("recorded_at"),
        sa.PrimaryKeyConstraint("id", name="access_pkey"),
        sa.UniqueConstraint(
            "organization",
            "uid",
            "revision",
            "kid",
            "access_digest",
            name="access_organization_uid_revision_kid_access_digest_key",
        ),
    )
    op.create_index("access_organization_kid_idx", "access", ["organization", "kid"])
    op.create_table(
        "data_key",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("suite", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="Active"),
        sa.Column("kid", sa.Text, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("edek", sa.LargeBinary, nullable=False),
        sa.Column("context_digest", sa.LargeBinary, nullable=False),
        _moment("created_at"),
        sa.Column("row_version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("previous_kid", sa.Text, nullable=True),
        sa.Column("previous_algorithm", sa.Text, nullable=True),
        sa.Column("previous_edek", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("id", name="data_key_pkey"),
        sa.UniqueConstraint(
            "organization", "service", "purpose", "epoch", name="data_key_organization_service_purpose_epoch_key"
        ),
        sa.CheckConstraint("epoch >= 1", name=op.f("data_key_epoch_check")),
        sa.CheckConstraint("octet_length(context_digest) = 32", name=op.f("data_key_context_digest_check")),
        sa.CheckConstraint("octet_length(edek) > 0", name=op.f("data_key_edek_check")),
        sa.CheckConstraint("state IN ('Active', 'Retired')", name=op.f("data_key_state_check")),
    )
    op.create_table(
        "proof",
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("kid", sa.Text, nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        _moment("proven_at", nullable=True),
        sa.Column("verdict", sa.Text, nullable=False),
        _moment("refused_at", nullable=True),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("organization", name="proof_pkey"),
    )
    op.create_table(
        "chain",
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("organization", name="chain_pkey"),
    )
    op.create_table(
        "audit",
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        _moment("written_at"),
        sa.PrimaryKeyConstraint("organization", "sequence", name="audit_pkey"),
    )
    op.create_table(
        "counter",
        sa.Column("organization", sa.Text, nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("data_key", sa.Text, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("organization", "minute", "service", "operation", "data_key", name="counter_pkey"),
    )
    op.execute(
        """
        CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'entries of the audit record are never changed or removed'
                USING ERRCODE = 'insufficient_privilege';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
            FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()
        """
    )


def downgrade() -> None:
    """Nothing: rows of data keys are never dropped by a command."""
    raise NotImplementedError("a database of the key service is restored from a backup, not migrated back")
