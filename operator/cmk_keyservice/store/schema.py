"""Makes and changes the tables (alembic), and says whether they fit this release."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from cmk_keyservice.store.database import address, answers

_SCRIPTS: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 0x636D6B6B65797376
"""The advisory lock of migrations: two jobs take turns."""


def migrate(url: str) -> list[str]:
    """Bring the tables to this release in one transaction; the steps that were applied. Raises ProblemError."""
    engine = create_engine(address(url), hide_parameters=True, connect_args={"connect_timeout": 10})
    try:
        with answers(), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            steps, now = _steps(), MigrationContext.configure(connection).get_current_revision()
            if now is not None and now not in steps:
                return []  # a later release has been here, and keeps the tables usable for this one
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            return steps[steps.index(now) + 1 :] if now is not None else steps
    finally:
        engine.dispose()


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return configuration


def _steps() -> list[str]:
    """All steps of this release, the first one first."""
    scripts = ScriptDirectory.from_config(_configuration())
    return [script.revision for script in scripts.walk_revisions()][::-1]
