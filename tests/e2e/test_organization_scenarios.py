"""The second part of docs/scenarios.md: an organization's own key from cause over status to recovery, with rows that it protects."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cmk_keyservice.problem import Kind, Problem
from sandbox import postgresql
from sandbox.administrators import ProviderAdministrator
from sandbox.kubernetes.objects import Objects, RefusedError, condition, has
from sandbox.operator_process import NAMESPACE
from sandbox.operator_process import SERVICE_ACCOUNT as OPERATOR
from tests.certificates import Made, rsa_key
from tests.e2e.key_service import SERVICE_ACCOUNT, SUBJECT, running
from tests.monitoring.live import begun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from sandbox.administrators import OwnRegistration, ProviderIdentity
    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql
    from tests.e2e.conftest import Operator
    from tests.e2e.key_service import KeyService
    from tests.environment import Environment

pytestmark = pytest.mark.cluster
ROW = "Ada Lovelace, 10 December 1815"
RBAC = "rbac.authorization.k8s.io"
Status = dict[str, Any]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgresql]:
    server = postgresql.start(tmp_path_factory.mktemp("postgresql") / "server")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def trusted(azure: AzureProcess, identity: ProviderIdentity, empty_cluster: Cluster, token: str) -> str:
    """The administrator's token of a cluster whose key service Entra trusts."""
    assert identity.application_client_id, "the identity that the key service shares is there"

    async def trust() -> None:
        async with ProviderAdministrator(azure.env) as provider:
            await provider.prepare(issuer=empty_cluster.issuer, key_service_account=SUBJECT)

    asyncio.run(trust())
    empty_cluster.kubectl("create", "serviceaccount", SERVICE_ACCOUNT, "--namespace", NAMESPACE)
    return token


@pytest.fixture
async def key_service(
    trusted: str,
    empty_cluster: Cluster,
    postgres: Postgresql,
    azure: AzureProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[KeyService]:
    for name in ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, azure.env[name])
    # Ten minutes: the bound of what only a new sign-in shows, which no test can wait for.
    monkeypatch.setattr("cmk_keyservice.vaults.vaults.SIGNED_IN_FOR", 0.0)
    async with running(empty_cluster, postgres, tmp_path, trusted) as service:
        yield service


@dataclass
class Acme:
    """An organization, its OrganizationKey, and a row that a service of the platform has encrypted for it."""

    environment: Environment
    key_service: KeyService
    row: bytes = b""

    @property
    def id(self) -> str:
        return f"{self.environment.name}-acme"

    async def begin(self, **spec: Any) -> Status:
        """Everything up to an encrypted row, by settings that have passed their test."""
        await self.environment.apply_identity()
        await self.environment.apply_tenant(
            allowedVaults=[f"{self.environment.vault}.vault.azure.net", f"{self.environment.vault}-new.vault.azure.net"]
        )
        await self.environment.apply_organization(**spec)
        status = await self.until("served", has("Serving"))
        self.row = await self.key_service.write(self.id, ROW)
        assert await self.reads() == ROW
        return status

    async def until(self, what: str, *tests: Callable[[Status], object]) -> Status:
        return await self.environment.organization_until(what, lambda status: all(test(status) for test in tests))

    async def reads(self) -> str | Problem:
        return await self.key_service.read(self.id, self.row)

    async def lost(self, reason: str) -> Status:
        """The loss as both see it, and as a service meets it."""
        status = await self.until(reason, has("KeyAccessible", "False", reason), has("Serving", "False", "ServingRefused"))
        refused = await self.reads()
        assert isinstance(refused, Problem)
        assert refused.kind is Kind.DENIED
        # Memory says what was confirmed, and the vault itself what it was just asked: both name who must act.
        assert "'s administrator" in refused.remedy
        assert condition(status, "Ready")["status"] == "False"
        assert " must " in condition(status, "KeyAccessible")["message"]
        return status

    async def back(self) -> Status:
        """All is well again, and the row has not changed."""
        status = await self.until("back", has("KeyAccessible"), has("Serving", "True", "Serving"))
        assert await self.reads() == ROW
        return status

    async def request(self) -> None:
        """Have the operator look for a new version now, as `kubectl annotate` does."""
        annotation = {"cmk-operator.dev/reconcile-requested-at": datetime.now(UTC).isoformat()}
        await self.environment.objects.merge(
            "OrganizationKey", "acme", {"metadata": {"annotations": annotation}}, self.environment.namespace
        )

    async def store(self, **values: str | bytes) -> None:
        """Write the Secret `credential`, which the operator may read as with the chart's value rbac.secrets."""
        objects, namespace = self.environment.objects, self.environment.namespace
        data = {
            name: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
            for name, value in values.items()
        }
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credential"}, "data": data}
        path = f"/api/v1/namespaces/{namespace}/secrets/credential"
        await objects.call("PATCH", path, body, "application/apply-patch+yaml", fieldManager="tests", force="true")
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["credential"]}]
        await self.let("secrets", OPERATOR, NAMESPACE, rules=rules)

    async def let(self, name: str, account: str, namespace: str, *, rules: list[dict[str, Any]] | None = None) -> None:
        """Bind a ServiceAccount to a Role with these rules, or to the chart's ClusterRole of that name."""
        path = f"/apis/{RBAC}/v1/namespaces/{self.environment.namespace}"
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        kind = "Role" if rules is not None else "ClusterRole"
        role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [subject],
        }
        bodies = [("roles", role)] if rules is not None else []
        for plural, body in [*bodies, ("rolebindings", binding)]:
            await self.environment.objects.call(
                "PATCH", f"{path}/{plural}/{name}", body, "application/apply-patch+yaml", fieldManager="tests", force="true"
            )


@pytest.fixture
def acme(environment: Environment, key_service: KeyService) -> Acme:
    return Acme(environment, key_service)


def revision(number: int) -> Callable[[Status], bool]:
    return lambda status: bool(status["accepted"]["revision"] == number)


async def test_each_way_in_which_an_organization_takes_its_key_away_ends_its_rows_and_all_come_back(
    acme: Acme, operator: Operator, tmp_path: Path
) -> None:
    environment = acme.environment
    customer, application = environment.customer, environment.identity.application_client_id
    vault = environment.vault
    await environment.vault_with_key()
    accepted = (await acme.begin())["accepted"]
    serving = rf'cmk_organization_key_condition\{{.*"{environment.namespace}".*status="%s",type="Serving"\}}'
    served = await operator.scrape(serving % "True")

    await customer.disable(vault, "cmk")
    await acme.lost("Disabled")
    refused = await operator.scrape(serving % "False")
    assert "CmkOrganizationNotServed" in begun(served, refused, tmp_path, namespace=environment.namespace)
    await customer.enable(vault, "cmk")
    await acme.back()

    await customer.delete_key(vault, "cmk")
    status = await acme.lost("Missing")
    assert "must recover it if it was deleted" in condition(status, "KeyAccessible")["message"]
    await customer.recover_key(vault, "cmk")
    await acme.back()

    await customer.revoke_grant(application, vault)
    await acme.lost("PermissionDenied")
    await customer.grant(application, vault)
    await acme.back()

    await customer.set_firewall(vault)
    await acme.lost("FirewallBlocksProbe")
    await customer.set_firewall(vault, default_action="Allow")
    await acme.back()

    await customer.withdraw_consent(application)
    try:
        await acme.lost("ConsentMissing")
    finally:
        await customer.consent(application)
    await customer.grant(application, vault)
    status = await acme.back()
    assert status["accepted"] == accepted, "nothing of this needs an edit"


async def test_an_outage_of_the_vault_is_told_and_takes_no_row_away(acme: Acme) -> None:
    environment = acme.environment
    await environment.vault_with_key()
    await acme.begin()
    fault = await environment.control.inject(kind="status", host=f"{environment.vault}.vault.azure.net", status=503)
    status = await acme.until("outage", has("KeyAccessible", "Unknown", "VaultUnreachable"), has("Serving", "True", "Coasting"))
    assert "nothing is concluded about the key" in condition(status, "KeyAccessible")["message"]
    assert await acme.reads() == ROW
    await environment.control.clear_fault(fault)
    await acme.back()


async def test_a_key_that_has_expired_still_decrypts_and_a_new_version_takes_over(acme: Acme) -> None:
    environment = acme.environment
    version = await environment.vault_with_key()
    await acme.begin()
    await environment.customer.set_expiry(environment.vault, "cmk", datetime.now(UTC) - timedelta(days=1))
    await acme.request()
    status = await acme.until("expired", has("KeyAccessible", "True", "KeyExpired"))
    told = condition(status, "KeyAccessible")["message"]
    assert "existing data stays readable, and nothing new is wrapped" in told
    assert "must create a new version" in told
    assert has("Serving")(status)
    assert await acme.reads() == ROW
    newer = (await environment.customer.create_key(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await acme.request()
    status = await acme.until(
        "the new version",
        revision(2),
        has("KeyAccessible", "True", "Accessible"),
        has("RewrapComplete"),
    )
    assert status["accepted"]["kid"] == environment.key_uri(newer)
    assert [one["kid"] for one in status["earlier"]] == [environment.key_uri(version)]
    await environment.customer.disable(environment.vault, "cmk", version)
    acme.key_service.replica.data_keys.evict(acme.id)
    assert await acme.reads() == ROW, "nothing needs the expired version"


async def test_a_purged_key_is_told_as_such_and_its_backup_brings_every_row_back_without_an_edit(acme: Acme) -> None:
    environment = acme.environment
    customer, vault = environment.customer, environment.vault
    await customer.consent(environment.identity.application_client_id)
    await customer.create_vault(vault, purge_protection=False)
    await environment.allowed(lambda: customer.create_key(vault, "cmk"))
    await customer.grant(environment.identity.application_client_id, vault)
    accepted = (await acme.begin())["accepted"]
    backup = await customer.back_up_key(vault, "cmk")
    await customer.delete_key(vault, "cmk")
    await acme.lost("Missing")
    await customer.purge_key(vault, "cmk")
    status = await acme.lost("Purged")
    told = condition(status, "KeyAccessible")["message"]
    assert "must restore it from a backup, which keeps its identifier" in told
    assert "without a backup the data under it is lost" in told
    await customer.create_key(vault, "another")
    await environment.apply_organization(keyUri=environment.key_uri(key="another"))
    status = await acme.until("nothing is given up by accident", has("ConfigurationAccepted", "False"))
    assert (status["test"]["stage"], status["accepted"]) == ("OldKey", accepted)
    await environment.apply_organization()
    await customer.restore_key(vault, backup)
    assert (await acme.back())["accepted"] == accepted


def registration_access(registration: OwnRegistration, *entries: str) -> dict[str, Any]:
    credentials = [{"secretRef": {"name": "credential", "key": entry}} for entry in entries]
    return {"registration": {"clientId": registration.client_id, "credentials": credentials}}


async def test_credentials_that_have_ended_stop_the_rows_and_whoever_may_edit_the_secret_brings_them_back(
    acme: Acme, empty_cluster: Cluster
) -> None:
    environment = acme.environment
    customer, vault, namespace = environment.customer, environment.vault, environment.namespace
    registration = await customer.register(f"{environment.name} encryption")
    await environment.vault_with_key(rbac=False, grant=False)
    await customer.set_access_policy(registration.client_id, vault, ("wrapKey", "unwrapKey"))
    key_id, secret = await customer.add_secret(registration)
    await acme.store(first=secret)
    await acme.begin(access=registration_access(registration, "first"))

    # Deleted in Entra: as a service meets it, and as status tells it.
    await customer.remove_secret(registration, key_id)
    status = await acme.lost("CredentialRefused")
    assert "must create a new one on its registration" in condition(status, "KeyAccessible")["message"]

    # Who may not edit the OrganizationKey is refused, and gets the chart's role from who may give it.
    empty_cluster.kubectl("create", "serviceaccount", "ada", "--namespace", namespace)
    async with Objects(empty_cluster, empty_cluster.service_account_token(namespace, "ada")) as ada:
        change = {"spec": {"access": registration_access(registration, "first", "second")}}
        with pytest.raises(RefusedError) as refusal:
            await ada.merge("OrganizationKey", "acme", change, namespace)
        assert refusal.value.status == 403
        await acme.let("cmk-operator-edit", "ada", namespace)
        _, renewed = await customer.add_secret(registration)
        await acme.store(first=secret, second=renewed)
        await environment.eventually("the role is in force", lambda: _edited(ada, change, namespace))
    status = await acme.back()
    assert status["accepted"]["revision"] == 2
    assert status["accepted"]["kid"] == status["earlier"][0]["kid"]

    # Then a new key and new credentials in one step, so that nobody else has them.
    certificate = Made(rsa_key(1))
    await customer.set_certificates(registration, certificate.der)
    new_uri = await customer.create_key(vault, "new", size=3072)
    await acme.store(second=renewed, pem=certificate.pem)
    await environment.apply_organization(keyUri=environment.key_uri(key="new"), access=registration_access(registration, "pem"))
    status = await acme.until(
        "the new key", revision(3), has("RewrapComplete"), has("CredentialValid", "True", "CredentialCurrent")
    )
    assert status["accepted"]["kid"] == new_uri
    await customer.disable(vault, "cmk")
    acme.key_service.replica.data_keys.evict(acme.id)
    assert await acme.reads() == ROW


async def _edited(somebody: Objects, change: dict[str, Any], namespace: str) -> bool:
    try:
        await somebody.merge("OrganizationKey", "acme", change, namespace)
    except RefusedError as error:
        if error.status != 403:
            raise
        return False
    return True
