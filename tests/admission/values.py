"""Values for every field with a rule: those that are admitted, and for each rule those that it refuses, with its words."""

from __future__ import annotations

from typing import Any

from tests.admission.manifests import (
    ACCOUNT,
    DISK,
    DISK_ENCRYPTION_SET,
    GROUP,
    GUID,
    IDENTITY,
    KEY,
    KEY_VAULT,
    SQL_SERVER,
    SUBSCRIPTION,
    VARIANTS,
    VERSION,
)

_HOST = "keyUri host must be a Key Vault, ending in .vault.azure.net, .vault.usgovcloudapi.net or .vault.azure.cn"
_FORM = (
    "keyUri must be https://<vault>.<suffix>/keys/<name>, optionally followed by /<version> of 32 lower-case hexadecimal digits"
)
_SLASH = "keyUri may not end with a slash: leave the version out to follow the latest"
_SECRET = "keyUri must name a key, under /keys/, not a secret or certificate"  # noqa: S105 - a message about secrets
_PORT = "keyUri may not name a port: Key Vault listens on 443 only"
_HYPHENS = "keyUri must name a vault, and no vault has two hyphens in a row in its name"
_QUERY = "keyUri may not carry a query or a fragment"
_USER = "keyUri may not carry user info"
_HTTPS = "keyUri must start with https://"
_HSM = "keyUri names a managed HSM: only keys in a Key Vault are supported"
_APPROVAL = "approval Manual needs apply Immediately: on their own schedule Azure's services do not wait for an approval"
_HOLD = "holdSupersededFor must be at least 24h: Azure's services check for new versions once a day"
_LONG_HOLD = "holdSupersededFor may be at most 876000h (100 years)"
_RETENTION = "backupRetention may be at most 876000h (100 years)"
_SCOPE = "an allowed scope must be the id of a subscription, resource group or resource, without a trailing slash"
_VAULT = "an allowed vault must be a Key Vault host in lower case, such as contoso.vault.azure.net"
_RESOURCE = "resourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/<namespace>/<type>/<name>"
_IDENTITY = "resourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>"

_KEY_VAULT = "vaultResourceId must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.KeyVault/vaults/<name>"
_SET = "diskEncryptionSetId must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.Compute/diskEncryptionSets/<name>"
_CROSS_TENANT = "needs its key vault in its own tenant, so it cannot be encrypted with a customer's key from another tenant"
_ENTRY = {"secretRef": {"name": "vault", "key": "secret"}}
_OTHER_ENTRY = {"secretRef": {"name": "vault", "key": "certificate"}}
_REGISTRATION = {"clientId": GUID, "credentials": [_ENTRY]}
_KEPT = "keyUri, access and confirmation have no effect without mode: set mode to CustomerManaged, or to PlatformManaged if they are only kept"
_NEEDED = "mode CustomerManaged needs tenantRef, keyUri and access"
_CONFIRMATION = "mode CustomerManaged needs confirmation, and it must repeat organization.name: if the key is lost, the organization's data is lost"
_NO_KEY = {"mode": None, "confirmation": None, "keyUri": None, "access": None}
_SNOWFLAKE = VARIANTS["encryptedresources", "snowflake"]
_CREATION = VARIANTS["encryptedresources", "diskEncryptionSet"]
_PLACEMENT = VARIANTS["encryptedresources", "disk"]
_SERVER = VARIANTS["encryptedresources", "sqlServer"]
_REGISTERED_APPLICATION = VARIANTS["federatedidentities", "application.register"]
_REGISTERED_IDENTITY = VARIANTS["federatedidentities", "managedIdentity.register"]

ADMITTED: dict[tuple[str, str], list[Any]] = {
    ("customermanagedkeys", "keyUri"): [
        KEY,
        f"{KEY}/{VERSION}",
        "https://abc.vault.azure.net/keys/k",
        "https://a-b-c.vault.azure.cn/keys/K-1",
        "https://abc.vault.usgovcloudapi.net/keys/0",
        f"https://{'a' * 24}.vault.azure.net/keys/{'k' * 127}/{VERSION}",
    ],
    ("customermanagedkeys", "vaultResourceId"): [
        KEY_VAULT,
        KEY_VAULT.lower(),
        KEY_VAULT.replace("resourceGroups", "RESOURCEGROUPS"),
    ],
    ("customermanagedkeys", "rotation"): [
        {"apply": "Immediately", "approval": "Manual"},
        {"apply": "AzureSchedule", "approval": "Automatic"},
        {"approval": "Automatic"},
        {},
    ],
    ("customermanagedkeys", "rotation.holdSupersededFor"): ["24h", "36h30m", "1440m", "86400s", "8760h"],
    ("customermanagedkeys", "rotation.backupRetention"): ["0s", "90m", "840h", "1h1m1s", "876000h"],
    ("organizationkeys", ""): [
        {"mode": "CustomerManaged"},
        {"mode": "CustomerManaged", "access": {"application": {}}},
        _NO_KEY,
        _NO_KEY | {"tenantRef": None, "mode": "PlatformManaged"},
    ],
    ("organizationkeys", "access"): [{"application": {}}, {"registration": _REGISTRATION}],
    ("organizationkeys", "administrators[]"): [{"subject": "s"}, {"group": "g"}],
    ("organizationkeys", "viewers[]"): [{"subject": "s"}, {"group": "g"}],
    ("organizationkeys", "access.registration.credentials"): [[_ENTRY], [_ENTRY, _OTHER_ENTRY]],
    ("organizationkeys", "rotation.checkInterval"): ["1m", "60s", "24h", "1h30m"],
    ("organizationkeys", "revocation.probeInterval"): ["1s", "60s", "15m"],
    ("organizationkeys", "revocation.outageGrace"): ["0s", "10m", "60m", "1h"],
    ("customertenants", "allowedScopes[]"): [
        SUBSCRIPTION,
        GROUP,
        GROUP.replace("resourceGroups", "resourcegroups"),
        ACCOUNT,
        f"{ACCOUNT}/blobServices/default",
    ],
    ("customertenants", "notifications.sink"): [
        "https://hooks.example.com",
        "https://hooks.example.com/",
        "https://receiver.monitoring.svc:8443/events/cmk?code=a%2Fb&x=1",
        "https://10.0.0.7:443/events",
    ],
    ("customertenants", "allowedVaults[]"): [
        "contoso.vault.azure.net",
        "abc.vault.usgovcloudapi.net",
        "a-b.vault.azure.cn",
        f"{'a' * 24}.vault.azure.net",
    ],
    ("encryptedresources", "resourceId"): [
        ACCOUNT,
        ACCOUNT.upper(),
        f"{GROUP}/providers/Microsoft.Example/things/x",
        f"{GROUP}/providers/Microsoft.Sql/servers/s/databases/my db",
    ],
    ("encryptedresources", ""): [
        _SNOWFLAKE,
        _SNOWFLAKE | {"requireFullCoverage": None},
        {"requireFullCoverage": False},
        _CREATION,
        _PLACEMENT,
        _SERVER,
        {"resourceId": DISK_ENCRYPTION_SET},
        {"resourceId": SQL_SERVER.lower(), "sqlServer": {}},
        _PLACEMENT | {"resourceId": DISK.replace("disks", "Disks")},
    ],
    ("encryptedresources", "disk.diskEncryptionSetId"): [DISK_ENCRYPTION_SET, DISK_ENCRYPTION_SET.upper()],
    ("federatedidentities", "managedIdentity.resourceId"): [IDENTITY, IDENTITY.lower()],
    ("federatedidentities", "application"): [
        {"clientId": GUID},
        {"clientId": GUID, "displayName": "Fabrikam CMK"},
        {"register": {"displayName": "Fabrikam CMK"}},
    ],
    ("federatedidentities", "managedIdentity"): [
        {"resourceId": IDENTITY, "clientId": GUID},
        {"resourceId": IDENTITY, "register": {"location": "West Europe"}},
    ],
    ("federatedidentities", ""): [
        {"registrar": None},
        _REGISTERED_APPLICATION,
        _REGISTERED_IDENTITY,
        _REGISTERED_APPLICATION | _REGISTERED_IDENTITY,
    ],
}

REFUSED: dict[tuple[str, str], dict[str, list[Any]]] = {
    ("customermanagedkeys", "keyUri"): {
        _HTTPS: [
            "http://contoso.vault.azure.net/keys/k",
            "contoso.vault.azure.net/keys/k",
            "",
            "HTTPS://x",
            " https://x",
            "ftp://x",
        ],
        _USER: [
            "https://user@contoso.vault.azure.net/keys/k",
            "https://contoso.vault.azure.net@evil.example/keys/k",
            "https://a:b@c/keys/k",
        ],
        _PORT: [
            "https://contoso.vault.azure.net:8443/keys/k",
            "https://contoso.vault.azure.net:443/keys/k",
            "https://[::1]/keys/k",
        ],
        _QUERY: [f"{KEY}?api-version=7.6", f"{KEY}#x", f"{KEY}?", "https://evil.example?.vault.azure.net/keys/k"],
        _HSM: ["https://contoso.managedhsm.azure.net/keys/k"],
        _HOST: [
            "https://evil.example/keys/k",
            "https://contoso.vault.azure.net.evil.example/keys/k",
            "https://contosovault.azure.net/keys/k",
            "https://vault.azure.net/keys/k",
            "https://CONTOSO.VAULT.AZURE.NET/keys/k",
            "https://contoso.vault.azure.net./keys/k",
            "https://127.0.0.1/keys/k",
            "https://169.254.169.254/metadata",
            "https://contoso.vault.azure.net\\.evil.example/keys/k",
        ],
        _HYPHENS: ["https://con--toso.vault.azure.net/keys/k"],
        _SECRET: ["https://contoso.vault.azure.net/secrets/s", "https://contoso.vault.azure.net/certificates/c"],
        _SLASH: [f"{KEY}/", "https://contoso.vault.azure.net/"],
        _FORM: [
            "https://contoso.vault.azure.net",
            "https://contoso.vault.azure.net/keys",
            "https://contoso.vault.azure.net//keys/k",
            f"{KEY}/latest",
            f"{KEY}/{VERSION.upper()}",
            f"{KEY}/{VERSION}/x",
            "https://contoso.vault.azure.net/keys/k_1",
            "https://contoso.vault.azure.net/keys/../keys/k",
            "https://contoso.evil.vault.azure.net/keys/k",
            "https://ab.vault.azure.net/keys/k",
            f"https://{'a' * 25}.vault.azure.net/keys/k",
            "https://1ab.vault.azure.net/keys/k",
            f"{KEY}\n",
            "https://a\N{KELVIN SIGN}b.vault.azure.net/keys/k",
        ],
    },
    ("customermanagedkeys", "vaultResourceId"): {
        _KEY_VAULT: [
            "contoso",
            GROUP,
            ACCOUNT,
            f"{KEY_VAULT}/keys/storage",
            f"{KEY_VAULT}/",
            KEY_VAULT.replace("contoso", "c!"),
            "https://contoso.vault.azure.net",
        ]
    },
    ("customermanagedkeys", "rotation"): {
        _APPROVAL: [{"approval": "Manual"}, {"apply": "AzureSchedule", "approval": "Manual"}]
    },
    ("customermanagedkeys", "rotation.holdSupersededFor"): {_HOLD: ["23h59m59s", "0s", "90m", "1h"], _LONG_HOLD: ["876001h"]},
    ("customermanagedkeys", "rotation.backupRetention"): {_RETENTION: ["876001h", "2000000h"]},
    ("organizationkeys", ""): {
        _KEPT: [
            {"mode": None},
            _NO_KEY | {"keyUri": KEY},
            _NO_KEY | {"access": {"application": {}}},
            _NO_KEY | {"confirmation": "x"},
        ],
        _NEEDED: [
            {"mode": "CustomerManaged", "tenantRef": None},
            {"mode": "CustomerManaged", "keyUri": None},
            {"mode": "CustomerManaged", "access": None},
        ],
        _CONFIRMATION: [
            {"mode": "CustomerManaged", "confirmation": None},
            {"mode": "CustomerManaged", "confirmation": "acme corp"},
            {"mode": "CustomerManaged", "confirmation": "acme"},
        ],
    },
    ("organizationkeys", "access"): {
        "access needs either application or registration, but not both": [
            {},
            {"application": {}, "registration": _REGISTRATION},
        ]
    },
    **{
        ("organizationkeys", f"{members}[]"): {
            "a member needs either subject or group, but not both": [{}, {"subject": "s", "group": "g"}]
        }
        for members in ("administrators", "viewers")
    },
    ("organizationkeys", "access.registration.credentials"): {
        "credentials name the same entry twice: name the new one beside the old one, or only one": [[_ENTRY, _ENTRY]]
    },
    ("organizationkeys", "rotation.checkInterval"): {"checkInterval must be from 1m to 24h": ["59s", "0s", "25h"]},
    ("organizationkeys", "revocation.probeInterval"): {"probeInterval must be from 1s to 15m": ["0s", "16m"]},
    ("organizationkeys", "revocation.outageGrace"): {"outageGrace may be at most 60m": ["61m", "3601s"]},
    ("customertenants", "allowedScopes[]"): {
        _SCOPE: [
            "/",
            "/subscriptions",
            f"{SUBSCRIPTION}/",
            f"{GROUP}/",
            f"{SUBSCRIPTION}/resourceGroups",
            f"{GROUP}/providers/Microsoft.Storage/storageAccounts",
            GUID,
            "/subscriptions/all",
            "*",
            f"/{GROUP}",
        ]
    },
    ("customertenants", "notifications.sink"): {
        "sink must start with https://: notifications name keys and resources": [
            "http://hooks.example.com/",
            "ftp://x",
            "hooks.example.com",
        ],
        "sink may not carry user info: use secretRef to sign notifications instead": [
            "https://user:password@hooks.example.com/",
            "https://a@b",
        ],
        "sink may not carry a fragment": ["https://hooks.example.com/#here"],
        "sink must be https://<host>[:<port>][/<path>][?<query>], without spaces": [
            "https://",
            "https:///events",
            "https://hooks example/",
            "https://hooks.example.com/a b",
            "https://hooks.example.com:port/",
            "https://[::1]/",
        ],
    },
    ("customertenants", "allowedVaults[]"): {
        _VAULT: [
            "Contoso.vault.azure.net",
            "contoso.vault.azure.net/",
            "https://contoso.vault.azure.net",
            "contoso.vault.azure.net:443",
            "*.vault.azure.net",
            "vault.azure.net",
            "evil.example",
            "a.b.vault.azure.net",
            "contoso.managedhsm.azure.net",
        ]
    },
    ("encryptedresources", "resourceId"): {
        "resourceId may not end with a slash": [f"{ACCOUNT}/", "/"],
        _RESOURCE: [
            "contosodata",
            GROUP,
            SUBSCRIPTION,
            f"{GROUP}/providers/Microsoft.Storage/storageAccounts",
            f"/{ACCOUNT}",
            ACCOUNT.replace("resourceGroups", "groups"),
            f"{SUBSCRIPTION}//resourceGroups/x/providers/a/b/c",
            "https://contosodata.blob.core.windows.net",
        ],
        f"Event Hubs {_CROSS_TENANT}": [
            f"{GROUP}/providers/Microsoft.EventHub/namespaces/x",
            f"{GROUP}/providers/microsoft.eventhub/clusters/x",
        ],
        f"Databricks {_CROSS_TENANT}": [f"{GROUP}/providers/Microsoft.Databricks/workspaces/x"],
        f"Azure Monitor {_CROSS_TENANT}": [
            f"{GROUP}/providers/Microsoft.OperationalInsights/clusters/x",
            f"{GROUP}/providers/Microsoft.Insights/components/x",
        ],
    },
    ("encryptedresources", ""): {
        "set exactly one target: resourceId or snowflake": [
            {"resourceId": None},
            {"snowflake": _SNOWFLAKE["snowflake"]},
        ],
        "diskEncryptionSet is for a resourceId of type Microsoft.Compute/diskEncryptionSets only": [
            {"diskEncryptionSet": _CREATION["diskEncryptionSet"]},
            _SNOWFLAKE | {"diskEncryptionSet": _CREATION["diskEncryptionSet"]},
        ],
        "disk is required for a resourceId of type Microsoft.Compute/disks, and for no other": [
            {"resourceId": DISK},
            {"disk": _PLACEMENT["disk"]},
            _SNOWFLAKE | {"disk": _PLACEMENT["disk"]},
        ],
        "requireFullCoverage is for a resourceId only: Snowflake does not report which data its key does not protect": [
            _SNOWFLAKE | {"requireFullCoverage": True},
        ],
        "sqlServer is for a resourceId of type Microsoft.Sql/servers only": [
            {"sqlServer": {}},
            {"resourceId": f"{SQL_SERVER}/databases/d", "sqlServer": {}},
        ],
    },
    ("encryptedresources", "disk.diskEncryptionSetId"): {
        _SET: [GUID, ACCOUNT, f"{DISK_ENCRYPTION_SET}/", DISK, f"{DISK_ENCRYPTION_SET}/x/y"]
    },
    ("federatedidentities", "managedIdentity.resourceId"): {
        _IDENTITY: [GUID, ACCOUNT, f"{IDENTITY}/", f"{IDENTITY}/x/y", GROUP, IDENTITY.replace("Microsoft.", "Microsoft")]
    },
    ("federatedidentities", "application"): {
        "application needs either clientId (of an existing application) or register, but not both": [
            {},
            {"displayName": "Fabrikam CMK"},
            {"clientId": GUID, "register": {"displayName": "Fabrikam CMK"}},
        ],
        "displayName belongs inside register if the operator registers the application": [
            {"register": {"displayName": "Fabrikam CMK"}, "displayName": "Fabrikam CMK"},
        ],
    },
    ("federatedidentities", "managedIdentity"): {
        "managedIdentity needs either clientId (of an existing identity) or register, but not both": [
            {"resourceId": IDENTITY},
            {"resourceId": IDENTITY, "clientId": GUID, "register": {"location": "westeurope"}},
        ]
    },
    ("federatedidentities", ""): {
        "registrar is required if the operator registers application or managedIdentity": [
            _REGISTERED_APPLICATION | {"registrar": None},
            _REGISTERED_IDENTITY | {"registrar": None},
            _REGISTERED_APPLICATION | _REGISTERED_IDENTITY | {"registrar": None},
        ]
    },
}

UNCHANGEABLE: dict[tuple[str, str], object] = {
    ("customermanagedkeys", "tenantRef"): {"name": "other"},
    ("customertenants", "tenantId"): "22222222-2222-4222-8222-222222222222",
    ("encryptedresources", "resourceId"): ACCOUNT.replace("contosodata", "otherdata"),
    ("encryptedresources", ""): _SNOWFLAKE,
    ("federatedidentities", "tenantId"): "22222222-2222-4222-8222-222222222222",
    ("organizationkeys", "organization.id"): "other",
    ("organizationkeys", "organization.name"): "Other Corp",
}
"""Fields that may not change, with another value that would be good by itself."""

ADMITTED["organizationkeys", "keyUri"] = ADMITTED["customermanagedkeys", "keyUri"]
REFUSED["organizationkeys", "keyUri"] = REFUSED["customermanagedkeys", "keyUri"]
