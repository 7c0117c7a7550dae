"""The requests that both SQL providers send, and what they remember of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cmk_operator.providers.arm import send_plan
from cmk_operator.providers.sql.wire import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.rest import Answer
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.providers.protocol import Plan, Started, Target

FactsT = TypeVar("FactsT")
QUERY: Final = {"api-version": API_VERSION}
RECOVERY_SECONDS: Final = 600.0
"""How long SQL is left to open databases after it was asked, before it is asked again."""


@dataclass(slots=True)
class Readings(Generic[FactsT]):
    """What was read of single resources, with the time of each reading: an optimisation that a restart may lose."""

    monotonic: Callable[[], float]
    _read: dict[Hashable, tuple[float, FactsT]] = field(default_factory=dict)

    async def get(self, key: Hashable, max_age: float, read: Callable[[], Awaitable[FactsT]]) -> FactsT:
        """The last reading if it is young enough, else a new one. Raises what `read` raises."""
        known = self._read.get(key)
        began = self.monotonic()
        if known is not None and began - known[0] <= max_age and max_age > 0:
            return known[1]
        found = await read()
        self._read[key] = (began, found)
        return found


@dataclass(slots=True)
class SqlClient:
    """Calls about servers and databases."""

    session: AzureSession
    _asked: dict[tuple[IdentityChain, str], float] = field(default_factory=dict)

    async def get(self, chain: IdentityChain, path: str) -> dict[str, Any]:
        """One resource. Raises what an Azure call raises."""
        return await self.session.resource_manager(chain).call("GET", path, QUERY)

    async def all_of(self, chain: IdentityChain, path: str) -> list[dict[str, Any]]:
        """All pages of a list. Raises what an Azure call raises."""
        return [body async for page in self.session.resource_manager(chain).pages(path, QUERY) for body in page]

    async def send(self, chain: IdentityChain, target: Target, plan: Plan) -> Answer | Started:
        """The plan's one request. Raises what an Azure call raises."""
        answer = await send_plan(self.session, chain, target, plan, API_VERSION)
        if plan.path.endswith("/revalidate"):
            self._asked[chain, target.id.key] = self.session.monotonic()
        return answer

    def recovering(self, chain: IdentityChain, target: ArmId, *, closed: bool) -> bool:
        """Whether SQL was asked a moment ago to open what is still closed; what is open is forgotten."""
        asked = self._asked.get((chain, target.key))
        if not closed:
            self._asked.pop((chain, target.key), None)
            return False
        return asked is not None and self.session.monotonic() - asked < RECOVERY_SECONDS
