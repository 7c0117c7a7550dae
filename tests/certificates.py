"""Certificates and their private keys, as a customer's administrator makes them for a registration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@lru_cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """An RSA key; made once for each number, because making one takes a tenth of a second."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Made:
    """A certificate that signs itself, with its key."""

    key: Key = field(default_factory=rsa_key)
    starts: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(days=1))
    ends: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(days=365))
    common_name: str = "uipath.com"

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        builder = builder.serial_number(7).not_valid_before(self.starts).not_valid_after(self.ends)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def der(self) -> bytes:
        """The certificate alone, as a registration takes it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, *, traditional: bool = False, password: bytes | None = None) -> bytes:
        """The private key alone."""
        kind = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
        sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, kind, sealed)

    @property
    def pem(self) -> bytes:
        """Key and certificate, as the platform takes them."""
        return self.key_pem() + self.certificate_pem
