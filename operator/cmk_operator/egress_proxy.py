"""The proxy for requests that leave the cluster, from the standard variables."""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass


def egress_proxy(host: str) -> str | None:
    """The URL of the proxy to `host`, which may have a port; None if there is none.

    A caller that needs the answer often must keep it. aiohttp's own `trust_env` would use a thread for each request.
    """
    return None if proxy_bypass(host) else getproxies().get("https")
