"""Refusals of Microsoft.Sql by error code: who must act.

Before api-version 2021-11-01, refusals of the vault and of Entra have the status 401, which is not about the operator's own
token; since then they have 400. So the code is checked before the status. Source: Azure SQL REST, Encryption Protectors and
Server Keys, error codes of preview/2020-11-01-preview and of stable/2021-11-01.
"""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.providers.sql.kind import SQL_KEY_USE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.core.faults.azure_failure import AzureFailure

_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR
_ENGINEER: Final = Actor.PLATFORM_ENGINEER
_ANOTHER_NAME: Final = (
    _ENGINEER,
    "SQL does not accept the key's identifier for {target}: the platform engineer must name another key in keyUri",
)
_NO_PERMISSIONS: Final = (
    _CUSTOMER,
    "SQL could not use the key for {target} yet: the customer's administrator must make sure that the application holds Key "
    "Vault Crypto Service Encryption User and that the vault lets trusted Microsoft services through its firewall (a new "
    "assignment takes some minutes)",
)
_NOT_ON_THE_SECONDARY: Final = (
    "geo-secondary {secondary}of {target} does not have the key{key}, which must be added to it first: the platform engineer must "
    "apply an EncryptedResource for that server too, or the provider's administrator must add the key to it"
)
_KEY_URI: Final = re.compile(r"https://[^\s'\",]+/keys/[^\s'\",]*[^\s'\",.]")
_SERVER: Final = re.compile(r"\bserver '([A-Za-z0-9-]{1,63})'")

_TABLE: Final[Mapping[Reason, tuple[Actor, str]]] = MappingProxyType(
    {
        Reason.AUTHORIZATION_FAILED: (
            _PROVIDER,
            "the operator's managed identity may not do this on {target}: the provider's administrator must assign it a role there, "
            "such as SQL Server Contributor",
        ),
        Reason.AZURE_KEY_VAULT_MISSING_PERMISSIONS: _NO_PERMISSIONS,
        Reason.UMI_MISSING_AKV_PERMISSIONS: _NO_PERMISSIONS,
        Reason.AZURE_KEY_VAULT_KEY_DISABLED: (
            _CUSTOMER,
            "the key of {target} is disabled: the customer's administrator must enable it",
        ),
        Reason.AZURE_KEY_VAULT_KEY_NAME_NOT_FOUND: (
            _CUSTOMER,
            "SQL does not find the key of {target}: the customer's administrator must recover it",
        ),
        Reason.AZURE_KEY_VAULT_INVALID_EXPIRATION_DATE: (
            _CUSTOMER,
            "SQL accepts no key for {target} that has expired or is not valid yet: the customer's administrator must correct its dates or "
            "create a new version",
        ),
        Reason.SECURITY_INVALID_AZURE_KEY_VAULT_RECOVERY_LEVEL: (
            _CUSTOMER,
            "the vault lacks soft delete or purge protection, which SQL needs for {target}: the customer's administrator must enable both",
        ),
        Reason.AZURE_KEY_VAULT_RSA_KEY_NOT_SUPPORTED: (
            _CUSTOMER,
            f"SQL accepts RSA keys of {SQL_KEY_USE.shown_sizes} for {{target}}: the customer's administrator must create a key of such a size",
        ),
        Reason.AZURE_KEY_VAULT_NO_SERVER_IDENTITY: (
            _PROVIDER,
            "{target} has no managed identity that exists: the provider's administrator must restore it",
        ),
        Reason.ADAL_SERVICE_PRINCIPAL_NOT_FOUND: (
            _CUSTOMER,
            "SQL does not find the application in the customer's tenant: the customer's administrator must consent to it",
        ),
        Reason.ADAL_GENERIC_ERROR: (
            _PROVIDER,
            "SQL gets no token for the application: the provider's administrator must check the managed identity on {target} and the "
            "application's federated credential",
        ),
        Reason.KEY_MATERIAL_NOT_FOUND_ON_REMOTE_SERVER: (
            _PROVIDER,
            _NOT_ON_THE_SECONDARY,
        ),
        Reason.SAME_KEY_MATERIAL_NOT_FOUND_ON_REMOTE_SERVER: (
            _PROVIDER,
            _NOT_ON_THE_SECONDARY,
        ),
        Reason.SAME_KEY_URI_NOT_FOUND_ON_REMOTE_SERVER: (
            _PROVIDER,
            _NOT_ON_THE_SECONDARY,
        ),
        Reason.SECURITY_AZURE_KEY_VAULT_GEO_CHAIN_ERROR: (
            _PROVIDER,
            "SQL accepts no customer's key for {target} while one of its geo-secondaries has a geo-secondary itself: the provider's "
            "administrator must remove that one from its failover group",
        ),
        Reason.AZURE_KEY_VAULT_KEY_IN_USE: (
            _PROVIDER,
            "a key of {target} is still in use: the provider's administrator must wait until no backup needs it",
        ),
        Reason.DATABASE_INACCESSIBLE: (
            _CUSTOMER,
            "the database {target} cannot use its key: the customer's administrator must restore the access",
        ),
        Reason.SECURITY_AZURE_KEY_VAULT_URL_NULL_OR_EMPTY: _ANOTHER_NAME,
        Reason.AZURE_KEY_VAULT_INVALID_URI: _ANOTHER_NAME,
        Reason.AZURE_KEY_VAULT_MALFORMED_VAULT_URI: _ANOTHER_NAME,
        Reason.SECURITY_AZURE_KEY_VAULT_INVALID_KEY_NAME: _ANOTHER_NAME,
        # The next reconcile adds the key first.
        Reason.SERVER_KEY_DOES_NOT_EXISTS: (Actor.AZURE, "the key has not been added to {target} yet"),
        Reason.SERVER_KEY_NOT_FOUND: (Actor.AZURE, "the key has not been added to {target} yet"),
        Reason.SERVER_KEY_NAME_ALREADY_EXISTS: (Actor.AZURE, "the key is being added to {target}"),
        Reason.SERVER_KEY_URI_ALREADY_EXISTS: (Actor.AZURE, "the key is being added to {target}"),
        Reason.AZURE_KEY_VAULT_CONNECTION_FAILED: (
            Actor.AZURE,
            "SQL cannot reach the vault for {target}: if that lasts, the customer's administrator must check whether the vault was deleted",
        ),
        Reason.AZURE_KEY_VAULT_GENERIC_CONNECTION_ERROR: (Actor.AZURE, "SQL got no usable answer from the vault for {target}"),
        Reason.CONFLICTING_SERVER_OPERATION: (Actor.AZURE, "another operation on {target} is in progress"),
        Reason.ENCRYPTION_PROTECTOR_CHANGE_IN_PROGRESS: (
            Actor.AZURE,
            "another change of the protector of {target} is in progress",
        ),
        Reason.CONFLICTING_DATABASE_OPERATION: (Actor.AZURE, "another operation on {target} is in progress"),
        Reason.OPERATION_IN_PROGRESS: (Actor.AZURE, "another operation on {target} is in progress"),
    }
)


def judge_sql_failure(failure: AzureFailure, target: str) -> Fault:
    """The fault of a refused call for a server or a database, named `target`: its cause, and who must act.

    An error of Entra that SQL passes on explains more than SQL's own code.
    """
    if failure.stage is not Stage.SERVICE:
        return judge_arm_failure(failure, target)
    if failure.entra_codes:
        return judge_arm_failure(replace(failure, code=""), target)
    reason = Reason.of_code(failure.code)
    found = _TABLE.get(reason) if reason is not None else None
    if reason is None or found is None:
        return judge_arm_failure(failure, target, "SQL Server Contributor")
    actor, message = found
    key, servers = _KEY_URI.search(failure.message), [one for one in _SERVER.findall(failure.message) if one != target]
    named = {"key": f" {key[0]}" if key is not None else "", "secondary": f"{servers[-1]} " if servers else ""}
    return Fault(reason, message.format(target=target, **named), actor, failure.retry_after, failure.request_id)
