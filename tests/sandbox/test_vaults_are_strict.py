"""Vaults and keys: what Azure refuses is refused here, and what it takes is taken."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ClientSecretCredential

from sandbox.administrators.rest import connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.administrators import CustomerAdministrator, SandboxControl
    from tests.sandbox.conftest import Reply, Wire

VAULTS = "2026-02-01"
API = "api-version=2025-07-01"
INVALID = "An invalid value was provided for 'accessPolicies'"
SOMEBODY = str(uuid.UUID(int=7))


@pytest.fixture
async def token(env: Mapping[str, str], customer: CustomerAdministrator) -> str:
    side = (env["CUSTOMER_TENANT_ID"], env["CUSTOMER_ADMIN_CLIENT_ID"], env["CUSTOMER_ADMIN_CLIENT_SECRET"])
    async with ClientSecretCredential(*side, **connection(env)) as credential:
        return (await credential.get_token("https://vault.azure.net/.default")).token


def policy(tenant: str, object_id: str = SOMEBODY, permissions: dict[str, list[str]] | None = None) -> dict[str, Any]:
    return {"tenantId": tenant, "objectId": object_id, "permissions": permissions or {"keys": ["get"]}}


@pytest.mark.parametrize(
    ("permissions", "refused"),
    [
        (
            {
                "keys": ["get", "wrapKey", "UNWRAPKEY", "all"],
                "secrets": ["Set"],
                "certificates": ["listissuers"],
                "storage": [],
            },
            False,
        ),
        ({"keys": [" list"]}, True),
        ({"keys": ["wrap"]}, True),
        ({"secrets": ["wrapKey"]}, True),
        ({"certificates": ["sign"]}, True),
        ({"storage": ["sign"]}, True),
    ],
    ids=str,
)
async def test_only_known_permissions_are_taken(
    customer: CustomerAdministrator,
    name: Callable[[str], str],
    permissions: dict[str, list[str]],
    refused: bool,  # noqa: FBT001
) -> None:
    vault = name("policy-kv")
    await customer.create_vault(vault, rbac=False)
    body = {"properties": {"accessPolicies": [policy(customer.tenant_id, permissions=permissions)]}}
    one = customer.vault_id(vault)
    for method, url in (("PATCH", one), ("PUT", f"{one}/accessPolicies/replace")):
        if not refused:
            await customer.arm.json(method, f"{url}?api-version={VAULTS}", body)
            continue
        with pytest.raises(HttpResponseError, match=INVALID) as refusal:
            await customer.arm.json(method, f"{url}?api-version={VAULTS}", body)
        assert refusal.value.status_code == 400


async def test_access_policies_have_ids_that_are_guids_and_a_limit(
    customer: CustomerAdministrator, name: Callable[[str], str]
) -> None:
    vault, tenant = name("policy-kv"), customer.tenant_id
    await customer.create_vault(vault, rbac=False)
    for one in (
        {**policy(tenant), "objectId": "/subscriptions/x"},
        {**policy(tenant), "tenantId": "contoso.onmicrosoft.com"},
        {**policy(tenant), "applicationId": "app"},
    ):
        with pytest.raises(HttpResponseError, match=INVALID):
            await customer.patch(customer.vault_id(vault), VAULTS, {"properties": {"accessPolicies": [one]}})
    most = [policy(tenant, str(uuid.UUID(int=number))) for number in range(1, 1025)]
    await customer.patch(customer.vault_id(vault), VAULTS, {"properties": {"accessPolicies": most}})
    with pytest.raises(HttpResponseError, match=INVALID):
        await customer.patch(customer.vault_id(vault), VAULTS, {"properties": {"accessPolicies": [*most, policy(tenant)]}})
    body = {"properties": {"accessPolicies": [policy(tenant, str(uuid.UUID(int=2000)))]}}
    with pytest.raises(HttpResponseError, match=INVALID):
        await customer.put(f"{customer.vault_id(vault)}/accessPolicies/add", VAULTS, body)
    shown = await customer.get(customer.vault_id(vault), VAULTS)
    assert len(shown["properties"]["accessPolicies"]) == 1024


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sku": {"family": "A", "name": "premium"}}, None),
        ({"sku": {"family": "a", "name": "Standard"}}, None),
        ({"sku": {"family": "B", "name": "standard"}}, "BadRequest"),
        ({"sku": {"family": "A", "name": "gold"}}, "BadRequest"),
        ({"sku": {"name": "standard"}}, "InvalidRequestContent"),
        ({"tenantId": "fabrikam"}, "BadRequest"),
        ({"tenantId": SOMEBODY}, "BadRequest"),
        ({"enablePurgeProtection": "yes"}, "InvalidRequestContent"),
        ({"enablePurgeProtection": "true"}, "InvalidRequestContent"),
        ({"enablePurgeProtection": 1}, "InvalidRequestContent"),
        ({"softDeleteRetentionInDays": "7"}, "InvalidRequestContent"),
        ({"softDeleteRetentionInDays": 6}, "BadRequest"),
        (
            {
                "networkAcls": {
                    "defaultAction": "Deny",
                    "ipRules": [{"value": f"8.8.{n // 250}.{n % 250}"} for n in range(1001)],
                }
            },
            "BadRequest",
        ),
    ],
    ids=lambda value: str(value)[:70],
)
async def test_a_new_vault_has_values_of_the_right_kind(
    customer: CustomerAdministrator, name: Callable[[str], str], change: dict[str, Any], code: str | None
) -> None:
    await customer.create_resource_group(customer.resource_group)
    properties = {"tenantId": customer.tenant_id, "sku": {"family": "A", "name": "standard"}, **change}
    body = {"location": "westeurope", "properties": properties}
    if code is None:
        await customer.put(customer.vault_id(name("strict-kv")), VAULTS, body)
        return
    with pytest.raises(HttpResponseError) as refusal:
        await customer.put(customer.vault_id(name("strict-kv")), VAULTS, body)
    assert refusal.value.error is not None
    assert (refusal.value.status_code, refusal.value.error.code) == (400, code)


@pytest.mark.parametrize(
    ("field", "value", "before", "since"),
    [
        ("networkAcls", {"defaultAction": "Allow"}, "2016-10-01", "2018-02-14"),
        ("enablePurgeProtection", True, "2016-10-01", "2018-02-14"),
        ("enableRbacAuthorization", True, "2018-02-14", "2019-09-01"),
        ("publicNetworkAccess", "Enabled", "2019-09-01", "2021-10-01"),
    ],
)
async def test_an_api_version_knows_only_its_own_fields(
    customer: CustomerAdministrator, name: Callable[[str], str], field: str, value: object, before: str, since: str
) -> None:
    vault = name("gated-kv")
    await customer.create_vault(vault)
    with pytest.raises(HttpResponseError, match=f"Could not find member '{field}'") as refusal:
        await customer.patch(customer.vault_id(vault), before, {"properties": {field: value}})
    assert refusal.value.status_code == 400
    await customer.patch(customer.vault_id(vault), since, {"properties": {field: value}})


async def test_a_vault_stays_where_it_is(customer: CustomerAdministrator, name: Callable[[str], str]) -> None:
    vault = name("placed-kv")
    await customer.create_vault(vault)
    properties = {"tenantId": customer.tenant_id, "sku": {"family": "A", "name": "standard"}}
    with pytest.raises(HttpResponseError, match="InvalidResourceLocation"):
        await customer.put(customer.vault_id(vault), VAULTS, {"location": "eastus", "properties": properties})
    await customer.put(customer.vault_id(vault), VAULTS, {"location": "West Europe", "properties": properties})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kty": "RSA"}, 200),
        ({"kty": "RSA", "key_size": "2048"}, 400),
        ({"kty": "RSA", "attributes": {"enabled": "yes"}}, 400),
        ({"kty": "RSA", "attributes": {"exp": "2030-01-01"}}, 400),
        ({"kty": "RSA", "attributes": {"exp": 2000000000.5}}, 400),
        ({"kty": "RSA", "attributes": {"nbf": 1900000000, "exp": 2000000000}}, 200),
        ({"kty": "RSA", "attributes": {"nbf": 2000000000, "exp": 1900000000}}, 400),
        ({"kty": "RSA", "attributes": {"exportable": True}}, 400),
        ({"kty": "RSA", "public_exponent": 3}, 400),
        ({"kty": "RSA", "release_policy": {"data": "e30"}}, 400),
        ({"kty": "RSA", "tags": {f"tag{number}": "v" * 256 for number in range(15)}}, 200),
        ({"kty": "RSA", "tags": {f"tag{number}": "" for number in range(16)}}, 400),
        ({"kty": "RSA", "tags": {"t" * 257: ""}}, 400),
        ({"kty": "RSA", "tags": {"tag": "v" * 257}}, 400),
        ({"kty": "RSA", "tags": {"tag": 5}}, 400),
        ({"kty": "EC", "crv": "P-384", "key_size": 384}, 200),
        ({"kty": "EC", "crv": "P-384", "key_size": 2048}, 400),
        ({"kty": "RSA", "crv": "P-256"}, 400),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_new_key_has_values_of_the_right_kind(
    wire: Wire, token: str, key_of_customer: tuple[str, str, str], name: Callable[[str], str], body: dict[str, Any], status: int
) -> None:
    url = f"https://{key_of_customer[0]}.vault.azure.net/keys/{name('strict')}/create?{API}"
    reply = await wire("POST", url, token=token, body=body)
    assert reply.status == status, reply.text
    if status == 400:
        assert reply.code == "BadParameter"


async def test_an_update_cannot_let_a_key_expire_before_it_is_valid(
    wire: Wire, token: str, key_of_customer: tuple[str, str, str]
) -> None:
    url = f"{key_of_customer[2]}?{API}"
    for attributes, status in (
        ({"nbf": 1900000000}, 200),
        ({"exp": 1800000000}, 400),
        ({"exp": 2000000000}, 200),
        ({"nbf": 2100000000}, 400),
        ({"enabled": True}, 200),
    ):
        assert (await wire("PATCH", url, token=token, body={"attributes": attributes})).status == status, attributes


@pytest.mark.parametrize("path", ["/{key}/wrapkey", "/{key}//wrapkey", "/{key}/{version}/wrapkey", "//{key}//wrapkey"])
async def test_a_key_without_a_version_is_used_however_a_client_writes_it(
    wire: Wire, token: str, key_of_customer: tuple[str, str, str], path: str
) -> None:
    vault, key, key_id = key_of_customer
    url = f"https://{vault}.vault.azure.net/keys" + path.format(key=key, version=key_id.rsplit("/", 1)[-1])
    reply = await wire("POST", f"{url}?{API}", token=token, body={"alg": "RSA-OAEP-256", "value": "AAEC"})
    assert (reply.status, reply.json["kid"]) == (200, key_id)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("AAEC", 200),
        ("AAECAw", 200),
        ("_-_-", 200),
        ("+/+/", 400),
        ("AAECAw==", 400),
        ("A", 400),
        ("AA EC", 400),
        ("ÄÄEC", 400),
        (5, 400),
    ],
)
async def test_values_are_base64url(
    wire: Wire, token: str, key_of_customer: tuple[str, str, str], value: object, status: int
) -> None:
    reply = await wire("POST", f"{key_of_customer[2]}/wrapkey?{API}", token=token, body={"alg": "RSA-OAEP-256", "value": value})
    assert reply.status == status, reply.text
    if status == 200:
        back = await wire(
            "POST",
            f"{key_of_customer[2]}/unwrapkey?{API}",
            token=token,
            body={"alg": "RSA-OAEP-256", "value": reply.json["value"]},
        )
        assert back.json["value"] == value


@pytest.mark.parametrize(
    ("key_type", "size", "algorithm", "longest"),
    [
        ("RSA", 2048, "RSA-OAEP-256", 190),
        ("RSA", 3072, "RSA-OAEP-256", 318),
        ("RSA-HSM", 4096, "RSA-OAEP-256", 446),
        ("RSA", 2048, "RSA-OAEP", 214),
    ],
)
async def test_a_key_of_each_size_wraps_as_much_as_its_padding_leaves_and_unwraps_only_its_own(
    wire: Wire,
    token: str,
    customer: CustomerAdministrator,
    name: Callable[[str], str],
    key_type: str,
    size: int,
    algorithm: str,
    longest: int,
) -> None:
    # RFC 8017, section 7.1.1: the modulus less twice the digest and two bytes.
    vault = name("kv")
    await customer.create_vault(vault, sku="premium" if key_type == "RSA-HSM" else "standard")
    key_id = await customer.create_key(vault, "cmk", key_type=key_type, size=size)

    async def use(operation: str, value: str, named: str = algorithm) -> tuple[int, Any]:
        reply = await wire("POST", f"{key_id}/{operation}?{API}", token=token, body={"alg": named, "value": value})
        return reply.status, reply.json["value"] if reply.status == 200 else reply.json["error"]["code"]

    value = urlsafe_b64encode(bytes(longest)).rstrip(b"=").decode()
    status, wrapped = await use("wrapkey", value)
    assert (status, len(wrapped)) == (200, -(-size // 6))
    assert await use("unwrapkey", wrapped) == (200, value)
    longer = urlsafe_b64encode(bytes(longest + 1)).rstrip(b"=").decode()
    assert await use("wrapkey", longer) == (400, "BadParameter")
    another = {"RSA-OAEP": "RSA-OAEP-256", "RSA-OAEP-256": "RSA-OAEP"}[algorithm]
    assert await use("unwrapkey", wrapped, another) == (400, "BadParameter")
    assert await use("unwrapkey", wrapped[:-2]) == (400, "BadParameter")
    await customer.new_version(vault, "cmk")
    latest = f"https://{vault}.vault.azure.net/keys/cmk//unwrapkey?{API}"
    reply = await wire("POST", latest, token=token, body={"alg": algorithm, "value": wrapped})
    assert (reply.status, reply.json["error"]["code"]) == (400, "BadParameter"), "the latest version did not wrap it"


@pytest.mark.parametrize(
    ("media_type", "status"),
    [("application/json", 200), ("application/json; charset=utf-8", 200), ("", 415), ("text/plain", 415)],
)
async def test_a_body_is_called_json(
    wire: Wire, token: str, key_of_customer: tuple[str, str, str], media_type: str, status: int
) -> None:
    headers = {"Content-Type": media_type} if media_type else None
    text = '{"alg": "RSA-OAEP-256", "value": "AAEC"}'
    reply: Reply = await wire("POST", f"{key_of_customer[2]}/wrapkey?{API}", token=token, text=text, headers=headers)
    assert reply.status == status
    if status == 415:
        assert set(reply.json) == {"Message"}


async def test_a_list_of_versions_has_empty_pages_and_shorter_ones(
    wire: Wire, token: str, customer: CustomerAdministrator, control: SandboxControl, key_of_customer: tuple[str, str, str]
) -> None:
    vault, key, _ = key_of_customer
    made = {key_of_customer[2], *[await customer.new_version(vault, key) for _ in range(6)]}
    url, sizes, found = f"https://{vault}.vault.azure.net/keys/{key}/versions?{API}&maxresults=2", [], set()
    while url:
        page = (await wire("GET", url, token=token)).json
        sizes.append(len(page["value"]))
        found |= {one["kid"] for one in page["value"]}
        url = page["nextLink"]
    assert sizes == [2, 0, 1, 2, 0, 1, 1]
    assert found == made


ROTATE, NOTIFY = {"type": "Rotate"}, {"type": "Notify"}


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": "P30D"}, "action": ROTATE}]}, 200),
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": "P1Y2M3D"}, "action": ROTATE}]}, 200),
        (
            {
                "attributes": {"expiryTime": "P90D"},
                "lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P7D"}, "action": ROTATE}],
            },
            200,
        ),
        ({"lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P7D"}, "action": ROTATE}]}, 400),
        ({"lifetimeActions": [{"trigger": {}, "action": ROTATE}]}, 400),
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": "P30D", "timeBeforeExpiry": "P30D"}, "action": NOTIFY}]}, 400),
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": one}, "action": ROTATE} for one in ("P30D", "P60D")]}, 400),
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": "P6D"}, "action": ROTATE}]}, 400),
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": "30 days"}, "action": ROTATE}]}, 400),
        ({"lifetimeActions": [{"trigger": {"timeAfterCreate": 30}, "action": ROTATE}]}, 400),
        ({"attributes": {"expiryTime": "P27D"}}, 400),
        ({"attributes": {"expiryTime": "P"}}, 400),
    ],
    ids=lambda value: str(value)[:90],
)
async def test_a_rotation_policy_makes_sense(
    wire: Wire, token: str, key_of_customer: tuple[str, str, str], policy: dict[str, Any], status: int
) -> None:
    vault, key, _ = key_of_customer
    reply = await wire("PUT", f"https://{vault}.vault.azure.net/keys/{key}/rotationpolicy?{API}", token=token, body=policy)
    assert reply.status == status, reply.text
    if status == 200:
        assert NOTIFY in [one["action"] for one in reply.json["lifetimeActions"]], "Key Vault adds a notice of its own"


@pytest.mark.parametrize(
    ("vault", "answered"),
    [
        ("fresh-name-1", (True, None)),
        ("ab", (False, "AccountNameInvalid")),
        ("1st-vault", (False, "AccountNameInvalid")),
        ("two--hyphens", (False, "AccountNameInvalid")),
        ("ends-with-", (False, "AccountNameInvalid")),
    ],
)
async def test_a_name_that_no_vault_may_have_is_not_available(
    customer: CustomerAdministrator, vault: str, answered: tuple[bool, str | None]
) -> None:
    url = f"{customer.subscription}/providers/Microsoft.KeyVault/checkNameAvailability?api-version={VAULTS}"
    found = await customer.arm.json("POST", url, {"name": vault, "type": "Microsoft.KeyVault/vaults"})
    assert (found["nameAvailable"], found.get("reason")) == answered
    with pytest.raises(HttpResponseError, match="An invalid value was provided for 'type'"):
        await customer.arm.json("POST", url, {"name": vault, "type": "Microsoft.Storage/storageAccounts"})
