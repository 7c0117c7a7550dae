"""Whether the custom resource definitions in the cluster have every field and value that this operator writes and reads."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cmk_operator import __version__
from cmk_operator.api.fields import DOCUMENT, differences, listed
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cmk_operator.api.model import Shape
    from cmk_operator.kubernetes.client import KubernetesClient

WHILE_OLD: Final = 5.0
"""Seconds until the next look while a definition is too old: somebody is about to install the newer one."""
OTHERWISE: Final = 600.0
"""Seconds until the next look while all fit: somebody may install older ones."""
_LOG: Final = logging.getLogger(__name__)


class InstalledDefinitions:
    """The definitions that are older than this operator, each with what it lacks and who must act."""

    def __init__(self, client: KubernetesClient, models: Iterable[type[Shape]]) -> None:
        self._client = client
        self._models = tuple(models)
        self._old: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """One line for each definition that is too old; empty if all fit, or while they cannot be read."""
        return list(self._old)

    @contextmanager
    def watched(self) -> Iterator[InstalledDefinitions]:
        """Look from time to time while the context is open."""
        task = asyncio.create_task(self._run(), name="installed definitions")
        try:
            yield self
        finally:
            task.cancel()

    async def _run(self) -> None:
        """Look at the start, and again from time to time; says each change once."""
        readable = True
        while True:
            try:
                await self.look()
                readable = True
            except KubernetesError as error:
                if readable:
                    _LOG.warning("the installed definitions cannot be compared with this version", extra={"error": str(error)})
                readable = False
            await asyncio.sleep(WHILE_OLD if self._old else OTHERWISE)

    async def look(self) -> None:
        """Compare once. Raises `KubernetesError`."""
        found = differences(await self._client.request("GET", DOCUMENT), self._models)
        old = tuple(
            f"{one} is older than this operator ({__version__}): it lacks {listed(one.lacks)}, so the API server drops or refuses "
            f"them; the cluster's administrator must install the definitions of {__version__}: helm upgrade with crds.enabled=true, or "
            f"kubectl apply --server-side -f cmk-operator-crds-{__version__}.yaml"
            for one in found
            if one.lacks
        )
        for line in old:
            if line not in self._old:
                _LOG.error("%s", line)
        if self._old and not old:
            _LOG.info("the installed definitions fit this version")
        self._old = old
