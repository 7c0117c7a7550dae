"""Transparent data encryption: which key a server or a database may use, its databases' keys, its loss and its recovery.

https://learn.microsoft.com/azure/azure-sql/database/transparent-data-encryption-byok-overview
https://learn.microsoft.com/sql/relational-databases/security/encryption/troubleshoot-tde
"""

from __future__ import annotations

from copy import copy
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from sandbox.azure.errors import ArmRefusedError, VaultRefusedError
from sandbox.azure.key_vault.service_access import Barrier, KeyUnreachableError, rsa_size
from sandbox.azure.sql.model import INACCESSIBLE, ONLINE, DataKey, ServerKey
from sandbox.azure.sql.refusals import refused, unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.azure.clock import Clock
    from sandbox.azure.key_vault.model import KeyVersion
    from sandbox.azure.key_vault.service_access import EnteredVault, ServiceAccess, ServiceIdentity
    from sandbox.azure.sql.model import Database, KeyLocation, Server, Servers
    from sandbox.azure.timings import Timings

RSA_SIZES = frozenset({2048, 3072})


class TransparentDataEncryption:
    """Goes to customers' keys on behalf of servers and databases."""

    def __init__(self, access: ServiceAccess, servers: Servers, clock: Clock, timings: Timings) -> None:
        self._access = access
        self._servers = servers
        self._clock = clock
        self._timings = timings

    async def accepted(
        self, who: ServiceIdentity, location: KeyLocation, server: str, *, as_of: float | None = None
    ) -> ServerKey:
        """The key as this identity may use it, proven by wrapping and unwrapping. Raises ArmRefusedError."""
        try:
            entered = await self._access.enter(who, location.vault_uri)
            found = entered.get(location.name, location.version, as_of=as_of)
            self._fit(entered, found, location)
            entered.wrap(location.name, found.version, b"\0" * 32)
        except KeyUnreachableError as error:
            raise unreachable(error, location, server) from error
        return ServerKey(location, found.version, thumbprint(found), self._clock.now())

    def _fit(self, entered: EnteredVault, found: KeyVersion, location: KeyLocation) -> None:
        if "Purgeable" in entered.vault.recovery_level:
            raise refused(
                400,
                "SecurityInvalidAzureKeyVaultRecoveryLevel",
                f"The provided Key Vault uri '{location.uri}' is not valid. Please ensure the vault has been configured with soft-delete and "
                "purge protection.",
            )
        if rsa_size(found) not in RSA_SIZES:
            raise refused(
                400,
                "AzureKeyVaultRsaKeyNotSupported",
                f"The provided key '{location.uri}' uses unsupported RSA Key Size or Key Type. The supported RSA Key Size is 2048 or 3072 and "
                "Key Type is RSA or RSA-HSM.",
            )
        now = self._clock.now()
        if (found.expires is not None and found.expires <= now) or (found.not_before is not None and found.not_before > now):
            raise refused(
                400,
                "AzureKeyVaultInvalidExpirationDate",
                f"The operation could not be completed because the Azure Key Vault key '{location.uri}' expiration date is invalid.",
            )

    async def unwrapped(self, database: Database) -> bytes:
        """The database's plain key, asked from the vault now if a customer's key protects it. Raises KeyUnreachableError."""
        held = database.data_key
        if held.wrapped is None or held.under is None:
            return held.plain or b""
        location, version = held.under.location, held.under.version
        entered = await self._access.enter(database.who, location.vault_uri)
        plain = entered.unwrap(location.name, version, held.wrapped)
        expires = entered.get(location.name, version).expires
        if expires is not None and expires <= self._clock.now():
            # Key Vault still unwraps; SQL does not go on (troubleshoot-tde, "Expired key").
            raise KeyUnreachableError(Barrier.KEY, VaultRefusedError(403, "Forbidden", "The key has expired."))
        return plain

    async def plain(self, database: Database) -> bytes:
        """As `unwrapped`, for the control plane. Raises ArmRefusedError."""
        try:
            return await self.unwrapped(database)
        except KeyUnreachableError as error:
            under = database.data_key.under
            if under is None:
                raise
            raise unreachable(error, under.location, database.server.name) from error

    async def under(self, who: ServiceIdentity, key: ServerKey | None, plain: bytes, server: str) -> DataKey:
        """A database's key under a customer's key, or under Microsoft's. Raises ArmRefusedError."""
        if key is None:
            return DataKey(plain)
        try:
            entered = await self._access.enter(who, key.location.vault_uri)
            return DataKey(plain, entered.wrap(key.location.name, key.version, plain), key)
        except KeyUnreachableError as error:
            raise unreachable(error, key.location, server) from error

    async def move(self, databases: Iterable[Database], who: ServiceIdentity, key: ServerKey | None, server: str) -> None:
        """Put databases under a key: all or none. Raises ArmRefusedError, also while one of them is inaccessible."""
        moved = [(one, await self.under(who, key, await self.plain(one), server)) for one in databases]
        for database, data_key in moved:
            database.data_key = data_key

    @staticmethod
    def protected_by(server: Server) -> list[Database]:
        """The databases under the server's protector: not those with a key of their own, nor geo-secondaries."""
        return [one for one in server.databases.values() if one.own is None and one.replica_of is None]

    async def move_server(self, server: Server, key: ServerKey | None) -> None:
        """Put a server's databases, but for those with a key of their own, under a key, and their geo-secondaries with them."""
        own = self.protected_by(server)
        await self.move(own, server.who, key, server.name)
        for partner in self._servers.partners_of(server):
            for replica in partner.databases.values():
                if replica.replica_of is not None and replica.replica_of in own:
                    replica.data_key = copy(replica.replica_of.data_key)

    async def check(self, database: Database, moment: float) -> None:
        """The regular look at the key: lost, it closes the database; back within 30 minutes, it opens it again."""
        if database.data_key.wrapped is None or not database.encrypted:
            return
        try:
            plain = await self.unwrapped(database)
        except KeyUnreachableError as error:
            if not error.throttled:
                database.data_key.plain = None
                database.status = INACCESSIBLE
                database.lost = moment if database.lost is None else database.lost
            return
        if database.lost is None or moment - database.lost < self._timings.sql_self_healing_seconds:
            self._opened(database, plain)

    async def revalidate(self, database: Database) -> None:
        """Open a database again however long its key was away. Raises ArmRefusedError while it still is."""
        self._opened(database, await self.plain(database))

    @staticmethod
    def _opened(database: Database, plain: bytes) -> None:
        database.data_key.plain, database.status, database.lost = plain, ONLINE, None

    async def newer(self, who: ServiceIdentity, current: ServerKey, server: str, moment: float) -> ServerKey | None:
        """The version that had come by `moment`, if it is another and fit; None leaves everything as it is."""
        location = current.location.at("")
        try:
            entered = await self._access.enter(who, location.vault_uri)
            latest = entered.get(location.name, as_of=moment)
            if latest.version == current.version:
                return None
            return await self.accepted(who, location.at(latest.version), server)
        except (KeyUnreachableError, ArmRefusedError):
            return None


def thumbprint(version: KeyVersion) -> str:
    """40 hexadecimal digits that stand for the public key."""
    public = version.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256(public).hexdigest()[:40].upper()
