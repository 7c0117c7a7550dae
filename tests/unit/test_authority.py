"""The confused deputy: what no CustomerTenant allows is refused, whatever else is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.authority import TenantGrant, judge_key, judge_namespace, judge_target
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import KeyUri
from tests.unit.samples import ACCOUNT, GROUP, KEY, SUBSCRIPTION, VAULT

PUBLIC = CLOUDS[CloudName.PUBLIC]
GRANT = TenantGrant("contoso", ("team-a",), (ArmId(GROUP),), (VAULT,))


def test_what_the_tenant_lists_is_allowed() -> None:
    assert judge_namespace(GRANT, "team-a") is None
    assert judge_target(GRANT, ArmId(ACCOUNT)) is None
    assert judge_key(GRANT, PUBLIC, KEY) == KeyUri(VAULT, "storage")


@pytest.mark.parametrize("namespace", ["", "team-b", "team", "team-a2", "TEAM-A", "kube-system", "*"])
def test_a_namespace_that_is_not_listed_is_refused_and_the_provider_must_act(namespace: str) -> None:
    fault = judge_namespace(GRANT, namespace)
    assert fault is not None
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.BLOCKED, "NamespaceNotAllowed", Actor.PROVIDER_ADMINISTRATOR)
    assert repr(namespace) in fault.message
    assert "the provider's administrator must add it to spec.allowedNamespaces" in fault.message


@pytest.mark.parametrize(
    "target",
    [
        ACCOUNT.replace("rg-contoso", "rg-contoso2"),
        ACCOUNT.replace("rg-contoso", "rg-conto"),
        ACCOUNT.replace(SUBSCRIPTION, "77777777-7777-4777-8777-777777777777"),
        "/subscriptions/x/resourceGroups/y/providers/z/a/" + GROUP.strip("/"),
    ],
)
def test_a_resource_outside_the_scopes_is_refused_and_the_provider_must_act(target: str) -> None:
    fault = judge_target(GRANT, ArmId(target))
    assert fault is not None
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.BLOCKED, "ScopeNotAllowed", Actor.PROVIDER_ADMINISTRATOR)
    assert target in fault.message
    assert "the provider's administrator must add it to spec.allowedScopes" in fault.message


def test_a_vault_that_is_not_listed_is_refused_and_the_provider_must_act() -> None:
    fault = judge_key(GRANT, PUBLIC, "https://other.vault.azure.net/keys/storage")
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.BLOCKED, "VaultNotAllowed", Actor.PROVIDER_ADMINISTRATOR)
    assert "'other.vault.azure.net'" in fault.message


def test_a_vault_of_another_cloud_is_refused_even_when_it_is_listed() -> None:
    grant = TenantGrant("contoso", ("team-a",), (), ("contoso.vault.azure.cn",))
    fault = judge_key(grant, PUBLIC, "https://contoso.vault.azure.cn/keys/storage")
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.INVALID, "WrongCloud", Actor.PLATFORM_ENGINEER)


def test_a_malformed_key_is_the_platform_engineer_s_to_correct() -> None:
    fault = judge_key(GRANT, PUBLIC, "http://contoso.vault.azure.net/keys/storage")
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.INVALID, "InvalidKeyUri", Actor.PLATFORM_ENGINEER)


vaults = st.sampled_from(["abc.vault.azure.net", "abcd.vault.azure.net", "abc.vault.azure.cn", "abc.vault.usgovcloudapi.net"])
uris = st.one_of(
    vaults.map(lambda host: f"https://{host}/keys/k"), vaults.map(lambda host: f"https://{host}:443/keys/k"), st.text()
)


@given(st.sets(vaults), st.sampled_from(list(CLOUDS.values())), uris)
def test_a_token_only_ever_goes_to_a_listed_vault_of_the_identity_s_own_cloud(hosts: set[str], cloud: object, uri: str) -> None:
    grant = TenantGrant("contoso", (), (), tuple(hosts))
    admitted = judge_key(grant, cloud, uri)  # type: ignore[arg-type]  # sampled from the clouds
    if isinstance(admitted, KeyUri):
        assert admitted.vault_host in hosts
        assert admitted.vault_host.endswith(f".{cloud.key_vault_suffix}")  # type: ignore[attr-defined]  # as above


names = st.text(st.sampled_from("ab-"), min_size=1, max_size=3)


@given(st.lists(names, max_size=4), names)
def test_a_namespace_is_allowed_exactly_if_it_is_listed_letter_by_letter(listed: list[str], namespace: str) -> None:
    grant = TenantGrant("contoso", tuple(listed), (), ())
    assert (judge_namespace(grant, namespace) is None) is (namespace in listed)


@given(st.lists(names, max_size=3), names)
def test_a_grant_of_groups_admits_resources_of_these_groups_only(groups: list[str], group: str) -> None:
    scopes = tuple(ArmId(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}") for name in groups)
    target = ArmId(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/x")
    assert (judge_target(TenantGrant("contoso", (), scopes, ()), target) is None) is (group in groups)


def test_an_empty_grant_allows_nothing() -> None:
    nothing = TenantGrant("contoso", (), (), ())
    assert judge_namespace(nothing, "team-a") is not None
    assert judge_target(nothing, ArmId(ACCOUNT)) is not None
    assert isinstance(judge_key(nothing, PUBLIC, KEY), Fault)
