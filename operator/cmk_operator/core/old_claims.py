"""Turns old claims of a status to Unknown: conditions that are True but were not observed within three intervals.

It works on the JSON of the status, so that it covers every kind, and objects that do not fit their model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

INTERVALS: Final = 3.0
"""Intervals within which a claim must have been observed."""
_BEFOREHAND: Final = 0.1
"""Intervals by which a claim is withdrawn earlier, so that the write is complete when the claim is three intervals old."""
SHORTEST_LIMIT: Final = 10.0
"""Least seconds until a claim is old: one slow answer of Azure can take longer than three intervals of a second or two."""
_CLAIMS: Final = frozenset(
    {
        ConditionType.READY,
        ConditionType.KEY_ACCESSIBLE,
        ConditionType.PREREQUISITES_MET,
        ConditionType.ROTATION_CURRENT,
        ConditionType.CONSENT_GRANTED,
        ConditionType.USERS_KNOWN,
        ConditionType.ENCRYPTED,
        ConditionType.KEY_CURRENT,
        ConditionType.DATA_COVERED,
        ConditionType.REGISTERED,
        ConditionType.AUTHENTICATED,
        ConditionType.APPLICATION_FEDERATED,
        ConditionType.SERVING,
        ConditionType.CREDENTIAL_VALID,
        ConditionType.REWRAP_COMPLETE,
    }
)
"""The conditions that make a claim about Azure, Entra or Snowflake."""


def limit_of(interval: float, age_when_seen: float = 0.0) -> float:
    """Seconds after a reconcile until a claim is old; what the reconcile read may be up to `age_when_seen` intervals old."""
    return max(SHORTEST_LIMIT, interval * (INTERVALS - _BEFOREHAND - age_when_seen))


@dataclass(frozen=True, slots=True)
class Observation:
    """When an object was last observed, or, if this process has not observed it yet, when it began to lead or the object appeared."""

    at: datetime
    age: float
    """Seconds since then."""
    limit: float
    """Seconds after which a claim from this observation is old."""
    seen: bool = True

    @property
    def is_old(self) -> bool:
        """Whether claims from this observation are old."""
        return self.age >= self.limit

    @property
    def message(self) -> str:
        """The message for status; it does not change until the next observation."""
        if self.seen:
            return f"not seen since {to_rfc3339(self.at)}, for more than three check intervals"
        return f"not seen since the operator began to watch it at {to_rfc3339(self.at)}, for more than three check intervals"


@dataclass(frozen=True, slots=True)
class Basis:
    """The observations for the claims of one object."""

    own: Observation
    key: Observation | None = None
    """For a resource: the observation of its key, for `KeyAccessible`."""

    @property
    def has_old(self) -> bool:
        """Whether any claim of the object may be old."""
        return self.own.is_old or (self.key is not None and self.key.is_old)

    def of(self, condition: str) -> Observation:
        """The observation for a condition of this type."""
        return self.key if self.key is not None and condition == ConditionType.KEY_ACCESSIBLE else self.own


def without_old_claims(status: Mapping[str, Any], before: Mapping[str, Any], basis: Basis, now: datetime) -> dict[str, Any]:
    """The status with each old claim turned to Unknown; `before` is the current status.

    Only an observation restores a withdrawn claim; a restart alone does not.
    """
    current = {one["type"]: one for one in before.get("conditions", ())}
    conditions = [_judged(one, current.get(one["type"]), basis, now) for one in status.get("conditions", ())]
    withdrawn = [new for new, old in zip(conditions, status.get("conditions", ()), strict=True) if new is not old]
    if withdrawn:
        conditions = _summarized(conditions, withdrawn[0], current, now)
    turned = {**status, "conditions": conditions} if "conditions" in status else dict(status)
    if any(one["type"] == ConditionType.KEY_ACCESSIBLE for one in withdrawn) and basis.key is None:
        turned |= _unknown_access(turned, before, now)
    if basis.own.is_old and any("safeToDisable" in one for one in turned.get("versions", ())):
        turned["versions"] = [_not_known_to_be_safe(one, basis.own.message) for one in turned["versions"]]
    users = next((one for one in withdrawn if one["type"] == ConditionType.USERS_KNOWN), None)
    if users is not None and "versions" in turned:
        turned["versions"] = [_not_safe(one, users["message"]) for one in turned["versions"]]
    return turned


def _not_safe(version: Mapping[str, Any], message: str) -> Mapping[str, Any]:
    """A version of which nobody has seen lately whether something is still on it."""
    if "safeToDisableAfter" not in version:
        return version
    kept = {name: value for name, value in version.items() if name not in {"safeToDisableAfter", "keepUntil"}}
    return {**kept, "reason": f"whether anything in Azure is still on this version is not known: {message}"}


def _not_known_to_be_safe(version: Mapping[str, Any], message: str) -> Mapping[str, Any]:
    """A version of an OrganizationKey of which nobody has seen lately whether data keys or backups still need it."""
    if version.get("safeToDisable") != "True" and "safeToDisableAfter" not in version:
        return version
    kept = {name: value for name, value in version.items() if name not in {"safeToDisableAfter", "requiredUntil"}}
    return {**kept, "safeToDisable": "Unknown", "reason": f"whether data keys are still on it is not known: {message}"}


def is_withdrawn(conditions: object) -> bool:
    """Whether any condition has been withdrawn; `conditions` is the JSON of a status."""
    return isinstance(conditions, list) and any(_is_withdrawn(one) for one in conditions)


def withdrawal_message(status: Mapping[str, Any]) -> str:
    """The message of the withdrawn claims; empty if the status claims only what was observed lately."""
    return str(next((one["message"] for one in status.get("conditions", ()) if _is_withdrawn(one)), ""))


def _is_withdrawn(condition: Mapping[str, Any] | None) -> bool:
    return condition is not None and condition["status"] == "Unknown" and condition["reason"] == Reason.NOT_SEEN_LATELY


def _judged(condition: Mapping[str, Any], before: Mapping[str, Any] | None, basis: Basis, now: datetime) -> Mapping[str, Any]:
    if condition["status"] != "True" or condition["type"] not in _CLAIMS:
        return condition
    observation = basis.of(condition["type"])
    if before is not None and _is_withdrawn(before) and not observation.seen:
        return _unknown(condition, before["message"], before, now)
    return _unknown(condition, observation.message, before, now) if observation.is_old else condition


def _unknown(condition: Mapping[str, Any], message: str, before: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    since = before["lastTransitionTime"] if before is not None and before["status"] == "Unknown" else to_rfc3339(now)
    new = {"status": "Unknown", "reason": Reason.NOT_SEEN_LATELY.value, "message": message, "lastTransitionTime": since}
    return {**condition, **new}


def _summarized(
    conditions: list[Mapping[str, Any]], cause: Mapping[str, Any], current: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[Mapping[str, Any]]:
    """Ready follows the withdrawn conditions; Reconciling is set while nobody must act."""
    ready = next((one for one in conditions if one["type"] == ConditionType.READY), None)
    if ready is not None and ready["status"] == "True":
        summary = _unknown(ready, cause["message"], current.get(ConditionType.READY), now)
        conditions = [summary if one is ready else one for one in conditions]
        ready = summary
    progress = {ConditionType.RECONCILING, ConditionType.STALLED}
    if not _is_withdrawn(ready) or ready is None or any(one["type"] in progress for one in conditions):
        return conditions
    before = current.get(ConditionType.RECONCILING)
    since = before["lastTransitionTime"] if before is not None else to_rfc3339(now)
    own = {"type": ConditionType.RECONCILING.value, "status": "True", "lastTransitionTime": since}
    return [*conditions, {**ready, **own}]


def _unknown_access(status: Mapping[str, Any], before: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The access of a key's versions in status, outside of the conditions, turned to Unknown."""
    found: dict[str, Any] = {}
    access, known = status.get("access"), before.get("access") or {}
    if access is not None and access.get("state") == AccessState.ACCESSIBLE:
        since = known.get("since") if known.get("state") == AccessState.UNKNOWN else None
        found["access"] = {**access, "state": AccessState.UNKNOWN.value, "since": since or to_rfc3339(now)}
    if "versions" in status:
        found["versions"] = [
            {**one, "access": AccessState.UNKNOWN.value} if one.get("access") == AccessState.ACCESSIBLE else one
            for one in status["versions"]
        ]
    return found
