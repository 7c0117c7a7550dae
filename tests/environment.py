"""One customer's environment for the end-to-end tests: identities, a vault with a key, and the manifests that use it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError

from sandbox.kubernetes.objects import has

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from sandbox.kubernetes.objects import Objects

PATIENCE = 90.0


@dataclass
class Environment:
    """Everyone around one test, with names that no other test uses."""

    name: str
    objects: Objects
    provider: ProviderAdministrator
    customer: CustomerAdministrator
    control: SandboxControl
    identity: ProviderIdentity
    namespace: str = ""
    accounts: dict[str, str] = field(default_factory=dict)

    @property
    def vault(self) -> str:
        """Name of the customer's vault."""
        return f"{self.name}-kv"

    @property
    def group(self) -> str:
        """The resource group of the customer's environment: the tenant's allowed scope."""
        return f"rg-{self.name}"

    def key_uri(self, version: str | None = None, key: str = "cmk", vault: str | None = None) -> str:
        """Identifier of the key, versionless unless a version is given."""
        return f"https://{vault or self.vault}{self.customer.cloud.vault_suffix}/keys/{key}" + (
            f"/{version}" if version else ""
        )

    async def account(self, suffix: str = "docs", **options: Any) -> str:
        """Create a storage account in the customer's group; its ARM id."""
        await self.provider.create_resource_group(self.group)
        name = f"{self.name.replace('-', '')}{suffix}"[:24]
        self.accounts[suffix] = await self.provider.create_storage_account(name, resource_group=self.group, **options)
        return self.accounts[suffix]

    async def vault_with_key(self, *, rbac: bool = True, grant: bool = True, location: str = "westeurope", **key: Any) -> str:
        """Consent, vault, key and grant; the version of the key. Waits until every grant is in force."""
        await self.customer.consent(self.identity.application_client_id)
        await self.customer.create_vault(self.vault, rbac=rbac, location=location)
        if rbac:
            principal = await self.customer.principal_id(self.customer.client_id)
            await self.customer.assign_role(principal, "Key Vault Administrator", self.customer.vault_id(self.vault))
        version = (await self.allowed(lambda: self.customer.create_key(self.vault, "cmk", **key))).rsplit("/", 1)[-1]
        if grant and rbac:
            await self.customer.grant(self.identity.application_client_id, self.vault)
        elif grant:
            await self.customer.set_access_policy(self.identity.application_client_id, self.vault)
        return version

    @staticmethod
    async def allowed(act: Callable[[], Awaitable[str]]) -> str:
        """Do something as soon as a fresh grant lets us."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await act()
            except HttpResponseError as error:
                if error.status_code not in {401, 403} or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def ready(self, *accounts: str, **key: Any) -> str:
        """Everything up to accounts (one, `docs`, unless named) that are Ready on the key; the version of the key."""
        version = await self.vault_with_key(**key)
        for account in accounts or ("docs",):
            await self.account(account)
        await self.apply_all()
        for account in accounts or ("docs",):
            await self.resource_until("Ready", has("Ready"), account)
        return version

    @staticmethod
    async def eventually(what: str, test: Callable[[], Awaitable[object]]) -> None:
        """Wait until `test` returns something true."""
        deadline = time.monotonic() + PATIENCE
        while not await test():
            assert time.monotonic() < deadline, f"awaited: {what}"
            await asyncio.sleep(0.05)

    async def apply_identity(self, **spec: Any) -> None:
        """The FederatedIdentity, named after the environment."""
        identity = self.identity
        await self.objects.apply(
            "FederatedIdentity",
            self.name,
            {
                "tenantId": self.provider.tenant_id,
                "application": {"clientId": identity.application_client_id},
                "managedIdentity": {
                    "resourceId": identity.managed_identity_resource_id,
                    "clientId": identity.managed_identity_client_id,
                },
                **spec,
            },
        )

    async def apply_tenant(self, **spec: Any) -> None:
        """The CustomerTenant, named after the environment."""
        scope = f"/subscriptions/{self.provider.subscription_id}/resourceGroups/{self.group}"
        await self.objects.apply(
            "CustomerTenant",
            self.name,
            {
                "tenantId": self.customer.tenant_id,
                "identityRef": {"name": self.name},
                "allowedNamespaces": [self.namespace],
                "allowedScopes": [scope],
                "allowedVaults": [f"{self.vault}{self.customer.cloud.vault_suffix}"],
                **spec,
            },
        )

    async def apply_key(self, name: str = "cmk", **spec: Any) -> None:
        """A CustomerManagedKey on this environment's tenant, versionless unless `keyUri` says otherwise."""
        body = {"tenantRef": {"name": self.name}, "keyUri": self.key_uri(), **spec}
        await self.objects.apply("CustomerManagedKey", name, body, self.namespace)

    async def apply_resource(self, name: str = "docs", **spec: Any) -> None:
        """An EncryptedResource for the account of the same name."""
        body = {"keyRef": {"name": "cmk"}, "resourceId": self.accounts.get(name, ""), **spec}
        await self.objects.apply("EncryptedResource", name, body, self.namespace)

    async def apply_organization(self, name: str = "acme", **spec: Any) -> None:
        """An OrganizationKey on this environment's key, through the platform's application unless `access` says otherwise."""
        body = {
            "organization": {"id": f"{self.name}-{name}", "name": "Acme Corp"},
            "mode": "CustomerManaged",
            "confirmation": "Acme Corp",
            "tenantRef": {"name": self.name},
            "keyUri": self.key_uri(),
            "access": {"application": {}},
            "revocation": {"probeInterval": "1s"},
            **spec,
        }
        present = {field: value for field, value in body.items() if value is not None}
        await self.objects.apply("OrganizationKey", name, present, self.namespace)

    async def organization_until(
        self, what: str, test: Callable[[dict[str, Any]], object], name: str = "acme"
    ) -> dict[str, Any]:
        """Wait for the status of an OrganizationKey."""
        return await self.objects.until(what, "OrganizationKey", name, test, self.namespace)

    async def apply_all(self) -> None:
        """Identity, tenant, key, and a resource for every account."""
        await self.apply_identity()
        await self.apply_tenant()
        await self.apply_key()
        for name in self.accounts:
            await self.apply_resource(name)

    async def key_until(self, what: str, test: Callable[[dict[str, Any]], object], name: str = "cmk") -> dict[str, Any]:
        """Wait for the status of the key."""
        return await self.objects.until(what, "CustomerManagedKey", name, test, self.namespace)

    async def resource_until(self, what: str, test: Callable[[dict[str, Any]], object], name: str = "docs") -> dict[str, Any]:
        """Wait for the status of a resource."""
        return await self.objects.until(what, "EncryptedResource", name, test, self.namespace)

    async def encryption(self, account: str = "docs") -> dict[str, Any]:
        """The encryption block of an account as Azure shows it."""
        found: dict[str, Any] = (await self.provider.storage_account(self.accounts[account]))["properties"]["encryption"]
        return found

    async def position(self) -> int:
        """The number of the newest entry of Azure's request log."""
        requests = await self.control.requests()
        return int(requests[-1]["n"]) if requests else 0

    async def operator_requests(self, about: str, since: int, *methods: str) -> list[dict[str, Any]]:
        """As `requests_about`, but only those of the operator: as the managed identity or as the application."""
        own = {self.identity.managed_identity_client_id, self.identity.application_client_id}
        return [request for request in await self.requests_about(about, since, *methods) if request["application"] in own]

    async def writes(self, since: int = 0, account: str = "/storageAccounts/") -> list[dict[str, Any]]:
        """The operator's writes to storage accounts."""
        return await self.operator_requests(account, since, "PATCH", "PUT", "POST", "DELETE")

    async def requests_about(self, text: str, since: int, *methods: str) -> list[dict[str, Any]]:
        """The requests since an entry of the log that name `text` in host or path."""
        return [
            request
            for request in await self.control.requests(since)
            if text.lower() in f"{request['host']}{request['path']}".lower() and (not methods or request["method"] in methods)
        ]
