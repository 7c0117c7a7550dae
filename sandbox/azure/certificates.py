"""The sandbox's own certificate authority and the one server certificate for all of Azure's names."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

FIXED_HOSTS = frozenset({"login.microsoftonline.com", "login.windows.net", "graph.microsoft.com", "management.azure.com"})
SNOWFLAKE_REGION = "west-europe.azure"
SUFFIXES = (".vault.azure.net", ".blob.core.windows.net", ".snowflakecomputing.com")


def server_context(ca_bundle: Path) -> ssl.SSLContext:
    """A TLS context for every name of Azure; the authority's certificate is written to `ca_bundle`."""
    authority = trustme.CA(organization_name="cmk-operator sandbox")
    names = [*sorted(FIXED_HOSTS), *(f"*{suffix}" for suffix in SUFFIXES), "vault.azure.net"]
    names.append(f"*.{SNOWFLAKE_REGION}.snowflakecomputing.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_bundle))
    return context
