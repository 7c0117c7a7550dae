"""The life of an organization's key: rotation, loss and return, other credentials, the way back, and whose it is."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.kubernetes.objects import condition, has
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT
from tests.certificates import Made
from tests.monitoring.live import begun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.e2e.conftest import Operator
    from tests.environment import Environment

pytestmark = pytest.mark.cluster

RBAC = "rbac.authorization.k8s.io"
SECRET = "vault-access"  # noqa: S105 - the name of a Secret


def in_force(revision: int) -> Callable[[dict[str, Any]], bool]:
    """A test for `organization_until`: that revision is in force."""
    return lambda status: bool(status.get("accepted", {}).get("revision") == revision)


async def organization(environment: Environment, **spec: Any) -> str:
    """Everything up to an OrganizationKey whose first settings are in force; the version of the key."""
    version = await environment.vault_with_key()
    await environment.apply_identity()
    await environment.apply_tenant()
    await environment.apply_organization(**spec)
    await environment.organization_until("accepted", in_force(1))
    return version


async def requested(environment: Environment, value: str) -> None:
    """Ask for a pass, as `kubectl annotate` does."""
    annotation = {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": value}}}
    await environment.objects.merge("OrganizationKey", "acme", annotation, environment.namespace)


async def reported(environment: Environment, revision: int, by_kid: dict[str, int], **more: Any) -> None:
    """What the key service would report, by its own field manager."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    data_keys = {
        "revision": revision,
        "total": sum(by_kid.values()),
        "byKid": [{"kid": kid, "dataKeys": count} for kid, count in by_kid.items()],
        "serving": {"state": "Serving", "since": now},
        "observedAt": now,
        **more,
    }
    body = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "OrganizationKey",
        "metadata": {"name": "acme", "namespace": environment.namespace},
        "status": {"dataKeys": data_keys},
    }
    path = f"{environment.objects.path('OrganizationKey', 'acme', environment.namespace)}/status"
    await environment.objects.call(
        "PATCH", path, body, "application/apply-patch+yaml", fieldManager="cmk-keyservice", force="true"
    )


async def test_a_new_version_is_followed_and_the_old_one_is_safe_only_once_nothing_needs_it(environment: Environment) -> None:
    first = await organization(environment, backupRetention="0h")
    newer = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await requested(environment, "1")
    status = await environment.organization_until("rotated", in_force(2))
    old, new = environment.key_uri(first), environment.key_uri(newer)
    assert status["accepted"]["kid"] == new
    assert [entry["kid"] for entry in status["earlier"]] == [old]
    assert {entry["kid"]: entry["safeToDisable"] for entry in status["versions"]} == {new: "False", old: "Unknown"}

    def says(kid: str, safe: str) -> Callable[[dict[str, Any]], bool]:
        return lambda seen: any(one["kid"] == kid and one["safeToDisable"] == safe for one in seen["versions"])

    await reported(environment, 2, {old: 2, new: 1})
    status = await environment.organization_until("needed", says(old, "False"))
    assert has("RewrapComplete", "False", "Rewrapping")(status)
    await reported(environment, 2, {new: 3})
    status = await environment.organization_until("safe", says(old, "True"))
    assert has("RewrapComplete", "True", "Rewrapped")(status)
    assert status["dataKeys"]["total"] == 3, "what the key service reports stays its own"
    await environment.organization_until("Ready", has("Ready"))


async def test_a_new_version_waits_for_approval_when_the_manifest_says_so(environment: Environment) -> None:
    await organization(environment, rotation={"approval": "Manual"})
    newer = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await requested(environment, "1")
    status = await environment.organization_until("waiting", has("RotationCurrent", "False", "ApprovalPending"))
    assert (status["pendingVersion"], status["accepted"]["revision"]) == (newer, 1)
    approval = {"metadata": {"annotations": {"cmk-operator.dev/approved-version": newer}}}
    await environment.objects.merge("OrganizationKey", "acme", approval, environment.namespace)
    status = await environment.organization_until("rotated", in_force(2))
    assert status["accepted"]["kid"] == environment.key_uri(newer)
    assert "pendingVersion" not in status


async def test_another_access_of_the_provider_leaves_a_version_waiting_for_its_approval(environment: Environment) -> None:
    version = await organization(environment, rotation={"approval": "Manual"})
    newer = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await requested(environment, "1")
    await environment.organization_until("waiting", has("RotationCurrent", "False", "ApprovalPending"))
    # Nobody touches the OrganizationKey, so that nothing asks for a look for new versions.
    await environment.apply_identity(operatorCredential="ServiceAccount")
    status = await environment.organization_until("accepted", in_force(2))
    assert status["accepted"]["access"]["operatorCredential"] == "ServiceAccount"
    assert (status["accepted"]["kid"], status["pendingVersion"]) == (environment.key_uri(version), newer)
    assert has("RotationCurrent", "False", "ApprovalPending")(status)


async def test_a_disabled_key_is_seen_and_comes_back_by_itself(environment: Environment) -> None:
    await organization(environment)
    await environment.organization_until("accessible", has("KeyAccessible"))
    await environment.customer.disable(environment.vault, "cmk")
    status = await environment.organization_until("lost", has("KeyAccessible", "False", "Disabled"))
    assert status["accepted"]["revision"] == 1, "what is in force stays in force"
    assert has("Stalled")(status)
    await environment.customer.enable(environment.vault, "cmk")
    await environment.organization_until("back", has("KeyAccessible"))


async def test_an_expired_key_still_unwraps_and_says_so(environment: Environment) -> None:
    await organization(environment)
    await environment.customer.set_expiry(environment.vault, "cmk", datetime.now(UTC) - timedelta(days=1))
    await requested(environment, "1")
    status = await environment.organization_until("expired", has("KeyAccessible", "True", "KeyExpired"))
    assert "nothing new is wrapped" in condition(status, "KeyAccessible")["message"]


async def test_another_key_is_taken_only_while_the_one_in_force_can_be_unwrapped(environment: Environment) -> None:
    first = await organization(environment)
    other = (await environment.customer.create_key(environment.vault, "other", size=4096)).rsplit("/", 1)[-1]
    await environment.customer.disable(environment.vault, "cmk")
    await environment.apply_organization(keyUri=environment.key_uri(key="other"))
    status = await environment.organization_until("refused", has("ConfigurationAccepted", "False", "Disabled"))
    assert (status["test"]["stage"], status["accepted"]["kid"]) == ("OldKey", environment.key_uri(first))
    await environment.customer.enable(environment.vault, "cmk")
    status = await environment.organization_until("accepted", in_force(2))
    assert status["accepted"]["kid"] == environment.key_uri(other, key="other")
    # Back to the old key, as after a restore of an old database.
    await environment.apply_organization(keyUri=environment.key_uri(first))
    status = await environment.organization_until("back", in_force(3))
    assert status["accepted"]["kid"] == environment.key_uri(first)


async def test_the_way_back_to_the_platform_key_needs_the_key_once_more(environment: Environment) -> None:
    version = await organization(environment)
    await environment.customer.disable(environment.vault, "cmk")
    await environment.apply_organization(mode="PlatformManaged")
    status = await environment.organization_until("refused", has("ConfigurationAccepted", "False", "Disabled"))
    assert status["test"]["stage"] == "OldKey"
    await environment.customer.enable(environment.vault, "cmk")
    status = await environment.organization_until("accepted", in_force(2))
    assert (status["accepted"]["mode"], status["accepted"]["kid"]) == ("PlatformManaged", "platform-key")
    assert status["earlier"][0]["kid"] == environment.key_uri(version)


async def test_with_wrap_and_unwrap_alone_nothing_is_ever_read(environment: Environment) -> None:
    await environment.vault_with_key(rbac=False, grant=False)
    application = environment.identity.application_client_id
    await environment.customer.set_access_policy(application, environment.vault, ("wrapKey", "unwrapKey"))
    await environment.apply_identity()
    await environment.apply_tenant()
    since = await environment.position()
    await environment.apply_organization()
    await environment.organization_until("accepted", in_force(1))
    newer = (await environment.customer.new_version(environment.vault, "cmk")).rsplit("/", 1)[-1]
    await requested(environment, "1")
    status = await environment.organization_until("rotated", in_force(2))
    assert status["accepted"]["kid"] == environment.key_uri(newer)
    read = await environment.operator_requests(environment.vault, since, "GET")
    assert len(read) <= 1, "once refused, never asked for again"


async def write_secret(environment: Environment, **entries: str | bytes) -> None:
    """The Secret with the credentials, and the operator's right to read it, as the chart's rbac.secrets gives it."""
    data = {
        name: base64.b64encode(value.encode() if isinstance(value, str) else value).decode() for name, value in entries.items()
    }
    path = f"/api/v1/namespaces/{environment.namespace}/secrets/{SECRET}"
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
    apply = "application/apply-patch+yaml"
    await environment.objects.call("PATCH", path, body, apply, fieldManager="tests", force="true")
    base = f"/apis/{RBAC}/v1/namespaces/{environment.namespace}"
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [SECRET]}]
    subject = {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}
    reference = {"apiGroup": RBAC, "kind": "Role", "name": "secrets"}
    contents: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("roles", "Role", {"rules": rules}),
        ("rolebindings", "RoleBinding", {"roleRef": reference, "subjects": [subject]}),
    )
    for path, kind, content in contents:
        body = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": {"name": "secrets"}, **content}
        await environment.objects.call("PATCH", f"{base}/{path}/secrets", body, apply, fieldManager="tests", force="true")


async def test_an_own_registration_renews_its_secret_by_a_certificate_without_losing_the_key(
    environment: Environment, operator: Operator, tmp_path: Path
) -> None:
    customer = environment.customer
    version = await environment.vault_with_key(grant=False)
    certificate = Made()
    own = await customer.register(f"{environment.name}-own", certificate.der)
    await customer.grant(own.client_id, environment.vault)
    key_id, secret = await customer.add_secret(own, ends=datetime.now(UTC) + timedelta(days=300))
    await write_secret(environment, secret=secret, certificate=certificate.pem)
    await environment.apply_identity()
    await environment.apply_tenant()
    soon = (datetime.now(UTC) + timedelta(days=20)).isoformat(timespec="seconds").replace("+00:00", "Z")
    by_secret = {"secretRef": {"name": SECRET, "key": "secret"}, "expires": soon}
    by_certificate = {"secretRef": {"name": SECRET, "key": "certificate"}}

    def access(*credentials: dict[str, Any]) -> dict[str, Any]:
        return {"registration": {"clientId": own.client_id, "credentials": list(credentials)}}

    await environment.apply_organization(access=access(by_secret))
    status = await environment.organization_until("accepted", in_force(1))
    assert status["accepted"]["kid"] == environment.key_uri(version)
    assert status["accepted"]["access"]["credentials"] == [{"secret": SECRET, "key": "secret", "type": "ClientSecret"}]
    assert has("CredentialValid", "True", "CredentialExpiresSoon")(status)
    assert status["credentials"][0]["warnedDays"] == 30
    expires = rf'cmk_organization_key_credential_expiration_timestamp_seconds\{{.*"{environment.namespace}"\}} '
    soon_over = await operator.scrape(expires)
    soon_over_at = "".join(re.findall(rf"{expires}(\S+)", soon_over.text))
    # The second credential overlaps with the first, which is then deleted.
    await environment.apply_organization(access=access(by_secret, by_certificate))
    status = await environment.organization_until("both", in_force(2))
    await customer.remove_secret(own, key_id)
    await environment.apply_organization(access=access(by_certificate))
    status = await environment.organization_until("certificate alone", in_force(3))
    assert [one["type"] for one in status["accepted"]["access"]["credentials"]] == ["Certificate"]
    assert status["accepted"]["kid"] == environment.key_uri(version)
    assert {entry["kid"] for entry in status["earlier"]} == {environment.key_uri(version)}
    await environment.organization_until("accessible", has("KeyAccessible"))
    renewed = await operator.scrape(f"{expires}(?!{soon_over_at})")
    assert "CmkOrganizationCredentialExpires" in begun(renewed, soon_over, tmp_path, namespace=environment.namespace)


async def test_a_deleted_credential_is_a_loss_and_a_new_one_ends_it(environment: Environment) -> None:
    customer = environment.customer
    await environment.vault_with_key(grant=False)
    own = await customer.register(f"{environment.name}-own")
    await customer.grant(own.client_id, environment.vault)
    key_id, secret = await customer.add_secret(own)
    await write_secret(environment, secret=secret)
    await environment.apply_identity()
    await environment.apply_tenant()
    credentials = [{"secretRef": {"name": SECRET, "key": "secret"}}]
    await environment.apply_organization(access={"registration": {"clientId": own.client_id, "credentials": credentials}})
    status = await environment.organization_until("accepted", in_force(1))
    assert has("CredentialValid", "True", "CredentialExpiryUnknown")(status)
    await customer.remove_secret(own, key_id)
    await environment.organization_until("lost", has("KeyAccessible", "False", "CredentialRefused"))
    _, renewed = await customer.add_secret(own)
    await write_secret(environment, secret=renewed)
    await environment.organization_until("back", has("KeyAccessible"))


async def test_a_file_that_is_only_a_certificate_is_refused_with_the_sentence_that_helps(environment: Environment) -> None:
    await environment.vault_with_key(grant=False)
    certificate = Made()
    own = await environment.customer.register(f"{environment.name}-own", certificate.der)
    await write_secret(environment, certificate=certificate.certificate_pem)
    await environment.apply_identity()
    await environment.apply_tenant()
    credentials = [{"secretRef": {"name": SECRET, "key": "certificate"}}]
    await environment.apply_organization(access={"registration": {"clientId": own.client_id, "credentials": credentials}})
    status = await environment.organization_until("refused", has("ConfigurationAccepted", "False", "CredentialUnusable"))
    assert status["test"]["stage"] == "Reference"
    assert "only the certificate" in status["test"]["message"]


async def test_no_organization_reaches_the_vault_of_another_although_the_application_could(
    environment: Environment, another_environment: Callable[[], Awaitable[Environment]]
) -> None:
    await organization(environment)
    other = await another_environment()
    await other.apply_identity()
    await other.apply_tenant()
    since = await environment.position()
    # Its own tenant does not list the vault, and the tenant that does lists another namespace.
    await other.apply_organization("own-tenant", keyUri=environment.key_uri())
    status = await other.organization_until("refused", has("Ready", "False", "VaultNotAllowed"), "own-tenant")
    assert (status["test"]["stage"], "accepted" in status) == ("Reference", False)
    await other.apply_organization("their-tenant", keyUri=environment.key_uri(), tenantRef={"name": environment.name})
    await other.organization_until("refused", has("Ready", "False", "NamespaceNotAllowed"), "their-tenant")
    taken = {"id": f"{environment.name}-acme", "name": "Acme Corp"}
    await other.apply_organization("taken", organization=taken, mode="PlatformManaged")
    status = await other.organization_until("taken", has("Ready", "False", "OrganizationTaken"), "taken")
    assert "accepted" not in status
    wrapped = await environment.operator_requests(f"{environment.vault}.", since, "POST")
    assert all(request["path"].partition("?")[0].endswith("/unwrapkey") for request in wrapped), "only the probes of its own"


async def test_a_deletion_waits_while_data_keys_may_be_on_it_and_ends_when_the_name_is_typed(environment: Environment) -> None:
    await organization(environment)
    await environment.objects.delete("OrganizationKey", "acme", environment.namespace)
    status = await environment.organization_until("held", has("Ready", "False", "DeletionHeld"))
    assert has("KeyAccessible")(status), "it goes on being probed and served"
    annotation = {"metadata": {"annotations": {"cmk-operator.dev/confirm-deletion": "Acme Corp"}}}
    await environment.objects.merge("OrganizationKey", "acme", annotation, environment.namespace)
    await environment.objects.until_gone("OrganizationKey", "acme", environment.namespace)


async def test_a_deletion_ends_by_itself_when_no_data_key_is_there(environment: Environment) -> None:
    await organization(environment)
    await reported(environment, 1, {})
    await environment.objects.delete("OrganizationKey", "acme", environment.namespace)
    await environment.objects.until_gone("OrganizationKey", "acme", environment.namespace)


async def test_a_broken_reference_after_a_failed_test_is_not_looked_at_faster_than_the_key(
    environment: Environment, operator: Operator
) -> None:
    await organization(environment)
    await environment.apply_organization(keyUri=environment.key_uri(key="missing"))
    await environment.organization_until("refused", has("ConfigurationAccepted", "False", "Missing"))
    await environment.apply_organization(keyUri=environment.key_uri(key="missing"), tenantRef={"name": "nobody"})
    await environment.organization_until("refused", has("ConfigurationAccepted", "False", "TenantNotFound"))
    before = await operator.passes("organizationkeys")
    await operator.after_passes(3, "customertenants")
    # A tenant is checked every 2 s, and this key every second.
    assert await operator.passes("organizationkeys") - before < 30
