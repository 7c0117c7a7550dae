"""Test and save: tries settings in the vault before they are in force, the old key and the new one.

The order: Reference, Token, Wrap, Unwrap, OldKey. The first refusal ends it, and the settings in force stay in force.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.api.organization_key import Canary
from cmk_operator.azure.key_gate import Purpose
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none
from cmk_operator.core.organization.verdict import Operation, Verdict, VerdictKind, judge
from cmk_operator.reconcile.organization.settings import Proven, key_of, version_of

if TYPE_CHECKING:
    from cmk_operator.api.organization_key import AcceptedKey
    from cmk_operator.azure.key_gate import Wrapped
    from cmk_operator.reconcile.organization.gates import OpenGate
    from cmk_operator.reconcile.organization.settings import Wanted

CANARY_BYTES: Final = 64
_BY_DATES: Final = frozenset({Reason.EXPIRED, Reason.NOT_YET_VALID})


class TestStage(StrEnum):
    """Where a test can fail, in order."""

    __test__ = False

    LICENCE = "Licence"
    REFERENCE = "Reference"
    TOKEN = "Token"  # noqa: S105 - a stage's name, not a secret
    WRAP = "Wrap"
    UNWRAP = "Unwrap"
    OLD_KEY = "OldKey"


@dataclass(frozen=True, slots=True)
class Refused:
    """A test that failed: where, why, and who must act."""

    stage: TestStage
    reason: Reason
    message: str
    actor: Actor
    kind: VerdictKind = VerdictKind.INVALID
    code: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    awaited: bool = False
    """Whether what is missing comes by itself, or may still be on its way."""

    @property
    def passes_by_itself(self) -> bool:
        """Whether nobody needs to act."""
        return self.awaited or self.actor is Actor.AZURE


def refused_by_reference(fault: Fault) -> Refused:
    """A test that was not begun, because a reference or a Secret is missing or not allowed."""
    awaited = not fault.needs_a_person
    return Refused(
        TestStage.REFERENCE, fault.reason, fault.message, fault.actor, retry_after=fault.retry_after, awaited=awaited
    )


async def try_settings(
    new: OpenGate, wanted: Wanted, accepted: AcceptedKey | None, old: OpenGate | Fault | None
) -> Proven | Refused:
    """Try settings for an organization's own key.

    `old`: the gate by which the key in force is reached; None if no data key can be on it, or it is the platform's.
    """
    if wanted.key_uri is None:
        raise ValueError("the platform's key is not tried in a vault")
    refused = await new.gate.sign_in()
    if refused is not None:
        return of_failure(TestStage.TOKEN, refused, Operation.SIGN_IN, new)
    if accepted is not None and key_of(accepted) == wanted.key_uri:
        return await _try_access(new, accepted)
    tried = await wrap_and_unwrap(new, wanted.key_uri)
    if isinstance(tried, Refused) or accepted is None or old is None:
        return tried
    of_old = await try_old_key(old, accepted)
    if of_old is None:
        return tried
    # The credential in force may be what is being replaced: then the new one must reach the key in force too.
    return of_old if await try_old_key(new, accepted) is not None else replace(tried, old_access=wanted.access)


async def _try_access(new: OpenGate, accepted: AcceptedKey) -> Proven | Refused:
    """Try another access to the key in force: its version and canary stay, so that a change of credentials changes only these."""
    kid = version_of(accepted)
    if kid is None:
        raise ValueError("settings with a vault name a version")
    wrapped = await wrap_and_unwrap(new, kid)
    if isinstance(wrapped, Refused) and not (wrapped.stage is TestStage.WRAP and wrapped.reason in _BY_DATES):
        return wrapped  # An expired version wraps nothing new, but its credentials can be renewed.
    refused = await try_old_key(new, accepted)
    if refused is not None:
        return refused
    region = wrapped.vault_region if isinstance(wrapped, Proven) else None
    return Proven(accepted.kid, accepted.algorithm, accepted.canary, None, wrapped.request_id, region)


async def wrap_and_unwrap(gate: OpenGate, key: KeyUri) -> Proven | Refused:
    """Wrap a new canary and unwrap it; the version is the one that the vault's answer names."""
    plaintext = secrets.token_bytes(CANARY_BYTES)
    wrapped = await gate.gate.wrap(key, plaintext, purpose=Purpose.ACCEPTANCE)
    if isinstance(wrapped, AzureFailure):
        return of_failure(TestStage.WRAP, wrapped, Operation.WRAP, gate)
    return await unwrap_new(gate, wrapped, plaintext)


async def unwrap_new(gate: OpenGate, wrapped: Wrapped, plaintext: bytes) -> Proven | Refused:
    """Unwrap what was just wrapped, and compare."""
    unwrapped = await gate.gate.unwrap(wrapped.kid, wrapped.algorithm, wrapped.ciphertext, purpose=Purpose.ACCEPTANCE)
    if isinstance(unwrapped, AzureFailure):
        return of_failure(TestStage.UNWRAP, unwrapped, Operation.UNWRAP, gate)
    if not hmac.compare_digest(unwrapped.plaintext, plaintext):
        return _other_bytes(TestStage.UNWRAP)
    canary = Canary(wrapped=base64.urlsafe_b64encode(wrapped.ciphertext).decode(), digest=hashlib.sha256(plaintext).hexdigest())
    return Proven(str(wrapped.kid), wrapped.algorithm, canary, None, unwrapped.request_id, wrapped.vault_region)


async def try_old_key(gate: OpenGate | Fault, accepted: AcceptedKey) -> Refused | None:
    """Whether the key in force can be unwrapped, which the key service must do once more for each data key; None if it can."""
    if isinstance(gate, Fault):
        return Refused(TestStage.OLD_KEY, gate.reason, f"{_OLD_KEY}: {gate.message}", gate.actor)
    found = await unwrap_canary(gate, accepted, Purpose.ACCEPTANCE)
    if isinstance(found, str):
        return None
    return Refused(
        TestStage.OLD_KEY,
        found.reason,
        f"{_OLD_KEY}: {found.message}",
        found.actor,
        found.kind,
        found.code,
        found.request_id,
        found.retry_after,
    )


async def unwrap_canary(gate: OpenGate, accepted: AcceptedKey, purpose: Purpose) -> str | Refused:
    """Unwrap the canary of settings in force; Azure's request id if it is the same as ever."""
    kid, canary = key_uri_or_none(accepted.kid), accepted.canary
    if kid is None or canary is None or accepted.algorithm is None:
        raise ValueError("settings with a vault have a canary")
    ciphertext = base64.urlsafe_b64decode(canary.wrapped)
    unwrapped = await gate.gate.unwrap(kid, accepted.algorithm, ciphertext, purpose=purpose)
    if isinstance(unwrapped, AzureFailure):
        purged = unwrapped.status == 404 and await gate.gate.is_purged(kid)
        return of_failure(TestStage.UNWRAP, unwrapped, Operation.UNWRAP, gate, purged=purged)
    if not hmac.compare_digest(hashlib.sha256(unwrapped.plaintext).hexdigest(), canary.digest):
        return _other_bytes(TestStage.UNWRAP)
    return unwrapped.request_id or ""


def of_failure(
    stage: TestStage, failure: AzureFailure, operation: Operation, gate: OpenGate, *, purged: bool = False
) -> Refused:
    """What a failed call means for the test; `purged`: the vault has the key neither live nor deleted."""
    verdict = judge(failure, operation, purged=purged, own_registration=gate.own_registration)
    of_token = failure.stage is not Stage.SERVICE
    return _refused(TestStage.TOKEN if of_token else stage, verdict, failure)


def _refused(stage: TestStage, verdict: Verdict, failure: AzureFailure) -> Refused:
    entra = ", ".join(f"AADSTS{code}" for code in sorted(failure.entra_codes))
    code = entra or failure.inner_code or failure.code
    by_itself = verdict.kind in {VerdictKind.UNAVAILABLE, VerdictKind.THROTTLED} and verdict.actor is Actor.AZURE
    return Refused(
        stage,
        verdict.reason,
        verdict.message,
        Actor.AZURE if by_itself else verdict.actor,
        verdict.kind,
        code or None,
        verdict.request_id,
        verdict.retry_after,
    )


def _other_bytes(stage: TestStage) -> Refused:
    return Refused(
        stage,
        Reason.KEY_DOES_NOT_FIT,
        "the vault unwrapped other bytes than it once wrapped with this version: the customer's administrator must look for what "
        "answers in the vault's place, or which key was restored under this identifier",
        Actor.CUSTOMER_ADMINISTRATOR,
    )


_OLD_KEY: Final = (
    "the key in force cannot be unwrapped, and the key service must unwrap each data key with it once more before another key can take "
    "its place; if its credential is what has ended, keep keyUri and change access first"
)
