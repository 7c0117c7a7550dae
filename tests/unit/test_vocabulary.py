"""One vocabulary: each reason is declared once, and everything that is written about reasons holds against the declaration."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from cmk_operator.api.conditions import Condition, find
from cmk_operator.api.customer_tenant import ConsentState
from cmk_operator.api.status_page import CONDITIONS, PAGE, rendered, tables
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.verdict import judge_access
from cmk_operator.core.conditions import ConditionType
from cmk_operator.core.faults.reason import EventReason, FaultKind, Reason
from cmk_operator.core.prerequisites.prerequisite import PrerequisiteName
from cmk_operator.kubernetes.status import OWN_CONDITIONS
from cmk_operator.metrics.digests import digest_key
from cmk_operator.reconcile.key.report import KeyFacts, Usage, key_status
from cmk_operator.reconcile.notifications.announcements import Audience, announce_key
from tests.unit.samples import NOW, V1, customer_managed_key, guard, healthy, key_body, probe, states

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "operator" / "cmk_operator"
LEGAL = re.compile(Condition.model_fields["reason"].metadata[-1].pattern or "")
WORDS = {one.value for one in (*Reason, *EventReason, *ConditionType, *PrerequisiteName)}
# Words that are something else as well: codes of Key Vault, Graph and Resource Manager, a kind, a change in the record, a mode and a
# state of serving.
HOMONYMS = {
    "CustomerManagedKey",
    "KeyDisabled",
    "KeyNotFound",
    "KeyVersionChanged",
    "NotServing",
    "PlatformManaged",
    "Request_ResourceNotFound",
    "ResourceNotFound",
}


def test_each_reason_is_a_legal_word_of_its_own_with_one_sentence() -> None:
    for reason in Reason:
        assert LEGAL.fullmatch(reason.value), reason
        assert Reason.of_code(reason.value.upper()) is reason, "no two differ by case alone"
    for entry in (*Reason, *EventReason, *ConditionType):
        assert re.fullmatch(r"[A-Z`][^\n]*[^.\n]\.", entry.sentence), entry
        assert ". " not in entry.sentence, entry
        assert len(entry.sentence) <= 130, entry


def test_every_state_of_access_is_a_reason_and_an_event_by_its_own_word() -> None:
    for state in AccessState:
        assert state.reason.value == state.value
        assert AccessState.read(state.value) is state
        assert EventReason.of_access(state.reason).value == f"Key{state.value}"


def test_what_is_known_of_a_state_is_what_the_verdict_says() -> None:
    for name, found in states().items():
        access = judge_access(found)
        assert access.state.acts is access.actor, name
        assert access.state.reason.passes_by_itself is (access.actor is not None and access.actor.value == "Azure"), name


def test_every_state_of_consent_has_an_event() -> None:
    for state in get_args(ConsentState):
        assert EventReason.of_consent(Reason.read(state)).value == f"Consent{state}"


def test_every_prerequisite_has_the_reason_of_its_failure() -> None:
    assert {name.failed.value for name in PrerequisiteName} == {f"{name.value}Failed" for name in PrerequisiteName}


def test_what_another_release_wrote_is_read_as_unknown_and_stops_nothing() -> None:
    assert Reason.read("InventedIn2031") is Reason.UNKNOWN
    assert AccessState.read("InventedIn2031") is AccessState.UNKNOWN
    key = customer_managed_key()
    wire = key_status(key, KeyFacts(guard(probe(healthy(V1))), Usage()), NOW).model_dump(mode="json", by_alias=True)
    wire["access"]["state"] = wire["versions"][0]["access"] = "InventedIn2031"
    for condition in wire["conditions"]:
        condition["reason"] = "InventedIn2031"
    wire["conditions"].append(wire["conditions"][0] | {"type": "OfAnotherRelease"})
    newer = type(key).model_validate({**key_body(), "status": wire})
    told = find(newer.status.conditions, ConditionType.KEY_ACCESSIBLE)
    assert told is not None
    assert told.known_reason is Reason.UNKNOWN
    assert digest_key(newer).state == "InventedIn2031"
    again = key_status(newer, KeyFacts(guard(probe(healthy(V1))), Usage()), NOW)
    assert again.access is not None
    assert again.access.state == "Accessible"
    assert announce_key(newer, newer.status, Audience(listening=True), NOW).notifications is not None


def test_the_operator_owns_the_types_of_its_vocabulary() -> None:
    assert {one.value for one in ConditionType} == OWN_CONDITIONS
    assert {one for types in CONDITIONS.values() for one in types} | {ConditionType.RECONCILING, ConditionType.STALLED} == set(
        ConditionType
    )


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PRODUCT.rglob("*.py")):
        if path.relative_to(PRODUCT).as_posix() not in {"core/faults/reason.py", "core/conditions.py"}:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_no_word_of_the_vocabulary_is_written_out_anywhere_else() -> None:
    written = {
        f"{path.relative_to(PRODUCT)}:{node.lineno}: {node.value}"
        for path, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value in WORDS - HOMONYMS
        and sum(letter.isupper() for letter in node.value) > 1
        and path.name != "prerequisite.py"
    }
    assert not written


def test_nobody_compares_the_text_of_a_reason_or_of_a_type() -> None:
    compared = {
        f"{path.relative_to(PRODUCT)}:{node.lineno}"
        for path, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(side, ast.Attribute) and side.attr == "reason" for side in (node.left, *node.comparators))
        and any(
            isinstance(inner, ast.Constant) and isinstance(inner.value, str)
            for side in (node.left, *node.comparators)
            for inner in ast.walk(side)
        )
    }
    assert not compared


def test_each_constructor_of_a_fault_is_called_with_reasons_that_end_as_it_says() -> None:
    ends = {"blocked": FaultKind.BLOCKED, "busy": FaultKind.BUSY, "invalid": FaultKind.INVALID}
    checked = 0
    for path, tree in _sources():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ends and node.args):
                continue
            given = node.args[0]
            if isinstance(given, ast.Attribute) and isinstance(given.value, ast.Name) and given.value.id == "Reason":
                kind = Reason[given.attr].kind
                # A set may be named and not exist, or not be named: one word, and a person acts in either case.
                expected = {ends[node.func.id], *({FaultKind.BLOCKED} if node.func.id == "invalid" else ())}
                assert kind in expected, f"{path}:{node.lineno}: {given.attr}"
                checked += 1
    assert checked > 60


def test_conditions_and_faults_are_made_in_one_place_each() -> None:
    made = {
        path.relative_to(PRODUCT).as_posix()
        for path, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Condition"
    }
    assert made == {"api/conditions.py"}


def test_the_tables_of_the_page_are_those_of_the_vocabulary() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert rendered(page) == page, "run `make docs-tables`"
    shown = set(re.findall(r"<!-- table: ([A-Za-z ]+) -->", page))
    assert shown == set(tables()) - {"conditions of Preflight"}


def _alert_states() -> Iterator[tuple[str, list[str]]]:
    monitoring = ROOT / "charts" / "cmk-operator" / "files" / "monitoring"
    dashboard = json.dumps(json.loads((monitoring / "dashboard.json").read_text(encoding="utf-8")))
    for text in ((monitoring / "alerts.yaml").read_text(encoding="utf-8"), dashboard):
        for metric, words in re.findall(r'(cmk_\w+)\{[^}]*?state=~?\\?"([A-Za-z|]+)\\?"', text):
            yield metric, words.split("|")


def test_alerts_and_dashboard_select_states_that_there_are() -> None:
    found = list(_alert_states())
    assert len(found) >= 5
    losses = {state.value for state in AccessState if state.is_known_loss}
    for metric, words in found:
        known = set(get_args(ConsentState)) if metric == "cmk_tenant_consent_state" else {state.value for state in AccessState}
        assert set(words) <= known, metric
        assert not losses & set(words) or losses == set(words), "an alert about losses knows all of them"


def test_runbooks_and_pages_name_reasons_that_there_are() -> None:
    tables_of_reasons = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        head: list[str] = []
        for line in page.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
            if not cells or not head:
                head = cells
                tables_of_reasons += bool(cells and cells[0].startswith(("reason", "state")) and page.name != "status.md")
                continue
            if head[0].startswith(("reason", "state")):
                named = set(re.findall(r"`([A-Za-z_]+)`", cells[0]))
                assert named <= WORDS, f"{page.name}: {sorted(named - WORDS)}"
    assert tables_of_reasons >= 2


@pytest.mark.parametrize("page", ["status.md", "runbooks.md", "operation.md", "identity.md", "notifications.md", "targets.md"])
def test_whatever_looks_like_a_reason_in_the_docs_is_one_or_a_known_term(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[A-Z][a-z]+){2,})`", text))
    terms = {
        *CONDITIONS,
        *re.findall(
            r"\b(?:[A-Z][a-z]+){2,}\b",
            " ".join((ROOT / "crds").joinpath(name.name).read_text(encoding="utf-8") for name in (ROOT / "crds").iterdir()),
        ),
    }
    assert named - WORDS - terms <= _other_terms(), sorted(named - WORDS - terms - _other_terms())


def _other_terms() -> set[str]:
    """Words of Azure, Snowflake and Prometheus that the pages use beside the vocabulary."""
    alerts: Any = (ROOT / "charts" / "cmk-operator" / "files" / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    return {*re.findall(r"alert: (\w+)", alerts)}
