"""One episode: its vault, keys, resources and manifests, the current run of the operator, and the model of the API server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.kubernetes.client import ObjectReference
from sandbox.kubernetes.objects import PLURALS, RefusedError
from tests.soak.customer import Key, Vault, Version
from tests.soak.incarnation import Incarnation
from tests.soak.interruption import CrashedError
from tests.soak.neighbour import Neighbour
from tests.soak.targets import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.soak.ground import Ground
    from tests.soak.targets import Target

KEYS: Final = ("cmk", "other")
RESOURCES: Final = 3
LONGEST_DRAIN: Final = 400
AT_ONCE: Final = {"sql_operation_seconds": 0.0, "compute_operation_seconds": 0.0}
SLOW: Final = {"sql_operation_seconds": 20.0, "compute_operation_seconds": 20.0}
"""Virtual seconds of operations: the operator's last until time leaps, those of administrators would keep everybody waiting."""


LAGS: Final = (
    "deleted_key_appears_seconds",
    "recovered_key_appears_seconds",
    "recovered_vault_appears_seconds",
    "vault_settings_propagation_seconds",
)
"""Timings of the sandbox for what Azure accepts at once and shows later."""


class ViolationError(AssertionError):
    """A law was broken; the message names which, and how it shows."""


@dataclass
class KeyManifest:
    """A CustomerManagedKey as the API server has it."""

    name: str
    pin: str | None = None
    apply: str | None = None
    approval: str | None = None
    live: bool = True
    deleting: bool = False
    """Its deletion waits for resources that must revert first; until then it works as before."""
    approved: str | None = None

    @property
    def there(self) -> bool:
        return self.live or self.deleting

    def spec(self, world: World) -> dict[str, Any]:
        rotation = {name: value for name, value in (("apply", self.apply), ("approval", self.approval)) if value}
        uri = world.vault.uri(self.name, self.pin or "")
        return {"tenantRef": {"name": world.name}, "keyUri": uri, **({"rotation": rotation} if rotation else {})}


@dataclass
class Manifest:
    """An EncryptedResource as the API server has it."""

    name: str
    target: Target
    key: str = "cmk"
    mode: str = "Enforce"
    policy: str = "Orphan"
    live: bool = True
    deleting: bool = False
    uid: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        return {"keyRef": {"name": self.key}, "mode": self.mode, "deletionPolicy": self.policy, **self.target.spec}

    @property
    def there(self) -> bool:
        return self.live or self.deleting


@dataclass
class World:
    """Made by `made`, then driven by steps."""

    ground: Ground
    name: str
    vault: Vault
    targets: list[Target]
    bystander: Target
    keys: dict[str, KeyManifest] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    in_scope: bool = True
    faults: list[dict[str, Any]] = field(default_factory=list)
    withheld: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    life: Incarnation | None = None
    lives: int = 0
    passes: int = 0
    locks: dict[str, str] = field(default_factory=dict)
    _read_manifests: dict[str, EncryptedResource] = field(default_factory=dict)
    _read_keys: dict[str, CustomerManagedKey] = field(default_factory=dict)
    changed: Callable[[], None] = lambda: None
    """Called after whatever changes what the operator may do."""
    neighbour: Neighbour = field(init=False)

    def __post_init__(self) -> None:
        self.neighbour = Neighbour(self)

    @classmethod
    async def made(cls, ground: Ground, kind: str, propagation: float, lag: float = 0.0) -> World:
        """A vault with two keys, three resources on Microsoft-managed keys, one that nobody names, and all manifests."""
        name = ground.name()
        group = f"rg-{name}"
        await ground.control.set_timings(role_propagation_seconds=0.0)
        await ground.provider.create_resource_group(group)
        make = KINDS[kind]
        targets: list[Target] = [make(ground.provider, ground.identity, group, f"{name}r{n}") for n in range(RESOURCES + 1)]
        await ground.control.set_timings(**AT_ONCE)
        for target in targets:
            await target.make()
        await ground.control.set_timings(**SLOW)
        vault = Vault(f"{name}-kv", ground.time.now, propagation, lag=lag)
        world = cls(ground, name, vault, targets[:RESOURCES], targets[RESOURCES])
        await world._prepare_customer()
        await ground.control.set_timings(role_propagation_seconds=propagation)
        await ground.objects.create_namespace(name)
        await world._apply_foundation()
        for key in KEYS:
            world.keys[key] = KeyManifest(key)
            await world.put_key(world.keys[key])
        for target in world.targets:
            manifest = Manifest(target.name, target)
            world.manifests[manifest.name] = manifest
            await world.put(manifest)
        return world

    async def _prepare_customer(self) -> None:
        customer, app = self.ground.customer, self.ground.identity.application_client_id
        await customer.consent(app)
        await customer.create_vault(self.vault.name)
        await customer.assign_role(
            await customer.principal_id(customer.client_id), "Key Vault Administrator", customer.vault_id(self.vault.name)
        )
        await customer.grant(app, self.vault.name)
        for key in KEYS:
            made = (await customer.create_key(self.vault.name, key)).rsplit("/", 1)[-1]
            self.vault.keys[key] = Key(key, [Version(made)])

    async def _apply_foundation(self) -> None:
        identity = self.ground.identity
        await self.ground.objects.apply(
            "FederatedIdentity",
            self.name,
            {
                "tenantId": self.ground.provider.tenant_id,
                "application": {"clientId": identity.application_client_id},
                "managedIdentity": {
                    "resourceId": identity.managed_identity_resource_id,
                    "clientId": identity.managed_identity_client_id,
                },
            },
        )
        await self.put_tenant()

    async def put_tenant(self) -> None:
        group = f"rg-{self.name}" if self.in_scope else "rg-elsewhere"
        body = await self.ground.objects.apply(
            "CustomerTenant",
            self.name,
            {
                "tenantId": self.ground.customer.tenant_id,
                "identityRef": {"name": self.name},
                "allowedNamespaces": [self.name],
                "allowedScopes": [f"/subscriptions/{self.ground.provider.subscription_id}/resourceGroups/{group}"],
                "allowedVaults": [f"{self.vault.name}.vault.azure.net"],
            },
        )
        self.seen("CustomerTenant", body)

    async def put_key(self, key: KeyManifest) -> None:
        key.live = not key.deleting
        annotations = {"cmk-operator.dev/approved-version": key.approved} if key.approved else None
        body = await self.ground.objects.apply("CustomerManagedKey", key.name, key.spec(self), self.name, annotations)
        self.seen("CustomerManagedKey", body)

    async def put(self, manifest: Manifest, *, withheld: bool = False) -> None:
        """Apply it; with `withheld` the operator's watch gets the event later."""
        body = await self.ground.objects.apply("EncryptedResource", manifest.name, manifest.spec, self.name)
        manifest.live, manifest.uid = True, body["metadata"]["uid"]
        self.seen("EncryptedResource", body, withheld=withheld)

    async def delete(self, kind: str, name: str, *, withheld: bool = False) -> bool:
        """Delete an object; whether it is gone, and not held by a finalizer."""
        await self.ground.objects.delete(kind, name, self.name)
        body = await self.read(kind, name)
        if body is None:
            self.seen(kind, {"gone": name}, withheld=withheld)
            return True
        self.seen(kind, body, withheld=withheld)
        return False

    async def read(self, kind: str, name: str) -> dict[str, Any] | None:
        try:
            return await self.ground.objects.get(kind, name, self.name)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def seen(self, kind: str, body: dict[str, Any], *, withheld: bool = False) -> None:
        """An event for the operator's watch, now or later; a dead operator lists at its start."""
        self.changed()
        if self.life is None:
            return
        if withheld or any(waiting[0] == kind for waiting in self.withheld):
            # Events of one kind come in their order.
            self.withheld.append((kind, body))
        else:
            self._deliver(kind, body)

    def _deliver(self, kind: str, body: dict[str, Any]) -> None:
        if self.life is None:
            return
        plural = PLURALS[kind]
        if "gone" in body:
            self.life.gone(ObjectReference(plural, self.name, body["gone"]))
        else:
            self.life.see(plural, body)

    def events_arrive(self) -> int:
        """Deliver the events that the watch has withheld."""
        waiting, self.withheld = self.withheld, []
        for kind, body in waiting:
            self._deliver(kind, body)
        return len(waiting)

    async def operator(self) -> Incarnation:
        """The operator, started if it is down."""
        if self.life is None:
            self.withheld.clear()
            self.life = await Incarnation.start(self.ground.place, self.ground.time)
            self.lives += 1
        return self.life

    async def crash(self) -> None:
        if self.life is not None:
            life, self.life = self.life, None
            await life.crash()

    @property
    def consent_is_hidden(self) -> bool:
        """Whether a withdrawn consent cannot be detected: Entra does not answer, and the vault accepts the cached tokens."""
        return not self.vault.consent and any(fault["host"] == "login.microsoftonline.com" for fault in self.faults)

    @asynccontextmanager
    async def weather(self) -> AsyncIterator[None]:
        """The faults and lags in force, only while the operator works, so that no administrator meets them."""
        control, lagging = self.ground.control, self.vault.lag > 0 and self.vault.in_flux
        if not self.faults and not lagging:
            yield
            return
        if lagging:
            await control.set_timings(**dict.fromkeys(LAGS, self.vault.lag))
        for fault in self.faults:
            await control.inject(**fault)
        try:
            yield
        finally:
            if lagging:
                await control.set_timings(**dict.fromkeys(LAGS, 0.0))
            hits = [fault["hits"] for fault in await control.faults()]
            await control.clear_faults()
            if len(hits) == len(self.faults):
                self.faults = [
                    fault if fault["times"] is None else {**fault, "times": fault["times"] - hit}
                    for fault, hit in zip(self.faults, hits, strict=True)
                    if fault["times"] is None or fault["times"] > hit
                ]

    async def end_weather(self) -> None:
        """No administrator meets the faults and lags of the operator's requests."""
        await self.ground.control.clear_faults()
        if self.vault.lag:
            await self.ground.control.set_timings(**dict.fromkeys(LAGS, 0.0))

    async def work(self, reference: ObjectReference, **how: Any) -> bool:
        """One reconcile; a crash in it stops the operator. Returns whether it was interrupted."""
        life = await self.operator()
        self.passes += 1
        async with self.weather():
            try:
                return await life.work(reference, **how)
            except CrashedError:
                self.life = None
                return True

    async def drain(self, after_each: Callable[[ObjectReference], Awaitable[None]]) -> int:
        """Reconcile until nothing is due now; returns the number of reconciles. Raises ViolationError if that never ends."""
        for number in range(LONGEST_DRAIN):
            ready = (await self.operator()).agenda.ready()
            if not ready:
                return number
            await self.work(ready[0])
            await after_each(ready[0])
        raise ViolationError(f"5 (comes to rest): {LONGEST_DRAIN} passes in no time are not enough")

    def status_of(self, manifest: Manifest) -> EncryptedResource | None:
        """The manifest with its status; only the operator writes it, so what it knows is what the API server has."""
        if self.life is None:
            return self._read_manifests.get(manifest.name)
        return self.life.passes.cluster.inventory.get(EncryptedResource, manifest.name, self.name)

    def key_status(self, name: str) -> CustomerManagedKey | None:
        if self.life is None:
            return self._read_keys.get(name)
        return self.life.passes.cluster.inventory.get(CustomerManagedKey, name, self.name)

    async def read_statuses(self) -> None:
        """For an operator that runs in a process of its own: take the statuses from the API server."""
        for kind in ("CustomerManagedKey", "EncryptedResource"):
            for body in await self.ground.objects.all(kind):
                if body["metadata"]["namespace"] != self.name:
                    continue
                if kind == "CustomerManagedKey":
                    self._read_keys[body["metadata"]["name"]] = CustomerManagedKey.model_validate(body)
                else:
                    self._read_manifests[body["metadata"]["name"]] = EncryptedResource.model_validate(body)

    async def refresh(self) -> None:
        """Check which of the manifests that are being deleted no longer exist."""
        await self.neighbour.refresh()
        for manifest in self.manifests.values():
            if manifest.deleting and await self.read("EncryptedResource", manifest.name) is None:
                manifest.deleting = False
                self.seen("EncryptedResource", {"gone": manifest.name})
        for key in self.keys.values():
            if key.deleting and await self.read("CustomerManagedKey", key.name) is None:
                key.deleting = False
                self.seen("CustomerManagedKey", {"gone": key.name})

    async def _remove(self, kind: str, name: str) -> None:
        """Delete an object, past its finalizers."""
        objects = self.ground.objects
        if await self.read(kind, name) is None:
            return
        await objects.merge(kind, name, {"metadata": {"finalizers": None}}, self.name)
        if await self.read(kind, name) is not None:
            await objects.delete(kind, name, self.name)

    async def close(self) -> None:
        """Remove everything that would disturb the next episode."""
        if self.life is not None:
            await self.life.stop()
            self.life = None
        for manifest in self.manifests.values():
            if manifest.there:
                await self._remove("EncryptedResource", manifest.name)
        for key in self.keys.values():
            if key.there:
                await self._remove("CustomerManagedKey", key.name)
        await self.neighbour.remove()
        await self._remove("CustomerTenant", self.name)
        await self._remove("FederatedIdentity", self.name)
        for lock in self.locks.values():
            await self.ground.provider.unlock(lock)
        if self.vault.locked is not None:
            await self.ground.customer.unlock(self.vault.locked)
        await self.ground.control.set_timings(**AT_ONCE)
        await self.ground.time.leap(1000.0)
        for target in (*self.targets, self.bystander):
            await target.remove()
