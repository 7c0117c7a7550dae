"""The simulated Azure, judged by the real SDKs: from each cause to the exact refusal."""
