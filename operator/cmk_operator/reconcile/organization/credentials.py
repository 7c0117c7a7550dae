"""Reads the credentials of an organization's own registration from Secrets in the namespace of its OrganizationKey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from cmk_operator.api.organization_key import AcceptedCredential, CredentialReport
from cmk_operator.core.faults.fault import Actor, Fault, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.secret_key import SecretKey
from cmk_operator.core.organization.certificate import read_credential
from cmk_operator.core.organization.credential_expiry import days_left, warning
from cmk_operator.core.text.rfc3339 import to_rfc3339
from cmk_operator.kubernetes.secrets import read_secret

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cmk_operator.core.organization.credential import Credential
    from cmk_operator.kubernetes.client import KubernetesClient

UNKNOWN: str = "unknown"
"""The expiry of a client secret whose end nobody has told."""


@dataclass(frozen=True, slots=True)
class ReadCredential:
    """One credential as its Secret holds it, or why it cannot be used."""

    secret: str
    key: str
    credential: Credential | None
    expires: datetime | None
    fault: Fault | None = None

    def accepted(self) -> AcceptedCredential | None:
        """The credential as `status.accepted` names it; None if it cannot be used."""
        if self.credential is None:
            return None
        return AcceptedCredential(secret=self.secret, key=self.key, type=self.credential.type.value)

    def report(self, known: CredentialReport | None, now: datetime) -> CredentialReport:
        """The credential as status reports it; the warning that was given last is kept from `known`."""
        return CredentialReport(
            secret=self.secret,
            key=self.key,
            type=self.credential.type.value if self.credential is not None else known.type if known is not None else "Unknown",
            expires=to_rfc3339(self.expires) if self.expires is not None else UNKNOWN,
            days_left=days_left(self.expires, now) if self.expires is not None else None,
            warned_days=warning(self.expires, now) if self.expires is not None else None,
            message=self.fault.message if self.fault is not None else None,
        )


@dataclass(frozen=True, slots=True)
class ReadCredentials:
    """The credentials of a registration, in their order."""

    each: tuple[ReadCredential, ...]

    @property
    def usable(self) -> tuple[Credential, ...]:
        """Those that can be used."""
        return tuple(one.credential for one in self.each if one.credential is not None)

    @property
    def accepted(self) -> tuple[AcceptedCredential, ...]:
        """Those that can be used, as `status.accepted` names them."""
        return tuple(found for one in self.each if (found := one.accepted()) is not None)

    @property
    def fault(self) -> Fault:
        """Why none can be used."""
        found = next((one.fault for one in self.each if one.fault is not None), None)
        return found or blocked(Reason.CREDENTIAL_UNUSABLE, "the registration names no credential", Actor.PLATFORM_ENGINEER)


async def read_credentials(
    client: KubernetesClient, namespace: str, wanted: Iterable[tuple[str, str, datetime | None]], now: datetime
) -> ReadCredentials:
    """Read credentials, each by Secret, entry, and the end that the manifest says it has.

    Raises `KubernetesError` if the API server gave no usable answer.
    """
    return ReadCredentials(tuple([await _read(client, SecretKey(namespace, *entry), ends, now) for *entry, ends in wanted]))


async def _read(client: KubernetesClient, wanted: SecretKey, ends: datetime | None, now: datetime) -> ReadCredential:
    name, key = wanted.name, wanted.key
    content = await read_secret(client, wanted, Actor.PLATFORM_ENGINEER)
    if isinstance(content, Fault):
        return ReadCredential(name, key, None, ends, content)
    found = read_credential(content, now)
    if not isinstance(found, str):
        return ReadCredential(name, key, found.credential, found.expires or ends)
    ends = _end_of(content) or ends
    reason = Reason.CREDENTIAL_EXPIRED if ends is not None and ends <= now else Reason.CREDENTIAL_UNUSABLE
    message = (
        f"the key {key!r} of Secret {wanted.namespace}/{name} holds no usable credential, which the customer's administrator must "
        f"correct: {found}"
    )
    return ReadCredential(name, key, None, ends, blocked(reason, message, Actor.CUSTOMER_ADMINISTRATOR))


def _end_of(content: bytes) -> datetime | None:
    """When a certificate ends that is refused, perhaps for that."""
    try:
        return x509.load_pem_x509_certificate(content).not_valid_after_utc
    except (ValueError, TypeError):
        return None
