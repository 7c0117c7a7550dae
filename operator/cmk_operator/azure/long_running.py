"""Polls Resource Manager's long-running operations at the URL that Azure returned, also after a restart.

Source: Azure Resource Manager, "Track asynchronous Azure operations".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES, failure_of
from cmk_operator.core.encryption.long_running import Ended, Failed, Running
from cmk_operator.core.faults.azure_failure import AzureFailure, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession

RETRY_AFTER: Final = 5.0
"""Seconds until the next poll if Azure sends no Retry-After."""
_GIVEN_UP: Final = frozenset({"failed", "canceled", "cancelled"})


async def ask_after(session: AzureSession, chain: IdentityChain, url: str) -> Running | Ended | Failed | AzureFailure:
    """GET an Azure-AsyncOperation or Location URL once. After 404 or 410 the operation counts as ended."""
    root = f"https://{chain.cloud.resource_manager}/"
    if not url.lower().startswith(root):
        # The URL comes from status, which others may be allowed to write: the token must not go to another host.
        return Ended()
    try:
        answer = await session.resource_manager(chain).send("GET", url)
    except EXPECTED_FAILURES as error:
        failure = failure_of(error)
        return Ended() if failure.status in {404, 410} else failure
    if answer.status == 202:
        return Running(answer.retry_after or RETRY_AFTER)
    if answer.has_body and not answer.body:
        return Unreadable(message="the answer does not say whether the operation has ended")
    return _judge(answer.body, answer.retry_after)


def _judge(body: Mapping[str, Any], retry_after: float | None) -> Running | Ended | Failed | Unreadable:
    # At Location there is the resource itself, without a status, or no body at all.
    found = body.get("status", "Succeeded")
    if not isinstance(found, str) or not found:
        return Unreadable(message="the answer does not say whether the operation has ended")
    status = found.lower()
    if status == "succeeded":
        return Ended()
    if status not in _GIVEN_UP:
        return Running(retry_after or RETRY_AFTER)
    said = body.get("error")
    error: Mapping[str, Any] = said if isinstance(said, dict) else {}
    code = str(error.get("code") or "OperationFailed")
    return Failed(AzureFailure(200, code, str(error.get("message", ""))))
