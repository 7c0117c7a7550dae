"""Prerequisites that the vault's data plane shows: by the key's attributes, or by the result of the probe."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.kinds.key_use import NEEDED_OPERATIONS
from cmk_operator.core.prerequisites.prerequisite import Prerequisite, PrerequisiteFacts, PrerequisiteName, Result, Weight

if TYPE_CHECKING:
    from cmk_operator.core.access.state import KeyAttributes
    from cmk_operator.core.prerequisites.key_users import SizedUsers

EXPIRY_WARNING: Final = timedelta(days=30)
WANTED_RETENTION_DAYS: Final = 90


def check_recovery(facts: PrerequisiteFacts, attributes: KeyAttributes | None) -> tuple[Prerequisite, ...]:
    """Judge soft delete, purge protection and retention, from the key's recovery level or else from the vault's settings."""
    level = attributes.recovery_level if attributes is not None else ""
    vault = facts.visible_vault
    if level:
        soft_delete = "Recoverable" in level
        purge_protection = soft_delete and "Purgeable" not in level
        days = attributes.recoverable_days if attributes is not None else None
    elif vault is not None:
        soft_delete, purge_protection, days = True, vault.purge_protection, vault.retention_days
    elif attributes is None:
        return ()
    else:
        unknown = "the vault does not report its recovery level"
        return (
            Prerequisite(PrerequisiteName.SOFT_DELETE, Result.UNKNOWN, unknown, Weight.HARD),
            Prerequisite(PrerequisiteName.PURGE_PROTECTION, Result.UNKNOWN, unknown, Weight.HARD),
            Prerequisite(PrerequisiteName.RETENTION_DAYS, Result.UNKNOWN, unknown, Weight.ADVISED),
        )
    return (
        _soft_delete(facts, present=soft_delete),
        _purge_protection(facts, present=purge_protection),
        _retention(days, present=soft_delete),
    )


def _soft_delete(facts: PrerequisiteFacts, *, present: bool) -> Prerequisite:
    if present:
        return Prerequisite(PrerequisiteName.SOFT_DELETE, Result.PASS, "deleted keys can be recovered", Weight.HARD)
    message = "the vault has no soft delete: the customer's administrator must enable it"
    command = f"az keyvault update --name {facts.vault_name} --enable-soft-delete true"
    return Prerequisite(PrerequisiteName.SOFT_DELETE, Result.FAIL, message, Weight.HARD, command)


def _purge_protection(facts: PrerequisiteFacts, *, present: bool) -> Prerequisite:
    if present:
        message = "nobody can purge a deleted key before its retention ends"
        return Prerequisite(PrerequisiteName.PURGE_PROTECTION, Result.PASS, message, Weight.HARD)
    message = "the vault has no purge protection: the customer's administrator must enable it"
    command = f"az keyvault update --name {facts.vault_name} --enable-purge-protection true"
    return Prerequisite(PrerequisiteName.PURGE_PROTECTION, Result.FAIL, message, Weight.HARD, command)


def _retention(days: int | None, *, present: bool) -> Prerequisite:
    name, weight = PrerequisiteName.RETENTION_DAYS, Weight.ADVISED
    if not present:
        return Prerequisite(
            name, Result.FAIL, "nothing is retained without soft delete: the customer's administrator must enable it", weight
        )
    if days is None:
        return Prerequisite(
            name, Result.UNKNOWN, "the vault does not report for how long deleted keys can be recovered", weight
        )
    if days >= WANTED_RETENTION_DAYS:
        return Prerequisite(name, Result.PASS, f"deleted keys can be recovered for {days} days", weight)
    message = (
        f"deleted keys can be recovered for only {days} days, not {WANTED_RETENTION_DAYS}: this is fixed when a vault is created, so "
        f"the customer's administrator must move the key to a vault with {WANTED_RETENTION_DAYS} days, or notice a deletion in time"
    )
    return Prerequisite(name, Result.FAIL, message, weight)


def check_key(facts: PrerequisiteFacts, attributes: KeyAttributes) -> tuple[Prerequisite, ...]:
    """Judge the attributes of the key version."""
    return (
        _type(facts, attributes),
        _size(facts, attributes),
        _operations(facts, attributes),
        _enabled(facts, attributes),
        _expiry(facts, attributes),
    )


def _type(facts: PrerequisiteFacts, attributes: KeyAttributes) -> Prerequisite:
    if attributes.key_type in {"RSA", "RSA-HSM"}:
        return Prerequisite(PrerequisiteName.KEY_TYPE, Result.PASS, f"the key is {attributes.key_type}", Weight.HARD)
    message = f"the key is {attributes.key_type}, not RSA: the customer's administrator must create an RSA 2048 key"
    return Prerequisite(PrerequisiteName.KEY_TYPE, Result.FAIL, message, Weight.HARD, _create(facts))


def _create(facts: PrerequisiteFacts) -> str:
    return f"az keyvault key create --vault-name {facts.vault_name} --name {facts.key.key_name} --kty RSA --size 2048"


def _size(facts: PrerequisiteFacts, attributes: KeyAttributes) -> Prerequisite:
    size = attributes.key_size
    if size is None:
        return Prerequisite(PrerequisiteName.KEY_SIZE, Result.UNKNOWN, "the size is not known for this type of key")
    if size == 2048:
        return Prerequisite(PrerequisiteName.KEY_SIZE, Result.PASS, "the key has 2048 bits")
    refusing = [users for users in facts.users.sized if not users.use.takes(size)]
    way_out = "".join(f"; {_shown(users)} take {users.use.shown_sizes}" for users in refusing)
    if not refusing:
        way_out = ", or the platform engineer set spec.prerequisites to Warn where every service accepts this size"
    message = f"the key has {size} bits, not 2048: the customer's administrator must create an RSA 2048 key{way_out}"
    return Prerequisite(PrerequisiteName.KEY_SIZE, Result.FAIL, message, command=_create(facts))


def _shown(users: SizedUsers) -> str:
    more = f" and {len(users.names) - 1} more" if len(users.names) > 1 else ""
    return f"{users.use.protects} ({users.names[0]}{more})"


def _operations(facts: PrerequisiteFacts, attributes: KeyAttributes) -> Prerequisite:
    missing = [operation for operation in NEEDED_OPERATIONS if operation not in attributes.operations]
    if not missing:
        return Prerequisite(PrerequisiteName.KEY_OPERATIONS, Result.PASS, "the key permits wrapKey and unwrapKey", Weight.HARD)
    message = f"the key does not permit {' and '.join(missing)}: the customer's administrator must add them"
    command = _set_attributes(facts, attributes, f"--ops {' '.join((*attributes.operations, *missing))}")
    return Prerequisite(PrerequisiteName.KEY_OPERATIONS, Result.FAIL, message, Weight.HARD, command)


def _set_attributes(facts: PrerequisiteFacts, attributes: KeyAttributes, change: str) -> str:
    return f"az keyvault key set-attributes --id {facts.key.at(attributes.version)} {change}"


def _enabled(facts: PrerequisiteFacts, attributes: KeyAttributes) -> Prerequisite:
    if attributes.enabled:
        return Prerequisite(PrerequisiteName.KEY_ENABLED, Result.PASS, "the key version is enabled", Weight.PROBED)
    message = (
        "the key version is disabled: the customer's administrator must enable it, or leave it disabled to keep data cut off"
    )
    return Prerequisite(
        PrerequisiteName.KEY_ENABLED, Result.FAIL, message, Weight.PROBED, _set_attributes(facts, attributes, "--enabled true")
    )


def _expiry(facts: PrerequisiteFacts, attributes: KeyAttributes) -> Prerequisite:
    expires, now = attributes.expires, facts.probe.at
    if expires is None:
        return Prerequisite(PrerequisiteName.KEY_EXPIRY, Result.PASS, "the key version does not expire")
    day = expires.astimezone(UTC).date().isoformat()
    rotate = f"az keyvault key rotate --vault-name {facts.vault_name} --name {facts.key.key_name}"
    if expires <= now:
        message = f"the key version expired on {day}: the customer's administrator must rotate"
        return Prerequisite(PrerequisiteName.KEY_EXPIRY, Result.FAIL, message, command=rotate)
    if expires - now < EXPIRY_WARNING:
        message = (
            f"the key version expires on {day}, in less than {EXPIRY_WARNING.days} days: the customer's administrator should "
            "create a new version before"
        )
        return Prerequisite(PrerequisiteName.KEY_EXPIRY, Result.PASS, message, command=rotate)
    return Prerequisite(PrerequisiteName.KEY_EXPIRY, Result.PASS, f"the key version expires on {day}")


def check_permissions(facts: PrerequisiteFacts) -> Prerequisite:
    """Judge what the application may do from the probe itself; roles and access policies are not read."""
    name, weight, wanted = PrerequisiteName.PERMISSIONS, Weight.PROBED, facts.probe.wanted
    if wanted.round_trip:
        message = "the application just read the key, and wrapped and unwrapped with it"
        return Prerequisite(name, Result.PASS, message, weight)
    access = judge_access(facts.probe)
    not_permitted = (
        wanted.attributes is not None
        and wanted.operation in NEEDED_OPERATIONS
        and wanted.operation not in wanted.attributes.operations
    )
    if access.state is not AccessState.PERMISSION_DENIED or not_permitted:
        reason = f"the key does not permit {wanted.operation}" if not_permitted else f"the key is {access.state.value}"
        return Prerequisite(name, Result.UNKNOWN, f"not proven, because {reason}", weight)
    return Prerequisite(name, Result.FAIL, access.message, weight, _grant(facts))


def _grant(facts: PrerequisiteFacts) -> str:
    failure, application = facts.probe.wanted.failure, facts.application_client_id
    by_policy = failure is not None and failure.inner_code == "ForbiddenByPolicy"
    if by_policy:
        return f"az keyvault set-policy --name {facts.vault_name} --spn {application} --key-permissions get wrapKey unwrapKey"
    return (
        f"az role assignment create --assignee {application} --role 'Key Vault Crypto Service Encryption User' "
        f"--scope {facts.vault_scope}"
    )


def check_region(facts: PrerequisiteFacts) -> Prerequisite:
    """Judge the vault's region: some kinds, such as disk encryption sets, need a vault in their own region."""
    name, weight, users = PrerequisiteName.VAULT_REGION, Weight.ADVISED, facts.users.regional
    shown = " and ".join(dict.fromkeys(user.shown for user in users))
    region = facts.vault_region
    if not users:
        where = f"the vault is in {region}; " if region else ""
        return Prerequisite(name, Result.PASS, f"{where}nothing that uses the key needs a vault in its own region", weight)
    if region is None:
        message = f"the vault does not report its region, but {shown} must be in the same region as the vault"
        return Prerequisite(name, Result.UNKNOWN, message, weight)
    elsewhere = [one for one in users if one.location is not None and one.location != region]
    if elsewhere:
        named = ", ".join(f"{one.name} ({one.location})" for one in elsewhere[:5])
        message = (
            f"the vault is in {region}, but these {shown} are not: {named}: the customer's administrator must "
            "provide a key in a vault of their region, or the platform engineer put them on another key"
        )
        return Prerequisite(name, Result.FAIL, message, weight)
    unknown = [one.name for one in users if one.location is None]
    if unknown:
        message = f"the vault is in {region}; the region of {', '.join(unknown[:5])} is not known yet"
        return Prerequisite(name, Result.UNKNOWN, message, weight)
    return Prerequisite(name, Result.PASS, f"the vault is in {region}, and so are all {shown} on the key", weight)
