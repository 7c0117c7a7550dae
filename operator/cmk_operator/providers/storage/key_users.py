"""What uses keys among the storage accounts of a subscription, and their encryption scopes.

One list of accounts, and for each account with an identity the list of its scopes, which no list of the subscription has.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES
from cmk_operator.core.identifiers.key_uri import InvalidKeyUriError, parse_reported_key_uri
from cmk_operator.core.rotation.azure_use import FoundUse
from cmk_operator.providers.user_lists import Details, Found, Requests, UserList, fields, refused, text, user_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.rotation.azure_use import AzureUser

API_VERSION: Final = "2026-09-01"


@dataclass(frozen=True, slots=True)
class StorageAccountUsers:
    """The list of storage accounts: one request for each page."""

    session: AzureSession
    shown: str = "storage accounts"
    action: str = "Microsoft.Storage/storageAccounts/read"

    async def read(
        self,
        chain: IdentityChain,
        subscription_id: str,
        listed: frozenset[str],  # noqa: ARG002 - an account and its scopes are in one subscription
        details: Details,
    ) -> FoundUse:
        """See `UserList.read`."""
        requests, found = Requests(self.session, chain, API_VERSION), Found()
        of = f"the storage accounts of subscription {subscription_id}"
        reaching: list[ArmId] = []
        async for entry in requests.entries(f"/subscriptions/{subscription_id}/providers/Microsoft.Storage/storageAccounts"):
            found.read(entry, of, functools.partial(_users_in_account, entry, reaching))
        each = (details.get(account, of, functools.partial(_scopes_of, requests, account)) for account in reaching)
        return FoundUse.of_all([found.use, *await asyncio.gather(*each)])


async def _scopes_of(requests: Requests, account: ArmId) -> FoundUse:
    """What the encryption scopes of an account use: each may have a key of its own."""
    found, what = Found(), f"the encryption scopes of {account.name}"
    try:
        async for entry in requests.entries(f"{account.text}/encryptionScopes"):
            found.read(entry, what, _users_in_scope)
    except EXPECTED_FAILURES as error:
        return FoundUse(unlisted=(refused(error, what),))
    return found.use


def _users_in_scope(scope: ArmId, properties: Mapping[str, Any]) -> Iterator[AzureUser]:
    source = text(properties.get("source")).lower()
    if source == "microsoft.storage":
        return
    if source != "microsoft.keyvault":
        raise ValueError("source")
    key = fields(properties.get("keyVaultProperties"))
    yield from _used(scope, text(key.get("keyUri")), text(key.get("currentVersionedKeyIdentifier")))


def _users_in_account(
    entry: object, reaching: list[ArmId], account: ArmId, properties: Mapping[str, Any]
) -> tuple[AzureUser, ...]:
    """The use of an account's own key; notes an account with an identity, because no scope of any other reaches a vault."""
    if account.resource_type != "microsoft.storage/storageaccounts":
        raise ValueError("id")
    users = tuple(_users_in(account, properties))
    identity = fields(fields(entry).get("identity") or {})
    own = fields(fields(properties.get("encryption")).get("identity") or {})
    if text(identity.get("type")).lower() not in {"", "none"} or text(own.get("userAssignedIdentity")):
        reaching.append(account)
    return users


def _users_in(account: ArmId, properties: Mapping[str, Any]) -> Iterator[AzureUser]:
    encryption = fields(properties.get("encryption"))
    source = text(encryption.get("keySource")).lower()
    if source == "microsoft.storage":
        return
    if source != "microsoft.keyvault":
        raise ValueError("keySource")
    key = fields(encryption.get("keyvaultproperties"))
    vault, name, version = (text(key.get(one)) for one in ("keyvaulturi", "keyname", "keyversion"))
    uri = f"{vault.rstrip('/')}/keys/{name}" + (f"/{version}" if version else "")
    yield from _used(account, uri, text(key.get("currentVersionedKeyIdentifier")))


def _used(resource: ArmId, key_uri: str, current: str) -> Iterator[AzureUser]:
    """The key that is set, and the version in force, which may differ while the service moves from one to the other."""
    used = user_of(resource, key_uri, _version_of(current))
    if used is not None:
        yield used
    in_force = user_of(resource, current) if current else None
    if in_force is not None and in_force != used:
        yield in_force


def _version_of(key_uri: str) -> str:
    try:
        return parse_reported_key_uri(key_uri).version or ""
    except InvalidKeyUriError:
        return ""


def make_user_lists(session: AzureSession) -> tuple[UserList, ...]:
    """The list of storage accounts."""
    return (StorageAccountUsers(session),)
