"""Labels of requests: bounded, whatever names and ids a URL holds."""

from __future__ import annotations

import pytest

from cmk_operator.azure.request_labels import operation_of, service_of, shown_host
from tests.unit.samples import ACCOUNT, SUBSCRIPTION


@pytest.mark.parametrize(
    ("host", "service", "shown"),
    [
        ("abc.vault.azure.net", "key_vault", "abc.vault.azure.net"),
        ("abc.vault.usgovcloudapi.net", "key_vault", "abc.vault.usgovcloudapi.net"),
        ("management.azure.com", "resource_manager", "management.azure.com"),
        ("management.chinacloudapi.cn", "resource_manager", "management.chinacloudapi.cn"),
        ("login.microsoftonline.us", "entra", "login.microsoftonline.us"),
        ("graph.microsoft.com", "graph", "microsoft.com"),
        ("microsoftgraph.chinacloudapi.cn", "graph", "chinacloudapi.cn"),
        ("contoso-prod.snowflakecomputing.com", "snowflake", "snowflakecomputing.com"),
        ("abc.blob.core.windows.net", "other", "windows.net"),
    ],
)
def test_vaults_and_azures_own_hosts_are_told_apart_and_no_others(host: str, service: str, shown: str) -> None:
    assert (service_of(host), shown_host(host)) == (service, shown)


@pytest.mark.parametrize(
    ("service", "method", "path", "operation"),
    [
        ("key_vault", "GET", "keys/storage", "getKey"),
        ("key_vault", "GET", "keys/storage/0123", "getKey"),
        ("key_vault", "POST", "keys/storage/0123/wrapkey", "wrapKey"),
        ("key_vault", "POST", "keys/storage/0123/unwrapkey", "unwrapKey"),
        ("key_vault", "GET", "deletedkeys/storage", "getDeletedKey"),
        ("key_vault", "GET", "", "GET"),
        ("resource_manager", "PATCH", ACCOUNT, "PATCH microsoft.storage/storageaccounts"),
        (
            "resource_manager",
            "GET",
            f"subscriptions/{SUBSCRIPTION}/providers/Microsoft.Sql/servers",
            "GET microsoft.sql/servers",
        ),
        (
            "resource_manager",
            "POST",
            f"subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Sql/servers/s/encryptionProtector/current/revalidate",
            "POST microsoft.sql/servers/encryptionprotector/revalidate",
        ),
        (
            "resource_manager",
            "GET",
            f"{ACCOUNT}/providers/Microsoft.Authorization/locks",
            "GET microsoft.authorization/locks",
        ),
        ("resource_manager", "GET", "subscriptions", "GET subscriptions"),
        ("resource_manager", "GET", f"subscriptions/{SUBSCRIPTION}/resourceGroups/g", "GET subscriptions/resourcegroups"),
        ("resource_manager", "GET", f"subscriptions/{SUBSCRIPTION}/providers", "GET"),
        ("entra", "POST", f"{SUBSCRIPTION}/oauth2/v2.0/token", "token"),
        ("entra", "GET", "common/discovery/instance", "GET"),
        ("graph", "GET", "v1.0/applications(appId='0123')", "GET applications"),
        ("graph", "POST", "v1.0/applications/0123/federatedIdentityCredentials", "POST applications"),
        ("graph", "GET", "", "GET"),
        ("snowflake", "POST", "api/v2/statements", "POST"),
    ],
)
def test_an_operation_holds_no_name_and_no_id(service: str, method: str, path: str, operation: str) -> None:
    assert operation_of(service, method, path) == operation
