"""Reads Azure's lists of what uses keys, one tenant at a time, and keeps the result for the passes over its keys.

It is a lane of its own in the work queue, so that a slow list delays no probe. A key requests lists that are newer than the moment
at which the last user left a version; otherwise they are read once in `SLOWLY` drift intervals. What no list shows costs a call for
each resource, and is read only while a version waits to be called safe, or something holds one (docs/decisions/0100).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.azure.permissions import permissions_at
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.kinds.required_actions import missing_actions
from cmk_operator.core.old_claims import INTERVALS
from cmk_operator.core.rotation.azure_use import FoundUse, UseInAzure
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.client import ObjectReference
from cmk_operator.providers.user_lists import Details, read_list
from cmk_operator.reconcile.collaborators.intervals import jittered
from cmk_operator.reconcile.references import resolve_chain, resolve_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.providers.user_lists import Detail, UserList
    from cmk_operator.reconcile.collaborators.cluster import Cluster

LANE: Final = "azurelists"
SLOWLY: Final = 12
"""Drift intervals between two reads of lists that nothing waits for."""
_UNTIL_LISTED: Final = 1.0
PARTS_FOR: Final = 288
"""Drift intervals for which what no list shows counts: a day by default."""
_FIRST_AFTER: Final = 0.5
"""Drift intervals until the first read that nothing waits for, so that the first passes of new manifests come before it."""
_RETRY: Final = 0.5
"""Drift intervals that must pass after a read that was refused or is not complete."""
_SOON: Final = 0.1
"""Drift intervals that must pass between two reads, whoever requests one."""


def lists_of(tenant: str) -> ObjectReference:
    """The work item that reads the lists of a tenant."""
    return ObjectReference(LANE, "", tenant)


@dataclass(slots=True)
class _Tenant:
    """What is known for one tenant. Times are seconds of the session's clock, but for `listed_at` and `newer_than`."""

    asked: float
    """When a key first asked for it."""
    tried: float = float("-inf")
    read: float = float("-inf")
    listed_at: datetime | None = None
    """When the oldest of its lists was requested."""
    newer_than: datetime | None = None
    """The latest moment that a key asks the lists to be newer than."""
    by_key: Mapping[KeyUri, FoundUse] = field(default_factory=dict)
    unlisted: tuple[Fault, ...] = ()
    moving: bool = False
    """Whether a key waits for something in the lists to change."""
    parts_at: datetime | None = None
    """When the oldest read of what no list shows was requested."""
    left_at: datetime | None = None
    """When a version lost its last user that waits for what no list shows; None: nothing waits."""

    def satisfies(self, moment: datetime | None) -> bool:
        """Whether the lists are newer than a moment."""
        return moment is None or UseInAzure(listed_at=self.listed_at, parts_at=self.listed_at).is_newer_than(moment)


@dataclass(slots=True)
class _Listed:
    """What the lists of one subscription show."""

    at: datetime
    """When the first of them was requested."""
    parts: tuple[FoundUse, ...]
    """What each list shows; while one cannot be read whole, also what it showed before."""
    details: Mapping[str, Detail]
    """What was read of single resources."""
    parts_at: datetime | None
    """When the oldest of the details was requested; None if some are missing or too old."""

    @property
    def found(self) -> FoundUse:
        """What all lists show."""
        return FoundUse.of_all(self.parts)


class AzureLists:
    """The users of keys in Azure, by tenant. Memory only: a restart reads them again."""

    def __init__(
        self, session: AzureSession, lists: Sequence[UserList], interval: float, clock: Callable[[], datetime]
    ) -> None:
        self._session = session
        self._lists = lists
        self._interval = interval
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._subscriptions: dict[tuple[IdentityChain, str], _Listed] = {}
        self._locks: defaultdict[tuple[IdentityChain, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def __len__(self) -> int:
        """The number of tenants in memory."""
        return len(self._tenants)

    def of(self, tenant: str, key: KeyUri) -> UseInAzure | None:
        """What Azure shows on a key; None if the lists are still to be read for the first time.

        That is so for three intervals at most: then, and when the last lists are too old, nothing is known.
        """
        now = self._session.monotonic()
        known = self._tenants.setdefault(tenant, _Tenant(now))
        if known.listed_at is None and not known.unlisted:
            return None if now - known.asked < INTERVALS * self._interval else UseInAzure()
        found = known.by_key.get(key.versionless, FoundUse())
        parts_at = known.parts_at if self._counts(known.parts_at, PARTS_FOR) else None
        use = UseInAzure(FoundUse(found.users, found.backups, known.unlisted), known.listed_at, parts_at)
        return use if now - known.read < INTERVALS * SLOWLY * self._interval else UseInAzure(use.found)

    def _counts(self, parts_at: datetime | None, intervals: float) -> bool:
        """Whether a read of what no list shows is younger than a number of drift intervals."""
        return parts_at is not None and self._clock() - parts_at < timedelta(seconds=intervals * self._interval)

    def request(self, tenant: str, newer_than: datetime | None, *, moving: bool, left_at: datetime | None = None) -> bool:
        """Ask for lists that are newer than a moment (None: any); returns whether they must be read.

        `moving`: something in the lists still holds a version, so that they are read at each drift interval. `left_at`: the latest
        moment at which a version lost its last user, so that it waits for what no list shows; None: no version waits.
        """
        known = self._tenants.setdefault(tenant, _Tenant(self._session.monotonic()))
        known.moving |= moving
        if newer_than is not None and (known.newer_than is None or newer_than > known.newer_than):
            known.newer_than = newer_than
        seen = UseInAzure(listed_at=known.parts_at, parts_at=known.parts_at)
        waits = left_at is not None and not (seen.is_newer_than(left_at) and self._counts(known.parts_at, PARTS_FOR / 2))
        if waits and left_at is not None and (known.left_at is None or left_at > known.left_at):
            known.left_at = left_at
        return known.listed_at is None or waits or not known.satisfies(newer_than)

    def forget(self, tenant: str) -> None:
        """Drop a tenant that no key uses, and the subscriptions that nobody else reads."""
        self._tenants.pop(tenant, None)
        if not self._tenants:
            self._subscriptions.clear()
            self._locks.clear()

    def wait(self, tenant: str) -> float:
        """Seconds until the lists may be read again."""
        known = self._tenants.setdefault(tenant, _Tenant(self._session.monotonic()))
        moments = [one for one in (known.newer_than, known.left_at) if one is not None]
        if moments and self._clock() < max(moments) + timedelta(seconds=1):
            return 1.0
        if not moments and known.tried == float("-inf"):
            return max(0.0, known.asked + self._interval * _FIRST_AFTER - self._session.monotonic())
        pause = _RETRY if known.unlisted else _SOON
        return max(0.0, known.tried + self._interval * pause - self._session.monotonic())

    def refuse(self, tenant: str, fault: Fault) -> bool:
        """Note why no list can be read; returns whether that is new."""
        return self._note(tenant, None, FoundUse(unlisted=(fault,)))

    async def read(self, tenant: str, chain: IdentityChain, scopes: Sequence[ArmId]) -> bool:
        """Read every list of a tenant's subscriptions; returns whether its keys must know."""
        known = self._tenants[tenant]
        known.tried = self._session.monotonic()
        subscriptions = frozenset(scope.subscription_id for scope in scopes)
        listed = [await self._subscription(known, chain, one, subscriptions) for one in sorted(subscriptions)]
        hidden = await asyncio.gather(*(self._hidden(chain, one, scopes) for one in sorted(subscriptions)))
        unlisted = FoundUse(unlisted=tuple(fault for faults in hidden for fault in faults))
        oldest = min((one.at for one in listed), default=None)
        parts = [one.parts_at for one in listed]
        known.parts_at = None if None in parts else min((one for one in parts if one is not None), default=None)
        known.moving, known.left_at = False, None
        return self._note(tenant, oldest, FoundUse.of_all([*(one.found for one in listed), unlisted]))

    def after(self, tenant: str) -> float:
        """Seconds until the next read that nobody requests."""
        known = self._tenants[tenant]
        soon = known.moving or known.unlisted
        return jittered(self._interval if soon else self._interval * SLOWLY)

    def _note(self, tenant: str, listed_at: datetime | None, found: FoundUse) -> bool:
        known = self._tenants[tenant]
        by_key: defaultdict[KeyUri, list[FoundUse]] = defaultdict(list)
        for user in found.users:
            by_key[user.key].append(FoundUse(users=(user,)))
        for backup in found.backups:
            by_key[backup.key].append(FoundUse(backups=(backup,)))
        new: Mapping[KeyUri, FoundUse] = {key: FoundUse.of_all(parts) for key, parts in by_key.items()}
        if listed_at is None:
            new = known.by_key
        unlisted = tuple(sorted(found.unlisted, key=lambda fault: fault.message))
        first, waited = known.listed_at is None, not known.satisfies(known.newer_than)
        changed = first or waited or new != known.by_key or unlisted != known.unlisted
        known.by_key, known.unlisted, known.listed_at = new, unlisted, listed_at
        known.tried = known.read = self._session.monotonic()
        if known.satisfies(known.newer_than):
            known.newer_than = None
        return changed

    async def _subscription(
        self, known: _Tenant, chain: IdentityChain, subscription_id: str, listed: frozenset[str]
    ) -> _Listed:
        """The lists of one subscription, which tenants may share."""
        place = (chain, subscription_id)
        async with self._locks[place]:
            held, at = self._subscriptions.get(place), self._clock()
            if held is not None and self._is_enough(known, held, at):
                return held
            details = self._details(known, held, at)
            found = await asyncio.gather(
                *(
                    read_list(*one, listed, part)
                    for one, part in zip(self._places(chain, subscription_id), details, strict=True)
                )
            )
            oldest = min([at, *(one.oldest for one in details if one.oldest is not None)])
            read = {key: one for part in details for key, one in part.read.items()}
            whole = all(one.complete for one in details)
            before = held.parts if held is not None else (FoundUse(),) * len(found)
            parts = tuple(_with_known(new, old) for new, old in zip(found, before, strict=True))
            listing = _Listed(at, parts, read, oldest if whole else None)
            self._drop_unused(at)
            self._subscriptions[place] = listing
            return listing

    def _is_enough(self, known: _Tenant, held: _Listed, now: datetime) -> bool:
        """Whether lists that another tenant has just had read serve this one."""
        if now - held.at >= timedelta(seconds=self._interval * _SOON) or held.found.unlisted:
            return False
        seen = UseInAzure(listed_at=held.at, parts_at=held.at)
        if known.newer_than is not None and not seen.is_newer_than(known.newer_than):
            return False
        parts = UseInAzure(listed_at=held.at, parts_at=held.parts_at)
        return known.left_at is None or parts.is_newer_than(known.left_at)

    def _details(self, known: _Tenant, held: _Listed | None, now: datetime) -> list[Details]:
        """What is read one by one: everything while a version waits, else only what is known to be on a key."""
        not_before = now - timedelta(seconds=self._interval * PARTS_FOR / 2)
        if known.left_at is not None:
            not_before = max(not_before, known.left_at + timedelta(seconds=1))
        users_not_before = now - timedelta(seconds=self._interval * SLOWLY / 2)
        before = held.details if held is not None else {}
        wanted = known.left_at is not None or known.moving
        return [Details(self._clock, not_before, users_not_before, before, wanted) for _ in self._lists]

    def _drop_unused(self, now: datetime) -> None:
        """Drop the lists of subscriptions that no tenant names any more."""
        oldest = now - timedelta(seconds=INTERVALS * SLOWLY * self._interval)
        self._subscriptions = {place: listing for place, listing in self._subscriptions.items() if listing.at >= oldest}

    def _places(self, chain: IdentityChain, subscription_id: str) -> list[tuple[UserList, IdentityChain, str]]:
        return [(one, chain, subscription_id) for one in self._lists]

    async def _hidden(self, chain: IdentityChain, subscription_id: str, scopes: Sequence[ArmId]) -> tuple[Fault, ...]:
        """The scopes of which Azure shows the operator nothing: a list leaves out what its caller may not read."""
        missing = await self._missing(chain, ArmId(f"/subscriptions/{subscription_id}"))
        if not missing:
            return ()
        inside = [scope for scope in scopes if scope.subscription_id == subscription_id]
        found = await asyncio.gather(*(self._missing(chain, scope) for scope in inside))
        return tuple(_fault_of(scope, one) for scope, one in zip(inside, found, strict=True) if one)

    async def _missing(self, chain: IdentityChain, scope: ArmId) -> tuple[str, ...] | AzureFailure:
        """The actions that the operator lacks at a scope to see everything there."""
        found = await permissions_at(self._session, chain, scope)
        if isinstance(found, AzureFailure):
            return found
        return missing_actions(found, [one.action for one in self._lists])


def _with_known(new: FoundUse, before: FoundUse) -> FoundUse:
    """What a list shows; what cannot be read now is not gone, so what it showed before stays until it is read whole."""
    if not new.unlisted:
        return new
    return FoundUse.of_all([new, FoundUse(before.users, before.backups)])


def _fault_of(scope: ArmId, missing: tuple[str, ...] | AzureFailure) -> Fault:
    if isinstance(missing, AzureFailure):
        return judge_arm_failure(missing, f"the permissions at {scope}", "Reader")
    message = (
        f"the operator's managed identity may not do {', '.join(missing)} at {scope}, and Azure leaves out of a list what its caller "
        "may not read: the provider's administrator must assign it a role there, such as Reader"
    )
    return blocked(Reason.AUTHORIZATION_FAILED, message, Actor.PROVIDER_ADMINISTRATOR)


def _is_admitted(inventory: Inventory, reference: ObjectReference) -> bool:
    """Whether the tenant that a key names admits it; nothing is asked of Azure for one that it does not."""
    key = inventory.get(CustomerManagedKey, reference.name, reference.namespace)
    return key is not None and not isinstance(resolve_key(inventory, key), Fault)


async def read_lists(cluster: Cluster, lists: AzureLists, reference: ObjectReference) -> Next:
    """One pass over the lists of a tenant; enqueues its keys if they show something new, or what a key asked for."""
    tenant = cluster.inventory.get(CustomerTenant, reference.name)
    own = ObjectReference(CustomerTenant.plural, "", reference.name)
    keys = [one for one in cluster.inventory.referring_to(own) if one.plural == CustomerManagedKey.plural]
    # The first that is admitted is enough: each pass over a key may start this one, so it must not resolve all of them.
    if tenant is None or not any(_is_admitted(cluster.inventory, one) for one in keys):
        lists.forget(reference.name)
        return Next()
    # Before every manifest is known, resources would be said to have none.
    wait = lists.wait(reference.name) if cluster.inventory.complete else _UNTIL_LISTED
    if wait > 0:
        return Next(after=wait)
    resolved = resolve_chain(cluster.inventory, tenant)
    if isinstance(resolved, Fault):
        changed = lists.refuse(reference.name, resolved)
    else:
        changed = await lists.read(reference.name, resolved[1], tenant.grant.scopes)
    if changed:
        for key in keys:
            if _is_admitted(cluster.inventory, key):
                cluster.wake(key, 0.0)
    return Next(after=lists.after(reference.name))
