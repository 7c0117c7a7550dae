"""An organization whose licence has ended: its rows stay readable, its key is followed, and its settings stay as they are."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from sandbox import postgresql
from sandbox.administrators import ProviderAdministrator
from sandbox.kubernetes.objects import condition, has
from sandbox.operator_process import NAMESPACE, start_operator
from tests.e2e.conftest import SETTINGS
from tests.e2e.key_service import SERVICE_ACCOUNT, SUBJECT, running
from tests.e2e.test_organization_scenarios import ROW, Acme, revision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sandbox.administrators import ProviderIdentity
    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.operator_process import OperatorProcess
    from tests.e2e.key_service import KeyService
    from tests.environment import Environment

pytestmark = pytest.mark.cluster
LICENCE = "/apis/cmk-operator.dev/v1alpha1/licences"
ENTERPRISE = {"licensing": "Unified", "plan": "Enterprise", "state": "Active"}


@pytest.fixture(scope="module")
def with_licences(
    empty_cluster: Cluster, azure: AzureProcess, operator_process: OperatorProcess, operator_directory: Path
) -> Iterator[None]:
    """The operator of these tests, started anew with licences; the policies are tried in tests/chart."""
    named = ("--verb=get", "--resource=licences.cmk-operator.dev", "--resource-name=organizations")
    empty_cluster.kubectl("create", "clusterrole", "licence-reader", *named)
    bound = ("--clusterrole=licence-reader", f"--serviceaccount={NAMESPACE}:cmk-operator")
    empty_cluster.kubectl("create", "clusterrolebinding", "licence-reader", *bound)

    def restart(**settings: str) -> None:
        assert operator_process.stop() == 0
        started = start_operator(empty_cluster, azure.env, operator_directory, {**SETTINGS, **settings})
        operator_process.process, operator_process.url = started.process, started.url

    restart(CMK_OPERATOR_LICENCES="true")
    yield
    restart()


@pytest.fixture
async def key_service(
    with_licences: None,
    identity: ProviderIdentity,
    empty_cluster: Cluster,
    azure: AzureProcess,
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[KeyService]:
    assert with_licences is None
    assert identity.application_client_id, "the identity that the key service shares is there"
    for name in ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, azure.env[name])
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE_ACCOUNT, "namespace": NAMESPACE}}
    empty_cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(account))
    async with ProviderAdministrator(azure.env) as provider:
        await provider.prepare(issuer=empty_cluster.issuer, key_service_account=SUBJECT)
    server = await asyncio.to_thread(postgresql.start, tmp_path / "postgresql")
    async with running(empty_cluster, server, tmp_path, token) as service:
        yield service
    await asyncio.to_thread(server.stop)
    empty_cluster.kubectl("delete", "serviceaccount", SERVICE_ACCOUNT, "--namespace", NAMESPACE)


async def licensed(acme: Acme, entry: dict[str, Any] | None, **platform: str) -> None:
    """Write the Licence, and ask for a pass, which reads it anew."""
    spec = {**platform, "organizations": {acme.id: entry} if entry is not None else {}}
    body = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": "Licence", "metadata": {"name": "organizations"}, "spec": spec}
    apply = "application/apply-patch+yaml"
    await acme.environment.objects.call("PATCH", f"{LICENCE}/organizations", body, apply, fieldManager="billing", force="true")


async def test_a_frozen_organization_reads_its_rows_follows_its_key_and_keeps_its_settings(
    environment: Environment, key_service: KeyService
) -> None:
    acme = Acme(environment, key_service)
    await environment.vault_with_key()
    await licensed(acme, None)
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_organization()
    status = await acme.until("no licence", has("LicenceAllowsChange", "False", "LicenceMissing"))
    assert "accepted" not in status
    assert (status["test"]["stage"], status["test"]["result"]) == ("Licence", "Failed")
    assert "the provider's administrator must list it in the Licence organizations" in condition(status, "Ready")["message"]

    await licensed(acme, ENTERPRISE)
    await acme.request()
    await acme.until("licensed", has("LicenceAllowsChange", "True", "Licensed"), has("Serving"))
    acme.row = await key_service.write(acme.id, ROW)

    await licensed(acme, {**ENTERPRISE, "state": "ViewOnly"}, viewOnlyEncrypt="Refused")
    await acme.request()
    frozen = has("LicenceAllowsChange", "False", "LicenceViewOnly")
    status = await acme.until("frozen", frozen, lambda seen: seen["accepted"].get("encrypt") == "Refused")
    assert status["accepted"]["revision"] == 1
    assert condition(status, "Ready")["status"] == "True"
    assert await acme.reads() == ROW

    # A new version of the key is followed, and the row is still read once the old one is disabled.
    version = await environment.customer.new_version(environment.vault, "cmk")
    await acme.request()
    status = await acme.until("followed", frozen, revision(2), has("RewrapComplete"))
    assert status["accepted"]["kid"] == version
    assert status["accepted"]["encrypt"] == "Refused"
    key_service.replica.data_keys.evict(acme.id)
    assert await acme.reads() == ROW

    # A manifest that no policy has stopped is not in force either; the platform's key is the one way.
    await environment.customer.create_key(environment.vault, "other")
    await environment.apply_organization(keyUri=environment.key_uri(key="other"))
    status = await acme.until("refused", has("ConfigurationAccepted", "False", "LicenceViewOnly"))
    assert status["accepted"]["kid"] == version
    await environment.apply_organization(mode="PlatformManaged")
    status = await acme.until("the platform's key", revision(3), has("RewrapComplete"))
    assert status["accepted"]["kid"] == "platform-key"
    assert await acme.reads() == ROW
    await environment.apply_organization()
    await acme.until("no way back", has("ConfigurationAccepted", "False", "LicenceViewOnly"))
    assert await acme.reads() == ROW
