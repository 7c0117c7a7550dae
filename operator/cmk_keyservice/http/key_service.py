"""The key service as the endpoints see it: the rooms below, wired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cmk_keyservice.callers.reviews import Reviews
    from cmk_keyservice.http.readiness import Readiness
    from cmk_keyservice.keys.data_keys import DataKeys
    from cmk_keyservice.telemetry import KeyServiceTelemetry
    from cmk_keyservice.vaults.accepted import Organization
    from cmk_keyservice.vaults.organizations import Organizations


@dataclass(frozen=True, slots=True)
class KeyService:
    """What the endpoints need of the rooms below."""

    reviews: Reviews
    data_keys: DataKeys
    organizations: Organizations
    readiness: Readiness
    telemetry: KeyServiceTelemetry
    count: Callable[[str, str, str, int, int], None]
    """Counts items in an organization's audit record: organization, caller's service, operation, done, refused."""

    def find(self, organization: str) -> Organization | None:
        """The organization, if an object names it."""
        return self.organizations.find(organization)

    def missing(self) -> Sequence[str]:
        """What is not as it should be."""
        return self.readiness.missing()

    def takes_traffic(self) -> bool:
        """Whether callers should be sent here."""
        return self.readiness.takes_traffic()
