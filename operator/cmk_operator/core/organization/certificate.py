"""Reads what a Secret holds as a credential of an organization's registration: a client secret, or a certificate with its key.

Each thing that is not one has a sentence that says what to store in its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cmk_operator.core.organization.credential import (
    LARGEST_CREDENTIAL,
    CertificateCredential,
    ClientSecret,
    Credential,
)
from cmk_operator.core.text.rfc3339 import to_rfc3339

if TYPE_CHECKING:
    from datetime import datetime

MOST_KEY_BITS: Final = 4096
"""Key Vault makes keys of 2048 to 4096 bits, and Entra takes no longer ones."""
CLOCKS_DIFFER_BY: Final = timedelta(minutes=5)
"""How far a certificate may begin in the future, because it may have been made by a machine whose clock is ahead."""
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_SECTION: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----(?:(?!-----BEGIN).)*?-----END \1-----", re.DOTALL)
_PEM_TWICE: Final = b"LS0tLS1CRUdJTi"
"""`-----BEGIN` in base64: the value of a Secret's `data` that was encoded before."""
_ENCRYPTED: Final = b"ENCRYPTED PRIVATE KEY"
_KEYS: Final = frozenset({b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"DSA PRIVATE KEY", b"OPENSSH PRIVATE KEY"})
_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"})
_REQUESTS: Final = frozenset({b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"})

_BOTH: Final = "store the whole .pem file, with the sections PRIVATE KEY and CERTIFICATE"
_NOT_PARSED: Final = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)
"""What cryptography raises for a section that is not what its label says."""


@dataclass(frozen=True, slots=True)
class ReadableCredential:
    """A credential that can be tried, and what it says of itself."""

    credential: Credential
    expires: datetime | None = None
    """When the certificate ends; None for a client secret, which does not say."""
    thumbprint: str | None = None
    """SHA-1 of the certificate in upper-case hexadecimal digits, by which Entra's pages name it."""


def read_credential(content: bytes, now: datetime) -> ReadableCredential | str:
    """The credential in the value of a Secret, or the sentence that says what is wrong and what to store in its place.

    A certificate's sections may come in any order. The result holds them anew, in the form that azure-identity reads.
    """
    if len(content) >= LARGEST_CREDENTIAL:
        return f"it has {len(content)} bytes, and a credential must have less than 10 KB: store one certificate with its key, and no chain"
    if content.startswith(_PEM_TWICE):
        return "it is a PEM file that was encoded in base64 twice: store the file itself, for instance by kubectl create secret --from-file"
    if b"-----BEGIN" in content:
        return _read_pem(content, now)
    return _read_secret(content)


def _read_secret(content: bytes) -> ReadableCredential | str:
    """A client secret, without the line feed that an editor or `echo` has added."""
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        return "it is neither text in ASCII nor a PEM file: store the client secret's value, or the certificate in PEM and not as .pfx or .cer"
    if not text:
        return "it is empty: store the client secret's value, or the .pem file with key and certificate"
    if any(not "!" <= sign <= "~" for sign in text):
        return "it has spaces or control characters within: store the client secret's value and nothing else"
    return ReadableCredential(ClientSecret(text))


def _read_pem(content: bytes, now: datetime) -> ReadableCredential | str:
    labels = _BEGIN.findall(content)
    sections = [(found[1], found[0]) for found in _SECTION.finditer(content)]
    certificates = [section for label, section in sections if label in _CERTIFICATES]
    keys = [section for label, section in sections if label in _KEYS]
    if _ENCRYPTED in labels or b"Proc-Type: 4,ENCRYPTED" in content:
        return "its private key is encrypted, and nobody here knows the password: store the key without one (openssl pkey -in FILE)"
    if len(sections) < len(labels):
        return f"a section of it has a BEGIN line and no END line of its own, as if it was cut: {_BOTH}"
    if not certificates and not keys and any(label in _REQUESTS for label in labels):
        return f"it holds a request for a certificate, and no certificate: {_BOTH}"
    if not certificates:
        return f"it holds no certificate: {_BOTH}"
    if not keys:
        return f"it holds only the certificate, which is the file for Entra: {_BOTH}"
    if len(certificates) > 1:
        return f"it holds {len(certificates)} certificates: store the one that the registration has, without its chain"
    if len(keys) > 1:
        return f"it holds {len(keys)} private keys: store the one that belongs to the certificate"
    return _read_pair(certificates[0], keys[0], now)


def _read_pair(certificate_section: bytes, key_section: bytes, now: datetime) -> ReadableCredential | str:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_section)
        public = certificate.public_key()
    except _NOT_PARSED:
        return f"its certificate cannot be read, as if it was cut or edited: {_BOTH}"
    try:
        # Whether the key is whole is shown by the signature below, at a hundredth of the time of OpenSSL's check.
        private = serialization.load_pem_private_key(key_section, None, unsafe_skip_rsa_key_validation=True)
    except _NOT_PARSED:
        return f"its private key cannot be read, as if it was cut or edited: {_BOTH}"
    if not isinstance(private, rsa.RSAPrivateKey) or not isinstance(public, rsa.RSAPublicKey):
        return "its key is no RSA key, and Entra takes no other here: create an RSA certificate of 2048 bits or more"
    if max(private.key_size, public.key_size) > MOST_KEY_BITS:
        return f"its key has more than {MOST_KEY_BITS} bits: create an RSA certificate of 2048 to {MOST_KEY_BITS} bits"
    if not _belong_together(private, public):
        return "its private key is not that of its certificate: store the two that were made together"
    ends = certificate.not_valid_after_utc
    if ends <= now:
        return (
            f"its certificate expired at {to_rfc3339(ends)}: create a new one, and upload its certificate to the registration"
        )
    begins = certificate.not_valid_before_utc
    if begins > now + CLOCKS_DIFFER_BY:
        return f"its certificate is valid only from {to_rfc3339(begins)}: wait until then beside the old one, or create another"
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Entra names certificates by SHA-1
    return ReadableCredential(CertificateCredential(pem), ends, thumbprint)


def _belong_together(private: rsa.RSAPrivateKey, public: rsa.RSAPublicKey) -> bool:
    """Whether the certificate's key verifies what the private key signs, as Entra will."""
    signed = b"cmk-operator"
    try:
        public.verify(private.sign(signed, padding.PKCS1v15(), hashes.SHA256()), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, *_NOT_PARSED):
        return False
    return True
