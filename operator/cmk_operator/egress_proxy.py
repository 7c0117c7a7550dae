"""The way out of the cluster: the proxy that the standard variables name."""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass


def egress_proxy(host: str) -> str | None:
    """The URL of the proxy to `host`, which may carry a port; None when the way is direct.

    Whoever asks often remembers the answer: aiohttp's own way, `trust_env`, asks a thread for each request.
    """
    return None if proxy_bypass(host) else getproxies().get("https")
