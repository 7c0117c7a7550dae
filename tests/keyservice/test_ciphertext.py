"""Ciphertexts: the format, the suite, and what is refused."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.crypto import context, wrapped_payload
from cmk_keyservice.crypto.ciphertext import OVERHEAD, Ciphertext, parse
from cmk_keyservice.crypto.suites import DataKeyPrimitive, keyed_index, new_material, open_, seal
from cmk_keyservice.problem import Kind, Problem, ProblemError

_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
_KEY = DataKeyPrimitive(_ID, 1, b"\x07" * 32)
_CONTEXT = context.data_context("acme", "shop/orders", "orders", {"table": "orders"})


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_was_sealed_opens_with_the_same_associated_data(plaintext: bytes, associated_data: bytes) -> None:
    sealed = seal(_KEY, plaintext, associated_data)
    assert len(sealed) == len(plaintext) + OVERHEAD
    read = parse(sealed)
    assert (read.suite, read.data_key_id, bytes(read)) == (1, _ID, sealed)
    assert open_(_KEY, read, associated_data) == plaintext


@given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda rest: b"ALE1" + rest) | st.just(b"ALE1\x01" + bytes(56)))
def test_bytes_are_a_ciphertext_or_a_problem(data: bytes) -> None:
    read = _read(data)
    if isinstance(read, Problem):
        assert read.kind is Kind.INVALID
        assert not read.retryable
    else:
        assert bytes(read) == data


def _read(data: bytes) -> Ciphertext | Problem:
    try:
        return parse(data)
    except ProblemError as refused:
        return refused.problem


@given(st.data())
def test_no_changed_byte_and_no_missing_byte_is_accepted(data: st.DataObject) -> None:
    sealed = seal(_KEY, b"plaintext", _CONTEXT)
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[place] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(changed), sealed[:place], sealed + b"\0"):
        with pytest.raises(ProblemError) as refused:
            open_(_KEY, parse(wrong), _CONTEXT)
        assert refused.value.problem.kind is Kind.INVALID
        assert b"plaintext" not in str(refused.value).encode()


@pytest.mark.parametrize(
    "other",
    [
        context.data_context("evil", "shop/orders", "orders", {"table": "orders"}),
        context.data_context("acme", "shop/other", "orders", {"table": "orders"}),
        context.data_context("acme", "shop/orders", "other", {"table": "orders"}),
        context.data_context("acme", "shop/orders", "orders", {"table": "other"}),
        context.data_context("acme", "shop/orders", "orders", {}),
    ],
    ids=["organization", "service", "purpose", "context", "no context"],
)
def test_a_ciphertext_opens_only_where_it_belongs(other: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        open_(_KEY, parse(seal(_KEY, b"x", _CONTEXT)), other)
    assert refused.value.problem.code == "CiphertextNotAuthentic"


def test_the_id_of_another_data_key_is_refused_even_with_the_same_key() -> None:
    other = DataKeyPrimitive(UUID(int=1), 1, b"\x07" * 32)
    with pytest.raises(ProblemError):
        open_(other, parse(seal(_KEY, b"x", _CONTEXT)), _CONTEXT)


def test_a_key_of_a_suite_of_a_later_release_is_refused() -> None:
    with pytest.raises(ProblemError) as refused:
        DataKeyPrimitive(_ID, 2, bytes(32))
    assert refused.value.problem.code == "UnknownSuite"
    with pytest.raises(ProblemError) as refused:
        parse(b"ALE1\x02" + bytes(100))
    assert refused.value.problem.code == "UnknownSuite"


@pytest.mark.parametrize(
    ("key", "associated_data", "sealed"),
    [
        ("01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        ("03" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
    ids=["MSB(L) = 0", "MSB(L) = 1"],
)
def test_the_suite_is_xaes_256_gcm_of_c2sp(key: str, associated_data: bytes, sealed: str) -> None:
    primitive = DataKeyPrimitive(_ID, 1, bytes.fromhex(key))
    assert primitive.decrypt(b"ABCDEFGHIJKLMNOPQRSTUVWX" + bytes.fromhex(sealed), associated_data) == b"XAES-256-GCM"


def test_the_suite_opens_the_ten_thousand_random_messages_of_c2sp() -> None:
    """The messages are made as C2SP/XAES-256-GCM.md says, and proven to be its own by the hash that it publishes."""
    stream, total = _Shake(), hashlib.shake_128()
    for _ in range(10_000):
        key, nonce = stream.read(32), stream.read(24)
        plaintext = stream.read(stream.read(1)[0])
        associated_data = stream.read(stream.read(1)[0])
        sealed = _reference(key, nonce, plaintext, associated_data)
        total.update(sealed)
        assert DataKeyPrimitive(_ID, 1, key).decrypt(nonce + sealed, associated_data) == plaintext
    assert total.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


class _Shake:
    """The random stream of C2SP's test: SHAKE-128 of nothing."""

    def __init__(self) -> None:
        self._stream, self._at = hashlib.shake_128().digest(6_000_000), 0

    def read(self, length: int) -> bytes:
        self._at += length
        return self._stream[self._at - length : self._at]


def _reference(key: bytes, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """XAES-256-GCM as its specification describes it, to compare with; the product takes Tink's."""
    # The mode is that of the specification: single blocks of AES.
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    number = int.from_bytes(block.update(bytes(16)))
    subkey = ((number << 1) & (2**128 - 1)) ^ (0b10000111 if number >> 127 else 0)
    messages = (int.from_bytes(bytes([0, counter, 0x58, 0]) + nonce[:12]) ^ subkey for counter in (1, 2))
    derived = b"".join(block.update(message.to_bytes(16)) for message in messages)
    return AESGCM(derived).encrypt(nonce[12:], plaintext, associated_data)


def test_an_index_is_equal_for_equal_values_of_one_field_alone() -> None:
    index = keyed_index(_KEY, "email", b"a@example.com")
    assert index == keyed_index(_KEY, "email", b"a@example.com")
    others = [
        keyed_index(_KEY, "email", b"b@example.com"),
        keyed_index(_KEY, "phone", b"a@example.com"),
        keyed_index(DataKeyPrimitive(_ID, 1, b"\x08" * 32), "email", b"a@example.com"),
    ]
    assert index not in others
    assert len(index) == 32


def test_nothing_prints_a_data_key() -> None:
    material = new_material()
    key = DataKeyPrimitive(_ID, 1, material)
    for shown in (repr(key), str(key), f"{key!r}"):
        assert material.hex() not in shown
        assert repr(material)[2:-1] not in shown


def test_a_wrapped_payload_opens_only_for_its_own_data_key() -> None:
    digest = context.data_key_digest("acme", _ID, "shop/orders", "orders", 1, 1)
    payload = wrapped_payload.pack(b"\x07" * 32, digest)
    assert len(payload) == 64
    assert wrapped_payload.unpack(payload, digest) == b"\x07" * 32
    others = [
        context.data_key_digest("evil", _ID, "shop/orders", "orders", 1, 1),
        context.data_key_digest("acme", UUID(int=1), "shop/orders", "orders", 1, 1),
        context.data_key_digest("acme", _ID, "shop/other", "orders", 1, 1),
        context.data_key_digest("acme", _ID, "shop/orders", "other", 1, 1),
        context.data_key_digest("acme", _ID, "shop/orders", "orders", 2, 1),
        context.data_key_digest("acme", _ID, "shop/orders", "orders", 1, 2),
    ]
    for wrong in [*((payload, other) for other in others), (payload[:-1], digest), (payload + b"\0", digest), (b"", digest)]:
        with pytest.raises(ProblemError) as refused:
            wrapped_payload.unpack(*wrong)
        assert refused.value.problem.code == "DataKeyAltered"
