"""The ways in which a pass over a resource can end; each holds exactly what there is to report in that case."""

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
    """Refused before any call to the service: objects of Kubernetes alone decide this."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class OperationUnknown:
    """The service did not say what became of the operation in status, so the operation stays there."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The service refused a call, or gave up an operation; the pass is repeated."""

    fault: Fault
    seen: ResourceFacts[Any] | None
    """None: the resource could not be read either."""


@dataclass(frozen=True, slots=True)
class Obstructed:
    """Something must happen before the next request can be made."""

    fault: Fault
    seen: ResourceFacts[Any]


@dataclass(frozen=True, slots=True)
class Operating:
    """The service carries out an operation that this operator started; ask again in `ask_after` seconds."""

    operation: Operation
    ask_after: float
    seen: ResourceFacts[Any] | None
    """None: the resource could not be read meanwhile."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change is due, and something else must happen first."""

    reason: Reason
    message: str
    seen: ResourceFacts[Any]
    keeps_key: bool
    """Whether a resource that is on the wanted key stays on it until the change, and is said to be encrypted with it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A change is due, and the manifest says to observe only."""

    plan: Plan[Any]
    seen: ResourceFacts[Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """The resource is as the manifest wants it."""

    seen: ResourceFacts[Any]


ResourceOutcome = Refused | OperationUnknown | CallRefused | Obstructed | Operating | Waiting | Planned | Settled


def facts_of(outcome: ResourceOutcome) -> ResourceFacts[Any] | None:
    """What the pass read of the resource; None when it could not, or did not ask."""
    match outcome:
        case Refused() | OperationUnknown():
            return None
        case CallRefused() | Obstructed() | Operating() | Waiting() | Planned() | Settled():
            return outcome.seen
