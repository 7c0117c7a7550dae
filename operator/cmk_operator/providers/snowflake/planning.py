"""Plans the next statement that puts a Snowflake account on its key; pure.

A key is registered, then verified by Snowflake itself, then activated after the wait. A rekey activates a new version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.protection import FieldChange, KeyChoice, start_of
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.protocol import Plan
from cmk_operator.providers.snowflake.answers import Verification
from cmk_operator.providers.snowflake.faults import not_understood, still_waiting, verification_fault
from cmk_operator.providers.snowflake.kind import SNOWFLAKE_ACCOUNT
from cmk_operator.providers.snowflake.requests import Activate, Deactivate, Register, Rekey, shown

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.key_uri import KeyUri
    from cmk_operator.providers.snowflake.facts import Facts
    from cmk_operator.providers.snowflake.requests import SnowflakeRequest
    from cmk_operator.providers.snowflake.target import SnowflakeTarget

LOOK_AGAIN: Final = 60.0
"""Seconds between two polls of a rekey, which takes hours."""


def plan_key(target: SnowflakeTarget, want: KeyChoice, seen: Facts) -> Plan[SnowflakeRequest] | Fault | None:
    """The next statement, or a fault that says who must act; None if the account is on the wanted version."""
    info, wanted, pinned = seen.detail.info, want.key_uri.versionless, want.key_uri.version is not None
    if not info.understood:
        return not_understood("SYSTEM$GET_CMK_INFO()")
    if info.in_progress:
        return _in_progress(target)
    start = start_of(seen.protection, SNOWFLAKE_ACCOUNT.off_another_key)
    if isinstance(start, Fault):
        return start
    if info.active == wanted:
        return _kept_current(want, seen)
    if info.registered is not None and info.registered not in {wanted, info.active}:
        message = (
            f"another key, {info.registered}, is registered in Snowflake account {target.id}: the provider's administrator must run "
            "SELECT SYSTEM$DEREGISTER_CMK_INFO() there unless that key is the one to use, or the platform engineer name that key"
        )
        return blocked(Reason.OTHER_KEY_REGISTERED, message, Actor.PROVIDER_ADMINISTRATOR)
    activated = FieldChange("activated key", str(info.active or ""), str(wanted))
    if info.registered != wanted:
        registered = FieldChange("registered key", str(info.registered or ""), str(wanted))
        request = Register(_version(want), pinned)
        return _plan(request, "register the key with Snowflake", registered, activated)
    if seen.detail.verification is not Verification.PASSED:
        return verification_fault(seen.detail.verification or Verification.NOT_UNDERSTOOD, seen.shown, seen.detail.said)
    if seen.detail.wait is not None:
        return still_waiting(str(target.id), seen.detail.wait)
    return _plan(Activate(_version(want), pinned), "activate the key in Snowflake", activated)


def _kept_current(want: KeyChoice, seen: Facts) -> Plan[SnowflakeRequest] | Fault | None:
    detail = seen.detail
    if detail.verification is not None and detail.verification.of_snowflakes_path:
        return verification_fault(detail.verification, seen.shown, detail.said)
    # Nobody reports the version of an adopted account, so it is rekeyed only when there is a newer version.
    known = detail.in_force or detail.not_newer_than
    if known is None or known.version is None or not want.probed_version or known.version == want.probed_version:
        return None
    before = known.version if detail.in_force is not None else f"{known.version} or older"
    change = FieldChange("key version", before, want.probed_version)
    request = Rekey(_version(want), pinned=want.key_uri.version is not None)
    return _plan(request, "rekey the account with the key's latest version", change, keeps_key=True)


def plan_platform_key(target: SnowflakeTarget, seen: Facts) -> Plan[SnowflakeRequest] | Fault | None:
    """The statement that deactivates Tri-Secret Secure; None if no customer's key is activated."""
    info = seen.detail.info
    if not info.understood:
        return not_understood("SYSTEM$GET_CMK_INFO()")
    if info.in_progress:
        return _in_progress(target)
    start = start_of(seen.protection, SNOWFLAKE_ACCOUNT.off_another_key)
    if isinstance(start, Fault):
        return start
    if info.active is None:
        return None
    change = FieldChange("activated key", str(info.active), "")
    return _plan(Deactivate(), "deactivate Tri-Secret Secure", change)


def _plan(request: SnowflakeRequest, purpose: str, *changes: FieldChange, keeps_key: bool = False) -> Plan[SnowflakeRequest]:
    return Plan(request, changes, purpose, keeps_key=keeps_key, shown=shown(request))


def _version(want: KeyChoice) -> KeyUri:
    return want.key_uri.at(want.probed_version) if want.probed_version else want.key_uri


def _in_progress(target: SnowflakeTarget) -> Fault:
    message = f"Snowflake is rekeying account {target.id}, which takes up to a day; the account can be used meanwhile"
    return busy(Reason.REKEY_IN_PROGRESS, message, LOOK_AGAIN)
