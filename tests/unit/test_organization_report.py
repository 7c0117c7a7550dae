"""What the status of an OrganizationKey says of each thing that one pass can find."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cmk_operator.api.conditions import find
from cmk_operator.api.model import CHANGED_BY
from cmk_operator.api.organization_key import (
    CheckReport,
    CredentialReport,
    DataKeysReport,
    KidCount,
    OrganizationKeyStatus,
    RewrapReport,
    ServingReport,
)
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.fault import Actor, blocked
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.old_claims import Basis, Observation, without_old_claims
from cmk_operator.core.organization.verdict import VerdictKind
from cmk_operator.reconcile.audit import author_of
from cmk_operator.reconcile.notifications.announcements import Audience, announce_organization
from cmk_operator.reconcile.organization.acceptance import Refused, TestStage
from cmk_operator.reconcile.organization.changes import changes_of
from cmk_operator.reconcile.organization.deletion import DATA_KEYS_FINALIZER, held_by
from cmk_operator.reconcile.organization.report import OrganizationFacts, organization_status, report_seen_within
from cmk_operator.reconcile.organization.settings import PLATFORM_KEY, Proven, Wanted
from tests.unit.samples import KEY, NOW, V1, V2
from tests.unit.test_organization_settings import OWN, WANTED, in_force, organization, proven

OLD, NEW = f"{KEY}/{V1}", f"{KEY}/{V2}"
DENIED = Refused(
    TestStage.UNWRAP,
    Reason.DISABLED,
    "it is disabled: the customer's administrator must act",
    Actor.CUSTOMER_ADMINISTRATOR,
    VerdictKind.DENIED,
)
SILENT = Refused(TestStage.UNWRAP, Reason.VAULT_UNREACHABLE, "no usable answer", Actor.AZURE, VerdictKind.UNAVAILABLE)
CHECKED = CheckReport(at=NOW, kid=OLD)


def served(
    by_kid: dict[str, int], *, revision: int = 1, age: float = 0.0, state: Any = "Serving", **more: Any
) -> DataKeysReport:
    """The key service's report."""
    return DataKeysReport(
        revision=revision,
        total=sum(by_kid.values()),
        by_kid=tuple(KidCount(kid=kid, data_keys=count) for kid, count in by_kid.items()),
        serving=ServingReport(state=state, since=NOW),
        observed_at=NOW - timedelta(seconds=age),
        **more,
    )


def well(**changes: Any) -> OrganizationKeyStatus:
    """Settings in force, looked for a new version, and reported on by the key service."""
    status: OrganizationKeyStatus = in_force()
    return status.model_copy(update={"check": CHECKED, "data_keys": served({OLD: 2}), **changes})


def status_of(facts: OrganizationFacts, **spec: Any) -> OrganizationKeyStatus:
    """The status after a pass."""
    return organization_status(organization(**spec), facts, NOW)


def facts(status: OrganizationKeyStatus | None = None, **changes: Any) -> OrganizationFacts:
    """A pass that found everything as wanted, unless told otherwise."""
    found: dict[str, Any] = {"in_force": True, "probed": True}
    return OrganizationFacts(status or well(), **(found | changes))


def said(status: OrganizationKeyStatus, kind: ConditionType) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = find(status.conditions, kind)
    assert found is not None
    return found.status, found.reason


READY, ACCESSIBLE, ACCEPTED = ConditionType.READY, ConditionType.KEY_ACCESSIBLE, ConditionType.CONFIGURATION_ACCEPTED
SERVING, CREDENTIAL, ROTATION = ConditionType.SERVING, ConditionType.CREDENTIAL_VALID, ConditionType.ROTATION_CURRENT
REWRAP = ConditionType.REWRAP_COMPLETE


def credential(**changes: Any) -> CredentialReport:
    """A client secret that ends in a year."""
    whole = {"secret": "vault", "key": "secret", "type": "ClientSecret", "expires": "2027-11-24T12:00:00Z", "days_left": 365}
    return CredentialReport(**(whole | changes))


FINDINGS: list[tuple[OrganizationFacts, ConditionType, str, str]] = [
    (facts(), READY, "True", "Ready"),
    (facts(OrganizationKeyStatus(), in_force=False, probed=False), READY, "Unknown", "NotTested"),
    (facts(in_force=False, refused=DENIED), ACCEPTED, "False", "Disabled"),
    (facts(in_force=False, refused=DENIED), ACCESSIBLE, "True", "Accessible"),
    (facts(probe=DENIED), ACCESSIBLE, "False", "Disabled"),
    (facts(probe=DENIED), READY, "False", "Disabled"),
    (facts(probe=SILENT), ACCESSIBLE, "Unknown", "VaultUnreachable"),
    (facts(probed=False), ACCESSIBLE, "Unknown", "NotProbed"),
    (
        facts(unprobed=blocked(Reason.SECRET_NOT_FOUND, "no such Secret", Actor.PLATFORM_ENGINEER)),
        ACCESSIBLE,
        "Unknown",
        "SecretNotFound",
    ),
    (
        facts(well(check=CheckReport(at=NOW, reason="KeyExpired", message="it has expired"))),
        ACCESSIBLE,
        "True",
        "KeyExpired",
    ),
    (facts(well(check=CheckReport(at=NOW, reason="KeyExpired", message="it has expired"))), READY, "True", "KeyExpired"),
    (facts(well(check=CheckReport(at=NOW, reason="RotationBlocked", message="no"))), ROTATION, "False", "RotationBlocked"),
    (facts(well(pending_version=V2)), ROTATION, "False", "ApprovalPending"),
    (facts(well(check=None)), ROTATION, "Unknown", "NotProbed"),
    (facts(well(data_keys=None)), SERVING, "Unknown", "NotReported"),
    (facts(well(data_keys=served({OLD: 2}, age=179))), SERVING, "True", "Serving"),
    (facts(well(data_keys=served({OLD: 2}, age=181))), SERVING, "Unknown", "NotReported"),
    (facts(well(data_keys=served({OLD: 2}, age=-86400))), SERVING, "Unknown", "NotReported"),
    (facts(well(data_keys=served({OLD: 2}, state="Coasting"))), SERVING, "True", "Coasting"),
    (facts(well(data_keys=served({OLD: 2}, state="Refused"))), SERVING, "False", "ServingRefused"),
    (facts(well(data_keys=served({OLD: 2}, state="NotServing"))), READY, "False", "NotServing"),
    (facts(), REWRAP, "True", "Rewrapped"),
    (facts(well(data_keys=served({OLD: 2, NEW: 1}))), REWRAP, "False", "Rewrapping"),
    (facts(well(data_keys=served({OLD: 2}, revision=0))), REWRAP, "Unknown", "NotReported"),
    (
        facts(well(data_keys=served({NEW: 1}, rewrap=RewrapReport(pending=1, failed=1, message="refused")))),
        REWRAP,
        "False",
        "RewrapFailed",
    ),
    (facts(), CREDENTIAL, "True", "NoCredentialNeeded"),
    (
        facts(in_force(wanted=replace(WANTED, access=OWN)), in_force=False, refused=DENIED),
        CREDENTIAL,
        "Unknown",
        "NotTested",
    ),
    (facts(credentials=(credential(),)), CREDENTIAL, "True", "CredentialCurrent"),
    (facts(credentials=(credential(days_left=7, warned_days=7),)), CREDENTIAL, "True", "CredentialExpiresSoon"),
    (facts(credentials=(credential(days_left=7, warned_days=7),)), READY, "True", "CredentialExpiresSoon"),
    (facts(credentials=(credential(days_left=0, warned_days=0),)), CREDENTIAL, "False", "CredentialExpired"),
    (
        facts(credentials=(credential(days_left=0, warned_days=0), credential(key="two"))),
        CREDENTIAL,
        "True",
        "CredentialCurrent",
    ),
    (facts(credentials=(credential(expires="unknown", days_left=None),)), CREDENTIAL, "True", "CredentialExpiryUnknown"),
    (facts(credentials=(credential(message="it is cut"),)), CREDENTIAL, "False", "CredentialUnusable"),
]


@pytest.mark.parametrize(("found", "kind", "status", "reason"), FINDINGS)
def test_each_finding_has_its_condition(found: OrganizationFacts, kind: ConditionType, status: str, reason: str) -> None:
    assert said(status_of(found), kind) == (status, reason)


@pytest.mark.parametrize(
    ("data_keys", "seconds"),
    [
        (None, 30.0),
        (served({OLD: 2}), 180.0),
        (served({OLD: 2}, age=100), 80.0),
        (served({OLD: 2}, age=179), 30.0),
        (served({OLD: 2}, age=3600), 30.0),
        (served({OLD: 2}, age=-86400), 30.0),
    ],
)
def test_a_pass_comes_when_the_report_is_old_however_seldom_the_key_is_probed(
    data_keys: DataKeysReport | None, seconds: float
) -> None:
    assert report_seen_within(data_keys, NOW) == seconds


def test_a_failed_test_names_stage_and_what_stays_in_force() -> None:
    found = find(status_of(facts(in_force=False, refused=DENIED)).conditions, ACCEPTED)
    assert found is not None
    assert found.message == f"stage Unwrap of the test failed: {DENIED.message}; revision 1 stays in force"


def test_who_must_act_is_stalled_and_what_passes_by_itself_is_reconciling() -> None:
    assert find(status_of(facts(probe=DENIED)).conditions, ConditionType.STALLED) is not None
    assert find(status_of(facts(probe=SILENT)).conditions, ConditionType.RECONCILING) is not None
    assert find(status_of(facts()).conditions, ConditionType.STALLED) is None


def test_the_platform_key_needs_no_vault_and_is_needed_as_long_as_backups_from_before() -> None:
    platform = in_force(wanted=Wanted(60, 600), found=Proven())
    assert said(status_of(facts(platform, probed=False)), ACCESSIBLE) == ("True", "PlatformManaged")
    own = in_force(platform).model_copy(update={"check": CHECKED, "data_keys": served({OLD: 2}, revision=2)})
    status = status_of(facts(own), backupRetention="35d")
    assert status.platform_key_needed_until == NOW + timedelta(days=35)
    assert [(one.kid, one.safe_to_disable) for one in status.versions] == [(OLD, "False"), (PLATFORM_KEY, "False")]


def rotated(data_keys: DataKeysReport | None, **changes: Any) -> OrganizationKeyStatus:
    """The old version was superseded, and the key service has reported this."""
    status: OrganizationKeyStatus = in_force(in_force(), found=proven(V2))
    return status.model_copy(update={"data_keys": data_keys, "check": CHECKED, **changes})


@pytest.mark.parametrize(
    ("data_keys", "retention", "safe"),
    [
        (None, "0h", "Unknown"),
        (served({NEW: 1}, revision=1), "0h", "Unknown"),
        (served({NEW: 1}, revision=2, age=181), "0h", "Unknown"),
        (served({NEW: 1, OLD: 1}, revision=2), "0h", "False"),
        (served({NEW: 1}, revision=2), None, "Unknown"),
        (served({NEW: 1}, revision=2), "1d", "False"),
        (served({NEW: 1}, revision=2), "0h", "True"),
    ],
)
def test_an_old_version_is_safe_only_by_a_count_that_may_be_trusted(
    data_keys: DataKeysReport | None, retention: str | None, safe: str
) -> None:
    spec = {"backupRetention": retention} if retention is not None else {}
    status = status_of(facts(rotated(data_keys)), **spec)
    (old,) = (one for one in status.versions if one.kid == OLD)
    assert old.safe_to_disable == safe
    dated = old.safe_to_disable_after is not None
    assert dated is (safe != "Unknown" and old.data_keys == 0), "no date while something is on it, or that is not known"


def test_what_nobody_has_seen_lately_is_no_longer_called_safe() -> None:
    status = status_of(facts(rotated(served({NEW: 1}, revision=2))), backupRetention="0h")
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    old = Basis(Observation(NOW - timedelta(hours=1), 3600.0, 174.0))
    turned = without_old_claims(wire, wire, old, NOW)
    assert {one["safeToDisable"] for one in turned["versions"]} <= {"False", "Unknown"}
    assert not any("safeToDisableAfter" in one for one in turned["versions"])
    unknown = {one["type"] for one in turned["conditions"] if one["reason"] == "NotSeenLately"}
    assert {"Ready", "KeyAccessible", "Serving", "CredentialValid", "RewrapComplete"} <= unknown


@pytest.mark.parametrize(
    ("status", "annotations", "held"),
    [
        (well(), {}, True),
        (well(data_keys=None), {}, True),
        (well(data_keys=served({}, age=181)), {}, True),
        (well(data_keys=served({})), {}, False),
        (well(), {"cmk-operator.dev/confirm-deletion": "acme"}, True),
        (well(), {"cmk-operator.dev/confirm-deletion": "Acme Corp"}, False),
    ],
)
def test_a_deletion_waits_unless_no_data_key_is_known_to_be_there_or_the_name_is_typed(
    status: OrganizationKeyStatus, annotations: dict[str, str], *, held: bool
) -> None:
    one = organization()
    going = {"deletion_timestamp": NOW, "finalizers": (DATA_KEYS_FINALIZER,), "annotations": annotations}
    deleted = one.model_copy(update={"metadata": one.metadata.model_copy(update=going)})
    assert (held_by(deleted, status, NOW) is not None) is held
    assert held_by(one, status, NOW) is None, "nobody deletes it"


def test_each_acceptance_is_one_entry_that_says_who_asked_for_it() -> None:
    status = status_of(facts(well(data_keys=None)))
    one = organization()
    by_hand = changes_of(one, status, "request", NOW, automatic=False)
    assert [(change.event.value, change.before, change.by) for change in by_hand] == [
        ("KeyChanged", "", "unknown"),
        ("KeyAccessChanged", "", "Azure or the customer"),
    ]
    assert by_hand[0].after == f"revision 1: {OLD}, by Application"
    known = one.model_copy(update={"status": status})
    assert changes_of(known, status, None, NOW, automatic=False) == ()
    followed = changes_of(known, status_of(facts(rotated(None))), None, NOW, automatic=True)
    assert [(change.event.value, change.by) for change in followed] == [("KeyChanged", "cmk-operator")]


def test_receivers_hear_of_loss_return_and_another_key_but_not_of_an_outage() -> None:
    listening = Audience(listening=True)

    def announced(before: OrganizationKeyStatus, after: OrganizationKeyStatus) -> OrganizationKeyStatus:
        return announce_organization(organization().model_copy(update={"status": before}), after, listening, NOW)

    first = announced(OrganizationKeyStatus(), status_of(facts()))
    silent = announced(first, status_of(facts(probe=SILENT)))
    lost = announced(silent, status_of(facts(probe=DENIED)))
    back = announced(lost, status_of(facts()))
    moved = announced(back, status_of(facts(rotated(None))))
    assert moved.notifications is not None
    assert [entry.type.rpartition(".")[2] for entry in moved.notifications.pending] == ["lost", "restored", "rotated"]


@pytest.mark.parametrize(
    ("manager", "annotation", "author"),
    [
        ("console", "s-1 (Alice)", "field manager console, for s-1 (Alice)"),
        ("console", None, "field manager console"),
        ("flux", "s-1 (Alice)", "field manager flux"),
    ],
)
def test_the_record_names_the_person_behind_the_console_and_behind_nothing_else(
    manager: str, annotation: str | None, author: str
) -> None:
    one = organization()
    annotations = {CHANGED_BY: annotation} if annotation is not None else {}
    metadata = one.metadata.model_copy(update={"changed_by": manager, "annotations": annotations})
    assert author_of(one.model_copy(update={"metadata": metadata})) == author
