"""The types of conditions in a status, each with one sentence and the meaning of its three statuses."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ConditionType(StrEnum):
    """A condition type: its name in the API, a sentence, and the meaning of True, False and Unknown."""

    sentence: str
    when_true: str
    when_false: str
    when_unknown: str

    def __new__(cls, word: str, sentence: str, when_true: str, when_false: str, when_unknown: str) -> Self:
        """Create a member with its sentence and the meaning of its statuses."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        member.when_true, member.when_false, member.when_unknown = when_true, when_false, when_unknown
        return member

    READY = (
        "Ready",
        "Everything is as the manifest wants it.",
        "everything below is as wanted",
        "another condition is not as wanted, and the reason is taken from it",
        "Azure gives no answer, or another condition is unknown, and the reason is taken from it",
    )
    KEY_ACCESSIBLE = (
        "KeyAccessible",
        "The key can be used.",
        "a probe wrapped and unwrapped with the key in the vault",
        "the key is lost to Azure's services too",
        "the result does not concern Azure's services, or there is no result yet",
    )
    PREREQUISITES_MET = (
        "PrerequisitesMet",
        "Everything that protects the key against loss is in place.",
        "no prerequisite is known to be missing",
        "a prerequisite is missing, and new writes with this key wait",
        "the key cannot be read",
    )
    ROTATION_CURRENT = (
        "RotationCurrent",
        "Everything that uses the key is on its active version.",
        "every resource is on the active version; an OrganizationKey has no newer version to take",
        "a resource is on an older version, a version waits for approval or fails its test, or an old version was lost too early",
        "no version has passed the probe yet",
    )
    CONSENT_GRANTED = (
        "ConsentGranted",
        "The application may sign in to the customer's tenant.",
        "the application may sign in",
        "it has no service principal there",
        "the tenant could not be checked",
    )
    USERS_KNOWN = (
        "UsersKnown",
        "Azure's lists show what is on the key; no version is called safe to disable otherwise.",
        "every list of the tenant's subscriptions was read; what no list shows is read too while a version waits to be called safe",
        "never",
        "a list was refused or cannot be read, and the message says who must act, or none has been read yet",
    )
    ENCRYPTED = (
        "Encrypted",
        "The service protects the resource with the wanted key.",
        "Azure reports the wanted key, identity and application",
        "a change is due, and the reason says what it waits for",
        "the resource was not read, or the service gave no answer",
    )
    KEY_CURRENT = (
        "KeyCurrent",
        "The resource is on the active version of the key.",
        "on the active version",
        "`AzureWillRotate` (the service moves within a day), `Outdated`, or `NotOnKey`",
        "no version is active, or the service does not report one",
    )
    DATA_COVERED = (
        "DataCovered",
        "The key protects all data of the resource.",
        "the service shows no data of the resource that the key does not protect",
        "data is under another key, or not encrypted: `status.details.notCovered` lists it",
        "a part was not read yet, or the service does not show what protects it, or the operator may not read it",
    )
    REGISTERED = (
        "Registered",
        "Everything that the manifest asks to register is registered.",
        "`Given`: nothing is to be registered; `Registered`: everything is",
        "the reason says what blocks the registration",
        "the registration is known, but cannot be checked now",
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
    SCOPES_DISTINCT = (
        "ScopesDistinct",
        "No other CustomerTenant allows any of the same resources; no other condition depends on this one.",
        "no other tenant allows any of them",
        "another tenant allows some of them too, and the message says which tenant and scope",
        "never",
    )
    CONFIGURATION_ACCEPTED = (
        "ConfigurationAccepted",
        "The settings of the manifest have passed their test and are in force.",
        "the settings of the manifest are in force",
        "their test failed: the settings before them stay in force, and the message names the stage and who must act",
        "they have not been tested yet",
    )
    SERVING = (
        "Serving",
        "The key service's own word: it serves the organization's data.",
        "it serves; `Coasting`: the vault gives no answer, and known data keys are served until the ceiling",
        "it refuses, because the organization refuses the key, or it cannot serve",
        "it has not reported, or not lately",
    )
    CREDENTIAL_VALID = (
        "CredentialValid",
        "The credential of the organization's registration has not expired.",
        "it has not expired, or none is needed, or nobody knows when the client secret expires",
        "every credential has expired or cannot be used",
        "the Secret was not read",
    )
    REWRAP_COMPLETE = (
        "RewrapComplete",
        "The key service has wrapped every data key with the key in force.",
        "every data key is on the key in force",
        "data keys are still on an earlier key",
        "the key service has not reported, or not lately",
    )
    LICENCE_ALLOWS_CHANGE = (
        "LicenceAllowsChange",
        "The organization's licence allows it to change its settings; no other condition depends on this one.",
        "every change is allowed, and the reason says why",
        "the settings are frozen: the message says what is left, and who must act",
        "the operator cannot read the Licence: new settings wait, and those in force stay",
    )
    BREAK_GLASS_READY = (
        "BreakGlassReady",
        "The organization has a way in without its key and without an identity provider; no other condition depends on this one.",
        "a break-glass account can be used, and somebody has signed in with it in the last 180 days",
        "there is none, or none can be used, or nobody has tried one lately",
        "the console has not reported, or not for 30 minutes",
    )
    COMPLETE = (
        "Complete",
        "All checks of a preflight have been made.",
        "the result is there",
        "the checks have not been made yet, and the message says what they wait for; absent in the first seconds",
        "never",
    )
    RECONCILING = (
        "Reconciling",
        "The operator continues by itself; the condition is absent otherwise.",
        "the operator waits or works, and nobody must act",
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
