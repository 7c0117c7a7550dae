"""What the operator measures of itself and of the keys it watches, in Prometheus' terms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector


class Telemetry:
    """Metrics of one operator process, on a registry of their own.

    Names follow Prometheus' naming practices; no label holds an error text or anything else without bound.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.azure_requests = Counter(
            "cmk_azure_requests_total",
            "Requests sent to Azure, by service, method and status (status 0: no answer).",
            ["service", "method", "status"],
            registry=self.registry,
        )
        self.azure_request_seconds = Histogram(
            "cmk_azure_request_seconds", "Duration of requests to Azure.", ["service"], registry=self.registry
        )
        self.azure_budget_refusals = Counter(
            "cmk_azure_budget_refusals_total",
            "Requests not sent because their budget was spent or Azure had asked to wait.",
            ["service"],
            registry=self.registry,
        )
        self.kubernetes_requests = Counter(
            "cmk_kubernetes_requests_total",
            "Requests sent to the Kubernetes API apart from watches, by verb and status (status 0: no answer).",
            ["verb", "status"],
            registry=self.registry,
        )
        self.status_writes = Counter(
            "cmk_status_writes_total", "Status writes that changed something, by kind.", ["kind"], registry=self.registry
        )
        self.passes = Counter(
            "cmk_reconcile_passes_total",
            "Passes over an object, by kind and result (done, failed).",
            ["kind", "result"],
            registry=self.registry,
        )
        self.queue_depth = Gauge("cmk_queue_depth", "Objects waiting for a pass now.", ["kind"], registry=self.registry)
        self.watch_events = Counter(
            "cmk_watch_events_total", "Watch events received, by kind.", ["kind"], registry=self.registry
        )
        self.key_accessible = Gauge(
            "cmk_key_accessible",
            "1 for the access state that the last probe found, by key and state.",
            ["namespace", "name", "state"],
            registry=self.registry,
        )
        self.key_last_success = Gauge(
            "cmk_key_last_access_success_timestamp_seconds",
            "Unix time of the last probe that wrapped and unwrapped with the key.",
            ["namespace", "name"],
            registry=self.registry,
        )
        self.key_expiration = Gauge(
            "cmk_key_expiration_timestamp_seconds",
            "Unix time at which the key's active version expires; absent when it does not.",
            ["namespace", "name"],
            registry=self.registry,
        )
