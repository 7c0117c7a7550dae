"""From manifests to the hand-over, in the command line and in status alike: only what the tenant allows."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenantStatus
from cmk_operator.api.encrypted_resource import EncryptedResource, EncryptedResourceStatus
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.handover import handover_of, refused_keys
from cmk_operator.core.handover.letter import letter
from cmk_operator.core.handover.request import Choices
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.providers.disk.kind import DISK
from cmk_operator.providers.snowflake.kind import SNOWFLAKE_ACCOUNT
from cmk_operator.providers.sql.kind import SQL_SERVER
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT
from cmk_operator.reconcile.tenant.handover import MOST_KEYS, handover_steps
from tests.unit.samples import (
    APPLICATION,
    CUSTOMER,
    GROUP,
    VAULT,
    customer_tenant,
    identity_body,
    key_body,
    resource_body,
)
from tests.unit.schema import complaints, status_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cmk_operator.core.handover.request import Handover

ACCOUNTS = "contoso-prod"
SET = f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/disks"
SQL = f"{GROUP}/providers/Microsoft.Sql/servers/contososql"
SECRET = {"name": "snowflake"}


class Counting(Inventory):
    """Remembers what was parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    @override
    def get(self, model: Any, name: str, namespace: str = "") -> Any:
        self.read.append(name)
        return super().get(model, name, namespace)


def keys(*bodies: dict[str, Any]) -> list[CustomerManagedKey]:
    return [CustomerManagedKey.model_validate(body) for body in bodies]


def resources(*bodies: dict[str, Any]) -> list[EncryptedResource]:
    return [EncryptedResource.model_validate(body) for body in bodies]


def snowflake(account: str = ACCOUNTS, name: str = "warehouse", status: dict[str, Any] | None = None) -> dict[str, Any]:
    body = resource_body(name, snowflake={"account": account, "user": "CMK", "privateKeySecretRef": SECRET})
    del body["spec"]["resourceId"]
    return body | ({"status": status} if status else {})


def collected(found: Iterable[CustomerManagedKey] = (), on_them: Iterable[EncryptedResource] = (), **spec: Any) -> Handover:
    handover = handover_of(customer_tenant(**spec), identity(), found, on_them)
    assert handover is not None
    return handover


def identity() -> FederatedIdentity:
    return FederatedIdentity.model_validate(identity_body())


def test_a_customer_without_keys_yet_is_asked_for_one_in_each_vault() -> None:
    other = "contoso-eu.vault.azure.net"
    handover = collected(allowedVaults=[VAULT, other])
    assert [str(key.uri) for vault in handover.vaults for key in vault.keys] == [
        f"https://{other}/keys/cmk",
        f"https://{VAULT}/keys/cmk",
    ]
    assert handover.consent_url == f"https://login.microsoftonline.com/{CUSTOMER}/adminconsent?client_id={APPLICATION}"


def test_what_each_key_protects_is_told_and_the_region_of_disks() -> None:
    on_it = resources(
        resource_body("documents"),
        resource_body("more-documents"),
        resource_body("sql", resourceId=SQL),
        resource_body(
            "disks",
            resourceId=SET,
            diskEncryptionSet={"location": "West Europe", "encryptionType": "EncryptionAtRestWithCustomerKey"},
        ),
        snowflake(),
    )
    ((key,),) = (vault.keys for vault in collected(keys(key_body()), on_it, allowedSnowflakeAccounts=[ACCOUNTS]).vaults)
    assert key.uses == (STORAGE_ACCOUNT.key_use, SQL_SERVER.key_use, DISK.key_use, SNOWFLAKE_ACCOUNT.key_use)
    assert key.disk_regions == ("westeurope",)


def test_two_manifests_of_one_key_pinned_and_not_are_one_key() -> None:
    pinned = key_body("pinned", keyUri=f"https://{VAULT}/keys/storage/{'1' * 32}")
    ((key,),) = (vault.keys for vault in collected(keys(key_body(), pinned)).vaults)
    assert str(key.uri) == f"https://{VAULT}/keys/storage"


def test_what_the_tenant_does_not_allow_never_reaches_its_customer() -> None:
    strangers = keys(
        key_body("good"),
        key_body("other-namespace", namespace="team-b", keyUri=f"https://{VAULT}/keys/b"),
        key_body("other-vault", keyUri="https://elsewhere.vault.azure.net/keys/c"),
        key_body("other-cloud", keyUri="https://contoso.vault.azure.cn/keys/d"),
        key_body("other-tenant", tenantRef={"name": "fabrikam"}, keyUri=f"https://{VAULT}/keys/e"),
    )
    on_them = resources(
        resource_body("theirs", namespace="team-b", keyRef={"name": "good"}, resourceId=SQL),
        snowflake("stranger-prod") | {"metadata": {"name": "w", "namespace": "team-a"}},
        resource_body(
            "other-scope",
            keyRef={"name": "good"},
            resourceId=SET.replace("rg-contoso", "rg-stranger"),
            diskEncryptionSet={"location": "Brazil South", "encryptionType": "EncryptionAtRestWithCustomerKey"},
        ),
    )
    handover = collected(strangers, on_them)
    assert [str(key.uri) for vault in handover.vaults for key in vault.keys] == [f"https://{VAULT}/keys/storage"]
    assert handover.vaults[0].keys[0].uses == ()
    assert handover.applications == ()
    told = refused_keys(customer_tenant(), identity(), strangers)
    assert [sentence.split(":")[0] for sentence in told] == [
        "team-b/other-namespace",
        "team-a/other-vault",
        "team-a/other-cloud",
    ]
    assert all("must" in sentence or "clouds cannot be mixed" in sentence for sentence in told)


def test_snowflakes_consent_and_subnets_come_from_status() -> None:
    details = {"consentUrl": "https://login.microsoftonline.com/t/oauth2/authorize?client_id=x", "networkSubnets": ["/s"]}
    found = collected(
        keys(key_body()),
        resources(snowflake(status={"details": details | {"servicePrincipalName": "trisec"}})),
        allowedSnowflakeAccounts=["CONTOSO_PROD"],
    )
    (account,) = found.applications
    assert (account.account, account.principal_name, account.subnets) == (ACCOUNTS, "trisec", ("/s",))
    assert account.application is None, "x is no client id"
    assert account.keys == (found.vaults[0].keys[0].uri,)


def test_the_order_in_which_manifests_come_changes_nothing() -> None:
    found = keys(*(key_body(name, keyUri=f"https://{VAULT}/keys/{name}") for name in "abc"))
    on_them = resources(*(resource_body(f"r{name}", keyRef={"name": name}) for name in "abc"))
    ways = [
        collected(one, other) for one, other in zip(itertools.permutations(found), itertools.permutations(on_them), strict=True)
    ]
    assert all(way == ways[0] for way in ways)


def test_status_shows_the_steps_and_fits_the_definition() -> None:
    inventory = Inventory()
    inventory.put("customermanagedkeys", key_body())
    inventory.put("encryptedresources", resource_body())
    inventory.put("encryptedresources", snowflake())
    tenant = customer_tenant(allowedSnowflakeAccounts=[ACCOUNTS])
    shown = handover_steps(inventory, tenant, identity())
    assert any("storage accounts and Snowflake accounts" in step.why for step in shown)
    status = CustomerTenantStatus(handover=shown)
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert complaints(wire, status_schema("customertenants")) == []
    assert CustomerTenantStatus.model_validate(wire) == status
    assert handover_steps(inventory, tenant, identity()) == shown


def test_a_status_stays_small_and_says_where_the_rest_is() -> None:
    inventory = Inventory()
    for number in range(MOST_KEYS + 3):
        inventory.put("customermanagedkeys", key_body(f"key-{number:02}", keyUri=f"https://{VAULT}/keys/key-{number:02}"))
    shown = handover_steps(inventory, customer_tenant(), identity())
    assert sum(step.title.startswith("The key ") for step in shown) == MOST_KEYS
    assert shown[-1].title == "Repeat these steps for 3 more keys"
    assert "kubectl cmk handoff contoso" in shown[-1].why
    assert sum(len(step.model_dump_json()) for step in shown) < 40_000


def test_thousands_of_accounts_on_a_key_are_not_read_one_by_one() -> None:
    inventory = Counting()
    inventory.put("customermanagedkeys", key_body())
    for number in range(50):
        account = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/account{number}"
        inventory.put("encryptedresources", resource_body(f"account-{number}", resourceId=account))
    handover_steps(inventory, customer_tenant(), identity())
    assert len([name for name in inventory.read if name.startswith("account-")]) == 1


def test_without_a_status_of_details_nothing_is_made_up() -> None:
    assert EncryptedResourceStatus().details is None
    (account,) = collected(keys(key_body()), resources(snowflake()), allowedSnowflakeAccounts=[ACCOUNTS]).applications
    assert (account.consent_url, account.principal_name, account.subnets) == (None, None, ())


def test_the_customer_is_told_which_data_of_the_resources_on_a_key_it_does_not_protect() -> None:
    entries = [
        {"part": "queues", "covered": "No", "protectedBy": "a Microsoft-managed key"},
        {"part": "encryption scopes", "covered": "Unknown"},
    ]
    on_it = resources(resource_body("documents") | {"status": {"details": {"notCovered": entries}}})
    handover = collected(keys(key_body()), on_it)
    ((key,),) = (vault.keys for vault in handover.vaults)
    assert key.outside == (f"StorageAccount {on_it[0].spec.target.shown_name}: queues under a Microsoft-managed key",)
    text = " ".join(letter(handover, Choices()).split())
    assert "What your keys do not protect" in text
    assert key.outside[0] in text
    assert "encryption scopes with a key of their own" in text
    assert "What your keys do not protect" not in letter(collected(keys(key_body())), Choices())
