"""What the providers of Azure's own resources share: what a request has started, and asking after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.azure.long_running import RETRY_AFTER, ask_after
from cmk_operator.core.encryption.long_running import Operation
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.protocol import Started, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.management import FirstAnswer
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.encryption.long_running import Ended, Failed, Running
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.providers.protocol import Manifest


def started(answer: FirstAnswer[Any], purpose: str) -> Started | None:
    """What a request through an SDK has started; None when it was carried out at once."""
    url, wait = answer.operation_url, answer.retry_after
    if url is None:
        return None
    # A word of Azure to ask at once is taken: should the operation run on, the next question is what waits.
    return Started(Operation(url, purpose, answer.request_id), wait if wait is not None else RETRY_AFTER)


class ArmProvider:
    """A provider whose long-running operations are asked after at the URL that Resource Manager gave."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def target_of(self, manifest: Manifest) -> Target:
        """The resource, with what the manifest adds for its kind."""
        return Target(ArmId(manifest.target.text), self.read_options(manifest.part), manifest.in_scope)

    @staticmethod
    def read_options(part: Mapping[str, Any]) -> object | None:  # noqa: ARG004 - for the kinds with a field of their own
        """What the kind's own field of the manifest says."""
        return None

    async def poll(
        self,
        chain: IdentityChain,
        target: Target,  # noqa: ARG002 - the URL says all
        operation: Operation,
    ) -> Running | Ended | Failed | AzureFailure:
        """Ask at the operation's URL."""
        return await ask_after(self._session, chain, operation.token)
