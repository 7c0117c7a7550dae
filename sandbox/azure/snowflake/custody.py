"""How Snowflake accesses a customer's key: as its own multitenant application, from its own subnets, with the same checks as all.

Snowflake is none of Azure's trusted services, so a vault's firewall stops it unless every one of its subnets is in the vault's rules.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sandbox.azure.endpoints import here
from sandbox.azure.errors import EntraRefusedError, VaultRefusedError
from sandbox.azure.key_vault import crypto
from sandbox.azure.key_vault.service_access import Barrier, EnteredVault, KeyUnreachableError, rsa_size
from sandbox.azure.snowflake.errors import failed
from sandbox.azure.snowflake.model import Account, KeyLocation, MasterKey, Table

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Application
    from sandbox.azure.key_vault.service_access import Doors
    from sandbox.azure.timings import Timings

_NETWORK = "/subscriptions/{}/resourceGroups/deployment-infra-rg/providers/Microsoft.Network/virtualNetworks/deployment-vnet/subnets/{}"
SUBNETS = tuple(
    _NETWORK.format(subscription, name)
    for subscription, name in (
        ("5e2a3a2f-4a0b-4a3e-9a6c-1f7d3a1c9b01", "gs"),
        ("5e2a3a2f-4a0b-4a3e-9a6c-1f7d3a1c9b01", "xp"),
    )
)


class Custody:
    """Wraps and unwraps account master keys under customers' keys, and the data of accounts under their master keys."""

    def __init__(self, doors: Doors, application: Application, clock: Clock, timings: Timings) -> None:
        self._doors = doors
        self.application = application
        self._clock = clock
        self._timings = timings

    def _enter(self, key: KeyLocation, wanted: str = "") -> EnteredVault:
        vault = self._doors.vaults.serving(key.vault_host.split(".")[0], self._doors.keys.recovered_before())
        if vault is None:
            raise KeyUnreachableError(Barrier.VAULT)
        endpoint, tenant = self._doors.token_endpoint, self._doors.directory.tenants[vault.tenant_id]
        try:
            principal = endpoint.principal(tenant, self.application.app_id)
            token = self._doors.tokens.issue(
                principal, endpoint.audience(tenant, f"{here().vault_audience}/.default", principal), by_secret=True
            )
            caller = replace(self._doors.access.caller(vault, token), subnets=frozenset(one.lower() for one in SUBNETS))
            version = self._doors.keys.get(vault, caller, key.name, wanted)[1]
            if self._timings.snowflake_signs_and_verifies:
                digest = hashlib.sha256(key.uri.encode()).digest()
                for operation in ("sign", "verify"):
                    self._doors.keys.use(vault, caller, operation, key.name, version.version)
                crypto.sign(version.private, "RS256", digest)
        except EntraRefusedError as error:
            raise KeyUnreachableError(Barrier.SIGN_IN, error) from error
        except VaultRefusedError as error:
            raise KeyUnreachableError(Barrier.KEY, error) from error
        return EnteredVault(vault, caller, self._doors.keys)

    def composed(self, key: KeyLocation) -> MasterKey:
        """A new master key under the latest version of the customer's key. Raises KeyUnreachableError."""
        vault = self._enter(key)
        version = vault.get(key.name)
        if rsa_size(version) is None:
            raise KeyUnreachableError(Barrier.KEY, crypto.bad_parameter("The key is no RSA key."))
        plain = crypto.new_data_key()
        wrapped = vault.wrap(key.name, version.version, plain)
        return MasterKey(plain, key, version.version, wrapped, self._clock.now())

    def _unwrapped(self, master: MasterKey) -> bytes:
        if master.key is None:
            return master.plain or b""
        plain = self._enter(master.key, master.version).unwrap(master.key.name, master.version, master.wrapped)
        master.plain, master.verified = plain, self._clock.now()
        return plain

    def _plain(self, master: MasterKey) -> bytes:
        """From memory while the last look is young enough, else from the vault; after a failure each call asks again."""
        trusted = master.key is None or self._clock.now() - master.verified < self._timings.snowflake_loss_notice_seconds
        if master.plain is not None and trusted:
            return master.plain
        try:
            return self._unwrapped(master)
        except KeyUnreachableError as error:
            if error.throttled and master.plain is not None:
                return master.plain
            master.plain = None
            raise

    def seal(self, account: Account, rows: list[list[str]]) -> Table:
        """Encrypt rows. Raises KeyUnreachableError."""
        nonce = os.urandom(12)
        return Table(nonce, AESGCM(self._plain(account.master)).encrypt(nonce, json.dumps(rows).encode(), None))

    def open(self, account: Account, table: Table) -> list[list[str]]:
        """Decrypt rows; while everything is being re-encrypted, both master keys are needed. Raises SnowflakeRefusedError."""
        try:
            plain = self._plain(account.master)
            if account.change is not None:
                self._plain(account.change.to)
        except KeyUnreachableError as error:
            raise failed(in_words(error, account.master.key)) from error
        rows: list[list[str]] = json.loads(AESGCM(plain).decrypt(table.nonce, table.sealed, None))
        return rows

    def settle(self, account: Account) -> None:
        """What the background service has done by now: a change ends only when both keys can be reached."""
        change = account.change
        if change is None or self._clock.now() < change.ends:
            return
        try:
            old, new = self._unwrapped(account.master), self._unwrapped(change.to)
        except KeyUnreachableError:
            return
        for name, table in account.tables.items():
            rows = AESGCM(old).decrypt(table.nonce, table.sealed, None)
            nonce = os.urandom(12)
            account.tables[name] = Table(nonce, AESGCM(new).encrypt(nonce, rows, None))
        account.master, account.change = change.to, None
        account.emails.append("Tri-Secret Secure: the rekeying of your account is complete.")


def in_words(error: KeyUnreachableError, key: KeyLocation | None) -> str:
    """https://docs.snowflake.com/en/sql-reference/functions/system_verify_cmk_info shows this sentence for Azure."""
    if isinstance(error.cause, EntraRefusedError):
        reason = error.cause.description
    elif isinstance(error.cause, VaultRefusedError):
        reason = error.cause.message.replace("\r\n", " ").strip()
    else:
        reason = "Your request cannot be completed because of the failure of an external dependency. Please try again later."
    shown = key.uri if key else ""
    return f"Error received from the customer managed key (CMK) provider caused by user: '{reason}'. CMK KEY URI used: {shown}"
