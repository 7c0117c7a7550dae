"""The async clients of Azure's management SDKs: imported on first use, and beneath them the pipeline of everything else.

An SDK brings the typed models and the paths. Credential, transport, call budget, labels and retries stay those of
`AzureSession`; this module keeps the SDKs from reading errors, streams and long-running operations in their own way.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.polling import AsyncPollingMethod

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.failures import seconds_to_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping

    from azure.core.async_paging import AsyncItemPaged
    from azure.core.pipeline import PipelineRequest, PipelineResponse

CONNECTION_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 20.0
LONGEST_LIST: Final = 1000
"""Pages of one list, at most: a list that links on for ever is an answer that nobody can read."""


class Closable(Protocol):
    """What every client of an SDK can do."""

    async def close(self) -> None:
        """Close the pipeline."""


ClientT = TypeVar("ClientT", bound=Closable)
ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class Sdk(Generic[ClientT]):
    """One management SDK; `load` imports it and gives the class of its client."""

    package: str
    load: Callable[[], Callable[..., ClientT]]

    async def client_class(self) -> Callable[..., ClientT]:
        """Import in a thread: an SDK takes some hundreds of milliseconds, in which the lease must still be renewed."""
        return await asyncio.to_thread(self.load)


class WholeAnswer(AsyncHTTPPolicy[Any, Any]):
    """Reads each answer whole, within the operator's times; lets an SDK see JSON objects and no errors.

    An SDK reads the first answer of a long-running operation by itself, and errors by models that an odd body breaks.
    """

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """Raises `HttpResponseError` for any status from 400, `UnreadableError` for what is no JSON object."""
        options = request.context.options
        options.setdefault("connection_timeout", CONNECTION_TIMEOUT)
        options.setdefault("read_timeout", READ_TIMEOUT)
        streamed = bool(options.get("stream"))
        answer: PipelineResponse[Any, Any] = await self.next.send(request)
        response = answer.http_response
        if streamed and response.status_code in {202, 204}:
            # Left to the SDK: azure-core's answer over aiohttp fails when it is empty and read for a second time.
            _round_wait(response.headers)
            return answer
        if streamed:
            await response.read()
        response.raise_for_status()
        empty = response.status_code in {202, 204} and not response.content
        if not empty:
            with typed_answer():
                _require_object(response.json())
        return answer


def _round_wait(headers: MutableMapping[str, str]) -> None:
    """An SDK fails on a `Retry-After` that is no whole number, after Azure has accepted the request: make it one."""
    if headers.get("Retry-After", "0").isdecimal():
        return
    seconds = seconds_to_wait(headers)
    del headers["Retry-After"]
    if seconds is not None:
        headers["Retry-After"] = str(math.ceil(seconds))


def _require_object(body: object) -> None:
    if not isinstance(body, dict):
        raise TypeError(type(body).__name__)


@contextmanager
def typed_answer() -> Iterator[None]:
    """Turn what models raise on an answer of another shape into `UnreadableError`, which `failure_of` knows.

    To be put around an SDK's call and the reading of its model, which converts fields as they are read.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise UnreadableError("the answer has not the shape that is documented") from error


def text_of(value: str | None) -> str:
    """A field's text as Azure wrote it or as the SDK's enum spells it; empty for none."""
    return str(value.value) if isinstance(value, Enum) else str(value or "")


async def pages_of(listed: AsyncItemPaged[ModelT]) -> AsyncIterator[list[ModelT]]:
    """The pages of a list. Raises what an Azure call raises, also for a list that has no end."""
    pages, count = listed.by_page(), 0
    while count < LONGEST_LIST:
        with typed_answer():
            try:
                page = await anext(pages)
            except StopAsyncIteration:
                return
            found = [model async for model in page]
        yield found
        count += 1
    raise UnreadableError(f"the list has more than {LONGEST_LIST} pages")


class Received:
    """What the headers of one answer say; to be given to an operation of an SDK as `cls`, which leaves the model as it is."""

    request_id: str | None = None

    def __call__(self, response: PipelineResponse[Any, Any], model: ModelT, _: Mapping[str, Any]) -> ModelT:
        """Keep Azure's request id."""
        self.request_id = response.http_response.headers.get("x-ms-request-id")
        return model


class FirstAnswer(AsyncPollingMethod[ModelT]):
    """The first answer to a long-running request, to be given to `begin_…` as `polling`: then nothing is polled.

    The URL to ask at goes into status, so that any process can go on asking; an SDK's continuation token is a pickle.
    """

    def initialize(self, client: Any, initial_response: Any, deserialization_callback: Any) -> None:  # noqa: ANN401 - azure-core's interface
        """Keep the answer."""
        del client
        self._answer: PipelineResponse[Any, Any] = initial_response
        self._model: Callable[[PipelineResponse[Any, Any]], ModelT] = deserialization_callback

    async def run(self) -> None:
        """Ask nothing."""

    def status(self) -> str:
        """What azure-core calls an operation whose end it does not wait for."""
        return "InProgress" if self.operation_url else "Succeeded"

    def finished(self) -> bool:
        """True: nothing is left to poll here."""
        return True

    def resource(self) -> ModelT:
        """The resource as the answer has it. Raises `UnreadableError` where it has none."""
        with typed_answer():
            return self._model(self._answer)

    @property
    def _headers(self) -> Mapping[str, str]:
        headers: Mapping[str, str] = self._answer.http_response.headers
        return headers

    @property
    def request_id(self) -> str | None:
        """Azure's id of the request."""
        return self._headers.get("x-ms-request-id")

    @property
    def operation_url(self) -> str | None:
        """Where to ask after the operation; None when the request has been carried out."""
        accepted = self._answer.http_response.status_code == 202
        return self._headers.get("Azure-AsyncOperation") or (self._headers.get("Location") if accepted else None)

    @property
    def retry_after(self) -> float | None:
        """Seconds that Azure asked to wait."""
        return seconds_to_wait(self._headers)
