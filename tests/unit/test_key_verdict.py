"""The verdict on a key: the worst of what its versions came to, and whether anything is lost by it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given

from cmk_operator.core.access.key_verdict import judge_key_probe, lost_since
from cmk_operator.core.access.state import AccessState, DeletedKey, KeyProbe
from tests.unit.samples import (
    NOT_FOUND,
    NOW,
    UNREACHABLE,
    V1,
    V2,
    disabled,
    entra,
    forbidden,
    healthy,
    key_probes,
    probe,
    refused,
    users_of_versions,
)

ON_OLD = {V1: ("a", "b")}


def test_a_lost_version_in_use_outranks_a_healthy_latest_one() -> None:
    verdict = judge_key_probe(probe(healthy(V2), in_use={V1: disabled(V1)}), ON_OLD)
    assert verdict.access.state is AccessState.DISABLED
    assert verdict.wanted.state is AccessState.ACCESSIBLE
    assert verdict.loses_data
    assert verdict.access.message.startswith(f"version {V1}, still in use by a and 1 more: the key version is disabled")


def test_a_lost_latest_version_that_nothing_uses_yet_loses_no_data() -> None:
    verdict = judge_key_probe(probe(disabled(V2), in_use={V1: healthy(V1)}), ON_OLD)
    assert verdict.access.state is AccessState.DISABLED
    assert not verdict.loses_data


def test_a_lost_key_that_nothing_is_on_loses_no_data() -> None:
    assert not judge_key_probe(probe(disabled(V1)), {}).loses_data


@pytest.mark.parametrize(
    "failure", [forbidden("ForbiddenByRbac"), entra(700016), UNREACHABLE, NOT_FOUND], ids=["role", "consent", "outage", "gone"]
)
def test_a_key_that_its_users_cannot_reach_loses_data(failure: object) -> None:
    lost = refused(failure)  # type: ignore[arg-type]  # parametrized
    assert judge_key_probe(probe(lost, in_use={V1: lost}), ON_OLD).loses_data
    assert judge_key_probe(probe(lost), ON_OLD).loses_data


def test_versions_of_a_deleted_key_are_deleted_not_purged() -> None:
    found = probe(
        refused(NOT_FOUND), in_use={V1: refused(NOT_FOUND)}, deleted=DeletedKey(NOW + timedelta(days=7)), latest_exists=False
    )
    assert judge_key_probe(found, ON_OLD).by_version[V1].state is AccessState.DELETED


def test_an_old_version_that_is_gone_while_the_key_is_there_is_missing_not_purged() -> None:
    verdict = judge_key_probe(probe(healthy(V2), in_use={V1: refused(NOT_FOUND)}), ON_OLD)
    assert verdict.by_version[V1].state is AccessState.VERSION_MISSING
    assert "the vault has no such key" not in verdict.access.message


@given(key_probes(), users_of_versions())
def test_a_key_is_healthy_only_if_its_wanted_version_and_every_probed_one_in_use_are(
    found: KeyProbe, users: dict[str, tuple[str, ...]]
) -> None:
    verdict = judge_key_probe(found, users)
    if verdict.access.state is AccessState.ACCESSIBLE:
        assert verdict.wanted.state is AccessState.ACCESSIBLE
        assert not any(verdict.by_version[version].state.is_known_loss for version in users if version in verdict.by_version)
        assert not verdict.loses_data or any(version not in verdict.by_version for version in users)


@given(key_probes(), users_of_versions())
def test_no_loss_is_told_of_what_nothing_uses(found: KeyProbe, users: dict[str, tuple[str, ...]]) -> None:
    verdict = judge_key_probe(found, users)
    if not users:
        assert not verdict.loses_data
    if verdict.loses_data:
        assert verdict.access.state.cuts_data_off


@given(key_probes(), users_of_versions())
def test_a_lost_version_in_use_always_loses_data(found: KeyProbe, users: dict[str, tuple[str, ...]]) -> None:
    verdict = judge_key_probe(found, users)
    lost = [version for version in users if version in verdict.by_version and verdict.by_version[version].state.is_known_loss]
    if lost and verdict.wanted.state.cuts_data_off:
        assert verdict.loses_data
    if lost and verdict.wanted.state is AccessState.ACCESSIBLE:
        assert verdict.loses_data
        assert verdict.access.state.is_known_loss


def test_the_loss_is_dated_from_its_first_sight_and_forgotten_when_access_returns() -> None:
    lost = judge_key_probe(probe(disabled(V1)), ON_OLD)
    assert lost_since(lost, None, NOW) == NOW
    assert lost_since(lost, NOW, NOW + timedelta(hours=1)) == NOW
    assert lost_since(judge_key_probe(probe(healthy(V1)), ON_OLD), NOW, NOW) is None
