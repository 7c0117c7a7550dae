"""Encrypts and decrypts data by a data key: suite 1 is XAES-256-GCM of Tink, with the data key as its raw key."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tink import aead, core
from tink.proto import tink_pb2, x_aes_gcm_pb2

from cmk_keyservice.crypto.ciphertext import XAES_256_GCM, Ciphertext, header
from cmk_keyservice.crypto.context import index_context
from cmk_keyservice.problem import Kind, ProblemError, problem_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

KEY_LENGTH: Final = 32
XAES_TYPE_URL: Final = "type.googleapis.com/google.crypto.tink.XAesGcmKey"
_SALT_LENGTH: Final = 12
"""Of Tink's salt, which with GCM's 12 bytes makes the nonce of 24 bytes of C2SP's specification."""

aead.register()


class DataKeyPrimitive:
    """A data key that can encrypt. Nothing prints it.

    `keeps_material`: whether its 32 bytes stay beside Tink's copy of them, for a lease or for the keys of indexes.
    """

    __slots__ = ("_material", "aead", "id", "suite")

    def __init__(self, id_: UUID, suite: int, material: bytes, *, keeps_material: bool = True) -> None:
        if suite != XAES_256_GCM:
            raise problem_error(
                Kind.INVALID,
                "UnknownSuite",
                f"data key {id_} is of suite {suite}, which this release does not know",
                "The provider must update the key service.",
            )
        self.id: Final = id_
        self.suite: Final = suite
        self.aead: Final[Any] = _xaes(material)
        """Tink's primitive."""
        self._material: Final = material if keeps_material else None

    @property
    def material(self) -> bytes:
        """The 32 bytes. Raises `LookupError` if this data key is one that never needs them."""
        if self._material is None:
            raise LookupError(f"data key {self.id} neither leaves the service nor serves indexes")
        return self._material

    def __repr__(self) -> str:
        return f"DataKeyPrimitive({self.id})"

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes | None:
        """The plaintext; None if the bytes were not made by this key for this associated data."""
        try:
            plaintext: bytes = self.aead.decrypt(sealed, associated_data)
        except core.TinkError:
            return None
        return plaintext


def new_material() -> bytes:
    """The 32 random bytes of a new data key."""
    return secrets.token_bytes(KEY_LENGTH)


def seal(key: DataKeyPrimitive, plaintext: bytes, associated_data: bytes) -> bytes:
    """The ciphertext (ALE1); its tag covers its header and `associated_data`, which `context.data_context` makes."""
    return Bound(key, associated_data).seal(plaintext, b"")


def open_(key: DataKeyPrimitive, ciphertext: Ciphertext, associated_data: bytes) -> bytes:
    """The plaintext. Raises ProblemError if anything of ciphertext or associated data is not as it was."""
    data = header(ciphertext.suite, ciphertext.data_key_id) + ciphertext.sealed
    return Bound(key, associated_data).open_(data, b"")


class Bound:
    """A data key with the beginning of its associated data, which is the same for all items of one owner and is encoded once.

    `common` is of `context.common_context`, and the `own` of each item of `context.own_context`.
    """

    __slots__ = ("_begin", "_common", "_decrypt", "_encrypt")

    def __init__(self, key: DataKeyPrimitive, common: bytes) -> None:
        self._encrypt: Final[Callable[[bytes, bytes], bytes]] = key.aead.encrypt
        self._decrypt: Final = key.decrypt
        self._begin: Final = header(key.suite, key.id)
        self._common: Final = self._begin + common

    def seal(self, plaintext: bytes, own: bytes) -> bytes:
        """The ciphertext (ALE1)."""
        return self._begin + self._encrypt(plaintext, self._common + own)

    def open_(self, data: bytes, own: bytes) -> bytes:
        """The plaintext of a ciphertext. Raises ProblemError if anything of ciphertext or associated data is not as it was."""
        begin = self._begin
        plaintext = self._decrypt(data[len(begin) :], self._common + own) if data.startswith(begin) else None
        if plaintext is None:
            raise _not_authentic()
        return plaintext


def _not_authentic() -> ProblemError:
    return problem_error(
        Kind.INVALID,
        "CiphertextNotAuthentic",
        "the ciphertext was changed, or it was encrypted for another organization, service, purpose or context",
        "Send the same purpose and context as for the encryption, and the ciphertext as it was returned.",
    )


def keyed_index(key: DataKeyPrimitive, field: str, value: bytes) -> bytes:
    """32 bytes by which equal values of a field are found: HMAC-SHA256 under a key derived for the field (HKDF, RFC 5869).

    An index stays comparable only under one data key: take that of the first epoch.
    """
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=index_context(field)).derive(key.material)
    return hmac.digest(derived, value, "sha256")


def _xaes(material: bytes) -> Any:  # noqa: ANN401 - Tink has no types
    parameters = x_aes_gcm_pb2.XAesGcmParams(salt_size=_SALT_LENGTH)
    value = x_aes_gcm_pb2.XAesGcmKey(version=0, params=parameters, key_value=material).SerializeToString()
    symmetric = tink_pb2.KeyData.SYMMETRIC
    key = tink_pb2.KeyData(type_url=XAES_TYPE_URL, value=value, key_material_type=symmetric)
    # A keyset of one raw key does the same, with 1,430 bytes for each key instead of 790, and an import of 24 µs instead of 5.
    return core.Registry.primitive(key, aead.Aead)
