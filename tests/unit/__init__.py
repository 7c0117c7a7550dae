"""Laws and decisions of the operator, each as a sentence; no network, no clock, no sleep."""
