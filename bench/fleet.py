"""A fleet to measure on: one customer, some keys, many storage accounts, and the manifests for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError

from sandbox.azure.timings import WITHOUT_DELAYS, WITHOUT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.kubernetes.objects import Objects

AT_ONCE = 32
VAULT = "bench-kv"
OWN_GRANTS_VAULT = "bench-own-kv"
IDENTITY = "bench"


@dataclass
class Fleet:
    """Namespaces with their keys and accounts; `group` is the resource group and the namespace."""

    cluster: Cluster
    objects: Objects
    provider: ProviderAdministrator
    customer: CustomerAdministrator
    control: SandboxControl
    identity: ProviderIdentity
    keys: dict[str, str] = field(default_factory=dict)
    vaults: dict[str, str] = field(default_factory=dict)
    """The vault of each key that is not in the first."""
    accounts: dict[str, list[str]] = field(default_factory=dict)
    others: list[ProviderAdministrator] = field(default_factory=list)
    """The provider in its further subscriptions."""

    async def prepare(self, number_of_keys: int) -> None:
        """Consent, the vault and all keys, without Azure's delays and limits.

        With the limits, 1,000 accounts in one subscription take at least 99 s whoever writes.
        """
        await self.control.set_timings(**WITHOUT_LIMITS, **WITHOUT_DELAYS)
        await self.customer.consent(self.identity.application_client_id)
        await self.customer.create_vault(VAULT)
        principal = await self.customer.principal_id(self.customer.client_id)
        await self.customer.assign_role(principal, "Key Vault Administrator", self.customer.vault_id(VAULT))
        await self.customer.grant(self.identity.application_client_id, VAULT)
        names = [f"key-{number:03}" for number in range(number_of_keys)]

        async def create(name: str) -> None:
            self.keys[name] = (await self.customer.create_key(VAULT, name)).rsplit("/", 1)[-1]

        await in_batches(names, create)

    async def add_keys_with_own_grants(self, number: int) -> None:
        """A second vault, in which the application has its role on each key, as the hand-over grants it, and none on the vault."""
        await self.customer.create_vault(OWN_GRANTS_VAULT)
        own = await self.customer.principal_id(self.customer.client_id)
        application = await self.customer.principal_id(self.identity.application_client_id)
        vault = self.customer.vault_id(OWN_GRANTS_VAULT)
        await self.customer.assign_role(own, "Key Vault Administrator", vault)

        async def create(name: str) -> None:
            self.keys[name] = (await self.customer.create_key(OWN_GRANTS_VAULT, name)).rsplit("/", 1)[-1]
            self.vaults[name] = OWN_GRANTS_VAULT
            await self.customer.assign_role(application, "Key Vault Crypto Service Encryption User", f"{vault}/keys/{name}")

        await in_batches([f"own-{index:03}" for index in range(number)], create)

    async def add_subscriptions(self, number: int) -> None:
        """Further subscriptions of the provider; the operator has its roles in each."""
        operator = self.identity.managed_identity_principal_id
        self.others = [await self.provider.in_another_subscription(f"bench-{index}", operator) for index in range(number)]

    async def create_accounts(self, group: str, number: int, owners: Sequence[ProviderAdministrator] = ()) -> None:
        """Storage accounts on Microsoft's key, in resource groups of their own; spread evenly over the owners' subscriptions.

        Without owners, they are in the provider's first subscription.
        """
        owners = owners or [self.provider]
        for owner in owners:
            await owner.create_resource_group(group)
        prefix = group.replace("-", "")

        async def create(index: int) -> None:
            owner = owners[index % len(owners)]
            made = await owner.create_storage_account(f"{prefix}{index:05}", resource_group=group)
            self.accounts.setdefault(group, []).append(made)

        await in_batches(list(range(number)), create)

    async def apply_tenant(self, namespaces: Iterable[str]) -> None:
        """The identity, and a tenant that admits the namespaces and their resource groups."""
        identity = self.identity
        await self.objects.apply(
            "FederatedIdentity",
            IDENTITY,
            {
                "tenantId": self.provider.tenant_id,
                "application": {"clientId": identity.application_client_id},
                "managedIdentity": {
                    "resourceId": identity.managed_identity_resource_id,
                    "clientId": identity.managed_identity_client_id,
                },
            },
        )
        names = list(namespaces)
        scopes = [f"{owner.subscription}/resourceGroups/{name}" for owner in (self.provider, *self.others) for name in names]
        spec = {
            "tenantId": self.customer.tenant_id,
            "identityRef": {"name": IDENTITY},
            "allowedNamespaces": names,
            "allowedScopes": scopes,
            "allowedVaults": [f"{vault}.vault.azure.net" for vault in sorted({VAULT, *self.vaults.values()})],
        }
        await self.objects.apply("CustomerTenant", IDENTITY, spec)

    async def apply_keys(self, namespace: str) -> None:
        """A manifest for each key, versionless."""
        await self.objects.create_namespace(namespace)

        async def apply(name: str) -> None:
            uri = f"https://{self.vaults.get(name, VAULT)}.vault.azure.net/keys/{name}"
            await self.objects.apply("CustomerManagedKey", name, {"tenantRef": {"name": IDENTITY}, "keyUri": uri}, namespace)

        await in_batches(list(self.keys), apply)

    async def apply_resources(self, namespace: str) -> None:
        """A manifest for each account, spread evenly over the keys."""
        keys = list(self.keys)

        async def apply(entry: tuple[int, str]) -> None:
            index, resource_id = entry
            spec = {"keyRef": {"name": keys[index % len(keys)]}, "resourceId": resource_id}
            await self.objects.apply("EncryptedResource", resource_id.rsplit("/", 1)[-1], spec, namespace)

        await in_batches(list(enumerate(self.accounts[namespace])), apply)

    async def remove(self, namespace: str) -> None:
        """Delete all manifests of a namespace."""
        for kind in ("EncryptedResource", "CustomerManagedKey"):
            names = [
                item["metadata"]["name"] for item in await self.objects.all(kind) if item["metadata"]["namespace"] == namespace
            ]

            async def delete(name: str, kind: str = kind) -> None:
                await self.objects.delete(kind, name, namespace)

            await in_batches(names, delete)


async def in_batches(items: list[Any], act: Callable[[Any], Awaitable[None]]) -> None:
    """Do something for every item, some at a time, and again where a fresh grant or a busy server was in the way."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> None:  # noqa: ANN401 - whatever the caller lists
        for attempt in range(8):
            try:
                async with slots:
                    await act(item)
            except HttpResponseError as error:
                if error.status_code not in {403, 409, 429} or attempt == 7:
                    raise
                await asyncio.sleep(0.25)
            else:
                return

    await asyncio.gather(*(one(item) for item in items))
