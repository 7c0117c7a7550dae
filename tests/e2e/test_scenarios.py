"""The rows of docs/scenarios.md that no other file plays: a customer's whole environment from cause to status to recovery."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from click.testing import CliRunner

from cmk_operator.cli.commands import cmk
from sandbox.administrators.compute import ComputeAdministrator
from sandbox.administrators.provider import IDENTITIES
from sandbox.administrators.snowflake import SnowflakeAdministrator, SnowflakeError
from sandbox.azure.key_vault.access import CLIENT_ADDRESS
from sandbox.azure.snowflake.custody import SUBNETS
from sandbox.kubernetes import binaries
from sandbox.kubernetes.objects import condition, has
from tests.e2e.test_access_states import consent, delete, disable, enable, grant, recover, tenant_until, withdraw_consent
from tests.e2e.test_disks import CREATION
from tests.e2e.test_metrics import Scrapes
from tests.e2e.test_prerequisites import entry_of, prerequisite
from tests.e2e.test_rotation import new_version, version_of
from tests.e2e.test_snowflake import Warehouse
from tests.e2e.test_waiting_states import another_identity, credentials_of, trust_identity, trust_operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
ALL = {"Azure SQL", "Azure Storage", "Snowflake", "managed disks"}
AZURES = ALL - {"Snowflake"}
RESOURCES = {
    "docs": "Azure Storage",
    "sql": "Azure SQL",
    "des": "managed disks",
    "data": "managed disks",
    "warehouse": "Snowflake",
}
AFTER = {service: timedelta(hours=1) if service == "managed disks" else timedelta(minutes=10) for service in ALL}
LETTER = b"Dear customer"


@dataclass
class Estate:
    """One of each service on the customer's key, with data in it, and a virtual machine that runs on an encrypted disk."""

    environment: Environment
    warehouse: Warehouse
    account: str
    server: str
    machine: str
    version: str

    @property
    def compute(self) -> ComputeAdministrator:
        return ComputeAdministrator(self.environment.provider, self.environment.group)

    async def stopped(self) -> set[str]:
        """The services whose data cannot be used now, tried as their users would."""
        provider = self.environment.provider
        found = {"Azure Storage"} if await self._refused_by_storage() else set()
        if await provider.sql.status(self.server, "orders") == "Inaccessible":
            found.add("Azure SQL")
        if await self.compute.power(self.machine) == "PowerState/stopped":
            found.add("managed disks")
        try:
            assert await self.warehouse.snowflake.read(self.warehouse.account) == [["one order"]]
        except SnowflakeError:
            found.add("Snowflake")
        return found

    async def _refused_by_storage(self) -> bool:
        try:
            return await self.environment.provider.get_blob(self.account, "letters", "letter.txt") != LETTER
        except HttpResponseError as error:
            return error.status_code == 403

    async def until(self, what: str, test: Callable[[dict[str, Any]], object], name: str) -> dict[str, Any]:
        if name == "warehouse":
            return await self.warehouse.until(what, test)
        return await self.environment.resource_until(what, test, name)

    async def ready(self) -> None:
        """Wait until everything is Ready, then do what is left to the provider: boot the machine."""
        for name in RESOURCES:
            await self.until("Ready", lambda seen: has("Ready")(seen) and "access" not in seen, name)
        await self.compute.start(self.machine)
        await self.environment.key_until("all use it", lambda seen: used_by(seen) == set(RESOURCES) and has("Ready")(seen))
        assert await self.stopped() == set()

    async def told_lost(self, state: str, stopping: set[str], who: str) -> dict[str, Any]:
        """What key and resources tell of a loss: since when, what stops when, and whose move it is; the key's status."""
        key = await self.environment.key_until(state, lambda seen: seen["access"]["state"] == state)
        access = key["access"]
        lost = datetime.fromisoformat(access["lostSince"])
        told = {one["service"]: datetime.fromisoformat(one["expectedAt"]) - lost for one in access["stops"]}
        assert told == {service: AFTER[service] for service in stopping}
        assert datetime.fromisoformat(access["inaccessibleExpectedAt"]) == lost + min(told.values())
        assert who in condition(key, "KeyAccessible")["message"]
        (disks,) = [one for one in access["stops"] if one["service"] == "managed disks"]
        assert (disks["resources"], disks["virtualMachines"]) == (["data", "des"], ["vm1"])
        for name, service in RESOURCES.items():
            truth = condition(key, "KeyAccessible")["status"] if service in stopping else "Unknown"
            status = await self.until(state, has("KeyAccessible", truth, state), name)
            assert has("Encrypted")(status), "nothing weakens encryption because a key was lost"
            assert ("access" in status) == (service in stopping), name
            if service in stopping:
                own = status["access"]
                assert datetime.fromisoformat(own["inaccessibleExpectedAt"]) == lost + AFTER[service]
                assert (own["state"], bool(own["effect"]), bool(own["recovery"])) == (state, True, True)
                assert own.get("virtualMachines", []) == (["vm1"] if service == "managed disks" else [])
        return key


def used_by(key: dict[str, Any]) -> set[str]:
    return {name for entry in key.get("versions", []) for name in entry.get("inUseBy", [])}


@asynccontextmanager
async def estate_of(environment: Environment, azure: AzureProcess) -> AsyncIterator[Estate]:
    """Everything Ready; operations end at once, because others play how long they take."""
    control, provider = environment.control, environment.provider
    await control.set_timings(
        sql_operation_seconds=0, compute_operation_seconds=0, snowflake_activation_wait_seconds=0, snowflake_rekey_seconds=0
    )
    async with SnowflakeAdministrator(azure.env, control) as snowflake:
        warehouse = Warehouse(environment, snowflake)
        version = await warehouse.prepare(grant=True)
        account = (await environment.account()).rsplit("/", 1)[-1]
        await provider.put_blob(account, "letters", "letter.txt", LETTER)
        server = await provider.sql.create_server(f"{environment.name}-sql", resource_group=environment.group)
        await provider.sql.create_database(server, "orders")
        compute = ComputeAdministrator(provider, environment.group)
        set_id, disk = compute.id_of("diskEncryptionSets", "des"), await compute.create_disk("data")
        await environment.apply_resource("docs")
        await environment.apply_resource("sql", resourceId=server)
        await environment.apply_resource("des", resourceId=set_id, diskEncryptionSet=CREATION)
        await environment.apply_resource("data", resourceId=disk, disk={"diskEncryptionSetId": set_id})
        await warehouse.apply()
        estate = Estate(environment, warehouse, account, server, "", version)
        for name in RESOURCES:
            await estate.until("Ready", has("Ready"), name)
        estate.machine = await compute.create_machine("vm1", disk)
        for name in ("des", "data"):
            await estate.until("attached", lambda seen: seen.get("details", {}).get("attachedTo") == ["vm1"], name)
        await environment.key_until("all use it", lambda seen: used_by(seen) == set(RESOURCES))
        yield estate


async def delete_vault(environment: Environment) -> None:
    await environment.customer.delete_vault(environment.vault)


async def recover_vault(environment: Environment) -> None:
    await environment.customer.recover_vault(environment.vault)


async def test_each_way_to_lose_a_key_stops_the_four_services_as_told_and_all_come_back(
    environment: Environment, azure: AzureProcess
) -> None:
    async with estate_of(environment, azure) as estate:

        async def recover_vault_and_grant(environment: Environment) -> None:
            await recover_vault(environment)
            await grant(environment)
            await estate.warehouse.grant()

        causes: dict[str, tuple[Any, Any, set[str]]] = {
            "Disabled": (disable, enable, ALL),
            "Deleted": (delete, recover, ALL),
            "VaultUnreachable": (delete_vault, recover_vault_and_grant, ALL),
            "ConsentMissing": (withdraw_consent, consent, AZURES),
        }
        written = await environment.position()
        for state, (lose, restore, stopping) in causes.items():
            await lose(environment)
            await estate.told_lost(state, stopping, "customer's administrator")
            assert await estate.stopped() == set(), "there is time to act"
            await environment.control.advance(HOUR + MINUTE)
            assert await estate.stopped() == stopping
            closed = await estate.until("named", lambda seen: seen.get("details", {}).get("inaccessibleDatabases"), "sql")
            assert closed["details"]["inaccessibleDatabases"] == ["orders"]
            await restore(environment)
            await estate.ready()
        writes = await environment.operator_requests(environment.group, written, "PATCH", "PUT", "POST", "DELETE")
        assert {one["path"].split("?")[0].rsplit("/", 1)[-1] for one in writes} == {"revalidate"}
        events = await noted(environment)
        assert {"KeyDisabled", "KeyDeleted", "KeyVaultUnreachable", "KeyConsentMissing", "KeyAccessible"} <= events[
            "cmk"
        ].keys()
        assert "must start the virtual machines again (vm1)" in events["data"]["KeyRestored"]


async def noted(environment: Environment) -> dict[str, dict[str, str]]:
    """Notes of events by the name of the object and the reason."""
    path = f"/apis/events.k8s.io/v1/namespaces/{environment.namespace}/events"
    found: dict[str, dict[str, str]] = {}
    for event in (await environment.objects.call("GET", path))["items"]:
        found.setdefault(event["regarding"]["name"], {})[event["reason"]] = event["note"]
    return found


async def test_a_lock_that_is_removed_is_told_while_nothing_is_lost_and_until_then_it_keeps_the_role_from_being_removed(
    environment: Environment, azure: AzureProcess
) -> None:
    customer, application = environment.customer, environment.identity.application_client_id
    async with estate_of(environment, azure) as estate:
        await customer.grant(application, environment.vault, role="Key Vault Reader")
        lock = await customer.lock(customer.vault_id(environment.vault))
        await environment.key_until("locked", lambda seen: prerequisite(seen, "VaultLock") == "Pass")
        with pytest.raises(HttpResponseError) as held:
            await customer.revoke_grant(application, environment.vault)
        assert held.value.status_code == 409, "who revokes by removing the role must lift the lock first"
        await customer.unlock(lock)
        key = await environment.key_until("unlocked", lambda seen: prerequisite(seen, "VaultLock") == "Fail")
        assert "az lock create" in entry_of(key, "VaultLock")["command"]
        assert has("Ready")(key), "nothing is lost yet"
        await customer.revoke_grant(application, environment.vault)
        await estate.told_lost("PermissionDenied", AZURES, "customer's administrator must assign the role")
        await environment.control.advance(HOUR + MINUTE)
        assert await estate.stopped() == AZURES, "Snowflake comes by an application of its own"
        await customer.grant(application, environment.vault)
        await estate.ready()


async def test_a_firewall_that_shuts_azures_services_out_stops_them_even_though_the_operator_gets_through(
    environment: Environment, azure: AzureProcess
) -> None:
    customer, application = environment.customer, environment.identity.application_client_id
    async with estate_of(environment, azure) as estate:
        await customer.grant(application, environment.vault, role="Key Vault Reader")
        await environment.key_until("seen", lambda seen: prerequisite(seen, "TrustedServicesBypass") == "Pass")
        for addresses in ([CLIENT_ADDRESS], []):
            await customer.set_firewall(environment.vault, bypass="None", addresses=addresses, subnets=SUBNETS)
            await estate.told_lost("FirewallBlocksServices", AZURES, "customer's administrator must enable it")
        await environment.control.advance(HOUR + MINUTE)
        assert await estate.stopped() == AZURES
        await customer.set_firewall(environment.vault, addresses=[CLIENT_ADDRESS], subnets=SUBNETS)
        await estate.ready()


async def test_at_three_in_the_morning_describe_alone_tells_what_happened_since_when_what_stops_when_and_who_must_act(
    environment: Environment, azure: AzureProcess, empty_cluster: Cluster, operator: Operator
) -> None:
    async with estate_of(environment, azure) as estate:
        began = datetime.now(UTC).replace(microsecond=0)
        await environment.customer.disable(environment.vault, "cmk")
        await estate.told_lost("Disabled", ALL, "customer's administrator")

        async def shown() -> str:
            return await asyncio.to_thread(empty_cluster.kubectl, "describe", "cmk", "cmk", "-n", environment.namespace)

        async def with_its_event() -> bool:
            return bool(re.search(r"Warning\s+KeyDisabled", await shown()))

        await environment.eventually("the event", with_its_event)
        text = await shown()
        access = text[text.index("  Access:\n") : text.index("  Active Version:")]
        assert re.search(r"State: +Disabled\n", access), "what happened"
        since = re.search(r"Lost Since: +(\S+)\n", access)
        assert since is not None, "since when"
        lost = datetime.fromisoformat(since[1])
        assert began <= lost <= datetime.now(UTC)
        stops = re.findall(
            r"Effect: +(.+)\n +Expected At: +(\S+)\n +Recovery: +.+\n +Resource Count: +\d+\n +Resources:\n((?: {6,}\S+\n)+) +Service: +(.+)\n",
            access,
        )
        assert {service: (datetime.fromisoformat(at) - lost, names.split()) for _, at, names, service in stops} == {
            "Azure SQL": (timedelta(minutes=10), ["sql"]),
            "Azure Storage": (timedelta(minutes=10), ["docs"]),
            "Snowflake": (timedelta(minutes=10), ["warehouse"]),
            "managed disks": (timedelta(hours=1), ["data", "des"]),
        }, "what stops, and at what time"
        assert re.search(r"Virtual Machines:\n +vm1\n", access)
        must = re.search(r"Message: +(.*must.*)\n", text)
        assert must is not None
        assert "the customer's administrator must enable it" in must[1], "who must do what"
        scrape = await Scrapes(operator, environment).until("scraped", lambda now: "cmk_key_access_state state=Disabled" in now)
        assert scrape["cmk_key_data_cut_off_timestamp_seconds"] == (lost + timedelta(minutes=10)).timestamp()
        own = await asyncio.to_thread(empty_cluster.kubectl, "describe", "encres", "data", "-n", environment.namespace)
        assert re.search(
            rf"Inaccessible Expected At: +{re.escape(str((lost + AFTER['managed disks']).isoformat()).replace('+00:00', 'Z'))}",
            own,
        )


async def test_a_purged_key_is_told_with_what_can_be_done_and_comes_back_from_its_backup(environment: Environment) -> None:
    version = await environment.ready()
    account = environment.accounts["docs"].rsplit("/", 1)[-1]
    await environment.provider.put_blob(account, "letters", "letter.txt", LETTER)
    await environment.key_until("in use", lambda seen: used_by(seen) == {"docs"})
    backup = await environment.customer.back_up_key(environment.vault, "cmk")
    await delete(environment)
    key = await environment.key_until("deleted", has("KeyAccessible", "False", "Deleted"))
    lost = key["access"]["lostSince"]
    await environment.control.advance(91 * DAY)
    key = await environment.key_until("purged", has("KeyAccessible", "False", "Purged"))
    assert "the customer's administrator must restore it from a backup" in condition(key, "KeyAccessible")["message"]
    assert key["access"]["lostSince"] == lost, "the loss is as old as it is, whatever it is called now"
    with pytest.raises(HttpResponseError):
        await environment.provider.get_blob(account, "letters", "letter.txt")
    assert (await environment.customer.restore_key(environment.vault, backup)).endswith(version)
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.provider.get_blob(account, "letters", "letter.txt") == LETTER


async def test_a_vault_in_failover_serves_its_data_and_takes_no_new_version_until_its_region_is_back(
    environment: Environment,
) -> None:
    customer, version = environment.customer, await environment.ready()
    account = environment.accounts["docs"].rsplit("/", 1)[-1]
    await environment.provider.put_blob(account, "letters", "letter.txt", LETTER)
    key = await environment.key_until("failover told", lambda seen: prerequisite(seen, "RegionFailover") == "Pass")
    assert "no key can be created, rotated, changed or deleted" in entry_of(key, "RegionFailover")["message"]
    await environment.control.fail_over(environment.vault)
    with pytest.raises(HttpResponseError, match="the service is currently in a read-only state"):
        await (await customer._key_client(environment.vault)).rotate_key("cmk", retry_total=0)  # noqa: SLF001 - it may not retry
    await environment.account("more")
    await environment.apply_resource("more")
    await environment.resource_until("comes onto the key", has("Ready"), name="more")
    await environment.control.advance(HOUR)
    assert await environment.provider.get_blob(account, "letters", "letter.txt") == LETTER
    key = await environment.key_until("still accessible", has("Ready"))
    assert key["activeVersion"] == version
    await environment.control.fail_over(environment.vault, to_the_pair=False)
    new = await new_version(environment)
    await environment.key_until("rotates again", lambda seen: seen.get("activeVersion") == new)
    assert await customer.back_up_key(environment.vault, "cmk")


async def test_a_vault_that_is_gone_for_good_is_made_again_under_its_name_with_the_key_from_its_backup(
    environment: Environment,
) -> None:
    customer, version = environment.customer, await environment.ready()
    account = environment.accounts["docs"].rsplit("/", 1)[-1]
    await environment.provider.put_blob(account, "letters", "letter.txt", LETTER)
    await environment.key_until("in use", lambda seen: used_by(seen) == {"docs"})
    backup = await customer.back_up_key(environment.vault, "cmk")
    await delete_vault(environment)
    await environment.control.advance(91 * DAY)
    key = await environment.key_until("gone", has("KeyAccessible", "Unknown", "VaultUnreachable"))
    assert "a deleted vault the customer's administrator must recover" in condition(key, "KeyAccessible")["message"]
    with pytest.raises(HttpResponseError):
        await recover_vault(environment)
    await customer.create_vault(environment.vault)
    administrator = await customer.principal_id(customer.client_id)
    await customer.assign_role(administrator, "Key Vault Administrator", customer.vault_id(environment.vault))
    restored = await environment.allowed(lambda: customer.restore_key(environment.vault, backup))
    assert restored == environment.key_uri(version)
    await customer.grant(environment.identity.application_client_id, environment.vault)
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.provider.get_blob(account, "letters", "letter.txt") == LETTER


async def test_a_version_that_backups_still_need_is_missed_when_it_is_disabled_although_nothing_is_on_it(
    environment: Environment, operator: Operator
) -> None:
    old = await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_key(rotation={"apply": "Immediately", "backupRetention": "840h"})
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    new = await new_version(environment)
    await environment.resource_until("moved", lambda seen: seen["applied"]["version"] == new and has("Ready")(seen))
    key = await environment.key_until("superseded", lambda seen: "keepUntil" in version_of(seen, old))
    assert "need it until keepUntil" in version_of(key, old)["reason"]
    await environment.customer.disable(environment.vault, "cmk", old)
    key = await environment.key_until("missed", has("RotationCurrent", "False", "OldVersionLost"))
    message = condition(key, "RotationCurrent")["message"]
    assert f"version {old}, which no resource uses any more" in message
    assert "backups made under it cannot be restored" in message
    assert "customer's administrator must enable it" in message
    assert version_of(key, old)["access"] == "Disabled"
    assert has("Ready")(key), "no data stops"
    assert "lostSince" not in key["access"]
    await environment.resource_until("Ready", has("Ready"))
    await Scrapes(operator, environment).until("scraped", lambda now: now.get("cmk_key_lost_superseded_versions") == 1)

    async def with_its_event() -> bool:
        return "OldVersionLost" in (await noted(environment)).get("cmk", {})

    await environment.eventually("the event", with_its_event)
    await environment.customer.enable(environment.vault, "cmk", old)
    await environment.key_until("well", has("RotationCurrent", "True", "Current"))


async def test_the_way_out_of_a_compromised_key_is_printed_and_followed_until_nothing_is_on_it(
    environment: Environment, empty_cluster: Cluster
) -> None:
    old = await environment.ready()
    await environment.apply_key(rotation={"apply": "Immediately", "backupRetention": "840h"})
    await environment.customer.grant(environment.identity.application_client_id, environment.vault, role="Key Vault Reader")
    key = await environment.key_until("open to all", lambda seen: prerequisite(seen, "NetworkProtection") == "Fail")
    assert "a stolen credential works from anywhere" in entry_of(key, "NetworkProtection")["message"], "told beforehand"
    assert "--default-action Deny" in entry_of(key, "NetworkProtection")["command"]
    await environment.key_until("in use", lambda seen: version_of(seen, old).get("inUseBy") == ["docs"])
    path = f"{binaries.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    runner = CliRunner(env={"KUBECONFIG": str(empty_cluster.kubeconfig), "PATH": path})

    async def printed() -> str:
        told = [f"{environment.namespace}/cmk", "--version", old]
        done = await asyncio.to_thread(runner.invoke, cmk, ["compromised", *told], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return re.sub(r"\s+", " ", done.stdout)

    before = await printed()
    assert f"az keyvault key rotate --vault-name {environment.vault} --name cmk" in before
    assert "docs" in before
    new = await new_version(environment)
    await environment.resource_until("moved", lambda seen: seen["applied"]["version"] == new and has("Ready")(seen))
    key = await environment.key_until("superseded", lambda seen: "safeToDisableAfter" in version_of(seen, old))
    after = await printed()
    assert (after.count("docs"), "backup" in after.lower()) == (0, True)
    assert version_of(key, old)["inUseBy"] == []


async def test_a_managed_identity_that_is_deleted_is_told_as_a_loss_for_which_the_provider_must_act(
    environment: Environment, provider_credential: None
) -> None:
    provider = environment.provider
    await environment.vault_with_key()
    account = (await environment.account()).rsplit("/", 1)[-1]
    await provider.put_blob(account, "letters", "letter.txt", LETTER)
    identity_id = await another_identity(environment, trusted_by_entra=True, trusts_operator=True)
    mine = (await provider.get(identity_id, IDENTITIES))["properties"]
    await let_work(environment, mine["principalId"], identity_id)
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    await environment.key_until("in use", lambda seen: used_by(seen) == {"docs"})

    await provider.delete(identity_id, IDENTITIES)
    # An assertion that was signed before is refused in other words, until a new one is asked for.
    key = await environment.key_until(
        "lost", lambda seen: "no such managed identity (AADSTS700016)" in condition(seen, "KeyAccessible")["message"]
    )
    assert has("KeyAccessible", "False", "IdentityBroken")(key)
    assert "the provider's administrator must create it again" in condition(key, "KeyAccessible")["message"]
    assert [stop["resources"] for stop in key["access"]["stops"]] == [["docs"]], "Azure's services come by it too"
    identity = await environment.objects.until("told", "FederatedIdentity", environment.name, has("Ready", "False"))
    assert has("Authenticated", "False", "IdentityBroken")(identity)
    tenant = await environment.objects.get("CustomerTenant", environment.name)
    assert tenant["status"]["consent"]["state"] == "Granted", "the customer withdrew nothing"
    await environment.control.advance(11 * MINUTE)
    with pytest.raises(HttpResponseError) as refused:
        await provider.get_blob(account, "letters", "letter.txt")
    assert refused.value.status_code == 403

    again = (await provider.put(identity_id, IDENTITIES, {"location": "westeurope"}))["properties"]
    await trust_operator(environment, identity_id)
    await forget_credential(environment)
    await trust_identity(environment, again["principalId"])
    await let_work(environment, again["principalId"], identity_id)
    await environment.apply_identity(managedIdentity={"resourceId": identity_id, "clientId": again["clientId"]})
    await environment.resource_until("Ready", has("Ready"))
    await environment.key_until("Ready", has("Ready"))
    assert await provider.get_blob(account, "letters", "letter.txt") == LETTER


async def let_work(environment: Environment, principal_id: str, identity_id: str) -> None:
    """The roles of an operator's managed identity: on what it changes, and on itself."""
    provider = environment.provider
    await provider.assign_role(principal_id, "Storage Account Contributor", provider.subscription)
    await provider.assign_role(principal_id, "Managed Identity Operator", identity_id)


@pytest.fixture
async def provider_credential(environment: Environment) -> Any:
    """Takes the test's federated credential off the application again: it may hold twenty."""
    yield
    await forget_credential(environment)


async def forget_credential(environment: Environment) -> None:
    path = credentials_of(environment.identity.application_client_id)
    for one in (await environment.provider.graph.json("GET", path))["value"]:
        if one["name"] == environment.name:
            await environment.provider.graph.json("DELETE", f"{path}/{one['id']}")


async def test_an_application_that_the_provider_deletes_is_not_taken_for_a_consent_that_the_customer_withdrew(
    environment: Environment,
) -> None:
    provider, graph = environment.provider, environment.provider.graph
    body = {"displayName": f"{environment.name} own", "signInAudience": "AzureADMultipleOrgs"}
    made = await graph.json("POST", "/applications", body)
    trust = {
        "name": "managed-identity",
        "issuer": f"https://login.microsoftonline.com/{provider.tenant_id}/v2.0",
        "subject": environment.identity.managed_identity_principal_id,
        "audiences": ["api://AzureADTokenExchange"],
    }
    await graph.json("POST", f"/applications/{made['id']}/federatedIdentityCredentials", trust)
    await environment.vault_with_key()
    await environment.customer.consent(made["appId"])
    await environment.customer.grant(made["appId"], environment.vault)
    await environment.account()
    await environment.apply_identity(application={"clientId": made["appId"]})
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    await environment.key_until("in use", lambda seen: used_by(seen) == {"docs"})
    await tenant_until(environment, "Granted", has("ConsentGranted"))

    await graph.json("DELETE", f"/applications/{made['id']}")
    key = await environment.key_until("lost", has("KeyAccessible", "False", "IdentityBroken"))
    message = condition(key, "KeyAccessible")["message"]
    assert "the provider's administrator must restore it from the deleted applications" in message
    assert [stop["resources"] for stop in key["access"]["stops"]] == [["docs"]]
    tenant = await tenant_until(environment, "lost", has("ConsentGranted", "False", "IdentityBroken"))
    assert tenant["consent"]["state"] == "Granted", "the customer withdrew nothing"
    await environment.resource_until("lost", has("Ready", "False", "IdentityBroken"))
    await graph.json("POST", f"/directory/deletedItems/{made['id']}/restore")
    await environment.resource_until("Ready", has("Ready"))
    await tenant_until(environment, "Granted", has("ConsentGranted"))
    await environment.key_until("Ready", has("Ready"))
    assert "ConsentRevoked" not in str(await noted(environment))


async def test_an_outage_of_resource_manager_is_told_and_takes_no_key_away(environment: Environment) -> None:
    # Law 6.
    await environment.ready()
    await environment.key_until("in use", lambda seen: used_by(seen) == {"docs"})
    since = await environment.position()
    fault = await environment.control.inject(kind="status", host="management.azure.com", status=503)
    status = await environment.resource_until("unknown", has("Ready", "Unknown"))
    assert condition(status, "Stalled") == {}, "nobody need act"
    assert has("KeyAccessible")(status)
    key = (await environment.objects.get("CustomerManagedKey", "cmk", environment.namespace))["status"]
    assert has("Ready")(key)
    assert "lostSince" not in key["access"]
    await environment.control.clear_fault(fault)
    await environment.resource_until("Ready", has("Ready"))
    assert await environment.writes(since) == []
