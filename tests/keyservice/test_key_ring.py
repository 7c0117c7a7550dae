"""The platform's own key rings: rotation, and what is said when the right one is not there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.crypto import key_ring
from cmk_keyservice.crypto.key_ring import KeyRing, RingName
from cmk_keyservice.problem import Kind, ProblemError

_DOCUMENT = key_ring.new_key_ring()


def _ring(document: bytes = _DOCUMENT) -> KeyRing:
    return KeyRing.parse(RingName.INTERNAL, document)


def test_a_new_ring_opens_what_it_sealed_and_names_its_key() -> None:
    ring = _ring()
    sealed = ring.encrypt(b"value", b"context")
    assert ring.decrypt(sealed, b"context") == b"value"
    assert key_ring.key_id_of(sealed) == ring.primary_id
    assert ring.key_ids == {ring.primary_id}


def test_a_ring_is_rotated_in_steps_of_which_each_can_be_undone() -> None:
    old = _ring()
    added_document = key_ring.with_new_key(RingName.INTERNAL, _DOCUMENT)
    added = _ring(added_document)
    (new_id,) = added.key_ids - old.key_ids
    assert added.primary_id == old.primary_id
    assert old.decrypt(added.encrypt(b"v", b""), b"") == b"v"  # a replica that has not seen the new key yet
    rotated_document = key_ring.with_primary(RingName.INTERNAL, added_document, new_id)
    rotated = _ring(rotated_document)
    assert rotated.primary_id == new_id
    assert added.decrypt(rotated.encrypt(b"v", b""), b"") == b"v"
    assert rotated.decrypt(old.encrypt(b"v", b""), b"") == b"v"
    last = _ring(key_ring.without_key(RingName.INTERNAL, rotated_document, old.primary_id))
    assert last.key_ids == {new_id}
    assert last.decrypt(rotated.encrypt(b"v", b""), b"") == b"v"


@pytest.mark.parametrize("name", RingName)
def test_a_value_of_another_version_of_the_ring_names_the_key_that_is_missing(name: RingName) -> None:
    ring, other = KeyRing.parse(name, _DOCUMENT), KeyRing.parse(name, key_ring.new_key_ring())
    with pytest.raises(ProblemError) as refused:
        ring.decrypt(other.encrypt(b"value", b""), b"")
    problem = refused.value.problem
    assert (problem.kind, problem.code) == (Kind.UNAVAILABLE, f"{name.value}KeyUnavailable")
    assert str(other.primary_id) in problem.detail
    assert "restore the Secret" in problem.remedy


@pytest.mark.parametrize(
    "document",
    [
        None,
        b"",
        b"{}",
        b"\xff",
        b"not JSON",
        b"[]",
        _DOCUMENT.replace(b"ENABLED", b"DISABLED"),
        _DOCUMENT[:-20],
        _DOCUMENT.replace(b'"TINK"', b'"RAW"'),
        _DOCUMENT.replace(b"XAesGcmKey", b"AesGcmKey"),
        json.dumps(json.loads(_DOCUMENT) | {"primaryKeyId": 1}).encode(),
    ],
    ids=[
        "no file",
        "empty",
        "no key",
        "not text",
        "no JSON",
        "a list",
        "disabled",
        "cut",
        "no prefix",
        "another type",
        "no primary",
    ],
)
def test_a_ring_that_cannot_be_used_is_a_problem_with_its_remedy(document: bytes | None) -> None:
    with pytest.raises(ProblemError) as refused:
        KeyRing.parse(RingName.INTERNAL, document)
    problem = refused.value.problem
    assert (problem.kind, problem.code, problem.retryable) == (Kind.UNAVAILABLE, "InternalKeyUnavailable", True)
    assert "restore the Secret" in problem.remedy


@given(st.binary(max_size=200))
def test_no_content_of_the_file_is_more_than_a_problem(document: bytes) -> None:
    with pytest.raises(ProblemError):
        KeyRing.parse(RingName.INTERNAL, document)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"\x01" + _ring().primary_id.to_bytes(4) + rest))
def test_bytes_that_the_ring_did_not_seal_are_a_problem(sealed: bytes) -> None:
    with pytest.raises(ProblemError):
        _ring().decrypt(sealed, b"")


def test_a_key_that_encrypts_or_is_not_there_is_not_removed() -> None:
    for key_id, code in ((_ring().primary_id, "KeyInUse"), (1, "NoSuchKey")):
        with pytest.raises(ProblemError) as refused:
            key_ring.without_key(RingName.INTERNAL, _DOCUMENT, key_id)
        assert refused.value.problem.code == code
    with pytest.raises(ProblemError):
        key_ring.with_primary(RingName.INTERNAL, _DOCUMENT, 1)


def test_nothing_prints_a_key_of_the_ring() -> None:
    value = json.loads(_DOCUMENT)["key"][0]["keyData"]["value"]
    assert value not in repr(_ring())
    for document in (_DOCUMENT[:-20], _DOCUMENT.replace(b'"TINK"', b'"RAW"')):
        with pytest.raises(ProblemError) as refused:
            _ring(document)
        assert value[8:20] not in f"{refused.value!r} {refused.value.problem!r}"
