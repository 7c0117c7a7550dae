"""Makes what a release consists of, from one commit: `make dist` and `make release` (docs/releases.md)."""
