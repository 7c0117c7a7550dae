"""Every reason in a status, event or check, each with one sentence and with who ends it.

The words are an interface: alerts, dashboards, runbooks and users' scripts match them. They also generate the tables of
docs/status.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self


class FaultKind(StrEnum):
    """How a fault ends."""

    INVALID = "Invalid"
    """The manifest must change."""
    BLOCKED = "Blocked"
    """A person must act outside Kubernetes; until then the operator retries slowly, without end."""
    BUSY = "Busy"
    """It ends by itself: Azure asks to wait, or has not replicated a grant yet; the operator retries when Azure says."""
    INHERITED = "Inherited"
    """It ends as its cause ends."""


_INVALID: Final = FaultKind.INVALID
_BLOCKED: Final = FaultKind.BLOCKED
_BUSY: Final = FaultKind.BUSY
_INHERITED: Final = FaultKind.INHERITED


class Reason(StrEnum):
    """Why a condition has its status, or what blocks an object: one word, one sentence, and who ends it.

    A code of Azure, Entra or Snowflake is here only if the product knows it. Any other is `AzureRefused`, `EntraRefused` or
    `SnowflakeRefused`, with the code in the message.
    """

    sentence: str
    kind: FaultKind | None
    """None: nothing is blocked."""

    def __new__(cls, word: str, sentence: str, kind: FaultKind | None = None) -> Self:
        """Create a member with its sentence."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        member.kind = kind
        return member

    @property
    def passes_by_itself(self) -> bool:
        """Whether waiting alone ends it."""
        return self.kind is FaultKind.BUSY

    def needs_a_person(self, cause: Reason) -> bool:
        """Whether waiting alone never ends it; `cause` is what an inherited reason waits for."""
        return not (cause if self.kind is FaultKind.INHERITED else self).passes_by_itself

    @staticmethod
    def read(text: str) -> Reason:
        """The reason in a status; `UNKNOWN` for one that another release wrote and this release does not know."""
        return _BY_WORD.get(text, Reason.UNKNOWN)

    @staticmethod
    def of_code(code: str) -> Reason | None:
        """The reason for an error code of Azure, compared case-insensitively; None for a code that is not in this table."""
        return _BY_CODE.get(code.lower())

    # All is well, or nothing is known yet.
    READY = "Ready", "Everything is as the manifest wants it."
    ACCESSIBLE = "Accessible", "The key was read, and wrapped and unwrapped in the vault."
    MET = "Met", "No prerequisite is visibly missing."
    WARNED = "Warned", "Prerequisites are missing, but none that is enforced."
    CURRENT = "Current", "Everything is on the active version of the key."
    LISTED = "Listed", "Every list of the tenant's subscriptions was read."
    NOT_LISTED_YET = "NotListedYet", "Azure's lists of what uses the key have not been read lately.", _BUSY
    NOT_LISTABLE = (
        "NotListable",
        "What the tenant allows cannot be listed, so that it is seen only with an EncryptedResource.",
        _BLOCKED,
    )
    GRANTED = "Granted", "The application may sign in to the customer's tenant."
    CUSTOMER_MANAGED_KEY = "CustomerManagedKey", "The service reports the wanted key."
    GIVEN = "Given", "The manifest names an application and a managed identity that exist."
    REGISTERED = "Registered", "Everything that the manifest asks to register is registered."
    SIGNED_IN = "SignedIn", "The operator signs in as the managed identity."
    FEDERATED = "Federated", "The application trusts the managed identity."
    DISTINCT = "Distinct", "No other tenant allows any of the same resources."
    SCOPES_OVERLAP = (
        "ScopesOverlap",
        "Another tenant allows some of the same resources, and nothing new is written to one that manifests of both name.",
        _BLOCKED,
    )
    NOT_CONFIGURED = "NotConfigured", "The manifest names no receiver of events."
    DELIVERED = "Delivered", "The receiver accepts the events."
    NOTHING_SENT_YET = "NothingSentYet", "No event has been sent to the receiver yet."
    NOT_OBSERVED = "NotObserved", "The resource has not been read yet."
    NOT_SEEN_LATELY = (
        "NotSeenLately",
        "Nothing was seen of the object within three of its check intervals, and the message says since when.",
        _BUSY,
    )
    NOT_PROBED = "NotProbed", "The key has not been probed yet.", _BUSY
    NO_ACTIVE_VERSION = "NoActiveVersion", "No version of the key has passed the probe yet."
    VERSION_NOT_TOLD = "VersionNotTold", "Azure does not report which version of the key is in force."
    PLAN_ONLY = "PlanOnly", "The manifest says to observe only, so the change is shown in `status.plan` and not made."
    PASSED = "Passed", "The check has passed."
    FAILED = "Failed", "A check has failed, and the checks name who must act."
    NOT_ALL_CHECKED = "NotAllChecked", "No check has failed, and some could not be made."
    WAITS_FOR_TURN = "WaitsForTurn", "The operator has not made the checks yet, and the message says what they wait for.", _BUSY
    NOT_REACHED = "NotReached", "A check before this one failed."
    WOULD_CHANGE = "WouldChange", "Applied like this, the manifest would change the resource."
    ROLE_MISSING = "RoleMissing", "The operator's roles do not allow the write.", _BLOCKED
    RIGHTS_NOT_VISIBLE = "RightsNotVisible", "Azure does not show the operator what its roles allow."
    NOT_SEEN = "NotSeen", "The operator has not reconciled the object yet."
    REFUSED = "Refused", "The API server refuses the manifest.", _INVALID
    FORBIDDEN = "Forbidden", "The API server does not let you apply the manifest.", _BLOCKED

    # The key, as the last probe found it.
    DISABLED = "Disabled", "The key version is disabled.", _BLOCKED
    EXPIRED = "Expired", "The key version has expired.", _BLOCKED
    NOT_YET_VALID = "NotYetValid", "The activation date of the key version is still to come.", _BLOCKED
    DELETED = "Deleted", "The key is soft-deleted, and the message says until when it can be recovered.", _BLOCKED
    BEING_DELETED_OR_RECOVERED = (
        "BeingDeletedOrRecovered",
        "The vault has no such key now, live or deleted; a deletion or recovery shows within the time that the message says.",
        _BLOCKED,
    )
    MISSING = "Missing", "The vault has no such key, and does not say whether it can be recovered.", _BLOCKED
    PURGED = "Purged", "There is no such key, live or recoverable: it was purged, or never existed.", _BLOCKED
    VERSION_MISSING = "VersionMissing", "The key exists, but the pinned version does not.", _BLOCKED
    PERMISSION_DENIED = (
        "PermissionDenied",
        "A role, an access policy or Conditional Access shuts the application out.",
        _BLOCKED,
    )
    CONSENT_MISSING = (
        "ConsentMissing",
        "The customer's tenant has no enabled and assigned service principal of the application, or no consent to it.",
        _BLOCKED,
    )
    VAULT_IN_ANOTHER_TENANT = (
        "VaultInAnotherTenant",
        "The vault belongs to another tenant, and no token was sent to it.",
        _BLOCKED,
    )
    IDENTITY_BROKEN = (
        "IdentityBroken",
        "The managed identity, the application or the customer's tenant is gone, or the credential between them is wrong.",
        _BLOCKED,
    )
    CREDENTIAL_REPLICATING = (
        "CredentialReplicating",
        "Entra refuses a federated credential that is new, and the message says until when it may not know it everywhere.",
        _BUSY,
    )
    VERSION_REPLICATING = (
        "VersionReplicating",
        "The vault shows the version but does not find it for an operation; the message says until when that may be a delay.",
        _BUSY,
    )
    OPERATOR_NOT_AUTHENTICATED = "OperatorNotAuthenticated", "The operator itself cannot sign in.", _BLOCKED
    FIREWALL_BLOCKS_SERVICES = "FirewallBlocksServices", "The vault's settings keep Azure's trusted services out.", _BLOCKED
    FIREWALL_BLOCKS_PROBE = (
        "FirewallBlocksProbe",
        "The vault does not admit the operator's address, which says nothing about Azure's trusted services.",
        _BLOCKED,
    )
    VAULT_REFUSED = (
        "VaultRefused",
        "Key Vault refuses with a code that this release does not know; the message quotes it.",
        _BLOCKED,
    )
    VAULT_UNREACHABLE = "VaultUnreachable", "The vault gives no usable answer.", _BUSY
    UNKNOWN = "Unknown", "Nothing can be concluded: a throttled call, or an answer that this release does not know.", _BUSY

    # Consent and rotation.
    PENDING = "Pending", "The customer has not consented yet.", _BLOCKED
    REVOKED = "Revoked", "The customer withdrew consent.", _BLOCKED
    KEY_NOT_READABLE = "KeyNotReadable", "The key could not be read."
    OLD_VERSION_LOST = "OldVersionLost", "A version that backups still need was disabled or deleted too early.", _BLOCKED
    RESOURCES_ON_OLDER_VERSION = "ResourcesOnOlderVersion", "Some resources are on an older version than the active one.", _BUSY
    APPROVAL_PENDING = "ApprovalPending", "A new version waits for approval.", _BLOCKED
    NOT_ON_KEY = "NotOnKey", "The resource is not on this key."
    ALL_DATA_COVERED = "AllDataCovered", "The service shows no data of the resource that the key does not protect."
    DATA_NOT_COVERED = (
        "DataNotCovered",
        "Data of the resource is not under the key, and `status.details.notCovered` says which.",
        _BLOCKED,
    )
    COVERAGE_NOT_SHOWN = (
        "CoverageNotShown",
        "The service does not show what protects a part of the resource, or the operator may not read it.",
        _BLOCKED,
    )
    COVERAGE_NOT_READ = (
        "CoverageNotRead",
        "Parts of the resource that may be under another key have not been read yet, or not lately.",
        _BUSY,
    )
    ROTATION_HELD_BACK = (
        "RotationHeldBack",
        "The service does not move to the new version by itself, and the message says why.",
        _BLOCKED,
    )
    AZURE_WILL_ROTATE = "AzureWillRotate", "The service moves to the new version by itself within a day.", _BUSY
    OUTDATED = "Outdated", "The resource is on an older version, and the operator moves it as soon as it may.", _BUSY

    # Prerequisites that forbid a write.
    SOFT_DELETE_FAILED = "SoftDeleteFailed", "The vault has no soft delete.", _BLOCKED
    PURGE_PROTECTION_FAILED = "PurgeProtectionFailed", "The vault has no purge protection.", _BLOCKED
    RETENTION_DAYS_FAILED = "RetentionDaysFailed", "The vault keeps deleted keys for fewer than 90 days.", _BLOCKED
    KEY_TYPE_FAILED = "KeyTypeFailed", "The key is not an RSA key.", _BLOCKED
    KEY_SIZE_FAILED = "KeySizeFailed", "The key does not have 2048 bits.", _BLOCKED
    KEY_OPERATIONS_FAILED = "KeyOperationsFailed", "The key itself does not permit wrapKey and unwrapKey.", _BLOCKED
    KEY_ENABLED_FAILED = "KeyEnabledFailed", "The key version is disabled.", _BLOCKED
    KEY_EXPIRY_FAILED = "KeyExpiryFailed", "The key version has expired.", _BLOCKED
    PERMISSIONS_FAILED = "PermissionsFailed", "The vault refuses get, wrapKey or unwrapKey to the application.", _BLOCKED
    VAULT_LOCK_FAILED = "VaultLockFailed", "No lock guards the vault.", _BLOCKED
    KEY_LOCK_FAILED = "KeyLockFailed", "No lock guards the key.", _BLOCKED
    TRUSTED_SERVICES_BYPASS_FAILED = (
        "TrustedServicesBypassFailed",
        "The vault's firewall does not let Azure's trusted services pass.",
        _BLOCKED,
    )
    NETWORK_PROTECTION_FAILED = "NetworkProtectionFailed", "The vault is open to all networks.", _BLOCKED
    VAULT_REGION_FAILED = (
        "VaultRegionFailed",
        "The vault is in another region than a disk encryption set on the key.",
        _BLOCKED,
    )
    REGION_FAILOVER_FAILED = (
        "RegionFailoverFailed",
        "No other region takes over when the vault's region fails, and the manifest asks for that.",
        _BLOCKED,
    )

    # What a change waits for.
    WAITING_FOR_KEY = "WaitingForKey", "The change waits until the key has been probed.", _BUSY
    OLD_VERSION_NOT_ACCESSIBLE = (
        "OldVersionNotAccessible",
        "Azure must unwrap with the old version once more, and that version is not accessible.",
        _INHERITED,
    )
    REVERT_WAITS_FOR_KEY = (
        "RevertWaitsForKey",
        "The manifest is being deleted and reverts first, for which the key must be accessible.",
        _INHERITED,
    )
    CONTESTED = (
        "Contested",
        "Somebody else keeps changing the resource back, so the operator writes more and more slowly, but without end.",
        _BLOCKED,
    )
    NOT_TAKEN_OVER = "NotTakenOver", "Azure has accepted the change and does not show it yet.", _BUSY
    OPERATION_NOT_VISIBLE = (
        "OperationNotVisible",
        "Azure carries out an operation that cannot be polled; the resource itself is read until the time in the message.",
        _BUSY,
    )
    OPERATION_IN_PROGRESS = "OperationInProgress", "Azure is still carrying out an operation.", _BUSY

    # References and admission: refused before any call to Azure.
    INVALID_MANIFEST = "InvalidManifest", "The manifest does not match the definition of its kind.", _INVALID
    INVALID_KEY_URI = "InvalidKeyUri", "`keyUri` is not the identifier of a key in a Key Vault.", _INVALID
    INVALID_RESOURCE_ID = "InvalidResourceId", "`resourceId` is not a resource id of Azure.", _INVALID
    INVALID_VAULT_RESOURCE_ID = "InvalidVaultResourceId", "`vaultResourceId` is not the resource id of a vault.", _INVALID
    WRONG_CLOUD = "WrongCloud", "The vault is in another cloud than the identity.", _INVALID
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed", "The tenant does not allow the namespace.", _BLOCKED
    VAULT_NOT_ALLOWED = "VaultNotAllowed", "The tenant does not allow the vault.", _BLOCKED
    SCOPE_NOT_ALLOWED = "ScopeNotAllowed", "The resource is in no scope that the tenant allows.", _BLOCKED
    SNOWFLAKE_ACCOUNT_NOT_ALLOWED = (
        "SnowflakeAccountNotAllowed",
        "The tenant does not allow the Snowflake account.",
        _BLOCKED,
    )
    IDENTITY_NOT_FOUND = "IdentityNotFound", "There is no such FederatedIdentity.", _BLOCKED
    IDENTITY_NOT_REGISTERED = "IdentityNotRegistered", "The FederatedIdentity has not been registered yet.", _BUSY
    TENANT_NOT_FOUND = "TenantNotFound", "There is no such CustomerTenant.", _BLOCKED
    KEY_NOT_FOUND = "KeyNotFound", "There is no such CustomerManagedKey.", _BLOCKED
    TARGET_CLAIMED = "TargetClaimed", "An older manifest names the same resource.", _BLOCKED
    CLAIMED_BY_SEVERAL_TENANTS = (
        "ClaimedBySeveralTenants",
        "Manifests of several tenants name the same resource, and it is not on a key of this manifest's tenant alone.",
        _BLOCKED,
    )
    UNSUPPORTED_RESOURCE_TYPE = "UnsupportedResourceType", "The operator does not support this type of resource.", _INVALID
    CROSS_TENANT_KEY_NOT_SUPPORTED = (
        "CrossTenantKeyNotSupported",
        "The service takes no key from another tenant.",
        _INVALID,
    )
    SETTLING = "Settling", "Entra may not have replicated yet what was just registered.", _BUSY
    CHANGED = "Changed", "The manifest changed during the pass, and the next pass goes on.", _BUSY

    # The identity and its registration.
    NOT_REGISTERED = "NotRegistered", "The identity has not been registered yet."
    NOT_AUTHENTICATED = "NotAuthenticated", "The application was not read, because the operator cannot sign in."
    NOT_READABLE = "NotReadable", "The registration could not be read."
    REGISTERING = "Registering", "Azure does not show yet what was registered.", _BUSY
    CLIENT_ID_MISMATCH = "ClientIdMismatch", "The manifest and Azure name different client ids.", _BLOCKED
    APPLICATION_NOT_FOUND = "ApplicationNotFound", "The provider's tenant has no such application.", _BLOCKED
    MANAGED_IDENTITY_NOT_FOUND = "ManagedIdentityNotFound", "The managed identity does not exist.", _BLOCKED
    SINGLE_TENANT_APPLICATION = "SingleTenantApplication", "The application is for one tenant only.", _BLOCKED
    FEDERATED_CREDENTIAL_MISSING = (
        "FederatedCredentialMissing",
        "The application has no federated credential for the managed identity.",
        _BLOCKED,
    )
    REGISTRAR_MISSING = "RegistrarMissing", "The manifest asks to register and names no registrar.", _INVALID
    REGISTRAR_NOT_AUTHENTICATED = "RegistrarNotAuthenticated", "The operator cannot sign in as the registrar.", _BLOCKED
    AMBIGUOUS_APPLICATION = "AmbiguousApplication", "The registrar owns several applications of that name.", _BLOCKED
    APPLICATION_NOT_OWNED = "ApplicationNotOwned", "The registrar does not own what has that name.", _BLOCKED
    REGISTERED_APPLICATION_MISSING = (
        "RegisteredApplicationMissing",
        "The application that was registered is gone.",
        _BLOCKED,
    )
    UNIQUE_NAME_TAKEN = "UniqueNameTaken", "The directory keeps the unique name for a deleted application.", _BLOCKED
    TOO_MANY_CREDENTIALS = "TooManyCredentials", "There is no room for another federated credential.", _BLOCKED
    WRONG_CREDENTIAL_AUDIENCE = (
        "WrongCredentialAudience",
        "A federated credential of the same issuer and subject has another audience.",
        _BLOCKED,
    )
    WRONG_TOKEN_AUDIENCE = "WrongTokenAudience", "The ServiceAccount's token is for another cloud.", _BLOCKED
    AUTHORIZATION_REQUEST_DENIED = (
        "Authorization_RequestDenied",
        "The registrar may not register applications in Microsoft Graph.",
        _BLOCKED,
    )
    LOCATION_NOT_AVAILABLE = (
        "LocationNotAvailableForResourceType",
        "Managed identities are not available in that region.",
        _BLOCKED,
    )
    DIRECTORY_QUOTA_EXCEEDED = "Directory_QuotaExceeded", "The directory's quota of objects is used up.", _BLOCKED
    INVALID_FEDERATED_IDENTITY_CREDENTIAL_VALUE = (
        "InvalidFederatedIdentityCredentialValue",
        "Entra does not take a value of a federated credential.",
        _BLOCKED,
    )
    DISALLOWED_BY_APPLICATION_POLICY = (
        "DisallowedByApplicationPolicy",
        "A policy of the directory for applications forbids the registration.",
        _BLOCKED,
    )
    DIRECTORY_CONCURRENCY_VIOLATION = (
        "Directory_ConcurrencyViolation",
        "Another change to the application is in progress.",
        _BUSY,
    )
    REQUEST_MULTIPLE_OBJECTS = (
        "Request_MultipleObjectsWithSameKeyValue",
        "Another change to the application is in progress.",
        _BUSY,
    )
    CONCURRENT_CREDENTIAL_WRITES = (
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
        "Another change to the managed identity is in progress.",
        _BUSY,
    )
    REQUEST_RESOURCE_NOT_FOUND = (
        "Request_ResourceNotFound",
        "Entra has not replicated the application yet.",
        _BUSY,
    )

    # Codes of Azure, Entra and Snowflake that this product does not know.
    AZURE_REFUSED = (
        "AzureRefused",
        "Azure refuses with a code that this release does not know; the message quotes it.",
        _BLOCKED,
    )
    AZURE_UNAVAILABLE = "AzureUnavailable", "Azure gives no usable answer.", _BUSY
    CALL_BUDGET_SPENT = (
        "CallBudgetSpent",
        "The operator's share of Azure's limits is used up, so the call waits for its turn.",
        _BUSY,
    )
    UNREADABLE = "Unreadable", "Azure's answer cannot be read, so nothing is concluded or written.", _BUSY
    ON_ANOTHER_KEY = (
        "OnAnotherKey",
        "The service names a key or protector that the operator cannot read, so nothing is written.",
        _BLOCKED,
    )
    ENTRA_REFUSED = (
        "EntraRefused",
        "Entra refuses a token with a code that this release does not know; the message quotes it.",
        _BLOCKED,
    )
    SNOWFLAKE_REFUSED = (
        "SnowflakeRefused",
        "Snowflake refuses with a code that this release does not know; the message quotes it.",
        _BLOCKED,
    )
    SNOWFLAKE_UNAVAILABLE = "SnowflakeUnavailable", "Snowflake gives no usable answer.", _BUSY

    # Codes of Azure Resource Manager, Microsoft.Storage and Microsoft.Compute.
    AUTHORIZATION_FAILED = "AuthorizationFailed", "The operator or the registrar lacks a role on the resource.", _BLOCKED
    LINKED_AUTHORIZATION_FAILED = (
        "LinkedAuthorizationFailed",
        "The operator may not attach the managed identity to the resource.",
        _BLOCKED,
    )
    RESOURCE_NOT_FOUND = "ResourceNotFound", "The resource does not exist.", _BLOCKED
    RESOURCE_GROUP_NOT_FOUND = "ResourceGroupNotFound", "The resource group does not exist.", _BLOCKED
    SUBSCRIPTION_NOT_FOUND = "SubscriptionNotFound", "The subscription is not visible to the operator.", _BLOCKED
    SCOPE_LOCKED = "ScopeLocked", "A ReadOnly lock forbids the change.", _BLOCKED
    REQUEST_DISALLOWED_BY_POLICY = "RequestDisallowedByPolicy", "An Azure Policy forbids the change.", _BLOCKED
    KEY_VAULT_POLICY_ERROR = "KeyVaultPolicyError", "The vault lacks soft delete or purge protection.", _BLOCKED
    KEY_VAULT_AUTHENTICATION_FAILURE = (
        "KeyVaultAuthenticationFailure",
        "Azure's service could not use the key yet.",
        _BLOCKED,
    )
    KEY_VAULT_ENCRYPTION_KEY_NOT_FOUND = (
        "KeyVaultEncryptionKeyNotFound",
        "Azure's service does not find an enabled key that it may use.",
        _BLOCKED,
    )
    KEY_VAULT_ACCESS_TOKEN_CANNOT_BE_ACQUIRED = (
        "KeyVaultAccessTokenCannotBeAcquired",
        "Azure's service gets no token for the application.",
        _BLOCKED,
    )
    KEY_VAULT_VAULT_NOT_FOUND = "KeyVaultVaultNotFound", "Azure's service does not find the vault.", _BLOCKED
    KEY_VAULT_ACCESS_FORBIDDEN = "KeyVaultAccessForbidden", "Azure's service could not use the key yet.", _BLOCKED
    KEY_VAULT_KEY_NOT_ENABLED = "KeyVaultKeyNotEnabled", "Azure's service finds the key version disabled.", _BLOCKED
    KEY_VAULT_KEY_NOT_FOUND = "KeyVaultKeyNotFound", "Azure's service does not find the key version.", _BLOCKED
    KEY_VAULT_NOT_FOUND = "KeyVaultNotFound", "Azure's service does not find the vault.", _BLOCKED
    KEY_VAULT_NOT_PURGE_PROTECTION_ENABLED = (
        "KeyVaultNotPurgeProtectionEnabled",
        "The vault lacks soft delete or purge protection.",
        _BLOCKED,
    )
    KEY_VAULT_AND_DISK_IN_DIFFERENT_REGIONS = (
        "KeyVaultAndDiskInDifferentRegions",
        "The vault is in another region than the resource.",
        _BLOCKED,
    )
    MANAGED_SERVICE_IDENTITY_NOT_FOUND = (
        "ManagedServiceIdentityNotFound",
        "The managed identity on the resource does not exist any more.",
        _BLOCKED,
    )
    OPERATION_NOT_ALLOWED = (
        "OperationNotAllowed",
        "Azure does not allow the change while something uses the resource.",
        _BLOCKED,
    )
    PROPERTY_CHANGE_NOT_ALLOWED = "PropertyChangeNotAllowed", "Azure does not allow this property to change.", _BLOCKED
    STORAGE_ACCOUNT_OPERATION_IN_PROGRESS = (
        "StorageAccountOperationInProgress",
        "Another operation on the storage account is in progress.",
        _BUSY,
    )
    CONFLICT = "Conflict", "Another operation on the resource is in progress.", _BUSY
    TOO_MANY_REQUESTS = "TooManyRequests", "Azure throttles requests.", _BUSY
    SUBSCRIPTION_REQUESTS_THROTTLED = "SubscriptionRequestsThrottled", "Azure throttles requests of the subscription.", _BUSY
    AZURE_DISK_ENCRYPTION_USED = (
        "AzureDiskEncryptionUsed",
        "The disk is or was once under Azure Disk Encryption, and cannot be put on a customer's key.",
        _BLOCKED,
    )
    QUOTA_EXCEEDED = "QuotaExceeded", "A quota of the subscription is used up.", _BLOCKED
    GATEWAY_AUTHENTICATION_FAILED = (
        "GatewayAuthenticationFailed",
        "Azure's service gets no token for the application.",
        _BLOCKED,
    )
    CHANGE_NEEDS_TWO_REQUESTS = (
        "ChangeNeedsTwoRequests",
        "Azure changes the identity and the key of the account only one after the other, which the next pass does.",
        _BUSY,
    )
    TOO_MANY_USER_ASSIGNED_IDENTITIES = (
        "TooManyUserAssignedIdentities",
        "The account has a user-assigned identity already, and takes one for encryption.",
        _BLOCKED,
    )
    OLD_KEY_NOT_ACCESSIBLE = (
        "OldKeyNotAccessible",
        "Azure must unwrap once more with the key that the resource is to leave, and that key is not accessible.",
        _BLOCKED,
    )
    OPERATION_NOT_ALLOWED_ON_RESOURCE = (
        "OperationNotAllowedOnResource",
        "Another operation on the resource is in progress.",
        _BUSY,
    )
    IDENTITY_NOT_READY = "IdentityNotReady", "Azure does not see the managed identity on the resource yet.", _BUSY

    # Disks and disk encryption sets.
    NO_DISK_ENCRYPTION_SET = "NoDiskEncryptionSet", "The manifest names no disk encryption set.", _INVALID
    DISK_ENCRYPTION_SET_NOT_FOUND = "DiskEncryptionSetNotFound", "There is no such disk encryption set.", _BLOCKED
    DISK_ENCRYPTION_SET_NOT_ALLOWED = (
        "DiskEncryptionSetNotAllowed",
        "The disk encryption set is in no scope that the tenant allows.",
        _INVALID,
    )
    DISK_ENCRYPTION_SET_IN_ANOTHER_SUBSCRIPTION = (
        "DiskEncryptionSetInAnotherSubscription",
        "The disk and its disk encryption set are in different subscriptions.",
        _INVALID,
    )
    DISK_ENCRYPTION_SET_IN_ANOTHER_REGION = (
        "DiskEncryptionSetInAnotherRegion",
        "The disk and its disk encryption set are in different regions.",
        _INVALID,
    )
    DISK_ENCRYPTION_SET_OF_ANOTHER_TYPE = (
        "DiskEncryptionSetOfAnotherType",
        "The disk encryption set is of a type that does not fit the disk.",
        _INVALID,
    )
    DISK_ENCRYPTION_SET_ON_ANOTHER_KEY = "DiskEncryptionSetOnAnotherKey", "The disk encryption set is on another key.", _BLOCKED
    DISK_ENCRYPTION_SET_OF_ANOTHER_IDENTITY = (
        "DiskEncryptionSetOfAnotherIdentity",
        "The disk encryption set reaches the key by another identity or application.",
        _BLOCKED,
    )
    DISK_ENCRYPTION_SET_ROTATING = (
        "DiskEncryptionSetRotating",
        "The disk encryption set is moving to the wanted version.",
        _BUSY,
    )
    DISK_ATTACHED = "DiskAttached", "The disk is attached to a virtual machine that is not deallocated.", _BLOCKED
    CONFIDENTIAL_MACHINES_RUNNING = (
        "ConfidentialMachinesRunning",
        "Confidential virtual machines of the set are not deallocated, and take no other key or version.",
        _BLOCKED,
    )
    NO_PLATFORM_KEY_FOR_CONFIDENTIAL_DISKS = (
        "NoPlatformKeyForConfidentialDisks",
        "A disk that a confidential virtual machine encrypts cannot go back to a Microsoft-managed key.",
        _INVALID,
    )
    DISK_IN_USE = "DiskInUse", "The disk is being exported or uploaded.", _BLOCKED
    VAULT_IN_ANOTHER_REGION = (
        "VaultInAnotherRegion",
        "The vault and the disk encryption set are in different regions.",
        _INVALID,
    )
    NO_PLATFORM_KEY_FOR_SETS = (
        "NoPlatformKeyForSets",
        "A disk encryption set cannot go back to a Microsoft-managed key.",
        _INVALID,
    )

    # SQL: findings of this product, then codes of Microsoft.Sql.
    KEY_NAME_TOO_LONG = "KeyNameTooLong", "SQL does not take vault and key names as long as these.", _INVALID
    KEY_SIZE_NOT_SUPPORTED = "KeySizeNotSupported", "SQL does not take keys of this size.", _BLOCKED
    SERVER_ON_CUSTOMER_KEY = (
        "ServerOnCustomerKey",
        "The database cannot go back, because its server is on a customer's key.",
        _BLOCKED,
    )
    SWITCH_NEEDS_SERVICE_MANAGED_KEY = (
        "SwitchNeedsServiceManagedKey",
        "The server must pass through a Microsoft-managed key, and the manifest does not allow that.",
        _BLOCKED,
    )
    DATABASES_INACCESSIBLE = "DatabasesInaccessible", "Databases are closed and do not open.", _BLOCKED
    DATABASES_RECOVERING = "DatabasesRecovering", "SQL is opening databases again.", _BUSY
    GEO_SECONDARY_NOT_READY = "GeoSecondaryNotReady", "A geo-secondary does not reach the key yet.", _BLOCKED
    GEO_SECONDARY_OUT_OF_SCOPE = "GeoSecondaryOutOfScope", "A geo-secondary is in no scope that the tenant allows.", _BLOCKED
    GEO_SECONDARY_UNREACHABLE = "GeoSecondaryUnreachable", "A geo-secondary could not be read.", _INHERITED
    AZURE_KEY_VAULT_MISSING_PERMISSIONS = "AzureKeyVaultMissingPermissions", "SQL could not use the key yet.", _BLOCKED
    UMI_MISSING_AKV_PERMISSIONS = "UmiMissingAkvPermissions", "SQL could not use the key yet.", _BLOCKED
    AZURE_KEY_VAULT_KEY_DISABLED = "AzureKeyVaultKeyDisabled", "SQL finds the key disabled.", _BLOCKED
    AZURE_KEY_VAULT_KEY_NAME_NOT_FOUND = "AzureKeyVaultKeyNameNotFound", "SQL does not find the key.", _BLOCKED
    AZURE_KEY_VAULT_INVALID_EXPIRATION_DATE = (
        "AzureKeyVaultInvalidExpirationDate",
        "SQL takes no key that has expired or is not valid yet.",
        _BLOCKED,
    )
    SECURITY_INVALID_AZURE_KEY_VAULT_RECOVERY_LEVEL = (
        "SecurityInvalidAzureKeyVaultRecoveryLevel",
        "SQL takes no key of a vault without soft delete and purge protection.",
        _BLOCKED,
    )
    AZURE_KEY_VAULT_RSA_KEY_NOT_SUPPORTED = (
        "AzureKeyVaultRsaKeyNotSupported",
        "SQL takes RSA keys of 2048 or 3072 bits only.",
        _BLOCKED,
    )
    AZURE_KEY_VAULT_NO_SERVER_IDENTITY = (
        "AzureKeyVaultNoServerIdentity",
        "The server has no managed identity that exists.",
        _BLOCKED,
    )
    ADAL_SERVICE_PRINCIPAL_NOT_FOUND = (
        "AdalServicePrincipalNotFound",
        "SQL does not find the application in the customer's tenant.",
        _BLOCKED,
    )
    ADAL_GENERIC_ERROR = "AdalGenericError", "SQL gets no token for the application.", _BLOCKED
    SAME_KEY_MATERIAL_NOT_FOUND_ON_REMOTE_SERVER = (
        "SameKeyMaterialNotFoundOnRemoteServer",
        "A geo-secondary does not know the key.",
        _BLOCKED,
    )
    KEY_MATERIAL_NOT_FOUND_ON_REMOTE_SERVER = (
        "KeyMaterialNotFoundOnRemoteServer",
        "A geo-secondary does not know the key.",
        _BLOCKED,
    )
    SAME_KEY_URI_NOT_FOUND_ON_REMOTE_SERVER = (
        "SameKeyUriNotFoundOnRemoteServer",
        "A geo-secondary does not know the key.",
        _BLOCKED,
    )
    SECURITY_AZURE_KEY_VAULT_GEO_CHAIN_ERROR = (
        "SecurityAzureKeyVaultGeoChainError",
        "A geo-secondary has a geo-secondary itself.",
        _BLOCKED,
    )
    AZURE_KEY_VAULT_KEY_IN_USE = "AzureKeyVaultKeyInUse", "A key of the server is still in use.", _BLOCKED
    DATABASE_INACCESSIBLE = "DatabaseInaccessible", "The database cannot use its key.", _BLOCKED
    SECURITY_AZURE_KEY_VAULT_URL_NULL_OR_EMPTY = (
        "SecurityAzureKeyVaultUrlNullOrEmpty",
        "SQL does not take the key's identifier.",
        _BLOCKED,
    )
    AZURE_KEY_VAULT_INVALID_URI = "AzureKeyVaultInvalidUri", "SQL does not take the key's identifier.", _BLOCKED
    AZURE_KEY_VAULT_MALFORMED_VAULT_URI = "AzureKeyVaultMalformedVaultUri", "SQL does not take the key's identifier.", _BLOCKED
    SECURITY_AZURE_KEY_VAULT_INVALID_KEY_NAME = (
        "SecurityAzureKeyVaultInvalidKeyName",
        "SQL does not take the key's identifier.",
        _BLOCKED,
    )
    SERVER_KEY_DOES_NOT_EXISTS = "ServerKeyDoesNotExists", "The server does not know the key yet.", _BUSY
    SERVER_KEY_NOT_FOUND = "ServerKeyNotFound", "The server does not know the key yet.", _BUSY
    SERVER_KEY_NAME_ALREADY_EXISTS = "ServerKeyNameAlreadyExists", "The key is being added to the server.", _BUSY
    SERVER_KEY_URI_ALREADY_EXISTS = "ServerKeyUriAlreadyExists", "The key is being added to the server.", _BUSY
    AZURE_KEY_VAULT_CONNECTION_FAILED = "AzureKeyVaultConnectionFailed", "SQL does not reach the vault.", _BUSY
    AZURE_KEY_VAULT_GENERIC_CONNECTION_ERROR = (
        "AzureKeyVaultGenericConnectionError",
        "SQL gets no usable answer from the vault.",
        _BUSY,
    )
    CONFLICTING_SERVER_OPERATION = "ConflictingServerOperation", "Another operation on the server is in progress.", _BUSY
    ENCRYPTION_PROTECTOR_CHANGE_IN_PROGRESS = (
        "EncryptionProtectorChangeInProgress",
        "Another change of the server's protector is in progress.",
        _BUSY,
    )
    CONFLICTING_DATABASE_OPERATION = "ConflictingDatabaseOperation", "Another operation on the database is in progress.", _BUSY

    # Snowflake.
    KEY_PAIR_NOT_ACCEPTED = "KeyPairNotAccepted", "Snowflake does not accept the private key for this user.", _BLOCKED
    USER_DISABLED = "UserDisabled", "The user is disabled in Snowflake.", _BLOCKED
    USER_LOCKED = "UserLocked", "The user is locked in Snowflake.", _BLOCKED
    ROLE_NOT_GRANTED = "RoleNotGranted", "The user does not hold the role in Snowflake.", _BLOCKED
    ROLE_NOT_SUFFICIENT = "RoleNotSufficient", "The role may not do this in Snowflake.", _BLOCKED
    ACCOUNT_SUSPENDED = "AccountSuspended", "The Snowflake account is suspended.", _BLOCKED
    ACCOUNT_LOCKED = "AccountLocked", "The Snowflake account or its user is locked.", _BLOCKED
    NETWORK_POLICY = "NetworkPolicy", "A network policy of Snowflake keeps the operator out.", _BLOCKED
    FUNCTION_NOT_AVAILABLE = "FunctionNotAvailable", "The Snowflake account does not have Tri-Secret Secure.", _BLOCKED
    EDITION_TOO_LOW = "EditionTooLow", "The Snowflake account is below the edition Business Critical.", _BLOCKED
    OTHER_KEY_REGISTERED = "OtherKeyRegistered", "Another key is registered in the Snowflake account.", _BLOCKED
    PRIVATE_KEY_UNUSABLE = "PrivateKeyUnusable", "The Secret holds no private key that can be used for Snowflake.", _BLOCKED
    STATEMENT_STILL_RUNNING = "StatementStillRunning", "Snowflake is still working on a statement.", _BUSY
    REKEY_IN_PROGRESS = "RekeyInProgress", "Snowflake is re-encrypting the account's keys.", _BUSY
    WAITING_FOR_ACTIVATION = (
        "WaitingForActivation",
        "Snowflake activates a registered key no sooner than 72 hours after registration.",
        _BUSY,
    )
    MULTI_PARTY_APPROVAL_REQUIRED = "MultiPartyApprovalRequired", "The account's approvers must approve the request.", _BLOCKED
    KEY_VERSION_CHANGED = "KeyVersionChanged", "The key has a newer version, which is probed before Snowflake takes it.", _BUSY
    LATEST_VERSION_UNKNOWN = (
        "LatestVersionUnknown",
        "The vault did not report the latest version, which Snowflake would take.",
        _BUSY,
    )
    PINNED_VERSION_NOT_LATEST = (
        "PinnedVersionNotLatest",
        "Snowflake always takes the latest version, and the manifest pins another one.",
        _INVALID,
    )
    SNOWFLAKE_CONSENT_MISSING = (
        "SnowflakeConsentMissing",
        "The customer has not consented to Snowflake's application.",
        _BLOCKED,
    )
    SNOWFLAKE_NOT_PERMITTED = "SnowflakeNotPermitted", "Snowflake's application may not use the key.", _BLOCKED
    SNOWFLAKE_BLOCKED_BY_FIREWALL = "SnowflakeBlockedByFirewall", "The vault's network rules keep Snowflake out.", _BLOCKED
    SNOWFLAKE_CANNOT_USE_KEY = "SnowflakeCannotUseKey", "Snowflake finds the key disabled or gone.", _BLOCKED
    SNOWFLAKE_VERIFICATION_FAILED = (
        "SnowflakeVerificationFailed",
        "Snowflake does not reach the key and gives no cause.",
        _BLOCKED,
    )
    SNOWFLAKE_ANSWER_NOT_UNDERSTOOD = (
        "SnowflakeAnswerNotUnderstood",
        "This release does not understand Snowflake's answer, so nothing is done.",
        _BLOCKED,
    )

    # An organization's own key: what a failed wrap or unwrap shows beside the states of access.
    CREDENTIAL_EXPIRED = "CredentialExpired", "The credential of the organization's registration has expired.", _BLOCKED
    CREDENTIAL_REFUSED = "CredentialRefused", "Entra accepts no credential of the organization's registration.", _BLOCKED
    REGISTRATION_MISSING = (
        "RegistrationMissing",
        "The organization's tenant has no enabled registration with the client id.",
        _BLOCKED,
    )
    KEY_DOES_NOT_FIT = "KeyDoesNotFit", "Another key or version has wrapped this, or the key is no RSA key.", _INVALID
    VAULT_THROTTLED = "VaultThrottled", "Azure throttles the calls to the vault or to Entra.", _BUSY

    # An organization's key: the settings in force, and what the key service reports.
    ACCEPTED = "Accepted", "The settings of the manifest have passed their test and are in force."
    NOT_TESTED = "NotTested", "The settings of the manifest have not been tested yet.", _BUSY
    PLATFORM_MANAGED = "PlatformManaged", "The platform's own key wraps the data keys."
    ORGANIZATION_TAKEN = "OrganizationTaken", "An older OrganizationKey names the same organization.", _BLOCKED
    KEY_EXPIRED = (
        "KeyExpired",
        "The key version has expired: it still unwraps what it has wrapped, and wraps nothing new.",
        _BLOCKED,
    )
    WRAP_REFUSED = "WrapRefused", "The key still unwraps, and the vault refuses to wrap anything new with it.", _BLOCKED
    ROTATION_BLOCKED = "RotationBlocked", "A newer version of the key has not passed its test.", _BLOCKED
    NO_CREDENTIAL_NEEDED = "NoCredentialNeeded", "The vault is reached without a secret or certificate."
    CREDENTIAL_CURRENT = "CredentialCurrent", "The credential does not expire soon."
    CREDENTIAL_EXPIRES_SOON = "CredentialExpiresSoon", "The credential expires within 60 days.", _BLOCKED
    CREDENTIAL_EXPIRY_UNKNOWN = (
        "CredentialExpiryUnknown",
        "Nobody has said when the client secret expires, so nobody can be warned.",
    )
    CREDENTIAL_UNUSABLE = "CredentialUnusable", "The Secret holds no certificate or client secret that can be used.", _BLOCKED
    SERVING = "Serving", "The key service serves the organization's data."
    COASTING = "Coasting", "The vault gives no answer, and known data keys are served until the ceiling.", _BUSY
    SERVING_REFUSED = "ServingRefused", "The key service refuses the organization's data, because the vault refuses.", _BLOCKED
    NOT_SERVING = "NotServing", "The key service cannot serve the organization's data, and the message says why.", _BLOCKED
    NOT_REPORTED = "NotReported", "The key service has not reported on the organization, or not lately.", _BUSY
    REWRAPPED = "Rewrapped", "Every data key is wrapped with the key in force."
    REWRAPPING = "Rewrapping", "The key service is still wrapping data keys with the key in force.", _BUSY
    REWRAP_FAILED = "RewrapFailed", "Data keys could not be wrapped with the key in force, and the message says why.", _BLOCKED
    LICENSED = "Licensed", "The organization's plan has customer-managed keys."
    LICENCE_GRACE = "LicenceGrace", "The licence has ended, and changes are allowed until the end of the grace period."
    LICENCES_NOT_USED = "LicencesNotUsed", "The provider does not use licences: every change is allowed."
    NO_LICENCE_NEEDED = "NoLicenceNeeded", "The platform's key needs no licence."
    LICENCE_MISSING = "LicenceMissing", "The provider has listed no licence for the organization.", _BLOCKED
    LICENCE_FREE = "LicenceFree", "The organization is on the Free plan, and its settings are frozen.", _BLOCKED
    LICENCE_VIEW_ONLY = "LicenceViewOnly", "The organization is view-only, and its settings are frozen.", _BLOCKED
    LICENCE_EXPIRED = "LicenceExpired", "The licence and its grace period have ended, and the settings are frozen.", _BLOCKED
    PLAN_WITHOUT_KEYS = "PlanWithoutKeys", "The organization's plan has no customer-managed keys.", _BLOCKED
    LICENCE_NOT_READ = "LicenceNotRead", "The operator cannot read the Licence, so new settings wait.", _BLOCKED
    ACCESS_NOT_OFFERED = "AccessNotOffered", "The provider's platform does not offer this way to reach a vault.", _BLOCKED
    BREAK_GLASS_TRIED = "BreakGlassTried", "Somebody has signed in with a break-glass account in the last 180 days."
    BREAK_GLASS_NOT_TRIED = (
        "BreakGlassNotTried",
        "Nobody has signed in with a break-glass account since it was made or changed, or in the last 180 days.",
        _BLOCKED,
    )
    NO_BREAK_GLASS_ACCOUNT = "NoBreakGlassAccount", "The organization has no break-glass account.", _BLOCKED
    BREAK_GLASS_UNUSABLE = "BreakGlassUnusable", "No break-glass account of the organization can be used.", _BLOCKED
    BREAK_GLASS_NOT_REPORTED = (
        "BreakGlassNotReported",
        "The console has not reported on the organization's break-glass accounts, or not lately.",
        _BUSY,
    )
    DELETION_HELD = "DeletionHeld", "The manifest is being deleted while data keys may be on it, and waits.", _BLOCKED

    # Secrets and receivers of events.
    SECRET_NOT_FOUND = "SecretNotFound", "There is no such Secret.", _BLOCKED
    SECRET_FORBIDDEN = "SecretForbidden", "The operator may not read the Secret.", _BLOCKED
    SECRET_KEY_MISSING = "SecretKeyMissing", "The Secret lacks the key that the manifest names.", _BLOCKED
    SECRET_NOT_USABLE = "SecretNotUsable", "The Secret holds no signing secret that can be used.", _BLOCKED
    SINK_BUSY = "SinkBusy", "The receiver asks to wait, or has failed.", _BUSY
    SINK_UNREACHABLE = "SinkUnreachable", "The receiver does not answer.", _BUSY
    SINK_REDIRECTS = "SinkRedirects", "The receiver redirects, and redirects are not followed.", _BLOCKED
    SINK_REFUSES = "SinkRefuses", "The receiver refuses the events.", _BLOCKED
    SINK_NOT_TRUSTED = "SinkNotTrusted", "The receiver's certificate is not trusted.", _BLOCKED
    SINK_ADDRESS_NOT_USABLE = "SinkAddressNotUsable", "The receiver's address is not usable.", _BLOCKED
    SINK_NOT_FOUND = "SinkNotFound", "The receiver's name does not resolve.", _BLOCKED


_BY_WORD: Final = {reason.value: reason for reason in Reason}
_BY_CODE: Final = {reason.value.lower(): reason for reason in Reason}


class EventReason(StrEnum):
    """What has happened, in an event; a fault uses its own `Reason` in its event."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Self:
        """Create a member with its sentence."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        return member

    ADVICE = "Advice", "Something protects an organization's key badly, and the note says who should do what."
    ADMINISTRATOR_PROMOTED = (
        "AdministratorPromoted",
        "The provider's support has made somebody an administrator of an organization for some hours.",
    )
    PROMOTION_ENDED = "PromotionEnded", "Somebody whom the provider's support had made an administrator is none any more."
    BREAK_GLASS_USED = "BreakGlassUsed", "Somebody has signed in to the console with a break-glass account."
    SETTINGS_ACCEPTED = "SettingsAccepted", "Settings of an OrganizationKey have passed their test and are in force."
    SETTINGS_REFUSED = "SettingsRefused", "Settings of an OrganizationKey have failed their test, and are not in force."
    KEY_APPLIED = "KeyApplied", "The operator put the resource on the key."
    DELETION_WAITS = "DeletionWaits", "The deletion waits for resources that must revert first and need this object."
    SEEN_AGAIN = "SeenAgain", "The object is seen again, and is as its status says."
    KEY_RESTORED = "KeyRestored", "Access to the key is back, and the note says what is left to do."
    KEY_VERSION_CHANGED = "KeyVersionChanged", "The key has another active version."
    ENCRYPTION_ACTIVE = "EncryptionActive", "The resource is encrypted with the wanted key."
    ENCRYPTION_INACTIVE = "EncryptionInactive", "The resource is not encrypted with the wanted key any more."
    USER_WITHOUT_MANIFEST = "UserWithoutManifest", "A resource is on the key, and no EncryptedResource names it."
    CONSENT_GRANTED = "ConsentGranted", "The customer consented."
    CONSENT_PENDING = "ConsentPending", "The customer has not consented yet."
    CONSENT_REVOKED = "ConsentRevoked", "The customer withdrew consent."
    CONSENT_UNKNOWN = "ConsentUnknown", "The customer's tenant could not be checked."
    KEY_ACCESSIBLE = f"Key{Reason.ACCESSIBLE.value}", Reason.ACCESSIBLE.sentence
    KEY_DISABLED = f"Key{Reason.DISABLED.value}", Reason.DISABLED.sentence
    KEY_EXPIRED = f"Key{Reason.EXPIRED.value}", Reason.EXPIRED.sentence
    KEY_NOT_YET_VALID = f"Key{Reason.NOT_YET_VALID.value}", Reason.NOT_YET_VALID.sentence
    KEY_DELETED = f"Key{Reason.DELETED.value}", Reason.DELETED.sentence
    KEY_BEING_DELETED_OR_RECOVERED = (
        f"Key{Reason.BEING_DELETED_OR_RECOVERED.value}",
        Reason.BEING_DELETED_OR_RECOVERED.sentence,
    )
    KEY_MISSING = f"Key{Reason.MISSING.value}", Reason.MISSING.sentence
    KEY_PURGED = f"Key{Reason.PURGED.value}", Reason.PURGED.sentence
    KEY_CREDENTIAL_REPLICATING = f"Key{Reason.CREDENTIAL_REPLICATING.value}", Reason.CREDENTIAL_REPLICATING.sentence
    KEY_VERSION_REPLICATING = f"Key{Reason.VERSION_REPLICATING.value}", Reason.VERSION_REPLICATING.sentence
    KEY_VERSION_MISSING = f"Key{Reason.VERSION_MISSING.value}", Reason.VERSION_MISSING.sentence
    KEY_PERMISSION_DENIED = f"Key{Reason.PERMISSION_DENIED.value}", Reason.PERMISSION_DENIED.sentence
    KEY_CONSENT_MISSING = f"Key{Reason.CONSENT_MISSING.value}", Reason.CONSENT_MISSING.sentence
    KEY_VAULT_IN_ANOTHER_TENANT = f"Key{Reason.VAULT_IN_ANOTHER_TENANT.value}", Reason.VAULT_IN_ANOTHER_TENANT.sentence
    KEY_IDENTITY_BROKEN = f"Key{Reason.IDENTITY_BROKEN.value}", Reason.IDENTITY_BROKEN.sentence
    KEY_ENTRA_REFUSED = f"Key{Reason.ENTRA_REFUSED.value}", Reason.ENTRA_REFUSED.sentence
    KEY_OPERATOR_NOT_AUTHENTICATED = (
        f"Key{Reason.OPERATOR_NOT_AUTHENTICATED.value}",
        Reason.OPERATOR_NOT_AUTHENTICATED.sentence,
    )
    KEY_FIREWALL_BLOCKS_SERVICES = f"Key{Reason.FIREWALL_BLOCKS_SERVICES.value}", Reason.FIREWALL_BLOCKS_SERVICES.sentence
    KEY_FIREWALL_BLOCKS_PROBE = f"Key{Reason.FIREWALL_BLOCKS_PROBE.value}", Reason.FIREWALL_BLOCKS_PROBE.sentence
    KEY_VAULT_REFUSED = f"Key{Reason.VAULT_REFUSED.value}", Reason.VAULT_REFUSED.sentence
    KEY_VAULT_UNREACHABLE = f"Key{Reason.VAULT_UNREACHABLE.value}", Reason.VAULT_UNREACHABLE.sentence
    KEY_UNKNOWN = f"Key{Reason.UNKNOWN.value}", Reason.UNKNOWN.sentence

    @staticmethod
    def of_access(state: Reason) -> EventReason:
        """The event for a key that reached this state of access."""
        return _BY_EVENT[f"Key{state.value}"]

    @staticmethod
    def of_consent(state: Reason) -> EventReason:
        """The event for a customer's consent that reached this state."""
        return _BY_EVENT[f"Consent{state.value}"]


_BY_EVENT: Final = {event.value: event for event in EventReason}
