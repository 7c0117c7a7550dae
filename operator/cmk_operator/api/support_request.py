"""`SupportRequest`: the provider's support makes somebody an administrator of an organization for some hours, by two persons.

It is cluster-scoped, because support knows an organization's id and no namespace, and because nobody in a namespace may write it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from cmk_operator.api.model import Metadata, Shape
from cmk_operator.api.rules import Rule, immutable, validations
from cmk_operator.core.organization.support import Asked, RequestState

LONGEST_NAME = 253


class SupportRequestSpec(Shape):
    """Who is to be an administrator of which organization, and which two persons want it."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            Rule(
                "!has(self.approvedBy) || self.approvedBy != self.requestedBy",
                "who asks cannot approve: somebody else must set approvedBy",
            ),
            Rule(
                "!has(oldSelf.approvedBy) || (has(self.approvedBy) && self.approvedBy == oldSelf.approvedBy)",
                "an approval stays: delete the SupportRequest to withdraw it",
            ),
        )
    )

    organization_id: str = Field(
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        min_length=1,
        max_length=63,
        description="The organization, by spec.organization.id of its OrganizationKey.",
        json_schema_extra=validations(immutable("organizationId")),
    )
    subject: str = Field(
        min_length=1,
        max_length=255,
        description="Who becomes an administrator, by the claim that the console is set to, as in spec.administrators.",
        json_schema_extra=validations(immutable("subject")),
    )
    ticket: str = Field(
        min_length=1,
        max_length=LONGEST_NAME,
        description="The support ticket in which the customer asked for it.",
        json_schema_extra=validations(immutable("ticket")),
    )
    until: Annotated[datetime, Field(json_schema_extra={"maxLength": 40})] = Field(
        description="When it ends, at most 24 hours after the request.",
        json_schema_extra=validations(immutable("until")),
    )
    requested_by: str = Field(
        min_length=1,
        max_length=LONGEST_NAME,
        description="Your own user name in the cluster (kubectl auth whoami).",
        json_schema_extra=validations(immutable("requestedBy")),
    )
    approved_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=LONGEST_NAME,
        description="The second person's own user name in the cluster. Set it to approve; it cannot be set at creation.",
    )


class SupportRequestStatus(Shape):
    """What has become of the request. The console believes only status.support of the OrganizationKey."""

    state: RequestState | None = None
    message: str = Field(default="", max_length=500)
    organization: str | None = Field(default=None, max_length=400, description="Namespace and name of the OrganizationKey.")


class SupportRequest(Shape):
    """A request of the provider's support that somebody be an administrator of an organization for some hours."""

    model_config = ConfigDict(title="SupportRequest")
    plural: ClassVar[str] = "supportrequests"

    metadata: Metadata
    spec: SupportRequestSpec
    status: SupportRequestStatus = SupportRequestStatus()

    @property
    def asked(self) -> Asked:
        """What decides."""
        spec, metadata = self.spec, self.metadata
        return Asked(
            spec.requested_by,
            spec.approved_by,
            metadata.creation_timestamp,
            spec.until,
            metadata.deletion_timestamp is not None,
        )
