"""The ways in which a pass over a resource can end, each with exactly what there is to report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmk_operator.core.encryption.long_running import Operation
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.faults.reason import Reason
    from cmk_operator.providers.protocol import Plan, ResourceFacts


@dataclass(frozen=True, slots=True)
class Refused:
    """The manifest was refused before any call to the service; only Kubernetes objects decide this."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class OperationUnknown:
    """The operation in status could not be polled, so it stays there."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The service refused a call, or an operation failed; the pass is repeated."""

    fault: Fault
    seen: ResourceFacts[Any] | None
    """None if the resource could not be read either."""


@dataclass(frozen=True, slots=True)
class Obstructed:
    """Something must happen before the next request can be sent."""

    fault: Fault
    seen: ResourceFacts[Any]


@dataclass(frozen=True, slots=True)
class Operating:
    """The service carries out an operation that this operator started; poll it again in `poll_after` seconds."""

    operation: Operation
    poll_after: float
    seen: ResourceFacts[Any] | None
    """None if the resource could not be read meanwhile."""
    not_visible: str | None = None
    """What is done instead and who may change that, if the operator may not poll the operation; None if it may."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change is due, and something else must happen first."""

    reason: Reason
    message: str
    seen: ResourceFacts[Any]
    keeps_key: bool
    """Whether a resource on the wanted key stays on it until the change, and so is reported as encrypted with it."""
    seconds: float | None = None
    """How long, if that is known."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A change is due, but the manifest asks to observe only."""

    plan: Plan[Any]
    seen: ResourceFacts[Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """The resource is as the manifest wants it."""

    seen: ResourceFacts[Any]


ResourceOutcome = Refused | OperationUnknown | CallRefused | Obstructed | Operating | Waiting | Planned | Settled


def facts_of(outcome: ResourceOutcome) -> ResourceFacts[Any] | None:
    """What the pass read about the resource; None if it did not or could not read it."""
    match outcome:
        case Refused() | OperationUnknown():
            return None
        case CallRefused() | Obstructed() | Operating() | Waiting() | Planned() | Settled():
            return outcome.seen
