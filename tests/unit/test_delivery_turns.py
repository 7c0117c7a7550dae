"""One slow receiver holds one worker for deliveries, whatever it is sent."""

from __future__ import annotations

from cmk_operator.api.notifications import NotificationSink
from cmk_operator.fair_lane import FairLane
from cmk_operator.reconcile.notifications.delivery import WORKERS, Deliveries, SinkState
from cmk_operator.sinks.receivers import Receivers


def test_a_slow_or_unknown_receiver_gets_one_worker_and_a_quick_one_a_few() -> None:
    deliveries = Deliveries(Receivers(), "cmk-operator")
    sink = NotificationSink(sink="https://receiver.example.com/")
    deliveries.states = {"quick": SinkState(sink, quick=True), "slow": SinkState(sink, quick=False)}
    lane: FairLane[str] = FairLane(WORKERS, most_of=deliveries.at_once)
    for receiver in ("slow", "unknown", "quick"):
        for number in range(40):
            lane.put(f"{receiver} {number}", receiver, regular=False)
    taken = []
    while (one := lane.take()) is not None:
        taken.append(one[1])
    assert sorted(taken) == ["quick"] * 4 + ["slow", "unknown"]
