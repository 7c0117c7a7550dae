"""What the queries take and give."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Fence:
    """The accepted settings that a write relies on: the uid of the OrganizationKey, and `status.accepted.revision`."""

    uid: str
    revision: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What the database knows of an organization: the namespace that it belongs to, and its settings."""

    fence: Fence
    namespace: str


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was written: the database knows other settings than the writer; None if it knows none."""

    known: Fence | None


class Write(StrEnum):
    """What became of a compare-and-set."""

    WRITTEN = "Written"
    STALE = "Stale"
    """The row has another version by now, or is gone: read it again."""
    FENCED = "Fenced"
    """The database knows newer settings of the organization than the writer."""


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A data key that was just made and wrapped; `edek` is sealed by the internal key ring."""

    id: UUID
    organization: str
    service: str
    purpose: str
    epoch: int
    suite: int
    kid: str
    algorithm: str
    edek: bytes = field(repr=False)
    context_digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DataKeyRow:
    """A row of `data_key`; `age` is in seconds by the database's clock.

    `state` is `Retired` if the platform's key once wrapped it and the organization's own does now, else `Active`.
    """

    id: UUID
    organization: str
    service: str
    purpose: str
    epoch: int
    suite: int
    state: str
    kid: str
    algorithm: str
    edek: bytes = field(repr=False)
    context_digest: bytes = field(repr=False)
    created_at: datetime
    age: float
    row_version: int
    previous_kid: str | None
    previous_algorithm: str | None
    previous_edek: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """The new wrap of a data key, for a row that still has `row_version`."""

    id: UUID
    row_version: int
    kid: str
    algorithm: str
    edek: bytes = field(repr=False)
    retires: bool = False
    """Whether the data key's state is `Retired` from now on; it never becomes `Active` again."""


@dataclass(frozen=True, slots=True)
class KidCount:
    """How many rows are wrapped by a key version, and how many keep it as their previous one."""

    kid: str
    data_keys: int
    previous: int


@dataclass(frozen=True, slots=True)
class AccessRow:
    """How a key version was reached at some time; `credentials` are sealed by the internal key ring."""

    uid: str
    revision: int
    kid: str
    access: Mapping[str, Any]
    credentials: bytes | None = field(repr=False)
    age: float


class Word(StrEnum):
    """What the newest look at an organization's key said."""

    PROVEN = "Proven"
    REFUSED = "Refused"
    UNAVAILABLE = "Unavailable"
    THROTTLED = "Throttled"
    LOST = "Lost"


@dataclass(frozen=True, slots=True)
class Proof:
    """The newest look at an organization's key; ages are in seconds by the database's clock."""

    uid: str
    revision: int
    kid: str
    age: float | None
    """Of the newest success with these settings; None if there was none."""
    verdict: Word
    asked_age: float
    refused_age: float | None
    """Of the first refusal since the last success; None if it is not refused."""
    detail: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Word from another replica: something of this kind changed for an organization."""

    topic: str
    organization: str
