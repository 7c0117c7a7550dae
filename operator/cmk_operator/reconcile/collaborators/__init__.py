"""What the passes share: the cluster, reporting, intervals, and the enqueueing of dependents."""
