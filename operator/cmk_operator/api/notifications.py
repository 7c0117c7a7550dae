"""What is told outside Kubernetes when encryption or access to a key changes: where to, and what has not arrived yet."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import Field

from cmk_operator.api.model import ObjectName, Shape
from cmk_operator.api.rules import Rule, first_broken, validations

MOST_PENDING: Final = 20

_SINK_RULES: Final = first_broken(
    Rule("self.startsWith('https://')", "sink must start with https://: events name keys and resources"),
    Rule("!self.matches('^https://[^/?#]*@')", "sink may not carry user info: sign with secretRef instead"),
    Rule("!self.contains('#')", "sink may not carry a fragment"),
    Rule(
        "self.matches('^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?][!-~]*)?$')",
        "sink must be https://<host>[:<port>][/<path>][?<query>], without blanks",
    ),
)


class SecretKeyReference(Shape):
    """One entry of a Secret that the operator may read."""

    name: ObjectName = Field(description="Name of the Secret.")
    namespace: ObjectName | None = Field(
        default=None,
        description="Its namespace, which the chart's value rbac.secretNamespaces must list; the operator's own when absent.",
    )
    key: str = Field(min_length=1, max_length=253, pattern="^[-._a-zA-Z0-9]+$", description="Entry in the Secret.")


class NotificationSink(Shape):
    """A receiver of CloudEvents 1.0 over HTTPS, in structured JSON."""

    sink: str = Field(
        max_length=2000,
        description="URL to which events are posted. Redirects are not followed.",
        json_schema_extra=validations(*_SINK_RULES),
    )
    secret_ref: SecretKeyReference | None = Field(
        default=None,
        description=(
            "Signing secret (whsec_ and base64 of 24 to 64 bytes): events are signed as Standard Webhooks describes. Unsigned when absent."
        ),
    )


class PendingNotification(Shape):
    """An event that no receiver has taken yet."""

    id: str = Field(description="Same at every try, so that a receiver can drop duplicates.")
    sequence: int = Field(description="Position among the events of this object, from 1.")
    type: str
    time: datetime
    key_uri: str
    key_version: str | None = None
    state: str | None = Field(default=None, description="Access state of the key.")
    message: str


class NotificationsReport(Shape):
    """Which changes were told, and which still have to be."""

    announced: str | None = Field(default=None, description="What receivers were last told of this object, or will be.")
    announced_version: str | None = Field(default=None, description="The key version that they were last told of.")
    sequence: int = Field(default=0, description="Events of this object so far.")
    dropped: int = Field(
        default=0, description="Events that were given up because too many waited; their numbers are missing at the receiver."
    )
    pending: tuple[PendingNotification, ...] = Field(
        default=(), max_length=MOST_PENDING, description="Oldest first; delivered in this order."
    )
