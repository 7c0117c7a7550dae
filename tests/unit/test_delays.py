"""Azure's delays: each has a bound, begins no loss, ends none, and after its bound is what it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cmk_operator.api.conditions import Condition
from cmk_operator.core.access.key_verdict import judge_key_probe
from cmk_operator.core.access.state import AccessState, DeletedKey
from cmk_operator.core.access.verdict import CREDENTIAL_REPLICATES_WITHIN, SHOWS_WITHIN, is_missed, judge_access
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.faults.fault import busy
from cmk_operator.core.faults.reason import Reason
from cmk_operator.reconcile.key.known_times import known_state_of, with_known_times
from cmk_operator.reconcile.key.report import KeyFacts, Usage, key_status, refused_key_status
from cmk_operator.reconcile.references import ResourcePath
from tests.unit.samples import (
    NOT_FOUND,
    NOW,
    V1,
    V2,
    attributes,
    customer_managed_key,
    entra,
    forbidden,
    guard,
    healthy,
    probe,
    refused,
)
from tests.unit.test_references import resolved, world

if TYPE_CHECKING:
    from cmk_operator.api.customer_managed_key import CustomerManagedKey, CustomerManagedKeyStatus
    from cmk_operator.core.access.state import KeyProbe

SECOND = timedelta(seconds=1)
NOWHERE = probe(refused(NOT_FOUND), latest_exists=False)
UNFOUND = refused(NOT_FOUND, "wrapKey", attributes())


@pytest.mark.parametrize(
    ("since", "state"),
    [
        (None, AccessState.BEING_DELETED_OR_RECOVERED),
        (NOW - SHOWS_WITHIN + SECOND, AccessState.BEING_DELETED_OR_RECOVERED),
        (NOW - SHOWS_WITHIN, AccessState.PURGED),
    ],
)
def test_a_key_that_is_nowhere_counts_as_purged_after_the_bound_and_not_before(since: object, state: AccessState) -> None:
    access = judge_access(probe(refused(NOT_FOUND), latest_exists=False, missing_since=since))
    assert access.state is state
    if state is AccessState.BEING_DELETED_OR_RECOVERED:
        assert "counts as purged" in access.message
        assert state.shows_soon


@pytest.mark.parametrize("others", [{}, {V2: UNFOUND}])
def test_a_version_that_is_shown_but_not_found_is_a_delay_first_and_missing_after_the_bound(others: dict[str, object]) -> None:
    wanted = healthy() if others else UNFOUND
    version = V2 if others else V1
    for since, state in ((None, AccessState.VERSION_REPLICATING), (NOW - SHOWS_WITHIN, AccessState.MISSING)):
        found = probe(wanted, in_use=others, latest_exists=None if others else False, missing_since=since)
        assert is_missed(found)
        assert judge_key_probe(found, {version: ("data",)}).by_version[version].state is state


def test_a_key_that_was_deleted_between_read_and_wrap_is_told_as_deleted() -> None:
    found = probe(UNFOUND, latest_exists=False, deleted=DeletedKey(NOW + timedelta(days=90)))
    assert judge_access(found).state is AccessState.DELETED
    assert not is_missed(found)


def test_a_credential_is_new_for_ten_minutes_and_only_in_the_customers_tenant() -> None:
    def state(code: int, since: object, stage: Stage = Stage.APPLICATION_TOKEN) -> AccessState:
        return judge_access(probe(refused(entra(code, stage)), credential_since=since)).state

    recent, old = NOW - timedelta(minutes=9), NOW - CREDENTIAL_REPLICATES_WITHIN
    assert state(70021, recent) is state(700213, recent) is AccessState.CREDENTIAL_REPLICATING
    assert state(70021, old) is state(70021, None) is AccessState.IDENTITY_BROKEN
    assert state(700016, recent) is AccessState.CONSENT_MISSING, "another matter"
    assert state(90061, recent) is AccessState.IDENTITY_BROKEN, "documents that cannot be read are no delay"
    assert state(70021, recent, Stage.OPERATOR_TOKEN) is AccessState.OPERATOR_NOT_AUTHENTICATED


DELAYED = {
    "CredentialReplicating": probe(refused(entra(70021)), credential_since=NOW),
    "VersionReplicating": probe(UNFOUND, latest_exists=False),
}


def reported(before: CustomerManagedKeyStatus | None, found: KeyProbe, minutes: int) -> CustomerManagedKeyStatus:
    key = customer_managed_key(before)
    return key_status(key, KeyFacts(guard(found), Usage(("data",), {V1: ("data",)})), NOW + timedelta(minutes=minutes))


@pytest.mark.parametrize("delayed", DELAYED)
def test_a_delay_begins_no_loss_and_ends_none(delayed: str) -> None:
    well = reported(None, probe(), 0)
    status = reported(well, DELAYED[delayed], 1)
    assert status.access is not None
    assert (status.access.state, status.access.lost_since, status.access.inaccessible_expected_at) == (delayed, None, None)
    lost = reported(well, probe(refused(forbidden("ForbiddenByRbac"))), 1)
    status = reported(lost, DELAYED[delayed], 2)
    assert lost.access is not None
    assert status.access is not None
    assert lost.access.lost_since is not None
    assert status.access.lost_since == lost.access.lost_since
    assert status.access.inaccessible_expected_at == lost.access.inaccessible_expected_at
    healed = reported(status, probe(), 3)
    assert healed.access is not None
    assert healed.access.lost_since is None


def test_a_registration_that_settles_keeps_what_was_lost_before() -> None:
    lost = reported(reported(None, probe(), 0), probe(refused(entra(700213))), 1)
    settling = busy(Reason.SETTLING, "it settles")
    status = refused_key_status(customer_managed_key(lost), settling, Usage(("data",)), NOW)
    assert lost.access is not None
    assert status.access is not None
    assert status.access.state == "Unknown"
    assert status.access.lost_since == lost.access.lost_since is not None
    assert status.access.stops == lost.access.stops


def test_the_bound_of_a_missed_key_counts_from_an_earlier_process_and_what_was_purged_stays_purged() -> None:
    resource = resolved(world())
    assert isinstance(resource, ResourcePath)
    first = probe(refused(NOT_FOUND), latest_exists=False, missing_since=NOW)

    def after(state: str, since: object, *, generation: int | None = None) -> AccessState:
        before = reported(None, NOWHERE, 0)
        assert before.access is not None
        status = before.model_copy(update={"access": before.access.model_copy(update={"state": state, "since": since})})
        if generation is not None:
            status = status.model_copy(update={"observed_generation": generation})
        key: CustomerManagedKey = customer_managed_key(status)
        assert (known_state_of(key) is AccessState.UNKNOWN) is (generation is not None)
        return judge_access(with_known_times(key, resource.path, first)).state

    transition = AccessState.BEING_DELETED_OR_RECOVERED
    assert after("BeingDeletedOrRecovered", NOW - SHOWS_WITHIN) is AccessState.PURGED
    assert after("BeingDeletedOrRecovered", NOW - SECOND) is transition
    assert after("Purged", NOW) is AccessState.PURGED
    assert after("Deleted", NOW - timedelta(days=1)) is transition, "it may be recovered now"
    assert after("Accessible", NOW - timedelta(days=1)) is transition
    assert after("Purged", NOW, generation=7) is transition, "that was another key"


def test_a_credential_that_was_in_force_is_not_new() -> None:
    resource = resolved(world())
    assert isinstance(resource, ResourcePath)
    federated = Condition(
        type="ApplicationFederated",
        status="True",
        observed_generation=1,
        last_transition_time=NOW,
        reason="Federated",
        message="the application trusts the managed identity",
    )
    status = resource.path.identity.status.model_copy(update={"conditions": (federated,)})
    path = replace(resource.path, identity=resource.path.identity.model_copy(update={"status": status}))
    well = reported(None, probe(), 0)

    def since(before: CustomerManagedKeyStatus | None, state: str = "", at: timedelta = SECOND) -> object:
        if before is not None:
            assert before.access is not None
            access = before.access.model_copy(update={"state": state, "since": NOW + at})
            before = before.model_copy(update={"access": access})
        return with_known_times(customer_managed_key(before), path, probe()).credential_since

    assert since(None) == NOW, "a key that has never passed a probe"
    assert since(well, "Accessible") is None
    assert since(well, "IdentityBroken") is None, "broken after it was in force"
    assert since(well, "IdentityBroken", -SECOND) == NOW, "broken before, and mended"
    assert since(well, "CredentialReplicating") == NOW
    untrusted = federated.model_copy(update={"status": "False"})
    status = status.model_copy(update={"conditions": (untrusted,)})
    path = replace(path, identity=path.identity.model_copy(update={"status": status}))
    assert since(None) is None
