"""Which version is in force: never one that did not pass the probe, never one that waits for approval."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.rotation.adoption import Adoption, AdoptionPolicy, adopt, probe_of_adopted
from tests.unit.samples import V1, V2, V3, disabled, healthy, probe

AZURE = AdoptionPolicy()
IMMEDIATELY = AdoptionPolicy(by_operator=True)
ASKING = AdoptionPolicy(by_operator=True, needs_approval=True)

policies = st.sampled_from([AZURE, IMMEDIATELY, ASKING])
versions = st.sampled_from([V1, V2, V3])
some = st.one_of(st.none(), versions)


def test_the_latest_is_taken_over_at_once_where_nobody_is_asked() -> None:
    for policy in (AZURE, IMMEDIATELY):
        assert adopt(policy, latest=V2, active=V1, approved=None) == Adoption(V2)


def test_a_newer_version_waits_until_a_person_names_it() -> None:
    assert adopt(ASKING, latest=V2, active=V1, approved=None) == Adoption(V1, pending=V2)
    assert adopt(ASKING, latest=V2, active=V1, approved=V2) == Adoption(V2)


def test_an_approval_of_another_version_approves_nothing() -> None:
    assert adopt(ASKING, latest=V3, active=V1, approved=V2) == Adoption(V1, pending=V3)


def test_the_first_version_needs_no_approval_because_nothing_is_moved_by_it() -> None:
    assert adopt(ASKING, latest=V1, active=None, approved=None) == Adoption(V1)


@given(policies, some, some, some)
def test_what_is_adopted_passed_the_probe_or_was_in_force_before(
    policy: AdoptionPolicy, latest: str | None, active: str | None, approved: str | None
) -> None:
    adoption = adopt(policy, latest=latest, active=active, approved=approved)
    assert adoption.active in {latest, active}
    if adoption.active != active:
        assert adoption.active == latest
        assert not policy.needs_approval or active is None or approved == latest
    assert adoption.pending is None or (adoption.pending == latest and policy.needs_approval)


def test_while_a_version_waits_the_key_is_judged_by_the_one_in_force() -> None:
    visit = probe(healthy(V2), in_use={V1: disabled(V1)})
    seen, adoption = probe_of_adopted(visit, ASKING, active=V1, approved=None)
    assert adoption == Adoption(V1, pending=V2)
    assert (seen.wanted, seen.in_use[V2]) == (visit.in_use[V1], visit.wanted)


def test_a_newer_version_that_is_lost_while_it_waits_does_not_make_the_key_lost() -> None:
    visit = probe(disabled(V2), in_use={V1: healthy(V1)})
    seen, adoption = probe_of_adopted(visit, ASKING, active=V1, approved=None)
    assert adoption == Adoption(V1)
    assert seen.wanted.round_trip


@given(policies, some)
def test_a_view_holds_all_that_the_visit_saw(policy: AdoptionPolicy, approved: str | None) -> None:
    visit = probe(healthy(V2), in_use={V1: healthy(V1), V3: disabled(V3)})
    seen, _ = probe_of_adopted(visit, policy, active=V1, approved=approved)
    assert {V1, V2, V3} == {seen.wanted.attributes.version, *seen.in_use} if seen.wanted.attributes is not None else False
