"""The Snowflake provider against real (simulated) accounts, without Kubernetes: what it asks, what it remembers, what it refuses to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.encryption.long_running import Ended, Running
from cmk_operator.core.encryption.protection import OnAnotherKey, Unreadable, key_in_force, version_in_force
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.providers.protocol import Applied, Plan, Remembered, Started
from cmk_operator.providers.snowflake.account import SnowflakeAccount
from cmk_operator.providers.snowflake.provider import SnowflakeProvider
from cmk_operator.providers.snowflake.target import SnowflakeTarget
from sandbox.administrators.snowflake import SnowflakeAdministrator, new_key, private_pem, public_pem
from tests.unit.samples import uri_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from cmk_operator.core.encryption.protection import KeyChoice
    from cmk_operator.providers.snowflake.facts import Facts
    from tests.contract.world import World

HOUR = 3600.0
WAIT = 72 * HOUR
PROVIDER, ENGINEER = Actor.PROVIDER_ADMINISTRATOR, Actor.PLATFORM_ENGINEER


@dataclass
class Account:
    """One account under its provider, driven as the engine drives it."""

    world: World
    snowflake: SnowflakeAdministrator
    name: str
    provider: SnowflakeProvider = field(init=False)
    target: SnowflakeTarget = field(init=False)

    def __post_init__(self) -> None:
        tenant = self.world.customer.tenant_id
        key = private_pem(self.snowflake.key).encode()
        account = SnowflakeAccount(self.name)
        self.target = SnowflakeTarget(account, "CMK", "ACCOUNTADMIN", key, None, tenant, network_rules=True)
        self.restart()

    def restart(self) -> None:
        """All that the process knew by heart is gone."""
        self.provider = SnowflakeProvider(self.world.session, 300.0)

    async def observe(self, max_age: float = 0.0) -> Facts:
        seen = await self.provider.observe(self.world.chain, self.target, max_age=max_age)
        assert not isinstance(seen, AzureFailure), seen
        self.keep(seen.remembered)
        return seen

    def keep(self, remembered: Remembered | None) -> None:
        """What status would keep."""
        if remembered is not None:
            self.target = replace(self.target, remembered=remembered)

    async def plan(self, want: KeyChoice, max_age: float = 0.0) -> Plan[Any] | Fault | None:
        return self.provider.plan(self.target, want, await self.observe(max_age))

    async def apply(self, plan: Plan[Any] | Fault | None) -> Applied[Any] | Started | AzureFailure:
        assert isinstance(plan, Plan), plan
        return await self.provider.apply(self.world.chain, self.target, plan)

    async def fault(self) -> Fault:
        """What stands in the way of reading the account."""
        seen = await self.provider.observe(self.world.chain, self.target, max_age=0.0)
        assert isinstance(seen, AzureFailure), seen
        return self.provider.judge(seen, self.name)

    async def registered(self) -> str:
        """A key that Snowflake may use, registered; its version."""
        version = await self.world.key()
        applied = await self.apply(await self.plan(self.world.want(version)))
        assert isinstance(applied, Applied), applied
        self.keep(applied.facts.remembered)
        assert applied.facts.shown.consent_url is not None
        application = applied.facts.shown.consent_url.partition("client_id=")[2].partition("&")[0]
        await self.world.customer.consent_at(applied.facts.shown.consent_url)
        await self.world.customer.grant(application, self.world.vault, role="Key Vault Crypto User")
        return version

    async def activated(self) -> str:
        version = await self.registered()
        await self.world.control.advance(WAIT)
        await self.finish(await self.apply(await self.plan(self.world.want(version))))
        return version

    async def finish(self, started: Applied[Any] | Started | AzureFailure) -> None:
        assert isinstance(started, Started), started
        assert isinstance(await self.poll(started), Running)
        await self.world.control.advance(HOUR)
        ended = await self.poll(started)
        assert isinstance(ended, Ended), ended
        self.keep(replace(self.target.remembered, version=ended.version))

    async def poll(self, started: Started) -> object:
        return await self.provider.poll(self.world.chain, self.target, started.operation)

    async def own(self) -> dict[str, Any]:
        return await self.world.control.snowflake_account(self.name)

    async def change(self, **settings: object) -> None:
        await self.world.control.set_snowflake_account(self.name, **settings)


@pytest.fixture
async def account(world: World, env: Mapping[str, str]) -> AsyncIterator[Account]:
    async with SnowflakeAdministrator(env, world.control) as snowflake:
        name = f"contoso-{world.name}"
        await snowflake.open_account(name, "CMK")
        yield Account(world, snowflake, name)


async def test_the_way_from_nothing_to_the_key_and_then_nothing_is_left(world: World, account: Account) -> None:
    version = await account.activated()
    assert await account.plan(world.want(version)) is None
    protection = (await account.observe()).protection
    assert str(key_in_force(protection)) == str(world.want(version).key_uri.at(version))
    assert (await account.own())["active_version"] == version


async def test_the_wait_is_snowflakes_word_and_its_end_is_our_own_reckoning_or_snowflakes(
    world: World, account: Account
) -> None:
    version = await account.registered()
    began = datetime.now(UTC)
    shown = (await account.observe()).shown.waits_until
    assert shown is not None
    assert abs(shown - began - timedelta(seconds=WAIT)) < timedelta(seconds=60)
    refused = await account.apply(await account.plan(world.want(version)))
    assert isinstance(refused, AzureFailure)
    fault = account.provider.judge(refused, account.name)
    assert (fault.kind, fault.reason) == (FaultKind.BUSY, "WaitingForActivation")
    # Believed for some looks, and asked again when somebody wants to know now.
    assert isinstance(await account.plan(world.want(version), max_age=60.0), Fault)
    assert isinstance(await account.plan(world.want(version)), Plan)
    # Where nothing is remembered, and where the account's clock is another, Snowflake's own word tells the end.
    account.restart()
    account.target = replace(account.target, remembered=Remembered())
    await world.control.advance(WAIT - 2 * HOUR)
    await account.apply(await account.plan(world.want(version)))
    told = (await account.observe()).shown.waits_until
    assert told is not None
    assert abs(told - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=3)


async def test_a_rekey_is_begun_once_and_its_version_survives_a_restart(world: World, account: Account) -> None:
    old = await account.activated()
    new = await world.newer()
    plan = await account.plan(world.want(new))
    assert isinstance(plan, Plan)
    assert plan.keeps_key
    started = await account.apply(plan)
    account.restart()
    busy = await account.plan(world.want(new))
    assert isinstance(busy, Fault), "what is under way is not begun again"
    assert busy.reason == "RekeyInProgress"
    seen = await account.observe()
    assert version_in_force(seen.protection) == old, "the old version is in use until the end"
    await account.finish(started)
    assert version_in_force((await account.observe()).protection) == new
    assert await account.plan(world.want(new)) is None


async def test_a_rekey_whose_start_was_never_written_down_is_still_known_to_the_process(world: World, account: Account) -> None:
    await account.activated()
    new = await world.newer()
    assert isinstance(await account.apply(await account.plan(world.want(new))), Started)
    assert isinstance(await account.plan(world.want(new)), Fault)
    await world.control.advance(HOUR)
    assert await account.plan(world.want(new)) is None
    assert version_in_force((await account.observe()).protection) == new


async def test_an_account_that_was_activated_by_others_is_adopted_without_a_version_and_not_rekeyed(
    world: World, account: Account
) -> None:
    version = await account.activated()
    account.restart()
    newest = str(world.want(version).key_uri.at(version))
    account.target = replace(account.target, remembered=Remembered(), newest=newest)
    assert await account.plan(world.want(version)) is None
    protection = (await account.observe()).protection
    assert (uri_of(protection), version_in_force(protection)) == (world.want(version).key_uri, None)
    # A newer version is certainly not the one in force.
    newer = await world.newer()
    account.restart()
    account.target = replace(account.target, newest=str(world.want(newer).key_uri.at(newer)))
    plan = await account.plan(world.want(newer))
    assert isinstance(plan, Plan)
    assert f"{version} or older" in str(plan.changes[0])
    await account.finish(await account.apply(plan))
    assert version_in_force((await account.observe()).protection) == newer
    assert await account.plan(world.want(newer)) is None


async def test_what_status_remembers_of_another_key_is_not_believed(world: World, account: Account) -> None:
    version = await account.activated()
    account.restart()
    forged = str(world.want(version, name="other").key_uri.at(version))
    account.target = replace(account.target, remembered=Remembered(forged))
    assert version_in_force((await account.observe()).protection) is None


async def test_a_version_that_is_not_the_latest_is_never_activated(world: World, account: Account) -> None:
    version = await account.registered()
    await world.control.advance(WAIT)
    newer = await world.newer()
    for pinned, kind in ((False, FaultKind.BUSY), (True, FaultKind.INVALID)):
        refused = await account.apply(await account.plan(world.want(version, pinned=pinned)))
        assert isinstance(refused, AzureFailure)
        assert account.provider.judge(refused, account.name).kind is kind
    assert (await account.own())["changing_to"] is None
    assert isinstance(await account.apply(await account.plan(world.want(newer))), Started)


async def test_a_lost_answer_to_a_registration_does_not_register_twice(world: World, account: Account) -> None:
    version = await world.key()
    plan = await account.plan(world.want(version))
    await world.control.inject(kind="reset", host="*.snowflakecomputing.com", times=1, after_effect=True)
    assert isinstance(await account.apply(plan), AzureFailure)
    assert isinstance(await account.plan(world.want(version)), Fault)
    assert len((await account.own())["emails"]) == 1


async def test_a_statement_that_takes_long_is_awaited(world: World, account: Account) -> None:
    await world.control.set_timings(snowflake_statement_seconds=46)
    await world.control.set_scale(200)
    seen = await account.observe()
    await world.control.set_scale(1)
    assert seen.detail.info.understood


async def test_an_approval_is_asked_for_with_a_reason_once_and_then_the_statement_is_sent_again(
    world: World, account: Account
) -> None:
    await account.change(approvers=["CAROL"])
    version = await account.registered()
    await world.control.advance(WAIT)
    await account.apply(await account.plan(world.want(version)))
    refused = await account.apply(await account.plan(world.want(version)))
    assert isinstance(refused, AzureFailure)
    fault = account.provider.judge(refused, account.name)
    (request,) = (await account.own())["approvals"]
    assert request["state"] == "PENDING"
    assert request["id"] in fault.message
    await world.control.vote_in_snowflake(account.name, request["id"], "CAROL", "APPROVE")
    assert isinstance(await account.apply(await account.plan(world.want(version))), Started)


def _user(key: Any = None, **about: object) -> Callable[[Account], Awaitable[None]]:
    async def change(account: Account) -> None:
        keys = [public_pem(key or account.snowflake.key)]
        await account.change(users={"CMK": {"public_keys": keys, **about}})

    return change


def _settings(**settings: object) -> Callable[[Account], Awaitable[None]]:
    return lambda account: account.change(**settings)


def _target(**changes: Any) -> Callable[[Account], Awaitable[None]]:
    async def change(account: Account) -> None:
        account.target = replace(account.target, **changes)

    return change


def _locked_key() -> bytes:
    return private_pem(new_key(), "another passphrase").encode()


@pytest.mark.parametrize(
    ("break_it", "reason", "actor"),
    [
        (_settings(edition="ENTERPRISE"), "EditionTooLow", PROVIDER),
        (_settings(suspended=True), "AccountSuspended", PROVIDER),
        (_user(locked=True), "UserLocked", PROVIDER),
        (_user(disabled=True), "UserDisabled", PROVIDER),
        (_user(new_key()), "KeyPairNotAccepted", PROVIDER),
        (_user(roles=[]), "RoleNotGranted", PROVIDER),
        (_target(role="PUBLIC"), "RoleNotSufficient", PROVIDER),
        (_target(user="NOBODY"), "KeyPairNotAccepted", PROVIDER),
        (_target(private_key=b"-----BEGIN NOTHING-----"), "PrivateKeyUnusable", ENGINEER),
        (_target(private_key=_locked_key()), "PrivateKeyUnusable", ENGINEER),
        (_target(private_key=_locked_key(), private_key_passphrase=b"wrong"), "PrivateKeyUnusable", ENGINEER),
    ],
)
async def test_what_keeps_the_operator_out_names_who_must_act_and_heals(
    account: Account, break_it: Callable[[Account], Awaitable[None]], reason: str, actor: Actor
) -> None:
    whole = account.target
    await break_it(account)
    fault = await account.fault()
    assert (fault.kind, fault.reason, fault.actor) == (FaultKind.BLOCKED, reason, actor)
    assert actor.value in fault.message
    account.target = whole
    await account.change(edition="BUSINESS_CRITICAL", suspended=False)
    await _user()(account)
    await account.observe()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "code": "TooManyRequests", "retry_after": 1},
        {"kind": "status", "status": 503, "code": "ServiceUnavailable"},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "status", "status": 200, "body": {"data": []}},
        {"kind": "status", "status": 200, "body": "no JSON"},
    ],
    ids=str,
)
async def test_whatever_snowflake_answers_is_a_value_and_the_next_try_heals(
    world: World, account: Account, fault: dict[str, Any]
) -> None:
    injected = await world.control.inject(host="*.snowflakecomputing.com", **fault)
    seen = await account.provider.observe(world.chain, account.target, max_age=0.0)
    assert isinstance(seen, AzureFailure), seen
    await world.control.clear_fault(injected)
    if fault.get("retry_after"):
        # The budget keeps quiet for as long as Snowflake asked.
        return
    await account.observe()


async def test_the_key_pair_never_shows(account: Account) -> None:
    assert "PRIVATE" not in repr(account.target)
    await account.observe()
    assert "PRIVATE" not in repr(account.provider.__dict__)


@pytest.mark.parametrize(
    ("words", "protection", "reason"),
    [
        ("CMK with KEY ARN: arn:aws:kms:eu-west-1:1:key/x is activated for Tri-Secret Secure.", OnAnotherKey, "OnAnotherKey"),
        ("CMK with KEY URI: https://hsm.managedhsm.azure.net/keys/k is activated.", OnAnotherKey, "OnAnotherKey"),
        ("Nobody knows these words.", Unreadable, "SnowflakeAnswerNotUnderstood"),
        ("CMK is activated for Tri-Secret Secure.", Unreadable, "SnowflakeAnswerNotUnderstood"),
    ],
)
async def test_words_for_no_key_of_a_vault_start_no_statement(
    world: World, account: Account, words: str, protection: type, reason: str
) -> None:
    version = await account.activated()
    await account.change(information=words)
    seen = await account.observe()
    assert isinstance(seen.protection, protection)
    for fault in (
        account.provider.plan(account.target, world.want(version), seen),
        account.provider.plan_revert(account.target, seen),
    ):
        assert isinstance(fault, Fault)
        assert (fault.kind, fault.reason) == (FaultKind.BLOCKED, reason)
    await account.change(information="")
    assert await account.plan(world.want(version)) is None
