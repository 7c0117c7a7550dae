"""The alerts about the key service: its own metrics in Prometheus' own engine, while what it rests on is taken away from it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox.kubernetes.fault_proxy import FaultProxy
from tests.keyservice.http.world import ServedProcess
from tests.keyservice.keys.world import eventually
from tests.monitoring.live import Scrape, Timeline, fired
from tests.monitoring.live_alerts import SEEN_OF_THE_KEY_SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql

pytestmark = pytest.mark.cluster
HELD = 4
"""Minutes of the timeline for one scrape: a rate over five minutes sees the growth between any two."""


@pytest.fixture
def proxy(prepared: Cluster) -> Iterator[FaultProxy]:
    with FaultProxy(prepared.server, prepared.ca_file) as running:
        yield running


@pytest.fixture
def watched(prepared: Cluster, proxy: FaultProxy, database_url: str, tmp_path: Path) -> Iterator[ServedProcess]:
    """A key service with a database and a way to the API server of its own."""
    running = ServedProcess(replace(prepared, server=proxy.url), tmp_path, database_url)
    running.start()
    yield running
    running.stop()


def _scrape(watched: ServedProcess) -> Scrape:
    return Scrape(time.time(), watched.monitoring("/metrics")[1], "keyservice")


async def _shows(watched: ServedProcess, name: str, value: float, **labels: str) -> None:
    async def shown() -> bool:
        _, text = await asyncio.to_thread(watched.monitoring, "/metrics")
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return any((one.name, one.value, one.labels) == (name, value, labels) for one in samples)

    await eventually(f"{name} {labels} {value}", shown)


def _seen(scrapes: list[Scrape], folder: Path) -> set[str]:
    return fired(Timeline(scrapes, HELD), folder).keys() & SEEN_OF_THE_KEY_SERVICE


async def test_the_key_service_fires_each_alert_about_itself(
    watched: ServedProcess, proxy: FaultProxy, postgres: Postgresql, tmp_path: Path
) -> None:
    async with watched.caller("orders") as orders, watched.caller("reader") as reader:

        async def encrypt(purpose: str) -> tuple[int, Any]:
            return await orders.post("encrypt", {"plaintext": "", "purpose": purpose})

        assert (await encrypt("orders"))[0] == 200
        for part in ("database", "ring", "watch"):
            await _shows(watched, "cmk_keyservice_part_ready", 1, part=part)
        well = _scrape(watched)
        assert _seen([well] * 8, tmp_path) == set(), "nothing is wrong for half an hour"

        # A rule that the key service does not know, by whoever owns the database.
        with psycopg.connect(watched.database_url, autocommit=True) as owner:
            owner.execute("ALTER TABLE data_key ADD CHECK (purpose = 'orders')")
        scrapes = [well]
        for _ in range(2):
            assert (await encrypt("refunds"))[0] == 500
            scrapes.append(_scrape(watched))
        assert _seen(scrapes, tmp_path) == {"CmkKeyServiceErrors"}

        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
        watched.show_certificate(ends)
        proxy.inject("answer", "create", "/tokenreviews$", status=500, times=None)
        postgres.drop(watched.database_url.rsplit("/", 1)[1])
        await _shows(watched, "cmk_keyservice_part_ready", 0, part="database")
        await _shows(watched, "cmk_keyservice_certificate_expires_timestamp_seconds", ends.timestamp())
        scrapes = [scrapes[-1]]
        for _ in range(4):
            # The one caller was reviewed before, and the other is not.
            assert (await encrypt("refunds"))[1]["code"] == "DatabaseUnavailable"
            assert (await reader.post("decrypt", {"ciphertext": ""}))[1]["code"] == "CallersCannotBeReviewed"
            scrapes.append(_scrape(watched))
        seen = _seen(scrapes, tmp_path)
    assert seen == SEEN_OF_THE_KEY_SERVICE - {"CmkKeyServiceDown", "CmkKeyServiceErrors"}
    watched.stop()
    assert "CmkKeyServiceDown" in _seen([scrapes[-1], _scrape(watched)], tmp_path)
