"""What each operation does with one item: which data key it needs, and what it makes with it.

A data key serves one use only, which its purpose in the table tells: data that is encrypted here (`orders`), keys of callers that
are wrapped here (`wrap/orders`), indexes (`index/orders`), and keys that leave the service on a lease (`leased/orders`). So the
right to one use is never the right to another.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cmk_keyservice.crypto.ciphertext import parse
from cmk_keyservice.crypto.context import data_context
from cmk_keyservice.crypto.suites import keyed_index, open_, seal
from cmk_keyservice.http import bodies
from cmk_keyservice.problem import Kind, ProblemError, problem_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from uuid import UUID

    from cmk_keyservice.callers.caller import Caller, Place
    from cmk_keyservice.callers.reviews import Reviews
    from cmk_keyservice.crypto.ciphertext import Ciphertext
    from cmk_keyservice.keys.data_key import DataKey, Lease

WRAP: Final = "wrap/"
INDEX: Final = "index/"
LEASED: Final = "leased/"
SHARE: Final = "share"
AT_ONCE: Final = 16
"""Data keys that one request asks for at the same time."""


class DataKeySource(Protocol):
    """Where data keys come from. Each raises `ProblemError` for a key that may not be used now."""

    async def current(self, organization: str, service: str, purpose: str) -> DataKey:
        """The newest data key; the first one is made."""

    async def first(self, organization: str, service: str, purpose: str) -> DataKey:
        """The first data key, which never makes room for a newer one."""

    async def by_id(self, organization: str, data_key_id: UUID) -> DataKey:
        """The data key of this id."""

    async def lease(self, organization: str, service: str, purpose: str, data_key_id: UUID | None = None) -> Lease:
        """A data key that a caller may hold for some seconds: the one of this id, or the newest."""

    def in_force(self, data_key: DataKey) -> bool:
        """Whether what was made with the data key may still leave this process."""


class Newest(NamedTuple):
    """Asks for the newest data key of a service and purpose. A tuple, because it is hashed for every item of a batch."""

    service: str
    purpose: str
    what: str = "newest"


class First(NamedTuple):
    """Asks for the first data key of a service and purpose."""

    service: str
    purpose: str
    what: str = "first"


class Named(NamedTuple):
    """Asks for the data key of an id, on behalf of a service."""

    id: UUID
    service: str
    what: str = "named"


Wanted = Newest | First | Named


@dataclass(slots=True)
class Work:
    """One request: for whom, and the data keys that it has asked for, each once."""

    caller: Caller
    organization: str
    place: Place
    source: DataKeySource
    reviews: Reviews
    _known: dict[Wanted, DataKey | ProblemError] = field(default_factory=dict)
    _shared: bool = False
    own: str = field(init=False)
    """The caller's own service."""

    def __post_init__(self) -> None:
        self.own = self.caller.service

    async def service_of(self, named: str | None) -> str:
        """The service whose data it is. Raises `ProblemError` if it is not the caller's and the caller may not `share`."""
        if named is None or named == self.own:
            return self.own
        if not self._shared:
            await self.reviews.require(self.caller, self.place, SHARE, self.organization)
            self._shared = True
        return named

    async def key(self, wanted: Wanted) -> DataKey:
        """The data key. Raises `ProblemError`, also if it is another service's."""
        known = self._known.get(wanted)
        if known is None:
            try:
                known = await self._ask(wanted)
            except ProblemError as error:
                known = error
            self._known[wanted] = known
        if isinstance(known, ProblemError):
            raise known
        return known

    def confirm(self) -> None:
        """Raises `ProblemError` if a data key that was used may not be used any more: the process may have stood still."""
        for known in self._known.values():
            if not isinstance(known, ProblemError) and not self.source.in_force(known):
                raise problem_error(
                    Kind.UNAVAILABLE,
                    "AccessNotProven",
                    "while the request was carried out, the last proof that the organization's key admits the key service ended",
                    "retry",
                    retry_after=1.0,
                )

    async def prepare(self, wanted: Iterable[Wanted]) -> None:
        """Ask for many data keys at the same time, so that a batch over cold ones does not wait for each in turn."""
        distinct = dict.fromkeys(wanted)
        if len(distinct) < 2:
            return
        slots = asyncio.Semaphore(AT_ONCE)

        async def ask(one: Wanted) -> None:
            async with slots:
                try:
                    await self.key(one)
                except ProblemError:
                    return  # told for each item that needs it

        await asyncio.gather(*(ask(one) for one in distinct))

    async def _ask(self, wanted: Wanted) -> DataKey:
        match wanted:
            case Newest(service, purpose, _):
                return await self.source.current(self.organization, service, purpose)
            case First(service, purpose, _):
                return await self.source.first(self.organization, service, purpose)
            case Named(data_key_id, service, _):
                key = await self.source.by_id(self.organization, data_key_id)
                if key.service != service:
                    raise problem_error(
                        Kind.FORBIDDEN,
                        "OtherService",
                        f"data key {data_key_id} belongs to another service than {service}",
                        "the caller must name that service in `service`, for which it needs the verb share",
                    )
                return key


def _bound_to(key: DataKey, pairs: Mapping[str, str]) -> bytes:
    """What a ciphertext is bound to. A caller that encrypts with a leased key writes its purpose without the prefix."""
    return data_context(key.organization, key.service, key.purpose.removeprefix(LEASED), pairs)


def other_use(data_key_id: UUID) -> ProblemError:
    """A data key serves one use, and this is another."""
    return problem_error(
        Kind.INVALID,
        "OtherUse",
        f"data key {data_key_id} serves another operation",
        "the caller must send what encrypt made to decrypt or reencrypt, and what wrap made to unwrap or rewrap",
    )


def _seal(key: DataKey, plaintext: bytes, pairs: Mapping[str, str]) -> bytes:
    return seal(key.primitive, plaintext, _bound_to(key, pairs))


def _open(key: DataKey, ciphertext: Ciphertext, pairs: Mapping[str, str]) -> bytes:
    return open_(key.primitive, ciphertext, _bound_to(key, pairs))


def _is_data(purpose: str) -> bool:
    return not purpose.startswith((WRAP, INDEX))


async def encrypt(work: Work, item: bodies.Encrypt) -> bodies.Encrypted:
    """Encrypt under the newest data key."""
    key = await work.key(Newest(await work.service_of(item.service), item.purpose))
    return bodies.Encrypted(ciphertext=_seal(key, item.plaintext, item.context), data_key_id=key.id, reference=item.reference)


async def decrypt(work: Work, item: bodies.Decrypt) -> bodies.Decrypted:
    """Decrypt by the data key that the ciphertext names; also what a caller encrypted with a leased one."""
    ciphertext = parse(item.ciphertext)
    key = await work.key(Named(ciphertext.data_key_id, await work.service_of(item.service)))
    if not _is_data(key.purpose):
        raise other_use(key.id)
    return bodies.Decrypted(plaintext=_open(key, ciphertext, item.context), reference=item.reference)


async def _renewed(
    work: Work, data: bytes, named: str | None, old: Mapping[str, str], new: Mapping[str, str], *, wrapped: bool
) -> tuple[bytes, UUID, bool]:
    ciphertext = parse(data)
    service = await work.service_of(named)
    key = await work.key(Named(ciphertext.data_key_id, service))
    if key.purpose.startswith(WRAP) is not wrapped or not (wrapped or _is_data(key.purpose)):
        raise other_use(key.id)
    plaintext = _open(key, ciphertext, old)
    newest = await work.key(Newest(service, key.purpose))
    if newest.id == key.id and old == new:
        return data, key.id, False
    return _seal(newest, plaintext, new), newest.id, True


async def reencrypt(work: Work, item: bodies.Reencrypt) -> bodies.Reencrypted:
    """Decrypt and encrypt again, here."""
    new = item.context if item.new_context is None else item.new_context
    data, key, changed = await _renewed(work, item.ciphertext, item.service, item.context, new, wrapped=False)
    return bodies.Reencrypted(ciphertext=data, data_key_id=key, changed=changed, reference=item.reference)


async def index(work: Work, item: bodies.Index) -> bodies.Indexed:
    """The keyed index of a value."""
    key = await work.key(First(await work.service_of(item.service), INDEX + item.purpose))
    return bodies.Indexed(index=keyed_index(key.primitive, item.field, item.value), reference=item.reference)


async def wrap(work: Work, item: bodies.Wrap) -> bodies.Wrapped:
    """Wrap a caller's own key."""
    key = await work.key(Newest(await work.service_of(item.service), WRAP + item.purpose))
    return bodies.Wrapped(wrapped_key=_seal(key, item.key, item.context), data_key_id=key.id, reference=item.reference)


async def unwrap(work: Work, item: bodies.Unwrap) -> bodies.Unwrapped:
    """Unwrap a caller's own key."""
    ciphertext = parse(item.wrapped_key)
    key = await work.key(Named(ciphertext.data_key_id, await work.service_of(item.service)))
    if not key.purpose.startswith(WRAP):
        raise other_use(key.id)
    return bodies.Unwrapped(key=_open(key, ciphertext, item.context), reference=item.reference)


async def rewrap(work: Work, item: bodies.Rewrap) -> bodies.Rewrapped:
    """Unwrap and wrap again, here."""
    data, key, changed = await _renewed(work, item.wrapped_key, item.service, item.context, item.context, wrapped=True)
    return bodies.Rewrapped(wrapped_key=data, data_key_id=key, changed=changed, reference=item.reference)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on items: its route, the verb that it needs, its bodies, and what it does with one item."""

    name: str
    summary: str
    item: type[bodies.Body]
    result: type[bodies.Result]
    run: Callable[[Work, Any], Awaitable[bodies.Result]]
    needs: Callable[[str, Any], Wanted | None]
    """The data key that an item of a service will ask for, where the item alone tells it."""

    @property
    def verb(self) -> str:
        """The verb on organizationkeys/data that a caller needs."""
        return self.name


def _named(own: str, data: bytes, service: str | None) -> Wanted | None:
    try:
        return Named(parse(data).data_key_id, service or own)
    except ProblemError:
        return None  # told for the item


OPERATIONS: Final = (
    Operation(
        "encrypt",
        "Encrypt data under the newest data key of its purpose.",
        bodies.Encrypt,
        bodies.Encrypted,
        encrypt,
        lambda own, item: Newest(item.service or own, item.purpose),
    ),
    Operation(
        "decrypt",
        "Decrypt data.",
        bodies.Decrypt,
        bodies.Decrypted,
        decrypt,
        lambda own, item: _named(own, item.ciphertext, item.service),
    ),
    Operation(
        "reencrypt",
        "Bring ciphertexts under the newest data key, or into another context, without a plaintext in the answer.",
        bodies.Reencrypt,
        bodies.Reencrypted,
        reencrypt,
        lambda own, item: _named(own, item.ciphertext, item.service),
    ),
    Operation(
        "index",
        "Make keyed indexes, by which encrypted fields can be searched for equality.",
        bodies.Index,
        bodies.Indexed,
        index,
        lambda own, item: First(item.service or own, INDEX + item.purpose),
    ),
    Operation(
        "wrap",
        "Wrap keys of the caller's own.",
        bodies.Wrap,
        bodies.Wrapped,
        wrap,
        lambda own, item: Newest(item.service or own, WRAP + item.purpose),
    ),
    Operation(
        "unwrap",
        "Unwrap keys of the caller's own.",
        bodies.Unwrap,
        bodies.Unwrapped,
        unwrap,
        lambda own, item: _named(own, item.wrapped_key, item.service),
    ),
    Operation(
        "rewrap",
        "Bring wrapped keys under the newest data key, without a key in the answer.",
        bodies.Rewrap,
        bodies.Rewrapped,
        rewrap,
        lambda own, item: _named(own, item.wrapped_key, item.service),
    ),
)
