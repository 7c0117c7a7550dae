"""The async clients of Azure's management SDKs: imported on first use, and run on the operator's own pipeline.

An SDK has the typed models and the paths. Credential, transport, call budget, labels and retries are those of
`AzureSession`. This module replaces how the SDKs read errors, streams and long-running operations.
"""

from __future__ import annotations

import asyncio
import marshal
import math
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.polling import AsyncPollingMethod

from cmk_operator.answer_gate import UnreadableError
from cmk_operator.azure.failures import seconds_to_wait
from cmk_operator.azure.list_bounds import ListBounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping

    from azure.core.async_paging import AsyncItemPaged
    from azure.core.pipeline import PipelineRequest

CONNECTION_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 20.0


class Closable(Protocol):
    """The part of an SDK's client that `AzureSession` uses."""

    async def close(self) -> None:
        """Close the pipeline."""


Fields: TypeAlias = "Mapping[str, Fields | None]"
"""The fields of a resource that the operator reads; None: the whole field."""
ClientT = TypeVar("ClientT", bound=Closable)
ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class Sdk(Generic[ClientT]):
    """One management SDK; `load` imports it and returns the class of its client."""

    package: str
    load: Callable[[], Callable[..., ClientT]]
    fields: Fields | None = None
    """The fields that are read of each resource, so that the SDK converts no others; None: it converts all."""

    async def client_class(self) -> Callable[..., ClientT]:
        """Import the SDK in a thread: that takes hundreds of milliseconds, during which the lease must be renewed."""
        return await asyncio.to_thread(self.load)


class WholeAnswer(AsyncHTTPPolicy[Any, Any]):
    """Reads each answer completely, within the operator's timeouts. The SDK gets JSON objects, and never an error status.

    An SDK reads the first answer of a long-running operation by itself, and parses errors with models that fail on an
    unexpected body.
    """

    def __init__(self, fields: Fields | None = None) -> None:
        self._fields = fields

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """Send. Raises `HttpResponseError` for any status from 400, `UnreadableError` for a body that is not a JSON object."""
        options = request.context.options
        entries: list[object] | None = options.pop(_ENTRIES, None)
        options.setdefault("connection_timeout", CONNECTION_TIMEOUT)
        options.setdefault("read_timeout", READ_TIMEOUT)
        streamed = bool(options.get("stream"))
        answer: PipelineResponse[Any, Any] = await self.next.send(request)
        response = answer.http_response
        if streamed and response.status_code in {202, 204}:
            # The SDK reads it: azure-core's answer over aiohttp fails if it is empty and is read twice.
            _round_wait(response.headers)
            return answer
        if streamed:
            await response.read()
        response.raise_for_status()
        empty = response.status_code in {202, 204} and not response.content
        if not empty:
            with typed_answer():
                body = response.json()
                _require_object(body)
                if self._fields is not None:
                    _drop_unread(body, self._fields)
                if entries is not None:
                    entries.extend(_list_in(body))
                    return PipelineResponse(answer.http_request, _LinkAlone(body), answer.context)
        return answer


_ENTRIES: Final = "listed_entries"
"""The keyword with which `entries_of` makes the SDK leave the objects of a page as they are."""


@dataclass(frozen=True, slots=True)
class _LinkAlone:
    """A page of a list for the SDK, without the objects: one malformed object would make the SDK fail for all others."""

    page: Mapping[str, Any]
    status_code: int = 200

    def json(self) -> dict[str, object]:
        """The link to the next page. Raises `UnreadableError` for a value that is not a link."""
        link = self.page.get("nextLink")
        if not isinstance(link, str | None):
            raise UnreadableError("the answer is not a page of a list")
        return {"value": [], "nextLink": link}


def _list_in(body: Mapping[str, object]) -> list[object]:
    found = body.get("value")
    if not isinstance(found, list):
        raise UnreadableError("the answer is not a page of a list")
    return found


def _round_wait(headers: MutableMapping[str, str]) -> None:
    """Round `Retry-After` up to a whole number: an SDK fails on any other, although Azure has accepted the request."""
    if headers.get("Retry-After", "0").isdecimal():
        return
    seconds = seconds_to_wait(headers)
    del headers["Retry-After"]
    if seconds is not None:
        headers["Retry-After"] = str(math.ceil(seconds))


def _drop_unread(body: dict[str, Any], fields: Fields) -> None:
    """Drop the fields that the operator does not read, of a resource or of each one in a list, from the JSON for the SDK.

    An SDK converts every field of every resource to its model; without this a list costs three times as much.
    """
    listed = body.get("value")
    for resource in listed if isinstance(listed, list) else [body]:
        _keep(resource, fields)


def _keep(found: object, fields: Fields) -> None:
    if not isinstance(found, dict):
        return
    for name in found.keys() - fields.keys():
        del found[name]
    for name, inner in fields.items():
        if inner is not None:
            _keep(found.get(name), inner)


def _require_object(body: object) -> None:
    if not isinstance(body, dict):
        raise TypeError(type(body).__name__)


@contextmanager
def typed_answer() -> Iterator[None]:
    """Turn the errors that models raise on an unexpected answer into `UnreadableError`, which `failure_of` accepts.

    Use it around an SDK's call and around each read of its model, because a model converts a field when it is read.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise UnreadableError("the answer does not have the documented shape") from error


def text_of(value: str | None) -> str:
    """The text of a field, or the value of the SDK's enum; an empty string for None."""
    return str(value.value) if isinstance(value, Enum) else str(value or "")


def whole(resource: ModelT) -> ModelT:
    """The resource. Raises TypeError if it has no properties, because that would read as protection by a Microsoft-managed key."""
    if getattr(resource, "properties", None) is None:
        raise TypeError("properties")
    return resource


def texts_of(value: object) -> tuple[str, ...]:
    """A list of texts; empty for null. Raises TypeError for anything else."""
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError("no list of texts")
    return tuple(found)


def required_text(found: Mapping[str, object], name: str) -> str:
    """The text of a field that an answer must have. Raises LookupError or TypeError."""
    text = found[name]
    if not isinstance(text, str) or not text:
        raise TypeError(name)
    return text


async def pages_of(listed: AsyncItemPaged[ModelT], count: Callable[[list[ModelT]], int] = len) -> AsyncIterator[list[ModelT]]:
    """The pages of a list. Raises what an Azure call raises, also for a list that exceeds `ListBounds`.

    `count` says how many objects of Azure a page has, where its models are not all of them.
    """
    bounds, pages = ListBounds(), listed.by_page()
    while True:
        with typed_answer():
            try:
                page = await anext(pages)
            except StopAsyncIteration:
                return
            found = [model async for model in page]
        bounds.page(count(found), getattr(pages, "continuation_token", None))
        yield found


async def entries_of(
    listing: Callable[..., AsyncItemPaged[Any]], read: Callable[[Mapping[str, Any]], ModelT]
) -> AsyncIterator[list[tuple[str, ModelT | None]]]:
    """The objects of each page of an SDK's list, each read by itself, with its id.

    An object that cannot be read is None, with an empty id if that cannot be read either: it spoils no other, and whoever needs the
    whole list sees that it is not. Raises what an Azure call raises. Other tasks may run between slices of a page.
    """
    entries: list[Any] = []
    async for _ in pages_of(listing(**{_ENTRIES: entries}), lambda _: len(entries)):
        found: list[tuple[str, ModelT | None]] = []
        for number, entry in enumerate(entries, start=1):
            found.append(_read_entry(entry, read))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        entries.clear()
        yield found


def read_alike_once(read: Callable[[Mapping[str, Any]], ModelT]) -> Callable[[Mapping[str, Any]], ModelT]:
    """As `read`, for one list: objects that differ only in id share one result; `read` does not get the id.

    Most resources of a subscription are on few keys, and an SDK's model takes 0.4 ms of processor time.
    """
    results: dict[bytes, ModelT] = {}

    def read_once(entry: Mapping[str, Any]) -> ModelT:
        content = {name: value for name, value in entry.items() if name != "id"}
        key = marshal.dumps(content, 2)  # Later formats differ with how often a value is referred to.
        if key not in results:
            results[key] = read(content)
        return results[key]

    return read_once


_SLICE: Final = 50
"""Objects of a page that are read before other tasks may run."""
_LONGEST_ID: Final = 1024
"""Most characters of an id: Resource Manager's longest are shorter, and those of a whole list are held."""


def _read_entry(entry: object, read: Callable[[Mapping[str, Any]], ModelT]) -> tuple[str, ModelT | None]:
    found = entry.get("id") if isinstance(entry, dict) else None
    entry_id = found if isinstance(found, str) and len(found) <= _LONGEST_ID else ""
    if isinstance(entry, dict) and entry_id and isinstance(entry.get("properties"), dict):
        with suppress(UnreadableError), typed_answer():
            return entry_id, read(entry)
    return entry_id, None


class Received:
    """Keeps facts from the headers of one answer. Pass it to an SDK's operation as `cls`; it does not change the model."""

    request_id: str | None = None

    def __call__(self, response: PipelineResponse[Any, Any], model: ModelT, _: Mapping[str, Any]) -> ModelT:
        """Keep Azure's request id."""
        self.request_id = response.http_response.headers.get("x-ms-request-id")
        return model


class FirstAnswer(AsyncPollingMethod[ModelT]):
    """Keeps the first answer to a long-running request. Pass it to `begin_…` as `polling`, so that the SDK does not poll.

    The URL goes into status, so that any later process can poll it; an SDK's continuation token is a pickle.
    """

    def initialize(self, client: Any, initial_response: Any, deserialization_callback: Any) -> None:  # noqa: ANN401 - azure-core's interface
        """Keep the answer."""
        del client
        self._answer: PipelineResponse[Any, Any] = initial_response
        self._model: Callable[[PipelineResponse[Any, Any]], ModelT] = deserialization_callback

    async def run(self) -> None:
        """Do not poll."""

    def status(self) -> str:
        """azure-core's name for the state of the operation."""
        return "InProgress" if self.operation_url else "Succeeded"

    def finished(self) -> bool:
        """True, because this object does not poll."""
        return True

    def resource(self) -> ModelT:
        """The resource in the answer. Raises `UnreadableError` if there is none."""
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
        """The URL to poll the operation; None if the request is complete."""
        accepted = self._answer.http_response.status_code == 202
        return self._headers.get("Azure-AsyncOperation") or (self._headers.get("Location") if accepted else None)

    @property
    def retry_after(self) -> float | None:
        """Seconds that Azure asks to wait."""
        return seconds_to_wait(self._headers)
