"""The types of events that are sent to receivers outside Kubernetes."""

from __future__ import annotations

from enum import StrEnum


class NotificationType(StrEnum):
    """The `type` of a CloudEvent; its prefix is the reversed API group. Source: CloudEvents 1.0.2, `type`."""

    ENCRYPTION_ACTIVE = "dev.cmk-operator.encryption.active"
    ENCRYPTION_INACTIVE = "dev.cmk-operator.encryption.inactive"
    KEY_LOST = "dev.cmk-operator.key.lost"
    KEY_RESTORED = "dev.cmk-operator.key.restored"
    KEY_ROTATED = "dev.cmk-operator.key.rotated"
