"""Tries the settings of a manifest with its Secrets and through the gates of the old key and the new; used by pass and preflight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.core.authority import judge_key, judge_namespace
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import key_uri_or_none
from cmk_operator.core.organization.advice import key_advice, region_advice
from cmk_operator.reconcile.organization.acceptance import Refused, refused_by_reference, try_old_key, try_settings
from cmk_operator.reconcile.organization.credentials import read_credentials
from cmk_operator.reconcile.organization.report import no_data_key_on
from cmk_operator.reconcile.organization.settings import Proven, wanted_settings
from cmk_operator.reconcile.references import OrganizationPath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cmk_operator.api.organization_key import AcceptedAccess, AcceptedKey, OrganizationKey, OrganizationKeyStatus
    from cmk_operator.kubernetes.client import KubernetesClient
    from cmk_operator.kubernetes.inventory import Inventory
    from cmk_operator.reconcile.organization.credentials import ReadCredentials
    from cmk_operator.reconcile.organization.gates import Gates, OpenGate
    from cmk_operator.reconcile.organization.settings import Wanted


@dataclass(frozen=True, slots=True)
class Trial:
    """One object, and what its settings are tried with."""

    client: KubernetesClient
    inventory: Inventory
    gates: Gates
    organization: OrganizationKey
    now: datetime

    @property
    def namespace(self) -> str:
        """The namespace of the object and of the Secrets that it names."""
        return self.organization.metadata.namespace or ""

    async def credentials(self, path: OrganizationPath | Fault | None) -> ReadCredentials | None:
        """The credentials of the registration that the manifest names; None if it names none, or is not admitted.

        Raises `KubernetesError`.
        """
        if not isinstance(path, OrganizationPath) or path.registration is None:
            return None
        wanted = [(one.secret_ref.name, one.secret_ref.key, one.expires) for one in path.registration.credentials]
        return await read_credentials(self.client, self.namespace, wanted, self.now)

    def wanted(self, path: OrganizationPath | Fault | None, credentials: ReadCredentials | None) -> Wanted | Refused:
        """The settings that the manifest asks for; a refusal if a reference or every Secret is missing or not usable."""
        if isinstance(path, Fault):
            return refused_by_reference(path)
        if path is None:
            return wanted_settings(self.organization)
        if credentials is None:
            return wanted_settings(self.organization, path.key_uri, path.access)
        if not credentials.usable:
            return refused_by_reference(credentials.fault)
        access = path.access.model_copy(update={"credentials": credentials.accepted})
        return wanted_settings(self.organization, path.key_uri, access)

    async def run(self, status: OrganizationKeyStatus, wanted: Wanted, credentials: ReadCredentials | None) -> Proven | Refused:
        """Try the settings; each data key on the key in force must be unwrapped once more, so that key is tried too."""
        accepted = status.accepted
        old = await self._old_gate(status)
        if wanted.access is None:
            refused = await try_old_key(old, accepted) if accepted is not None and old is not None else None
            return refused if refused is not None else Proven()
        gates = self.gates
        new = (
            gates.registration(wanted.access, credentials.usable)
            if credentials is not None
            else gates.application(wanted.access)
        )
        return await try_settings(new, wanted, accepted, old)

    async def _old_gate(self, status: OrganizationKeyStatus) -> OpenGate | Fault | None:
        """The gate of the key in force; None if it is the platform's, or the key service is known to have no data key on it."""
        accepted = status.accepted
        if accepted is None or accepted.access is None or no_data_key_on(status, accepted.kid, self.now):
            return None
        return await self.gate_of(accepted, accepted.access)

    async def gate_of(self, accepted: AcceptedKey, access: AcceptedAccess) -> OpenGate | Fault:
        """The gate of settings that are in force; a fault if no tenant allows their vault to this namespace any more."""
        unbound = _no_longer_allowed(self.inventory, self.organization, accepted, access)
        if unbound is not None:
            return unbound
        return await self.gates.of(self.client, access, self.namespace, self.now)

    async def advice(self, gate: OpenGate, proven: Proven) -> tuple[str, ...]:
        """What to tell the organization about its vault and key, as far as it is visible."""
        elsewhere = region_advice(self.organization.spec.organization.region, proven.vault_region)
        kid = key_uri_or_none(proven.kid)
        found = await gate.gate.read(kid) if kid is not None else None
        of_key = key_advice(found, self.now) if found is not None and not isinstance(found, AzureFailure) else ()
        return (*((elsewhere,) if elsewhere is not None else ()), *of_key)


def _no_longer_allowed(
    inventory: Inventory, organization: OrganizationKey, accepted: AcceptedKey, access: AcceptedAccess
) -> Fault | None:
    """Why no tenant allows the key in force to this namespace any more; None if one does.

    The manifest may name another tenant by now, so every tenant of the same Entra tenant counts.
    """
    first: Fault | None = None
    for tenant in _tenants(inventory, organization):
        if tenant.spec.tenant_id.lower() != access.tenant_id:
            continue
        refused = judge_namespace(tenant.grant, organization.metadata.namespace or "")
        found = refused or judge_key(tenant.grant, CLOUDS[CloudName(access.cloud)], accepted.kid)
        if not isinstance(found, Fault):
            return None
        first = first or found
    if first is not None:
        return first
    message = (
        f"no CustomerTenant is of the tenant {access.tenant_id} of the key in force any more: the provider's administrator must create it "
        "again, or nothing is asked of that vault"
    )
    return Fault(Reason.TENANT_NOT_FOUND, message, Actor.PROVIDER_ADMINISTRATOR)


def _tenants(inventory: Inventory, organization: OrganizationKey) -> Iterator[CustomerTenant]:
    """All tenants, the one that the manifest names first."""
    named = organization.spec.tenant_ref.name if organization.spec.tenant_ref is not None else ""
    for name in dict.fromkeys((named, *(reference.name for reference in inventory.all(CustomerTenant.plural)))):
        tenant = inventory.get(CustomerTenant, name)
        if tenant is not None:
            yield tenant
