"""The protocol that each kind of resource implements; `reconcile/` does everything else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast

from cmk_operator.core.encryption.protection import Unreadable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.core.encryption.coverage import Part, Parts
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
    """Facts that the service reports only once, so that status keeps them."""

    version: str | None = None
    """The key version that was in force when the service activated the key."""
    registered_at: datetime | None = None
    not_newer_than: str | None = None
    """The newest version at the time when the service was found on the key, if the service does not report its version."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The target and options of a manifest, and what a provider may need to make its own target."""

    target: ResourceId
    """Already admitted: the tenant allows it."""
    part: Mapping[str, Any]
    """The field of the spec for this kind, as JSON; empty if it is absent."""
    in_scope: Callable[[ArmId], bool]
    customer_tenant_id: str
    remembered: Remembered
    newest: str | None
    """The key's active version as a URI; None if no version has passed the probe yet."""
    read_secret: Callable[[str, str], Awaitable[bytes | Fault]]
    """Reads one entry of a Secret in the manifest's namespace, by the Secret's name and the entry's key."""


class AnyTarget(Protocol):
    """The target that a provider gets with each call: the resource, and what its manifest adds to it."""

    @property
    def id(self) -> ResourceId:
        """The resource."""

    def within(self, in_scope: Callable[[ArmId], bool]) -> AnyTarget:
        """The same target with the scopes that the tenant allows now."""

    def knowing(self, version: str) -> AnyTarget:
        """The same target with the key version that the service reported, only once, at the end of an operation."""


@dataclass(frozen=True, slots=True)
class Target:
    """An Azure resource that a manifest names."""

    id: ArmId
    options: object | None
    """The manifest's options for this kind, in a type of its provider; None if there are none."""
    in_scope: Callable[[ArmId], bool] = field(compare=False)
    """Whether another resource, such as a geo-secondary, is in the tenant's allowed scopes too."""

    def within(self, in_scope: Callable[[ArmId], bool]) -> Target:
        """See `AnyTarget.within`."""
        return replace(self, in_scope=in_scope)

    def knowing(self, version: str) -> Target:  # noqa: ARG002 - Azure reports the version with each read
        """See `AnyTarget.knowing`."""
        return self


@dataclass(frozen=True, slots=True)
class GeoReplica:
    """Another server with which databases are replicated, and what protects that server itself."""

    server: str
    role: Literal["Primary", "Secondary"]
    protected_by: str | None = None
    """The key of its own protector; None: not read."""
    auto_rotation: bool | None = None
    """Whether its own protector rotates automatically."""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What status shows of one resource besides its key; each kind sets the fields that it knows."""

    inaccessible_databases: tuple[str, ...] = ()
    geo_secondaries: tuple[str, ...] = ()
    geo_replicas: tuple[GeoReplica, ...] = ()
    encrypted_disks: tuple[str, ...] = ()
    attached_to: tuple[str, ...] = ()
    """Virtual machines to which the disk, or the disks of the set, are attached."""
    previous_keys: tuple[str, ...] = ()
    """Keys that Azure still uses until a running rotation ends."""
    rotation_error: str | None = None
    on_rotation: str | None = None
    """What a rotation of this resource needs from people, or who does not follow it; None if it needs nothing."""
    consent_url: str | None = None
    """Page on which the customer consents to the service's own application."""
    service_principal_name: str | None = None
    """The service's own application in the customer's tenant, which needs a role on the key."""
    network_subnets: tuple[str, ...] = ()
    """Subnets of the service that the vault's firewall must allow."""
    waits_until: datetime | None = None
    not_readable: tuple[str, ...] = ()
    """What Azure has beside the resource and the operator cannot read, such as an entry of a list; for people."""


@dataclass(frozen=True, slots=True)
class ResourceFacts(Generic[DetailT]):
    """What the service reports of one resource: its protection, and what its provider needs to plan a change."""

    protection: Protection
    detail: DetailT
    shown: Shown = field(default_factory=Shown)
    remembered: Remembered | None = None
    """What status must keep; None: no change."""
    follows_by_itself: bool = True
    """Whether the service moves the resource to a new version of a key without a version; False: the operator must do it."""
    parts: tuple[Part, ...] = ()
    """Data of the resource that another key may protect, as far as the resource itself or a list shows it."""


def is_readable(facts: ResourceFacts[Any]) -> bool:
    """Whether the facts say what protects the resource."""
    return not isinstance(facts.protection, Unreadable)


@dataclass(frozen=True, slots=True)
class Plan(Generic[RequestT]):
    """The next idempotent request, and all changes until the resource is as wanted, for people to read."""

    request: RequestT
    """The request in a type of its provider; only the provider reads it."""
    changes: tuple[FieldChange, ...]
    """All remaining changes, in order: those of this request first, then those of later ones."""
    purpose: str = "put the resource on the key"
    """The purpose of this request, in a few words."""
    keeps_key: bool = False
    """Whether the resource already uses the wanted key, and the request corrects something else."""
    reopens: bool = False
    """Whether the request changes no setting, and only lets the service use the key again after a loss."""
    shown: Mapping[str, Any] | None = None
    """The request as JSON, for people; None if `request` is JSON itself."""

    @property
    def body(self) -> Mapping[str, Any]:
        """The request as JSON, as status shows it before it is sent."""
        return self.shown if self.shown is not None else cast("Mapping[str, Any]", self.request)


@dataclass(frozen=True, slots=True)
class Applied(Generic[DetailT]):
    """A completed request: the facts after it, and Azure's request id."""

    facts: ResourceFacts[DetailT]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """An accepted request whose operation still runs; poll it after `retry_after` seconds."""

    operation: Operation
    retry_after: float
    remembered: Remembered | None = None
    """What status must keep; None: no change."""


class Provider(Protocol[TargetT_contra, DetailT]):
    """One kind of resource, such as storage accounts. Adding a kind is one folder and one line in the registry."""

    @property
    def kind(self) -> Kind:
        """The constants of the kind."""

    async def target_of(self, manifest: Manifest) -> AnyTarget | Fault:
        """The target for the other methods; a fault if something to which the manifest refers cannot be used."""

    async def observe(
        self, chain: IdentityChain, target: TargetT_contra, *, max_age: float
    ) -> ResourceFacts[DetailT] | AzureFailure:
        """The facts, at most `max_age` seconds old (0: read now). Only reads; returns Azure's refusals as values."""

    async def observe_before_write(self, chain: IdentityChain, target: TargetT_contra) -> ResourceFacts[DetailT] | AzureFailure:
        """Read only: facts that a write may rely on, younger than the operator's own last write; otherwise as `observe`."""

    @property
    def has_parts(self) -> bool:
        """Whether resources of this kind have parts that only `read_parts` shows."""

    async def read_parts(
        self, chain: IdentityChain, target: TargetT_contra, seen: ResourceFacts[DetailT]
    ) -> Parts | AzureFailure:
        """Read the data of a resource for which the service may use another key, where neither the resource nor a list shows it.

        What the operator may not read is a part without a key, with the permission that shows it; a failure passes by itself.
        """

    def plan(self, target: TargetT_contra, want: KeyChoice, seen: ResourceFacts[DetailT]) -> Plan[Any] | Fault | None:
        """The next request that puts the resource on the wanted key; None if there is nothing to change. Pure.

        A fault says what must happen first, and who must act.
        """

    def plan_revert(self, target: TargetT_contra, seen: ResourceFacts[DetailT]) -> Plan[Any] | Fault | None:
        """The next request that puts the resource back on a Microsoft-managed key; None if it is on one. Pure."""

    async def apply(
        self, chain: IdentityChain, target: TargetT_contra, plan: Plan[Any]
    ) -> Applied[DetailT] | Started | AzureFailure:
        """Send the plan's one request, which is idempotent. Returns Azure's refusals as values."""

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """The fault of a refused call: its cause, and who must act. `name` is the target's name, for people."""

    async def poll(
        self, chain: IdentityChain, target: TargetT_contra, operation: Operation
    ) -> Running | Ended | Failed | AzureFailure:
        """Poll an operation that `apply` started, in this process or an earlier one. An `AzureFailure` is that of the poll."""
