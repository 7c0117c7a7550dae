"""The proxy that the standard variables name, and what they except from it."""

from __future__ import annotations

import pytest

from cmk_operator.egress_proxy import egress_proxy


@pytest.mark.parametrize(
    ("host", "proxy"),
    [
        ("vault.azure.net", "http://proxy.contoso:3128"),
        ("vault.azure.net:443", "http://proxy.contoso:3128"),
        ("receiver.inside", None),
        ("receiver.inside:8443", None),
        ("other.inside:9443", None),
        ("other.inside:443", "http://proxy.contoso:3128"),
    ],
)
def test_what_the_variables_except_is_reached_directly(monkeypatch: pytest.MonkeyPatch, host: str, proxy: str | None) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.contoso:3128")
    monkeypatch.setenv("no_proxy", "receiver.inside,other.inside:9443")
    assert egress_proxy(host) == proxy


def test_without_variables_every_way_is_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert egress_proxy("vault.azure.net") is None
