"""What the passes share: the cluster, reporting, intervals, and whom a change wakes."""
