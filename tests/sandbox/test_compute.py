"""Disk encryption sets, disks and machines: the real SDK's requests, the refusals, rotation within the hour, loss and healing."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ClientAssertionCredential
from azure.mgmt.compute.aio import ComputeManagementClient

from sandbox.administrators.compute import DISKS
from sandbox.administrators.rest import connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from sandbox.administrators.compute import ComputeAdministrator
    from tests.sandbox.issuer import Issuer

GROUP = "rg-contoso"
CUSTOMER_KEY = "EncryptionAtRestWithCustomerKey"
PLATFORM_KEY = "EncryptionAtRestWithPlatformKey"


@pytest.fixture(autouse=True)
async def _at_once(control: SandboxControl) -> None:
    await control.set_timings(compute_operation_seconds=0)


@pytest.fixture
async def sdk(env: Mapping[str, str], identity: ProviderIdentity, issuer: Issuer) -> AsyncIterator[ComputeManagementClient]:
    """The real SDK as the operator's own managed identity."""
    credential = ClientAssertionCredential(
        env["PROVIDER_TENANT_ID"], identity.managed_identity_client_id, issuer.token, **connection(env)
    )
    async with credential, ComputeManagementClient(credential, env["SUBSCRIPTION_ID"], **connection(env)) as client:
        yield client


@pytest.fixture
def compute(provider: ProviderAdministrator) -> ComputeAdministrator:
    return provider.compute


def set_body(identity: ProviderIdentity, key_url: str, /, **properties: object) -> dict[str, Any]:
    """The PUT of a set on a customer's key."""
    return {
        "location": "westeurope",
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity.managed_identity_resource_id: {}}},
        "properties": {
            "encryptionType": CUSTOMER_KEY,
            "activeKey": {"keyUrl": key_url},
            "federatedClientId": identity.application_client_id,
            **properties,
        },
    }


async def refused(act: Awaitable[object]) -> tuple[int | None, str | None]:
    with pytest.raises(HttpResponseError) as refusal:
        await act
    error = refusal.value.error
    return refusal.value.status_code, error.code if error else None


async def shown(compute: ComputeAdministrator, resource_id: str) -> dict[str, Any]:
    properties: dict[str, Any] = (await compute.disk(resource_id))["properties"]
    return properties


@pytest.fixture
async def encryption_set(
    compute: ComputeAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    _at_once: None,
) -> str:
    """A set that follows the latest version."""
    return await compute.create_encryption_set(
        name("des"),
        key_of_customer[2],
        identity=identity.managed_identity_resource_id,
        application_client_id=identity.application_client_id,
        automatic=True,
    )


async def test_the_operators_own_identity_and_the_real_sdk_make_a_set_and_put_a_disk_on_it_by_long_operations(
    sdk: ComputeManagementClient,
    control: SandboxControl,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    await control.set_timings(compute_operation_seconds=0.5)
    key_url, set_name, disk_name = key_of_customer[2], name("des"), name("disk")
    body: Any = set_body(identity, key_url, rotationToLatestKeyVersionEnabled=True)
    made = await (await sdk.disk_encryption_sets.begin_create_or_update(GROUP, set_name, body)).result()
    assert made.properties is not None
    assert made.properties.active_key is not None
    assert (made.properties.provisioning_state, made.properties.active_key.key_url) == ("Succeeded", key_url)
    assert made.properties.federated_client_id == identity.application_client_id
    assert made.properties.last_key_rotation_timestamp is None
    assert made.identity is not None
    assert made.identity.type == "UserAssigned"

    empty: Any = {
        "location": "westeurope",
        "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4},
    }
    disk = await (await sdk.disks.begin_create_or_update(GROUP, disk_name, empty)).result()
    assert disk.properties is not None
    assert disk.properties.encryption is not None
    assert (disk.properties.encryption.type, disk.properties.disk_state) == (PLATFORM_KEY, "Unattached")
    placed: Any = {"properties": {"encryption": {"type": CUSTOMER_KEY, "diskEncryptionSetId": made.id}}}
    disk = await (await sdk.disks.begin_update(GROUP, disk_name, placed)).result()
    assert disk.properties is not None
    assert disk.properties.encryption is not None
    assert (disk.properties.encryption.type, disk.properties.encryption.disk_encryption_set_id) == (CUSTOMER_KEY, made.id)
    assert [one async for one in sdk.disk_encryption_sets.list_associated_resources(GROUP, set_name)] == [disk.id]
    assert set_name in [one.name async for one in sdk.disk_encryption_sets.list()]
    assert disk_name in [one.name async for one in sdk.disks.list_by_resource_group(GROUP)]

    access: Any = {"access": "Read", "durationInSeconds": 60}
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):  # may write disks, but not read their content
        await sdk.disks.begin_grant_access(GROUP, disk_name, access)
    with pytest.raises(HttpResponseError, match="OperationNotAllowed"):
        await sdk.disk_encryption_sets.begin_delete(GROUP, set_name)
    await (await sdk.disks.begin_delete(GROUP, disk_name)).result()
    await (await sdk.disk_encryption_sets.begin_delete(GROUP, set_name)).result()
    assert set_name not in [one.name async for one in sdk.disk_encryption_sets.list()]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"activeKey": {"keyUrl": "https://{vault}.vault.azure.net/keys/{key}"}}, 400, "InvalidParameter"),
        (
            {
                "activeKey": {"keyUrl": "https://{vault}.vault.azure.net/keys/{key}"},
                "rotationToLatestKeyVersionEnabled": True,
            },
            400,
            "InvalidParameter",
        ),
        *(
            ({"activeKey": {"keyUrl": url}}, 400, "InvalidParameter")
            for url in (
                "https://me@{vault}.vault.azure.net/keys/{key}/" + "0" * 32,
                "https://{vault}.vault.azure.net:8443/keys/{key}/" + "0" * 32,
                "https://a.{vault}.vault.azure.net/keys/{key}/" + "0" * 32,
                "https://{vault}.vault.azure.cn/keys/{key}/" + "0" * 32,
                "https://{vault}.vault.azure.net/keys/{key}/" + "0" * 32 + "?a=b",
                "https://{vault}.vault.azure.net/keys/{key}/" + "0" * 32 + "/wrapkey",
                "https://{vault}.vault.azure.net/secrets/{key}/" + "0" * 32,
                "http://{vault}.vault.azure.net/keys/{key}/" + "0" * 32,
            )
        ),
        ({"activeKey": {"keyUrl": "https://{vault}.vault.azure.net:443/keys/{key}/" + "0" * 32}}, 400, "KeyVaultKeyNotFound"),
        ({"activeKey": {"keyUrl": "https://{vault}.vault.azure.net/keys/{key}/" + "0" * 32}}, 400, "KeyVaultKeyNotFound"),
        ({"activeKey": {"keyUrl": "https://none-kv.vault.azure.net/keys/{key}/" + "0" * 32}}, 400, "KeyVaultNotFound"),
        (
            {"activeKey": {"keyUrl": "{key_url}", "sourceVault": {"id": "{customer_vault}"}}},
            400,
            "InvalidParameter",
        ),
        ({"federatedClientId": "no-id"}, 400, "InvalidParameter"),
        ({"federatedClientId": str(uuid.UUID(int=1))}, 400, "KeyVaultAccessForbidden"),
        ({"federatedClientId": "None"}, 400, "KeyVaultAccessForbidden"),
        ({"encryptionType": PLATFORM_KEY}, 400, "InvalidRequestContent"),
        ({"keyUrl": "{key_url}"}, 400, "InvalidRequestContent"),
    ],
)
async def test_a_set_that_azure_would_not_take_is_refused_and_not_made(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    compute: ComputeAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    vault, key, key_url = key_of_customer
    values = {"{vault}": vault, "{key}": key, "{key_url}": key_url, "{customer_vault}": customer.vault_id(vault)}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {one: filled(inner) for one, inner in value.items()}
        for mark, text in values.items():
            value = value.replace(mark, text) if isinstance(value, str) else value
        return value

    set_id = compute.id_of("diskEncryptionSets", name("wrong"))
    body = set_body(identity, key_url, **filled(changes))
    assert await refused(provider.put(set_id, DISKS, body)) == (status, code)
    assert await refused(provider.get(set_id, DISKS)) == (404, "ResourceNotFound")


async def test_a_set_is_refused_in_another_region_than_its_vault_and_without_purge_protection(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    compute: ComputeAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    set_id = compute.id_of("diskEncryptionSets", name("elsewhere"))
    body = set_body(identity, key_of_customer[2])
    elsewhere = {**body, "location": "northeurope"}
    assert await refused(provider.put(set_id, DISKS, elsewhere)) == (400, "KeyVaultAndDiskInDifferentRegions")
    vault = name("unfit-kv")
    await customer.create_vault(vault, purge_protection=False)
    unprotected = await customer.create_key(vault, "cmk")
    await customer.grant(identity.application_client_id, vault)
    await control.advance(2)
    code = "KeyVaultNotPurgeProtectionEnabled"
    assert await refused(provider.put(set_id, DISKS, set_body(identity, unprotected))) == (400, code)
    spelled_as_storage = {**body["identity"], "type": "SystemAssigned,UserAssigned"}
    refusal = refused(provider.put(set_id, DISKS, {**body, "identity": spelled_as_storage}))
    assert await refusal == (400, "InvalidIdentityValues")


async def test_a_vault_tells_its_own_region(customer: CustomerAdministrator, wire: Any, name: Callable[[str], str]) -> None:
    vault = name("north-kv")
    await customer.create_vault(vault, location="northeurope")
    reply = await wire("GET", f"https://{vault}.vault.azure.net/keys/none?api-version=7.5")
    assert (reply.status, reply.headers["x-ms-keyvault-region"]) == (401, "northeurope")


async def test_a_patch_keeps_what_it_does_not_name_and_a_type_never_changes(
    provider: ProviderAdministrator,
    compute: ComputeAdministrator,
    identity: ProviderIdentity,
    encryption_set: str,
    name: Callable[[str], str],
) -> None:
    other = f"/subscriptions/{provider.subscription_id}/resourceGroups/{GROUP}"
    other += f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name('other')}"
    await provider.put(other, "2024-11-30", {"location": "westeurope"})
    both = {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {other: {}}}
    await provider.patch(encryption_set, DISKS, {"identity": both, "tags": {"team": "data"}})
    after = await compute.disk(encryption_set)
    assert after["identity"]["type"] == "SystemAssigned, UserAssigned"
    names = {one.rsplit("/", 1)[-1] for one in after["identity"]["userAssignedIdentities"]}
    assert names == {"cmk-operator", other.rsplit("/", 1)[-1]}
    assert (after["tags"], after["properties"]["rotationToLatestKeyVersionEnabled"]) == ({"team": "data"}, True)
    assert after["properties"]["federatedClientId"] == identity.application_client_id
    kind = {"properties": {"encryptionType": "EncryptionAtRestWithPlatformAndCustomerKeys"}}
    assert await refused(provider.patch(encryption_set, DISKS, kind)) == (409, "PropertyChangeNotAllowed")
    without = {"properties": {"federatedClientId": "None"}}
    assert await refused(provider.patch(encryption_set, DISKS, without)) == (400, "KeyVaultAccessForbidden")


async def test_a_disk_fits_its_set_or_is_refused(
    provider: ProviderAdministrator,
    compute: ComputeAdministrator,
    encryption_set: str,
    name: Callable[[str], str],
) -> None:
    disk = await compute.create_disk(name("disk"))
    elsewhere = await compute.create_disk(name("disk"), location="northeurope")

    async def placed(disk_id: str, kind: str | None, set_id: str | None) -> tuple[int | None, str | None]:
        encryption = {"type": kind, "diskEncryptionSetId": set_id}
        sent = {key: value for key, value in encryption.items() if value is not None}
        return await refused(provider.patch(disk_id, DISKS, {"properties": {"encryption": sent}}))

    assert await placed(disk, "EncryptionAtRestWithPlatformAndCustomerKeys", encryption_set) == (400, "InvalidParameter")
    assert await placed(disk, PLATFORM_KEY, encryption_set) == (400, "InvalidParameter")
    assert await placed(disk, CUSTOMER_KEY, None) == (400, "InvalidParameter")
    assert await placed(disk, CUSTOMER_KEY, f"{encryption_set}x") == (404, "NotFound")
    assert await placed(elsewhere, CUSTOMER_KEY, encryption_set) == (400, "InvalidParameter")
    await compute.put_on_set(disk, encryption_set)
    assert (await shown(compute, disk))["encryption"] == {"type": CUSTOMER_KEY, "diskEncryptionSetId": encryption_set}
    await compute.put_on_set(disk, None)
    assert (await shown(compute, disk))["encryption"] == {"type": PLATFORM_KEY}


async def test_the_encryption_of_a_disk_changes_only_while_its_machine_is_deallocated(
    compute: ComputeAdministrator, encryption_set: str, name: Callable[[str], str]
) -> None:
    disk = await compute.create_disk(name("disk"))
    machine = await compute.create_machine(name("vm"), disk)
    assert (await shown(compute, disk))["diskState"] == "Attached"
    assert await refused(compute.put_on_set(disk, encryption_set)) == (409, "OperationNotAllowed")
    await compute.deallocate(machine)
    assert ((await shown(compute, disk))["diskState"], await compute.power(machine)) == ("Reserved", "PowerState/deallocated")
    await compute.put_on_set(disk, encryption_set)
    await compute.start(machine)
    assert await compute.power(machine) == "PowerState/running"
    assert (await compute.disk(disk))["managedBy"] == machine


async def test_a_new_version_is_followed_within_an_hour_and_the_old_one_shows_until_all_disks_are_moved(
    customer: CustomerAdministrator,
    control: SandboxControl,
    compute: ComputeAdministrator,
    key_of_customer: tuple[str, str, str],
    encryption_set: str,
    name: Callable[[str], str],
) -> None:
    vault, key, first = key_of_customer
    disk = await compute.create_disk(name("disk"), encryption_set=encryption_set)
    second = await customer.new_version(vault, key)
    await control.advance(2000)
    assert (await shown(compute, encryption_set))["activeKey"] == {"keyUrl": first}
    await control.advance(800)
    moving = await shown(compute, encryption_set)
    assert (moving["activeKey"], moving["previousKeys"]) == ({"keyUrl": second}, [{"keyUrl": first}])
    await control.advance(800)
    moved = await shown(compute, encryption_set)
    assert (moved["activeKey"], moved["previousKeys"]) == ({"keyUrl": second}, [])
    assert moved["lastKeyRotationTimestamp"].endswith("0+00:00"), "Compute writes an offset"
    await customer.disable(vault, key, first.rsplit("/", 1)[-1])
    await control.advance(7200)
    assert (await compute.export(disk)).startswith("https://md-")


async def test_an_old_version_that_is_disabled_too_early_holds_the_rotation_up_and_says_why(
    customer: CustomerAdministrator,
    control: SandboxControl,
    compute: ComputeAdministrator,
    key_of_customer: tuple[str, str, str],
    encryption_set: str,
    name: Callable[[str], str],
) -> None:
    vault, key, first = key_of_customer
    await compute.create_disk(name("disk"), encryption_set=encryption_set)
    await customer.new_version(vault, key)
    await control.advance(2800)
    await customer.disable(vault, key, first.rsplit("/", 1)[-1])
    await control.advance(800)
    stuck = await shown(compute, encryption_set)
    assert (stuck["autoKeyRotationError"]["code"], stuck["previousKeys"]) == ("KeyVaultKeyNotEnabled", [{"keyUrl": first}])
    await customer.enable(vault, key, first.rsplit("/", 1)[-1])
    await control.advance(800)
    freed = await shown(compute, encryption_set)
    assert ("autoKeyRotationError" in freed, freed["previousKeys"]) == (False, [])


@pytest.mark.parametrize("loss", ["disabled", "deleted", "expired"])
async def test_a_lost_key_stops_machines_they_do_not_boot_and_after_an_hour_the_disks_fail_until_it_is_back(
    customer: CustomerAdministrator,
    control: SandboxControl,
    compute: ComputeAdministrator,
    key_of_customer: tuple[str, str, str],
    encryption_set: str,
    name: Callable[[str], str],
    loss: str,
) -> None:
    vault, key, _ = key_of_customer
    disk = await compute.create_disk(name("disk"), encryption_set=encryption_set)
    loose = await compute.create_disk(name("disk"), encryption_set=encryption_set)
    machine = await compute.create_machine(name("vm"), disk)
    before = await compute.disk(encryption_set)
    if loss == "disabled":
        await customer.disable(vault, key)
    elif loss == "deleted":
        await customer.delete_key(vault, key)
    else:
        await customer.set_expiry(vault, key, await control.now() + 1)
    await control.advance(601)
    code = {"disabled": "KeyVaultKeyNotEnabled", "deleted": "KeyVaultKeyNotFound", "expired": "KeyVaultAccessForbidden"}[loss]
    assert await compute.power(machine) == "PowerState/stopped"
    assert (await refused(compute.start(machine)))[1] == code
    assert (await compute.export(loose)).startswith("https://md-")
    await control.advance(3000)
    assert await refused(compute.export(loose)) == (400, code)
    assert await refused(compute.put_on_set(loose, None)) == (400, code)
    after = await compute.disk(encryption_set)
    assert after["properties"].pop("autoKeyRotationError")["code"] == code
    assert after == before, "a GET of the set is no proof of access"
    if loss == "disabled":
        await customer.enable(vault, key)
    elif loss == "deleted":
        await customer.recover_key(vault, key)
    else:
        await customer.set_expiry(vault, key, await control.now() + 86_400)
    assert (await compute.export(loose)).startswith("https://md-")
    assert await compute.power(machine) == "PowerState/stopped", "the machine waits for its administrator"
    await compute.start(machine)
    await control.advance(3600)
    assert await compute.power(machine) == "PowerState/running"
    assert "autoKeyRotationError" not in await shown(compute, encryption_set)


async def test_consent_withdrawn_in_the_middle_fails_the_operation_and_a_second_operation_must_wait_for_it(
    provider: ProviderAdministrator,
    customer: CustomerAdministrator,
    control: SandboxControl,
    compute: ComputeAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    await control.set_timings(compute_operation_seconds=60)
    set_id = compute.id_of("diskEncryptionSets", name("des"))
    body = set_body(identity, key_of_customer[2])
    started = await provider.arm.send("PUT", f"{set_id}?api-version={DISKS}", body)
    assert started.status_code == 202
    assert (await shown(compute, set_id))["provisioningState"] == "Creating"
    assert await refused(provider.patch(set_id, DISKS, {"tags": {"a": "b"}})) == (409, "Conflict")
    await customer.withdraw_consent(identity.application_client_id)
    try:
        await control.advance(61)
        status = await provider.arm.json("GET", started.headers["Azure-AsyncOperation"])
        assert (status["status"], status["error"]["code"]) == ("Failed", "KeyVaultAccessForbidden")
        assert "AADSTS700016" in status["error"]["message"]
        assert (await shown(compute, set_id))["provisioningState"] == "Failed"
    finally:
        await customer.consent(identity.application_client_id)
        await customer.grant(identity.application_client_id, key_of_customer[0])
        await control.advance(2)
    await control.set_timings(compute_operation_seconds=0)
    await provider.put(set_id, DISKS, body)
    assert (await shown(compute, set_id))["provisioningState"] == "Succeeded"


async def test_a_set_whose_operation_was_made_to_fail_is_free_for_the_next(
    provider: ProviderAdministrator, control: SandboxControl, compute: ComputeAdministrator, encryption_set: str
) -> None:
    await control.set_timings(compute_operation_seconds=60)
    await control.inject(kind="failing_operation", path="diskEncryptionSets/", method="PATCH", status=500, times=1)
    started = await provider.arm.send("PATCH", f"{encryption_set}?api-version={DISKS}", {"tags": {"a": "b"}})
    assert started.status_code == 202
    await control.advance(61)
    assert (await shown(compute, encryption_set))["provisioningState"] == "Failed"
    await control.set_timings(compute_operation_seconds=0)
    await provider.patch(encryption_set, DISKS, {"tags": {"a": "c"}})
    assert (await shown(compute, encryption_set))["provisioningState"] == "Succeeded"


async def test_a_disk_that_was_ever_under_azure_disk_encryption_never_gets_a_customers_key(
    provider: ProviderAdministrator,
    compute: ComputeAdministrator,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    encryption_set = await compute.create_encryption_set(
        name("des"),
        key_of_customer[2],
        identity=identity.managed_identity_resource_id,
        application_client_id=identity.application_client_id,
    )
    disk = await compute.create_disk(name("inside"))
    for enabled in (True, False):
        await provider.patch(disk, DISKS, {"properties": {"encryptionSettingsCollection": {"enabled": enabled}}})
        assert (await compute.disk(disk))["properties"]["encryptionSettingsCollection"] == {"enabled": enabled}
        with pytest.raises(HttpResponseError, match="encryptionSettingsCollection") as refusal:
            await compute.put_on_set(disk, encryption_set)
        assert refusal.value.status_code == 409
        assert refusal.value.error is not None
        assert refusal.value.error.code == "OperationNotAllowed"
    copy = compute.id_of("disks", name("copy"))
    creation = {"createOption": "Copy", "sourceResourceId": disk}
    await provider.put(copy, DISKS, {"location": "westeurope", "properties": {"creationData": creation}})
    with pytest.raises(HttpResponseError, match="Azure Disk Encryption"):
        await compute.put_on_set(copy, encryption_set)
    outside = await compute.create_disk(name("outside"), encryption_set=encryption_set)
    with pytest.raises(HttpResponseError, match="Azure Disk Encryption"):
        await provider.patch(outside, DISKS, {"properties": {"encryptionSettingsCollection": {"enabled": True}}})
    assert "encryptionSettingsCollection" not in (await compute.disk(outside))["properties"]


async def test_a_set_whose_identity_is_gone_gives_up_its_rotation_in_azures_words(
    provider: ProviderAdministrator,
    compute: ComputeAdministrator,
    control: SandboxControl,
    identity: ProviderIdentity,
    key_of_customer: tuple[str, str, str],
    name: Callable[[str], str],
) -> None:
    group = await provider.create_resource_group("rg-contoso")
    other = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name('gone')}"
    principal = (await provider.put(other, "2024-11-30", {"location": "westeurope"}))["properties"]["principalId"]
    trust = {
        "name": name("gone"),
        "issuer": f"https://login.microsoftonline.com/{provider.tenant_id}/v2.0",
        "subject": principal,
        "audiences": ["api://AzureADTokenExchange"],
    }
    application = f"/applications(appId='{identity.application_client_id}')/federatedIdentityCredentials"
    made = await provider.graph.json("POST", application, trust)
    await control.advance(10)
    set_name = name("des")
    encryption_set = await compute.create_encryption_set(
        set_name,
        key_of_customer[2],
        identity=other,
        application_client_id=identity.application_client_id,
        automatic=True,
    )
    await provider.graph.json("DELETE", f"{application}/{made['id']}")
    await provider.delete(other, "2024-11-30")
    await control.advance(2700)
    error = (await compute.disk(encryption_set))["properties"]["autoKeyRotationError"]
    assert error["code"] == "ManagedServiceIdentityNotFound"
    assert error["message"].startswith(
        f"Auto-key rotation was disabled as managed service identity associated with DiskEncryptionSet '{set_name}' was not found."
    )
