"""Counts what happens in one process of the key service. The state of organizations is computed at each scrape instead."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from cmk_operator.telemetry import Telemetry

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the histogram: from a data key in memory to a slow vault."""


class KeyServiceTelemetry:
    """Metrics of one process, on a registry of their own. No label holds anything without a bound."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each counter has a second series with its time of creation
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.outside = Telemetry()
        """Counts of requests to Azure and to the Kubernetes API, made by the operator's clients."""
        for collector in (
            self.outside.azure_requests,
            self.outside.azure_request_seconds,
            self.outside.azure_budget_refusals,
            self.outside.kubernetes_requests,
        ):
            self.registry.register(collector)
        self.requests = Counter(
            "cmk_keyservice_requests_total",
            "Requests of callers, by operation and HTTP status.",
            ["operation", "code"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "cmk_keyservice_request_seconds",
            "Duration of requests of callers, from the headers to the answer, by operation.",
            ["operation"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.items = Counter(
            "cmk_keyservice_items_total",
            "Items of requests, by operation and result (Done, or the class of the problem).",
            ["operation", "result"],
            registry=self.registry,
        )
        self.reviews = Counter(
            "cmk_keyservice_reviews_total",
            "Questions to the API server about callers, by kind and result (allowed, refused; failed: not answered).",
            ["kind", "result"],
            registry=self.registry,
        )
        self.certificate_expires = Gauge(
            "cmk_keyservice_certificate_expires_timestamp_seconds",
            "Unix time at which the TLS certificate that callers are shown expires.",
            registry=self.registry,
        )
        self.part_ready = Gauge(
            "cmk_keyservice_part_ready",
            "1 while a part is as it should be, by part (database, ring, watch); /readyz says what is wrong.",
            ["part"],
            registry=self.registry,
        )
        self.data_keys_in_memory = Gauge(
            "cmk_keyservice_data_keys_in_memory", "Data keys that this process holds in memory.", registry=self.registry
        )

    def count_review(self, kind: str, result: str) -> None:
        """Count one question to the API server about a caller."""
        self.reviews.labels(kind, result).inc()
