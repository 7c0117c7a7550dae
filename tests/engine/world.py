"""What the tests of the engine share: many accounts on one key, and the ways to look at what became of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.kubernetes.objects import RefusedError, has
from tests.engine.operators import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.kubernetes.fault_proxy import FaultProxy, Request
    from tests.engine.operators import Operator
    from tests.environment import Environment

KINDS = ("EncryptedResource", "CustomerManagedKey", "CustomerTenant", "FederatedIdentity")
_NUMBERS = itertools.count(1)


@dataclass
class World:
    """One environment, its operator and the proxy between the operator and the API server."""

    environment: Environment
    proxy: FaultProxy
    operator: Operator
    cluster: Cluster
    names: list[str] = field(default_factory=list)
    forgive_refusals: bool = False

    async def accounts(self, count: int = 1) -> list[str]:
        """New storage accounts; their names are also those of the manifests to come."""
        names = [f"a{next(_NUMBERS)}" for _ in range(count)]
        for batch in range(0, count, 16):
            await asyncio.gather(*(self.environment.account(name) for name in names[batch : batch + 16]))
        self.names += names
        return names

    async def foundation(self) -> None:
        """Identity, tenant and key, ready to be used."""
        await self.environment.apply_identity()
        await self.environment.apply_tenant()
        await self.environment.apply_key()
        if self.operator.alive:
            await self.environment.key_until("Ready", has("Ready"))

    async def apply(self, names: Iterable[str], **spec: Any) -> None:
        for name in names:
            await self.environment.apply_resource(name, **spec)

    async def until_ready(self, names: Iterable[str], patience: float = PATIENCE) -> None:
        """Wait until all of these are Ready in their present generation."""
        wanted = set(names)

        async def waiting() -> bool:
            return wanted <= await self.ready()

        await until(f"{len(wanted)} Ready resources", waiting, patience)

    async def ready(self) -> set[str]:
        return {
            item["metadata"]["name"]
            for item in await self.environment.objects.all("EncryptedResource")
            if has("Ready")(item.get("status", {})) and item["status"]["observedGeneration"] == item["metadata"]["generation"]
        }

    async def resource(self, name: str) -> dict[str, Any]:
        return await self.environment.objects.get("EncryptedResource", name, self.environment.namespace)

    async def patches(self, since: int) -> Counter[str]:
        """How often each account was PATCHed since a position of Azure's log; whatever is no PATCH of ours must not be there."""
        found = await self.environment.control.requests(since)
        accounts = {resource_id.lower(): name for name, resource_id in self.environment.accounts.items()}
        counted: Counter[str] = Counter()
        for request in found:
            if request["method"] != "PATCH" or "storageaccounts" not in request["path"].lower():
                continue
            if request["principal"] != self.environment.identity.managed_identity_principal_id:
                continue
            counted[accounts.get(request["path"].lower().partition("?")[0], request["path"])] += 1
        return counted

    def status_writes(self, name: str, since: int = 0, kind: str = "encryptedresources") -> list[Request]:
        """The status writes to one object that the API server took."""
        return [one for one in self.proxy.requests("patch", f"/{kind}/{name}/status", since) if one.delivered]

    async def encrypted(self, name: str) -> bool:
        """Whether Azure shows the account on this environment's key, with all that belongs to it."""
        encryption = await self.environment.encryption(name)
        identity = self.environment.identity
        return bool(
            encryption["keySource"] == "Microsoft.Keyvault"
            and encryption["keyvaultproperties"]["keyvaulturi"].rstrip("/")
            == f"https://{self.environment.vault}.vault.azure.net"
            and encryption["keyvaultproperties"]["keyname"] == "cmk"
            and encryption["identity"]["federatedIdentityClientId"] == identity.application_client_id
        )

    async def clean(self) -> None:
        """Delete every custom resource; finalizers go with the operator or by hand."""
        objects = self.environment.objects
        for kind in KINDS:
            try:
                items = await objects.all(kind)
            except RefusedError as error:
                if error.status == 404:
                    continue
                raise
            for item in items:
                name, namespace = item["metadata"]["name"], item["metadata"].get("namespace", "")
                try:
                    if item["metadata"].get("finalizers"):
                        await objects.merge(kind, name, {"metadata": {"finalizers": None}}, namespace)
                    await objects.delete(kind, name, namespace)
                except RefusedError as error:
                    if error.status != 404:
                        raise
