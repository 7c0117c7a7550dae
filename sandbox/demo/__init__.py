"""The main job, end to end: a real API server, real tokens, the real SDKs, and a simulated Azure."""
