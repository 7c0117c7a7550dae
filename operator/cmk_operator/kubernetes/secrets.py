"""Reads one value of one Secret when it is needed. Secrets are never listed, watched, cached or logged."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from cmk_operator.core.identifiers.secret_key import SecretKey
    from cmk_operator.kubernetes.client import KubernetesClient


async def read_secret(client: KubernetesClient, wanted: SecretKey, owner: Actor) -> bytes | Fault:
    """The value, or a fault that says what `owner` or the provider's administrator must do.

    Raises `KubernetesError` if the API server gave no usable answer; the reconcile is then retried.
    """
    shown = f"Secret {wanted.namespace}/{wanted.name}"
    try:
        path = f"/api/v1/namespaces/{quote(wanted.namespace)}/secrets/{quote(wanted.name)}"
        secret: dict[str, Any] = await client.request("GET", path)
    except KubernetesError as error:
        if error.status == 404:
            message = f"{shown} does not exist: the {owner} must create it or correct the reference"
            return blocked(Reason.SECRET_NOT_FOUND, message, owner)
        if error.status == 403:
            message = (
                f"the operator may not read {shown}: the provider's administrator must add it to the chart's value rbac.secrets, or "
                "correct the reference"
            )
            return blocked(Reason.SECRET_FORBIDDEN, message, Actor.PROVIDER_ADMINISTRATOR)
        raise
    value = base64.b64decode((secret.get("data") or {}).get(wanted.key) or "")
    if not value:
        message = f"{shown} has no value under the key {wanted.key!r}: the {owner} must add it or correct the reference"
        return blocked(Reason.SECRET_KEY_MISSING, message, owner)
    return value
