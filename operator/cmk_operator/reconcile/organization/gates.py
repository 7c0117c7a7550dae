"""One gate for each access to vaults, kept while it is used; and how an access in a status is taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.azure.key_gate import ApplicationAccess, KeyGate, RegisteredAccess
from cmk_operator.azure.registered_application import RegisteredApplication
from cmk_operator.azure.table import Table
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.reconcile.organization.credentials import read_credentials

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.api.organization_key import AcceptedAccess
    from cmk_operator.azure.session import AzureSession
    from cmk_operator.core.faults.fault import Fault
    from cmk_operator.core.organization.credential import Credential
    from cmk_operator.kubernetes.client import KubernetesClient


@dataclass(frozen=True, slots=True)
class OpenGate:
    """A gate, and whether it is the organization's own registration that opens it."""

    gate: KeyGate
    own_registration: bool


@dataclass(slots=True)
class Gates:
    """The gates of all organizations, by their access."""

    session: AzureSession
    _gates: Table[ApplicationAccess | RegisteredAccess, KeyGate] = field(init=False)

    def __post_init__(self) -> None:
        self._gates = Table(lambda access: KeyGate(self.session, access), self.session.monotonic)

    def application(self, access: AcceptedAccess) -> OpenGate:
        """The gate of the platform's application."""
        chain = IdentityChain(
            cloud=CLOUDS[CloudName(access.cloud)],
            provider_tenant_id=access.provider_tenant_id or "",
            managed_identity_client_id=access.managed_identity_client_id or "",
            application_client_id=access.application_client_id or "",
            by_service_account=access.operator_credential == "ServiceAccount",
        )
        return self._opened(ApplicationAccess(chain, access.tenant_id))

    def registration(self, access: AcceptedAccess, credentials: tuple[Credential, ...]) -> OpenGate:
        """The gate of an organization's own registration."""
        application = RegisteredApplication(
            CLOUDS[CloudName(access.cloud)], access.tenant_id, access.client_id or "", credentials
        )
        return self._opened(RegisteredAccess(application))

    def _opened(self, access: ApplicationAccess | RegisteredAccess) -> OpenGate:
        self._gates.drop_unused()
        return OpenGate(self._gates[access], own_registration=isinstance(access, RegisteredAccess))

    async def of(self, client: KubernetesClient, access: AcceptedAccess, namespace: str, now: datetime) -> OpenGate | Fault:
        """The gate of an access that is or was in force. Raises `KubernetesError` if a Secret could not be read now."""
        if access.method == "Application":
            return self.application(access)
        found = await read_credentials(client, namespace, [(one.secret, one.key, None) for one in access.credentials], now)
        return self.registration(access, found.usable) if found.usable else found.fault
