"""What a kind of resource must be able to do; everything else is the engine's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.core.arm_id import ArmId
    from cmk_operator.core.azure_failure import AzureFailure
    from cmk_operator.core.protection import FieldChange, KeyChoice, Protection

DetailT = TypeVar("DetailT")


@dataclass(frozen=True, slots=True)
class ResourceFacts(Generic[DetailT]):
    """What Azure says of one resource: its protection, and what its provider needs to plan a change."""

    protection: Protection
    detail: DetailT


@dataclass(frozen=True, slots=True)
class Plan:
    """One idempotent request, with what it changes for people to read."""

    body: Mapping[str, Any]
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Applied(Generic[DetailT]):
    """A plan that Azure has carried out: the facts after it, and Azure's request id."""

    facts: ResourceFacts[DetailT]
    request_id: str | None


class Provider(Protocol[DetailT]):
    """One kind of resource, such as storage accounts. Adding a kind is one folder and one line in the registry."""

    @property
    def resource_type(self) -> str:
        """`namespace/type` in lower case."""

    @property
    def shown_kind(self) -> str:
        """The kind for people, such as `StorageAccount`."""

    async def observe(self, chain: IdentityChain, target: ArmId, *, max_age: float) -> ResourceFacts[DetailT] | AzureFailure:
        """Read only: the facts, at most `max_age` seconds old (0: read now); never raises for what Azure answers."""

    def plan(self, want: KeyChoice, seen: ResourceFacts[DetailT]) -> Plan | None:
        """Pure: the change that puts the resource on the wanted key; None when there is nothing to do."""

    def plan_revert(self, seen: ResourceFacts[DetailT]) -> Plan | None:
        """Pure: the change that puts the resource back on a key of Microsoft; None when it is there."""

    async def apply(self, chain: IdentityChain, target: ArmId, plan: Plan) -> Applied[DetailT] | AzureFailure:
        """Carry out a plan, idempotently; never raises for what Azure answers."""
