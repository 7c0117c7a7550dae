"""Laws 1 to 3 as properties of the one place that decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.access.state import Access, AccessState
from cmk_operator.core.encryption.decide import Decision, KeyState, NextAction, decide, decide_deletion, old_version_blocks
from cmk_operator.core.encryption.protection import MicrosoftManaged, OnKey, Protection
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.identifiers.key_uri import KeyUri
from tests.unit.samples import V1, VAULT

accesses = st.builds(Access, st.sampled_from(list(AccessState)), st.just("the customer's administrator must do it"))
key_states = st.builds(
    KeyState,
    st.one_of(st.none(), accesses),
    st.sampled_from([None, Reason.PURGE_PROTECTION_FAILED]),
    st.just("the vault has no purge protection"),
)
protections = st.one_of(
    st.none(),
    st.just(MicrosoftManaged()),
    st.just(OnKey(KeyUri(VAULT, "storage"), V1)),
    st.just(OnKey(KeyUri(VAULT, "storage"))),
)
READY = KeyState(Access(AccessState.ACCESSIBLE, "fine"))
ON_KEY = OnKey(KeyUri(VAULT, "storage"), V1)


@given(due=st.booleans(), observe=st.booleans(), key=key_states)
def test_nothing_is_written_unless_the_key_is_accessible_and_its_prerequisites_are_met(
    *, due: bool, observe: bool, key: KeyState
) -> None:
    decision = decide(change_is_due=due, observe_only=observe, key=key)
    if decision.action is NextAction.WRITE:
        assert due
        assert not observe
        assert key.access is not None
        assert key.access.state is AccessState.ACCESSIBLE
        assert not key.unmet_reason
    assert decision.action is not NextAction.REVERT


@given(observe=st.booleans(), key=key_states)
def test_a_settled_resource_is_never_touched_whatever_happened_to_its_key(*, observe: bool, key: KeyState) -> None:
    assert decide(change_is_due=False, observe_only=observe, key=key) == Decision(NextAction.SETTLED)


@given(due=st.booleans(), key=key_states)
def test_observe_never_writes_and_never_waits(*, due: bool, key: KeyState) -> None:
    assert decide(change_is_due=due, observe_only=True, key=key).action in {NextAction.SETTLED, NextAction.SHOW_PLAN}


@given(key_states)
def test_a_due_change_that_may_not_be_made_waits_and_says_for_what(key: KeyState) -> None:
    decision = decide(change_is_due=True, observe_only=False, key=key)
    assert decision.action in {NextAction.WRITE, NextAction.WAIT}
    if decision.action is NextAction.WAIT:
        assert decision.reason
        assert decision.message


@given(protection=protections, ours=st.booleans(), claimed=st.booleans(), key=key_states)
def test_orphan_never_reverts(*, protection: Protection | None, ours: bool, claimed: bool, key: KeyState) -> None:
    decision = decide_deletion(revert=False, protection=protection, on_our_key=ours, claimed=claimed, key=key)
    assert decision == Decision(NextAction.RELEASE)


@given(revert=st.booleans(), protection=protections, ours=st.booleans(), claimed=st.booleans(), key=key_states)
def test_encryption_is_weakened_only_in_so_many_words_on_our_own_key_and_never_because_it_is_lost(
    *,
    revert: bool,
    protection: Protection | None,
    ours: bool,
    claimed: bool,
    key: KeyState,
) -> None:
    decision = decide_deletion(revert=revert, protection=protection, on_our_key=ours, claimed=claimed, key=key)
    assert decision.action in {NextAction.REVERT, NextAction.WAIT, NextAction.RELEASE}
    if decision.action is NextAction.REVERT:
        assert revert
        assert ours
        assert not claimed
        assert protection is not None
        assert isinstance(protection, OnKey)
        assert key.access is not None
        assert key.access.state is AccessState.ACCESSIBLE
    if decision.action is NextAction.WAIT:
        assert key.access is None or key.access.state is not AccessState.ACCESSIBLE


@pytest.mark.parametrize(
    ("protection", "ours", "claimed"),
    [(None, True, False), (MicrosoftManaged(), True, False), (ON_KEY, False, False), (ON_KEY, True, True)],
    ids=["gone", "on a Microsoft-managed key", "on another key", "claimed by another manifest"],
)
def test_a_manifest_goes_at_once_when_there_is_nothing_of_ours_to_revert(
    *, protection: Protection | None, ours: bool, claimed: bool
) -> None:
    assert (
        decide_deletion(revert=True, protection=protection, on_our_key=ours, claimed=claimed, key=READY).action
        is NextAction.RELEASE
    )


def test_a_failed_prerequisite_does_not_hold_a_revert_back() -> None:
    lacking = KeyState(Access(AccessState.ACCESSIBLE, "fine"), Reason.KEY_SIZE_FAILED, "too long")
    assert (
        decide_deletion(revert=True, protection=ON_KEY, on_our_key=True, claimed=False, key=lacking).action is NextAction.REVERT
    )


@pytest.mark.parametrize("prerequisite", [None, Reason.PURGE_PROTECTION_FAILED])
@pytest.mark.parametrize("state", [None, *AccessState])
def test_a_due_change_is_written_exactly_if_the_key_is_accessible_and_lacks_nothing(
    state: AccessState | None, prerequisite: Reason | None
) -> None:
    access = Access(state, "the customer's administrator must do it") if state is not None else None
    key = KeyState(access, prerequisite, "the vault has no purge protection")
    decision = decide(change_is_due=True, observe_only=False, key=key)
    allowed = state is AccessState.ACCESSIBLE and prerequisite is None
    assert decision.action is (NextAction.WRITE if allowed else NextAction.WAIT)
    if state is AccessState.ACCESSIBLE and prerequisite:
        assert decision.reason == "PurgeProtectionFailed"
        assert "the vault has no purge protection" in decision.message
    elif not allowed:
        assert decision.reason == ("WaitingForKey" if state is None else state.value)


@pytest.mark.parametrize("state", [None, *AccessState])
def test_a_revert_is_made_exactly_if_the_key_is_accessible(state: AccessState | None) -> None:
    key = KeyState(Access(state, "the customer's administrator must do it") if state is not None else None)
    decision = decide_deletion(revert=True, protection=ON_KEY, on_our_key=True, claimed=False, key=key)
    assert decision.action is (NextAction.REVERT if state is AccessState.ACCESSIBLE else NextAction.WAIT)


@given(st.one_of(st.none(), accesses))
def test_no_resource_leaves_a_version_that_azure_cannot_unwrap_with_any_more(old: Access | None) -> None:
    blocked = old_version_blocks(old)
    if old is None or old.state is AccessState.ACCESSIBLE:
        assert blocked is None
    else:
        assert blocked is not None
        assert blocked.action is NextAction.WAIT
        assert old.message in blocked.message
