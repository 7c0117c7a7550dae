"""`OrganizationKey`: the key under which an organization's data keys are wrapped, its own or the platform's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.conditions import Condition
from cmk_operator.api.customer_managed_key import KEY_URI_RULES, Duration
from cmk_operator.api.model import Guid, Metadata, NamedReference, ObjectName, Shape
from cmk_operator.api.notifications import NotificationsReport
from cmk_operator.api.rules import Rule, first_broken, immutable, validations
from cmk_operator.core.identifiers.key_uri import KeyUri, key_uri_or_none

Mode = Literal["CustomerManaged", "PlatformManaged"]
Retention = Annotated[str, Field(pattern="^([0-9]{1,5}d|[0-9]{1,6}h)$", min_length=2, max_length=20)]
MOST_EARLIER: Final = 20
MOST_BREAK_GLASS: Final = 20
"""Break-glass accounts and uses that a report has; the console's log has all."""
MOST_PROMOTIONS: Final = 20
"""Administrators by support at the same time."""
LONGEST_CIPHERTEXT: Final = 1024
"""Characters of a wrapped canary: base64url of the 512 bytes of RSA 4096, and some."""

_CONFIRMED: Final = first_broken(
    Rule(
        "has(self.mode) || (!has(self.keyUri) && !has(self.access) && !has(self.confirmation))",
        "keyUri, access and confirmation have no effect without mode: set mode to CustomerManaged, or to PlatformManaged if they are "
        "only kept",
    ),
    Rule(
        "!has(self.mode) || self.mode != 'CustomerManaged' || (has(self.tenantRef) && has(self.keyUri) && has(self.access))",
        "mode CustomerManaged needs tenantRef, keyUri and access",
    ),
    Rule(
        "!has(self.mode) || self.mode != 'CustomerManaged'"
        " || (has(self.confirmation) && self.confirmation == self.organization.name)",
        "mode CustomerManaged needs confirmation, and it must repeat organization.name: if the key is lost, the organization's data is lost",
    ),
)


class Organization(Shape):
    """The organization whose data keys these are."""

    id: str = Field(
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        min_length=1,
        max_length=63,
        description="Identifier that services use. It belongs to the oldest OrganizationKey that names it.",
        json_schema_extra=validations(immutable("organization.id")),
    )
    name: str = Field(
        min_length=1,
        max_length=200,
        description="Name of the organization, which confirmation repeats.",
        json_schema_extra=validations(immutable("organization.name")),
    )
    region: str | None = Field(
        default=None,
        pattern="^[a-z0-9]+$",
        max_length=60,
        description="Azure region of the organization's data, such as westeurope. A vault in another region is only reported.",
    )


class LocalSecretKeyReference(Shape):
    """One entry of a Secret in the namespace of the OrganizationKey."""

    name: ObjectName = Field(description="Name of the Secret. The chart's value rbac.secrets must list it.")
    key: str = Field(min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$", description="Entry in the Secret.")


class RegisteredCredential(Shape):
    """A credential of the organization's own application: a client secret, or a certificate with its private key in PEM."""

    secret_ref: LocalSecretKeyReference = Field(
        description="Entry that holds the client secret, or the certificate and its unencrypted private key in PEM (less than 10 KB)."
    )
    expires: Annotated[datetime, Field(json_schema_extra={"maxLength": 40})] | None = Field(
        default=None,
        description="When the client secret expires. Entra does not tell; a certificate says it itself. Unknown when absent.",
    )


class Registration(Shape):
    """The organization's own application registration in its own tenant."""

    client_id: Guid = Field(description="Application (client) id of the registration.")
    credentials: list[RegisteredCredential] = Field(
        min_length=1,
        max_length=2,
        description="Credentials of the registration, tried in this order. Two of them overlap while one is being renewed.",
        json_schema_extra=validations(
            Rule(
                "self.size() < 2 || self[0].secretRef.name != self[1].secretRef.name || self[0].secretRef.key != self[1].secretRef.key",
                "credentials name the same entry twice: name the new one beside the old one, or only one",
            )
        ),
    )


class PlatformApplication(Shape):
    """The multitenant application of the FederatedIdentity that the tenant names; no secret is needed."""


class Access(Shape):
    """How the vault is reached: through the platform's application, or through the organization's own registration."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "has(self.application) != has(self.registration)",
                "access needs either application or registration, but not both",
            )
        )
    )

    application: PlatformApplication | None = Field(
        default=None, description="The platform's multitenant application, through federated identity. Write application: {}."
    )
    registration: Registration | None = Field(
        default=None, description="An application that the organization has registered in its own tenant."
    )


class Member(Shape):
    """A person, or everybody in a group, as the console's identity provider names them in an id_token."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule("has(self.subject) != has(self.group)", "a member needs either subject or group, but not both")
        )
    )

    subject: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="The person's claim that the console is set to (sub unless told otherwise; oid for Entra).",
    )
    group: str | None = Field(default=None, min_length=1, max_length=255, description="A value of the groups claim.")


Members = Annotated[list[Member], Field(max_length=20)]


class OrganizationRotation(Shape):
    """How the organization moves to a new version of a key that is named without a version."""

    check_interval: Duration | None = Field(
        default=None,
        description="How often to look for a new version of the key. The default is 1h.",
        json_schema_extra=validations(
            Rule(
                "duration(self) >= duration('1m') && duration(self) <= duration('24h')", "checkInterval must be from 1m to 24h"
            )
        ),
    )
    approval: Literal["Automatic", "Manual"] | None = Field(
        default=None,
        description=(
            "Automatic (the default), or Manual: a new version waits in status.pendingVersion until the annotation "
            "cmk-operator.dev/approved-version of this object names it."
        ),
    )


class Revocation(Shape):
    """How fast a withdrawn key takes effect, and how long an outage of the vault may last without effect."""

    probe_interval: Duration | None = Field(
        default=None,
        description="How often the operator and the key service each check the key. The default is 60s.",
        json_schema_extra=validations(
            Rule(
                "duration(self) >= duration('1s') && duration(self) <= duration('15m')", "probeInterval must be from 1s to 15m"
            )
        ),
    )
    outage_grace: Duration | None = Field(
        default=None,
        description="How long known data keys stay usable while the vault cannot be reached. The default is 10m.",
        json_schema_extra=validations(Rule("duration(self) <= duration('60m')", "outageGrace may be at most 60m")),
    )


class OrganizationKeySpec(Shape):
    """Which key wraps the organization's data keys, and how it is reached. Only status.accepted is in force."""

    model_config = ConfigDict(json_schema_extra=validations(*_CONFIRMED))

    organization: Organization = Field(description="The organization.")
    mode: Mode | None = Field(
        default=None,
        description=(
            "PlatformManaged (the default): the platform's own key wraps the data keys. CustomerManaged: the organization's key does, "
            "and who loses it loses the data."
        ),
    )
    confirmation: str | None = Field(
        default=None, max_length=200, description="The organization's name once more, which mode CustomerManaged requires."
    )
    tenant_ref: NamedReference | None = Field(
        default=None, description="The CustomerTenant that allows this namespace to use the vault."
    )
    key_uri: str | None = Field(
        default=None,
        max_length=300,
        description=(
            "Identifier of an RSA key of any size. With a version, the key is pinned to it. Without one, the latest version is followed."
        ),
        json_schema_extra=validations(*KEY_URI_RULES),
    )
    access: Access | None = Field(default=None, description="How the vault is reached.")
    rotation: OrganizationRotation | None = Field(default=None, description="How a new version of the key is taken.")
    revocation: Revocation | None = Field(default=None, description="Bounds of a revocation and of an outage.")
    backup_retention: Retention | None = Field(
        default=None,
        description="How long backups of the services' data are kept, such as 35d. When absent, no key is called safe to disable.",
    )

    administrators: Members | None = Field(
        default=None,
        description="Who may change the organization's encryption in the console. The console cannot change this list.",
    )
    viewers: Members | None = Field(default=None, description="Who may look at it there.")

    @property
    def customer_managed(self) -> bool:
        """Whether the organization's own key is asked for."""
        return self.mode == "CustomerManaged"

    @property
    def uri(self) -> KeyUri | None:
        """The key; None if none is named, or one that another definition than this release's admitted."""
        return key_uri_or_none(self.key_uri) if self.key_uri is not None else None


class Canary(Shape):
    """Random bytes that the key has wrapped; unwrapping them is the probe."""

    wrapped: str = Field(max_length=LONGEST_CIPHERTEXT, description="The wrapped bytes in base64url.")
    digest: str = Field(max_length=64, description="SHA-256 of the bytes in hexadecimal digits.")


class AcceptedCredential(Shape):
    """Where a credential of the registration is."""

    secret: str = Field(description="Name of the Secret, in the namespace of the OrganizationKey.")
    key: str
    type: Literal["ClientSecret", "Certificate"]


class AcceptedAccess(Shape):
    """Everything that the vault is reached by, so that nobody needs to resolve a reference."""

    method: Literal["Application", "Registration"]
    cloud: str
    tenant_id: str = Field(description="Entra tenant of the vault.")
    application_client_id: str | None = None
    managed_identity_client_id: str | None = None
    provider_tenant_id: str | None = None
    operator_credential: str | None = None
    client_id: str | None = None
    credentials: tuple[AcceptedCredential, ...] = ()


class AcceptedKey(Shape):
    """Settings that have passed their test; the key service serves by them and by nothing else."""

    revision: int = Field(description="Grows by one with each acceptance.")
    mode: Mode
    key_uri: str | None = None
    kid: str = Field(description="Identifier of the key version in force, or platform-key.")
    algorithm: str | None = None
    canary: Canary | None = None
    since: datetime
    probe_interval_seconds: int
    outage_grace_seconds: int
    access: AcceptedAccess | None = None
    encrypt: Literal["Allowed", "Refused"] | None = Field(
        default=None,
        description=(
            "Refused: the key service encrypts nothing new, because the organization is view-only. Absent: allowed. It does not change "
            "the revision."
        ),
    )


class EarlierKey(AcceptedKey):
    """Settings that were in force before; rows and backups may still need their key."""

    until: datetime


class TestReport(Shape):
    """The last test of settings that are to be accepted."""

    __test__: ClassVar = False

    generation: int
    result: Literal["Passed", "Failed"]
    stage: str | None = Field(
        default=None, description="Licence, Reference, Token, Wrap, Unwrap or OldKey: where the test failed."
    )
    code: str | None = Field(default=None, description="Azure's code.")
    message: str
    request_id: str | None = Field(default=None, description="Azure's request id.")
    at: datetime


class CheckReport(Shape):
    """What the vault last answered when it was asked to wrap: the version that is the latest, or why it wraps nothing."""

    at: datetime
    kid: str | None = Field(default=None, description="The version that wrapped. Absent: none did.")
    reason: str | None = Field(default=None, description="Why the vault wrapped nothing.")
    message: str = ""


class KeyVersionReport(Shape):
    """A key version that is or was in force, and whether anything still needs it."""

    kid: str
    data_keys: int | None = Field(default=None, description="Data keys that are wrapped with it. Absent: not known now.")
    superseded_at: datetime | None = None
    unused_since: datetime | None = Field(
        default=None,
        description="Since when the key service has reported no data key on it. Absent: there are some, or that is not known.",
    )
    safe_to_disable: Literal["True", "False", "Unknown"]
    safe_to_disable_after: datetime | None = None
    required_until: datetime | None = Field(default=None, description="Until then there may be backups that need it.")
    reason: str = ""


class CredentialReport(Shape):
    """A credential of the registration, and when it expires."""

    secret: str = Field(description="Name of the Secret.")
    key: str = Field(description="Entry in the Secret.")
    type: Literal["ClientSecret", "Certificate", "Unknown"]
    expires: str = Field(description="Time (RFC 3339), or unknown.")
    days_left: int | None = None
    message: str | None = Field(default=None, description="Why it cannot be used.")
    warned_days: int | None = Field(
        default=None, description="The last of the warnings 60, 30, 7 and 1 days before, and 0 for expired."
    )


class KidCount(Shape):
    """Data keys that are wrapped with one key version."""

    kid: str
    data_keys: int


class RewrapReport(Shape):
    """Data keys that are still to be wrapped with the key version in force."""

    pending: int = 0
    failed: int = 0
    message: str = ""


class ServingReport(Shape):
    """Whether the key service serves the organization."""

    state: Literal["Serving", "Refused", "Coasting", "NotServing"]
    since: datetime
    message: str = ""


class DataKeysReport(Shape):
    """What the key service knows; only the key service writes it."""

    revision: int = 0
    total: int = 0
    by_kid: tuple[KidCount, ...] = ()
    rewrap: RewrapReport | None = None
    serving: ServingReport | None = None
    observed_at: datetime | None = None


class BreakGlassAccount(Shape):
    """A break-glass account of the organization, without anything that signs in."""

    name: str = Field(max_length=63)
    person: str = Field(default="", max_length=120, description="Whose account it is.")
    since: datetime | None = Field(default=None, description="When its entry was made or changed.")
    problem: str | None = Field(default=None, max_length=253, description="Why nobody can sign in with it.")
    last_used_at: datetime | None = Field(default=None, description="Last sign-in since then.")


class BreakGlassUse(Shape):
    """One sign-in with a break-glass account."""

    at: datetime
    account: str = Field(max_length=63)
    person: str = Field(max_length=120)


class BreakGlassReport(Shape):
    """What the console knows; only the console writes it."""

    accounts: tuple[BreakGlassAccount, ...] = Field(default=(), max_length=MOST_BREAK_GLASS)
    uses: tuple[BreakGlassUse, ...] = Field(default=(), max_length=MOST_BREAK_GLASS, description="Newest first.")
    observed_at: datetime | None = None


class Promotion(Shape):
    """Somebody whom the provider's support has made an administrator of the organization for some hours."""

    request: str = Field(description="Name of the SupportRequest.")
    uid: str
    subject: str
    requested_by: str
    approved_by: str
    ticket: str
    until: datetime
    since: datetime


class SupportReport(Shape):
    """What the provider's support has done for the organization."""

    active: tuple[Promotion, ...] = Field(default=(), max_length=MOST_PROMOTIONS)
    last: Promotion | None = None
    kid: str | None = Field(default=None, description="The key version that was in force when the last one began.")
    credentials: tuple[str, ...] = Field(default=(), description="The credentials (Secret/entry) that were in force then.")
    advice: str | None = Field(default=None, description="What the organization should do since. Nothing depends on it.")


class EffectiveOrganizationKey(Shape):
    """The effective values, specified or default."""

    mode: Mode
    rotation: Literal["Pinned", "Following"] | None = Field(default=None, description="Absent for the platform's key.")
    check_interval: str
    approval: Literal["Automatic", "Manual"]
    probe_interval: str
    outage_grace: str
    backup_retention: str | None = Field(
        default=None, description="Absent: not given, so that no key is called safe to disable."
    )


class OrganizationKeyStatus(Shape):
    """Which settings are in force, and what the last checks found."""

    observed_generation: int = -1
    conditions: tuple[Condition, ...] = ()
    last_handled_reconcile_at: str | None = None
    effective: EffectiveOrganizationKey | None = None
    accepted: AcceptedKey | None = Field(
        default=None, description="The settings in force. Absent: none has passed its test yet."
    )
    earlier: tuple[EarlierKey, ...] = Field(
        default=(), max_length=MOST_EARLIER, description="Settings that were in force before, newest first."
    )
    test: TestReport | None = None
    pending_version: str | None = Field(
        default=None, description="A newer version that waits for approval (spec.rotation.approval)."
    )
    check: CheckReport | None = Field(default=None, description="The last look for a new version, by wrapping with the key.")
    versions: tuple[KeyVersionReport, ...] = ()
    credentials: tuple[CredentialReport, ...] = ()
    platform_key_needed_until: datetime | None = Field(
        default=None,
        description="Until then there may be backups that need the platform's key, from before the organization's own was in force.",
    )
    data_keys: DataKeysReport | None = Field(
        default=None, description="The key service's word. Absent: it has not reported yet."
    )
    break_glass: BreakGlassReport | None = Field(
        default=None, description="The console's word. Absent: it has not reported yet."
    )
    recorded_break_glass_uses: tuple[BreakGlassUse, ...] = Field(
        default=(),
        max_length=MOST_BREAK_GLASS,
        description="Uses that are in the audit record already.",
    )
    support: SupportReport | None = Field(
        default=None, description="Administrators that the provider's support has made (SupportRequest)."
    )
    advice: tuple[str, ...] = Field(
        default=(), description="What protects the key badly, as far as it is visible. Nothing depends on it."
    )
    notifications: NotificationsReport | None = None


class OrganizationKey(Shape):
    """The key of an organization's data keys: its own in its own vault, or the platform's."""

    model_config = ConfigDict(title="OrganizationKey")
    plural: ClassVar[str] = "organizationkeys"

    metadata: Metadata
    spec: OrganizationKeySpec
    status: OrganizationKeyStatus = OrganizationKeyStatus()
