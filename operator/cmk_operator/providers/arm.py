"""What the providers of Azure resources share: long-running operations, and how they are polled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from cmk_operator.azure.long_running import RETRY_AFTER, ask_after
from cmk_operator.core.encryption.coverage import Part, Parts
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
    from cmk_operator.providers.protocol import Manifest, ResourceFacts


def started(answer: FirstAnswer[Any], purpose: str) -> Started | None:
    """The operation that a request through an SDK has started; None if the request is complete."""
    url, wait = answer.operation_url, answer.retry_after
    if url is None:
        return None
    # A Retry-After of 0 is obeyed: if the operation still runs then, the answer to the next poll sets the wait.
    return Started(Operation(url, purpose, answer.request_id), wait if wait is not None else RETRY_AFTER)


def unreadable_parts(failure: AzureFailure, name: str, permission: str) -> Parts | AzureFailure:
    """A refused read as a part without a key, with the permission that it needs; any other failure passes by itself."""
    if failure.status not in {401, 403}:
        return failure
    return Parts((unreadable_part(name, permission),))


def unreadable_part(name: str, permission: str) -> Part:
    """A part that the operator may not read, with the permission that shows what protects it."""
    remedy = (
        f"the provider's administrator must allow the operator's managed identity {permission}, which shows what protects it"
    )
    return Part(name, remedy=remedy)


class ArmProvider(ABC):
    """A provider whose long-running operations are polled at the URL that Resource Manager returned."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def target_of(self, manifest: Manifest) -> Target:
        """The resource, with the options of its kind from the manifest."""
        return Target(ArmId(manifest.target.text), self.read_options(manifest.part), manifest.in_scope)

    @staticmethod
    def read_options(part: Mapping[str, Any]) -> object | None:  # noqa: ARG004 - for the kinds with a field of their own
        """Read the kind's own field of the manifest; None if it is absent or the kind has none."""
        return None

    @abstractmethod
    async def observe(self, chain: IdentityChain, target: Target, *, max_age: float) -> ResourceFacts[Any] | AzureFailure:
        """See `Provider.observe`."""

    async def observe_before_write(self, chain: IdentityChain, target: Target) -> ResourceFacts[Any] | AzureFailure:
        """Read the resource by itself, whatever a list says."""
        return await self.observe(chain, target, max_age=0.0)

    has_parts: bool = False
    """See `Provider.has_parts`."""

    async def read_parts(
        self,
        chain: IdentityChain,  # noqa: ARG002 - for the kinds that have parts to read
        target: Target,  # noqa: ARG002
        seen: ResourceFacts[Any],  # noqa: ARG002
    ) -> Parts | AzureFailure:
        """A kind without parts of its own."""
        return Parts(reads=0)

    async def poll(
        self,
        chain: IdentityChain,
        target: Target,  # noqa: ARG002 - the URL says all
        operation: Operation,
    ) -> Running | Ended | Failed | AzureFailure:
        """Poll the operation's URL once."""
        return await ask_after(self._session, chain, operation.token)
