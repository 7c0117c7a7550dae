"""The resources of an episode, and what Azure itself says protects them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import ProviderAdministrator, ProviderIdentity


@dataclass(frozen=True, slots=True)
class Truth:
    """What protects a resource: the identifier of a version of a key, or None for a Microsoft-managed key; and a digest of all the rest."""

    uri: str | None = None
    rest: str = ""
    exists: bool = True

    @property
    def key(self) -> str:
        """The key without its version, in lower case; empty for a Microsoft-managed key."""
        return "/".join(self.uri.lower().split("/")[:5]) if self.uri else ""

    @property
    def version(self) -> str:
        return self.uri.rsplit("/", 1)[-1].lower() if self.uri else ""


class Target(Protocol):
    """One resource under test."""

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> str:
        """The ARM id."""

    @property
    def spec(self) -> dict[str, Any]:
        """What a manifest says of it besides the key."""

    @property
    def at_once(self) -> bool:
        """Whether Azure changes it while the request lasts; else by long-running operations."""

    async def make(self) -> None: ...

    async def truth(self) -> Truth: ...

    async def drift(self, key_uri: str | None) -> None:
        """Somebody else puts it on a key (a versioned identifier), or on one of Microsoft. Raises HttpResponseError."""

    async def remove(self) -> None: ...


def _digest(body: Any) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Account:
    """A storage account."""

    provider: ProviderAdministrator
    identity: ProviderIdentity
    group: str
    name: str
    at_once = True

    @property
    def id(self) -> str:
        return self.provider.storage_account_id(self.name, self.group)

    @property
    def spec(self) -> dict[str, Any]:
        return {"resourceId": self.id}

    async def make(self) -> None:
        await self.provider.create_storage_account(self.name, resource_group=self.group, tags={"owner": "soak"})

    async def truth(self) -> Truth:
        body = await self.provider.storage_account(self.id)
        properties = dict(body["properties"])
        encryption = properties.pop("encryption")
        customers = encryption["keySource"] == "Microsoft.Keyvault"
        uri = encryption["keyvaultproperties"]["currentVersionedKeyIdentifier"] if customers else None
        return Truth(uri, _digest([properties, body.get("tags"), body["sku"]]))

    async def drift(self, key_uri: str | None) -> None:
        encryption: dict[str, Any] = {"keySource": "Microsoft.Storage"}
        body: dict[str, Any] = {}
        if key_uri is not None:
            vault, _, rest = key_uri.partition("/keys/")
            name, _, version = rest.partition("/")
            mine = self.identity.managed_identity_resource_id
            body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {mine: {}}}
            encryption = {
                "keySource": "Microsoft.Keyvault",
                "keyvaultproperties": {"keyvaulturi": vault, "keyname": name, "keyversion": version},
                "identity": {
                    "userAssignedIdentity": mine,
                    "federatedIdentityClientId": self.identity.application_client_id,
                },
            }
        await self.provider.patch(self.id, "2026-09-01", {**body, "properties": {"encryption": encryption}})

    async def remove(self) -> None:
        await self.provider.delete_storage_account(self.id)


@dataclass
class Server:
    """A SQL server with one database."""

    provider: ProviderAdministrator
    identity: ProviderIdentity
    group: str
    name: str
    at_once = False

    @property
    def id(self) -> str:
        return self.provider.sql.server_id(self.name, self.group)

    @property
    def spec(self) -> dict[str, Any]:
        return {"resourceId": self.id}

    async def make(self) -> None:
        await self.provider.sql.create_server(self.name, resource_group=self.group)
        await self.provider.sql.create_database(self.id, "orders")

    async def truth(self) -> Truth:
        found = await self.provider.sql.protector(self.id)
        return Truth(found["uri"] if found["serverKeyType"] == "AzureKeyVault" else None)

    async def drift(self, key_uri: str | None) -> None:
        if key_uri is not None:
            await self.provider.sql.set_identity(self.id, self.identity)
        await self.provider.sql.set_protector(self.id, key_uri)

    async def remove(self) -> None:
        await self.provider.sql.delete(self.id)


@dataclass
class EncryptionSet:
    """A disk encryption set, which the operator makes itself."""

    provider: ProviderAdministrator
    identity: ProviderIdentity
    group: str
    name: str
    at_once = False

    @property
    def id(self) -> str:
        return self.provider.compute.id_of("diskEncryptionSets", self.name, self.group)

    @property
    def spec(self) -> dict[str, Any]:
        creation = {"location": "westeurope", "encryptionType": "EncryptionAtRestWithCustomerKey"}
        return {"resourceId": self.id, "diskEncryptionSet": creation}

    async def make(self) -> None:
        """Nothing: the operator makes it."""

    async def truth(self) -> Truth:
        try:
            body = await self.provider.compute.disk(self.id)
        except ResourceNotFoundError:
            return Truth(exists=False)
        return Truth(body["properties"]["activeKey"]["keyUrl"])

    async def drift(self, key_uri: str | None) -> None:
        """A set is never without a customer's key."""
        if key_uri is not None:
            body = {"properties": {"activeKey": {"keyUrl": key_uri}}}
            await self.provider.patch(self.id, "2026-03-02", body)

    async def remove(self) -> None:
        try:
            await self.provider.delete(self.id, "2026-03-02")
        except HttpResponseError:
            return


KINDS: Mapping[str, Callable[..., Target]] = {"storage": Account, "sql": Server, "sets": EncryptionSet}
