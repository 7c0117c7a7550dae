"""Reads the provider's Licence for all organizations together, at most every few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from cmk_operator.api.licence import NAME, Licence, LicenceSpec
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.kubernetes.client import KubernetesClient

READ_EVERY: Final = 15.0
"""Seconds between two reads, however many organizations ask. The admission policy judges at once, without the operator."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Why the Licence cannot be read, and who must act."""

    message: str


class Licences:
    """The Licence as it was last read; `monotonic` is in seconds."""

    def __init__(self, client: KubernetesClient, monotonic: Callable[[], float], *, used: bool) -> None:
        self.used: Final = used
        self._client, self._monotonic = client, monotonic
        self._read_at = float("-inf")
        self._found: LicenceSpec | Unread | None = None

    async def read(self, *, anew: bool = False) -> LicenceSpec | Unread | None:
        """The Licence; None if the provider has not written one. `anew`: a pass was asked for, by somebody who waits."""
        now = self._monotonic()
        if anew or now - self._read_at >= READ_EVERY:
            self._read_at = now
            self._found = await self._ask()
        return self._found

    async def _ask(self) -> LicenceSpec | Unread | None:
        try:
            body = await self._client.get(ObjectReference(Licence.plural, "", NAME))
            return Licence.model_validate(body).spec if body is not None else None
        except KubernetesError as error:
            return Unread(
                f"the operator cannot read the Licence {NAME} ({error}): the provider's administrator must let its ServiceAccount read it, "
                "which the chart does with licences.enabled"
            )
        except ValidationError as error:
            return Unread(
                f"the Licence {NAME} has a form that this release does not read ({error.error_count()} fields): the provider's "
                "administrator must bring the definitions and the operator to the same release"
            )
