"""One step for each file, in the order that their `down_revision` gives."""
