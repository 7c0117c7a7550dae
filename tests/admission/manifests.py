"""A good manifest of each kind, the values that are judged, and what the definitions say."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

API_VERSION = "cmk-operator.dev/v1alpha1"
CRDS = Path(__file__).resolve().parents[2] / "crds"
GUID = "11111111-1111-4111-8111-111111111111"
OTHER_GUID = "22222222-2222-4222-8222-222222222222"
SUBSCRIPTION = f"/subscriptions/{GUID}"
GROUP = f"{SUBSCRIPTION}/resourceGroups/rg-contoso"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/contosodata"
DISK = f"{GROUP}/providers/Microsoft.Compute/disks/data"
DISK_ENCRYPTION_SET = f"{GROUP}/providers/Microsoft.Compute/diskEncryptionSets/contoso"
SQL_SERVER = f"{GROUP}/providers/Microsoft.Sql/servers/contoso"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cmk"
KEY_VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/contoso"
KEY = "https://contoso.vault.azure.net/keys/storage"
VERSION = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Kind:
    """A kind, and a manifest of it in which every field is set."""

    plural: str
    name: str
    namespaced: bool
    spec: dict[str, Any]
    optional: tuple[str, ...]
    """Paths of fields that may be absent."""


ORGANIZATION: dict[str, Any] = {
    "organization": {"id": "acme", "name": "Acme Corp", "region": "westeurope"},
    "mode": "PlatformManaged",
    "confirmation": "Acme Corp",
    "tenantRef": {"name": "contoso"},
    "keyUri": KEY,
    "access": {
        "registration": {
            "clientId": GUID,
            "credentials": [
                {"secretRef": {"name": "vault", "key": "secret"}, "expires": "2027-06-01T00:00:00Z"},
                {"secretRef": {"name": "vault", "key": "certificate"}},
            ],
        }
    },
    "rotation": {"checkInterval": "1h", "approval": "Automatic"},
    "revocation": {"probeInterval": "60s", "outageGrace": "10m"},
    "backupRetention": "35d",
    "administrators": [{"subject": "s-1"}, {"group": "g-1"}],
    "viewers": [{"group": "g-2"}],
}
"""The spec of an OrganizationKey in which every field is set."""

KINDS = {
    kind.plural: kind
    for kind in (
        Kind(
            "federatedidentities",
            "FederatedIdentity",
            namespaced=False,
            spec={
                "cloud": "AzurePublic",
                "tenantId": GUID,
                "application": {"clientId": GUID, "displayName": "Fabrikam CMK"},
                "managedIdentity": {"resourceId": IDENTITY, "clientId": GUID},
                "registrar": {"clientId": GUID},
                "operatorCredential": "ManagedIdentity",
            },
            optional=("cloud", "application.displayName", "registrar", "operatorCredential"),
        ),
        Kind(
            "customertenants",
            "CustomerTenant",
            namespaced=False,
            spec={
                "tenantId": GUID,
                "identityRef": {"name": "provider"},
                "allowedNamespaces": ["team-a"],
                "allowedScopes": [GROUP],
                "allowedVaults": ["contoso.vault.azure.net"],
                "notifications": {
                    "sink": "https://hooks.example.com/events",
                    "secretRef": {"name": "webhook", "namespace": "cmk-operator", "key": "secret"},
                },
            },
            optional=("notifications.secretRef.namespace", "notifications.secretRef", "notifications"),
        ),
        Kind(
            "customermanagedkeys",
            "CustomerManagedKey",
            namespaced=True,
            spec={
                "tenantRef": {"name": "contoso"},
                "keyUri": KEY,
                "vaultResourceId": KEY_VAULT,
                "rotation": {
                    "apply": "Immediately",
                    "approval": "Automatic",
                    "holdSupersededFor": "24h",
                    "backupRetention": "840h",
                },
                "prerequisites": "Enforce",
            },
            optional=("vaultResourceId", "rotation.holdSupersededFor", "rotation.backupRetention", "rotation", "prerequisites"),
        ),
        Kind(
            "encryptedresources",
            "EncryptedResource",
            namespaced=True,
            spec={
                "keyRef": {"name": "storage"},
                "resourceId": ACCOUNT,
                "mode": "Enforce",
                "requireFullCoverage": True,
                "deletionPolicy": "Orphan",
            },
            optional=("mode", "requireFullCoverage", "deletionPolicy"),
        ),
        Kind(
            "organizationkeys",
            "OrganizationKey",
            namespaced=True,
            spec=deepcopy(ORGANIZATION),
            optional=(
                "organization.region",
                "mode",
                "confirmation",
                "tenantRef",
                "keyUri",
                "access",
                "rotation",
                "revocation",
                "backupRetention",
                "administrators",
                "viewers",
            ),
        ),
        Kind(
            "preflights",
            "Preflight",
            namespaced=True,
            spec={
                "keys": [{"name": "storage", "spec": {"tenantRef": {"name": "contoso"}, "keyUri": KEY}}],
                "resources": [{"name": "data", "spec": {"keyRef": {"name": "storage"}, "resourceId": ACCOUNT}}],
                "organizationKeys": [{"name": "acme", "spec": deepcopy(ORGANIZATION)}],
            },
            optional=("keys", "resources", "organizationKeys"),
        ),
    )
}


VARIANTS: dict[tuple[str, str], dict[str, Any]] = {
    ("encryptedresources", "snowflake"): {
        "resourceId": None,
        "requireFullCoverage": False,
        "snowflake": {
            "account": "contoso-prod",
            "user": "CMK_OPERATOR",
            "role": "ACCOUNTADMIN",
            "privateKeySecretRef": {"name": "snowflake", "key": "privateKey", "passphraseKey": "passphrase"},
            "networkRules": True,
        },
    },
    ("encryptedresources", "diskEncryptionSet"): {
        "resourceId": DISK_ENCRYPTION_SET,
        "diskEncryptionSet": {"location": "westeurope", "encryptionType": "EncryptionAtRestWithCustomerKey"},
    },
    ("encryptedresources", "disk"): {"resourceId": DISK, "disk": {"diskEncryptionSetId": DISK_ENCRYPTION_SET}},
    ("encryptedresources", "sqlServer"): {"resourceId": SQL_SERVER, "sqlServer": {"switchThroughServiceManagedKey": True}},
    ("organizationkeys", "access.application"): {"access": {"application": {}}},
    ("federatedidentities", "application.register"): {"application": {"register": {"displayName": "Fabrikam CMK"}}},
    ("federatedidentities", "managedIdentity.register"): {
        "managedIdentity": {"resourceId": IDENTITY, "register": {"location": "westeurope"}}
    },
}
"""What a manifest needs instead, when it has a field that does not go with those of `KINDS` (None takes a field away)."""


def manifest(plural: str, name: str, namespace: str = "admission", *, having: str = "") -> dict[str, Any]:
    """A good manifest in which every field is set; `having` is a path below spec that it must have."""
    kind = KINDS[plural]
    metadata = {"name": name, "namespace": namespace} if kind.namespaced else {"name": name}
    parts = having.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    variant = next((VARIANTS[plural, path] for path in above if (plural, path) in VARIANTS), {})
    spec = deepcopy(kind.spec) | deepcopy(variant)
    present = {field: value for field, value in spec.items() if value is not None}
    return {"apiVersion": API_VERSION, "kind": kind.name, "metadata": metadata, "spec": present}


def minimal(plural: str, name: str) -> dict[str, Any]:
    """A good manifest in which only what must be set is."""
    small = manifest(plural, name)
    for path in KINDS[plural].optional:
        remove(small["spec"], path)
    return small


def put(spec: dict[str, Any], path: str, value: Any) -> None:
    """Set a field by its path below spec; `[]` at the end puts the value into a list of its own, before that it is the first.

    An empty path sets the fields of `value`, or takes away those that are None in it.
    """
    if not path:
        spec.update(value)
        return
    *parents, last = path.removesuffix("[]").split(".")
    for name in parents:
        spec = spec[name.removesuffix("[]")][0] if name.endswith("[]") else spec.setdefault(name, {})
    spec[last] = [value] if path.endswith("[]") else value


def remove(spec: dict[str, Any], path: str) -> None:
    """Take a field away by its path below spec."""
    *parents, last = path.split(".")
    for name in parents:
        spec = spec[name.removesuffix("[]")][0] if name.endswith("[]") else spec[name]
    del spec[last]


def with_value(plural: str, path: str, value: Any) -> dict[str, Any]:
    """A good manifest but for one value."""
    changed = manifest(plural, "judged", having=path)
    put(changed["spec"], path, value)
    changed["spec"] = {field: given for field, given in changed["spec"].items() if given is not None or path}
    return changed


@dataclass(frozen=True)
class Rule:
    """One CEL rule: where it stands, and what it says to who breaks it."""

    plural: str
    path: str
    message: str
    cel: str

    @property
    def is_of_change(self) -> bool:
        """Whether it compares with the old object, so that the API server skips it for a new one."""
        return "oldSelf" in self.cel


def spec_schemas() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every node of every kind's spec: plural, path below spec, schema."""
    for plural in KINDS:
        definition = yaml.safe_load((CRDS / f"cmk-operator.dev_{plural}.yaml").read_text(encoding="utf-8"))
        whole = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        yield from ((plural, path, schema) for path, schema in _nodes(whole["properties"]["spec"], ""))


def _nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _nodes(inner, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _nodes(schema["items"], f"{path}[]")


def rules() -> list[Rule]:
    """Every CEL rule of every definition."""
    return [
        Rule(plural, path, rule["message"], rule["rule"])
        for plural, path, schema in spec_schemas()
        for rule in schema.get("x-kubernetes-validations", ())
    ]
