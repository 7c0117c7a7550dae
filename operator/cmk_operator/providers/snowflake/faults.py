"""What keeps a Snowflake account off its key: who must do what. None of it is final.

Codes: as Snowflake's SQL API and its drivers show them; most refusals of the functions for keys have only words.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind, blocked, busy
from cmk_operator.providers.snowflake.answers import Verification, cause_of, is_key_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.providers.protocol import Shown

ROLE_FOR_SNOWFLAKE: Final = "Key Vault Crypto User"
"""Snowflake signs and verifies with the key as well, which the role for Azure's own services does not allow."""

WAIT: Final = "WaitingForActivation"
APPROVAL: Final = "MultiPartyApprovalRequired"
NEWER_VERSION: Final = "KeyVersionChanged"
LATEST_UNKNOWN: Final = "LatestVersionUnknown"
PINNED: Final = "PinnedVersionNotLatest"
OTHER_KEY: Final = "OtherKeyRegistered"
EDITION: Final = "EditionTooLow"

_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR
_BLOCKED: Final = FaultKind.BLOCKED
_TABLE: Final[Mapping[str, tuple[FaultKind, str, Actor, str]]] = MappingProxyType(
    {
        "390144": (
            _BLOCKED,
            "KeyPairNotAccepted",
            _PROVIDER,
            "Snowflake account {name} does not accept the private key for this user: the provider's administrator must give the user "
            "the public key (ALTER USER … SET RSA_PUBLIC_KEY), or the platform engineer correct spec.snowflake or the Secret",
        ),
        "390101": (
            _BLOCKED,
            "UserDisabled",
            _PROVIDER,
            "the user is disabled in Snowflake account {name}: the provider's administrator must enable it",
        ),
        "390102": (
            _BLOCKED,
            "UserLocked",
            _PROVIDER,
            "the user is locked in Snowflake account {name}: the provider's administrator must unlock it",
        ),
        "390186": (
            _BLOCKED,
            "RoleNotGranted",
            _PROVIDER,
            "the user does not hold the role in Snowflake account {name}: the provider's administrator must grant it, or the platform "
            "engineer correct spec.snowflake.role",
        ),
        "390189": (
            _BLOCKED,
            "RoleNotGranted",
            _PROVIDER,
            "the role does not exist in Snowflake account {name} or is not granted to the user: the provider's administrator must "
            "grant it, or the platform engineer correct spec.snowflake.role",
        ),
        "390913": (
            _BLOCKED,
            "AccountSuspended",
            _PROVIDER,
            "Snowflake account {name} is suspended: the provider's administrator must have Snowflake open it again",
        ),
        "390422": (
            _BLOCKED,
            "NetworkPolicy",
            _PROVIDER,
            "a network policy of Snowflake account {name} keeps the operator out: the provider's administrator must add its address",
        ),
        "003001": (
            _BLOCKED,
            "RoleNotSufficient",
            _PROVIDER,
            "the role may not do this in Snowflake account {name}: the provider's administrator must grant the user ACCOUNTADMIN, and "
            "the platform engineer name it in spec.snowflake.role",
        ),
        "002141": (
            _BLOCKED,
            "FunctionNotAvailable",
            _PROVIDER,
            "Snowflake account {name} does not know the functions of Tri-Secret Secure: the provider's administrator must ask Snowflake's "
            "support to make self-registration available",
        ),
    }
)
# By words, where no source shows a code; in this order.
_WORDS: Final[tuple[tuple[tuple[str, ...], str, Actor, str], ...]] = (
    (
        ("unsupported feature", "business critical"),
        EDITION,
        _PROVIDER,
        "Snowflake account {name} is below the edition Business Critical, which Tri-Secret Secure needs: the provider's administrator "
        "must have it upgraded",
    ),
    (
        ("deregister", "already pre-registered", "already registered"),
        OTHER_KEY,
        _PROVIDER,
        "another key is registered in Snowflake account {name}: the provider's administrator must run SELECT "
        "SYSTEM$DEREGISTER_CMK_INFO() there",
    ),
    (
        ("locked", "suspended"),
        "AccountLocked",
        _PROVIDER,
        "Snowflake account {name} or its user is locked: the provider's administrator must unlock it",
    ),
)
_OWN: Final[Mapping[str, tuple[FaultKind, Actor, str]]] = MappingProxyType(
    {
        "PrivateKeyUnusable": (
            _BLOCKED,
            Actor.PLATFORM_ENGINEER,
            "the Secret holds no RSA private key in PEM that can be used for Snowflake account {name}: the platform engineer must "
            "correct the Secret, or name its passphrase",
        ),
        NEWER_VERSION: (
            FaultKind.BUSY,
            Actor.AZURE,
            "the key has a newer version than the one that was probed, and Snowflake takes the latest: the newer one is probed first",
        ),
        LATEST_UNKNOWN: (
            FaultKind.BUSY,
            Actor.AZURE,
            "the vault did not tell the key's latest version, which Snowflake would take",
        ),
        PINNED: (
            FaultKind.INVALID,
            Actor.PLATFORM_ENGINEER,
            "Snowflake takes no version and always uses the latest, which is not the one that the CustomerManagedKey is pinned to: the "
            "platform engineer must use a key without a version for Snowflake account {name}, or pin the latest version",
        ),
        "StatementStillRunning": (FaultKind.BUSY, Actor.AZURE, "Snowflake is still working on a statement for account {name}"),
    }
)


def judge_snowflake_failure(failure: AzureFailure, name: str) -> Fault:
    """Say who must act on what Snowflake account `name` refused."""
    if failure.stage is not Stage.SERVICE:
        return judge_arm_failure(failure, name)
    if failure.code in _OWN:
        kind, actor, message = _OWN[failure.code]
        return Fault(kind, failure.code, message.format(name=name), actor, failure.retry_after)
    if failure.code == WAIT:
        return still_waiting(name)
    if failure.code == APPROVAL:
        return _approval(failure, name)
    if failure.code in _TABLE:
        kind, reason, actor, message = _TABLE[failure.code]
        return Fault(kind, reason, message.format(name=name), actor, failure.retry_after)
    if is_key_refusal(failure.message):
        return verification_fault(cause_of(failure.message), None)
    if failure.transient:
        message = f"Snowflake account {name} gives no usable answer ({failure.code})"
        return busy("SnowflakeUnavailable", message, failure.retry_after)
    lower = failure.message.lower()
    for words, reason, actor, message in _WORDS:
        if any(word in lower for word in words):
            return blocked(reason, message.format(name=name), actor)
    message = (
        f"Snowflake account {name} refuses a statement ({failure.code}): the provider's administrator must look at it there"
    )
    return blocked("SnowflakeRefused", message, _PROVIDER)


def still_waiting(name: str, retry_after: float | None = None) -> Fault:
    """The 72 hours after a registration are a wait, not an error."""
    message = (
        f"the key is registered in Snowflake account {name}, which activates it no sooner than 72 hours after that; "
        "status.details.waitsUntil says when"
    )
    return busy(WAIT, message, retry_after)


def _approval(failure: AzureFailure, name: str) -> Fault:
    request = f" request {failure.inner_code}" if failure.inner_code else " the request"
    message = (
        f"Snowflake account {name} is under Multi-party Approval: the approvers named in its policy must approve{request} in "
        "Snowsight (Governance & Security, Requests & approvals); the provider's administrator can tell who they are"
    )
    return blocked(APPROVAL, message, _PROVIDER)


def verification_fault(cause: Verification, shown: Shown | None) -> Fault:
    """What the customer must do before Snowflake reaches the key."""
    principal = (shown.service_principal_name if shown is not None else None) or "in status.details.servicePrincipalName"
    page = "open status.details.consentUrl and accept"
    grant = f"assign {ROLE_FOR_SNOWFLAKE} on the key to it (with access policies: get, wrapKey, unwrapKey, sign and verify)"
    subnets = "add each subnet of status.details.networkSubnets to the vault's virtual network rules"
    if shown is None or not shown.network_subnets:
        subnets += " (spec.snowflake.networkRules shows them)"
    who = "the customer's administrator must"
    application = f"Snowflake's application {principal}"
    message = {
        Verification.CONSENT_MISSING: f"{application} has no consent in the customer's tenant: {who} {page}",
        Verification.NOT_PERMITTED: f"{application} may not use the key: {who} {grant}",
        Verification.FIREWALL: f"the vault's network rules keep Snowflake out, which is no trusted service of Azure: {who} {subnets}",
        Verification.KEY_UNUSABLE: f"Snowflake cannot use the key: {who} enable or restore it",
    }.get(cause, f"{application} does not reach the key, and Snowflake tells no cause: {who} {page}, {grant}, and {subnets}")
    reasons = {
        Verification.CONSENT_MISSING: "SnowflakeConsentMissing",
        Verification.NOT_PERMITTED: "SnowflakeNotPermitted",
        Verification.FIREWALL: "SnowflakeBlockedByFirewall",
        Verification.KEY_UNUSABLE: "SnowflakeCannotUseKey",
    }
    if cause is Verification.NOT_UNDERSTOOD:
        return not_understood("SYSTEM$VERIFY_CMK_INFO()")
    return blocked(reasons.get(cause, "SnowflakeVerificationFailed"), message, Actor.CUSTOMER_ADMINISTRATOR)


def not_understood(function: str) -> Fault:
    """Snowflake's words have changed: nothing is done on a guess."""
    message = f"the answer of {function} is not understood, so nothing is done: the maintainers of cmk-operator must learn its wording"
    return blocked("SnowflakeAnswerNotUnderstood", message, Actor.MAINTAINER)
