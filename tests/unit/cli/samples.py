"""A key with three versions, and resources on them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.encrypted_resource import EncryptedResource
from tests.unit.samples import ACCOUNT, GROUP, KEY, NOW, V1, V2, V3, key_body, resource_body

SERVER: Final = f"{GROUP}/providers/Microsoft.Sql/servers/contosodb"
DISKS: Final = f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/contosodisks"

KEPT: Final = {"rotation": {"backupRetention": "720h"}}
"""The spec of a key whose manifest says how long backups are kept."""


def users_unknown(message: str | None) -> dict[str, Any]:
    """The condition on the users of a key; with a message they are not known."""
    status, reason = ("True", "Listed") if message is None else ("Unknown", "AuthorizationFailed")
    return {
        "type": "UsersKnown",
        "status": status,
        "reason": reason,
        "message": message or "listed",
        "observedGeneration": 1,
        "lastTransitionTime": NOW.isoformat(),
    }


def version(name: str, **fields: Any) -> dict[str, Any]:
    """One entry of status.versions."""
    return {"version": name, "access": "Accessible", "enabled": True} | fields


def superseded(name: str, *, since: timedelta, keep: timedelta | None = None) -> dict[str, Any]:
    """A version that nothing is on, held for 24 hours; backups under it are kept for `keep`."""
    at = NOW - since
    found = version(name, supersededAt=at.isoformat(), safeToDisableAfter=(at + timedelta(hours=24)).isoformat())
    return found if keep is None else found | {"keepUntil": (at + keep).isoformat()}


def key(
    *versions: dict[str, Any], active: str | None = V2, spec: dict[str, Any] | None = None, **status: Any
) -> CustomerManagedKey:
    """A key with these versions."""
    found = {"activeVersion": active, "versions": list(versions), "conditions": [users_unknown(None)]} | status
    return CustomerManagedKey.model_validate(key_body(**(spec or {})) | {"status": found})


def resource(
    name: str, target: str, on: str | None, namespace: str = "team-a", uri: str = KEY, **status: Any
) -> EncryptedResource:
    """A resource that Azure reports on a version; `on` None: not on any key, empty: on a version that is not told."""
    if on is not None:
        status["applied"] = {"keyUri": f"{uri}/{on}" if on else uri, "version": on, "since": NOW.isoformat()}
    return EncryptedResource.model_validate(resource_body(name, namespace, resourceId=target) | {"status": status})


def environment() -> tuple[CustomerManagedKey, tuple[EncryptedResource, ...]]:
    """Storage and disks on the old version, SQL on the active one, another account not on the key yet."""
    found = key(
        version(V2, inUseBy=["db"], inUseByCount=1),
        version(V1, inUseBy=["disks", "docs"], inUseByCount=2),
        superseded(V3, since=timedelta(days=3), keep=timedelta(days=30)),
        spec=KEPT,
    )
    resources = (
        resource("docs", ACCOUNT, V1),
        resource("disks", DISKS, V1, details={"attachedTo": ["web-1"]}),
        resource("db", SERVER, V2),
        resource("new", f"{ACCOUNT}2", None),
    )
    return found, resources
