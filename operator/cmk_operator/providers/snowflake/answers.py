"""Reads the sentences that Snowflake's functions return. It matches loosely, because the docs show them only for other clouds.

Source: Snowflake, reference of SYSTEM$GET_CMK_INFO, SYSTEM$GET_CMK_CONFIG, SYSTEM$VERIFY_CMK_INFO; "Multi-party Approval".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from cmk_operator.answer_gate import bounded_seconds
from cmk_operator.core.access.entra_codes import CONSENT, family_of
from cmk_operator.core.identifiers.key_uri import InvalidKeyUriError, KeyUri, parse_reported_key_uri

ACTIVATION_WAIT: Final = timedelta(hours=72)
"""From the registration of a key until it may be activated."""
MOST_SUBNETS: Final = 100
LONGEST_SUBNET: Final = 400
_KEY_URI: Final = re.compile(r"https://[a-z0-9-]+\.vault\.[a-z.]+(?::443)?/keys/[0-9a-z-]+", re.IGNORECASE)
_VAULT_URI: Final = re.compile(r"https://[a-z0-9-]+\.vault\.[a-z]+\.[a-z]+", re.IGNORECASE)
_SOME_KEY: Final = re.compile(r"https?://\S|\barn:\S|\bprojects/\S", re.IGNORECASE)
"""The beginning of a key's identifier, of any cloud."""
_KEY_NAME: Final = re.compile(r"key[ _]?name\W{1,4}([0-9a-z-]+)", re.IGNORECASE)
_PENDING: Final = ("pre-registered", "is registered")
_IN_PROGRESS: Final = ("being activated", "being rekeyed", "being re-keyed", "being deactivated", "being de-activated")
_REMAINING: Final = re.compile(r"(\d{1,12})\s*(day|hour|minute|second)", re.IGNORECASE)
_SECONDS: Final = {"day": 86_400, "hour": 3600, "minute": 60, "second": 1}
_ENTRA_CODE: Final = re.compile(r"AADSTS(\d{4,9})", re.IGNORECASE)
_REQUEST: Final = re.compile(r"Request-ID:\s*'?([0-9a-fA-F-]{36})")


@dataclass(frozen=True, slots=True)
class CmkInfo:
    """The registered and the activated key, each without its version, which Snowflake never reports."""

    registered: KeyUri | None = None
    active: KeyUri | None = None
    in_progress: bool = False
    """Whether a rekey runs. Snowflake then reports only one key: in `registered` during the first activation, else in `active`."""
    understood: bool = True
    unreadable_key: str = ""
    """Snowflake's sentence, if it names an activated key that is not one of a Key Vault."""


def read_info(text: str) -> CmkInfo:
    """Read SYSTEM$GET_CMK_INFO. The order of the checks matters, because the words of a state are part of another's."""
    words = " ".join(text.split())
    lower = words.lower()
    if any(phrase in lower for phrase in _IN_PROGRESS):
        key = _key_in(words)
        if "being activated" in lower:
            return CmkInfo(key, None, in_progress=True)
        return CmkInfo(None, key, in_progress=True, unreadable_key=words if key is None else "")
    first, _, second = words.partition(", but ")
    if "not been pre-registered" in lower or "not been registered" in lower:
        if "activated" not in second.lower():
            return CmkInfo()
        active = _key_in(second)
        return CmkInfo(active=active) if active is not None else _on_an_unreadable_key(second)
    if second:
        active, registered = _key_in(first), _key_in(second)
        understood = "activated" in first.lower() and any(phrase in second.lower() for phrase in _PENDING)
        if understood and active is None:
            return _on_an_unreadable_key(first)
        return CmkInfo(registered, active, understood=understood and registered is not None)
    key = _key_in(words)
    if "is activated" in lower:
        return CmkInfo(key, key) if key is not None else _on_an_unreadable_key(words)
    if any(phrase in lower for phrase in _PENDING):
        return CmkInfo(key, understood=key is not None)
    return CmkInfo(understood=False)


def _on_an_unreadable_key(words: str) -> CmkInfo:
    """An account on a key that the words name in another form than a Key Vault's; not understood if they name none."""
    named = _SOME_KEY.search(words)
    return CmkInfo(unreadable_key=words) if named is not None else CmkInfo(understood=False)


def _key_in(text: str) -> KeyUri | None:
    whole = _KEY_URI.search(text)
    vault, name = _VAULT_URI.search(text), _KEY_NAME.search(text)
    found = whole[0] if whole else f"{vault[0]}/keys/{name[1]}" if vault and name else ""
    try:
        return parse_reported_key_uri(found)
    except InvalidKeyUriError:
        return None


@dataclass(frozen=True, slots=True)
class CmkConfig:
    """What the customer needs to know about Snowflake's own application."""

    consent_url: str | None = None
    service_principal_name: str | None = None


def read_config(text: str, tenant_id: str) -> CmkConfig:
    """Read SYSTEM$GET_CMK_CONFIG; a consent URL is accepted only if it is a page of Entra for the customer's own tenant.

    On a page for another tenant, or for any (`common`), somebody else could consent than the customer, or for something else.
    """
    page = rf"https://login\.(?:microsoftonline\.(?:com|us)|chinacloudapi\.cn)/{re.escape(tenant_id)}/[!#-&(-~]{{1,1000}}"
    url = re.search(page, text, re.IGNORECASE)
    name = re.search(r"principal name is:?\s*\"?([A-Za-z0-9._-]{1,120})", text, re.IGNORECASE)
    return CmkConfig(url[0] if url else None, name[1] if name else None)


class Verification(Enum):
    """Whether Snowflake itself can use the registered key, and why not."""

    PASSED = "passed"
    CONSENT_MISSING = "Snowflake's application has no consent"
    NOT_PERMITTED = "Snowflake's application lacks a grant"
    ENTRA_REFUSED = "Entra refuses Snowflake's application for another reason"
    FIREWALL = "the vault's network rules block Snowflake"
    KEY_UNUSABLE = "the key itself cannot be used"
    FAILED = "Snowflake reports no cause"
    NOT_UNDERSTOOD = "the answer is not understood"

    @property
    def of_snowflakes_path(self) -> bool:
        """Whether the cause is between Snowflake and the key, which the operator's own probe does not cover."""
        return self not in {Verification.PASSED, Verification.KEY_UNUSABLE}


_CAUSES: Final = (
    (Verification.CONSENT_MISSING, ("consent",)),
    (
        Verification.FIREWALL,
        ("trusted service", "client address is not authorized", "public network access", "private link", "firewall"),
    ),
    # This sentence lists every cause, so it comes before the words of the single causes.
    (Verification.NOT_PERMITTED, ("access is denied to the customer managed key",)),
    (Verification.KEY_UNUSABLE, ("disabled", "expired", "not yet valid", "was not found", "keynotfound")),
    (Verification.NOT_PERMITTED, ("not authorized", "does not have", "forbidden", "denied", "permission")),
)
_SUCCESS: Final = re.compile(r"success|succeeded|verified|passed|is valid|is accessible|can access", re.IGNORECASE)
_FAILURE: Final = re.compile(r"fail|error|denied|exception|unable|cannot|could not|\bnot\b", re.IGNORECASE)


def read_verification(text: str) -> Verification:
    """Read SYSTEM$VERIFY_CMK_INFO, which returns failures as ordinary rows."""
    if text.lower().startswith("verification failed") or is_key_refusal(text):
        return cause_of(text)
    if _SUCCESS.search(text) and not _FAILURE.search(text):
        return Verification.PASSED
    return Verification.NOT_UNDERSTOOD


def is_key_refusal(text: str) -> bool:
    """Whether Snowflake quotes a failure of its own access to the key."""
    return "customer managed key (CMK)" in text


def cause_of(text: str) -> Verification:
    """Why Snowflake cannot use a key, from the words that it quotes."""
    codes = [int(code) for code in _ENTRA_CODE.findall(text)]
    if codes:
        families = {family_of(code) for code in codes}
        return Verification.CONSENT_MISSING if families & CONSENT else Verification.ENTRA_REFUSED
    lower = text.lower()
    return next((cause for cause, words in _CAUSES if any(word in lower for word in words)), Verification.FAILED)


def read_subnets(text: str) -> tuple[str, ...]:
    """Read SYSTEM$GET_SNOWFLAKE_PLATFORM_INFO: ids of the subnets from which Snowflake calls."""
    try:
        found = json.loads(text).get("snowflake-vnet-subnet-id", ())
    except (ValueError, AttributeError, RecursionError):
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(
        one for one in found[:MOST_SUBNETS] if isinstance(one, str) and len(one) <= LONGEST_SUBNET and one.isprintable()
    )


def read_remaining_wait(text: str) -> float | None:
    """Seconds until a registered key may be activated, from the refusal to activate it; None if it has another reason."""
    lower = text.lower()
    position = max(lower.find("remaining"), lower.find("wait"))
    if position < 0 or not ("wait" in lower or "remaining" in lower):
        return None
    found = _REMAINING.findall(text[position:])
    if not found and "72" not in text:
        return None
    longest = ACTIVATION_WAIT.total_seconds()
    waits = (bounded_seconds(amount, _SECONDS[unit.lower()], longest) for amount, unit in found)
    return min(sum(wait or 0.0 for wait in waits), longest)


def read_approval_request(text: str) -> str | None:
    """The id of the request that other people must approve first; empty if it is not named; None if no approval is needed."""
    if "MPA_APPROVAL_REQUIRED" not in text and "multi-party approval" not in text.lower():
        return None
    found = _REQUEST.search(text)
    return found[1].lower() if found else ""
