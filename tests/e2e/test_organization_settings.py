"""Test and save: settings of an OrganizationKey come into force only if the vault takes them, and those before stay until then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import has

if TYPE_CHECKING:
    from tests.environment import Environment

pytestmark = pytest.mark.cluster


def accepted(status: dict[str, Any], revision: int) -> bool:
    """Whether that revision is in force."""
    return bool(status.get("accepted", {}).get("revision") == revision)


async def in_force(environment: Environment, *, rbac: bool = True) -> str:
    """Everything up to an OrganizationKey whose settings are in force; the version of the key."""
    version = await environment.vault_with_key(rbac=rbac)
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_organization()
    await environment.organization_until("accepted", lambda status: accepted(status, 1))
    return version


async def test_a_manifest_becomes_the_settings_in_force(environment: Environment) -> None:
    version = await in_force(environment)
    status = await environment.organization_until("KeyAccessible", has("KeyAccessible"))
    found = status["accepted"]
    assert found["kid"] == environment.key_uri(version)
    assert found["mode"] == "CustomerManaged"
    assert found["algorithm"] == "RSA-OAEP-256"
    assert (found["probeIntervalSeconds"], found["outageGraceSeconds"]) == (1, 600)
    assert (
        found["access"]
        == {
            "method": "Application",
            "cloud": "AzurePublic",
            "tenantId": environment.customer.tenant_id,
            "applicationClientId": environment.identity.application_client_id,
            "managedIdentityClientId": environment.identity.managed_identity_client_id,
            "providerTenantId": environment.provider.tenant_id,
            "operatorCredential": "ManagedIdentity",
            "credentials": [],
        }
        or "credentials" not in found["access"]
    )
    assert status["test"]["result"] == "Passed"


async def test_a_missing_grant_fails_at_the_wrap_and_passes_once_it_is_given(environment: Environment) -> None:
    await environment.vault_with_key(grant=False)
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_organization()
    status = await environment.organization_until("refused", has("ConfigurationAccepted", "False", "PermissionDenied"))
    assert (status["test"]["result"], status["test"]["stage"], status["test"]["code"]) == ("Failed", "Wrap", "ForbiddenByRbac")
    assert "Key Vault Crypto Service Encryption User" in status["test"]["message"]
    assert "accepted" not in status
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    await environment.organization_until("accepted", lambda status: accepted(status, 1))


async def test_a_preflight_tries_the_settings_and_brings_nothing_into_force(environment: Environment) -> None:
    version = await environment.vault_with_key(grant=False)
    await environment.apply_identity()
    await environment.apply_tenant()
    spec = {
        "organization": {"id": environment.name, "name": "Acme Corp"},
        "mode": "CustomerManaged",
        "confirmation": "Acme Corp",
        "tenantRef": {"name": environment.name},
        "keyUri": environment.key_uri(),
        "access": {"application": {}},
    }

    async def checked(name: str) -> dict[str, Any]:
        """The status of a Preflight with that one manifest."""
        path = f"/apis/cmk-operator.dev/v1alpha1/namespaces/{environment.namespace}/preflights"
        kind = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": "Preflight"}
        body = {**kind, "metadata": {"name": name}, "spec": {"organizationKeys": [{"name": "acme", "spec": spec}]}}
        await environment.objects.call("POST", path, body)
        found: dict[str, Any] = {}

        async def complete() -> bool:
            nonlocal found
            found = (await environment.objects.call("GET", f"{path}/{name}"))["status"]
            return "result" in found

        await environment.eventually("the answer of the preflight", complete)
        return found

    found = await checked("before")
    results = {check["stage"]: check["result"] for check in found["checks"]}
    assert results == {"Admission": "Pass", "Token": "Pass", "Wrap": "Fail", "Unwrap": "Unchecked", "OldKey": "Unchecked"}
    assert found["result"] == "Fail"
    await environment.customer.grant(environment.identity.application_client_id, environment.vault)
    found = await checked("after")
    assert found["result"] == "Pass"
    (effect,) = (check for check in found["checks"] if check["stage"] == "Effect")
    assert effect["changes"] == [f"kid: (none) -> {environment.key_uri(version)}"]
    assert await environment.objects.all("OrganizationKey") == []
