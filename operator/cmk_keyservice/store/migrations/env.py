"""How alembic runs the steps: over the connection that `Store.migrate` gives, in one transaction."""

from __future__ import annotations

from alembic import context

from cmk_keyservice.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, compare_server_default=True)
with context.begin_transaction():
    context.run_migrations()
