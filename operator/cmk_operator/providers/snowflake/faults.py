"""The refusals of Snowflake: who must do what. All of them can be repaired.

Source of the codes: Snowflake's SQL API and its drivers. Most refusals of the functions for keys have only words.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import Actor, Fault, blocked, busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.foreign_text import quoted, shown_code
from cmk_operator.providers.snowflake.answers import Verification, cause_of, is_key_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.providers.protocol import Shown

ROLE_FOR_SNOWFLAKE: Final = "Key Vault Crypto User"
"""Snowflake also signs and verifies with the key, which the role for Azure's own services does not allow."""

_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR
_UNKNOWN_WORDING: Final = (
    "the answer of {function} has unknown wording, so nothing is done: the maintainers of cmk-operator must add its wording"
)
_TABLE: Final[Mapping[str, tuple[Reason, Actor, str]]] = MappingProxyType(
    {
        "390144": (
            Reason.KEY_PAIR_NOT_ACCEPTED,
            _PROVIDER,
            "Snowflake account {name} does not accept the private key for this user: the provider's administrator must give the user "
            "the public key (ALTER USER … SET RSA_PUBLIC_KEY), or the platform engineer correct spec.snowflake or the Secret",
        ),
        "390101": (
            Reason.USER_DISABLED,
            _PROVIDER,
            "the user is disabled in Snowflake account {name}: the provider's administrator must enable it",
        ),
        "390102": (
            Reason.USER_LOCKED,
            _PROVIDER,
            "the user is locked in Snowflake account {name}: the provider's administrator must unlock it",
        ),
        "390186": (
            Reason.ROLE_NOT_GRANTED,
            _PROVIDER,
            "the user does not hold the role in Snowflake account {name}: the provider's administrator must grant it, or the platform "
            "engineer correct spec.snowflake.role",
        ),
        "390189": (
            Reason.ROLE_NOT_GRANTED,
            _PROVIDER,
            "the role does not exist in Snowflake account {name} or is not granted to the user: the provider's administrator must "
            "grant it, or the platform engineer correct spec.snowflake.role",
        ),
        "390913": (
            Reason.ACCOUNT_SUSPENDED,
            _PROVIDER,
            "Snowflake account {name} is suspended: the provider's administrator must ask Snowflake to reactivate it",
        ),
        "390422": (
            Reason.NETWORK_POLICY,
            _PROVIDER,
            "a network policy of Snowflake account {name} blocks the operator: the provider's administrator must allow its address",
        ),
        "003001": (
            Reason.ROLE_NOT_SUFFICIENT,
            _PROVIDER,
            "the role may not do this in Snowflake account {name}: the provider's administrator must grant the user ACCOUNTADMIN, and "
            "the platform engineer name it in spec.snowflake.role",
        ),
        "002141": (
            Reason.FUNCTION_NOT_AVAILABLE,
            _PROVIDER,
            "Snowflake account {name} does not know the functions of Tri-Secret Secure: the provider's administrator must ask Snowflake's "
            "support to make self-registration available",
        ),
    }
)
# Refusals without a documented code, by their words; the first match counts.
_WORDS: Final[tuple[tuple[tuple[str, ...], Reason, Actor, str], ...]] = (
    (
        ("unsupported feature", "business critical"),
        Reason.EDITION_TOO_LOW,
        _PROVIDER,
        "Snowflake account {name} is below the edition Business Critical, which Tri-Secret Secure needs: the provider's administrator "
        "must have it upgraded",
    ),
    (
        ("deregister", "already pre-registered", "already registered"),
        Reason.OTHER_KEY_REGISTERED,
        _PROVIDER,
        "another key is registered in Snowflake account {name}: the provider's administrator must run SELECT "
        "SYSTEM$DEREGISTER_CMK_INFO() there",
    ),
    (
        ("locked", "suspended"),
        Reason.ACCOUNT_LOCKED,
        _PROVIDER,
        "Snowflake account {name} or its user is locked: the provider's administrator must unlock it",
    ),
)
# Failures that this operator detects before or after a statement; their code is the name of the reason.
_OWN: Final[Mapping[Reason, tuple[Actor, str]]] = MappingProxyType(
    {
        Reason.PRIVATE_KEY_UNUSABLE: (
            Actor.PLATFORM_ENGINEER,
            "the Secret holds no RSA private key in PEM that can be used for Snowflake account {name}: the platform engineer must "
            "correct the Secret, or name its passphrase",
        ),
        Reason.SNOWFLAKE_ANSWER_NOT_UNDERSTOOD: (Actor.MAINTAINER, _UNKNOWN_WORDING.format(function="SYSTEM$GET_CMK_INFO()")),
        Reason.KEY_VERSION_CHANGED: (
            Actor.AZURE,
            "the key has a newer version than the one that was probed, and Snowflake uses the latest: the operator probes that first",
        ),
        Reason.LATEST_VERSION_UNKNOWN: (
            Actor.AZURE,
            "the vault did not report the key's latest version, which Snowflake would use",
        ),
        Reason.PINNED_VERSION_NOT_LATEST: (
            Actor.PLATFORM_ENGINEER,
            "Snowflake always uses a key's latest version, but the CustomerManagedKey pins another one: the platform engineer must use "
            "a key without a version for Snowflake account {name}, or pin the latest version",
        ),
        Reason.STATEMENT_STILL_RUNNING: (Actor.AZURE, "Snowflake is still working on a statement for account {name}"),
    }
)


def judge_snowflake_failure(failure: AzureFailure, name: str) -> Fault:
    """The fault of a refusal by Snowflake account `name`: its cause, and who must act."""
    if failure.stage is not Stage.SERVICE:
        return judge_arm_failure(failure, name)
    own = Reason.of_code(failure.code)
    if own is not None and own in _OWN:
        actor, message = _OWN[own]
        return Fault(own, message.format(name=name), actor, failure.retry_after)
    if own is Reason.WAITING_FOR_ACTIVATION:
        return still_waiting(name)
    if own is Reason.MULTI_PARTY_APPROVAL_REQUIRED:
        return _approval(failure, name)
    if failure.code in _TABLE:
        reason, actor, message = _TABLE[failure.code]
        return Fault(reason, message.format(name=name), actor, failure.retry_after)
    if is_key_refusal(failure.message):
        return verification_fault(cause_of(failure.message), None, failure.message)
    if failure.transient:
        message = f"Snowflake account {name} gives no usable answer ({failure.shown_code})"
        return busy(Reason.SNOWFLAKE_UNAVAILABLE, message, failure.retry_after)
    lower = failure.message.lower()
    for words, reason, actor, message in _WORDS:
        if any(word in lower for word in words):
            return blocked(reason, message.format(name=name), actor)
    message = (
        f"Snowflake account {name} refuses a statement ({failure.shown_code}): the provider's administrator must find the cause "
        f"there{failure.quoted}"
    )
    return blocked(Reason.SNOWFLAKE_REFUSED, message, _PROVIDER)


def still_waiting(name: str, retry_after: float | None = None) -> Fault:
    """The fault during the 72 hours after a registration, which is a wait and not an error."""
    message = (
        f"the key is registered in Snowflake account {name}, which activates it 72 hours later at the earliest; "
        "status.details.waitsUntil says when"
    )
    return busy(Reason.WAITING_FOR_ACTIVATION, message, retry_after)


def _approval(failure: AzureFailure, name: str) -> Fault:
    request = f" request {shown_code(failure.inner_code)}" if failure.inner_code else " the request"
    message = (
        f"Snowflake account {name} is under Multi-party Approval: the approvers named in its policy must approve{request} in "
        "Snowsight (Governance & Security, Requests & approvals); the provider's administrator knows who they are"
    )
    return blocked(Reason.MULTI_PARTY_APPROVAL_REQUIRED, message, _PROVIDER)


def verification_fault(cause: Verification, shown: Shown | None, said: str = "") -> Fault:
    """The fault of Snowflake's own access to the key: what the customer must do first. `said` is Snowflake's own sentence."""
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
        Verification.ENTRA_REFUSED: (
            f"Entra refuses {application} for another reason than a missing consent: {who} look up its code and correct the "
            f"cause{quoted(said)}"
        ),
        Verification.NOT_PERMITTED: f"{application} may not use the key: {who} {grant}",
        Verification.FIREWALL: f"the vault's network rules block Snowflake, which is not a trusted service of Azure: {who} {subnets}",
        Verification.KEY_UNUSABLE: f"Snowflake cannot use the key: {who} enable or restore it",
    }.get(cause, f"{application} cannot use the key, and Snowflake reports no cause: {who} {page}, {grant}, and {subnets}")
    reasons = {
        Verification.CONSENT_MISSING: Reason.SNOWFLAKE_CONSENT_MISSING,
        Verification.ENTRA_REFUSED: Reason.ENTRA_REFUSED,
        Verification.NOT_PERMITTED: Reason.SNOWFLAKE_NOT_PERMITTED,
        Verification.FIREWALL: Reason.SNOWFLAKE_BLOCKED_BY_FIREWALL,
        Verification.KEY_UNUSABLE: Reason.SNOWFLAKE_CANNOT_USE_KEY,
    }
    if cause is Verification.NOT_UNDERSTOOD:
        return not_understood("SYSTEM$VERIFY_CMK_INFO()")
    return blocked(reasons.get(cause, Reason.SNOWFLAKE_VERIFICATION_FAILED), message, Actor.CUSTOMER_ADMINISTRATOR)


def not_understood(function: str) -> Fault:
    """The fault of an answer in words that the operator does not know; it does not guess."""
    return blocked(Reason.SNOWFLAKE_ANSWER_NOT_UNDERSTOOD, _UNKNOWN_WORDING.format(function=function), Actor.MAINTAINER)
