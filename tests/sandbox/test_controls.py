"""The proxy, the faults, the limits, the clock and the log: what tests of the operator rely on."""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.keys.aio import KeyClient

from sandbox.administrators.provider import STORAGE
from sandbox.administrators.rest import ARM, connection
from sandbox.azure import process
from sandbox.azure.arm.throttling import Window
from sandbox.azure.timings import LIFTED, Timings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from sandbox.administrators import CustomerAdministrator, ProviderAdministrator, ProviderIdentity, SandboxControl
    from tests.sandbox.conftest import Wire

AZURE = "https://management.azure.com"


@pytest.fixture
async def token(env: Mapping[str, str], identity: ProviderIdentity) -> str:
    credential = ClientSecretCredential(
        env["PROVIDER_TENANT_ID"], env["PROVIDER_ADMIN_CLIENT_ID"], env["PROVIDER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    async with credential:
        return (await credential.get_token(f"{ARM}/.default")).token


@pytest.fixture
async def keys(env: Mapping[str, str], key_of_customer: tuple[str, str, str]) -> AsyncIterator[KeyClient]:
    """A client that never retries, so that a fault is seen as it is."""
    credential = ClientSecretCredential(
        env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"], **connection(env)
    )
    url = f"https://{key_of_customer[0]}.vault.azure.net"
    async with credential, KeyClient(url, credential, retry_total=0, **connection(env, read_timeout=2)) as client:
        yield client


async def test_a_foreign_host_is_refused_and_written_down(wire: Wire, control: SandboxControl) -> None:
    with pytest.raises(aiohttp.ClientHttpProxyError) as refusal:
        await wire("GET", "https://example.com/")
    assert refusal.value.status == 403
    assert "example.com:443" in {one["target"] for one in await control.refused_hosts()}


async def test_a_vault_that_does_not_exist_looks_like_a_name_that_does_not_resolve(wire: Wire, control: SandboxControl) -> None:
    before = len(await control.refused_hosts())
    for host in ("never-was.vault.azure.net", "never.was.vault.azure.net", "neverwas.blob.core.windows.net"):
        with pytest.raises(aiohttp.ClientHttpProxyError) as refusal:
            await wire("GET", f"https://{host}/")
        assert refusal.value.status == 502
    assert len(await control.refused_hosts()) == before


async def test_a_status_fault_speaks_the_dialect_of_its_service(
    wire: Wire,
    env: Mapping[str, str],
    control: SandboxControl,
    keys: KeyClient,
    key_of_customer: tuple[str, str, str],
    token: str,
) -> None:
    fault = await control.inject(
        kind="status",
        host="*.vault.azure.net",
        path="^/keys/",
        status=429,
        code="Throttled",
        message="slow",
        retry_after=7,
        times=1,
    )
    with pytest.raises(HttpResponseError) as refusal:
        await keys.get_key(key_of_customer[1])
    assert refusal.value.status_code == 429
    assert getattr(refusal.value.response, "headers")["Retry-After"] == "7"  # noqa: B009 - the SDK types only some of the response
    assert refusal.value.error is not None
    assert refusal.value.error.code == "Throttled"
    assert (await keys.get_key(key_of_customer[1])).name == key_of_customer[1], "it was for one time"
    assert [(one["id"], one["hits"]) for one in await control.faults()] == [(fault, 1)]

    await control.inject(
        kind="status", host="login.microsoftonline.com", path="/token", status=503, code="AADSTS90033", message="busy"
    )
    reply = await wire(
        "POST", f"https://login.microsoftonline.com/{env['PROVIDER_TENANT_ID']}/oauth2/v2.0/token", form={"a": "b"}
    )
    assert (reply.status, reply.json["error_codes"], reply.json["error"]) == (503, [90033], "temporarily_unavailable")

    await control.inject(kind="status", host="management.*", path="x", status=500, body={"odd": True}, headers={"x-odd": "yes"})
    reply = await wire("GET", f"{AZURE}/subscriptions/x", token=token)
    assert (reply.status, reply.json, reply.headers["x-odd"]) == (500, {"odd": True}, "yes")


async def test_a_reset_a_hang_and_a_truncated_answer_break_the_connection(
    control: SandboxControl, keys: KeyClient, key_of_customer: tuple[str, str, str]
) -> None:
    name = key_of_customer[1]
    await keys.get_key(name)
    for kind in ("reset", "truncate"):
        # Without a number: aiohttp itself repeats a GET whose kept connection was closed.
        fault = await control.inject(kind=kind, host="*.vault.azure.net", path="^/keys/")
        with pytest.raises((ServiceRequestError, ServiceResponseError, HttpResponseError)):
            await keys.get_key(name)
        await control.clear_fault(fault)
        assert (await keys.get_key(name)).name == name
    await control.inject(kind="hang", host="*.vault.azure.net", path="^/keys/", times=1)
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        await keys.get_key(name)
    await control.inject(kind="delay", host="*.vault.azure.net", path="^/keys/", times=1, seconds=0.2)
    start = time.monotonic()
    await keys.get_key(name)
    assert time.monotonic() - start >= 0.2


async def test_any_bytes_with_any_headers_can_be_answered_on_any_route(wire: Wire, control: SandboxControl, token: str) -> None:
    url = f"{AZURE}/subscriptions/x"
    packed = base64.b64encode(gzip.compress(b"null")).decode()
    await control.inject(
        kind="status", host="management.*", path="x", status=200, raw=packed, headers={"Content-Encoding": "gzip"}, times=1
    )
    reply = await wire("GET", url, token=token)
    assert (reply.status, reply.json) == (200, None)
    link = {"value": [], "nextLink": "{url}"}
    await control.inject(kind="status", host="management.*", path="x", status=200, body=link, headers={"Location": "{url}"})
    reply = await wire("GET", url, token=token)
    assert (reply.json["nextLink"], reply.headers["Location"]) == (url, url)
    with pytest.raises(ValueError, match="base64"):
        await control.inject(kind="status", raw="%")


@pytest.mark.parametrize("fault", [{"kind": "drip", "seconds": 0.01}, {"kind": "endless"}], ids=["drip", "endless"])
async def test_an_answer_can_be_without_an_end(
    control: SandboxControl, keys: KeyClient, key_of_customer: tuple[str, str, str], fault: dict[str, object]
) -> None:
    await control.inject(**fault, host="*.vault.azure.net", path="^/keys/", status=200, body={})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await keys.get_key(key_of_customer[1])
    await control.clear_faults()
    assert (await keys.get_key(key_of_customer[1])).name == key_of_customer[1]


async def test_an_answer_can_be_lost_after_the_work_was_done(
    provider: ProviderAdministrator, wire: Wire, control: SandboxControl, token: str, name: Callable[[str], str]
) -> None:
    account = await provider.create_storage_account(name("lost"))
    await control.inject(
        kind="reset", host="management.azure.com", path=f"{account}\\?", method="PATCH", times=1, after_effect=True
    )
    with pytest.raises(aiohttp.ClientError):
        await wire("PATCH", f"{AZURE}{account}?api-version=2026-09-01", token=token, body={"tags": {"done": "yes"}})
    assert (await provider.storage_account(account))["tags"] == {"done": "yes"}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "explode"},
        {"kind": "status", "wher": "here"},
        {"kind": "status", "path": "("},
        {"kind": "status", "id": "mine"},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(control: SandboxControl, fault: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        await control.inject(**fault)
    assert await control.faults() == []


async def test_wrong_timings_and_clock_settings_change_nothing(control: SandboxControl) -> None:
    before = await control.timings()
    for changes in ({"no_such_thing": 1}, {"role_propagation_seconds": -1}, {"get_of_disabled_key_is_refused": 1}):
        with pytest.raises(ValueError, match=r"."):
            await control.set_timings(**changes)
    assert await control.timings() == before
    for call in (control.advance(-1), control.set_scale(0)):
        with pytest.raises(ValueError, match=r"."):
            await call


async def test_virtual_time_can_run_faster(control: SandboxControl) -> None:
    await control.set_scale(3600)
    start, wall = await control.now(), time.monotonic()
    while await control.now() - start < 600:
        assert time.monotonic() - wall < 20
        await asyncio.sleep(0.01)
    await control.set_scale(1)
    assert time.monotonic() - wall < 20


async def test_arm_throttles_each_principal_by_its_own_bucket(
    wire: Wire, env: Mapping[str, str], control: SandboxControl, token: str, provider: ProviderAdministrator
) -> None:
    await control.set_timings(arm_read_bucket=5, arm_read_refill_per_second=1.0)
    url = f"{AZURE}/subscriptions/{env['SUBSCRIPTION_ID']}?api-version=2022-12-01"
    replies = [await wire("GET", url, token=token) for _ in range(8)]
    assert [one.status for one in replies[:5]] == [200] * 5
    assert [int(one.headers["x-ms-ratelimit-remaining-subscription-reads"]) for one in replies[:5]] == [4, 3, 2, 1, 0]
    refused = replies[-1]
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "SubscriptionRequestsThrottled", "1")
    group = await wire(
        "PUT",
        f"{AZURE}{provider.subscription}/resourcegroups/rg-w?api-version=2024-11-01",
        token=token,
        body={"location": "eastus"},
    )
    assert group.status in {200, 201}, "writes have a bucket of their own"
    assert (await provider.get(provider.subscription, "2022-12-01"))["state"] == "Enabled", "the SDK waits as told"


async def test_the_storage_provider_and_the_vault_have_limits_of_their_own(
    wire: Wire,
    env: Mapping[str, str],
    control: SandboxControl,
    token: str,
    keys: KeyClient,
    key_of_customer: tuple[str, str, str],
) -> None:
    await control.set_timings(storage_list_per_5_minutes=0, vault_software_key_operations_per_10_seconds=0)
    url = f"{AZURE}/subscriptions/{env['SUBSCRIPTION_ID']}/providers/Microsoft.Storage/storageAccounts?api-version=2026-09-01"
    reply = await wire("GET", url, token=token)
    assert (reply.status, reply.code) == (429, "TooManyRequests")
    assert int(reply.headers["Retry-After"]) >= 1
    with pytest.raises(HttpResponseError) as refusal:
        await keys.get_key(key_of_customer[1])
    assert refusal.value.status_code == 429


def test_the_limits_are_azures_own_until_someone_changes_them() -> None:
    timings = Timings()
    assert (timings.arm_read_bucket, timings.arm_read_refill_per_second) == (250, 25.0)
    assert (timings.arm_write_bucket, timings.arm_write_refill_per_second) == (200, 10.0)
    assert (timings.storage_read_per_5_minutes, timings.storage_list_per_5_minutes) == (800, 100)
    assert (timings.storage_write_per_second, timings.storage_write_per_hour) == (10, 1200)


async def test_concurrent_writes_of_federated_credentials_on_one_identity_are_refused(
    wire: Wire, identity: ProviderIdentity, token: str
) -> None:
    def written(number: int) -> dict[str, object]:
        subject = f"system:serviceaccount:concurrent:{number}"
        return {
            "properties": {"issuer": "https://issuer.example", "subject": subject, "audiences": ["api://AzureADTokenExchange"]}
        }

    base = f"{AZURE}{identity.managed_identity_resource_id}/federatedIdentityCredentials"
    calls = [wire("PUT", f"{base}/concurrent-{n}?api-version=2024-11-30", token=token, body=written(n)) for n in range(2)]
    replies = sorted(await asyncio.gather(*calls), key=lambda one: one.status)
    assert [one.status for one in replies] == [201, 409]
    assert replies[1].code == "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"


async def test_the_log_names_principal_operation_and_error_and_never_a_secret(
    env: Mapping[str, str], customer: CustomerAdministrator, control: SandboxControl, token: str
) -> None:
    await control.clear_requests()
    with pytest.raises(HttpResponseError):
        await customer.get(customer.vault_id("never-was"), "2026-02-01")
    entries = await control.requests()
    last = entries[-1]
    assert (last["service"], last["method"], last["status"]) == ("management", "GET", 404)
    assert last["operation"] == "vaults/{name}"
    assert last["error_code"] in {"ResourceNotFound", "ResourceGroupNotFound"}
    assert last["application"] == env["CUSTOMER_ADMIN_CLIENT_ID"]
    assert last["client_request_id"]
    assert await control.requests(since=last["n"]) == []
    text = str(entries)
    assert env["CUSTOMER_ADMIN_CLIENT_SECRET"] not in text
    assert re.search(r"eyJ[\w-]+\.", text) is None


def test_it_ends_on_sigterm_and_leaves_nothing_behind(tmp_path: Path) -> None:
    running = process.start(tmp_path)
    assert set(running.env) == {
        "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PROVIDER_TENANT_ID", "CUSTOMER_TENANT_ID",
        "PROVIDER_ADMIN_CLIENT_ID", "PROVIDER_ADMIN_CLIENT_SECRET", "CUSTOMER_ADMIN_CLIENT_ID", "CUSTOMER_ADMIN_CLIENT_SECRET",
        "SUBSCRIPTION_ID", "CUSTOMER_SUBSCRIPTION_ID", "SANDBOX_CONTROL", "SANDBOX_CLOUD",
    }  # fmt: skip
    running.stop()
    assert running.exit_code == 0
    assert not (tmp_path / "azure.log").read_text()
    assert (tmp_path / "azure.json").stat().st_mode & 0o077 == 0


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(process.AzureDidNotStartError, match="No such file"):
        process.start(tmp_path, oidc_ca=tmp_path / "none.pem")


async def test_an_operation_takes_longer_and_fails_where_a_fault_says_so(
    provider: ProviderAdministrator, control: SandboxControl, wire: Wire, token: str, name: Callable[[str], str]
) -> None:
    resource_id = provider.storage_account_id(name("contoso"))
    await control.set_timings(storage_create_seconds=1)
    await control.inject(kind="slow_operation", path="storageAccounts/", method="PUT", seconds=1000)
    await control.inject(
        kind="failing_operation", path="storageAccounts/", status=500, code="InternalError", message="It broke."
    )
    body = {"location": "westeurope", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    started = await wire("PUT", f"{ARM}{resource_id}?api-version=2026-09-01", token=token, body=body)
    assert (started.status, started.text) == (202, "")
    headers = {key.lower(): value for key, value in started.headers.items()}
    status, result = headers["azure-asyncoperation"], headers["location"]
    await control.advance(900)
    under_way = await wire("GET", status, token=token)
    assert (under_way.status, under_way.json["status"]) == (200, "InProgress")
    assert int(under_way.headers["Retry-After"]) == 15, "long before the end"
    assert (await wire("GET", result, token=token)).status == 202
    await control.advance(200)
    ended = await wire("GET", status, token=token)
    assert (ended.status, ended.json["status"]) == (200, "Failed")
    assert ended.json["error"] == {"code": "InternalError", "message": "It broke."}
    refused = await wire("GET", result, token=token)
    assert (refused.status, refused.code) == (500, "InternalError")


def test_nothing_is_counted_against_a_limit_that_is_lifted() -> None:
    window = Window(3600)
    assert [window.take(LIFTED) for _ in range(3)] == [0, 0, 0]
    assert [window.take(2) for _ in range(2)] == [0, 0]
    assert window.take(2) > 0


async def test_an_altered_resource_stands_so_in_each_answer_that_has_it(
    provider: ProviderAdministrator, control: SandboxControl
) -> None:
    one, other = [await provider.create_storage_account(f"altered{number}") for number in (1, 2)]
    before = await provider.storage_account(one)
    await control.inject(
        kind="alter",
        resource=one.upper(),
        replace={"/properties/encryption/keySource": "Microsoft.Else", "/properties/new~1field/of": [1]},
        remove=["/properties/primaryEndpoints", "/properties/never/was"],
    )
    await control.inject(kind="alter", resource=other, replace={"": None})
    group = one.partition("/providers/")[0]
    listed = (await provider.get(f"{group}/providers/Microsoft.Storage/storageAccounts", STORAGE))["value"]
    alone = await provider.storage_account(one)
    assert alone["properties"]["encryption"]["keySource"] == "Microsoft.Else"
    assert alone["properties"]["new/field"] == {"of": [1]}
    assert "primaryEndpoints" not in alone["properties"]
    assert [found for found in listed if found is None or found["id"] == one] == [alone, None]
    await control.clear_faults()
    assert await provider.storage_account(one) == before


@pytest.mark.parametrize(
    "fault", [{}, {"resource": "x", "replace": {"no-slash": 1}}, {"resource": "x", "remove": ["no-slash"]}]
)
async def test_an_alteration_names_a_resource_and_json_pointers(control: SandboxControl, fault: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"resource|pointer"):
        await control.inject(kind="alter", **fault)
