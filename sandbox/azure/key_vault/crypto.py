"""The cryptographic operations of Key Vault, by algorithm name; the primitives are those of `cryptography`."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sandbox.azure.errors import VaultRefusedError

if TYPE_CHECKING:
    from sandbox.azure.key_vault.model import PrivateKey

CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}
_SHA1 = hashes.SHA1()  # noqa: S303 - RSA-OAEP is defined with SHA-1 (RFC 7518, section 4.3)
_ENCRYPTION: dict[str, padding.AsymmetricPadding] = {
    "RSA-OAEP": padding.OAEP(padding.MGF1(_SHA1), _SHA1, None),
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA1_5": padding.PKCS1v15(),
}
_DIGESTS: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def bad_parameter(message: str) -> VaultRefusedError:
    """Key Vault's 400."""
    return VaultRefusedError(400, "BadParameter", message)


def encrypt(key: PrivateKey, algorithm: str, value: bytes) -> bytes:
    """Encrypt or wrap. Raises VaultRefusedError 400 if the key or the length does not fit the algorithm."""
    scheme = _ENCRYPTION.get(algorithm)
    if scheme is None or not isinstance(key, rsa.RSAPrivateKey):
        raise bad_parameter(f"Key and signing algorithm are incompatible. Key does not support algorithm '{algorithm}'")
    try:
        return key.public_key().encrypt(value, scheme)
    except ValueError as error:
        raise bad_parameter("The parameter is incorrect.") from error


def decrypt(key: PrivateKey, algorithm: str, value: bytes) -> bytes:
    """Decrypt or unwrap. Raises VaultRefusedError 400 if it was not encrypted under this key."""
    scheme = _ENCRYPTION.get(algorithm)
    if scheme is None or not isinstance(key, rsa.RSAPrivateKey):
        raise bad_parameter(f"Key and signing algorithm are incompatible. Key does not support algorithm '{algorithm}'")
    try:
        return key.decrypt(value, scheme)
    except ValueError as error:
        # The words are in Azure/azure-sdk-for-net#36269, of a key that was rotated in the meantime.
        padded = "OAEP" if "OAEP" in algorithm else "PKCS#1"
        raise bad_parameter(f"Error occurred while decoding {padded} padding.") from error


def sign(key: PrivateKey, algorithm: str, digest: bytes) -> bytes:
    """Sign a digest (RFC 7518, section 3). Raises VaultRefusedError 400."""
    hashed = _digest(algorithm, digest)
    if isinstance(key, rsa.RSAPrivateKey) and algorithm[:2] in {"RS", "PS"}:
        return key.sign(digest, _signature_padding(algorithm, hashed), utils.Prehashed(hashed))
    if isinstance(key, ec.EllipticCurvePrivateKey) and algorithm.startswith("ES"):
        size = (key.curve.key_size + 7) // 8
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashed))))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    raise bad_parameter(f"Key and signing algorithm are incompatible. Key does not support algorithm '{algorithm}'")


def verify(key: PrivateKey, algorithm: str, digest: bytes, signature: bytes) -> bool:
    """Whether the signature is this key's. Raises VaultRefusedError 400."""
    hashed = _digest(algorithm, digest)
    try:
        if isinstance(key, rsa.RSAPrivateKey) and algorithm[:2] in {"RS", "PS"}:
            key.public_key().verify(signature, digest, _signature_padding(algorithm, hashed), utils.Prehashed(hashed))
            return True
        if isinstance(key, ec.EllipticCurvePrivateKey) and algorithm.startswith("ES"):
            half = len(signature) // 2
            encoded = utils.encode_dss_signature(
                int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            )
            key.public_key().verify(encoded, digest, ec.ECDSA(utils.Prehashed(hashed)))
            return True
    except InvalidSignature:
        return False
    raise bad_parameter(f"Key and signing algorithm are incompatible. Key does not support algorithm '{algorithm}'")


def _digest(algorithm: str, digest: bytes) -> hashes.HashAlgorithm:
    hashed = _DIGESTS.get(algorithm[2:5])
    if hashed is None or len(digest) != hashed.digest_size:
        raise bad_parameter(f"Invalid length of 'value' for algorithm '{algorithm}'")
    return hashed


def _signature_padding(algorithm: str, hashed: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    return padding.PSS(padding.MGF1(hashed), hashed.digest_size) if algorithm.startswith("PS") else padding.PKCS1v15()


class KeyFactory:
    """Makes keys on a thread of its own, and keeps some RSA 2048 keys ready, because making one takes a tenth of a second."""

    READY = 8

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "keys")
        self._ready: deque[rsa.RSAPrivateKey] = deque()
        self._refilling = False

    async def rsa(self, size: int) -> rsa.RSAPrivateKey:
        """A fresh RSA key."""
        if size == 2048 and self._ready:
            key = self._ready.popleft()
        else:
            key = await asyncio.get_running_loop().run_in_executor(self._thread, _new_rsa, size)
        if not self._refilling:
            self._refilling = True
            self._thread.submit(self._refill)
        return key

    def _refill(self) -> None:
        while len(self._ready) < self.READY:
            self._ready.append(_new_rsa(2048))
        self._refilling = False

    def close(self) -> None:
        """Stop the thread after the key it is making."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _new_rsa(size: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


def new_ec(curve: str) -> ec.EllipticCurvePrivateKey:
    """A fresh elliptic curve key."""
    return ec.generate_private_key(CURVES[curve])


def new_data_key() -> bytes:
    """256 random bits."""
    return os.urandom(32)
