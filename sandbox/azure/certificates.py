"""The sandbox's own certificate authority and the one server certificate for all of Azure's names."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

from sandbox.azure.endpoints import here

if TYPE_CHECKING:
    from pathlib import Path

SNOWFLAKE_REGION = "west-europe.azure"
SNOWFLAKE_SUFFIX = ".snowflakecomputing.com"


def server_context(ca_bundle: Path) -> ssl.SSLContext:
    """A TLS context for every name of Azure; the authority's certificate is written to `ca_bundle`."""
    authority = trustme.CA(organization_name="cmk-operator sandbox")
    suffixes = (here().vault_suffix, here().blob_suffix, SNOWFLAKE_SUFFIX)
    names = [*sorted(here().fixed_hosts), *(f"*{suffix}" for suffix in suffixes), here().vault_suffix.removeprefix(".")]
    names.append(f"*.{SNOWFLAKE_REGION}{SNOWFLAKE_SUFFIX}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_bundle))
    return context
