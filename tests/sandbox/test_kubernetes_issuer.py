"""The whole chain on real parts: a real API server's ServiceAccount token, read and verified by the simulated Entra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import ClientAssertionCredential

from sandbox.administrators import ProviderAdministrator, SandboxControl
from sandbox.administrators.rest import connection
from sandbox.azure import process

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.kubernetes.cluster import Cluster

AUDIENCE = "api://AzureADTokenExchange"


@pytest.mark.cluster
async def test_a_service_account_of_a_real_api_server_becomes_the_managed_identity(
    empty_cluster: Cluster, tmp_path: Path
) -> None:
    empty_cluster.kubectl("create", "namespace", "issuer-test")
    empty_cluster.kubectl("create", "serviceaccount", "operator", "--namespace", "issuer-test")
    token = empty_cluster.service_account_token("issuer-test", "operator", AUDIENCE)
    subject = "system:serviceaccount:issuer-test:operator"
    running = process.start(tmp_path, oidc_ca=empty_cluster.ca_file)
    try:
        async with ProviderAdministrator(running.env) as provider, SandboxControl(running.env["SANDBOX_CONTROL"]) as control:
            identity = await provider.prepare(issuer=empty_cluster.issuer, service_account=subject)
            await control.advance(2)
        tenant, client_id = running.env["PROVIDER_TENANT_ID"], identity.managed_identity_client_id
        async with ClientAssertionCredential(tenant, client_id, lambda: token, **connection(running.env)) as credential:
            got = (await credential.get_token("https://management.azure.com/.default")).token
        assert jwt.decode(got, options={"verify_signature": False})["oid"] == identity.managed_identity_principal_id
        plain = empty_cluster.service_account_token("issuer-test", "operator")
        async with ClientAssertionCredential(tenant, client_id, lambda: plain, **connection(running.env)) as credential:
            with pytest.raises(ClientAuthenticationError, match="AADSTS7002121"):
                await credential.get_token("https://management.azure.com/.default")
    finally:
        running.stop()
