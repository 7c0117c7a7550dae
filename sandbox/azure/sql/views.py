"""Servers, keys, protectors, databases and failover groups as ARM answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.azure.clock import short_fraction
from sandbox.azure.endpoints import here
from sandbox.azure.sql.model import AZURE_KEY_VAULT, SERVICE_MANAGED

if TYPE_CHECKING:
    from sandbox.azure.arm.assigned_identities import AssignedIdentities
    from sandbox.azure.sql.model import Database, FailoverGroup, Server, ServerKey

SQL = "Microsoft.Sql/servers"
MASTER = "master"
"""The system database of every server; transparent data encryption never encrypts it."""
KINDS = {SERVICE_MANAGED: "servicemanaged", AZURE_KEY_VAULT: "azurekeyvault"}


def server_shown(server: Server, identities: AssignedIdentities) -> dict[str, Any]:
    """The whole server; `keyId` is what protects it now."""
    properties: dict[str, Any] = {
        "administratorLogin": server.administrator_login,
        "version": "12.0",
        "state": "Ready",
        "fullyQualifiedDomainName": f"{server.name}{here().sql_suffix}",
        "privateEndpointConnections": [],
        "minimalTlsVersion": "1.2",
        "publicNetworkAccess": "Enabled",
        "restrictOutboundNetworkAccess": "Disabled",
        "externalGovernanceStatus": "Disabled",
        **server.settings,
    }
    if server.primary_identity:
        properties["primaryUserAssignedIdentityId"] = server.primary_identity
    if server.federated_client_id:
        properties["federatedClientId"] = server.federated_client_id
    if server.protection.key is not None:
        properties["keyId"] = server.protection.key.location.uri
    shown: dict[str, Any] = {
        "kind": "v12.0",
        "properties": properties,
        "location": server.location,
        "tags": server.tags,
        "id": server.id,
        "name": server.name,
        "type": SQL,
    }
    if server.identity.type != "None":
        shown["identity"] = identities.shown(server.identity, server.tenant_id)
    return shown


def key_shown(server: Server, key: ServerKey | None) -> dict[str, Any]:
    """One of the server's keys; None is the one that Microsoft manages."""
    kind = SERVICE_MANAGED if key is None else AZURE_KEY_VAULT
    name = SERVICE_MANAGED if key is None else key.name
    properties: dict[str, Any] = {"serverKeyType": kind}
    if key is not None:
        properties |= {
            "uri": key.location.uri,
            "thumbprint": key.thumbprint,
            "creationDate": short_fraction(key.created),
            "autoRotationEnabled": server.protection.auto_rotation
            and server.protection.key is not None
            and server.protection.key.location.same_key(key.location),
            "keyVersion": key.version,
        }
    return _child(server, f"keys/{name}", KINDS[kind], properties)


def protector_shown(server: Server) -> dict[str, Any]:
    """The protector, which always exists."""
    key = server.protection.key
    kind = SERVICE_MANAGED if key is None else AZURE_KEY_VAULT
    properties: dict[str, Any] = {
        "serverKeyName": SERVICE_MANAGED if key is None else key.name,
        "serverKeyType": kind,
        "autoRotationEnabled": server.protection.auto_rotation,
    }
    if key is not None:
        properties |= {"uri": key.location.uri, "thumbprint": key.thumbprint, "keyVersion": key.version}
    return _child(server, "encryptionProtector/current", KINDS[kind], properties)


def _child(server: Server, path: str, kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    collection, name = path.split("/")
    return {
        "kind": kind,
        "location": server.location,
        "properties": properties,
        "id": f"{server.id}/{path}",
        "name": name,
        "type": f"{SQL}/{collection}",
    }


def database_shown(
    database: Database, identities: AssignedIdentities, *, group: FailoverGroup | None, with_keys: bool
) -> dict[str, Any]:
    """The whole database; its list of keys only if the caller expands it."""
    sku = database.sku or {"name": "GP_Gen5", "tier": "GeneralPurpose", "family": "Gen5", "capacity": 2}
    properties: dict[str, Any] = {
        "collation": "SQL_Latin1_General_CP1_CI_AS",
        "maxSizeBytes": 34359738368,
        "zoneRedundant": False,
        "readScale": "Disabled",
        "requestedBackupStorageRedundancy": "Geo",
        **database.settings,
        "status": database.status,
        "databaseId": database.id_number,
        "creationDate": short_fraction(database.created),
        "currentServiceObjectiveName": sku["name"],
        "requestedServiceObjectiveName": sku["name"],
        "currentSku": sku,
        "currentBackupStorageRedundancy": "Geo",
        "isInfraEncryptionEnabled": False,
    }
    if database.replica_of is not None:
        properties["secondaryType"] = "Geo"
    if group is not None:
        properties["failoverGroupId"] = f"{database.server.id}/failoverGroups/{group.name}"
    if database.own is not None:
        key = database.own.key
        properties |= {
            "encryptionProtector": key.location.uri if key else None,
            "encryptionProtectorAutoRotation": database.own.auto_rotation,
        }
        if database.federated_client_id:
            properties["federatedClientId"] = database.federated_client_id
    if with_keys:
        properties["keys"] = {
            one.location.uri: {
                "type": AZURE_KEY_VAULT,
                "thumbprint": one.thumbprint,
                "creationDate": short_fraction(one.created),
                "keyVersion": one.version,
            }
            for one in database.keys.values()
        }
    shown: dict[str, Any] = {
        "sku": sku,
        "kind": "v12.0,user,vcore",
        "properties": properties,
        "location": database.location,
        "tags": database.tags,
        "id": database.id,
        "name": database.name,
        "type": f"{SQL}/databases",
    }
    if database.identity.user_assigned:
        shown["identity"] = identities.shown(database.identity, database.server.tenant_id)
    return shown


def master_shown(server: Server) -> dict[str, Any]:
    """The system database of a server."""
    properties = {
        "collation": "SQL_Latin1_General_CP1_CI_AS",
        "maxSizeBytes": 32212254720,
        "status": "Online",
        "creationDate": short_fraction(server.created),
        "currentServiceObjectiveName": "System0",
        "requestedServiceObjectiveName": "System0",
        "zoneRedundant": False,
        "isInfraEncryptionEnabled": False,
    }
    return {
        "sku": {"name": "System", "tier": "System", "capacity": 0},
        "kind": "v12.0,system",
        "properties": properties,
        "location": server.location,
        "id": f"{server.id}/databases/{MASTER}",
        "name": MASTER,
        "type": f"{SQL}/databases",
    }


def link_shown(database: Database, partner: Database) -> dict[str, Any]:
    """A replication link as the server of `database` tells it."""
    primary = partner.replica_of is database
    name = f"{partner.server.name}.{partner.name}"
    return {
        "id": f"{database.id}/replicationLinks/{name}",
        "name": name,
        "type": f"{SQL}/databases/replicationLinks",
        "properties": {
            "partnerServer": partner.server.name,
            "partnerDatabase": partner.name,
            "partnerDatabaseId": partner.id,
            "partnerLocation": partner.location,
            "role": "Primary" if primary else "Secondary",
            "partnerRole": "Secondary" if primary else "Primary",
            "replicationMode": "ASYNC",
            "startTime": short_fraction((partner if primary else database).created),
            "percentComplete": 100,
            "replicationState": "CATCH_UP",
            "isTerminationAllowed": True,
            "linkType": "GEO",
        },
    }


def failover_group_shown(group: FailoverGroup, seen_from: Server) -> dict[str, Any]:
    """The group as one of its servers tells it: each is told about the others."""
    primary = seen_from is group.primary
    others = group.partners if primary else [group.primary]
    databases = [f"{seen_from.id}/databases/{name}" for name in group.databases]
    return {
        "location": seen_from.location,
        "tags": group.tags,
        "id": f"{seen_from.id}/failoverGroups/{group.name}",
        "name": group.name,
        "type": f"{SQL}/failoverGroups",
        "properties": {
            "readWriteEndpoint": group.read_write,
            "readOnlyEndpoint": group.read_only,
            "replicationRole": "Primary" if primary else "Secondary",
            "replicationState": "CATCH_UP",
            "partnerServers": [
                {"id": one.id, "location": one.location, "replicationRole": "Secondary" if primary else "Primary"}
                for one in others
            ],
            "databases": databases,
        },
    }
