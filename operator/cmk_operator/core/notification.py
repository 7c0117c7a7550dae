"""Kinds of events that a receiver outside Kubernetes is told of."""

from __future__ import annotations

from enum import StrEnum


class NotificationType(StrEnum):
    """The `type` of a CloudEvent; its prefix is the API group reversed, as the specification asks for."""

    ENCRYPTION_ACTIVE = "dev.cmk-operator.encryption.active"
    ENCRYPTION_INACTIVE = "dev.cmk-operator.encryption.inactive"
    KEY_LOST = "dev.cmk-operator.key.lost"
    KEY_RESTORED = "dev.cmk-operator.key.restored"
    KEY_ROTATED = "dev.cmk-operator.key.rotated"
