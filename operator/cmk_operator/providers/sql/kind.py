"""The constants of SQL servers and of databases with a key of their own.

Sources: Azure SQL, "Transparent data encryption with customer-managed key", with its requirements for the TDE protector;
Azure role-based access control, "Resource provider operations".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cmk_operator.core.kinds.key_use import KeyUse
from cmk_operator.core.kinds.kind import Kind
from cmk_operator.core.kinds.required_actions import RequiredActions
from cmk_operator.core.kinds.service_timing import ServiceTiming

_SQL: Final = "Microsoft.Sql/servers"
_POLLS: Final = ("Microsoft.Sql/locations/*/read",)
"""As SQL Server Contributor has it: each kind of operation has an action of its own."""
_TIMING: Final = ServiceTiming(
    "Azure SQL",
    timedelta(minutes=10),
    "its databases become Inaccessible",
    "it recovers by itself if the key was lost for less than 30 minutes; else the operator revalidates the key, and failover groups, "
    "restore history and tags may be lost",
    restores="point-in-time restores of its databases to a moment before",
)
SQL_KEY_USE: Final = KeyUse(
    "SQL servers",
    sizes=frozenset({2048, 3072}),
    outside="the system database master, databases with a key of their own, and databases whose transparent data encryption is off",
)
SQL_SERVER: Final = Kind(
    resource_type="microsoft.sql/servers",
    shown="SqlServer",
    timing=_TIMING,
    rights=RequiredActions(
        (
            f"{_SQL}/write",
            f"{_SQL}/keys/write",
            f"{_SQL}/encryptionProtector/write",
            f"{_SQL}/encryptionProtector/revalidate/action",
        ),
        reads=(
            f"{_SQL}/read",
            f"{_SQL}/keys/read",
            f"{_SQL}/encryptionProtector/read",
            f"{_SQL}/inaccessibleDatabases/read",
            f"{_SQL}/replicationLinks/read",
            f"{_SQL}/failoverGroups/read",
        ),
        polls=_POLLS,
        shows=(f"{_SQL}/databases/read", f"{_SQL}/databases/transparentDataEncryption/read"),
    ),
    key_use=SQL_KEY_USE,
    off_another_key="the provider's administrator must set the server's protector to ServiceManaged, or to a key in a Key Vault",
    manifest_field="sqlServer",
    never_covered="the system database master, which transparent data encryption never encrypts",
)
SQL_DATABASE: Final = Kind(
    resource_type="microsoft.sql/servers/databases",
    shown="SqlDatabase",
    timing=_TIMING,
    rights=RequiredActions(
        (
            f"{_SQL}/databases/write",
            f"{_SQL}/databases/encryptionProtector/revalidate/action",
            f"{_SQL}/databases/encryptionProtector/revert/action",
        ),
        reads=(f"{_SQL}/databases/read", f"{_SQL}/encryptionProtector/read"),
        polls=_POLLS,
    ),
    key_use=SQL_KEY_USE,
    off_another_key="the provider's administrator must revert the database to its server's protector, or put it on a key in a Key Vault",
)
KINDS: Final = (SQL_SERVER, SQL_DATABASE)
