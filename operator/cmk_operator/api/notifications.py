"""Notifications outside Kubernetes of changes of encryption and of access to a key: the receiver, and what is pending."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import Field

from cmk_operator.api.model import ObjectName, Shape
from cmk_operator.api.rules import Rule, first_broken, validations

MOST_PENDING: Final = 20

_SINK_RULES: Final = first_broken(
    Rule("self.startsWith('https://')", "sink must start with https://: notifications name keys and resources"),
    Rule("!self.matches('^https://[^/?#]*@')", "sink may not carry user info: use secretRef to sign notifications instead"),
    Rule("!self.contains('#')", "sink may not carry a fragment"),
    Rule(
        "self.matches('^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?][!-~]*)?$')",
        "sink must be https://<host>[:<port>][/<path>][?<query>], without spaces",
    ),
)


class SecretKeyReference(Shape):
    """One entry of a Secret that the operator may read."""

    name: ObjectName = Field(description="Name of the Secret. The chart's value rbac.secrets must list it.")
    namespace: ObjectName | None = Field(
        default=None,
        description="Namespace of the Secret. The default is the operator's own namespace.",
    )
    key: str = Field(min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$", description="Entry in the Secret.")


class NotificationSink(Shape):
    """A receiver of CloudEvents 1.0 over HTTPS, in structured JSON."""

    sink: str = Field(
        max_length=2000,
        description="URL to which notifications are posted. Redirects are not followed.",
        json_schema_extra=validations(*_SINK_RULES),
    )
    secret_ref: SecretKeyReference | None = Field(
        default=None,
        description=(
            "Signing secret (whsec_ and base64 of 24 to 64 bytes). Notifications are signed as Standard Webhooks specifies. They are "
            "not signed when it is absent."
        ),
    )


class PendingNotification(Shape):
    """A notification that the receiver has not accepted yet."""

    id: str = Field(description="The same at every attempt, so that a receiver can discard duplicates.")
    sequence: int = Field(description="Number of the notification among those of this object, from 1.")
    type: str
    time: datetime
    key_uri: str
    key_version: str | None = None
    state: str | None = Field(default=None, description="Access state of the key.")
    message: str


class NotificationsReport(Shape):
    """Which changes were reported to the receiver, and which are still pending."""

    announced: str | None = Field(default=None, description="The last state that was reported, or is pending.")
    announced_version: str | None = Field(default=None, description="The last key version that was reported, or is pending.")
    sequence: int = Field(default=0, description="Number of notifications of this object so far.")
    dropped: int = Field(
        default=0,
        description="Notifications that were discarded because too many were pending. The receiver sees a gap in the numbers.",
    )
    pending: tuple[PendingNotification, ...] = Field(
        default=(),
        max_length=MOST_PENDING,
        description="Pending notifications, oldest first. They are delivered in this order.",
    )
