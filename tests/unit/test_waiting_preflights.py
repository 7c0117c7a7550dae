"""A Preflight whose checks take long says that it waits, and never loses an answer by that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from cmk_operator.composition import lanes_of
from cmk_operator.core.schedule import Next
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, ObjectReference
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.collaborators.cluster import Cluster
from cmk_operator.reconcile.notifications.delivery import Deliveries
from cmk_operator.reconcile.preflight.context import PreflightContext
from cmk_operator.reconcile.preflight.waiting import notice_of, tell_waiting
from cmk_operator.settings import Settings
from cmk_operator.sinks.receivers import Receivers
from tests.unit import samples

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
PREFLIGHT = ObjectReference("preflights", "team-a", "one")
ANSWER = {
    "observedGeneration": 1,
    "result": "Pass",
    "conditions": [
        {
            "type": "Complete",
            "status": "True",
            "reason": "Passed",
            "message": "every check has passed",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-30T11:59:00Z",
        }
    ],
}


class Server(KubernetesClient):
    """Has one Preflight, or none; a status lands only on the version that the writer has read."""

    def __init__(self, status: dict[str, Any] | None, answered_meanwhile: dict[str, Any] | None = None) -> None:
        self.status = status
        self.version = 7
        self._answered_meanwhile = answered_meanwhile

    async def get(self, reference: ObjectReference) -> dict[str, Any] | None:
        assert reference == PREFLIGHT
        if self.status is None:
            return None
        metadata = {"name": "one", "namespace": "team-a", "uid": "u", "generation": 1, "resourceVersion": str(self.version)}
        body = {"metadata": metadata, "spec": {"keys": [{"name": "storage", "spec": samples.key_body()["spec"]}]}}
        body["status"] = self.status
        if self._answered_meanwhile is not None:
            self.status, self.version = self._answered_meanwhile, self.version + 1
        return body

    async def apply_status(self, *arguments: Any, resource_version: str | None = None, **_: Any) -> dict[str, Any]:
        if resource_version != str(self.version):
            raise KubernetesError("PATCH", "status", 409, "Conflict", "the object has been modified")
        self.status = arguments[3]
        return {}


async def told(server: Server, operator_class: str = "") -> dict[str, Any] | None:
    cluster = Cluster(server, Inventory(), lambda *_: None, changed, operator_class)
    nothing = cast("Any", None)
    context = PreflightContext(cluster, nothing, nothing, nothing, nothing, lambda: NOW)
    assert await tell_waiting(context, notice_of(PREFLIGHT)) == Next()
    return server.status


async def changed(_: ObjectReference, __: int) -> None:
    return


async def test_one_without_an_answer_says_what_it_waits_for_and_is_checked_all_the_same() -> None:
    status = await told(Server({}))
    assert status is not None
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Complete", "False", "WaitsForTurn")
    assert "nobody must act" in condition["message"]
    assert status["observedGeneration"] != 1, "its pass takes it for one that was not checked"
    assert "result" not in status


@pytest.mark.parametrize("server", [Server(ANSWER), Server({}, answered_meanwhile=ANSWER)], ids=["before", "meanwhile"])
async def test_an_answer_is_never_replaced(server: Server) -> None:
    assert await told(server) == ANSWER


async def test_a_deleted_one_is_left_alone() -> None:
    assert await told(Server(None)) is None


async def test_an_operator_of_another_class_says_nothing() -> None:
    assert await told(Server({}), "other") == {}


def test_forty_preflights_of_one_namespace_keep_one_worker_and_another_namespace_is_next() -> None:
    lane = lanes_of(Settings(), Deliveries(Receivers(), "operator"))["preflights"]
    for number in range(40):
        lane.put(ObjectReference("preflights", "flood", str(number)), "flood", regular=False)
    lane.put(PREFLIGHT, "team-a", regular=False)
    taken = [lane.take() for _ in range(lane.workers)]
    assert taken == [(ObjectReference("preflights", "flood", "0"), "flood"), (PREFLIGHT, "team-a")]
    lane.done("team-a")
    assert lane.take() is None, "a worker is left for whoever comes next"
