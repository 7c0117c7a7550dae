"""Decides what may be done to a resource now, under laws 1 to 3.

Nothing is written without a probe, nothing is weakened unless requested, and a lost key is a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnAnotherKey, OnKey, Unreadable
from cmk_operator.core.faults.reason import Reason

if TYPE_CHECKING:
    from cmk_operator.core.encryption.protection import Protection


PLAN_ONLY: Final = "the manifest asks to observe only; status.plan shows what would be written"


class NextAction(Enum):
    """The next action for one resource."""

    SETTLED = "nothing to do"
    SHOW_PLAN = "a change is due, but the manifest asks to observe only"
    WAIT = "a change is due, but something must happen first"
    WRITE = "a change is due and may be made, once the key has been probed again"
    REVERT = "the resource may revert to the platform key, once the key has been probed again"
    RELEASE = "nothing blocks the deletion of the manifest"


@dataclass(frozen=True, slots=True)
class Decision:
    """The action; for WAIT also the reason, and a sentence on who must do what."""

    action: NextAction
    reason: Reason = Reason.READY
    message: str = ""


@dataclass(frozen=True, slots=True)
class KeyState:
    """The state of the key's wanted version, and a failed prerequisite that blocks new writes."""

    access: Access | None
    unmet_reason: Reason | None = None
    unmet_message: str = ""


def decide(*, change_is_due: bool, observe_only: bool, key: KeyState) -> Decision:
    """Decide on a resource whose manifest is not being deleted.

    A resource that needs no change is never written, whatever happened to its key.
    """
    if not change_is_due:
        return Decision(NextAction.SETTLED)
    if observe_only:
        return Decision(NextAction.SHOW_PLAN, Reason.PLAN_ONLY, PLAN_ONLY)
    return _gate(key, NextAction.WRITE)


def decide_deletion(*, revert: bool, protection: Protection | None, on_our_key: bool, claimed: bool, key: KeyState) -> Decision:
    """Decide on a resource whose manifest is being deleted.

    The manifest is released without a write under Orphan, if the resource does not exist (`protection` None) or is on another key,
    or if another manifest names the resource. A revert needs the key, because the service must unwrap the data key with it; and a
    lost key is never a reason to weaken encryption. An answer that cannot be read releases and reverts nothing.
    """
    if not revert or protection is None or claimed:
        return Decision(NextAction.RELEASE)
    match protection:
        case Unreadable(what, reason):
            return Decision(NextAction.WAIT, reason, f"the answer about the resource cannot be read ({what})")
        case OnKey() if on_our_key:
            return _gate(KeyState(key.access), NextAction.REVERT)
        case OnKey() | MicrosoftManaged() | OnAnotherKey():
            return Decision(NextAction.RELEASE)


def _gate(key: KeyState, action: NextAction) -> Decision:
    if key.access is None:
        return Decision(NextAction.WAIT, Reason.WAITING_FOR_KEY, "the key has not been probed yet")
    if key.access.state is not AccessState.ACCESSIBLE:
        return Decision(NextAction.WAIT, key.access.state.reason, f"waiting for the key: {key.access.message}")
    if key.unmet_reason is not None:
        return Decision(NextAction.WAIT, key.unmet_reason, f"the key lacks a prerequisite: {key.unmet_message}")
    return Decision(action)


def old_version_blocks(old: Access | None) -> Decision | None:
    """Wait if the version in use is not accessible: Azure must unwrap with it once more to move the resource."""
    if old is None or old.state is AccessState.ACCESSIBLE:
        return None
    return Decision(
        NextAction.WAIT,
        Reason.OLD_VERSION_NOT_ACCESSIBLE,
        f"the version that protects the resource now must be accessible until the resource has moved: {old.message}",
    )
