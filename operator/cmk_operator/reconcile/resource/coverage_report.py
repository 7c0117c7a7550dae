"""Computes the condition `DataCovered`, and what status lists of data that the key does not protect; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmk_operator.api.conditions import Aspect, find
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.encryption.coverage import NotCovered, merged, named, not_covered
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.registry import KINDS

if TYPE_CHECKING:
    from cmk_operator.api.conditions import Truth
    from cmk_operator.api.customer_managed_key import CustomerManagedKey
    from cmk_operator.api.encrypted_resource import EncryptedResource
    from cmk_operator.core.encryption.coverage import PartsSeen
    from cmk_operator.providers.protocol import ResourceFacts

_NOT_CARRIED = frozenset({Reason.NOT_ON_KEY, Reason.COVERAGE_NOT_READ, Reason.NOT_SEEN_LATELY})
"""Reasons of a condition that says nothing about the parts of a resource on its key."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The condition, and the entries of `status.details.notCovered`."""

    aspect: Aspect
    entries: tuple[NotCovered, ...] = ()


def coverage_of(
    resource: EncryptedResource,
    key: CustomerManagedKey | None,
    encrypted: Aspect,
    seen: ResourceFacts[Any] | None,
    parts: PartsSeen,
    *,
    on_key: bool,
) -> Coverage:
    """Whether the key protects all data of the resource, from what this pass and the last reading of its parts show."""
    wanted = key.spec.uri if key is not None else None
    if seen is None or wanted is None:
        status: Truth = "False" if encrypted.reason == Reason.NOT_ON_KEY else "Unknown"
        return Coverage(Aspect(ConditionType.DATA_COVERED, status, encrypted.reason, encrypted.message), _entries(resource))
    if not on_key:
        message = "the resource is not on this key, so the key does not protect its data"
        return Coverage(Aspect(ConditionType.DATA_COVERED, "False", Reason.NOT_ON_KEY, message))
    found = not_covered((*seen.parts, *(parts.found or ())), wanted)
    if parts.found is None:
        carried = _carried(resource) if not parts.is_old else None
        if carried is not None:
            found = merged(found, carried.entries)
        if carried is None or any(one.covered == "No" for one in found):
            return _told(resource, found, Reason.COVERAGE_NOT_READ, _unread(resource, is_old=parts.is_old))
        return Coverage(carried.aspect, found)
    return _told(resource, found, None, "")


def _told(resource: EncryptedResource, found: tuple[NotCovered, ...], unknown: Reason | None, why: str) -> Coverage:
    kind = ConditionType.DATA_COVERED
    certain = tuple(one for one in found if one.covered == "No")
    if certain:
        message = f"not under the key: {named(certain)}; {_remedy(certain)}"
        return Coverage(Aspect(kind, "False", Reason.DATA_NOT_COVERED, message), found)
    if unknown is not None:
        return Coverage(Aspect(kind, "Unknown", unknown, why), found)
    if found:
        message = f"{resource.service} does not show whether the key protects: {named(found)}; {_remedy(found)}"
        return Coverage(Aspect(kind, "Unknown", Reason.COVERAGE_NOT_SHOWN, message), found)
    described = KINDS.get(resource.spec.target.resource_type)
    but = f", but {described.never_covered}" if described is not None and described.never_covered else ""
    message = f"{resource.service} shows no data of the resource that the key does not protect{but}"
    return Coverage(Aspect(kind, "True", Reason.ALL_DATA_COVERED, message))


def _remedy(entries: tuple[NotCovered, ...]) -> str:
    """Who can do what about the first of them; status lists the rest."""
    first = f"for {entries[0].part}, {entries[0].remedy}"
    return first if len(entries) == 1 else f"{first}; status.details.notCovered says it for each"


def _unread(resource: EncryptedResource, *, is_old: bool) -> str:
    when = "have not been read for more than three of their intervals" if is_old else "have not been read yet"
    return f"those parts of the resource for which {resource.service} may use another key {when}"


def _carried(resource: EncryptedResource) -> Coverage | None:
    """What status says of the same resource on the same key; None if it says nothing."""
    before = resource.status
    condition = find(before.conditions, ConditionType.DATA_COVERED)
    if (
        condition is None
        or before.observed_generation != resource.metadata.generation
        or condition.known_reason in _NOT_CARRIED
    ):
        return None
    aspect = Aspect(ConditionType.DATA_COVERED, condition.status, condition.known_reason, condition.message)
    return Coverage(aspect, _entries(resource))


def _entries(resource: EncryptedResource) -> tuple[NotCovered, ...]:
    details = resource.status.details
    listed = details.not_covered if details is not None else ()
    return tuple(NotCovered(one.part, one.covered, one.protected_by or "", one.remedy or "") for one in listed)
