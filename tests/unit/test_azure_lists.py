"""When Azure's lists of what uses keys are read, how long they count, and what they leave unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri, parse_key_uri
from cmk_operator.core.rotation.azure_use import AzureUser, FoundUse
from cmk_operator.kubernetes.inventory import Inventory
from cmk_operator.reconcile.key.azure_lists import PARTS_FOR, SLOWLY, AzureLists, lists_of, read_lists
from cmk_operator.reconcile.references import resolve_key
from tests.unit.samples import AZURE_FAULT, KEY, NOW, V1, identity_body, key_body, tenant_body

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.providers.user_lists import Details
    from cmk_operator.reconcile.collaborators.cluster import Cluster

INTERVAL = 300.0
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
ACCOUNT = ArmId(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/a")
SCOPES = (ArmId(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"),)
CHAIN = cast("IdentityChain", "chain")
ANY_KEY = parse_key_uri(KEY)


@dataclass
class Manager:
    """Resource Manager, which lets its caller see everything, or only what `actions` allow at a scope."""

    actions: dict[str, list[str]] = field(default_factory=lambda: {"": ["*"]})

    async def pages(self, path: str, _: object) -> object:
        scope = path.removesuffix("/providers/Microsoft.Authorization/permissions")
        allowed = self.actions.get(scope.lower(), self.actions.get("", []))
        yield [{"actions": allowed, "notActions": []}]


@dataclass
class Bench:
    """A clock, a list, and what the list shows."""

    shown: str = "storage accounts"
    action: str = "Microsoft.Storage/storageAccounts/read"
    seconds: float = 0.0
    reads: int = 0
    details: int = 0
    part: FoundUse = field(default_factory=FoundUse)
    found: FoundUse = field(default_factory=FoundUse)
    manager: Manager = field(default_factory=Manager)

    async def read(self, _: object, subscription_id: str, listed: frozenset[str], details: Details) -> FoundUse:
        assert {subscription_id} == listed
        self.reads += 1
        return FoundUse.of_all([self.found, await details.get(ACCOUNT, self.shown, self.detail)])

    async def detail(self) -> FoundUse:
        self.details += 1
        return self.part

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def resource_manager(self, _: object) -> Manager:
        return self.manager

    def lists(self) -> AzureLists:
        return AzureLists(cast("AzureSession", self), [self], INTERVAL, self.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_nothing_is_known_before_the_first_read_and_what_status_says_stays_for_three_intervals_at_most(
    bench: Bench,
) -> None:
    lists = bench.lists()
    assert lists.of("contoso", ANY_KEY) is None
    bench.seconds = 3 * INTERVAL
    late = lists.of("contoso", ANY_KEY)
    assert late is not None
    assert not late.is_complete
    assert late.why_unknown


async def test_a_read_counts_until_it_is_three_of_its_own_intervals_old(bench: Bench) -> None:
    lists = bench.lists()
    bench.found = FoundUse((AzureUser(ACCOUNT, ANY_KEY, V1),))
    assert lists.request("contoso", None, moving=False)
    assert await lists.read("contoso", CHAIN, SCOPES)
    seen = lists.of("contoso", ANY_KEY)
    assert seen is not None
    assert seen.is_complete
    assert seen.found.users == bench.found.users
    other = lists.of("contoso", KeyUri(ANY_KEY.vault_host, "other"))
    assert other is not None
    assert other.is_complete
    assert other.found.users == ()
    bench.seconds = 3 * SLOWLY * INTERVAL
    old = lists.of("contoso", ANY_KEY)
    assert old is not None
    assert not old.is_complete, "a stale list proves nothing"
    assert old.found.users == bench.found.users, "what was on it is still named"


async def test_a_list_must_be_newer_than_the_moment_at_which_the_last_user_left(bench: Bench) -> None:
    lists = bench.lists()
    lists.request("contoso", None, moving=False)
    await lists.read("contoso", CHAIN, SCOPES)
    assert not lists.request("contoso", NOW - timedelta(seconds=5), moving=False)
    assert lists.request("contoso", NOW, moving=False), "status holds whole seconds, so the same second is not newer"
    assert lists.wait("contoso") == 1.0
    bench.seconds = 1.0
    assert lists.wait("contoso") == INTERVAL / 10 - 1, "whoever asks, lists are not read one after the other"
    bench.seconds = INTERVAL / 10
    assert lists.wait("contoso") == 0.0
    assert await lists.read("contoso", CHAIN, SCOPES), "the keys that asked must know, though nothing else is new"
    assert not lists.request("contoso", NOW, moving=False)
    assert bench.reads == 2


async def test_the_first_read_waits_until_new_manifests_are_through_unless_a_version_waits(bench: Bench) -> None:
    lists = bench.lists()
    lists.request("contoso", None, moving=False)
    assert lists.wait("contoso") == INTERVAL / 2
    bench.seconds = 2.0
    lists.request("contoso", NOW, moving=False, left_at=NOW)
    assert lists.wait("contoso") == 0.0


async def test_what_no_list_shows_is_read_only_while_a_version_waits(bench: Bench) -> None:
    lists = bench.lists()
    lists.request("contoso", None, moving=False)
    await lists.read("contoso", CHAIN, SCOPES)
    assert (bench.reads, bench.details) == (1, 0)
    seen = lists.of("contoso", ANY_KEY)
    assert seen is not None
    assert seen.is_complete
    assert not seen.is_newer_than(NOW - timedelta(days=1)), "nothing is proven without it"

    bench.seconds = INTERVAL
    left = NOW + timedelta(seconds=INTERVAL)
    assert lists.request("contoso", left, moving=False, left_at=left)
    bench.seconds = INTERVAL + 1
    await lists.read("contoso", CHAIN, SCOPES)
    assert bench.details == 1
    proven = lists.of("contoso", ANY_KEY)
    assert proven is not None
    assert proven.is_newer_than(left)
    assert not lists.request("contoso", left, moving=False, left_at=left), "once for each wait"

    bench.seconds = (PARTS_FOR / 2 + 2) * INTERVAL
    assert lists.request("contoso", left, moving=False, left_at=left), "and again before it is too old"
    await lists.read("contoso", CHAIN, SCOPES)
    assert bench.details == 2


async def test_what_is_known_to_be_on_a_key_is_read_again_also_while_nothing_waits(bench: Bench) -> None:
    lists = bench.lists()
    bench.part = FoundUse((AzureUser(ACCOUNT, ANY_KEY, V1),))
    lists.request("contoso", None, moving=True)
    await lists.read("contoso", CHAIN, SCOPES)
    lists.request("contoso", None, moving=False)
    bench.seconds = INTERVAL
    await lists.read("contoso", CHAIN, SCOPES)
    assert bench.details == 1
    bench.seconds = SLOWLY * INTERVAL
    bench.part = FoundUse()
    await lists.read("contoso", CHAIN, SCOPES)
    assert bench.details == 2
    found = lists.of("contoso", ANY_KEY)
    assert found is not None
    assert found.found.users == ()


async def test_lists_that_nothing_waits_for_are_read_rarely(bench: Bench) -> None:
    lists = bench.lists()
    lists.request("contoso", None, moving=False)
    await lists.read("contoso", CHAIN, SCOPES)
    assert lists.after("contoso") > SLOWLY * INTERVAL * 0.8
    lists.request("contoso", None, moving=True)
    assert lists.after("contoso") < INTERVAL * 1.2
    await lists.read("contoso", CHAIN, SCOPES)
    assert lists.after("contoso") > SLOWLY * INTERVAL * 0.8
    bench.found = FoundUse(unlisted=(AZURE_FAULT,))
    bench.seconds = INTERVAL
    assert await lists.read("contoso", CHAIN, SCOPES)
    assert lists.after("contoso") < INTERVAL * 1.2


async def test_tenants_of_one_subscription_share_a_list(bench: Bench) -> None:
    lists = bench.lists()
    for tenant in ("contoso", "fabrikam"):
        lists.request(tenant, None, moving=False)
        await lists.read(tenant, CHAIN, SCOPES)
    assert bench.reads == 1
    for tenant in ("contoso", "fabrikam"):
        lists.forget(tenant)
    assert len(lists) == 0


async def test_a_list_that_azure_shortens_for_lack_of_rights_proves_nothing(bench: Bench) -> None:
    elsewhere = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/elsewhere"
    bench.manager.actions = {"": [], SCOPES[0].key: ["Microsoft.Storage/*/read"], elsewhere: []}
    lists = bench.lists()
    lists.request("contoso", None, moving=False)
    await lists.read("contoso", CHAIN, SCOPES)
    whole = lists.of("contoso", ANY_KEY)
    assert whole is not None
    assert whole.is_complete, "the operator may read all of the tenant's scopes"
    await lists.read("contoso", CHAIN, (*SCOPES, ArmId(elsewhere)))
    shortened = lists.of("contoso", ANY_KEY)
    assert shortened is not None
    assert not shortened.is_complete
    assert "the provider's administrator must assign it a role there" in shortened.why_unknown
    assert "elsewhere" in shortened.why_unknown


async def test_what_an_identity_cannot_even_ask_is_unknown(bench: Bench) -> None:
    lists = bench.lists()
    lists.request("contoso", None, moving=False)
    assert lists.refuse("contoso", AZURE_FAULT)
    found = lists.of("contoso", ANY_KEY)
    assert found is not None
    assert found.why_unknown == AZURE_FAULT.message


async def test_what_a_refused_list_showed_before_is_still_named(bench: Bench) -> None:
    lists = bench.lists()
    user = AzureUser(ACCOUNT, ANY_KEY, V1)
    bench.found = FoundUse((user,))
    lists.request("contoso", None, moving=False)
    await lists.read("contoso", CHAIN, SCOPES)
    for minutes, refuse in ((5, "list"), (10, "identity"), (15, "list")):
        bench.seconds, bench.found = 60.0 * minutes, FoundUse(unlisted=(AZURE_FAULT,))
        if refuse == "list":
            await lists.read("contoso", CHAIN, SCOPES)
        else:
            lists.refuse("contoso", AZURE_FAULT)
        found = lists.of("contoso", ANY_KEY)
        assert found is not None
        assert found.found.users == (user,), "what cannot be read is not gone"
        assert not found.is_complete
    bench.seconds, bench.found = 1200.0, FoundUse()
    await lists.read("contoso", CHAIN, SCOPES)
    gone = lists.of("contoso", ANY_KEY)
    assert gone is not None
    assert gone.found.users == ()


async def test_a_pass_that_only_waits_resolves_one_key_and_not_all_of_the_tenant(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass over a key may start this pass: if it resolved all keys, 1,000 of them would take a core until the first read."""
    inventory, resolved = Inventory(), list[str]()
    inventory.put(FederatedIdentity.plural, identity_body())
    inventory.put(CustomerTenant.plural, tenant_body())
    for number in range(20):
        body = key_body()
        inventory.put(CustomerManagedKey.plural, {**body, "metadata": {**body["metadata"], "name": f"key-{number}"}})
    inventory.unlisted.clear()

    def counted(inventory: Inventory, key: CustomerManagedKey) -> Any:
        resolved.append(key.metadata.name)
        return resolve_key(inventory, key)

    monkeypatch.setattr("cmk_operator.reconcile.key.azure_lists.resolve_key", counted)
    woken: list[ObjectReference] = []
    cluster = cast("Cluster", SimpleNamespace(inventory=inventory, wake=lambda one, _: woken.append(one)))
    lists, tenant = bench.lists(), tenant_body()["metadata"]["name"]
    lists.request(tenant, None, moving=False)
    later = await read_lists(cluster, lists, lists_of(tenant))
    assert (later.after, len(resolved), woken) == (INTERVAL / 2, 1, [])
    bench.seconds = INTERVAL
    await read_lists(cluster, lists, lists_of(tenant))
    assert {one.name for one in woken} == {f"key-{number}" for number in range(20)}
