"""A hostile neighbour: a namespace in no tenant, and a tenant of its own with a resource in the same subscription."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.kubernetes.client import ObjectReference
from sandbox.kubernetes.objects import PLURALS, RefusedError
from tests.soak.targets import Account

if TYPE_CHECKING:
    from tests.soak.world import World

REFUSED: Final = 6
MISSING: Final = 4
STORM: Final = 12


@dataclass
class Neighbour:
    """What it has made; everything but its own resource is made to be refused, to fail, or to keep the operator busy."""

    world: World
    made: set[tuple[str, str, str]] = field(default_factory=set)
    """Kind, namespace and name of each of its objects."""
    deleting: set[tuple[str, str, str]] = field(default_factory=set)
    """Those of them whose deletion may still wait for the operator."""
    own: Account | None = None
    storms: int = 0

    @property
    def stranger(self) -> str:
        """Its namespace in no tenant."""
        return f"{self.world.name}-stranger"

    @property
    def name(self) -> str:
        """Its tenant, and the namespace in it."""
        return f"{self.world.name}-neighbour"

    def owns(self, path: str) -> bool:
        """Whether a request is for its own resource, which its tenant admits."""
        return self.own is not None and self.own.id.lower() in f"{path.lower()}/".replace("?", "/")

    async def refused_manifests(self, number: int) -> str:
        """Manifests that name the victim's tenant, key and resources, from where nobody admits them; to be deleted with a revert."""
        await self.world.ground.objects.create_namespace(self.stranger)
        chosen = number % len(self.world.targets)
        victim = self.world.targets[chosen]
        for kind, name, spec in (
            ("CustomerManagedKey", "cmk", {"tenantRef": {"name": self.world.name}, "keyUri": self.world.vault.uri("cmk")}),
            *(
                (
                    "EncryptedResource",
                    f"refused-{chosen}-{index}",  # a manifest cannot move to another resource
                    {"keyRef": {"name": "cmk"}, "deletionPolicy": "RevertToPlatformKey", **victim.spec},
                )
                for index in range(REFUSED)
            ),
        ):
            await self._apply(kind, name, self.stranger, spec)
        return f"{REFUSED} on {victim.name}"

    async def missing_keys(self) -> str | None:
        """Keys of names that its vault does not have."""
        if not await self._settle_in():
            return None
        for index in range(MISSING):
            spec = {"tenantRef": {"name": self.name}, "keyUri": self._uri(f"missing-{index}")}
            await self._apply("CustomerManagedKey", f"missing-{index}", self.name, spec)
        return f"{MISSING} keys"

    async def own_resource(self) -> str | None:
        """A resource of its own in the subscription that it shares with the victim, and one of the victim beyond its scope."""
        if not await self._settle_in():
            return None
        if self.own is None:
            ground = self.world.ground
            await ground.provider.create_resource_group(f"rg-{self.name}")
            self.own = Account(ground.provider, ground.identity, f"rg-{self.name}", f"{self.world.name}n")
            await self.own.make()
        await self._apply("EncryptedResource", "own", self.name, {"keyRef": {"name": "theirs"}, **self.own.spec})
        victim = self.world.targets[0]
        spec = {"keyRef": {"name": "theirs"}, "deletionPolicy": "RevertToPlatformKey", **victim.spec}
        await self._apply("EncryptedResource", "beyond", self.name, spec)
        return self.own.name

    async def storm(self) -> str | None:
        """Request passes of what it has, one after the other."""
        await self.refresh()
        if not self.made:
            return None
        for kind, namespace, name in sorted(self.made)[:STORM]:
            self.storms += 1
            patch = {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": str(self.storms)}}}
            try:
                self.world.seen(kind, await self.world.ground.objects.merge(kind, name, patch, namespace))
            except RefusedError as error:
                if error.status != 404:
                    raise
        return f"{min(len(self.made), STORM)} objects"

    async def leave(self) -> str | None:
        """Delete its manifests; what waits for the operator is left to it."""
        await self.refresh()
        going = sorted(one for one in self.made - self.deleting if one[0] != "CustomerTenant")
        for kind, namespace, name in going:
            await self.world.ground.objects.delete(kind, name, namespace)
            self.deleting.add((kind, namespace, name))
        await self.refresh()
        return f"{len(going)} objects" if going else None

    async def refresh(self) -> None:
        """Show the operator what became of the objects that are being deleted."""
        for kind, namespace, name in sorted(self.deleting):
            try:
                self.world.seen(kind, await self.world.ground.objects.get(kind, name, namespace))
            except RefusedError as error:
                if error.status != 404:
                    raise
                self.made.discard((kind, namespace, name))
                self.deleting.discard((kind, namespace, name))
                if self.world.life is not None:
                    self.world.life.gone(ObjectReference(PLURALS[kind], namespace, name))

    async def remove(self) -> None:
        """Remove everything, past its finalizers, so that the next episode does not meet it."""
        objects = self.world.ground.objects
        for kind, namespace, name in sorted(self.made):
            try:
                await objects.merge(kind, name, {"metadata": {"finalizers": None}}, namespace)
                await objects.delete(kind, name, namespace)
            except RefusedError as error:
                if error.status != 404:
                    raise
        self.made.clear()
        self.deleting.clear()
        if self.own is not None:
            await self.own.remove()

    def _uri(self, key: str) -> str:
        return f"https://{self.world.name}-nkv.vault.azure.net/keys/{key}"

    async def _settle_in(self) -> bool:
        """Its tenant, its vault and its key, once; False while the application has no consent, to which nothing can be granted."""
        if ("CustomerTenant", "", self.name) in self.made:
            return True
        if not self.world.vault.consent:
            return False
        ground, vault = self.world.ground, f"{self.world.name}-nkv"
        customer = ground.customer
        await ground.objects.create_namespace(self.name)
        await customer.create_vault(vault)
        own = await customer.principal_id(customer.client_id)
        timings = await ground.control.timings()
        await ground.control.set_timings(role_propagation_seconds=0.0)
        await customer.assign_role(own, "Key Vault Administrator", customer.vault_id(vault))
        await customer.grant(ground.identity.application_client_id, vault)
        await customer.create_key(vault, "theirs")
        await ground.control.set_timings(role_propagation_seconds=timings["role_propagation_seconds"])
        tenant = {
            "tenantId": customer.tenant_id,
            "identityRef": {"name": self.world.name},
            "allowedNamespaces": [self.name],
            "allowedScopes": [f"/subscriptions/{ground.provider.subscription_id}/resourceGroups/rg-{self.name}"],
            "allowedVaults": [f"{vault}.vault.azure.net"],
        }
        await self._apply("CustomerTenant", self.name, "", tenant)
        key = {"tenantRef": {"name": self.name}, "keyUri": self._uri("theirs")}
        await self._apply("CustomerManagedKey", "theirs", self.name, key)
        return True

    async def _apply(self, kind: str, name: str, namespace: str, spec: dict[str, Any]) -> None:
        if (kind, namespace, name) in self.deleting:
            return  # it comes back under this name once the old one is gone
        body = await self.world.ground.objects.apply(kind, name, spec, namespace)
        self.made.add((kind, namespace, name))
        self.world.seen(kind, body)
