"""The credentials of an organization's own registration, which its Secrets hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

LARGEST_CREDENTIAL: Final = 10 * 1024
"""Bytes that a credential must stay below, from the requirements: a PEM file of less than 10 KB."""


class CredentialType(StrEnum):
    """What a credential is, as the status names it."""

    CLIENT_SECRET = "ClientSecret"  # noqa: S105 - a word of the API, not a secret
    CERTIFICATE = "Certificate"


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A client secret; only Entra knows when it ends."""

    value: str = field(repr=False)

    @property
    def type(self) -> CredentialType:
        """Its type."""
        return CredentialType.CLIENT_SECRET


@dataclass(frozen=True, slots=True)
class CertificateCredential:
    """A PEM file with one certificate and its RSA private key, as `core.organization.certificate` has read it."""

    pem: bytes = field(repr=False)

    @property
    def type(self) -> CredentialType:
        """Its type."""
        return CredentialType.CERTIFICATE


Credential = ClientSecret | CertificateCredential
