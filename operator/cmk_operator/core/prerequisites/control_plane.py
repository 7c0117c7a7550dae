"""Prerequisites that only the vault's control plane shows: locks, and who can reach the vault."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.prerequisites.prerequisite import Prerequisite, PrerequisiteFacts, PrerequisiteName, Result, Weight
from cmk_operator.core.prerequisites.vault_facts import VaultFacts, VaultLock, VaultNotVisible, holding_for

if TYPE_CHECKING:
    from collections.abc import Mapping

_READER: Final = "the customer's administrator may grant the application Key Vault Reader on the vault to have it checked"
_WHY_NOT_VISIBLE: Final[Mapping[VaultNotVisible, str]] = MappingProxyType(
    {
        VaultNotVisible.NOT_READ: "not read yet",
        VaultNotVisible.NOT_GRANTED: f"not visible: {_READER}",
        VaultNotVisible.NO_ANSWER: "not visible now: Resource Manager gave no usable answer for the customer's tenant",
        VaultNotVisible.ANOTHER_VAULT: (
            "not visible: spec.vaultResourceId names another vault than spec.keyUri, so the platform engineer must correct or "
            "remove it"
        ),
    }
)
_BLOCKED_BY_FIREWALL: Final = frozenset({"ForbiddenByFirewall", "ForbiddenByConnection"})


def check_vault(facts: PrerequisiteFacts) -> tuple[Prerequisite, ...]:
    """Judge locks, access for Azure's services, and access for everybody else."""
    seen = facts.visible_vault
    if seen is not None:
        return (*_locks(facts, seen), _bypass(facts, seen), _network(facts, seen))
    unseen, command = why_not_visible(facts)
    network = Prerequisite(PrerequisiteName.NETWORK_PROTECTION, Result.UNKNOWN, unseen, Weight.ADVISED, command)
    failure = facts.probe.wanted.failure
    if failure is not None and failure.inner_code in _BLOCKED_BY_FIREWALL:
        message = "the vault refuses the operator's address, so it is not open to all networks"
        network = Prerequisite(PrerequisiteName.NETWORK_PROTECTION, Result.PASS, message, Weight.ADVISED)
    return (
        Prerequisite(PrerequisiteName.VAULT_LOCK, Result.UNKNOWN, unseen, Weight.ADVISED, command),
        Prerequisite(PrerequisiteName.KEY_LOCK, Result.UNKNOWN, unseen, Weight.ADVISED, command),
        Prerequisite(PrerequisiteName.TRUSTED_SERVICES_BYPASS, Result.UNKNOWN, unseen, Weight.HARD, command),
        network,
    )


def why_not_visible(facts: PrerequisiteFacts) -> tuple[str, str | None]:
    """Why the control plane is not visible, and the grant that would show it if one is missing."""
    unseen = _WHY_NOT_VISIBLE[facts.vault] if isinstance(facts.vault, VaultNotVisible) else ""
    return unseen, _reader(facts) if facts.vault is VaultNotVisible.NOT_GRANTED else None


def _reader(facts: PrerequisiteFacts) -> str:
    return (
        f"az role assignment create --assignee {facts.application_client_id} --role 'Key Vault Reader' "
        f"--scope {facts.vault_scope}"
    )


def _locks(facts: PrerequisiteFacts, seen: VaultFacts) -> tuple[Prerequisite, ...]:
    """A missing lock never blocks a write: locks only stop Resource Manager, and purge protection protects the key."""
    vault = seen.resource_id
    if seen.locks is None:
        unseen = f"locks are not visible: {_READER}"
        return tuple(
            Prerequisite(name, Result.UNKNOWN, unseen, Weight.ADVISED, _reader(facts))
            for name in (PrerequisiteName.VAULT_LOCK, PrerequisiteName.KEY_LOCK)
        )
    key = ArmId(f"{vault.text}/keys/{facts.key.key_name}")
    on_vault = holding_for(seen.locks, vault)
    on_key = on_vault or holding_for(seen.locks, key)
    return (
        _lock(PrerequisiteName.VAULT_LOCK, "vault", seen, on_vault),
        _lock(PrerequisiteName.KEY_LOCK, "key", seen, on_key),
    )


def _lock(name: PrerequisiteName, what: str, seen: VaultFacts, holding: tuple[VaultLock, ...]) -> Prerequisite:
    vault = seen.resource_id
    if holding:
        named = ", ".join(f"{lock.name} ({lock.level}, {_place(lock, vault)})" for lock in sorted(holding, key=_lock_order))
        return Prerequisite(name, Result.PASS, f"the {what} is locked by {named}", Weight.ADVISED)
    if seen.unread_locks:
        message = (
            f"not known: {seen.unread_locks} of the locks that Azure lists cannot be read, and none of the others keeps the {what} from "
            "being deleted"
        )
        return Prerequisite(name, Result.UNKNOWN, message, Weight.ADVISED)
    message = (
        f"no lock keeps the {what} from being deleted through Resource Manager: the customer's administrator must lock the vault, "
        "whose keys inherit it"
    )
    command = f"az lock create --name cmk --lock-type CanNotDelete --resource {vault}"
    return Prerequisite(name, Result.FAIL, message, Weight.ADVISED, command)


def _lock_order(lock: VaultLock) -> tuple[int, str]:
    return len(lock.scope.segments), lock.name


def _place(lock: VaultLock, vault: ArmId) -> str:
    """The scope of a lock in words."""
    return {2: "on the subscription", 4: "on the resource group"}.get(
        len(lock.scope.segments), "on the vault" if lock.scope == vault else "on the key"
    )


def _bypass(facts: PrerequisiteFacts, seen: VaultFacts) -> Prerequisite:
    """Azure's services use their own addresses, so a closed vault must admit them as trusted services.

    Source: Key Vault, "Network security for Azure Key Vault", trusted services.
    """
    name, weight = PrerequisiteName.TRUSTED_SERVICES_BYPASS, Weight.HARD
    if seen.public_network_access == "securedbyperimeter":
        message = (
            "the vault is secured by a network security perimeter, which disables the bypass for trusted services: the customer's "
            "administrator must check that its rules admit Azure's services"
        )
        return Prerequisite(name, Result.UNKNOWN, message, weight)
    if seen.trusted_services_bypass:
        return Prerequisite(name, Result.PASS, "Azure's trusted services may pass the vault's firewall", weight)
    if seen.public:
        message = (
            "the bypass for trusted services is off, which blocks nobody while the vault is open to all networks: the customer's "
            "administrator should enable it before closing the firewall"
        )
        return Prerequisite(name, Result.PASS, message, weight, _allow_services(facts))
    message = (
        "the vault's firewall blocks Azure's services, because the bypass for trusted services is off: the customer's "
        "administrator must enable it"
    )
    return Prerequisite(name, Result.FAIL, message, weight, _allow_services(facts))


def _allow_services(facts: PrerequisiteFacts) -> str:
    return f"az keyvault update --name {facts.vault_name} --bypass AzureServices"


def _network(facts: PrerequisiteFacts, seen: VaultFacts) -> Prerequisite:
    name, weight = PrerequisiteName.NETWORK_PROTECTION, Weight.ADVISED
    if seen.public_network_access == "securedbyperimeter":
        return Prerequisite(name, Result.PASS, "the vault is secured by a network security perimeter", weight)
    if not seen.public:
        how = (
            "the vault's firewall denies by default" if seen.public_network_access == "enabled" else "public access is disabled"
        )
        return Prerequisite(name, Result.PASS, how, weight)
    message = (
        "the vault is open to all networks, so a stolen credential works from anywhere: the customer's administrator must close its "
        "firewall, with the bypass for trusted services on and the operator's own address admitted"
    )
    command = f"az keyvault update --name {facts.vault_name} --default-action Deny --bypass AzureServices"
    return Prerequisite(name, Result.FAIL, message, weight, command)
