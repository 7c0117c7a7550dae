"""Facts, probes and objects that tests vary: each is healthy unless told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from cmk_operator.api.customer_managed_key import CustomerManagedKey
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.encrypted_resource import EncryptedResource
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.core.access.state import DeletedKey, KeyAttributes, KeyProbe, VersionProbe
from cmk_operator.core.access.verdict import SHOWS_WITHIN
from cmk_operator.core.encryption.protection import OnKey, Protection
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KeyUri, parse_key_uri
from cmk_operator.core.prerequisites.check import PrerequisiteFacts
from cmk_operator.core.prerequisites.vault_facts import VaultFacts, VaultLock, vault_facts, vault_lock
from cmk_operator.core.rotation.azure_use import UseInAzure

NOW: Final = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
LATER: Final = NOW + timedelta(hours=5)

PROVIDER: Final = "11111111-1111-4111-8111-111111111111"
CUSTOMER: Final = "22222222-2222-4222-8222-222222222222"
APPLICATION: Final = "33333333-3333-4333-8333-333333333333"
CLIENT: Final = "44444444-4444-4444-8444-444444444444"
PRINCIPAL: Final = "55555555-5555-4555-8555-555555555555"
SUBSCRIPTION: Final = "66666666-6666-4666-8666-666666666666"

VAULT: Final = "contoso.vault.azure.net"
KEY: Final = f"https://{VAULT}/keys/storage"
V1, V2, V3 = "1" * 32, "2" * 32, "3" * 32
LISTED: Final = UseInAzure(listed_at=NOW + timedelta(days=3650), parts_at=NOW + timedelta(days=3650))
"""Every list of Azure was read, after everything that a test does, and shows nothing."""
AZURE_FAULT: Final = blocked(
    Reason.AUTHORIZATION_FAILED,
    "the lists may not be read: the provider's administrator must assign Reader",
    Actor.PROVIDER_ADMINISTRATOR,
)
GROUP: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-contoso"
ACCOUNT: Final = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/contosodata"
CUSTOMER_VAULT: Final = (
    "/subscriptions/77777777-7777-4777-8777-777777777777/resourceGroups/rg-keys/providers/Microsoft.KeyVault/vaults/contoso"
)
IDENTITY: Final = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-provider/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cmk"
)


def uri_of(protection: Protection) -> KeyUri:
    """The key of a resource that is on one."""
    assert isinstance(protection, OnKey)
    return protection.uri


def attributes(version: str = V1, **changes: Any) -> KeyAttributes:
    """An enabled RSA 2048 key version in a vault with purge protection."""
    healthy: dict[str, Any] = {
        "version": version,
        "enabled": True,
        "key_type": "RSA",
        "key_size": 2048,
        "operations": ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"),
        "created": NOW - timedelta(days=30),
        "recovery_level": "Recoverable",
        "recoverable_days": 90,
    }
    return KeyAttributes(**(healthy | changes))


def healthy(version: str = V1, **changes: Any) -> VersionProbe:
    """A version that was read, wrapped and unwrapped."""
    return VersionProbe(attributes(version, **changes), round_trip=True)


def disabled(version: str = V1) -> VersionProbe:
    """A version that was read and is disabled."""
    return VersionProbe(attributes(version, enabled=False))


def refused(failure: AzureFailure, operation: str = "get", known: KeyAttributes | None = None) -> VersionProbe:
    """A version at which a call failed."""
    return VersionProbe(known, failure, operation)


def forbidden(inner_code: str, code: str = "Forbidden") -> AzureFailure:
    """Key Vault's 403 with an inner code."""
    return AzureFailure(403, code, "Operation is not allowed.", inner_code, request_id="one-request")


NOT_FOUND: Final = AzureFailure(404, "KeyNotFound", "A key with (name/id) storage was not found in this key vault.")
UNREACHABLE: Final = AzureFailure(503, "ServiceUnavailable", "try later")


def entra(code: int, stage: Stage = Stage.APPLICATION_TOKEN, status: int | None = 400) -> AzureFailure:
    """Entra's refusal, with the trace id and the time that differ on each try."""
    message = f"AADSTS{code}: It is refused. Trace ID: aaaa Correlation ID: bbbb Timestamp: 2026-11-24 12:00:00Z"
    return AzureFailure(status, "invalid_client", message, stage=stage)


def probe(wanted: VersionProbe | None = None, **fields: Any) -> KeyProbe:
    """One visit to the vault."""
    return KeyProbe(NOW, wanted if wanted is not None else healthy(), **fields)


def guard(found: KeyProbe | None = None, uri: str = KEY, **fields: Any) -> PrerequisiteFacts:
    """What prerequisites are judged by: a visit to the key's vault, and nothing of its control plane unless given."""
    return PrerequisiteFacts(found if found is not None else probe(), parse_key_uri(uri), APPLICATION, **fields)


def vault(locks: list[VaultLock] | None = None, **properties: Any) -> VaultFacts:
    """The customer's vault as Resource Manager tells it: purge protection, and no firewall."""
    known = {
        "vaultUri": f"https://{VAULT}/",
        "enableRbacAuthorization": True,
        "enablePurgeProtection": True,
        "softDeleteRetentionInDays": 90,
    }
    return vault_facts({"id": CUSTOMER_VAULT, "location": "West Europe", "properties": known | properties}, locks)


def lock(scope: str, name: str = "cmk", level: str = "CanNotDelete") -> VaultLock:
    """A lock as Resource Manager tells it."""
    found = vault_lock(
        {"id": f"{scope}/providers/microsoft.authorization/locks/{name}", "name": name, "properties": {"level": level}}
    )
    assert found is not None
    return found


def states() -> dict[str, KeyProbe]:
    """A probe for every access state, by the state's name."""
    return {
        "Accessible": probe(),
        "Disabled": probe(disabled()),
        "Expired": probe(healthy(expires=NOW - timedelta(seconds=1))),
        "NotYetValid": probe(healthy(not_before=NOW + timedelta(days=1))),
        "Deleted": probe(refused(NOT_FOUND), deleted=DeletedKey(NOW + timedelta(days=90))),
        "BeingDeletedOrRecovered": probe(refused(NOT_FOUND), latest_exists=False),
        "Missing": probe(refused(NOT_FOUND)),
        "Purged": probe(refused(NOT_FOUND), latest_exists=False, missing_since=NOW - SHOWS_WITHIN),
        "VersionMissing": probe(refused(NOT_FOUND), latest_exists=True),
        "PermissionDenied": probe(refused(forbidden("ForbiddenByRbac"))),
        "ConsentMissing": probe(refused(entra(700016))),
        "VaultInAnotherTenant": probe(refused(UNREACHABLE), vault_tenant=PROVIDER),
        "IdentityBroken": probe(refused(entra(700213))),
        "EntraRefused": probe(refused(entra(999999))),
        "CredentialReplicating": probe(refused(entra(700213)), credential_since=NOW - timedelta(minutes=9)),
        "VersionReplicating": probe(refused(NOT_FOUND, "wrapKey", attributes()), latest_exists=False),
        "OperatorNotAuthenticated": probe(refused(entra(700213, Stage.OPERATOR_TOKEN))),
        "FirewallBlocksProbe": probe(refused(forbidden("ForbiddenByFirewall"))),
        "VaultRefused": probe(refused(forbidden("SomethingNew"))),
        "VaultUnreachable": probe(refused(UNREACHABLE)),
        "Unknown": probe(refused(AzureFailure(429, "Throttled", "slow down", retry_after=10))),
    }


def federated_identity(**body: Any) -> FederatedIdentity:
    """The identity chain."""
    return FederatedIdentity.model_validate(identity_body() | body)


def identity_body(name: str = "provider", **spec: Any) -> dict[str, Any]:
    """A FederatedIdentity as the API server has it."""
    return {
        "metadata": _metadata(name, None),
        "spec": {
            "tenantId": PROVIDER,
            "application": {"clientId": APPLICATION, "displayName": "Fabrikam CMK"},
            "managedIdentity": {"resourceId": IDENTITY, "clientId": CLIENT},
        }
        | spec,
    }


def tenant_body(name: str = "contoso", **spec: Any) -> dict[str, Any]:
    """A CustomerTenant as the API server has it."""
    return {
        "metadata": _metadata(name, None),
        "spec": {
            "tenantId": CUSTOMER,
            "identityRef": {"name": "provider"},
            "allowedNamespaces": ["team-a"],
            "allowedScopes": [GROUP],
            "allowedVaults": [VAULT],
        }
        | spec,
    }


def customer_tenant(**spec: Any) -> CustomerTenant:
    """The customer who allows namespace team-a, one vault and one resource group."""
    return CustomerTenant.model_validate(tenant_body(**spec))


def key_body(name: str = "storage", namespace: str = "team-a", **spec: Any) -> dict[str, Any]:
    """A CustomerManagedKey as the API server has it."""
    return {"metadata": _metadata(name, namespace), "spec": {"tenantRef": {"name": "contoso"}, "keyUri": KEY} | spec}


def customer_managed_key(status: Any = None, **spec: Any) -> CustomerManagedKey:
    """A key that follows the latest version."""
    key = CustomerManagedKey.model_validate(key_body(**spec))
    return key if status is None else key.model_copy(update={"status": status})


def resource_body(name: str = "data", namespace: str = "team-a", **spec: Any) -> dict[str, Any]:
    """An EncryptedResource as the API server has it."""
    return {
        "metadata": _metadata(name, namespace),
        "spec": {"keyRef": {"name": "storage"}, "resourceId": ACCOUNT} | spec,
    }


def encrypted_resource(status: Any = None, **spec: Any) -> EncryptedResource:
    """A storage account that must be on the key."""
    resource = EncryptedResource.model_validate(resource_body(**spec))
    return resource if status is None else resource.model_copy(update={"status": status})


def _metadata(name: str, namespace: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{namespace}-{name}",
        "generation": 1,
        "resourceVersion": "100",
        "creationTimestamp": "2026-11-24T10:00:00Z",
    }
    return metadata if namespace is None else metadata | {"namespace": namespace}


VERSIONS: Final = (V1, V2, V3)
moments: Final = st.integers(0, 400_000).map(lambda minutes: NOW + timedelta(minutes=minutes))
transient_failures: Final = st.builds(
    AzureFailure,
    status=st.one_of(st.none(), st.sampled_from([408, 429]), st.integers(500, 599)),
    code=st.sampled_from(["Timeout", "ConnectionFailed", "Throttled", "InternalServerError", "", "KeyDisabled", "Forbidden"]),
    message=st.text(max_size=30).filter(lambda text: "AADSTS" not in text),
    inner_code=st.sampled_from(["", "KeyDisabled", "ForbiddenByRbac"]),
    retry_after=st.one_of(st.none(), st.floats(0, 900)),
    stage=st.sampled_from(list(Stage)),
)
_refusals: Final = st.one_of(
    transient_failures,
    st.sampled_from(["KeyDisabled", "ForbiddenByRbac", "ForbiddenByPolicy", "ForbiddenByFirewall", "Unheard"]).map(forbidden),
    st.builds(
        entra,
        st.sampled_from([700016, 7000112, 90002, 70021, 700213, 700236, 53003, 90033, 999999]),
        st.sampled_from([Stage.APPLICATION_TOKEN, Stage.OPERATOR_TOKEN]),
    ),
    st.just(NOT_FOUND),
    st.just(AzureFailure(401, "Unauthorized", "AKV10032: Invalid issuer.")),
)


def version_probes(version: str) -> st.SearchStrategy[VersionProbe]:
    """Anything that a visit may learn of one version."""
    known = st.builds(
        attributes,
        st.just(version),
        enabled=st.booleans(),
        key_type=st.sampled_from(["RSA", "RSA-HSM", "EC"]),
        key_size=st.sampled_from([None, 2048, 3072, 4096]),
        operations=st.sampled_from([("wrapKey", "unwrapKey"), ("wrapKey",), ()]),
        expires=st.one_of(st.none(), st.integers(-100, 100).map(lambda days: NOW + timedelta(days=days))),
        not_before=st.one_of(st.none(), st.integers(-100, 100).map(lambda days: NOW + timedelta(days=days))),
        recovery_level=st.sampled_from(["", "Purgeable", "Recoverable", "Recoverable+Purgeable", "CustomizedRecoverable"]),
        recoverable_days=st.sampled_from([None, 7, 90]),
    )
    return st.one_of(
        st.builds(VersionProbe, known, round_trip=st.booleans()),
        st.builds(refused, _refusals, st.sampled_from(["get", "wrapKey", "unwrapKey"]), st.one_of(st.none(), known)),
    )


@st.composite
def key_probes(draw: st.DrawFn, at: datetime = NOW) -> KeyProbe:
    """Anything that a visit may learn of a key."""
    wanted = draw(st.sampled_from(VERSIONS).flatmap(version_probes))
    others = draw(st.sets(st.sampled_from(VERSIONS)))
    if wanted.attributes is not None:
        others.discard(wanted.attributes.version)
    missing = wanted.failure is not None and wanted.failure.status == 404
    return KeyProbe(
        at,
        wanted,
        {version: draw(version_probes(version)) for version in sorted(others)},
        draw(st.one_of(st.none(), st.just(DeletedKey(NOW + timedelta(days=7))))) if missing else None,
        draw(st.sampled_from([None, True, False])) if missing else None,
        draw(st.one_of(st.none(), st.just(PROVIDER))),
    )


@st.composite
def users_of_versions(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Who is on which version."""
    names = draw(st.dictionaries(st.sampled_from(VERSIONS), st.sets(st.sampled_from(["a", "b", "c"]), min_size=1)))
    return {version: tuple(sorted(entries)) for version, entries in names.items()}
