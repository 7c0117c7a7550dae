"""What the API server itself counts: requests by verb and resource. Read before and after a measurement, never during it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from bench.floor import processor_seconds

if TYPE_CHECKING:
    from sandbox.kubernetes.cluster import Cluster

_RESOURCES: Final = frozenset(
    {
        "encryptedresources",
        "customermanagedkeys",
        "customertenants",
        "federatedidentities",
        "preflights",
        "events",
        "configmaps",
        "secrets",
        "leases",
    }
)
"""The resources that an operator requests; all others are the API server's internal requests."""
_SAMPLE: Final = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<count>\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def requests(cluster: Cluster) -> Counter[str]:
    """Requests answered so far, as `VERB resource/subresource`; watches are left out, because they count when they end."""
    found: Counter[str] = Counter()
    for line in cluster.kubectl("get", "--raw", "/metrics").splitlines():
        match = _SAMPLE.match(line)
        labels = dict(_LABEL.findall(match["labels"])) if match is not None else {}
        if match is not None and labels.get("resource") in _RESOURCES and labels["verb"] != "WATCH":
            subresource = f"/{labels['subresource']}" if labels.get("subresource") else ""
            found[f"{labels['verb']} {labels['resource']}{subresource}"] += int(float(match["count"]))
    return found


def processor_time(cluster: Cluster) -> float:
    """Processor time of the API server so far, in seconds."""
    return sum(processor_seconds(process.pid) for process in cluster.processes if process.name == "kube-apiserver")
