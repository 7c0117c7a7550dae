"""The request bodies of ARM, field by field: a field that Azure does not know is refused."""

from __future__ import annotations

import json
import re
from contextvars import ContextVar
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from sandbox.azure.errors import ArmRefusedError

Body = TypeVar("Body", bound=BaseModel)


class Strict(BaseModel):
    """Wire names are camel case unless a field says otherwise; nothing else is taken, and no JSON type stands for another."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True, strict=True)

    def sent(self) -> dict[str, Any]:
        """The fields that were really in the body, by wire name."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


_TYPES = {
    "bool_type": "System.Nullable`1[System.Boolean]",
    "int_type": "System.Nullable`1[System.Int32]",
    "float_type": "System.Nullable`1[System.Double]",
    "string_type": "System.String",
}
"""The .NET types that the refusals name."""
asked_api_version: ContextVar[str] = ContextVar("asked_api_version", default="9999")
"""The api-version of the request that is being answered, in lower case; the gateway sets it."""


def since(version: str, *, alias: str | None = None) -> Any:  # noqa: ANN401 - as pydantic's Field, whose default it sets
    """An optional field that api-versions before this one do not know."""
    return Field(None, alias=alias, json_schema_extra={"since": version})


def _unknown_member(name: str, kind: str, path: str) -> str:
    return f"Could not find member '{name}' on object of type '{kind}'. Path '{path}'"


def _too_new(value: object, asked: str, where: tuple[str, ...] = ()) -> str | None:
    """What is wrong with the first field that was sent and that the api-version does not know."""
    if isinstance(value, list):
        return next(filter(None, (_too_new(one, asked, (*where, str(number))) for number, one in enumerate(value))), None)
    if not isinstance(value, BaseModel):
        return None
    for name in value.model_fields_set:
        field = type(value).model_fields[name]
        wire, extra = field.serialization_alias or field.alias or name, field.json_schema_extra
        path = (*where, wire)
        if isinstance(extra, dict) and asked < str(extra.get("since", "")):
            return _unknown_member(wire, type(value).__name__, ".".join(path))
        if (found := _too_new(getattr(value, name), asked, path)) is not None:
            return found
    return None


def parsed(model: type[Body], body: dict[str, Any]) -> Body:
    """The body as this model: each value of its own JSON type, and no field that the request's api-version does not know.

    Raises ArmRefusedError 400 InvalidRequestContent.
    """
    try:
        found = model.model_validate_json(json.dumps(body), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(one) for one in first["loc"])
        if first["type"] == "extra_forbidden":
            reason = _unknown_member(str(first["loc"][-1]), model.__name__, path)
        elif first["type"] == "missing":
            reason = f"Required property '{first['loc'][-1]}' not found in JSON. Path '{path}'"
        elif first["type"] in _TYPES:
            reason = f"Error converting value {json.dumps(first.get('input'))} to type '{_TYPES[first['type']]}'. Path '{path}'"
        else:
            reason = f"Error converting value '{first.get('input')}': {first['msg']}. Path '{path}'"
        raise _invalid(reason) from error
    if (newer := _too_new(found, asked_api_version.get())) is not None:
        raise _invalid(newer)
    return found


def _invalid(reason: str) -> ArmRefusedError:
    return ArmRefusedError(
        400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{reason}.'."
    )


def _checked_tags(tags: dict[str, str]) -> dict[str, str]:
    """https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations. Raises ArmRefusedError 400."""
    if len(tags) > MOST_TAGS:
        raise ArmRefusedError(
            400, "InvalidTags", f"Too many tags specified: '{len(tags)}'. Maximum number of tags allowed is '{MOST_TAGS}'."
        )
    for name, value in tags.items():
        if not name or re.search(r"[<>%&\\?/\x00-\x1f\x7f]", name):
            raise ArmRefusedError(
                400,
                "InvalidTagNameCharacters",
                f"The tag names '{name}' have reserved characters '<,>,%,&,\\,?,/' or control characters.",
            )
        for part, text, longest in (("name", name, LONGEST_TAG_NAME), ("value", value, LONGEST_TAG_VALUE)):
            if len(text) > longest:
                raise ArmRefusedError(
                    400,
                    "InvalidTagName",
                    f"Tag {part} too large. Following tag {part} '{text}' exceeded the maximum length. Maximum allowed length for tag "
                    f"{part} - '{longest}' characters.",
                )
    return tags


MOST_TAGS, LONGEST_TAG_NAME, LONGEST_TAG_VALUE = 50, 512, 256
Tags = Annotated[dict[str, str], AfterValidator(_checked_tags)]


class SubscriptionAliasProperties(Strict):
    """What is asked of a new subscription."""

    display_name: str
    workload: Literal["Production", "DevTest"] = "Production"
    billing_scope: str | None = None


class SubscriptionAlias(Strict):
    """Microsoft.Subscription/aliases."""

    properties: SubscriptionAliasProperties


class ResourceGroupBody(Strict):
    """Microsoft.Resources/resourceGroups."""

    location: str
    tags: Tags | None = None
    id: str | None = None
    name: str | None = None
    managed_by: str | None = None
    properties: dict[str, Any] | None = None


class IdentityBlock(Strict):
    """The top-level `identity` of a resource; the read-only fields are accepted and ignored, as Azure does."""

    type: str
    user_assigned_identities: dict[str, dict[str, Any] | None] | None = None
    principal_id: str | None = None
    tenant_id: str | None = None


class KeyVaultProperties(Strict):
    """All lower case on the wire, the last three are read-only."""

    key_name: str | None = Field(None, alias="keyname")
    key_version: str | None = Field(None, alias="keyversion")
    key_vault_uri: str | None = Field(None, alias="keyvaulturi")
    current_versioned_key_identifier: str | None = None
    last_key_rotation_timestamp: str | None = None
    current_versioned_key_expiration_timestamp: str | None = None


class EncryptionIdentity(Strict):
    """Who the storage service is when it goes to the vault."""

    user_assigned_identity: str | None = None
    federated_identity_client_id: str | None = since("2021-08-01")


class EncryptionService(Strict):
    """One of blob, file, table, queue."""

    enabled: bool | None = None
    key_type: Literal["Account", "Service"] | None = None
    last_enabled_time: str | None = None


class EncryptionServices(Strict):
    """What is encrypted."""

    blob: EncryptionService | None = None
    file: EncryptionService | None = None
    table: EncryptionService | None = None
    queue: EncryptionService | None = None


class Encryption(Strict):
    """`properties.encryption` of a storage account."""

    key_source: str | None = None
    services: EncryptionServices | None = None
    require_infrastructure_encryption: bool | None = None
    keyvaultproperties: KeyVaultProperties | None = None
    identity: EncryptionIdentity | None = since("2021-01-01")


class EncryptionScopeKey(Strict):
    """The key of an encryption scope; the last two are read-only."""

    key_uri: str | None = None
    current_versioned_key_identifier: str | None = None
    last_key_rotation_timestamp: str | None = None


class EncryptionScopeProperties(Strict):
    """`properties` of an encryption scope; the times are read-only."""

    source: str | None = None
    state: str | None = None
    key_vault_properties: EncryptionScopeKey | None = None
    require_infrastructure_encryption: bool | None = None
    creation_time: str | None = None
    last_modified_time: str | None = None


class EncryptionScopeBody(Strict):
    """PUT or PATCH of an encryption scope."""

    properties: EncryptionScopeProperties | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None


class StorageProperties(Strict):
    """`properties` of a storage account; all but `encryption` is kept and given back unread."""

    encryption: Encryption | None = None
    access_tier: Literal["Hot", "Cool", "Cold", "Premium"] | None = None
    minimum_tls_version: Literal["TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"] | None = None
    public_network_access: Literal["Enabled", "Disabled", "SecuredByPerimeter"] | None = None
    large_file_shares_state: Literal["Enabled", "Disabled"] | None = None
    allowed_copy_scope: Literal["PrivateLink", "AAD"] | None = None
    dns_endpoint_type: Literal["Standard", "AzureDnsZone"] | None = None
    supports_https_traffic_only: bool | None = None
    is_sftp_enabled: bool | None = None
    is_local_user_enabled: bool | None = None
    enable_extended_groups: bool | None = None
    is_hns_enabled: bool | None = None
    is_nfs_v3_enabled: bool | None = Field(None, alias="isNfsV3Enabled")
    allow_blob_public_access: bool | None = None
    allow_shared_key_access: bool | None = None
    allow_cross_tenant_replication: bool | None = None
    allow_cross_tenant_delegation_sas: bool | None = None
    default_to_oauth_authentication: bool | None = Field(None, alias="defaultToOAuthAuthentication")
    sas_policy: dict[str, Any] | None = None
    key_policy: dict[str, Any] | None = None
    custom_domain: dict[str, Any] | None = None
    network_acls: dict[str, Any] | None = None
    azure_files_identity_based_authentication: dict[str, Any] | None = None
    routing_preference: dict[str, Any] | None = None
    dual_stack_endpoint_preference: dict[str, Any] | None = None
    immutable_storage_with_versioning: dict[str, Any] | None = None
    geo_priority_replication_status: dict[str, Any] | None = None
    allow_shared_key_access_for_services: dict[str, Any] | None = None
    data_collaboration_policy_properties: dict[str, Any] | None = None


class Sku(Strict):
    """A storage account's redundancy."""

    name: Literal[
        "Standard_LRS",
        "Standard_GRS",
        "Standard_RAGRS",
        "Standard_ZRS",
        "Premium_LRS",
        "Premium_ZRS",
        "Standard_GZRS",
        "Standard_RAGZRS",
        "StandardV2_LRS",
        "StandardV2_GRS",
        "StandardV2_ZRS",
        "StandardV2_GZRS",
        "PremiumV2_LRS",
        "PremiumV2_ZRS",
    ]
    tier: Literal["Standard", "Premium"] | None = None


class StorageAccountCreate(Strict):
    """PUT of a storage account."""

    sku: Sku
    kind: Literal["Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage"]
    location: str
    tags: Tags | None = None
    identity: IdentityBlock | None = None
    properties: StorageProperties | None = None
    extended_location: dict[str, Any] | None = None
    zones: list[str] | None = None
    placement: dict[str, Any] | None = None


class StorageAccountUpdate(Strict):
    """PATCH of a storage account."""

    sku: Sku | None = None
    kind: str | None = None
    tags: Tags | None = None
    identity: IdentityBlock | None = None
    properties: StorageProperties | None = None
    zones: list[str] | None = None
    placement: dict[str, Any] | None = None


class NameAvailability(Strict):
    """POST checkNameAvailability."""

    name: str
    type: str


class IdentityProperties(Strict):
    """Of a user-assigned identity; the last three are read-only."""

    isolation_scope: Literal["None", "Regional"] | None = since("2024-11-30")
    tenant_id: str | None = None
    principal_id: str | None = None
    client_id: str | None = None


class IdentityResource(Strict):
    """PUT or PATCH of a user-assigned identity; the last three are read-only."""

    location: str | None = None
    tags: Tags | None = None
    properties: IdentityProperties | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None


class FederatedCredentialProperties(Strict):
    """Trust in one subject of one issuer."""

    issuer: str
    subject: str
    audiences: list[str]


class FederatedCredentialBody(Strict):
    """PUT of a federated credential on a user-assigned identity."""

    properties: FederatedCredentialProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


class RoleAssignmentProperties(Strict):
    """Who gets which role."""

    role_definition_id: str
    principal_id: str
    principal_type: Literal["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"] | None = since("2018-09-01-preview")
    description: str | None = since("2020-04-01-preview")
    condition: str | None = since("2020-04-01-preview")
    condition_version: str | None = since("2020-04-01-preview")
    scope: str | None = None
    delegated_managed_identity_resource_id: str | None = since("2020-04-01-preview")


class RoleAssignmentBody(Strict):
    """PUT of a role assignment."""

    properties: RoleAssignmentProperties


class RolePermissions(Strict):
    """What a custom role allows."""

    actions: list[str] = []
    not_actions: list[str] = []
    data_actions: list[str] = []
    not_data_actions: list[str] = []


class RoleDefinitionProperties(Strict):
    """A custom role."""

    role_name: str
    type: Literal["CustomRole"] = "CustomRole"
    description: str = ""
    permissions: list[RolePermissions]
    assignable_scopes: list[str]


class RoleDefinitionBody(Strict):
    """PUT of a custom role."""

    properties: RoleDefinitionProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


class LockProperties(Strict):
    """How much is locked."""

    level: Literal["CanNotDelete", "ReadOnly", "NotSpecified"]
    notes: str | None = None
    owners: list[dict[str, str]] | None = None


class LockBody(Strict):
    """PUT of a lock."""

    properties: LockProperties
    id: str | None = None
    name: str | None = None
    type: str | None = None


class VaultPermissions(Strict):
    """What an access policy grants, by kind of object."""

    keys: list[str] | None = None
    secrets: list[str] | None = None
    certificates: list[str] | None = None
    storage: list[str] | None = None


class AccessPolicy(Strict):
    """One principal's permissions."""

    tenant_id: str
    object_id: str
    application_id: str | None = None
    permissions: VaultPermissions


class VaultSku(Strict):
    """`standard` or `premium` of family A."""

    family: str
    name: str


class AddressRule(Strict):
    """One IPv4 address or range."""

    value: str


class VaultSubnetRule(Strict):
    """One subnet, of any subscription; `state` is read-only."""

    id: str
    ignore_missing_vnet_service_endpoint: bool | None = since("2021-10-01")
    state: str | None = None


class VaultNetworkAcls(Strict):
    """The firewall; `defaultAction` comes after `bypass`."""

    bypass: str | None = None
    default_action: str | None = None
    ip_rules: list[AddressRule] | None = None
    virtual_network_rules: list[VaultSubnetRule] | None = None


class VaultProperties(Strict):
    """`properties` of a vault, for PUT and PATCH."""

    tenant_id: str | None = None
    sku: VaultSku | None = None
    access_policies: list[AccessPolicy] | None = None
    vault_uri: str | None = None
    enabled_for_deployment: bool | None = None
    enabled_for_disk_encryption: bool | None = None
    enabled_for_template_deployment: bool | None = None
    enable_soft_delete: bool | None = None
    soft_delete_retention_in_days: int | None = since("2019-09-01")
    enable_rbac_authorization: bool | None = since("2019-09-01")
    create_mode: Literal["default", "recover"] | None = None
    enable_purge_protection: bool | None = since("2018-02-14")
    network_acls: VaultNetworkAcls | None = since("2018-02-14")
    public_network_access: str | None = since("2021-10-01")
    provisioning_state: str | None = None


class VaultPolicies(Strict):
    """The access policies to add, replace or remove."""

    access_policies: list[AccessPolicy]


class VaultPoliciesBody(Strict):
    """PUT of access policies; all but `properties` is read-only."""

    properties: VaultPolicies
    id: str | None = None
    name: str | None = None
    type: str | None = None
    location: str | None = None


class VaultBody(Strict):
    """PUT or PATCH of a vault."""

    location: str | None = None
    tags: Tags | None = None
    properties: VaultProperties | None = None
