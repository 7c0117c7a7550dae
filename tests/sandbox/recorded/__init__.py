"""What Azure was recorded to answer, as small data of our own, and the runner that asks the sandbox the same."""
