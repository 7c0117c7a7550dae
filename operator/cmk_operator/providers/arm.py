"""What the providers of Azure's own resources share: one request of a plan, and asking after what it started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.azure.long_running import RETRY_AFTER, ask_after
from cmk_operator.core.encryption.long_running import Operation
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.providers.protocol import Plan, Started, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.rest import Answer
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.encryption.long_running import Ended, Failed, Running
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.providers.protocol import Manifest


async def send_plan(
    session: AzureSession, chain: IdentityChain, target: Target, plan: Plan, api_version: str
) -> Answer | Started:
    """Send the plan's one request, to its path or else to the resource itself. Raises what an Azure call raises."""
    path, query = plan.path or target.id.text, {"api-version": api_version}
    answer = await session.resource_manager(chain).send(plan.method, path, query, plan.body or None)
    if answer.operation_url is None:
        return answer
    # A word of Azure to ask at once is taken: should the operation run on, the next question is what waits.
    wait = answer.retry_after if answer.retry_after is not None else RETRY_AFTER
    return Started(Operation(answer.operation_url, plan.purpose, answer.request_id), wait)


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
