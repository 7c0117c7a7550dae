"""`Licence`: which organizations may have a key of their own, as the provider's administrator or billing system writes it.

One object, `organizations`, lists all of them: an admission policy sees one parameter at a time, so it could not tell that an
organization is in none of many objects (docs/decisions/0175).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from cmk_operator.api.model import Metadata, Shape
from cmk_operator.api.rules import Rule, validations

NAME: Final = "organizations"
"""The name of the one Licence of a cluster."""
MOST_ORGANIZATIONS: Final = 3000
"""Organizations in a Licence: at most 1 MB with what the API server keeps of field managers. etcd takes 1.5 MiB."""

Licensing = Literal["Flex", "Unified"]
LicenceState = Literal["Active", "Grace", "Free", "ViewOnly"]
AccessMethod = Literal["Application", "Registration"]
Encryption = Literal["Allowed", "Refused"]


class LicensedOrganization(Shape):
    """What one organization has bought, and what has become of it."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule("(self.state == 'Grace') == has(self.graceUntil)", "state Grace needs graceUntil, and no other state has it")
        )
    )

    licensing: Licensing = Field(description="How the provider sells the plan.")
    plan: str = Field(
        pattern="^[A-Z][A-Za-z0-9]*( [A-Z][A-Za-z0-9]*)*$",
        max_length=40,
        description=(
            "Platform plan. Standard and Advanced of Flex and Enterprise of Unified have customer-managed keys. No other plan has."
        ),
    )
    state: LicenceState = Field(
        description=(
            "Active; Grace (ended, and changes are allowed until graceUntil); Free (downgraded to the Free plan) or ViewOnly "
            "(downgraded to view-only), in which every edit of an OrganizationKey is refused and reading goes on."
        )
    )
    grace_until: Annotated[datetime, Field(json_schema_extra={"maxLength": 40})] | None = Field(
        default=None, description="When the grace period ends. From then on it is as if the state were Free."
    )


class LicenceSpec(Shape):
    """What the provider's platform offers, and what each organization has."""

    access_methods: list[AccessMethod] | None = Field(
        default=None,
        min_length=1,
        max_length=2,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description=(
            "How the platform lets organizations reach their vaults: Application (its multitenant application), Registration (their own "
            "registration). The default is both. What is in use already stays."
        ),
    )
    view_only_encrypt: Encryption | None = Field(
        default=None,
        description=(
            "Product policy: whether the key service encrypts new data of an organization that is ViewOnly. Allowed is the default. It "
            "always decrypts."
        ),
    )
    organizations: dict[str, LicensedOrganization] | None = Field(
        default=None,
        max_length=MOST_ORGANIZATIONS,
        description="Organizations by spec.organization.id of their OrganizationKeys. One that is not listed has no licence.",
        json_schema_extra=validations(
            Rule(
                "self.all(id, id.size() <= 63 && id.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))",
                "organizations must be listed by their id: lower-case letters, digits and hyphens, at most 63 characters",
            )
        ),
    )


class Licence(Shape):
    """Which organizations may have a key of their own. The provider writes it; the chart's admission policy and the operator read it."""

    model_config = ConfigDict(
        title="Licence",
        json_schema_extra=validations(
            Rule(
                f"self.metadata.name == '{NAME}'",
                f"a cluster has one Licence, and its name is {NAME}: list every organization there",
            )
        ),
    )
    plural: ClassVar[str] = "licences"

    metadata: Metadata
    spec: LicenceSpec
