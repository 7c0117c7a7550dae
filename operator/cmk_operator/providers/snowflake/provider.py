"""The provider of Snowflake accounts: a few statements for each check, one for each change, and a rekey that takes hours."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.azure.failures import EXPECTED_FAILURES
from cmk_operator.azure.management import typed_answer
from cmk_operator.core.encryption.coverage import Part, Parts
from cmk_operator.core.encryption.long_running import Ended, Failed, Operation, Running
from cmk_operator.core.encryption.protection import KeyChoice, MicrosoftManaged, OnAnotherKey, OnKey, Protection, Unreadable
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.protocol import Applied, Plan, Remembered, ResourceFacts, Shown, Started
from cmk_operator.providers.snowflake import statements
from cmk_operator.providers.snowflake.answers import (
    ACTIVATION_WAIT,
    CmkConfig,
    CmkInfo,
    Verification,
    read_approval_request,
    read_config,
    read_info,
    read_remaining_wait,
    read_subnets,
    read_verification,
)
from cmk_operator.providers.snowflake.client import STILL_RUNNING, Said, SnowflakeClient, SnowflakeClients
from cmk_operator.providers.snowflake.facts import Facts, SnowflakeDetail
from cmk_operator.providers.snowflake.faults import (
    judge_snowflake_failure,
)
from cmk_operator.providers.snowflake.kind import SNOWFLAKE_ACCOUNT
from cmk_operator.providers.snowflake.planning import LOOK_AGAIN, plan_key, plan_platform_key
from cmk_operator.providers.snowflake.requests import (
    Activate,
    Deactivate,
    Register,
    Rekey,
    operation_token,
    read_version,
    version_begun,
)
from cmk_operator.providers.snowflake.target import read_target

if TYPE_CHECKING:
    from cmk_operator.azure.credentials import IdentityChain
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.providers.protocol import Manifest, Provider
    from cmk_operator.providers.snowflake.requests import SnowflakeRequest
    from cmk_operator.providers.snowflake.target import SnowflakeTarget

PARTS: Final = (
    Part(
        "Snowflake Postgres instances",
        remedy="Snowflake does not report here whether there are any: the provider's administrator must activate Tri-Secret Secure for "
        "them by itself, and it never moves existing instances to another key",
    ),
)
"""Source: Snowflake, "Snowflake Postgres Tri-Secret Secure". Hybrid tables cannot be outside: see docs/targets.md."""
ON_ROTATION: Final = (
    "Snowflake never follows a new version by itself: the operator rekeys the account, which takes up to a day, and the customer's "
    "administrator must keep the old version enabled until that has ended"
)
CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""Snowflake's remaining wait replaces our own calculation only if they differ by more, so that status does not change often."""
HARDLY_CHANGES: Final = 3600.0
"""Seconds until the consent URL, the application's name and Snowflake's subnets are read again."""
ASK_AGAIN: Final = 4.0
"""Checks of the account for which a refusal to activate too early counts before the next attempt."""
_REASON: Final = "cmk-operator puts this account on the key that a manifest in Kubernetes names"


@dataclass(slots=True)
class _Known:
    """What this process knows of one account; all of it can be read again, or is in status."""

    at: float = float("-inf")
    info: CmkInfo = field(default_factory=CmkInfo)
    verification: Verification | None = None
    said: str = ""
    """Snowflake's sentence of the last verification."""
    config: CmkConfig = field(default_factory=CmkConfig)
    subnets: tuple[str, ...] = ()
    asked_for_details: float = float("-inf")
    registered_at: datetime | None = None
    refused_at: float = float("-inf")
    wait: float = 0.0
    begun: KeyUri | None = None
    """The key version for which an activation or a rekey was sent."""
    accepted: bool = False
    """Whether Snowflake accepted that statement, by its answer or by a later report."""
    justified: str = ""


class SnowflakeProvider:
    """Puts Snowflake accounts on a customer's key."""

    kind = SNOWFLAKE_ACCOUNT
    has_parts = False

    def __init__(self, session: AzureSession, drift_check: float) -> None:
        self._session = session
        self._look_again = min(LOOK_AGAIN, drift_check)
        self._clients = SnowflakeClients(session)
        self._known: dict[str, _Known] = {}

    async def read_parts(self, chain: IdentityChain, target: SnowflakeTarget, seen: Facts) -> Parts | AzureFailure:  # noqa: ARG002 - nothing to read
        """Snowflake reports no parts of an account."""
        return Parts(reads=0)

    async def target_of(self, manifest: Manifest) -> SnowflakeTarget | Fault:
        """See `read_target`."""
        return await read_target(manifest)

    async def observe(self, chain: IdentityChain, target: SnowflakeTarget, *, max_age: float) -> Facts | AzureFailure:  # noqa: ARG002 - Snowflake has users of its own
        """The account's keys as Snowflake reports them, and whether Snowflake itself can use the registered one."""
        client = self._clients.of(target)
        if isinstance(client, AzureFailure):
            return client
        known = self._known.setdefault(target.id.key, _Known())
        if time.monotonic() - known.at > max_age:
            failure = await self._look(client, target, known)
            if failure is not None:
                return failure
        return _facts(target, known, max_age)

    async def observe_before_write(self, chain: IdentityChain, target: SnowflakeTarget) -> Facts | AzureFailure:
        """Read the account now."""
        return await self.observe(chain, target, max_age=0.0)

    async def _look(self, client: SnowflakeClient, target: SnowflakeTarget, known: _Known) -> AzureFailure | None:
        said = await client.ask(statements.INFO)
        if isinstance(said, AzureFailure):
            return said
        info = read_info(said.text)
        verification, words = None, ""
        if info.registered is not None and not info.in_progress:
            verified = await client.ask(statements.VERIFY)
            if isinstance(verified, AzureFailure):
                return verified
            verification, words = read_verification(verified.text), verified.text
        failure = await _details(client, target, info, known)
        if failure is not None:
            return failure
        begun = known.begun
        known.accepted = known.accepted or (info.in_progress and begun is not None)
        if known.accepted and not info.in_progress and (begun is None or info.active != begun.versionless):
            known.begun, known.accepted = None, False
        known.info, known.verification, known.at = info, verification, time.monotonic()
        known.said = words
        return None

    def plan(self, target: SnowflakeTarget, want: KeyChoice, seen: Facts) -> Plan[SnowflakeRequest] | Fault | None:
        """See `planning.plan_key`."""
        return plan_key(target, want, seen)

    def plan_revert(self, target: SnowflakeTarget, seen: Facts) -> Plan[SnowflakeRequest] | Fault | None:
        """See `planning.plan_platform_key`."""
        return plan_platform_key(target, seen)

    async def apply(
        self, chain: IdentityChain, target: SnowflakeTarget, plan: Plan[SnowflakeRequest]
    ) -> Applied[SnowflakeDetail] | Started | AzureFailure:
        """Send the plan's statement. Snowflake uses the key's latest version, so that must be the one that was probed."""
        client = self._clients.of(target)
        if isinstance(client, AzureFailure):
            return client
        request = plan.request
        known = self._known.setdefault(target.id.key, _Known())
        if not isinstance(request, Deactivate):
            refusal = await self._not_the_latest(chain, target, request.version, pinned=request.pinned)
            if refusal is not None:
                return refusal
        registers = isinstance(request, Register)
        if isinstance(request, Activate | Rekey):
            known.begun, known.accepted = request.version if request.version.version else None, False
        elif isinstance(request, Deactivate):
            known.begun, known.accepted = None, False
        said = await client.ask(request.statement)
        known.at = float("-inf")
        if isinstance(said, AzureFailure) and not (said.code == STILL_RUNNING and not registers):
            return await self._refused(client, target, known, said)
        handle = said.handle if isinstance(said, Said) else None
        if not isinstance(request, Register):
            known.accepted = True
            return Started(Operation(operation_token(request), plan.purpose, handle), self._look_again)
        known.registered_at = datetime.now(UTC).replace(microsecond=0)
        facts = await self.observe(chain, target, max_age=0.0)
        return facts if isinstance(facts, AzureFailure) else Applied(facts, handle)

    async def _not_the_latest(
        self, chain: IdentityChain, target: SnowflakeTarget, wanted: KeyUri, *, pinned: bool
    ) -> AzureFailure | None:
        try:
            keys = self._session.keys(chain, target.customer_tenant_id, wanted.vault_url)
            with typed_answer():
                latest = (await keys.get_key(wanted.key_name)).properties.version
        except EXPECTED_FAILURES:
            return AzureFailure(None, Reason.LATEST_VERSION_UNKNOWN.value, "the vault did not report the key's latest version")
        if latest == wanted.version:
            return None
        refusal = Reason.PINNED_VERSION_NOT_LATEST if pinned else Reason.KEY_VERSION_CHANGED
        return AzureFailure(409, refusal.value, "Snowflake would use another version")

    async def _refused(
        self, client: SnowflakeClient, target: SnowflakeTarget, known: _Known, failure: AzureFailure
    ) -> AzureFailure:
        """The failure with a code of its own if Snowflake asks to wait, or asks other people for an approval."""
        if failure.answered:
            known.begun = None
        approval = read_approval_request(failure.message)
        if approval is not None:
            if approval and approval != known.justified:
                # Without a reason Snowflake notifies no approver; only the user who made the request can give one.
                said = await client.ask(statements.justify(approval, _REASON))
                known.justified = approval if isinstance(said, Said) else ""
            return replace(failure, code=Reason.MULTI_PARTY_APPROVAL_REQUIRED.value, inner_code=approval)
        wait = read_remaining_wait(failure.message) if failure.status == 422 else None
        if wait is None:
            return failure
        known.refused_at, known.wait = time.monotonic(), wait
        reported = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(seconds=wait) - ACTIVATION_WAIT
        believed = known.registered_at or target.remembered.registered_at
        if wait and (believed is None or abs(reported - believed) > CLOCKS_DIFFER):
            known.registered_at = reported
        return replace(failure, code=Reason.WAITING_FOR_ACTIVATION.value)

    def judge(self, failure: AzureFailure, name: str) -> Fault:
        """See `judge_snowflake_failure`."""
        return judge_snowflake_failure(failure, name)

    async def poll(
        self, chain: IdentityChain, target: SnowflakeTarget, operation: Operation
    ) -> Running | Ended | Failed | AzureFailure:
        """Whether the rekey still runs; the operation's token has the version with which it was started."""
        facts = await self.observe(chain, target, max_age=0.0)
        if isinstance(facts, AzureFailure):
            return facts
        if facts.detail.info.in_progress:
            return Running(self._look_again)
        begun = version_begun(operation.token)
        active = facts.detail.info.active
        return Ended(str(begun) if begun is not None and active == begun.versionless else None)


def make_providers(session: AzureSession, list_max_age: float) -> tuple[Provider[Any, Any], ...]:
    """The provider of Snowflake accounts."""
    return (SnowflakeProvider(session, list_max_age),)


async def _details(client: SnowflakeClient, target: SnowflakeTarget, info: CmkInfo, known: _Known) -> AzureFailure | None:
    """Read what the customer must know; Snowflake reports it once a key is registered."""
    if info.registered is None or time.monotonic() - known.asked_for_details < HARDLY_CHANGES:
        return None
    said = await client.ask(statements.config(target.customer_tenant_id))
    if isinstance(said, AzureFailure):
        return said
    known.config = read_config(said.text, target.customer_tenant_id)
    if target.network_rules:
        platform = await client.ask(statements.PLATFORM_INFO)
        if isinstance(platform, AzureFailure):
            return platform
        known.subnets = read_subnets(platform.text)
    known.asked_for_details = time.monotonic()
    return None


def _facts(target: SnowflakeTarget, known: _Known, max_age: float) -> Facts:
    info, kept = known.info, target.remembered
    waiting = info.registered is not None and info.registered != info.active and not info.in_progress
    registered_at = (known.registered_at or kept.registered_at) if waiting else None
    in_force = _in_force(known, kept)
    asked_lately = waiting and time.monotonic() - known.refused_at < max_age * ASK_AGAIN
    shown = Shown(
        consent_url=known.config.consent_url,
        service_principal_name=known.config.service_principal_name,
        network_subnets=known.subnets if target.network_rules else (),
        waits_until=registered_at + ACTIVATION_WAIT if registered_at is not None else None,
        on_rotation=ON_ROTATION,
    )
    bound = None if in_force is not None else _not_newer_than(target, info)
    detail = SnowflakeDetail(info, known.verification, known.wait if asked_lately else None, in_force, bound, known.said)
    remembered = Remembered(_text(in_force), registered_at, _text(bound))
    return ResourceFacts(protection_of_account(info, in_force), detail, shown, remembered, parts=PARTS)


def _in_force(known: _Known, kept: Remembered) -> KeyUri | None:
    """The version that was activated last, if Snowflake still reports its key as active."""
    in_force = read_version(kept.version or "")
    if known.info.in_progress:
        return in_force
    active = known.info.active
    begun = known.begun
    for candidate in (begun, in_force) if known.accepted else (in_force, begun):
        if candidate is not None and active == candidate.versionless:
            return candidate
    return None


def _not_newer_than(target: SnowflakeTarget, info: CmkInfo) -> KeyUri | None:
    """The newest version at the time when the account was first found on the key with an unknown version."""
    for candidate in (read_version(target.remembered.not_newer_than or ""), read_version(target.newest or "")):
        if candidate is not None and info.active == candidate.versionless:
            return candidate
    return None


def _text(version: KeyUri | None) -> str | None:
    return str(version) if version is not None else None


def protection_of_account(info: CmkInfo, in_force: KeyUri | None) -> Protection:
    """What protects an account, by Snowflake's words; `in_force` is the version that the operator activated, if known."""
    if not info.understood:
        return Unreadable("the answer of SYSTEM$GET_CMK_INFO() has unknown wording", Reason.SNOWFLAKE_ANSWER_NOT_UNDERSTOOD)
    if info.in_progress and in_force is not None:
        # Until the rekey has ended, the account needs its previous key version.
        return OnKey(in_force.versionless, in_force.version)
    if info.unreadable_key:
        return OnAnotherKey(info.unreadable_key)
    if info.active is None:
        return MicrosoftManaged()
    return OnKey(info.active, in_force.version if in_force is not None else None)
