"""A Snowflake account that a manifest names, with its credential."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cmk_operator.core.faults.fault import Fault
from cmk_operator.providers.protocol import Remembered
from cmk_operator.providers.snowflake.account import SnowflakeAccount

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Manifest

ROLE = "ACCOUNTADMIN"
"""The role that Snowflake's functions for customer-managed keys need."""
PRIVATE_KEY_ENTRY = "privateKey"


@dataclass(frozen=True, slots=True)
class SnowflakeTarget:
    """A Snowflake account that a manifest names, with user, role and private key."""

    id: SnowflakeAccount
    user: str
    role: str
    private_key: bytes = field(repr=False)
    """PEM."""
    private_key_passphrase: bytes | None = field(repr=False)
    customer_tenant_id: str
    network_rules: bool
    remembered: Remembered = field(default_factory=Remembered)
    newest: str | None = None
    """The key's active version as a URI; None if no version has passed the probe yet."""

    def within(self, in_scope: Callable[[ArmId], bool]) -> SnowflakeTarget:  # noqa: ARG002 - no other Azure resource is changed
        """See `AnyTarget.within`."""
        return self

    def knowing(self, version: str) -> SnowflakeTarget:
        """See `AnyTarget.knowing`."""
        return replace(self, remembered=replace(self.remembered, version=version))


async def read_target(manifest: Manifest) -> SnowflakeTarget | Fault:
    """The account with its credential from the Secret; a fault if the Secret cannot be read."""
    part = manifest.part
    secret = part["privateKeySecretRef"]
    private_key = await manifest.read_secret(secret["name"], secret.get("key") or PRIVATE_KEY_ENTRY)
    if isinstance(private_key, Fault):
        return private_key
    passphrase: bytes | None = None
    if secret.get("passphraseKey") is not None:
        read = await manifest.read_secret(secret["name"], secret["passphraseKey"])
        if isinstance(read, Fault):
            return read
        passphrase = read
    return SnowflakeTarget(
        SnowflakeAccount(part["account"]),
        part["user"],
        part.get("role") or ROLE,
        private_key,
        passphrase,
        manifest.customer_tenant_id,
        bool(part.get("networkRules")),
        manifest.remembered,
        manifest.newest,
    )
