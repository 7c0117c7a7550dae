"""Leader election by a Lease: one operator reconciles, and a standby watches and waits, so that it can take over at once.

The protocol is that of client-go's leader election. The leader renews the lease. A standby counts the lease as expired if it
has not changed for its duration by the standby's own clock, so that clocks need not agree. The identity is the pod's name: a
restarted container of the same pod continues without waiting, because its predecessor is dead.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cmk_operator import __version__
from cmk_operator.api.model import OPERATOR_VERSION
from cmk_operator.core.text.rfc3339 import to_rfc3339_micro
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from cmk_operator.kubernetes.whole_round import WholeRound

LEASE_NAME: Final = "cmk-operator"
_API: Final = "/apis/coordination.k8s.io/v1/namespaces"
_LOG: Final = logging.getLogger(__name__)


def lease_name(operator_class: str) -> str:
    """The name of the lease of a class: at most one operator of each class acts in a cluster."""
    return f"{LEASE_NAME}-{operator_class}" if operator_class else LEASE_NAME


def leases_path(namespace: str) -> str:
    """Path of the leases of a namespace on the API server."""
    return f"{_API}/{quote(namespace)}/leases"


class Leadership:
    """The lease of one operator process; `duration` is in seconds."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        identity: str,
        duration: float,
        whole_round: WholeRound,
        *,
        name: str = LEASE_NAME,
    ) -> None:
        self._client = client
        self._whole_round = whole_round
        self._collection = leases_path(namespace)
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._retry = duration / 7.5
        self._kept_for = duration * 2 / 3
        self._renewed = float("-inf")
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = float("-inf")

        self._own: dict[str, Any] | None = None
        """The lease as our last write left it; None if that is unknown: the next attempt then reads it first."""

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait until this process holds the lease; returns False if `stop` was set first."""
        logged = ""
        while not stop.is_set():
            try:
                holder = await self._attempt(self._kept_for / 2)
            except (KubernetesError, TimeoutError) as error:
                holder = f"unknown: {type(error).__name__}: {error}"
            if holder == self._identity:
                return True
            if holder != logged:
                logged = holder
                _LOG.info("standing by", extra={"leader": holder})
            await _until(stop.wait(), self._retry)
        return False

    async def keep(self) -> None:
        """Renew the lease; return if it is lost. The caller must then stop reconciling at once.

        It is lost if another process holds it, or if no renewal succeeded for two thirds of the duration. One attempt may take
        half of that time: a slow API server then does no harm, and after a lost answer there is time for a second attempt.
        """
        while (left := self._left()) > 0:
            await asyncio.sleep(min(self._retry, left))
            try:
                holder = await self._attempt(min(self._kept_for / 2, self._left()))
            except (KubernetesError, TimeoutError) as error:
                _LOG.warning("the lease could not be renewed", extra={"error": f"{type(error).__name__}: {error}"})
                continue
            if holder != self._identity:
                _LOG.error("the lease was taken over", extra={"leader": holder})
                return

    async def release(self) -> None:
        """Release the lease, so that a standby need not wait until it expires."""
        try:
            lease = await self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] = self._spec(lease["spec"], holder="", duration=1)
                await self._client.request("PUT", f"{self._collection}/{self._name}", body=lease)
        except KubernetesError as error:
            _LOG.warning("the lease could not be released; a standby must wait until it expires", extra={"error": str(error)})

    def _left(self) -> float:
        return self._renewed + self._kept_for - asyncio.get_running_loop().time()

    async def _attempt(self, patience: float) -> str:
        """As `_try`, within `patience` seconds. The renewal counts from the start: no standby can see it earlier."""
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(patience):
            holder = await self._try()
        if holder == self._identity:
            self._renewed = began
        return holder

    async def _try(self) -> str:
        """Take or renew the lease if it is free, expired or ours; returns the current holder, also after a lost race."""
        own, self._own = self._own, None
        lease = own if own is not None else await self._read()
        if lease is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec({}, holder=self._identity, duration=self._duration),
            }
            return await self._put("POST", self._collection, body)
        self._whole_round.read(lease["metadata"])
        spec: dict[str, Any] = lease["spec"]
        holder = spec.get("holderIdentity") or ""
        if holder not in {"", self._identity} and not self._expired(holder, spec):
            return holder
        lease["spec"] = self._spec(spec, holder=self._identity, duration=self._duration)
        return await self._put("PUT", f"{self._collection}/{self._name}", lease)

    async def _put(self, verb: str, path: str, lease: dict[str, Any]) -> str:
        lease["metadata"] = self._whole_round.write(lease["metadata"], datetime.now(UTC))
        lease["metadata"]["annotations"][OPERATOR_VERSION] = __version__
        try:
            self._own = await self._client.request(verb, path, body=lease)
        except KubernetesError as error:
            if error.status != 409:
                raise
            now = await self._read()
            holder = str(now["spec"].get("holderIdentity") or "") if now is not None else ""
            if holder == self._identity:
                # An earlier attempt of ours timed out but was written. Nobody else took the lease: try again.
                raise
            return holder or "another process, which was faster"
        return self._identity

    def _expired(self, holder: str, spec: dict[str, Any]) -> bool:
        now = asyncio.get_running_loop().time()
        seen = (holder, str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at > float(spec.get("leaseDurationSeconds") or self._duration)

    async def _read(self) -> dict[str, Any] | None:
        return await self._client.find(f"{self._collection}/{self._name}")

    def _spec(self, before: dict[str, Any], *, holder: str, duration: float) -> dict[str, Any]:
        now = to_rfc3339_micro(datetime.now(UTC))
        same = before.get("holderIdentity") == holder
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration)),
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": transitions if same or not holder else transitions + 1,
        }


async def _until(event: Awaitable[object], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event
    except TimeoutError:
        return
