"""A Snowflake account on a customer's key: registered, consented, verified, waited for, activated, rekeyed, lost and healed."""

from __future__ import annotations

import base64
import itertools
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from sandbox.administrators.snowflake import SnowflakeAdministrator, SnowflakeError, new_key, private_pem
from sandbox.kubernetes.objects import condition, has
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT, start_operator
from tests.e2e.conftest import SETTINGS
from tests.e2e.test_requested_passes import REQUESTED
from tests.e2e.test_rotation import new_version, version_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.operator_process import OperatorProcess
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

HOUR = 3600.0
_NUMBERS = itertools.count(1)
WAIT = 72 * HOUR
RBAC = "rbac.authorization.k8s.io"
IN_PROGRESS = has("Ready", "False", "OperationInProgress")
PASSPHRASE = "correct horse"  # noqa: S105 - of keys that live as long as a test


@dataclass
class Warehouse:
    """A Snowflake account of one environment, its administrator, and the Secret by which the operator signs in."""

    environment: Environment
    snowflake: SnowflakeAdministrator

    @property
    def account(self) -> str:
        return f"contoso-{self.environment.name}"

    async def prepare(self, *, grant: bool) -> str:
        """Account, Secret, right to read it, vault, key, tenant and key manifest; the key's version."""
        environment = self.environment
        await self.snowflake.open_account(self.account, "CMK")
        await self.write_secret()
        await self._let_read_secrets()
        version = await environment.vault_with_key()
        if grant:
            await environment.customer.consent(await self.application())
            await self.grant()
        await environment.apply_identity()
        await environment.apply_tenant(allowedSnowflakeAccounts=[self.account])
        await environment.apply_key()
        return version

    async def write_secret(self, **changes: str) -> None:
        """The private key, under a passphrase."""
        key = {"privateKey": private_pem(self.snowflake.key, PASSPHRASE), "passphrase": PASSPHRASE} | changes
        data = {name: base64.b64encode(value.encode()).decode() for name, value in key.items()}
        path = f"/api/v1/namespaces/{self.environment.namespace}/secrets/snowflake"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "snowflake"}, "data": data}
        await self.environment.objects.call(
            "PATCH", path, body, "application/apply-patch+yaml", fieldManager="tests", force="true"
        )

    async def _let_read_secrets(self) -> None:
        """As the chart does for the names in rbac.secrets."""
        path = f"/apis/{RBAC}/v1/namespaces/{self.environment.namespace}"
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["snowflake"]}]
        role = {"metadata": {"name": "secrets"}, "rules": rules}
        await self.environment.objects.call("POST", f"{path}/roles", role)
        subject = {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}
        reference = {"apiGroup": RBAC, "kind": "Role", "name": "secrets"}
        binding = {"metadata": {"name": "secrets"}, "roleRef": reference, "subjects": [subject]}
        await self.environment.objects.call("POST", f"{path}/rolebindings", binding)

    async def application(self) -> str:
        """Snowflake's own application, as any account tells it."""
        other = f"{self.account}-other"
        await self.snowflake.open_account(other)
        await self.snowflake.ask(other, "SYSTEM$REGISTER_CMK_INFO('https://vault.vault.azure.net', 'k')")
        config = await self.snowflake.ask(other, f"SYSTEM$GET_CMK_CONFIG('{self.environment.customer.tenant_id}')")
        return config.partition("client_id=")[2].partition("&")[0]

    async def grant(self) -> None:
        await self.environment.customer.grant(await self.application(), self.environment.vault, role="Key Vault Crypto User")

    async def apply(self, **spec: Any) -> None:
        """The manifest."""
        reference = {"name": "snowflake", "passphraseKey": "passphrase"}
        body = {
            "keyRef": {"name": "cmk"},
            "snowflake": {
                "account": self.account,
                "user": "CMK",
                "privateKeySecretRef": reference,
                **spec.pop("snowflake", {}),
            },
            **spec,
        }
        await self.environment.objects.apply("EncryptedResource", "warehouse", body, self.environment.namespace)

    async def until(self, what: str, test: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Ask for a pass, so that no test waits for the slow retries of a person's move, and wait for the status."""
        annotation = {"metadata": {"annotations": {REQUESTED: str(next(_NUMBERS))}}}
        await self.environment.objects.merge("EncryptedResource", "warehouse", annotation, self.environment.namespace)
        return await self.environment.resource_until(what, test, "warehouse")

    async def advance(self, seconds: float) -> None:
        await self.environment.control.advance(seconds)

    async def own(self) -> dict[str, Any]:
        """What only Snowflake knows."""
        return await self.environment.control.snowflake_account(self.account)

    async def activated(self, **spec: Any) -> str:
        """All the way to Ready without the waits, which a test of their own plays; the version."""
        control = self.environment.control
        version = await self.prepare(grant=True)
        before = await control.timings()
        await control.set_timings(snowflake_activation_wait_seconds=0, snowflake_rekey_seconds=0)
        await self.apply(**spec)
        await self.until("Ready", has("Ready"))
        await control.set_timings(snowflake_rekey_seconds=before["snowflake_rekey_seconds"])
        return version


@pytest.fixture
async def warehouse(environment: Environment, azure: AzureProcess) -> AsyncIterator[Warehouse]:
    async with SnowflakeAdministrator(azure.env, environment.control) as snowflake:
        yield Warehouse(environment, snowflake)


async def test_an_account_comes_onto_the_key_as_customer_and_snowflake_do_their_part(warehouse: Warehouse) -> None:
    environment, customer = warehouse.environment, warehouse.environment.customer
    with suppress(ResourceNotFoundError):
        await customer.withdraw_consent(await warehouse.application())
    version = await warehouse.prepare(grant=False)
    began = datetime.now(UTC)
    await warehouse.apply(snowflake={"networkRules": True})

    status = await warehouse.until("consent", has("Ready", "False", "SnowflakeConsentMissing"))
    assert "customer's administrator" in condition(status, "Ready")["message"]
    assert condition(status, "Stalled")["status"] == "True"
    details = status["details"]
    assert details["servicePrincipalName"] == "trisec_cmk_azure"
    assert len(details["networkSubnets"]) == 2
    end = datetime.fromisoformat(details["waitsUntil"])
    assert timedelta(seconds=WAIT - 5) < end - began < timedelta(seconds=WAIT + 60)
    await customer.consent_at(details["consentUrl"])
    await warehouse.until("the grant", has("Ready", "False", "SnowflakeNotPermitted"))
    await warehouse.grant()
    await customer.set_firewall(environment.vault, addresses=["203.0.113.10"])
    await warehouse.until("the firewall", has("Ready", "False", "SnowflakeBlockedByFirewall"))
    await customer.set_firewall(environment.vault, addresses=["203.0.113.10"], subnets=details["networkSubnets"])

    status = await warehouse.until("the wait", has("Ready", "False", "WaitingForActivation"))
    assert condition(status, "Reconciling")["status"] == "True", "a wait is no error"
    assert datetime.fromisoformat(status["details"]["waitsUntil"]) == end
    await warehouse.advance(WAIT)
    await warehouse.until("the activation", IN_PROGRESS)
    assert await warehouse.snowflake.read(warehouse.account) == [["one order"]]
    await warehouse.advance(HOUR)
    status = await warehouse.until("Ready", has("Ready"))
    assert status["applied"]["keyUri"] == environment.key_uri(version)
    assert status["rotations"][0]["by"] == "cmk-operator"
    assert "waitsUntil" not in status["details"]
    assert has("KeyCurrent")(status)
    own = await warehouse.own()
    assert own["active_version"] == version
    assert len([mail for mail in own["emails"] if "registered" in mail]) == 1, "a second registration starts the wait anew"


async def test_a_new_version_is_taken_over_by_one_rekey_over_a_restart_and_the_old_one_is_in_use_until_then(
    warehouse: Warehouse,
    operator: Operator,
    empty_cluster: Cluster,
    azure: AzureProcess,
    operator_directory: Path,
    operator_process: OperatorProcess,
) -> None:
    environment = warehouse.environment
    old = await warehouse.activated()
    new = await new_version(environment)
    status = await warehouse.until("the rekey", IN_PROGRESS)
    assert has("Encrypted")(status)
    assert status["applied"]["version"] == old

    assert operator_process.stop() == 0
    again = start_operator(empty_cluster, azure.env, operator_directory, SETTINGS)
    operator_process.process, operator_process.url = again.process, again.url
    await operator.after_passes(3)
    key = await environment.key_until("in use", lambda seen: version_of(seen, old).get("inUseBy") == ["warehouse"])
    assert "safeToDisableAfter" not in version_of(key, old)
    assert (await warehouse.own())["changing_to_version"] == new
    await warehouse.advance(HOUR)
    status = await warehouse.until("rekeyed", lambda seen: has("Ready")(seen) and seen["applied"]["version"] == new)
    assert status["rotations"][0] | {"at": "", "requestId": ""} == {
        "from": environment.key_uri(old),
        "to": environment.key_uri(new),
        "by": "cmk-operator",
        "at": "",
        "requestId": "",
    }
    await environment.key_until("superseded", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    own = await warehouse.own()
    assert own["active_version"] == new
    assert len([mail for mail in own["emails"] if "complete" in mail]) == 2, "one activation and one rekey"
    text = operator.log()
    assert PASSPHRASE not in text
    assert "PRIVATE KEY" not in text
    assert "eyJ" not in text


async def test_a_lost_key_is_a_state_of_the_account_and_heals(warehouse: Warehouse) -> None:
    environment, customer = warehouse.environment, warehouse.environment.customer
    await warehouse.activated()
    application = await warehouse.application()
    await customer.disable(environment.vault, "cmk")
    status = await warehouse.until("lost", has("KeyAccessible", "False", "Disabled"))
    assert has("Ready", "False", "Disabled")(status)
    assert has("Encrypted")(status), "nothing weakens encryption because a key was lost"
    await warehouse.advance(601)
    with pytest.raises(SnowflakeError, match="disabled"):
        await warehouse.snowflake.read(warehouse.account)
    await customer.enable(environment.vault, "cmk")
    await warehouse.until("healed", has("Ready"))
    assert await warehouse.snowflake.read(warehouse.account) == [["one order"]]
    # What only Snowflake's own application has lost, the operator's probe does not see: Snowflake is asked.
    await customer.revoke_grant(application, environment.vault)
    status = await warehouse.until("its grant", has("Ready", "False", "SnowflakeNotPermitted"))
    assert has("Encrypted")(status)
    assert has("KeyAccessible")(status)
    await customer.grant(application, environment.vault, role="Key Vault Crypto User")
    await warehouse.until("healed", has("Ready"))
    own = await warehouse.own()
    assert own["changing_to"] is None
    assert len([mail for mail in own["emails"] if "registered" in mail]) == 1


async def test_multi_party_approval_is_asked_for_with_a_reason_and_waited_for(warehouse: Warehouse) -> None:
    control = warehouse.environment.control
    await warehouse.prepare(grant=True)
    await control.set_snowflake_account(warehouse.account, approvers=["CAROL"])
    await warehouse.advance(WAIT)
    await warehouse.apply()
    status = await warehouse.until("approval", has("Ready", "False", "MultiPartyApprovalRequired"))
    (request,) = (await warehouse.own())["approvals"]
    assert request["state"] == "PENDING", "without a reason no approver is asked"
    assert request["id"] in condition(status, "Ready")["message"]
    assert "approvers" in condition(status, "Ready")["message"]
    await control.vote_in_snowflake(warehouse.account, request["id"], "CAROL", "APPROVE")
    await warehouse.until("the activation", IN_PROGRESS)
    await warehouse.advance(HOUR)
    await warehouse.until("Ready", has("Ready"))
    assert [one["state"] for one in (await warehouse.own())["approvals"]] == ["EXECUTED"]


async def test_what_snowflake_refuses_names_who_must_act_and_heals(warehouse: Warehouse) -> None:
    environment, control = warehouse.environment, warehouse.environment.control
    await warehouse.prepare(grant=True)
    await environment.apply_tenant()
    await warehouse.apply()
    await warehouse.until("the tenant", has("Ready", "False", "SnowflakeAccountNotAllowed"))
    await environment.apply_tenant(allowedSnowflakeAccounts=[warehouse.account])

    await control.set_snowflake_account(warehouse.account, edition="ENTERPRISE")
    status = await warehouse.until("the edition", has("Ready", "False", "EditionTooLow"))
    assert "provider's administrator" in condition(status, "Ready")["message"]
    await control.set_snowflake_account(warehouse.account, edition="BUSINESS_CRITICAL")
    await warehouse.until("the wait", has("Ready", "False", "WaitingForActivation"))
    await warehouse.write_secret(privateKey=private_pem(new_key(), PASSPHRASE))
    status = await warehouse.until("the key pair", has("Ready", "False", "KeyPairNotAccepted"))
    assert "ALTER USER" in condition(status, "Ready")["message"]
    await warehouse.write_secret()
    await warehouse.until("the wait", has("Ready", "False", "WaitingForActivation"))


async def test_another_registered_key_is_never_replaced(warehouse: Warehouse) -> None:
    await warehouse.prepare(grant=True)
    await warehouse.snowflake.ask(warehouse.account, "SYSTEM$REGISTER_CMK_INFO('https://vault.vault.azure.net', 'k')")
    await warehouse.apply()
    status = await warehouse.until("the other key", has("Ready", "False", "OtherKeyRegistered"))
    assert "SYSTEM$DEREGISTER_CMK_INFO()" in condition(status, "Ready")["message"]
    assert (await warehouse.own())["registered"] == "https://vault.vault.azure.net/keys/k"
    await warehouse.snowflake.ask(warehouse.account, "SYSTEM$DEREGISTER_CMK_INFO()")
    await warehouse.until("the wait", has("Ready", "False", "WaitingForActivation"))


async def test_only_a_manifest_that_says_so_deactivates_the_key(warehouse: Warehouse) -> None:
    await warehouse.activated(deletionPolicy="RevertToPlatformKey")
    objects, namespace = warehouse.environment.objects, warehouse.environment.namespace
    await objects.delete("EncryptedResource", "warehouse", namespace)
    await warehouse.environment.eventually("the deactivation", lambda: _changing_to(warehouse, "platform"))
    await warehouse.advance(HOUR)
    await objects.until_gone("EncryptedResource", "warehouse", namespace)
    assert (await warehouse.own())["active"] is None
    assert await warehouse.snowflake.read(warehouse.account) == [["one order"]]


async def _changing_to(warehouse: Warehouse, what: str) -> bool:
    return bool((await warehouse.own())["changing_to"] == what)
