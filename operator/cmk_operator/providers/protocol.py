"""What a kind of resource must be able to do; everything else is the engine's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.core.encryption.long_running import Ended, Failed, Operation, Running
    from cmk_operator.core.encryption.protection import FieldChange, KeyChoice, Protection
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.identifiers.resource_id import ResourceId
    from cmk_operator.core.kinds.kind import Kind

DetailT = TypeVar("DetailT")
RequestT = TypeVar("RequestT")
TargetT_contra = TypeVar("TargetT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the service will not tell again, so that status keeps it."""

    version: str | None = None
    """The key version that was in force when the service took the key over."""
    registered_at: datetime | None = None
    not_newer_than: str | None = None
    """The newest version there was when the service was found on the key, which tells no version."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says of its target, and what a provider may need beside it."""

    target: ResourceId
    """Admitted: the tenant allows it."""
    part: Mapping[str, Any]
    """The field of the spec that is for this kind, as JSON; empty when it is absent."""
    in_scope: Callable[[ArmId], bool]
    customer_tenant_id: str
    remembered: Remembered
    newest: str | None
    """The key's active version as a URI; None when no version has passed the probe yet."""
    read_secret: Callable[[str, str], Awaitable[bytes | Fault]]
    """One entry of a Secret in the manifest's namespace, by the names of both."""


class AnyTarget(Protocol):
    """What a provider is handed with each call: the resource, and all that its manifest says of it."""

    @property
    def id(self) -> ResourceId:
        """The resource."""

    def within(self, in_scope: Callable[[ArmId], bool]) -> AnyTarget:
        """The same with the scopes that the tenant allows now."""

    def knowing(self, version: str) -> AnyTarget:
        """The same with the key version that the service told at the end of an operation, and will not tell again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A resource of Azure that a manifest names."""

    id: ArmId
    options: object | None
    """What the manifest adds for this kind, in a type of its provider; None when it adds nothing."""
    in_scope: Callable[[ArmId], bool] = field(compare=False)
    """Whether another resource, such as a geo-secondary, lies in the tenant's allowed scopes too."""

    def within(self, in_scope: Callable[[ArmId], bool]) -> Target:
        """See `AnyTarget.within`."""
        return replace(self, in_scope=in_scope)

    def knowing(self, version: str) -> Target:  # noqa: ARG002 - Azure tells the version whenever it is asked
        """See `AnyTarget.knowing`."""
        return self


@dataclass(frozen=True, slots=True)
class Shown:
    """What status tells people of one resource beyond its key; each kind fills in what it knows."""

    inaccessible_databases: tuple[str, ...] = ()
    geo_secondaries: tuple[str, ...] = ()
    encrypted_disks: tuple[str, ...] = ()
    attached_to: tuple[str, ...] = ()
    """Virtual machines that the disk, or the disks of the set, are attached to."""
    previous_keys: tuple[str, ...] = ()
    """Keys that a rotation is still moving away from."""
    rotation_error: str | None = None
    consent_url: str | None = None
    """Page on which the customer consents to the service's own application."""
    service_principal_name: str | None = None
    """The service's own application in the customer's tenant, to be granted the key."""
    network_subnets: tuple[str, ...] = ()
    """Subnets of the service that the vault's firewall must let in."""
    waits_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ResourceFacts(Generic[DetailT]):
    """What the service says of one resource: its protection, and what its provider needs to plan a change."""

    protection: Protection
    detail: DetailT
    shown: Shown = field(default_factory=Shown)
    remembered: Remembered | None = None
    """What status must keep; None: as before."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[RequestT]):
    """The next idempotent request, and everything that is still ahead for people to read."""

    request: RequestT
    """What the provider sends, in a type of its own; the engine does not look into it."""
    changes: tuple[FieldChange, ...]
    """All changes that are still ahead; those of later requests come last."""
    purpose: str = "put the resource on the key"
    """What this request is for, in a few words."""
    keeps_key: bool = False
    """Whether the resource is on the wanted key already, and the request mends something else."""
    shown: Mapping[str, Any] | None = None
    """The request as JSON, for people; None: it is JSON itself."""

    @property
    def body(self) -> Mapping[str, Any]:
        """The request as status shows it while it is not made."""
        return self.shown if self.shown is not None else cast("Mapping[str, Any]", self.request)


@dataclass(frozen=True, slots=True)
class Applied(Generic[DetailT]):
    """A request that was carried out: the facts after it, and Azure's request id."""

    facts: ResourceFacts[DetailT]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """A request that was accepted and is being carried out; ask again in `retry_after` seconds."""

    operation: Operation
    retry_after: float
    remembered: Remembered | None = None
    """What status must keep; None: as before."""


class Provider(Protocol[TargetT_contra, DetailT]):
    """One kind of resource, such as storage accounts. Adding a kind is one folder and one line in the registry."""

    @property
    def kind(self) -> Kind:
        """What is particular to the kind."""

    async def target_of(self, manifest: Manifest) -> AnyTarget | Fault:
        """What the other methods are handed; a fault when something that the manifest refers to cannot be used."""

    async def observe(
        self, chain: IdentityChain, target: TargetT_contra, *, max_age: float
    ) -> ResourceFacts[DetailT] | AzureFailure:
        """Read only: the facts, at most `max_age` seconds old (0: read now); never raises for what Azure answers."""

    def plan(self, target: TargetT_contra, want: KeyChoice, seen: ResourceFacts[DetailT]) -> Plan[Any] | Fault | None:
        """Pure: the next change that puts the resource on the wanted key; None when there is nothing to do.

        A fault says what must happen first, and whose move it is.
        """

    def plan_revert(self, target: TargetT_contra, seen: ResourceFacts[DetailT]) -> Plan[Any] | Fault | None:
        """Pure: the next change that puts the resource back on a key of Microsoft; None when it is there."""

    async def apply(
        self, chain: IdentityChain, target: TargetT_contra, plan: Plan[Any]
    ) -> Applied[DetailT] | Started | AzureFailure:
        """Send the plan's one request, idempotently; never raises for what Azure answers."""

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """Say who must act on a refused call; `name` is the target's, for people."""

    async def poll(
        self, chain: IdentityChain, target: TargetT_contra, operation: Operation
    ) -> Running | Ended | Failed | AzureFailure:
        """Ask after what `apply` started, in this process or in one before; a failure is that of the question alone."""
