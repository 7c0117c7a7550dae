"""Judges a probe by Key Vault's error codes; an outage or an answer of another server never counts as a loss."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import Access, AccessState, KeyAttributes, KeyProbe, VersionProbe
from cmk_operator.core.access.token_verdict import judge_token_failure, may_be_replication, shown_codes
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.fault import Actor
from cmk_operator.core.text.foreign_text import shown_code
from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SHOWS_WITHIN: Final = timedelta(seconds=30)
"""How long a key may be nowhere while it is deleted or recovered. About two seconds were recorded: azure-keyvault-keys, test_purge."""
CREDENTIAL_REPLICATES_WITHIN: Final = timedelta(minutes=10)
"""How long a new federated credential may be refused. Source: Entra, "Important considerations" of federated credentials."""
_CUSTOMER: Final = Actor.CUSTOMER_ADMINISTRATOR
_PROVIDER: Final = Actor.PROVIDER_ADMINISTRATOR

GRANT_AGAIN: Final = "then grant again, because its role assignments are lost"
"""What the recovery of a deleted vault also needs. Source: Key Vault, "Soft-delete overview"."""
# Inner codes of Key Vault's 403. Source: Key Vault "Common error codes", and recordings of its SDKs.
_FORBIDDEN: Final[Mapping[str, tuple[AccessState, Actor, str]]] = MappingProxyType(
    {
        "KeyDisabled": (
            AccessState.DISABLED,
            _CUSTOMER,
            "the key version is disabled: the customer's administrator must enable it, or leave it disabled to keep data cut off",
        ),
        "ForbiddenByRbac": (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "Key Vault refuses {operation} by RBAC: the customer's administrator must assign the role Key Vault Crypto Service "
            "Encryption User to the application on the vault or key (a new assignment takes some minutes; a vault that was deleted "
            "and recovered has lost its assignments)",
        ),
        "ForbiddenByPolicy": (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "Key Vault refuses {operation} by access policy: the customer's administrator must grant the application get, "
            "wrapKey and unwrapKey",
        ),
        "AccessDenied": (
            AccessState.PERMISSION_DENIED,
            _CUSTOMER,
            "Key Vault refuses {operation}: the customer's administrator must grant the application get, wrapKey and unwrapKey",
        ),
        "ForbiddenByFirewall": (
            AccessState.FIREWALL_BLOCKS_PROBE,
            _CUSTOMER,
            "the vault's firewall does not admit the operator's address, which says nothing about Azure's trusted services: the "
            "customer's administrator must admit that address for the operator to see the key's state",
        ),
        "ForbiddenByConnection": (
            AccessState.FIREWALL_BLOCKS_PROBE,
            _CUSTOMER,
            "the vault admits no public network, which says nothing about Azure's trusted services: the customer's administrator "
            "must approve a private endpoint for the operator to see the key's state",
        ),
    }
)


def state_of_forbidden(inner_code: str) -> AccessState | None:
    """The state that the inner code of Key Vault's 403 shows; None for a code that this release does not know."""
    found = _FORBIDDEN.get(inner_code)
    return found[0] if found is not None else None


def judge_access(probe: KeyProbe) -> Access:
    """The state that a probe shows; an outage or a refusal without a cause never counts as a loss."""
    wanted = probe.wanted
    if probe.vault_tenant is not None:
        return Access(
            AccessState.VAULT_IN_ANOTHER_TENANT,
            f"the vault belongs to tenant {probe.vault_tenant}, not to the declared one: the platform engineer must correct "
            "keyUri, or the provider's administrator the CustomerTenant",
            Actor.PLATFORM_ENGINEER,
        )
    if wanted.failure is not None:
        return _judge_failure(wanted.failure, wanted, probe)
    if wanted.attributes is None:
        return Access(AccessState.UNKNOWN, "the key was not probed")
    by_attributes = _judge_attributes(wanted.attributes, probe.at)
    if by_attributes is not None:
        return by_attributes
    if not wanted.round_trip:
        return Access(
            AccessState.UNKNOWN,
            "Key Vault unwrapped other bytes than it wrapped: the maintainers of cmk-operator must investigate",
            Actor.MAINTAINER,
        )
    return Access(AccessState.ACCESSIBLE, "the key was read, and wrapped and unwrapped in the vault")


def _judge_attributes(attributes: KeyAttributes, at: datetime) -> Access | None:
    if not attributes.enabled:
        state, actor, message = _FORBIDDEN["KeyDisabled"]
        return Access(state, message, actor)
    if attributes.expires is not None and attributes.expires <= at:
        return Access(
            AccessState.EXPIRED,
            f"the key version expired at {to_rfc3339(attributes.expires)}: the customer's administrator must create a new version "
            "or extend its expiry",
            _CUSTOMER,
        )
    if attributes.not_before is not None and attributes.not_before > at:
        return Access(
            AccessState.NOT_YET_VALID,
            f"the key version is valid from {to_rfc3339(attributes.not_before)}: the customer's administrator must move its "
            "activation date, or wait until then",
            _CUSTOMER,
        )
    return None


def _judge_failure(failure: AzureFailure, wanted: VersionProbe, probe: KeyProbe) -> Access:
    if failure.stage is not Stage.SERVICE:
        delay = _credential_delay(failure, probe)
        if delay is not None:
            return delay
        access = judge_token_failure(failure, application_missing=probe.application_missing)
        if access.state.is_known_loss:
            return access
        return replace(access, message=f"nothing is known about the key, because {access.message}")
    by_attributes = _judge_refused_operation(failure, wanted, probe.at)
    if by_attributes is not None:
        return by_attributes
    # A proxy or gateway can return 403 and 404 too, but only Key Vault gives a code. Without one, conclude nothing.
    if failure.status == 404 and failure.code == "KeyNotFound":
        unfound = wanted.attributes is not None and probe.deleted is None
        return _judge_unfound(failure, wanted, probe) if unfound else _judge_missing(failure, probe)
    if failure.status == 403 and failure.code not in {"", "Http403"}:
        found = _FORBIDDEN.get(failure.inner_code)
        if found is None:
            return Access(
                AccessState.VAULT_REFUSED,
                f"Key Vault refuses {wanted.operation} with a code that this release does not know "
                f"({shown_code(failure.inner_code) or failure.shown_code}){failure.quoted}; the customer's administrator must look the code "
                "up and correct what it names; if Azure's services are refused as well, data becomes inaccessible",
                _CUSTOMER,
                failure.request_id,
            )
        state, actor, message = found
        return Access(state, message.format(operation=wanted.operation), actor, failure.request_id)
    # 421: no such vault behind this connection. A deleted vault keeps its name while it can be recovered, so it answers.
    if failure.status is None or failure.status >= 500 or failure.status == 421 or failure.code == "VaultNotFound":
        return Access(
            AccessState.VAULT_UNREACHABLE,
            f"the vault gives no usable answer ({failure.shown_code}): nothing is concluded about the key; if Azure's services cannot "
            "reach it either, data becomes inaccessible; an outage ends by itself, a deleted vault the customer's administrator must "
            f"recover, {GRANT_AGAIN}",
            Actor.AZURE,
            failure.request_id,
        )
    if failure.status == 401 and failure.key_vault_codes:
        return Access(
            AccessState.IDENTITY_BROKEN,
            f"Key Vault does not accept the application's token ({failure.shown_code}): the provider's administrator must check that "
            "FederatedIdentity and vault are in one cloud",
            _PROVIDER,
            failure.request_id,
        )
    return Access(
        AccessState.UNKNOWN,
        f"the vault's address answered {failure.status} {failure.shown_code}: nothing is concluded about the key{failure.quoted}",
        Actor.AZURE,
        failure.request_id,
    )


def _judge_refused_operation(failure: AzureFailure, wanted: VersionProbe, at: datetime) -> Access | None:
    """Explain a refused operation on a version that could be read by the version's own attributes; None if they do not."""
    if wanted.attributes is None or failure.status not in {400, 403}:
        return None
    by_attributes = _judge_attributes(wanted.attributes, at)
    if by_attributes is not None and failure.status == 403:
        return by_attributes
    if wanted.operation in wanted.attributes.operations:
        return None
    return Access(
        AccessState.PERMISSION_DENIED,
        f"the key itself does not permit {wanted.operation} to anybody: the customer's administrator must create an RSA 2048 key "
        "that permits wrapKey and unwrapKey",
        _CUSTOMER,
        failure.request_id,
    )


def is_missed(probe: KeyProbe) -> bool:
    """Whether the vault has the key neither live nor deleted, or does not find a version that it has just shown."""
    nowhere = _unfound(probe.wanted) and probe.latest_exists is False
    shown = any(_unfound(one) and one.attributes is not None for one in (probe.wanted, *probe.in_use.values()))
    return probe.deleted is None and (nowhere or shown)


def _unfound(one: VersionProbe) -> bool:
    failure = one.failure
    return failure is not None and failure.stage is Stage.SERVICE and (failure.status, failure.code) == (404, "KeyNotFound")


def _credential_delay(failure: AzureFailure, probe: KeyProbe) -> Access | None:
    """The delay of a federated credential that was seen to fit only a short while ago; None if it is not, or the delay is over."""
    since = probe.credential_since
    if failure.stage is not Stage.APPLICATION_TOKEN or since is None or not may_be_replication(failure):
        return None
    until = since + CREDENTIAL_REPLICATES_WITHIN
    if probe.at >= until:
        return None
    return Access(
        AccessState.CREDENTIAL_REPLICATING,
        f"Entra does not know the application's new federated credential everywhere yet ({shown_codes(failure)}): nobody needs to act "
        f"before {to_rfc3339(until)}; after that it counts as broken",
        Actor.AZURE,
        failure.request_id,
    )


def _shows_until(probe: KeyProbe) -> datetime | None:
    """Until when a key that is missed may only be late to show; None after that."""
    until = (probe.missing_since or probe.at) + SHOWS_WITHIN
    return until if probe.at < until else None


def _judge_unfound(failure: AzureFailure, wanted: VersionProbe, probe: KeyProbe) -> Access:
    """Judge an operation that does not find the version that a read has just shown."""
    until = _shows_until(probe)
    if until is not None:
        return Access(
            AccessState.VERSION_REPLICATING,
            f"the vault shows the version but does not find it for {wanted.operation}, as with a version that is new or a key that is "
            f"being deleted: nothing is concluded until {to_rfc3339(until)}",
            Actor.AZURE,
            failure.request_id,
        )
    return Access(
        AccessState.MISSING,
        f"the vault shows the version but does not find it for {wanted.operation}: the customer's administrator must create a new "
        "version, or restore the key from a backup",
        _CUSTOMER,
        failure.request_id,
    )


def _judge_missing(failure: AzureFailure, probe: KeyProbe) -> Access:
    if probe.deleted is not None:
        purge = f" until {to_rfc3339(probe.deleted.scheduled_purge)}" if probe.deleted.scheduled_purge else ""
        return Access(
            AccessState.DELETED,
            f"the key is deleted and can be recovered{purge}: the customer's administrator must recover it",
            _CUSTOMER,
            failure.request_id,
        )
    if probe.latest_exists:
        return Access(
            AccessState.VERSION_MISSING,
            "the key exists but not this version: the platform engineer must correct the version in keyUri, or the customer's "
            "administrator restore it from a backup",
            Actor.PLATFORM_ENGINEER,
            failure.request_id,
        )
    if probe.latest_exists is None:
        return Access(
            AccessState.MISSING,
            "the vault has no such key, and does not say whether it can be recovered: the customer's administrator must recover it, or "
            "restore it from a backup",
            _CUSTOMER,
            failure.request_id,
        )
    until = _shows_until(probe)
    if until is not None:
        return Access(
            AccessState.BEING_DELETED_OR_RECOVERED,
            "the vault has no such key now, live or deleted, as for some seconds while one is being deleted or recovered; if neither "
            f"shows until {to_rfc3339(until)}, it counts as purged: the customer's administrator must recover it if it was deleted, "
            "the platform engineer correct keyUri if it never existed",
            _CUSTOMER,
            failure.request_id,
        )
    return Access(
        AccessState.PURGED,
        "the vault has no such key, live or recoverable: it was purged or never existed; the customer's administrator must restore it "
        "from a backup, or the platform engineer correct keyUri",
        _CUSTOMER,
        failure.request_id,
    )
