"""Reads answers of the Kubernetes API within bounds, and keeps of an object only what the operator uses.

A namespace editor may write 250 kB of annotations into each of thousands of objects. This is the answer class of every session
to the API server, so that neither the operator's client nor kopf ever holds more than one such object: what is large is reduced
before anybody parses it, lists are read in pages of bounded size, and a watch event is reduced line by line.
"""

from __future__ import annotations

import json
import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from cmk_operator.api.model import APPROVED_VERSION, CHANGED_BY, CONFIRM_DELETION, GROUP, RECONCILE_REQUESTED_AT, VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiohttp.connector import Connection

LARGEST_PAGE: Final = 2 << 20
"""Bytes of one page of a list. It must be more than the largest object that etcd accepts, which is 1.5 MiB."""
LARGEST_ANSWER: Final = 8 << 20
"""Bytes of any other answer, and of one event of a watch."""
FIRST_PAGE: Final = 13
MOST_PER_PAGE: Final = 100
"""Objects of the first page of a collection, and of any."""
REDUCED_FROM: Final = 16 << 10
"""Bytes from which an answer is reduced: a smaller one costs less than its reduction."""
LONGEST_VALUE: Final = 256
"""Characters of an annotation; of a longer one, its digest is kept."""
MOST_FINALIZERS: Final = 16
KEPT_ANNOTATIONS: Final = (RECONCILE_REQUESTED_AT, APPROVED_VERSION, CONFIRM_DELETION, CHANGED_BY)
KEPT_METADATA: Final = (
    *("name", "namespace", "uid", "generation", "resourceVersion"),
    *("creationTimestamp", "deletionTimestamp"),
)
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What to accept instead of whole objects. Source: Kubernetes API concepts, "Metadata-only fetches"."""
_NO_ITEMS: Final = b'"items":null'
_OWN_PATH: Final = f"/apis/{GROUP}/{VERSION}/"
_DEFINITIONS_PATH: Final = "/apis/apiextensions.k8s.io/"
_LOG: Final = logging.getLogger(__name__)


class AnswerTooLargeError(aiohttp.ClientPayloadError):
    """An answer is larger than its bound; the rest of it is not read."""


class PageLimits:
    """How many objects of a collection to request at once, so that a page stays below `LARGEST_PAGE`.

    It begins with few, because the API server makes a page completely before anybody can refuse it.
    """

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._refused: set[str] = set()

    def of(self, path: str) -> int:
        """Objects to request."""
        return self._limits.get(path, FIRST_PAGE)

    def shrink(self, path: str) -> bool:
        """Request fewer objects, because a page was too large; returns whether that is possible."""
        before = self.of(path)
        self._limits[path] = max(1, before // 2)
        self._refused.add(path)
        return before > 1

    def grow(self, path: str) -> None:
        """Request more objects after a page that was not too large: slowly, if one was."""
        before = self.of(path)
        self._limits[path] = min(MOST_PER_PAGE, before + 1 if path in self._refused else 2 * before)


class PagesInBounds:
    """Middlewares of kopf's session: pages of bounded size, and only the metadata of `metadata_only` collections."""

    def __init__(self, metadata_only: Sequence[str]) -> None:
        self._limits = PageLimits()
        self._metadata_only = frozenset(metadata_only)

    async def read(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Send a request on. If it is for a page that turns out too large, request a smaller one."""
        path, query = request.url.path, request.url.query
        if path in self._metadata_only:
            wanted = METADATA_ONLY if query.get("watch") == "true" else METADATA_LIST
            request.headers["Accept"] = f"{wanted},application/json"
        if "limit" not in query:
            return await handler(request)
        while True:
            request.url = request.url.update_query(limit=str(self._limits.of(path)))
            answer = await handler(request)
            if answer.status >= 300:
                return answer
            try:
                await answer.read()
            except AnswerTooLargeError:
                if not self._limits.shrink(path):
                    raise
                continue
            self._limits.grow(path)
            return answer


class BoundedAnswer(aiohttp.ClientResponse):
    """An answer of the API server."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the headers. The events of a watch are reduced as they arrive."""
        await super().start(connection)
        if self.status == 200 and self.url.query.get("watch") == "true" and _is_reduced(self.url.path):
            self.content = ReducedEvents(self.content)  # type: ignore[assignment] # the same to whoever iterates over it
        return self

    async def read(self) -> bytes:
        """The body as it came. Raises `AnswerTooLargeError`; the connection is closed then."""
        if self._body is None:
            try:
                self._body = await self._bounded(LARGEST_PAGE if "limit" in self.url.query else LARGEST_ANSWER)
            except BaseException:
                self.close()
                raise
        return await super().read()

    async def json(self, **options: Any) -> Any:  # noqa: ANN401 - as the library's
        """The body in JSON, reduced; None if it is empty. Raises `ValueError` if it is not JSON."""
        content = await self.read()
        found = await super().json(**options)
        # An empty list of metadata has null for its items, which kopf cannot read.
        unusual = len(content) > REDUCED_FROM or _NO_ITEMS in content
        return _reduced(found) if unusual and _is_reduced(self.url.path) and isinstance(found, dict) else found

    async def _bounded(self, limit: int) -> bytes:
        kept = bytearray()
        async for piece in self.content.iter_any():
            kept += piece
            if len(kept) > limit:
                raise AnswerTooLargeError(f"the answer is larger than {limit >> 20} MiB")
        return bytes(kept)


class ReducedEvents:
    """The stream of a watch, whose large lines are reduced. Everything else is the stream's own."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """Whole lines. A line beyond all bounds is left out: the next list shows the object."""
        rest = bytearray()
        skipping = False
        async for piece in self._stream.iter_any():
            rest += piece
            *lines, rest = rest.split(b"\n") if b"\n" in piece else (rest,)
            if skipping and lines:
                skipping, lines = False, lines[1:]
            if lines:
                yield b"".join(bytes(reduced(bytes(line)) if len(line) > REDUCED_FROM else line) + b"\n" for line in lines)
            if len(rest) > LARGEST_ANSWER:
                if not skipping:
                    _LOG.warning("an event of a watch is too large and is not read", extra={"limitBytes": LARGEST_ANSWER})
                skipping, rest = True, bytearray()


def _is_reduced(path: str) -> bool:
    return path.startswith((_OWN_PATH, _DEFINITIONS_PATH))


def reduced(content: bytes) -> bytes:
    """A list, an event or an object in JSON, with only what the operator uses of each object."""
    try:
        found = json.loads(content)
    except ValueError:
        return content  # Whoever reads it reports that.
    return json.dumps(_reduced(found), separators=(",", ":")).encode() if isinstance(found, dict) else content


def _reduced(found: dict[str, Any]) -> dict[str, Any]:
    if "items" in found:
        return found | {"items": [_reduced_object(body) for body in found["items"] or ()]}
    if isinstance(found.get("object"), dict) and "type" in found:
        return found | {"object": _reduced_object(found["object"])}
    return _reduced_object(found)


def _reduced_object(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("kind") == "Status":
        return body
    metadata = body.get("metadata") or {}
    kept = {name: metadata[name] for name in KEPT_METADATA if name in metadata}
    kept["annotations"] = kept_annotations(metadata.get("annotations") or {})
    kept["finalizers"] = kept_finalizers(metadata.get("finalizers") or ())
    kept["managedFields"] = [
        {"manager": entry.get("manager", ""), "time": entry.get("time", ""), "fieldsV1": {"f:spec": {}}}
        for entry in metadata.get("managedFields") or ()
        if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})
    ]
    if (body.get("spec") or {}).get("group"):
        # A custom resource definition, of which kopf reads the group.
        return {"kind": body.get("kind"), "metadata": kept, "spec": {"group": body["spec"]["group"]}}
    return body | {"metadata": kept}


def kept_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that request something, each as it is or, if it is long, by its digest."""
    return {name: kept_value(annotations[name]) for name in KEPT_ANNOTATIONS if name in annotations}


def kept_value(text: str) -> str:
    """A text that is compared with others and shown, or its digest if it is long."""
    return text if len(text) <= LONGEST_VALUE else f"sha256:{sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def kept_finalizers(finalizers: Sequence[str]) -> list[str]:
    """Finalizers, of which a change is noticed; of very many, the operator's own, the first, and the digest of the others."""
    if len(finalizers) <= MOST_FINALIZERS:
        return [kept_value(each) for each in finalizers]
    own = [each for each in finalizers if each.startswith(f"{GROUP}/")]
    first = [*own, *(each for each in finalizers if each not in own)][:MOST_FINALIZERS]
    return [*map(kept_value, first), kept_value("\n".join(finalizers).ljust(LONGEST_VALUE + 1))]
