"""What exists before the requests of a recorded file are sent; each makes its things and gives the values that name them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from azure.identity.aio import ClientAssertionCredential, ClientSecretCredential

from sandbox.administrators.rest import connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.issuer import Issuer

SCOPES = {
    "management.azure.com": "https://management.azure.com/.default",
    "graph.microsoft.com": "https://graph.microsoft.com/.default",
    ".vault.azure.net": "https://vault.azure.net/.default",
    ".blob.core.windows.net": "https://storage.azure.com/.default",
}


@dataclass
class World:
    """Two tenants with their administrators, and the values of what was made in them."""

    env: Mapping[str, str]
    provider: ProviderAdministrator
    customer: CustomerAdministrator
    identity: ProviderIdentity
    issuer: Issuer
    control: SandboxControl
    name: Callable[[str], str]
    values: dict[str, str] = field(default_factory=dict)

    async def token(self, caller: str, host: str) -> str | None:
        """A token of the caller for a host; None where none is to be sent."""
        scope = next((one for suffix, one in SCOPES.items() if host.endswith(suffix)), None)
        if caller == "none" or scope is None:
            return None
        async with self._credential(caller) as credential:
            return (await credential.get_token(scope)).token

    def _credential(self, caller: str) -> ClientSecretCredential | ClientAssertionCredential:
        if caller == "application":
            tenant, client = self.env["CUSTOMER_TENANT_ID"], self.identity.application_client_id
            return ClientAssertionCredential(tenant, client, self.issuer.token, **connection(self.env))
        side = caller.upper()
        names = ("TENANT_ID", "ADMIN_CLIENT_ID", "ADMIN_CLIENT_SECRET")
        tenant, client, secret = (self.env[f"{side}_{one}"] for one in names)
        return ClientSecretCredential(tenant, client, secret, **connection(self.env))


async def customer(world: World) -> dict[str, str]:
    """The customer's subscription and group, and who its administrator is."""
    group = world.name("rg-recorded-")
    await world.customer.create_resource_group(group)
    return {
        "tenant": world.customer.tenant_id,
        "subscription": world.customer.subscription_id,
        "group": group,
        "administrator": await world.customer.principal_id(world.customer.client_id),
        "application": await world.customer.principal_id(world.identity.application_client_id),
        "new": str(uuid.uuid4()),
    }


async def vault(world: World) -> dict[str, str]:
    """A vault with roles, and a key in it that the application may wrap and unwrap with."""
    made = {"vault": world.name("recorded-kv"), "key": "cmk"}
    await world.customer.create_vault(made["vault"], purge_protection=False, retention_days=7)
    kid = await world.customer.create_key(made["vault"], made["key"])
    await world.customer.grant(world.identity.application_client_id, made["vault"])
    await world.control.advance(2)
    return {
        **made,
        "kid": kid,
        "version": kid.rsplit("/", 1)[-1],
        "vault_id": world.customer.vault_id(made["vault"]),
        "subscription": world.customer.subscription_id,
        "tenant": world.customer.tenant_id,
    }


async def policy_vault(world: World) -> dict[str, str]:
    """A vault with access policies, in which the application has none."""
    made = world.name("recorded-kv")
    await world.customer.create_vault(made, rbac=False)
    await world.customer.create_key(made, "cmk")
    return {"policy_vault": made, "policy_vault_id": world.customer.vault_id(made)}


async def provider(world: World) -> dict[str, str]:
    """The provider's subscription and group."""
    return {
        "tenant": world.provider.tenant_id,
        "subscription": world.provider.subscription_id,
        "group": world.provider.resource_group,
        "new": str(uuid.uuid4()),
    }


async def service_key(world: World) -> dict[str, str]:
    """A key that Azure's services may use: its vault has purge protection, the application has the role."""
    made = {"vault": world.name("recorded-kv"), "key": "cmk"}
    await world.customer.create_vault(made["vault"])
    kid = await world.customer.create_key(made["vault"], made["key"])
    await world.customer.grant(world.identity.application_client_id, made["vault"])
    await world.control.advance(2)
    return {
        **made,
        "kid": kid,
        "version": kid.rsplit("/", 1)[-1],
        "identity": world.identity.managed_identity_resource_id,
        "application_id": world.identity.application_client_id,
    }


async def account_name(world: World) -> dict[str, str]:
    """A name that no storage account has yet."""
    return {"account": world.name("recorded")}


async def server(world: World) -> dict[str, str]:
    """A server with a database, and a second one; both have the identity that reaches the key, and a Microsoft-managed key."""
    sql = world.provider.sql
    names = {"server": world.name("recorded-sql"), "second": world.name("recorded-sql")}
    for one, location in zip(names.values(), ("westeurope", "northeurope"), strict=True):
        server_id = await sql.create_server(one, location=location)
        await sql.set_identity(server_id, world.identity)
    await sql.create_database(sql.server_id(names["server"]), "orders")
    return {**names, "second_id": sql.server_id(names["second"]), "server_id": sql.server_id(names["server"])}


async def encryption_set(world: World) -> dict[str, str]:
    """A disk encryption set on the key, with a disk; needs the key."""
    compute = world.provider.compute
    names = {"set": world.name("recorded-des"), "disk": world.name("recorded-disk"), "plain": world.name("recorded-disk")}
    set_id = await compute.create_encryption_set(
        names["set"],
        world.values["kid"],
        identity=world.identity.managed_identity_resource_id,
        application_client_id=world.identity.application_client_id,
        automatic=True,
    )
    await compute.create_disk(names["disk"], encryption_set=set_id)
    await compute.create_disk(names["plain"])
    return {**names, "set_id": set_id}


async def fresh(world: World) -> dict[str, str]:
    """A name that nothing has yet."""
    return {"fresh": world.name("recorded-")}


GIVEN: dict[str, Callable[[World], Awaitable[dict[str, str]]]] = {
    one.__name__.replace("_", " "): one
    for one in (
        customer,
        vault,
        policy_vault,
        provider,
        service_key,
        account_name,
        server,
        encryption_set,
        fresh,
    )
}
