"""One level-triggered pass over one object: gather, decide, act, report."""
