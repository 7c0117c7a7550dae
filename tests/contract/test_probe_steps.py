"""Which cause is seen at which look at a key, and what the looks cost, against the simulated vault (laws 1 and 7)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cmk_operator.azure import key_vault
from cmk_operator.azure.key_vault import ProbedKey
from cmk_operator.azure.prober import KeyProber
from cmk_operator.core.access.key_verdict import judge_key_probe
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from sandbox.azure.timings import FOR_GOOD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.contract.world import World

    Act = Callable[["Vault"], Awaitable[object]]

INTERVAL = 45.0
WELL = AccessState.ACCESSIBLE
WHOLE = ["get", "wrapkey", "unwrapkey"]
STEPS = [["get"], ["unwrapkey"], ["wrapkey", "unwrapkey"]]
"""The calls of one look each, in turn: none wraps only."""


@dataclass
class Vault:
    """A vault of the customer with keys in it, and one prober that looks at them by a clock of its own."""

    world: World
    now: float = 1000.0
    woken: list[str] = field(default_factory=list)
    prober: KeyProber = field(init=False)

    def __post_init__(self) -> None:
        self.prober = KeyProber(self.world.session, lambda: datetime.now(UTC), 16, lambda: self.now)

    @property
    def name(self) -> str:
        return self.world.vault

    @property
    def application(self) -> str:
        return self.world.identity.application_client_id

    async def keys(self, *names: str, rbac: bool = True, at_keys: bool = False, made: bool = False) -> None:
        """The vault unless it is made, and keys that the application may use: by a role on it or on each key, or by policy."""
        if not made:
            await self.world.customer.create_vault(self.name, rbac=rbac)
        for name in names:
            await self.world.customer.create_key(self.name, name)
            if at_keys:
                await self.world.customer.grant(self.application, self.name, key=name)
        if rbac and not at_keys:
            await self.world.customer.grant(self.application, self.name)
        if not rbac:
            await self.world.customer.set_access_policy(self.application, self.name)

    def key(self, name: str, version: str | None = None) -> ProbedKey:
        uri = parse_key_uri(f"https://{self.name}.vault.azure.net/keys/{name}")
        return ProbedKey(self.world.chain, self.world.customer.tenant_id, uri.at(version) if version else uri)

    async def look(
        self, name: str = "cmk", *in_use: str, after: float = INTERVAL * 1.05, version: str | None = None
    ) -> AccessState:
        """The state after the next look, that much later."""
        self.now += after
        found = await self.prober.check(
            self.key(name, version), frozenset(in_use), INTERVAL, name, lambda: self.woken.append(name)
        )
        return judge_key_probe(found, dict.fromkeys(in_use, ("data",))).access.state

    async def calls(self, look: Awaitable[AccessState]) -> list[str]:
        """What was asked of the vault during a look at a key that is well."""
        before = await self.world.control.requests()
        since = int(before[-1]["n"])
        assert await look is WELL
        return await self.asked(since)

    async def asked(self, since: int) -> list[str]:
        found = []
        for one in await self.world.control.requests(since):
            if one["host"].startswith(f"{self.name}.") and one["application"] == self.application:
                last = one["path"].split("?")[0].rsplit("/", 1)[-1]
                found.append("list" if last == "keys" else last if one["method"] == "POST" else "get")
        return found

    async def position(self) -> int:
        return int((await self.world.control.requests())[-1]["n"])


@pytest.fixture
def vault(world: World) -> Vault:
    return Vault(world)


async def test_three_looks_at_a_key_alone_in_its_vault_are_a_whole_probe_of_four_calls_and_none_wraps_only(
    vault: Vault,
) -> None:
    await vault.keys("cmk")
    assert [call for call in await vault.calls(vault.look()) if call != "list"] == WHOLE
    for step in STEPS * 2:
        assert await vault.calls(vault.look()) == step


async def test_a_look_that_is_not_due_asks_nothing(vault: Vault) -> None:
    await vault.keys("cmk")
    await vault.look()
    assert await vault.calls(vault.look(after=INTERVAL * 0.8)) == []


async def test_before_a_write_only_a_whole_probe_counts(vault: Vault) -> None:
    # Law 1.
    await vault.keys("cmk")
    await vault.look()
    for _ in STEPS:
        await vault.look()
    since = await vault.position()
    probe = await vault.prober.probe(vault.key("cmk"), frozenset(), 60.0)
    assert probe.wanted.round_trip
    assert await vault.asked(since) == WHOLE
    since, vault.now = await vault.position(), vault.now + 59.0
    await vault.prober.probe(vault.key("cmk"), frozenset(), 60.0)
    assert await vault.asked(since) == [], "one for all that are written within a minute"


async def test_before_a_write_that_names_no_version_the_latest_is_read_again_and_tried_if_it_is_new(vault: Vault) -> None:
    # Law 1: Azure takes the latest version, and one may have been made since the probe.
    await vault.keys("cmk")

    async def seen() -> tuple[AccessState, str, list[str]]:
        since = await vault.position()
        probe = await vault.prober.probe(vault.key("cmk"), frozenset(), 60.0, read_max_age=2.0)
        version = probe.wanted.attributes.version if probe.wanted.attributes is not None else ""
        return judge_key_probe(probe, {}).access.state, version, await vault.asked(since)

    state, first, asked = await seen()
    assert (state, asked) == (WELL, WHOLE)
    vault.now += 1.9
    assert await seen() == (WELL, first, []), "one for all that are written within two seconds"
    vault.now += 0.2
    assert await seen() == (WELL, first, ["get"])
    await vault.world.customer.create_key(vault.name, "cmk")
    vault.now += 2.1
    state, second, asked = await seen()
    assert (state, second != first, asked) == (WELL, True, WHOLE)
    vault.now += 56.0
    assert await seen() == (WELL, second, WHOLE), "a read makes no probe younger"
    await vault.world.customer.disable(vault.name, "cmk")
    vault.now += 2.1
    state, _, asked = await seen()
    assert (state, asked) == (AccessState.DISABLED, ["get"])
    await vault.world.customer.enable(vault.name, "cmk")
    assert await seen() == (WELL, second, WHOLE), "what was lost is tried whole"


async def test_who_asks_for_what_is_so_now_is_not_told_a_reason_of_a_moment_ago(vault: Vault) -> None:
    # As a preflight does, right after the customer has consented and made the vault.
    customer, later = vault.world.customer, f"{vault.name}later"
    await vault.keys("cmk")
    not_there = replace(vault.key("cmk"), key_uri=parse_key_uri(f"https://{later}.vault.azure.net/keys/cmk"))

    async def seen(key: ProbedKey) -> AccessState:
        vault.now += 0.1
        return judge_key_probe(await vault.prober.probe(key, frozenset(), 0.0), {}).access.state

    assert await seen(vault.key("cmk")) is WELL, "and a token is kept"
    await customer.withdraw_consent(vault.application)
    try:
        assert await seen(not_there) is AccessState.CONSENT_MISSING
    finally:
        await customer.consent(vault.application)
    await customer.create_vault(later)
    await customer.create_key(later, "cmk")
    assert await seen(not_there) is AccessState.PERMISSION_DENIED


async def test_the_time_of_the_oldest_step_is_told(vault: Vault) -> None:
    await vault.keys("cmk")
    await vault.look()
    began = datetime.now(UTC)
    for _ in range(2):
        await vault.look()
    probe = await vault.prober.check(vault.key("cmk"), frozenset(), INTERVAL, "cmk", lambda: None)
    assert probe.proven_at is not None
    age = (began - probe.proven_at).total_seconds()
    assert age == pytest.approx(2 * 1.05 * INTERVAL, abs=5), "wrapped with at the first visit only"


async def disable(vault: Vault) -> None:
    await vault.world.customer.disable(vault.name, "cmk")


async def enable(vault: Vault) -> None:
    await vault.world.customer.enable(vault.name, "cmk")


async def delete(vault: Vault) -> None:
    await vault.world.customer.delete_key(vault.name, "cmk")


async def recover(vault: Vault) -> None:
    await vault.world.customer.recover_key(vault.name, "cmk")


async def revoke(vault: Vault) -> None:
    await vault.world.customer.revoke_grant(vault.application, vault.name)


async def grant(vault: Vault) -> None:
    await vault.world.customer.grant(vault.application, vault.name)


async def close(vault: Vault) -> None:
    await vault.world.customer.set_firewall(vault.name)


async def reopen(vault: Vault) -> None:
    await vault.world.customer.set_firewall(vault.name, default_action="Allow")


async def withdraw(vault: Vault) -> None:
    await vault.world.customer.delete_vault(vault.name)


async def bring_back(vault: Vault) -> None:
    await vault.world.customer.recover_vault(vault.name)
    await grant(vault)


CAUSES: dict[AccessState, tuple[Act, Act]] = {
    AccessState.DISABLED: (disable, enable),
    AccessState.DELETED: (delete, recover),
    AccessState.PERMISSION_DENIED: (revoke, grant),
    AccessState.FIREWALL_BLOCKS_PROBE: (close, reopen),
    AccessState.VAULT_UNREACHABLE: (withdraw, bring_back),
}


@pytest.mark.parametrize("state", CAUSES, ids=str)
async def test_each_single_step_sees_that_a_key_is_lost_at_the_very_next_look(vault: Vault, state: AccessState) -> None:
    await vault.keys("cmk")
    cause, remedy = CAUSES[state]
    for looks_before in range(len(STEPS)):
        assert await vault.look() is WELL
        for _ in range(looks_before):
            await vault.look()
        await cause(vault)
        assert await vault.look() is state, f"seen by {STEPS[looks_before]}"
        await remedy(vault)


@pytest.mark.parametrize("wraps_for", [0.0, 120.0, FOR_GOOD])
@pytest.mark.parametrize("get_is_refused", [False, True])
async def test_a_disabled_key_with_which_the_vault_still_wraps_is_seen_at_the_very_next_look(
    vault: Vault, wraps_for: float, *, get_is_refused: bool
) -> None:
    await vault.world.control.set_timings(disabled_key_wraps_seconds=wraps_for, get_of_disabled_key_is_refused=get_is_refused)
    await vault.keys("cmk")
    old = (await vault.world.customer.create_key(vault.name, "cmk")).rsplit("/", 1)[-1]
    await vault.world.customer.new_version(vault.name, "cmk")
    for version in (None, old):
        for looks_before in range(len(STEPS)):
            assert await vault.look("cmk", old) is WELL
            for _ in range(looks_before):
                await vault.look("cmk", old)
            await vault.world.customer.disable(vault.name, "cmk", version)
            assert await vault.look("cmk", old) is AccessState.DISABLED, f"{version or 'the latest'}: {STEPS[looks_before]}"
            await vault.world.customer.enable(vault.name, "cmk", version)


@pytest.mark.parametrize("missing", ["get", "wrapKey", "unwrapKey"])
async def test_one_permission_that_is_taken_away_is_seen_within_three_looks(vault: Vault, missing: str) -> None:
    await vault.keys("cmk", rbac=False)
    await vault.look()
    rest = sorted({"get", "wrapKey", "unwrapKey"} - {missing})
    await vault.world.customer.set_access_policy(vault.application, vault.name, rest)
    states = [await vault.look() for _ in range(3)]
    assert states[-1] is AccessState.PERMISSION_DENIED


async def test_an_expiry_that_was_known_is_seen_without_asking_and_one_that_is_set_within_three_looks(vault: Vault) -> None:
    await vault.keys("cmk")
    await vault.look()
    await vault.world.customer.set_expiry(vault.name, "cmk", datetime.now(UTC) - timedelta(days=1))
    states = [await vault.look() for _ in range(3)]
    assert AccessState.EXPIRED in states


async def test_an_old_version_that_is_still_in_use_is_seen_to_be_lost_at_the_very_next_look(vault: Vault) -> None:
    await vault.keys("cmk")
    old = (await vault.world.customer.create_key(vault.name, "cmk")).rsplit("/", 1)[-1]
    await vault.world.customer.new_version(vault.name, "cmk")
    for looks_before in range(len(STEPS)):
        assert await vault.look("cmk", old) is WELL
        for _ in range(looks_before):
            assert len(await vault.calls(vault.look("cmk", old))) in {2, 4}, "one or two calls for each version"
        await vault.world.customer.disable(vault.name, "cmk", old)
        assert await vault.look("cmk", old) is AccessState.DISABLED
        since = await vault.position()
        for _ in STEPS:
            assert await vault.look("cmk", old) is AccessState.DISABLED
        assert len(await vault.asked(since)) == 4 + len(STEPS), "what stays lost does not make the key itself dear"
        await vault.world.customer.enable(vault.name, "cmk", old)
    assert await vault.look("cmk", old) is WELL
    assert len(await vault.calls(vault.look("cmk"))) == 1, "what is used no more costs nothing"


NAMES = ("a", "b", "c", "d")


async def looks_at_all(vault: Vault) -> None:
    for name in NAMES:
        assert await vault.look(name, after=INTERVAL * 1.05 / len(NAMES)) is WELL


async def test_keys_of_one_vault_share_its_list(vault: Vault) -> None:
    await vault.keys(*NAMES)
    for _ in range(3):
        await looks_at_all(vault)
    since = await vault.position()
    rounds = 12
    for _ in range(rounds):
        await looks_at_all(vault)
    calls = await vault.asked(since)
    assert calls.count("list") <= rounds
    assert [calls.count(step) for step in WHOLE] == [rounds * len(NAMES) * share / 6 for share in (1, 1, 3)]
    assert len(calls) / (rounds * len(NAMES)) <= 5 / 6 + 1 / len(NAMES)


async def test_a_version_made_in_the_same_second_as_the_last_is_seen_though_the_list_shows_it_alike(vault: Vault) -> None:
    await vault.keys(*NAMES)
    await looks_at_all(vault)
    new = (await vault.world.customer.new_version(vault.name, "c")).rsplit("/", 1)[-1]
    for _ in range(6):
        await looks_at_all(vault)
    found = await vault.prober.check(vault.key("c"), frozenset(), INTERVAL, "c", lambda: None)
    assert found.wanted.attributes is not None
    assert found.wanted.attributes.version == new


@pytest.mark.parametrize("change", ["disabled", "deleted", "a new version", "expired"])
async def test_the_list_wakes_exactly_the_key_that_changed(vault: Vault, change: str) -> None:
    await vault.keys(*NAMES)
    for _ in range(3):
        await looks_at_all(vault)
    await vault.world.control.advance(5)
    customer = vault.world.customer
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "disabled": lambda: customer.disable(vault.name, "c"),
        "deleted": lambda: customer.delete_key(vault.name, "c"),
        "a new version": lambda: customer.new_version(vault.name, "c"),
        "expired": lambda: customer.set_expiry(vault.name, "c", datetime.now(UTC) - timedelta(days=1)),
    }
    await changes[change]()
    assert await vault.look("a") is WELL
    assert vault.woken == ["c"]
    expected = {"disabled": AccessState.DISABLED, "deleted": AccessState.DELETED, "expired": AccessState.EXPIRED}
    assert await vault.look("c", after=0.0) is expected.get(change, WELL)
    vault.woken.clear()
    await vault.look("a")
    assert vault.woken == [], "what was looked into is no news"


async def test_purge_protection_that_is_turned_on_is_seen_in_the_list_though_no_key_changes(vault: Vault) -> None:
    await vault.world.customer.create_vault(vault.name, purge_protection=False)
    await vault.keys(*NAMES, made=True)
    for _ in range(3):
        await looks_at_all(vault)
    await vault.world.customer.create_vault(vault.name)
    await vault.look("a")
    assert sorted(set(vault.woken)) == list(NAMES)


@pytest.mark.parametrize("missing", ["get", "wrapKey", "unwrapKey"])
async def test_a_permission_that_no_list_shows_is_missed_within_six_looks(vault: Vault, missing: str) -> None:
    await vault.keys(*NAMES, rbac=False)
    await vault.world.customer.set_access_policy(vault.application, vault.name, ["list", "get", "wrapKey", "unwrapKey"])
    for _ in range(2):
        await looks_at_all(vault)
    rest = sorted({"list", "get", "wrapKey", "unwrapKey"} - {missing})
    await vault.world.customer.set_access_policy(vault.application, vault.name, rest)
    lost: set[str] = set()
    for _ in range(6):
        for name in NAMES:
            if await vault.look(name, after=INTERVAL * 1.05 / len(NAMES)) is AccessState.PERMISSION_DENIED:
                lost.add(name)
    assert lost == set(NAMES)


async def test_when_the_list_is_refused_that_stood_for_the_keys_all_are_looked_at_at_once(vault: Vault) -> None:
    await vault.keys(*NAMES)
    for _ in range(3):
        await looks_at_all(vault)
    await revoke(vault)
    assert await vault.look("a") is AccessState.PERMISSION_DENIED
    assert sorted(set(vault.woken)) == list(NAMES)
    for name in NAMES[1:]:
        assert await vault.look(name, after=0.0) is AccessState.PERMISSION_DENIED
    await grant(vault)
    for name in NAMES:
        assert await vault.look(name) is WELL


async def test_an_outage_of_the_list_alone_takes_no_key_for_lost(vault: Vault) -> None:
    # Law 6.
    await vault.keys(*NAMES)
    for _ in range(3):
        await looks_at_all(vault)
    fault = await vault.world.control.inject(kind="status", host=f"{vault.name}.vault.azure.net", path=r"^/keys\?", status=503)
    for name in NAMES:
        assert await vault.look(name) is WELL
    await vault.world.control.clear_fault(fault)
    await looks_at_all(vault)


async def test_a_vault_that_gives_no_answer_is_asked_by_one_key_at_a_time(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each visit waits for a timeout and keeps a worker from the keys of other customers meanwhile.
    monkeypatch.setattr(key_vault, "PROBE_TIMEOUT", 1.0)
    await vault.keys(*NAMES)
    await looks_at_all(vault)
    fault = await vault.world.control.inject(kind="hang", host=f"{vault.name}.vault.azure.net")

    async def asked() -> int:
        return sum(one["hits"] for one in await vault.world.control.faults())

    assert await vault.look("a") is AccessState.VAULT_UNREACHABLE
    before = await asked()
    for name in NAMES[1:]:
        assert await vault.look(name, after=0.0) is AccessState.VAULT_UNREACHABLE
    assert await asked() == before, "what one has learnt is told to the others"

    vault.now += INTERVAL * 1.05
    states = await asyncio.gather(*(vault.look(name, after=0.0) for name in NAMES))
    assert set(states) == {AccessState.VAULT_UNREACHABLE}
    assert await asked() == before + 1
    vault.now += 1.0
    probe = await vault.prober.probe(vault.key("b"), frozenset(), 0.0)
    assert not probe.wanted.round_trip
    assert await asked() == before + 2, "who asks what is so now is never told what was"

    await vault.world.control.clear_fault(fault)
    for name in NAMES:
        assert await vault.look(name, after=INTERVAL * 1.05) is WELL


@pytest.mark.parametrize("looks", [0, 1, 2], ids=["get", "unwrapKey", "wrapKey and unwrapKey"])
async def test_each_step_waits_for_a_silent_vault_once_and_then_says_so(
    vault: Vault, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So a key is seen to be unreachable within its interval and one timeout, and not within three.
    monkeypatch.setattr(key_vault, "PROBE_TIMEOUT", 1.0)
    await vault.keys("cmk")
    for _ in range(looks + 1):
        assert await vault.look() is WELL
    fault = await vault.world.control.inject(kind="hang", host=f"{vault.name}.vault.azure.net")
    assert await vault.look() is AccessState.VAULT_UNREACHABLE
    assert [one["hits"] for one in await vault.world.control.faults()] == [1]
    await vault.world.control.clear_fault(fault)
    assert await vault.look() is WELL


async def test_a_grant_on_each_key_is_enough_and_its_list_is_not_asked_for_at_each_look(vault: Vault) -> None:
    await vault.keys(*NAMES, at_keys=True)
    await looks_at_all(vault)
    since = await vault.position()
    for _ in range(6):
        await looks_at_all(vault)
    calls = await vault.asked(since)
    assert calls.count("list") == 1
    assert len(calls) - 1 == 8 * len(NAMES), "six looks, two of which are of two calls"
    assert vault.woken == []


async def test_a_pinned_version_is_not_left_to_the_list_which_shows_the_latest_only(vault: Vault) -> None:
    await vault.keys(*NAMES)
    pinned = (await vault.world.customer.create_key(vault.name, "a")).rsplit("/", 1)[-1]
    await vault.world.customer.new_version(vault.name, "a")
    for _ in range(3):
        await looks_at_all(vault)
    await vault.look("a", version=pinned)
    for step in STEPS * 2:
        await looks_at_all(vault)
        assert await vault.calls(vault.look("a", after=0.0, version=pinned)) == step
    await vault.world.customer.disable(vault.name, "a", pinned)
    await looks_at_all(vault)
    assert await vault.look("a", after=0.0, version=pinned) is AccessState.DISABLED


async def test_an_old_version_in_use_is_not_left_to_the_list_either(vault: Vault) -> None:
    await vault.keys(*NAMES)
    old = (await vault.world.customer.create_key(vault.name, "a")).rsplit("/", 1)[-1]
    await vault.world.customer.new_version(vault.name, "a")
    for _ in range(3):
        await looks_at_all(vault)
    for _ in range(4):
        for name in NAMES[1:]:
            await vault.look(name, after=0.0)
        assert await vault.look("a", old) is WELL
    await vault.world.customer.disable(vault.name, "a", old)
    for name in NAMES[1:]:
        await vault.look(name, after=0.0)
    assert await vault.look("a", old) is AccessState.DISABLED


async def test_a_list_that_is_longer_than_it_is_worth_is_left_alone(vault: Vault) -> None:
    await vault.keys(*NAMES, *(f"other-{number}" for number in range(24)))
    await looks_at_all(vault)
    since = await vault.position()
    for _ in range(4):
        await looks_at_all(vault)
    assert (await vault.asked(since)).count("list") == 1


async def test_a_list_that_was_too_long_for_the_first_keys_is_tried_again_when_enough_have_joined(vault: Vault) -> None:
    names = [f"key-{number:02}" for number in range(30)]
    await vault.keys(*names)
    for _ in range(3):
        for name in names:
            assert await vault.look(name, after=INTERVAL * 1.05 / len(names)) is WELL
    since = await vault.position()
    for name in names:
        assert await vault.look(name, after=INTERVAL * 1.05 / len(names)) is WELL
    assert len(await vault.asked(since)) <= len(names) * (2 / 3 + 1 / 3), "two pages, and every second look, some of two calls"
