"""The key service's database as one object."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from cmk_keyservice.problem import Kind, problem_error
from cmk_keyservice.store.data_keys import DataKeys
from cmk_keyservice.store.organizations import Organizations
from cmk_keyservice.store.proofs import Proofs
from cmk_keyservice.store.records import Records

_STEP: Final = text("SELECT version_num FROM alembic_version")
_NEEDED: Final = "m0001"


class Store(DataKeys, Organizations, Proofs, Records):
    """All queries; open it with `await Store.open(url)`, close it with `await store.close()`."""

    async def check(self) -> None:
        """Raises ProblemError unless the database answers and has this release's tables, or those of a later one."""
        row = await self.row(_STEP)
        if row is None or row.version_num < _NEEDED:
            raise problem_error(
                Kind.UNAVAILABLE,
                "DatabaseNotMigrated",
                f"the database is at step {row.version_num if row else 'none'}, this release needs {_NEEDED}",
                "The provider must run `cmk-keyservice migrate` with this release.",
            )
