"""One level-triggered reconciliation of one object: observe, decide, act, report."""
