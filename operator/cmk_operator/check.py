"""`cmk-operator check`: whether an installation can work, asked as the operator itself and without changing anything.

`helm test` runs it in a pod with the operator's ServiceAccount, settings and token. It asks what the operator needs before its
first decision: the API server, its kinds, the Lease, and a sign-in for each FederatedIdentity.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from cmk_operator import __version__
from cmk_operator.api.conditions import find
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.azure.identities import sign_in
from cmk_operator.azure.registrar import service_account_of
from cmk_operator.azure.session import AzureSession, TokenFile
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.registration.plan import ServiceAccount, judge_token_audience
from cmk_operator.handlers import reason_of
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, collection_path
from cmk_operator.kubernetes.connection import Connection, find_connection
from cmk_operator.kubernetes.exec_plugin import ConfigurationError
from cmk_operator.kubernetes.inventory import WATCHED
from cmk_operator.kubernetes.leadership import lease_name, leases_path
from cmk_operator.reconcile.identity.report import identity_status
from cmk_operator.reconcile.references import chain_of
from cmk_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cmk_operator.azure.call_budget import BudgetRates
    from cmk_operator.settings import Settings

DEADLINE: Final = 90.0
"""Seconds until the check gives up: a call to the API server has 15 of them, and a sign-in 20."""
SUBJECT_WIDTH: Final = 20


class Verdict(StrEnum):
    """How one question was answered."""

    OK = "ok"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question: its subject in a few words, and a sentence, which says who must act if it failed."""

    verdict: Verdict
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.verdict:<8}{self.subject:<{SUBJECT_WIDTH}}{self.message}"


async def check(settings: Settings, rates: BudgetRates) -> int:
    """Print each finding as it comes; returns 0 if none of them failed, else 1."""
    _say(f"cmk-operator {__version__} checks its installation; nothing is changed.")
    failed = asked = 0
    try:
        async with asyncio.timeout(DEADLINE):
            async for finding in _findings(settings, rates):
                asked += finding.verdict is not Verdict.SKIPPED
                failed += finding.verdict is Verdict.FAILED
                _say(finding)
    except TimeoutError:
        failed, asked = failed + 1, asked + 1
        message = f"the check did not end within {DEADLINE:.0f} s: what was not answered is not listed above"
        _say(Finding(Verdict.FAILED, "time", message))
    _say(f"{failed} of {asked} checks failed." if failed else f"All {asked} checks passed.")
    return 1 if failed else 0


def _say(line: Finding | str) -> None:
    print(line, flush=True)  # noqa: T201 - what this command is for


async def _findings(settings: Settings, rates: BudgetRates) -> AsyncIterator[Finding]:
    try:
        connection = await find_connection(os.environ)
    except ConfigurationError as problem:
        yield Finding(Verdict.FAILED, "API server", str(problem))
        return
    telemetry = Telemetry()
    async with connection.open() as http:
        client = KubernetesClient(http, telemetry)
        server = await _server(client, connection)
        yield server
        if server.verdict is Verdict.FAILED:
            return
        async for finding in _kinds(client, settings):
            yield finding
        yield await _lease(client, settings)
        account = await asyncio.to_thread(service_account_of, settings.federated_token_file)
        yield _token(account)
        async with AzureSession(telemetry, TokenFile(settings.federated_token_file), rates) as session:
            async for finding in _sign_ins(client, session, settings, account):
                yield finding


async def _server(client: KubernetesClient, connection: Connection) -> Finding:
    try:
        version = await client.request("GET", "/version")
    except KubernetesError as error:
        if error.status == 401:
            message = (
                f"{connection.server} does not accept the ServiceAccount's token: the platform engineer must start the pod anew"
            )
        else:
            message = (
                f"{connection.server} does not answer as it should ({error}): the platform engineer must let the pod reach it; a "
                "NetworkPolicy or a proxy may be in the way"
            )
        return Finding(Verdict.FAILED, "API server", message)
    return Finding(
        Verdict.OK, "API server", f"{connection.server} answers, Kubernetes {version.get('gitVersion', 'of unknown version')}"
    )


async def _kinds(client: KubernetesClient, settings: Settings) -> AsyncIterator[Finding]:
    """One finding for each kind that cannot be listed, or one for all of them."""
    refused = 0
    for plural in WATCHED:
        try:
            await client.request("GET", collection_path(plural), query={"limit": "1"})
        except KubernetesError as error:
            refused += 1
            yield Finding(Verdict.FAILED, "kinds", f"{plural}: {reason_of(plural, error)}")
    if not refused:
        yield Finding(Verdict.OK, "kinds", f"all {len(WATCHED)} kinds are defined, and the operator may list them")
    if settings.licences:
        yield await _licence(client)


async def _licence(client: KubernetesClient) -> Finding:
    try:
        await client.request("GET", f"{collection_path('licences')}/organizations")
    except KubernetesError as error:
        if error.status == 404:
            message = (
                "there is no Licence organizations, so every write of an OrganizationKey is refused: the provider must apply it"
            )
        else:
            message = reason_of("licences", error)
        return Finding(Verdict.FAILED, "Licence", message)
    return Finding(Verdict.OK, "Licence", "the operator reads the Licence organizations")


async def _lease(client: KubernetesClient, settings: Settings) -> Finding:
    name = lease_name(settings.operator_class)
    where = f"Lease {name} in namespace {settings.lease_namespace}"
    try:
        lease = await client.request("GET", f"{leases_path(settings.lease_namespace)}/{name}")
    except KubernetesError as error:
        if error.status == 404:
            return Finding(Verdict.OK, "leader election", f"{where} does not exist yet: no operator has led")
        if error.status == 403:
            message = f"RBAC forbids it: whoever installs the operator must create the Role for the Lease ({error})"
            return Finding(Verdict.FAILED, "leader election", message)
        return Finding(Verdict.FAILED, "leader election", f"{where} cannot be read: {error}")
    holder = (lease.get("spec") or {}).get("holderIdentity") or "nobody"
    return Finding(Verdict.OK, "leader election", f"{where} is held by {holder}")


def _token(account: ServiceAccount | AzureFailure) -> Finding:
    if isinstance(account, AzureFailure):
        message = (
            f"{account.message}: whoever starts the operator must mount a ServiceAccount token for Entra, as the chart does, and name "
            "its file in AZURE_FEDERATED_TOKEN_FILE"
        )
        return Finding(Verdict.FAILED, "token for Entra", message)
    audiences = ", ".join(account.audiences)
    return Finding(Verdict.OK, "token for Entra", f"subject {account.subject}, issuer {account.issuer}, audience {audiences}")


async def _sign_ins(
    client: KubernetesClient, session: AzureSession, settings: Settings, account: ServiceAccount | AzureFailure
) -> AsyncIterator[Finding]:
    """A sign-in as the managed identity of each FederatedIdentity of this operator's class."""
    found = 0
    try:
        async for page in client.pages(FederatedIdentity.plural):
            for item in page.items:
                subject = f"sign-in {item['metadata']['name']}"
                try:
                    identity = FederatedIdentity.model_validate(item)
                except ValidationError:
                    yield Finding(Verdict.FAILED, subject, "the manifest does not match this release's definition of its kind")
                    continue
                if (identity.spec.operator_class or "") == settings.operator_class:
                    found += 1
                    yield await _sign_in(session, identity, account, subject)
    except KubernetesError:
        yield Finding(Verdict.SKIPPED, "sign-in", "the FederatedIdentities cannot be listed")
        return
    if not found:
        of_class = f" of class {settings.operator_class}" if settings.operator_class else ""
        message = f"there is no FederatedIdentity{of_class} yet: once you have applied one, run this again"
        yield Finding(Verdict.SKIPPED, "sign-in", message)


async def _sign_in(
    session: AzureSession, identity: FederatedIdentity, account: ServiceAccount | AzureFailure, subject: str
) -> Finding:
    if isinstance(account, AzureFailure):
        return Finding(Verdict.SKIPPED, subject, "there is no token for it")
    chain = chain_of(identity)
    failure: AzureFailure | Fault | None = judge_token_audience(account, identity.spec.endpoints)
    if isinstance(chain, Fault):
        return Finding(Verdict.FAILED, subject, chain.message)
    if failure is None:
        failure = await sign_in(session, chain)
    status = identity_status(identity, failure, None, None, datetime.now(UTC))
    authenticated = find(status.conditions, ConditionType.AUTHENTICATED)
    message = authenticated.message if authenticated is not None else ""
    return Finding(Verdict.OK if failure is None else Verdict.FAILED, subject, message)
