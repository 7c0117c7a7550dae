"""What callers are told when a data key may not be used: what happened, and who must do what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmk_keyservice.problem import Kind, Problem
from cmk_keyservice.store.rows import Word

if TYPE_CHECKING:
    from uuid import UUID

    from cmk_keyservice.store.rows import Proof
    from cmk_keyservice.vaults.accepted import Organization

_WAIT = "Retry later. If it lasts, the provider must look at the conditions of the organization's OrganizationKey."


def unknown_organization(organization_id: str) -> Problem:
    """No OrganizationKey names the organization, as far as this service knows."""
    return Problem(
        Kind.NOT_FOUND,
        "OrganizationUnknown",
        f"no OrganizationKey names organization {organization_id!r}",
        "Correct the organization's id, or have the provider create its OrganizationKey.",
        retryable=False,
    )


def not_accepted(organization: Organization) -> Problem:
    """The operator has not accepted a configuration yet."""
    return Problem(
        Kind.UNAVAILABLE,
        "NotAccepted",
        f"no configuration of organization {organization.id!r} is accepted yet",
        f"Look at the condition ConfigurationAccepted of OrganizationKey {organization.namespace}/{organization.name}.",
        retryable=True,
    )


def not_proven(organization: Organization) -> Problem:
    """Nobody has shown in time that the key still admits us."""
    return Problem(
        Kind.UNAVAILABLE,
        "AccessNotProven",
        f"the last proof that the key of organization {organization.id!r} admits the key service is too old",
        _WAIT,
        retryable=True,
    )


def being_confirmed(confirm: float) -> Problem:
    """The key refused once; a second try will say whether it is meant."""
    return Problem(
        Kind.UNAVAILABLE,
        "RefusalBeingConfirmed",
        "the organization's key refuses the key service; a second try will confirm that",
        "Retry. If the refusal is confirmed, the customer's administrator decides whether access returns.",
        retryable=True,
        retry_after=confirm,
    )


def canary_missing(organization: Organization) -> Problem:
    """The accepted configuration has nothing to look at the key with."""
    return Problem(
        Kind.UNAVAILABLE,
        "CanaryMissing",
        f"status.accepted of OrganizationKey {organization.namespace}/{organization.name} has no readable canary",
        "The operator writes it: the provider must check that the operator runs in the release of this key service.",
        retryable=True,
    )


def canary_differs() -> Problem:
    """The key unwraps, but to something else: it is not the key that was accepted."""
    return Problem(
        Kind.DENIED,
        "CanaryDiffers",
        "the key unwraps its canary to something else than was wrapped: it is not the key that was accepted",
        "The customer's administrator must restore the key from its own backup, or configure the key that is there.",
        retryable=False,
    )


def unknown_data_key(data_key_id: UUID) -> Problem:
    """There is no such data key of the organization."""
    return Problem(
        Kind.NOT_FOUND,
        "DataKeyUnknown",
        f"the organization has no data key {data_key_id}",
        "Check that the ciphertext belongs to this organization. If the database was restored, its backup may be older than the"
        " ciphertext: the provider must restore a newer one.",
        retryable=False,
    )


def old_version_unavailable(problem: Problem, kid: str) -> Problem:
    """A data key is still under an older key version, which refuses."""
    return Problem(
        problem.kind,
        "OldVersionUnavailable",
        f"this data key is still wrapped by {kid}, which refuses: {problem.detail}",
        f"The customer's administrator must enable {kid} again until the re-wrap has ended"
        " (status.dataKeys.rewrap.pending is 0).",
        retryable=False,
    )


def settings_changing() -> Problem:
    """The accepted configuration changed again and again while a data key was made."""
    return Problem(
        Kind.UNAVAILABLE,
        "SettingsChanging",
        "the accepted configuration changed while the data key was made",
        "Retry.",
        retryable=True,
        retry_after=1.0,
    )


def refused_elsewhere(shared: Proof) -> Problem:
    """Another replica had a refusal confirmed."""
    lost = shared.verdict is Word.LOST
    return Problem(
        Kind.LOST if lost else Kind.DENIED,
        "KeyLost" if lost else "KeyDenied",
        shared.detail or "the organization's key refuses the key service",
        "The customer's administrator decides whether access returns; the next look at the key finds that by itself.",
        retryable=False,
    )


def unanswered_elsewhere(shared: Proof) -> Problem:
    """Another replica got no answer from the vault."""
    throttled = shared.verdict is Word.THROTTLED
    return Problem(
        Kind.THROTTLED if throttled else Kind.UNAVAILABLE,
        "Throttled" if throttled else "VaultUnreachable",
        shared.detail or "the organization's vault does not answer",
        _WAIT,
        retryable=True,
    )


def taken(organization: Organization, namespace: str) -> Problem:
    """The organization has data keys of an object in another namespace."""
    return Problem(
        Kind.FORBIDDEN,
        "OrganizationTaken",
        f"organization {organization.id!r} has data keys of an OrganizationKey in namespace {namespace!r}, which"
        f" {organization.namespace}/{organization.name} is not in",
        f"The provider must create the OrganizationKey in {namespace!r}, or give this organization another id.",
        retryable=False,
    )


def wrap_not_confirmed(kid: str, why: str) -> Problem:
    """What the vault wrapped is not used, because it does not come back the same."""
    return Problem(
        Kind.UNAVAILABLE,
        "WrapNotConfirmed",
        f"what was wrapped under {kid} is not used: {why}",
        _WAIT,
        retryable=True,
    )


def encrypts_nothing_new(organization_id: str) -> Problem:
    """The organization is view-only, and the provider's product policy lets it encrypt nothing new."""
    return Problem(
        Kind.FROZEN,
        "ViewOnly",
        f"organization {organization_id!r} is view-only: its data can be decrypted, and nothing new is encrypted",
        "The organization must renew its plan with the provider.",
        retryable=False,
    )
