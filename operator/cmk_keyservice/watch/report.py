"""What the key service says of an organization in `status.dataKeys`, by server-side apply under a field manager of its own."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.client import ObjectReference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cmk_keyservice.keys.rewrap_state import RewrapState
    from cmk_keyservice.keys.standing import Serving
    from cmk_keyservice.store.rows import KidCount
    from cmk_keyservice.vaults.accepted import Organization
    from cmk_operator.kubernetes.client import KubernetesClient

FIELD_MANAGER: Final = "cmk-keyservice"
MOST_KIDS: Final = 200
"""More are not reported, because a report that leaves one out would call it unused."""
LONGEST_MESSAGE: Final = 1024


def data_keys_report(
    revision: int,
    counts: Sequence[KidCount],
    rewrap: RewrapState,
    state: Serving,
    since: datetime,
    message: str,
) -> dict[str, Any] | None:
    """The body of `status.dataKeys`, without `observedAt`; None if there are too many key versions to name.

    A previous wrap that is still kept counts as a use of its key version: nothing is called unused that a row still names.
    """
    uses: defaultdict[str, int] = defaultdict(int)
    for count in counts:
        uses[count.kid] += count.data_keys + count.previous
    if len(uses) > MOST_KIDS:
        return None
    return {
        "revision": revision,
        "total": sum(count.data_keys for count in counts),
        "byKid": [{"kid": kid, "dataKeys": number} for kid, number in sorted(uses.items())],
        "rewrap": {"pending": rewrap.pending, "failed": rewrap.failed, "message": rewrap.message[:LONGEST_MESSAGE]},
        "serving": {"state": state.value, "since": to_rfc3339(since), "message": message[:LONGEST_MESSAGE]},
    }


def is_same(reported: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a report says what another one does; since when a state is one is told by whoever said it first."""
    return _without_times(reported) == _without_times(wanted)


def with_since(wanted: dict[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    """The report with the time of the state's beginning as it was reported before, if it is the same state."""
    before = reported.get("serving") or {}
    if before.get("state") == wanted["serving"]["state"] and before.get("since"):
        return wanted | {"serving": wanted["serving"] | {"since": before["since"]}}
    return wanted


def _without_times(report: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in report.items() if name != "observedAt"}
    serving = kept.get("serving")
    if isinstance(serving, dict):
        kept["serving"] = {name: value for name, value in serving.items() if name != "since"}
    return kept


async def apply_report(client: KubernetesClient, organization: Organization, report: Mapping[str, Any]) -> None:
    """Write `status.dataKeys`; nothing is written if another object has the name by now. Raises `KubernetesError`.

    The API server does not compare the `uid` of an apply to a status, so the object is read first, and must not change meanwhile.
    """
    reference = ObjectReference(OrganizationKey.plural, organization.namespace, organization.name)
    found = await client.get(reference)
    if found is None or found["metadata"].get("uid") != organization.uid:
        return
    await client.apply_status(
        reference,
        OrganizationKey.__name__,
        organization.uid,
        {"dataKeys": dict(report)},
        resource_version=found["metadata"]["resourceVersion"],
        manager=FIELD_MANAGER,
    )
