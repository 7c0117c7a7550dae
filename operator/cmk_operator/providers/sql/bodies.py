"""The bodies of the requests in the types of azure-mgmt-sql, and plans that show them.

The SDK is imported when the first body is made; it has been loaded by then, because the resource was read with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmk_operator.providers.protocol import Plan
from cmk_operator.providers.sql.requests import (
    AddServerKey,
    RevalidateDatabase,
    RevalidateServer,
    SetDatabaseKey,
    SetProtector,
    SetServerIdentity,
    SetServiceManagedProtector,
    SqlRequest,
)
from cmk_operator.providers.sql.wire import AZURE_KEY_VAULT, SERVICE_MANAGED

if TYPE_CHECKING:
    from azure.mgmt.sql.models import DatabaseUpdate, DatabaseUserIdentity, EncryptionProtector, ServerKey, ServerUpdate

    from cmk_operator.core.encryption.protection import FieldChange


def server_update(request: SetServerIdentity) -> ServerUpdate:
    """The body of the PATCH of a server."""
    from azure.mgmt.sql.models import ResourceIdentity, ServerProperties, ServerUpdate, UserIdentity

    return ServerUpdate(
        identity=ResourceIdentity(
            type=request.kind, user_assigned_identities={one.text: UserIdentity() for one in request.user_assigned}
        ),
        properties=ServerProperties(
            primary_user_assigned_identity_id=request.primary.text, federated_client_id=request.application_client_id
        ),
    )


def server_key(request: AddServerKey) -> ServerKey:
    """The body of the PUT of a server key."""
    from azure.mgmt.sql.models import ServerKey, ServerKeyProperties

    return ServerKey(properties=ServerKeyProperties(server_key_type=AZURE_KEY_VAULT, uri=str(request.key)))


def protector(request: SetProtector | SetServiceManagedProtector) -> EncryptionProtector:
    """The body of the PUT of a server's encryption protector."""
    from azure.mgmt.sql.models import EncryptionProtector, EncryptionProtectorProperties

    if isinstance(request, SetServiceManagedProtector):
        properties = EncryptionProtectorProperties(server_key_type=SERVICE_MANAGED, server_key_name=SERVICE_MANAGED)
    else:
        properties = EncryptionProtectorProperties(
            server_key_type=AZURE_KEY_VAULT, server_key_name=request.key_name, auto_rotation_enabled=request.follow_latest
        )
    return EncryptionProtector(properties=properties)


def database_update(request: SetDatabaseKey) -> DatabaseUpdate:
    """The body of the PATCH of a database; an identity is removed with null."""
    from azure.mgmt.sql.models import (
        DatabaseIdentity,
        DatabaseKey,
        DatabaseUpdate,
        DatabaseUpdateProperties,
        DatabaseUserIdentity,
    )

    identities: dict[str, DatabaseUserIdentity | None] = {request.identity.text: DatabaseUserIdentity()}
    identities |= dict.fromkeys(one.text for one in request.dropped)
    properties = DatabaseUpdateProperties(
        federated_client_id=request.application_client_id,
        encryption_protector_auto_rotation=request.follow_latest,
        encryption_protector=str(request.key) if request.key is not None else None,
        keys_property={str(request.key): DatabaseKey()} if request.key is not None else None,
    )
    identity = DatabaseIdentity(
        type="UserAssigned",
        user_assigned_identities=identities,  # type: ignore[arg-type]  # the SDK's type leaves out null, which it sends
    )
    return DatabaseUpdate(identity=identity, properties=properties)


def planned(
    request: SqlRequest, changes: tuple[FieldChange, ...], purpose: str, *, keeps_key: bool = False
) -> Plan[SqlRequest]:
    """A plan of one request that shows its body as it is sent."""
    reopens = isinstance(request, RevalidateServer | RevalidateDatabase)
    return Plan(request, changes, purpose, keeps_key=keeps_key, reopens=reopens, shown=_shown(request))


def _shown(request: SqlRequest) -> dict[str, Any]:
    match request:
        case SetServerIdentity():
            return server_update(request).as_dict()
        case AddServerKey():
            return server_key(request).as_dict()
        case SetProtector() | SetServiceManagedProtector():
            return protector(request).as_dict()
        case SetDatabaseKey():
            return database_update(request).as_dict()
        case _:
            return {}
