"""Lists of what uses keys in a subscription, whether a manifest names it or not (docs/decisions/0100).

They are plain requests, read one object after the other: no SDK is loaded for a kind that no manifest uses, and nothing is kept
but the resources on a key. An object that cannot be read is not left out: it makes the users of every key unknown.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.fault import Actor, Fault, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import ArmId, InvalidArmIdError, parse_arm_id
from cmk_operator.core.identifiers.key_uri import InvalidKeyUriError, KeyUri, parse_reported_key_uri
from cmk_operator.core.rotation.azure_use import AzureUser, FoundUse
from cmk_operator.core.text.foreign_text import cleaned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from datetime import datetime

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession

DETAILS_IN_A_PASS: Final = 100
"""Most resources of a list that are read one by one in a pass; Azure Storage allows 800 reads in five minutes."""
_AT_ONCE: Final = 8
_SLICE: Final = 50
"""Objects that are read before other tasks may run."""
_NOT_REGISTERED: Final = "missingsubscriptionregistration"
"""The subscription has never used the resource provider, and Azure unregisters none that has resources."""
_READER: Final = "Reader"
_MANAGED_HSM: Final = re.compile(r"https://[a-z0-9-]+\.managedhsm\.[a-z.]+(:443)?/", re.IGNORECASE)
_LONGEST_ID: Final = 200


@dataclass(frozen=True, slots=True)
class Detail:
    """What one resource uses, and when that was requested."""

    at: datetime
    found: FoundUse


@dataclass(slots=True)
class Details:
    """Reads what a list does not show of its resources, such as encryption scopes and the databases of a server.

    That costs calls for each resource, so it is done only while a version waits to be called safe (`wanted`), and some in each
    pass, so that nothing else waits for the call budget. What an earlier pass read counts until it is older than `not_before`;
    a resource on a key is read again, also while nothing waits, when it is older than `users_not_before`. When Azure throttles or
    is silent, the rest waits for the next pass.
    """

    clock: Callable[[], datetime]
    not_before: datetime
    users_not_before: datetime
    known: Mapping[str, Detail] = field(default_factory=dict)
    """What earlier passes read, by `ArmId.key`."""
    wanted: bool = True
    read: dict[str, Detail] = field(default_factory=dict)
    """What counts after this pass."""
    complete: bool = True
    """Whether every resource was read, and late enough."""
    _left: int = DETAILS_IN_A_PASS
    _fault: Fault | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    @property
    def oldest(self) -> datetime | None:
        """When the oldest of the details was requested; None if there are none."""
        return min((one.at for one in self.read.values()), default=None)

    async def get(self, resource: ArmId, of: str, read: Callable[[], Awaitable[FoundUse]]) -> FoundUse:
        """What one resource of the list `of` uses; a fault that is the same for all of them if it is not read in this pass."""
        held = self.known.get(resource.key)
        uses = held is not None and held.found != _NOTHING
        limit = max(self.users_not_before, self.not_before) if uses else self.not_before
        if held is not None and (held.at >= limit or not (self.wanted or uses)):
            self.complete &= held.at >= self.not_before
            self.read[resource.key] = held
            return held.found
        if not self.wanted and not uses:
            self.complete = False
            return _NOTHING
        return await self._read(resource, of, read)

    async def _read(self, resource: ArmId, of: str, read: Callable[[], Awaitable[FoundUse]]) -> FoundUse:
        async with self._slots:
            if self._fault is None and self._left <= 0:
                self._fault = busy(Reason.NOT_LISTED_YET, f"{of} are many: what each of them uses is still being read")
            if self._fault is not None:
                self.complete = False
                return FoundUse(unlisted=(self._fault,))
            self._left -= 1
            at = self.clock()
            found = await read()
        self.complete &= not found.unlisted
        passing = next((one for one in found.unlisted if not one.needs_a_person and one.reason is not Reason.UNREADABLE), None)
        if passing is not None:
            message = f"Azure throttles or gives no usable answer while {of} are read one by one"
            self._fault = busy(passing.reason, message, passing.retry_after)
            return FoundUse(found.users, found.backups, (self._fault,))
        if not found.unlisted:
            self.read[resource.key] = Detail(at, found if found != _NOTHING else _NOTHING)
        return found


_NOTHING: Final = FoundUse()


class UserList(Protocol):
    """The list of one kind's resources in a subscription."""

    @property
    def shown(self) -> str:
        """The resources in the plural, for messages."""

    @property
    def action(self) -> str:
        """The action that shows every one of them."""

    async def read(self, chain: IdentityChain, subscription_id: str, listed: frozenset[str], details: Details) -> FoundUse:
        """What uses a key in the subscription. Raises what an Azure call raises if the list itself is refused.

        `listed` are the subscriptions that are listed too: a resource elsewhere is read by itself. `details` reads what a list
        does not show of a resource.
        """


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to Resource Manager as one identity, of one api-version."""

    session: AzureSession
    chain: IdentityChain
    api_version: str

    async def one(self, path: str, **query: str) -> dict[str, Any]:
        """GET one object. Raises what an Azure call raises."""
        return await self.session.resource_manager(self.chain).call("GET", path, {"api-version": self.api_version, **query})

    async def entries(self, path: str) -> AsyncIterator[object]:
        """Every entry of a list, whatever it is. Raises what an Azure call raises."""
        number = 0
        async for page in self.session.resource_manager(self.chain).entries(path, {"api-version": self.api_version}):
            for entry in page:
                yield entry
                number += 1
                if number % _SLICE == 0:
                    await asyncio.sleep(0)


@dataclass(slots=True)
class Found:
    """What is found while lists are read."""

    users: list[AzureUser] = field(default_factory=list)
    unlisted: list[Fault] = field(default_factory=list)

    def read(self, entry: object, of: str, reader: Callable[[ArmId, Mapping[str, Any]], Iterable[AzureUser]]) -> ArmId | None:
        """Read one object of the list `of`; returns its id, or None if the object cannot be read."""
        try:
            with typed_answer():
                body = fields(entry)
                resource = id_of(body)
                self.users.extend(reader(resource, fields(body.get("properties"))))
                return resource
        except UnreadableError:
            self.unlisted.append(_unreadable(entry, of))
            return None

    @property
    def use(self) -> FoundUse:
        """All of it."""
        return FoundUse(tuple(self.users), (), tuple(self.unlisted))


def _unreadable(entry: object, of: str) -> Fault:
    named = entry.get("id") if isinstance(entry, dict) else None
    shown = cleaned(named, _LONGEST_ID) if isinstance(named, str) else ""
    message = f"Azure's answer about {shown or 'one of'} {'among ' if shown else ''}{of} cannot be read, so nothing is concluded from it"
    return Fault(Reason.UNREADABLE, message, Actor.AZURE)


def fields(value: object) -> Mapping[str, Any]:
    """An object of the answer. Raises TypeError for anything else."""
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def text(value: object) -> str:
    """A text of the answer; empty for null. Raises TypeError for anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def id_of(body: Mapping[str, Any]) -> ArmId:
    """The id of a resource. Raises ValueError if it is none."""
    try:
        return parse_arm_id(text(body.get("id")))
    except InvalidArmIdError as error:
        raise ValueError("id") from error


def user_of(resource: ArmId, key_uri: str, version: str = "") -> AzureUser | None:
    """The use of the key that a service names with an identifier; None for a key of a managed HSM, which no manifest can name.

    `version` is the one in force, if the identifier has none. Raises ValueError for an identifier that cannot be read.
    """
    try:
        key = parse_reported_key_uri(key_uri)
    except InvalidKeyUriError as error:
        if _MANAGED_HSM.match(key_uri):
            return None
        raise ValueError("key") from error
    return AzureUser(resource, KeyUri(key.vault_host, key.key_name), (key.version or version).lower())


async def read_list(
    wanted: UserList, chain: IdentityChain, subscription_id: str, listed: frozenset[str], details: Details
) -> FoundUse:
    """What one list shows; a refusal of the list is a fault with the reason and who must act."""
    try:
        return await wanted.read(chain, subscription_id, listed, details)
    except EXPECTED_FAILURES as error:
        failure = failure_of(error)
        if failure.code.lower() == _NOT_REGISTERED:
            return FoundUse()
        return FoundUse(
            unlisted=(judge_arm_failure(failure, f"the {wanted.shown} of subscription {subscription_id}", _READER),)
        )


def refused(error: Exception, what: str) -> Fault:
    """The fault of a refused read, with the reason and who must act; `what` is what was read, for people."""
    return judge_arm_failure(failure_of(error), what, _READER)
