"""Whether an organization's licence allows a change of its settings, and whether new data may be encrypted; pure.

The chart's admission policy `licence` judges the same table when a manifest is written; the operator judges it again before
settings come into force. Source: requirements, "Licensing downgrade": a frozen organization keeps its key and its data, and may
only go to the platform's key, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from datetime import datetime


class Licensing(StrEnum):
    """How the provider sells its plans."""

    FLEX = "Flex"
    UNIFIED = "Unified"


class LicenceState(StrEnum):
    """What has become of a licence; the provider's billing system writes it."""

    ACTIVE = "Active"
    GRACE = "Grace"
    FREE = "Free"
    VIEW_ONLY = "ViewOnly"


class AccessMethod(StrEnum):
    """How a vault can be reached: by the platform's multitenant application, or by the organization's own registration."""

    APPLICATION = "Application"
    REGISTRATION = "Registration"


EVERY_METHOD: Final = frozenset(AccessMethod)
PLANS: Final = frozenset({(Licensing.FLEX, "Standard"), (Licensing.FLEX, "Advanced"), (Licensing.UNIFIED, "Enterprise")})
"""Plans with customer-managed keys. Source: requirements, first table."""
_PLANS_SHOWN: Final = "Flex Standard, Flex Advanced or Unified Enterprise"


@dataclass(frozen=True, slots=True)
class OrganizationLicence:
    """What the provider has licensed to one organization."""

    licensing: Licensing
    plan: str
    state: LicenceState
    grace_until: datetime | None = None

    @property
    def eligible(self) -> bool:
        """Whether the plan has customer-managed keys."""
        return (self.licensing, self.plan) in PLANS


class Change(StrEnum):
    """How wanted settings differ from those in force, as far as a licence is concerned."""

    SAME_WAY = "SameWay"
    """The same key, reached in the same way with other credentials, or through what the provider has registered anew."""
    TO_PLATFORM = "ToPlatform"
    """The platform's key, from whatever was in force."""
    OTHER = "Other"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a licence allows now: `reason` and `message` are those of the condition `LicenceAllowsChange`."""

    allowed: bool
    reason: Reason
    message: str
    encrypts: bool = True
    """Whether the key service may encrypt new data; it always decrypts."""
    known: bool = True
    """Whether the Licence could be read."""
    methods: frozenset[AccessMethod] = EVERY_METHOD
    """What the provider's platform offers."""

    def allows(self, change: Change) -> bool:
        """Whether a change may come into force."""
        return self.allowed or change is not Change.OTHER


NOT_USED: Final = Standing(
    allowed=True, reason=Reason.LICENCES_NOT_USED, message="the provider does not use licences: every change is allowed"
)
"""The standing of every organization while the chart's value `licences.enabled` is false."""


def standing(
    organization: str,
    licence: OrganizationLicence | None,
    *,
    customer_managed: bool,
    now: datetime,
    view_only_encrypts: bool = True,
    methods: frozenset[AccessMethod] = EVERY_METHOD,
) -> Standing:
    """What the licence of an organization allows; `licence` is None if the provider has listed none.

    `customer_managed`: whether its own key is wanted or in force; the platform's key needs no licence.
    `view_only_encrypts`: the provider's product policy for organizations that are view-only.
    """
    encrypts = licence is None or licence.state is not LicenceState.VIEW_ONLY or view_only_encrypts

    def found(reason: Reason, message: str, *, allowed: bool = True) -> Standing:
        return Standing(
            allowed, reason, message if encrypts else f"{message}; {ENCRYPTS_NOTHING_NEW}", encrypts, methods=methods
        )

    if not customer_managed:
        return found(Reason.NO_LICENCE_NEEDED, "the platform's key needs no licence")
    refused = _refusal(organization, licence, now)
    if refused is not None:
        reason, why = refused
        return found(reason, f"{why}; {WHAT_IS_LEFT}", allowed=False)
    if licence is not None and licence.grace_until is not None and licence.state is LicenceState.GRACE:
        message = (
            f"the licence of organization {organization} has ended, and changes are allowed until {to_rfc3339(licence.grace_until)}: "
            "the organization must renew it with the provider before then"
        )
        return found(Reason.LICENCE_GRACE, message)
    return found(Reason.LICENSED, f"the plan of organization {organization} has customer-managed keys")


def not_read(message: str, *, encrypts: bool) -> Standing:
    """The standing while the Licence cannot be read: what is in force stays, and new settings wait."""
    return Standing(
        allowed=False, reason=Reason.LICENCE_NOT_READ, message=f"{message}; new settings wait", encrypts=encrypts, known=False
    )


def _refusal(organization: str, licence: OrganizationLicence | None, now: datetime) -> tuple[Reason, str] | None:
    if licence is None:
        return Reason.LICENCE_MISSING, (
            f"organization {organization} has no licence for a customer-managed key: the provider's administrator must list it in "
            f"the Licence {LICENCE_NAME}"
        )
    match licence.state:
        case LicenceState.FREE | LicenceState.VIEW_ONLY:
            shown = "on the Free plan" if licence.state is LicenceState.FREE else "view-only"
            reason = Reason.LICENCE_FREE if licence.state is LicenceState.FREE else Reason.LICENCE_VIEW_ONLY
            return reason, (
                f"organization {organization} is {shown}, so its settings are frozen: the organization must renew {_PLANS_SHOWN} "
                "with the provider"
            )
        case LicenceState.GRACE if licence.grace_until is None or now >= licence.grace_until:
            return Reason.LICENCE_EXPIRED, (
                f"the licence of organization {organization} has ended, and its grace period too, so its settings are frozen: the "
                "organization must renew it with the provider"
            )
        case _ if not licence.eligible:
            return Reason.PLAN_WITHOUT_KEYS, (
                f"the plan {licence.licensing} {licence.plan} of organization {organization} has no customer-managed keys: the "
                f"organization must buy {_PLANS_SHOWN}"
            )
        case _:
            return None


def refused_method(method: AccessMethod, offered: frozenset[AccessMethod]) -> str | None:
    """Why a newly chosen way to reach the vault is refused on the provider's platform; None if it is offered."""
    if method in offered:
        return None
    other = " or ".join(f"access.{one.lower()}" for one in sorted(offered))
    return (
        f"this platform does not offer access.{method.lower()}: use {other}, or let the provider's administrator add {method} to "
        f"spec.accessMethods of the Licence {LICENCE_NAME}"
    )


LICENCE_NAME: Final = "organizations"
"""The name of the one Licence of a cluster."""
WHAT_IS_LEFT: Final = (
    "reading goes on, new versions of the key are followed, and it may renew spec.access.registration.credentials or set mode to "
    "PlatformManaged, from where there is no way back without a licence"
)
ENCRYPTS_NOTHING_NEW: Final = "the key service goes on to decrypt, and encrypts nothing new (viewOnlyEncrypt of the Licence)"
