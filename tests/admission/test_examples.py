"""The examples are what a user would apply: the API server takes each of them, and they fit together."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.handover import handover_of, refused_keys
from cmk_operator.core.authority import judge_namespace
from cmk_operator.core.handover.request import Choices, judge
from cmk_operator.providers.registry import KINDS, admit
from tests.admission.api import NAMESPACE
from tests.admission.manifests import GUID, IDENTITY, OTHER_GUID

if TYPE_CHECKING:
    from tests.admission.api import Api

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
VALUES = {
    "PROVIDER_TENANT_ID": GUID,
    "CUSTOMER_TENANT_ID": OTHER_GUID,
    "SUBSCRIPTION_ID": GUID,
    "APPLICATION_CLIENT_ID": GUID,
    "MANAGED_IDENTITY_CLIENT_ID": OTHER_GUID,
    "REGISTRAR_CLIENT_ID": GUID,
    "MANAGED_IDENTITY_RESOURCE_ID": IDENTITY,
    "CUSTOMER_VAULT": "fabrikam-kv",
    "CUSTOMER_DISK_VAULT": "fabrikam-vm",
    "STORAGE_ACCOUNT": "fabrikamdocuments",
    "SQL_SERVER": "fabrikam-sql",
    "DISK_ENCRYPTION_SET": "fabrikam-disks",
    "DISK": "fabrikam-data",
}
USES = {kind.key_use for kind in KINDS.values()}
WHOLE = ["one-key-for-all", "one-key-for-each-kind"]


def manifests(path: Path) -> list[dict[str, Any]]:
    """The manifests of one file or folder, as `envsubst` would leave them."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    texts = (string.Template(file.read_text(encoding="utf-8")).substitute(VALUES) for file in files)
    return [manifest for text in texts for manifest in yaml.safe_load_all(text)]


# What kustomize builds of examples/customers is applied by tests/gitops.
REFUSED_AT_ADMISSION = {EXAMPLES / "refused" / "event-hubs.yaml"}


def test_an_example_of_what_admission_refuses_is_refused_with_the_reason(api: Api) -> None:
    for path in REFUSED_AT_ADMISSION:
        (manifest,) = manifests(path)
        manifest["metadata"]["namespace"] = NAMESPACE
        answer = api.judge(manifest)
        assert answer.status == 422
        assert "needs its key vault in its own tenant" in answer.message


@pytest.mark.parametrize(
    "path",
    sorted(set(EXAMPLES.rglob("*.yaml")) - set((EXAMPLES / "customers").rglob("*.yaml")) - REFUSED_AT_ADMISSION),
    ids=lambda path: str(path.relative_to(EXAMPLES)),
)
def test_the_api_server_takes_the_example_as_it_is(api: Api, path: Path) -> None:
    for manifest in manifests(path):
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = NAMESPACE
        answer = api.judge(manifest)
        assert answer.status == 201, answer.message


@pytest.mark.parametrize("folder", WHOLE)
def test_the_manifests_of_a_folder_fit_together_and_show_every_kind_of_target(folder: str) -> None:
    found = manifests(EXAMPLES / folder)
    (tenant,) = (CustomerTenant.model_validate(one) for one in found if one["kind"] == "CustomerTenant")
    (identity,) = (FederatedIdentity.model_validate(one) for one in found if one["kind"] == "FederatedIdentity")
    keys = [CustomerManagedKey.model_validate(one) for one in found if one["kind"] == "CustomerManagedKey"]
    resources = [EncryptedResource.model_validate(one) for one in found if one["kind"] == "EncryptedResource"]
    assert tenant.spec.identity_ref.name == identity.metadata.name
    assert {key.spec.tenant_ref.name for key in keys} == {tenant.metadata.name}
    assert refused_keys(tenant, identity, keys) == ()
    assert {resource.spec.key_ref.name for resource in resources} == {key.metadata.name for key in keys}
    for resource in resources:
        assert judge_namespace(tenant.grant, resource.metadata.namespace or "") is None
        target = resource.spec.target
        assert admit(tenant.grant, target) == target
    handover = handover_of(tenant, identity, keys, resources)
    assert handover is not None
    assert judge(handover, Choices()) == ()
    assert {use for vault in handover.vaults for key in vault.keys for use in key.uses} == USES


def test_one_key_is_one_key_and_a_key_for_each_kind_protects_nothing_else() -> None:
    one, each = ([one for one in manifests(EXAMPLES / folder) if one["kind"] == "EncryptedResource"] for folder in WHOLE)
    assert len({resource["spec"]["keyRef"]["name"] for resource in one}) == 1
    assert len({resource["spec"]["keyRef"]["name"] for resource in each}) == len(USES)
