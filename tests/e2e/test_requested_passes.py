"""What calls for a pass, and what does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sandbox.kubernetes.objects import has
from tests.e2e.conftest import DRIFT_CHECK_INTERVAL

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

REQUESTED = "cmk-operator.dev/reconcile-requested-at"


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("FederatedIdentity", ("login.microsoftonline.com", "POST")),
        ("CustomerTenant", ("login.microsoftonline.com", "POST")),
        ("CustomerManagedKey", ("/wrapkey", "POST")),
        ("EncryptedResource", ("/storageAccounts/", "GET")),
    ],
)
async def test_a_requested_pass_asks_azure_anew_and_is_echoed(
    environment: Environment, kind: str, asked: tuple[str, str]
) -> None:
    await environment.ready()
    name = {"CustomerManagedKey": "cmk", "EncryptedResource": "docs"}.get(kind, environment.name)
    since = await environment.position()
    for moment in ("2026-11-24T10:00:00Z", "2026-11-24T10:00:01Z"):
        annotation = {"metadata": {"annotations": {REQUESTED: moment}}}
        await environment.objects.merge(kind, name, annotation, environment.namespace)

        def echoed(seen: dict[str, object], moment: str = moment) -> bool:
            return seen.get("lastHandledReconcileAt") == moment

        await environment.objects.until("an echo", kind, name, echoed, environment.namespace)
    where, method = asked
    found = await environment.requests_about(where, since, method)
    assert len(found) >= 2, "once for each request"
    assert await environment.writes(since) == []


async def test_labels_and_annotations_of_others_cause_no_pass(environment: Environment, operator: Operator) -> None:
    await environment.ready()
    before, begun = await operator.passes("encryptedresources"), time.monotonic()
    for number in range(100):
        note = {"metadata": {"labels": {"note": str(number)}, "annotations": {"example.com/note": str(number)}}}
        await environment.objects.merge("EncryptedResource", "docs", note, environment.namespace)
    annotation = {"metadata": {"annotations": {REQUESTED: "now"}}}
    await environment.objects.merge("EncryptedResource", "docs", annotation, environment.namespace)
    await environment.resource_until("an echo", lambda seen: seen.get("lastHandledReconcileAt") == "now")
    # Passes by interval go on meanwhile: a hundred changes must not add a hundred passes to them.
    by_interval = 2 * (time.monotonic() - begun) / DRIFT_CHECK_INTERVAL
    assert await operator.passes("encryptedresources") - before < 20 + by_interval
    await environment.resource_until("Ready", has("Ready"))


async def test_a_resource_type_that_is_not_supported_is_stalled_and_never_asked_for(
    environment: Environment, operator: Operator
) -> None:
    # Event Hubs and other types that are known never to do are refused at admission already.
    await environment.vault_with_key()
    scope = f"/subscriptions/{environment.provider.subscription_id}/resourceGroups/{environment.group}"
    environment.accounts["docs"] = f"{scope}/providers/Microsoft.Example/things/thing"
    await environment.apply_all()
    status = await environment.resource_until("unsupported", has("Stalled", "True", "UnsupportedResourceType"))
    assert has("Ready", "False", "UnsupportedResourceType")(status)
    assert "platform engineer must" in str(status)
    assert status["target"] == {"kind": "Microsoft.Example/things", "name": "thing"}
    await operator.after_passes(1)
    assert await environment.operator_requests("/thing", 0) == []


async def test_the_operators_own_service_account_can_be_the_applications_credential(environment: Environment) -> None:
    # Design section 2: one hop fewer, for where Entra does not take a managed identity's token by workload identity.
    await environment.vault_with_key()
    await environment.account()
    await environment.apply_identity(operatorCredential="ServiceAccount")
    await environment.apply_tenant()
    await environment.apply_key()
    await environment.apply_resource()
    await environment.resource_until("Ready", has("Ready"))
    encryption = await environment.encryption()
    assert encryption["identity"]["federatedIdentityClientId"] == environment.identity.application_client_id
    status = await environment.objects.until("Ready", "FederatedIdentity", environment.name, lambda seen: seen.get("effective"))
    assert status["effective"]["operatorCredential"] == "ServiceAccount"


async def test_a_service_account_that_the_application_does_not_trust_is_refused(environment: Environment) -> None:
    await environment.vault_with_key()
    application = environment.identity.application_client_id
    path = f"/applications(appId='{application}')/federatedIdentityCredentials"
    listed = (await environment.provider.graph.json("GET", path))["value"]
    (credential,) = [one for one in listed if one["name"] == "service-account"]
    other = {"subject": "system:serviceaccount:cmk-operator-system:somebody-else"}
    await environment.apply_identity(operatorCredential="ServiceAccount")
    await environment.apply_tenant()
    await environment.provider.graph.json("PATCH", f"{path}/{credential['id']}", other)
    try:
        await environment.apply_key()
        key = await environment.key_until("broken", has("KeyAccessible", "False", "IdentityBroken"))
        assert "AADSTS700213" in str(key)
    finally:
        right = {"subject": credential["subject"]}
        await environment.provider.graph.json("PATCH", f"{path}/{credential['id']}", right)
    await environment.key_until("Ready", has("Ready"))
