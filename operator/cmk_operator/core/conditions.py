"""The types of the conditions in a status, each with one sentence and with what its three statuses mean."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ConditionType(StrEnum):
    """One aspect of an object: its type on the wire, what it is about, and the meaning of True, False and Unknown."""

    sentence: str
    when_true: str
    when_false: str
    when_unknown: str

    def __new__(cls, word: str, sentence: str, when_true: str, when_false: str, when_unknown: str) -> Self:
        """Give a type its sentence and the meaning of its statuses."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        member.when_true, member.when_false, member.when_unknown = when_true, when_false, when_unknown
        return member

    READY = (
        "Ready",
        "Everything is as the manifest wants it.",
        "everything below is as wanted",
        "the reason is that of the condition that is not",
        "Azure gives no answer, or the reason of the condition that is not known",
    )
    KEY_ACCESSIBLE = (
        "KeyAccessible",
        "The key can be used.",
        "a probe wrapped and unwrapped in the vault",
        "the key is lost to Azure's services too",
        "what was found does not concern Azure's services, or nothing was found yet",
    )
    PREREQUISITES_MET = (
        "PrerequisitesMet",
        "Nothing that guards the key is missing.",
        "nothing is visibly missing",
        "new writes to this key wait",
        "the key cannot be read",
    )
    ROTATION_CURRENT = (
        "RotationCurrent",
        "All that use the key are on its active version.",
        "everything is on the active version",
        "something is on an older one, a version waits for approval, or an old one was lost too early",
        "no version has passed the probe yet",
    )
    CONSENT_GRANTED = (
        "ConsentGranted",
        "The application may sign in to the customer's tenant.",
        "the application may sign in",
        "it has no service principal there",
        "the tenant could not be asked",
    )
    ENCRYPTED = (
        "Encrypted",
        "The service protects the resource with the wanted key.",
        "Azure reports the wanted key, identity and application",
        "a change is due, and the reason says what it waits for",
        "the service was not asked, or gave no answer",
    )
    KEY_CURRENT = (
        "KeyCurrent",
        "The resource is on the active version of the key.",
        "on the active version",
        "`AzureWillRotate` (the service moves within a day), `Outdated`, or `NotOnKey`",
        "no version is active, or the service does not report one",
    )
    REGISTERED = (
        "Registered",
        "What the manifest asks to register is registered.",
        "`Given`: nothing is to be registered; `Registered`: everything is",
        "the reason says what is in the way",
        "it is known, but cannot be checked now",
    )
    AUTHENTICATED = (
        "Authenticated",
        "The operator can sign in as the managed identity.",
        "the operator signs in as the managed identity",
        "it cannot",
        "`NotRegistered`, `Settling`, or Entra does not answer",
    )
    APPLICATION_FEDERATED = (
        "ApplicationFederated",
        "The application trusts the managed identity.",
        "it trusts the managed identity",
        "the credential, the application or the managed identity is missing or does not fit",
        "it could not be read",
    )
    NOTIFICATIONS_DELIVERED = (
        "NotificationsDelivered",
        "The receiver of events accepts them; no other condition depends on this one.",
        "the receiver accepts the events, or none is named",
        "the receiver does not accept them",
        "no event has been sent yet",
    )
    COMPLETE = (
        "Complete",
        "All checks of a preflight have been made.",
        "the result is there",
        "never",
        "never",
    )
    RECONCILING = (
        "Reconciling",
        "Work goes on by itself; the condition is absent otherwise.",
        "it passes by itself",
        "never: it is absent then",
        "never",
    )
    STALLED = (
        "Stalled",
        "A person must act, and the message says who and what; the condition is absent otherwise.",
        "a person must act",
        "never: it is absent then",
        "never",
    )
