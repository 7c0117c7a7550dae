"""What each operation does with one item: which data key it needs, and what it makes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cmk_keyservice.crypto.ciphertext import data_key_id_of, header_of
from cmk_keyservice.crypto.context import common_context, own_context
from cmk_keyservice.crypto.suites import Bound, keyed_index
from cmk_keyservice.http import bodies
from cmk_keyservice.keys.uses import INDEX, LEASED, WRAP, is_data, is_wrap
from cmk_keyservice.problem import Kind, Problem, ProblemError, problem_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from cmk_keyservice.callers.caller import Caller, Place
    from cmk_keyservice.callers.reviews import Reviews
    from cmk_keyservice.keys.data_key import DataKey, Lease

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
    """Asks for the newest data key of a service and purpose."""

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
    _known: dict[Wanted, DataKey | Problem] = field(default_factory=dict)
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
                # Not the error: its traceback would hold this request, and this request the error.
                known = error.problem
            self._known[wanted] = known
        if isinstance(known, Problem):
            raise ProblemError(known)
        return known

    def confirm(self) -> None:
        """Raises `ProblemError` if a data key that was used may not be used any more: the process may have stood still."""
        for known in self._known.values():
            if not isinstance(known, Problem) and not self.source.in_force(known):
                raise problem_error(
                    Kind.UNAVAILABLE,
                    "AccessNotProven",
                    "while the request was carried out, the last proof that the organization's key admits the key service ended",
                    "retry",
                    retry_after=1.0,
                )

    async def find_all(self, operation: Operation, asks: Sequence[Ask | Problem]) -> dict[Ask, Use | Problem]:
        """What the items of a request ask for, each once, and all at the same time: a batch over cold data keys waits once."""
        slots = asyncio.Semaphore(AT_ONCE)
        found: dict[Ask, Use | Problem] = {}

        async def find(ask: Ask) -> None:
            async with slots:
                try:
                    found[ask] = await operation.find(self, ask)
                except ProblemError as error:
                    found[ask] = error.problem

        distinct = [ask for ask in dict.fromkeys(asks) if not isinstance(ask, Problem)]
        if len(distinct) == 1:
            await find(distinct[0])
        else:
            await asyncio.gather(*map(find, distinct))
        return found

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


Ask = tuple[str | None, Any]
"""What in an item tells its data key: the service that it names, and its purpose (text) or the header of its ciphertext (bytes).

Most items of a batch ask for the same; what that takes is done once for all of them.
"""


@dataclass(frozen=True, slots=True)
class Use:
    """A data key in the hands of one request. `newest` is what a ciphertext is brought under, or why there is no such key."""

    key: DataKey
    bound: Bound
    newest: Use | Problem | None = None


Find = Callable[[Work, Ask], Awaitable[Use]]
"""How a request gets what an item asks for."""


def _use(key: DataKey, newest: Use | Problem | None = None) -> Use:
    """A caller that encrypts with a leased key writes its purpose without the prefix."""
    common = common_context(key.organization, key.service, key.purpose.removeprefix(LEASED))
    return Use(key, Bound(key.primitive, common), newest)


def other_use(data_key_id: UUID) -> ProblemError:
    """A data key serves one use, and this is another."""
    return problem_error(
        Kind.INVALID,
        "OtherUse",
        f"data key {data_key_id} serves another operation",
        "the caller must send what encrypt made to decrypt or reencrypt, and what wrap made to unwrap or rewrap",
    )


def _newest(prefix: str = "") -> Find:
    """Finds the newest data key of the purpose that is asked for."""

    async def find(work: Work, ask: Ask) -> Use:
        named, purpose = ask
        return _use(await work.key(Newest(await work.service_of(named), prefix + purpose)))

    return find


async def _first(work: Work, ask: Ask) -> Use:
    named, purpose = ask
    return _use(await work.key(First(await work.service_of(named), INDEX + purpose)))


def _named(fits: Callable[[str], bool], *, renewed: bool = False) -> Find:
    """Finds the data key of the header that is asked for, whose purpose must be one that `fits`."""

    async def find(work: Work, ask: Ask) -> Use:
        named, begin = ask
        service = await work.service_of(named)
        key = await work.key(Named(data_key_id_of(begin), service))
        if not fits(key.purpose):
            raise other_use(key.id)
        if not renewed:
            return _use(key)
        try:
            return _use(key, _use(await work.key(Newest(service, key.purpose))))
        except ProblemError as error:
            return _use(key, error.problem)  # told for each ciphertext that is authentic

    return find


def encrypt(use: Use, item: bodies.Encrypt) -> bodies.Encrypted:
    """Encrypt under the newest data key."""
    sealed = use.bound.seal(item.plaintext, own_context(item.context))
    return bodies.Encrypted(ciphertext=sealed, data_key_id=use.key.id, reference=item.reference)


def decrypt(use: Use, item: bodies.Decrypt) -> bodies.Decrypted:
    """Decrypt by the data key that the ciphertext names; also what a caller encrypted with a leased one."""
    return bodies.Decrypted(plaintext=use.bound.open_(item.ciphertext, own_context(item.context)), reference=item.reference)


def _renewed(use: Use, data: bytes, old: Mapping[str, str], new: Mapping[str, str]) -> tuple[bytes, UUID, bool]:
    plaintext, newest = use.bound.open_(data, own_context(old)), use.newest
    if isinstance(newest, Problem):
        raise ProblemError(newest)
    if newest is None or (newest.key.id == use.key.id and old == new):
        return data, use.key.id, False
    return newest.bound.seal(plaintext, own_context(new)), newest.key.id, True


def reencrypt(use: Use, item: bodies.Reencrypt) -> bodies.Reencrypted:
    """Decrypt and encrypt again, here."""
    new = item.context if item.new_context is None else item.new_context
    data, key, changed = _renewed(use, item.ciphertext, item.context, new)
    return bodies.Reencrypted(ciphertext=data, data_key_id=key, changed=changed, reference=item.reference)


def index(use: Use, item: bodies.Index) -> bodies.Indexed:
    """The keyed index of a value."""
    return bodies.Indexed(index=keyed_index(use.key.primitive, item.field, item.value), reference=item.reference)


def wrap(use: Use, item: bodies.Wrap) -> bodies.Wrapped:
    """Wrap a caller's own key."""
    sealed = use.bound.seal(item.key, own_context(item.context))
    return bodies.Wrapped(wrapped_key=sealed, data_key_id=use.key.id, reference=item.reference)


def unwrap(use: Use, item: bodies.Unwrap) -> bodies.Unwrapped:
    """Unwrap a caller's own key."""
    return bodies.Unwrapped(key=use.bound.open_(item.wrapped_key, own_context(item.context)), reference=item.reference)


def rewrap(use: Use, item: bodies.Rewrap) -> bodies.Rewrapped:
    """Unwrap and wrap again, here."""
    data, key, changed = _renewed(use, item.wrapped_key, item.context, item.context)
    return bodies.Rewrapped(wrapped_key=data, data_key_id=key, changed=changed, reference=item.reference)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on items: its route, the verb that it needs, its bodies, and what it does with one item."""

    name: str
    summary: str
    item: type[bodies.Body]
    result: type[bodies.Result]
    ask: Callable[[Any], Ask]
    """What an item asks for. Raises `ProblemError` if it is wrong in itself."""
    find: Find
    """Finds that, once for all items of a request that ask for it. Raises `ProblemError`."""
    run: Callable[[Use, Any], bodies.Result]
    """What is made of one item. Raises `ProblemError`."""

    @property
    def verb(self) -> str:
        """The verb on organizationkeys/data that a caller needs."""
        return self.name


def _purpose(item: bodies.Encrypt | bodies.Wrap | bodies.Index) -> Ask:
    return item.service, item.purpose


def _ciphertext(item: bodies.Decrypt | bodies.Reencrypt) -> Ask:
    return item.service, header_of(item.ciphertext)


def _wrapped_key(item: bodies.Unwrap | bodies.Rewrap) -> Ask:
    return item.service, header_of(item.wrapped_key)


OPERATIONS: Final = (
    Operation(
        "encrypt",
        "Encrypt data under the newest data key of its purpose.",
        bodies.Encrypt,
        bodies.Encrypted,
        _purpose,
        _newest(),
        encrypt,
    ),
    Operation("decrypt", "Decrypt data.", bodies.Decrypt, bodies.Decrypted, _ciphertext, _named(is_data), decrypt),
    Operation(
        "reencrypt",
        "Bring ciphertexts under the newest data key, or into another context, without a plaintext in the answer.",
        bodies.Reencrypt,
        bodies.Reencrypted,
        _ciphertext,
        _named(is_data, renewed=True),
        reencrypt,
    ),
    Operation(
        "index",
        "Make keyed indexes, by which encrypted fields can be searched for equality.",
        bodies.Index,
        bodies.Indexed,
        _purpose,
        _first,
        index,
    ),
    Operation("wrap", "Wrap keys of the caller's own.", bodies.Wrap, bodies.Wrapped, _purpose, _newest(WRAP), wrap),
    Operation(
        "unwrap",
        "Unwrap keys of the caller's own.",
        bodies.Unwrap,
        bodies.Unwrapped,
        _wrapped_key,
        _named(is_wrap),
        unwrap,
    ),
    Operation(
        "rewrap",
        "Bring wrapped keys under the newest data key, without a key in the answer.",
        bodies.Rewrap,
        bodies.Rewrapped,
        _wrapped_key,
        _named(is_wrap, renewed=True),
        rewrap,
    ),
)
