"""Counts what happens in one operator process. The state of objects is computed at each scrape instead (`metrics`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Bounds of all histograms: from a cached answer to a reconcile that waits for its call budget and for slow services."""
KEY_VAULT: Final = "key_vault"


class Telemetry:
    """Metrics of one operator process, on a registry of their own.

    Names follow Prometheus' naming practices. No label holds an error text or anything else without a bound. Of hosts, only vaults
    are counted one by one: there are no more of them than keys.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each counter has a second series with its time of creation
        self.registry = CollectorRegistry()
        self._vaults: set[str] = set()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.azure_requests = Counter(
            "cmk_azure_requests_total",
            "Requests sent to Azure, by service, host, operation and HTTP status (code 0: no answer).",
            ["service", "host", "operation", "code"],
            registry=self.registry,
        )
        self.azure_request_seconds = Histogram(
            "cmk_azure_request_seconds",
            "Duration of requests to Azure.",
            ["service"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.azure_budget_refusals = Counter(
            "cmk_azure_budget_refusals_total",
            "Requests not sent, because the call budget was used up or Azure had asked to wait (Retry-After).",
            ["service"],
            registry=self.registry,
        )
        self.kubernetes_requests = Counter(
            "cmk_kubernetes_requests_total",
            "Requests sent to the Kubernetes API except watches, by verb and HTTP status (status 0: no answer).",
            ["verb", "status"],
            registry=self.registry,
        )
        self.status_writes = Counter(
            "cmk_status_writes_total", "Status writes that changed something, by kind.", ["kind"], registry=self.registry
        )
        self.status_write_failures = Counter(
            "cmk_status_write_failures_total",
            "Status writes that the Kubernetes API refused or did not answer, by kind. Each is retried.",
            ["kind"],
            registry=self.registry,
        )
        self.notifications = Counter(
            "cmk_notifications_total",
            "Notifications posted to receivers, by result (delivered, failed). Each failed one is retried.",
            ["result"],
            registry=self.registry,
        )
        self.passes = Counter(
            "cmk_reconcile_passes_total",
            "Reconciles of an object, by kind and result (done; refused: by the Kubernetes API; failed: a bug).",
            ["kind", "result"],
            registry=self.registry,
        )
        self.pass_seconds = Histogram(
            "cmk_reconcile_pass_seconds",
            "Duration of one reconcile of an object.",
            ["kind"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queue_wait_seconds = Histogram(
            "cmk_queue_wait_seconds",
            "Time that an object waits in the queue, from the time its reconcile is due until the reconcile starts.",
            ["kind"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.refused_manifests = Counter(
            "cmk_refused_manifests_total",
            "Manifests, and changes of manifests, that no tenant admits, by kind. The audit record does not contain them.",
            ["kind"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            "cmk_watch_events_total", "Watch events received, by kind.", ["kind"], registry=self.registry
        )
        self.watch_established = Gauge(
            "cmk_watch_established",
            "1 while the operator sees the changes of a kind, 0 while it does not (/readyz says why).",
            ["kind"],
            registry=self.registry,
        )
        self.audit_entries = Counter(
            "cmk_audit_entries_total", "Entries appended to the audit record, by event.", ["event"], registry=self.registry
        )
        self.audit_append_failures = Counter(
            "cmk_audit_append_failures_total",
            "Writes of the audit record that failed. Each is retried.",
            registry=self.registry,
        )
        self.audit_undelivered = Gauge(
            "cmk_audit_undelivered_entries", "Entries that the audit sink has not accepted yet.", registry=self.registry
        )
        self.key_last_probe = Gauge(
            "cmk_key_last_probe_timestamp_seconds",
            "Unix time at which this process last probed the key, whatever the result.",
            ["namespace", "name"],
            registry=self.registry,
        )
        self.key_last_success = Gauge(
            "cmk_key_last_access_success_timestamp_seconds",
            "Unix time of the oldest of this process's last successful get, wrapKey and unwrapKey of the key.",
            ["namespace", "name"],
            registry=self.registry,
        )

    def count_azure_request(self, service: str, host: str, operation: str, code: int) -> None:
        """Count one request to Azure."""
        if service == KEY_VAULT:
            self._vaults.add(host)
        self.azure_requests.labels(service, host, operation, str(code)).inc()

    def keep_vaults(self, hosts: AbstractSet[str]) -> None:
        """Drop the counts of vaults that hold no key any more."""
        for host in self._vaults - hosts:
            self.azure_requests.remove_by_labels({"host": host})
        self._vaults &= hosts

    def probed(self, namespace: str, name: str, at: float, proven: float | None) -> None:
        """Note a probe of a key, and since when the whole probe has passed (None: it has not), in Unix time."""
        self.key_last_probe.labels(namespace, name).set(at)
        if proven is not None:
            self.key_last_success.labels(namespace, name).set(proven)

    def forget_key(self, namespace: str, name: str) -> None:
        """Drop the measurements of a key that no longer exists."""
        self.key_last_probe.remove(namespace, name)
        self.key_last_success.remove(namespace, name)
