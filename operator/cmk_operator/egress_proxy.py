"""The proxy for requests that leave the cluster, from the standard variables."""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass


def egress_proxy(host: str) -> str | None:
    """The URL of the proxy to `host`, which may have a port; None if there is none.

    Callers keep the answer if they need it often: aiohttp's own `trust_env` uses a thread for each request.
    """
    return None if proxy_bypass(host) else getproxies().get("https")
