"""The tests: unit, contract, cluster, chart and end to end."""
