"""Contexts: two different ones never have the same bytes."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.crypto import context
from cmk_keyservice.problem import Kind, ProblemError

_TEXTS = st.text(max_size=6)
_PAIRS = st.lists(st.tuples(_TEXTS, _TEXTS), max_size=4)
_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")


@given(_PAIRS, _PAIRS)
def test_two_lists_have_the_same_bytes_only_if_they_are_equal(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    assert (context.encode(one) == context.encode(other)) == (one == other)


@given(_PAIRS, _PAIRS)
def test_no_context_is_the_beginning_of_another(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    if one != other:
        assert not context.encode(other).startswith(context.encode(one))


@given(_PAIRS)
def test_a_context_can_be_read_back(pairs: list[tuple[str, str]]) -> None:
    assert _read(context.encode(pairs)) == pairs


def _read(data: bytes) -> list[tuple[str, str]]:
    """The inverse of `encode`: that it exists is what makes the encoding injective."""
    texts, at = [], 4
    for _ in range(2 * int.from_bytes(data[:4])):
        length = int.from_bytes(data[at : at + 4])
        texts.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    assert at == len(data)
    return list(zip(texts[::2], texts[1::2], strict=True))


@given(st.lists(_TEXTS, min_size=3, max_size=3), st.lists(_TEXTS, min_size=3, max_size=3), st.dictionaries(_TEXTS, _TEXTS))
def test_data_of_one_owner_has_no_context_of_another(one: list[str], other: list[str], given_: dict[str, str]) -> None:
    same = context.data_context(one[0], one[1], one[2], given_) == context.data_context(other[0], other[1], other[2], given_)
    assert same == (one == other)


def test_the_order_in_which_a_caller_names_its_context_does_not_count() -> None:
    one, other = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert context.data_context("acme", "s", "p", one) == context.data_context("acme", "s", "p", other)


def test_contexts_of_different_uses_differ() -> None:
    made = {
        context.data_context("acme", "s", "p", {}),
        context.data_key_context("acme", _ID, "s", "p", 1, 1),
        context.edek_context("acme", _ID, "k", 1),
        context.credentials_context("acme", "u", 1, "k"),
        context.index_context("acme"),
    }
    assert len(made) == 5


def test_the_bytes_are_those_of_the_documentation() -> None:
    assert context.encode([("a", "é"), ("", "b")]).hex() == "00000002000000016100000002c3a9000000000000000162"


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_text_that_is_not_unicode_is_the_callers_problem(text: str) -> None:
    with pytest.raises(ProblemError) as refused:
        context.encode([("a", text)])
    assert refused.value.problem.kind is Kind.INVALID
