"""The OrganizationKeys as the page reads and changes them: every request goes to the Kubernetes API, as the console's ServiceAccount."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pydantic import ValidationError

from cmk_keyservice.console.changes import TenantChoice
from cmk_keyservice.console.people import Role, role_of
from cmk_operator.api.customer_tenant import CustomerTenant
from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.api.model import API_VERSION, CHANGED_BY, CONSOLE_FIELD_MANAGER
from cmk_operator.api.organization_key import OrganizationKey
from cmk_operator.api.preflight import Preflight, PreflightStatus
from cmk_operator.api.support_request import SupportRequest
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.organization.support import RequestState, judge
from cmk_operator.kubernetes.client import KubernetesError, ObjectReference, collection_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cmk_keyservice.console.people import Person
    from cmk_operator.kubernetes.client import KubernetesClient

TEST_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.3
_APPLY: Final = "application/apply-patch+yaml"
_CONFLICT: Final = re.compile(r'conflicts? with "([^"]+)"')


@dataclass(frozen=True)
class Found:
    """An organization as somebody may see it; `raw` is the spec as it is stored."""

    key: OrganizationKey
    role: Role
    raw: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Namespace and name, which are also the address of the page."""
        return f"{self.key.metadata.namespace}/{self.key.metadata.name}"

    @property
    def reference(self) -> ObjectReference:
        """The object."""
        return ObjectReference(OrganizationKey.plural, self.key.metadata.namespace or "", self.key.metadata.name)


@dataclass(frozen=True)
class Refusal:
    """Why the API server did not do it: `managers` own the fields, or the sentence of a rule."""

    message: str
    managers: tuple[str, ...] = ()


class OrganizationKeys:
    """Reads and changes, each for one person."""

    def __init__(self, client: KubernetesClient, now: Callable[[], datetime]) -> None:
        self._now = now
        self.client = client

    async def visible_to(self, person: Person) -> list[Found]:
        """All organizations that the person administers or views. Raises KubernetesError."""
        found = []
        async for page in self.client.pages(OrganizationKey.plural):
            found += [one for item in page.items if (one := await self._read(item, person)) is not None]
        return sorted(found, key=lambda one: one.key.spec.organization.name)

    async def find(self, namespace: str, name: str, person: Person) -> Found | None:
        """One organization; None if it does not exist or the person may not see it, which is the same to them."""
        item = await self.client.get(ObjectReference(OrganizationKey.plural, namespace, name))
        return await self._read(item, person) if item is not None else None

    async def _read(self, item: Mapping[str, Any], person: Person) -> Found | None:
        """The organization, if the person has a role in it and this release can read it."""
        try:
            key = OrganizationKey.model_validate(item)
        except ValidationError:
            return None
        role = role_of(f"{key.metadata.namespace}/{key.metadata.name}", key.spec, person)
        if role is not Role.ADMINISTRATOR and await self._promoted(key, person):
            role = Role.ADMINISTRATOR
        return Found(key, role, item.get("spec") or {}) if role is not Role.NONE else None

    async def _promoted(self, key: OrganizationKey, person: Person) -> bool:
        """Whether support has made the person an administrator. Raises KubernetesError.

        The operator must have recorded it in the status, and the SupportRequest must still be there and still be good: neither who
        may write one of the two nor an operator that has stopped decides alone.
        """
        for one in key.status.support.active if key.status.support is not None else ():
            if one.subject != person.subject or person.administers:
                continue
            item = await self.client.get(ObjectReference(SupportRequest.plural, "", one.request))
            try:
                request = SupportRequest.model_validate(item) if item is not None else None
            except ValidationError:
                continue
            if request is None or (request.metadata.uid, request.spec.subject) != (one.uid, person.subject):
                continue
            if request.spec.organization_id != key.spec.organization.id:
                continue
            if judge(request.asked, self._now(), known=True)[0] is RequestState.ACTIVE:
                return True
        return False

    async def tenants(self, namespace: str) -> list[TenantChoice]:
        """The CustomerTenants that admit the namespace. Raises KubernetesError."""
        choices = []
        async for page in self.client.pages(CustomerTenant.plural):
            for item in page.items:
                try:
                    tenant = CustomerTenant.model_validate(item)
                except ValidationError:
                    continue  # of another release; the operator says so
                if namespace in tenant.spec.allowed_namespaces:
                    choices.append(await self._choice(tenant))
        return [one for one in choices if one is not None]

    async def _choice(self, tenant: CustomerTenant) -> TenantChoice | None:
        item = await self.client.get_shared(ObjectReference(FederatedIdentity.plural, "", tenant.spec.identity_ref.name))
        if item is None:
            return None
        try:
            identity = FederatedIdentity.model_validate(item)
        except ValidationError:
            return None
        cloud = CLOUDS[identity.spec.cloud or CloudName.PUBLIC]
        issuer = f"https://{cloud.issuer_host}/{tenant.spec.tenant_id.lower()}/v2.0"
        return TenantChoice(
            tenant.metadata.name,
            tenant.spec.tenant_id.lower(),
            f"https://{cloud.authority_host}",
            issuer,
            identity.application_client_id,
        )

    async def managers(self, found: Found) -> tuple[str, ...]:
        """Who else manages the fields that the page would write: the API server itself says so, to an apply that changes nothing."""
        other = "PlatformManaged" if found.key.spec.customer_managed else "CustomerManaged"
        probe = {
            "mode": other,
            "confirmation": "-",
            "keyUri": "https://nobody.vault.azure.net/keys/nothing",
            "access": {
                "application": {},
                "registration": {"clientId": "00000000-0000-0000-0000-000000000000", "credentials": []},
            },
        }
        refused = await self._apply(found, probe, None, dry_run=True)
        return refused.managers if refused is not None else ()

    async def apply(self, found: Found, fields: Mapping[str, Any], person: Person) -> Refusal | None:
        """Write the fields as field manager `console`, never by force, and name the person."""
        return await self._apply(found, fields, person, dry_run=False)

    async def admitted(self, found: Found, fields: Mapping[str, Any], person: Person) -> Refusal | None:
        """Whether `apply` would be admitted: rules, licence and field managers are asked, and nothing is written."""
        return await self._apply(found, fields, person, dry_run=True)

    async def _apply(self, found: Found, fields: Mapping[str, Any], person: Person | None, *, dry_run: bool) -> Refusal | None:
        metadata: dict[str, Any] = {
            "name": found.reference.name,
            "namespace": found.reference.namespace,
            "uid": found.key.metadata.uid,
        }
        if person is not None:
            metadata["annotations"] = {CHANGED_BY: person.recorded}
        body = {"apiVersion": API_VERSION, "kind": OrganizationKey.__name__, "metadata": metadata, "spec": dict(fields)}
        query = {"fieldManager": CONSOLE_FIELD_MANAGER, "force": "false"} | ({"dryRun": "All"} if dry_run else {})
        try:
            await self.client.request("PATCH", found.reference.path, query=query, body=body, content_type=_APPLY)
        except KubernetesError as error:
            if error.status in {403, 409, 422}:
                text = str(error)
                message = text.partition(f"{error.status} {error.reason}: ")[2]
                return Refusal(message or text, tuple(sorted(set(_CONFLICT.findall(text)))) if error.status == 409 else ())
            raise
        return None

    async def test(self, found: Found, spec: Mapping[str, Any]) -> PreflightStatus | None:
        """Let the operator try the settings by a Preflight; None if it has not answered in time. Raises KubernetesError."""
        path = collection_path(Preflight.plural, found.reference.namespace)
        body = {
            "apiVersion": API_VERSION,
            "kind": Preflight.__name__,
            "metadata": {"generateName": "console-", "namespace": found.reference.namespace},
            "spec": {"organizationKeys": [{"name": found.reference.name, "spec": dict(spec)}]},
        }
        made = await self.client.request("POST", path, body=body)
        url, deadline = f"{path}/{quote(made['metadata']['name'])}", time.monotonic() + TEST_SECONDS
        while time.monotonic() < deadline:
            status = PreflightStatus.model_validate((await self.client.request("GET", url)).get("status") or {})
            if status.result is not None:
                return status
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def store(self, namespace: str, secret: str, entry: str, value: str) -> None:
        """Add an entry to a Secret that the provider has made for the console. Raises KubernetesError."""
        await self._patch_secret(namespace, secret, {"stringData": {entry: value}})

    async def drop(self, namespace: str, secret: str, entry: str) -> None:
        """Remove an entry again. Raises KubernetesError."""
        await self._patch_secret(namespace, secret, {"data": {entry: None}})

    async def _patch_secret(self, namespace: str, secret: str, body: Mapping[str, Any]) -> None:
        path = f"/api/v1/namespaces/{quote(namespace)}/secrets/{quote(secret)}"
        query = {"fieldManager": CONSOLE_FIELD_MANAGER}
        await self.client.request("PATCH", path, query=query, body=body, content_type="application/merge-patch+json")
