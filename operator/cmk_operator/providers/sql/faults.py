"""Refusals of Microsoft.Sql by error code: who must act.

The statuses 401 with these codes are about the vault and not about the operator's own token, so the code is judged before the
status. Source: Azure SQL REST, Encryption Protectors and Server Keys, error codes.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.encryption.arm_faults import judge_arm_failure
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cmk_operator.core.faults.azure_failure import AzureFailure

_BLOCKED, _BUSY = FaultKind.BLOCKED, FaultKind.BUSY
_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR
_ENGINEER: Final = Actor.PLATFORM_ENGINEER
_ANOTHER_NAME: Final = (
    _BLOCKED,
    _ENGINEER,
    "SQL does not take the key's identifier for {target}: the platform engineer must name another key in keyUri",
)

# Codes in lower case: Azure does not keep their spelling.
_TABLE: Final[Mapping[str, tuple[FaultKind, Actor, str]]] = MappingProxyType(
    {
        "authorizationfailed": (
            _BLOCKED,
            _PROVIDER,
            "the operator's managed identity may not do this on {target}: the provider's administrator must assign it a role there, "
            "such as SQL Server Contributor",
        ),
        "azurekeyvaultmissingpermissions": (
            _BLOCKED,
            _CUSTOMER,
            "SQL could not use the key for {target} yet: the customer's administrator must make sure that the application holds Key "
            "Vault Crypto Service Encryption User and that the vault lets trusted Microsoft services through its firewall (a new "
            "assignment takes some minutes)",
        ),
        "azurekeyvaultkeydisabled": (
            _BLOCKED,
            _CUSTOMER,
            "SQL finds the key of {target} disabled: the customer's administrator must enable it",
        ),
        "azurekeyvaultkeynamenotfound": (
            _BLOCKED,
            _CUSTOMER,
            "SQL does not find the key of {target}: the customer's administrator must recover it",
        ),
        "azurekeyvaultinvalidexpirationdate": (
            _BLOCKED,
            _CUSTOMER,
            "SQL takes no key for {target} that has expired or is not valid yet: the customer's administrator must correct its dates or "
            "make a new version",
        ),
        "securityinvalidazurekeyvaultrecoverylevel": (
            _BLOCKED,
            _CUSTOMER,
            "the vault lacks soft delete or purge protection, without which SQL takes no key for {target}: the customer's administrator "
            "must enable both",
        ),
        "azurekeyvaultrsakeynotsupported": (
            _BLOCKED,
            _CUSTOMER,
            "SQL takes RSA keys of 2048 or 3072 bits only for {target}: the customer's administrator must make a key of such a size",
        ),
        "azurekeyvaultnoserveridentity": (
            _BLOCKED,
            _PROVIDER,
            "{target} has no managed identity that exists: the provider's administrator must restore it",
        ),
        "adalserviceprincipalnotfound": (
            _BLOCKED,
            _CUSTOMER,
            "SQL does not find the application in the customer's tenant: the customer's administrator must consent to it",
        ),
        "adalgenericerror": (
            _BLOCKED,
            _PROVIDER,
            "SQL gets no token for the application: the provider's administrator must check the managed identity on {target} and the "
            "application's federated credential",
        ),
        "keymaterialnotfoundonremoteserver": (
            _BLOCKED,
            _PROVIDER,
            "a geo-secondary of {target} does not know the key: the platform engineer must declare an EncryptedResource for it too, or the "
            "provider's administrator add the key to it",
        ),
        "securityazurekeyvaultgeochainerror": (
            _BLOCKED,
            _PROVIDER,
            "SQL takes no customer's key for {target} while one of its geo-secondaries has a geo-secondary itself: the provider's "
            "administrator must remove that one from its failover group",
        ),
        "azurekeyvaultkeyinuse": (
            _BLOCKED,
            _PROVIDER,
            "a key of {target} is still in use: the provider's administrator must wait until no backup needs it",
        ),
        "databaseinaccessible": (
            _BLOCKED,
            _CUSTOMER,
            "the database {target} cannot use its key: the customer's administrator must restore the access",
        ),
        "securityazurekeyvaulturlnullorempty": _ANOTHER_NAME,
        "azurekeyvaultinvaliduri": _ANOTHER_NAME,
        "azurekeyvaultmalformedvaulturi": _ANOTHER_NAME,
        "securityazurekeyvaultinvalidkeyname": _ANOTHER_NAME,
        # The next pass adds the key first.
        "serverkeydoesnotexists": (_BUSY, Actor.AZURE, "{target} does not know the key yet"),
        "serverkeynotfound": (_BUSY, Actor.AZURE, "{target} does not know the key yet"),
        "serverkeynamealreadyexists": (_BUSY, Actor.AZURE, "{target} is being told of the key"),
        "serverkeyurialreadyexists": (_BUSY, Actor.AZURE, "{target} is being told of the key"),
        "azurekeyvaultconnectionfailed": (
            _BUSY,
            Actor.AZURE,
            "SQL does not reach the vault for {target}: if that lasts, the customer's administrator must see whether the vault was deleted",
        ),
        "azurekeyvaultgenericconnectionerror": (_BUSY, Actor.AZURE, "SQL is not served by the vault for {target}"),
        "conflictingserveroperation": (_BUSY, Actor.AZURE, "another operation on {target} is in progress"),
        "conflictingdatabaseoperation": (_BUSY, Actor.AZURE, "another operation on {target} is in progress"),
        "operationinprogress": (_BUSY, Actor.AZURE, "another operation on {target} is in progress"),
    }
)


def judge_sql_failure(failure: AzureFailure, target: str) -> Fault:
    """Say who must act on a refused call about a server or a database, named `target`.

    What Entra said to SQL says more than SQL's own code.
    """
    if failure.stage is not Stage.SERVICE:
        return judge_arm_failure(failure, target)
    if failure.entra_codes:
        return judge_arm_failure(replace(failure, code=""), target)
    found = _TABLE.get(failure.code.lower())
    if found is None:
        return judge_arm_failure(failure, target, "SQL Server Contributor")
    kind, actor, message = found
    return Fault(kind, failure.code, message.format(target=target), actor, failure.retry_after, failure.request_id)
