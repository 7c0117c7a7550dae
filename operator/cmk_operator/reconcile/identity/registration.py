"""Registers what a `FederatedIdentity` asks for: observes, decides and sends one request, then repeats."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from cmk_operator.api.federated_identity import (
    FederatedIdentity,
    FederatedIdentityStatus,
    ManagedIdentityReport,
    Registration,
)
from cmk_operator.azure.credentials import IdentityChain
from cmk_operator.azure.registrar import RegistrarClient
from cmk_operator.core.faults.fault import Fault, busy, invalid
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.arm_id import InvalidArmIdError, parse_arm_id
from cmk_operator.core.registration.plan import (
    DesiredRegistration,
    MarkApplication,
    ObservedRegistration,
    TrustAtApplication,
    UpsertApplication,
    next_step,
)
from cmk_operator.kubernetes.status import reference_of
from cmk_operator.reconcile.audit import identity_registered

if TYPE_CHECKING:
    from datetime import datetime

    from cmk_operator.core.identifiers.arm_id import ArmId
    from cmk_operator.core.registration.plan import RegistrationStep, ServiceAccount
    from cmk_operator.reconcile.identity.context import IdentityContext

MOST_STEPS: Final = 10
"""More steps than any registration needs; after so many, the next pass continues."""


@dataclass(frozen=True, slots=True)
class RegistrationOutcome:
    """The result of one attempt."""

    observed: ObservedRegistration = field(default_factory=ObservedRegistration)
    fault: Fault | None = None
    changed: bool = False
    """Whether Azure was written to; replication then takes some minutes."""

    @property
    def unread(self) -> bool:
        """Whether the fault is only that something could not be read, so that it may be correct."""
        return self.fault is not None and self.fault in {
            self.observed.application_unread,
            self.observed.managed_identity_unread,
        }


async def register(context: IdentityContext, identity: FederatedIdentity, account: ServiceAccount) -> RegistrationOutcome:
    """Take one step at a time until everything is registered or something blocks it."""
    desired = _desired_registration(identity, account)
    if isinstance(desired, Fault):
        return RegistrationOutcome(fault=desired)
    client = RegistrarClient(context.session, _registrar(identity, desired.registrar_client_id))
    outcome = RegistrationOutcome()
    for _ in range(MOST_STEPS):
        observed = await client.observe(desired)
        outcome = replace(outcome, observed=observed)
        step = next_step(desired, observed)
        if step is None or isinstance(step, Fault):
            return replace(outcome, fault=step)
        if not outcome.changed and not await _still_wanted(context, identity):
            return replace(outcome, fault=busy(Reason.CHANGED, "the manifest changed during the pass"))
        fault = await client.take(desired, step)
        if fault is not None:
            return replace(outcome, fault=fault)
        outcome = replace(outcome, changed=True)
        _note(context, identity, desired, step)
    return replace(outcome, fault=busy(Reason.REGISTERING, "Azure does not show the registration yet"))


def _desired_registration(identity: FederatedIdentity, account: ServiceAccount) -> DesiredRegistration | Fault:
    spec, registration = identity.spec, identity.status.registration or Registration()
    if spec.registrar is None:
        return invalid(Reason.REGISTRAR_MISSING, "spec.registrar is required to register anything")
    try:
        managed_identity: ArmId = parse_arm_id(spec.managed_identity.resource_id)
    except InvalidArmIdError as error:
        return invalid(Reason.INVALID_RESOURCE_ID, f"spec.managedIdentity.resourceId is not usable: {error}")
    registered = spec.application.register_
    return DesiredRegistration(
        identity_name=identity.metadata.name,
        registrar_client_id=spec.registrar.client_id.lower(),
        display_name=registered.display_name if registered is not None else None,
        known_client_id=registration.application_client_id,
        known_object_id=registration.application_object_id,
        managed_identity=managed_identity,
        location=spec.managed_identity.register_.location if spec.managed_identity.register_ is not None else None,
        entra_issuer=spec.entra_issuer,
        audience=spec.endpoints.token_exchange_audience,
        service_account=account,
        by_service_account=spec.effective_credential == "ServiceAccount",
    )


def _registrar(identity: FederatedIdentity, client_id: str) -> IdentityChain:
    """The chain that signs in as the registrar in place of the managed identity, without an application."""
    return IdentityChain(identity.spec.endpoints, identity.spec.tenant_id.lower(), client_id, "", by_service_account=False)


async def _still_wanted(context: IdentityContext, identity: FederatedIdentity) -> bool:
    """Check at the API server before the first write, because the watch may lag behind a change or deletion of the manifest."""
    reference = reference_of(identity)
    body = await context.cluster.client.get(reference)
    if body is None:
        return False
    await context.cluster.put_answer(reference, body)
    now = context.cluster.inventory.get(FederatedIdentity, reference.name)
    return now is not None and (now.metadata.uid, now.metadata.generation) == (
        identity.metadata.uid,
        identity.metadata.generation,
    )


def _note(context: IdentityContext, identity: FederatedIdentity, desired: DesiredRegistration, step: RegistrationStep) -> None:
    """Record one entry for each write (law 8)."""
    at_application = isinstance(step, UpsertApplication | MarkApplication | TrustAtApplication)
    target = f"application {desired.display_name!r}" if at_application else desired.managed_identity.text
    context.reporting.journal.note(
        identity_registered(identity, step.purpose, target, desired.registrar_client_id, context.reporting.now())
    )


def status_after(identity: FederatedIdentity, outcome: RegistrationOutcome | None, now: datetime) -> FederatedIdentityStatus:
    """The status with the ids that are known now and everything else unchanged; pure."""
    if outcome is None:
        return identity.status.model_copy(update={"registration": None})
    before = identity.status.registration or Registration()
    observed_application = outcome.observed.application
    registered = identity.spec.application.register_ is not None
    client_id, object_id = before.application_client_id, before.application_object_id
    if observed_application is not None:
        client_id, object_id = observed_application.client_id.lower(), observed_application.object_id
    registration = Registration(
        application_client_id=client_id if registered else None,
        application_object_id=object_id if registered else None,
        changed_at=now if outcome.changed else before.changed_at,
    )
    managed = outcome.observed.managed_identity
    report = identity.status.managed_identity
    if managed is not None and managed.client_id and managed.principal_id:
        report = ManagedIdentityReport(
            resource_id=identity.spec.managed_identity.resource_id,
            client_id=managed.client_id.lower(),
            principal_id=managed.principal_id,
        )
    return identity.status.model_copy(update={"registration": registration, "managed_identity": report})
