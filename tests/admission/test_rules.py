"""Each CEL rule admits what is good and refuses what is not, in its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cmk_operator.core.identifiers.arm_id import parse_arm_id
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from tests.admission.api import path_of
from tests.admission.manifests import KINDS, OTHER_GUID, manifest, put, rules, with_value
from tests.admission.values import ADMITTED, REFUSED, UNCHANGEABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.admission.api import Api

pytestmark = pytest.mark.cluster

ADMITTED_CASES = [(plural, path, value) for (plural, path), values in ADMITTED.items() for value in values]
REFUSED_CASES = [
    (plural, path, value, message)
    for (plural, path), by_message in REFUSED.items()
    for message, values in by_message.items()
    for value in values
]


def field(path: str) -> str:
    """A path as the API server names it."""
    return f"spec.{path.replace('[]', '[0]')}".removesuffix(".")


@pytest.mark.parametrize(("plural", "path", "value"), ADMITTED_CASES)
def test_a_good_value_is_admitted(api: Api, plural: str, path: str, value: Any) -> None:
    answer = api.judge(with_value(plural, path, value))
    assert answer.status == 201, answer.message


@pytest.mark.parametrize(("plural", "path", "value", "message"), REFUSED_CASES)
def test_a_bad_value_is_refused_in_the_words_of_exactly_one_rule(
    api: Api, plural: str, path: str, value: Any, message: str
) -> None:
    answer = api.judge(with_value(plural, path, value))
    assert answer.status == 422, "it was admitted"
    [(where, said)] = answer.causes
    assert where == field(path)
    assert said.endswith(f": {message}")


@pytest.mark.parametrize("value", ["9999999h", "99999999999h"])
@pytest.mark.parametrize("path", ["rotation.holdSupersededFor", "rotation.backupRetention"])
def test_a_duration_that_no_clock_can_hold_is_refused(api: Api, path: str, value: str) -> None:
    answer = api.judge(with_value("customermanagedkeys", path, value))
    assert answer.status == 422, "it was admitted"
    assert answer.causes[0][0] == field(path)


@pytest.fixture(scope="module")
def existing(api: Api) -> Iterator[dict[str, dict[str, Any]]]:
    """One object of each kind."""
    made = {plural: manifest(plural, "existing") for plural in KINDS}
    for body in made.values():
        api.create(body)
    yield made
    for body in made.values():
        api.request("DELETE", path_of(body))


@pytest.mark.parametrize(("plural", "path"), list(UNCHANGEABLE))
def test_what_may_not_change_is_refused_with_the_way_out(
    api: Api, existing: dict[str, dict[str, Any]], plural: str, path: str
) -> None:
    change: dict[str, Any] = {}
    put(change, path, UNCHANGEABLE[plural, path])
    answer = api.judge_change(existing[plural], {"spec": change})
    assert answer.status == 422, "it was admitted"
    assert [(where, said.rpartition(": ")[2]) for where, said in answer.causes] == [
        (field(path), "create another object instead")
    ]
    assert f"{path or 'the target'} may not change: create another object instead" in answer.message


def test_a_snowflake_manifest_may_not_move_to_another_account(api: Api) -> None:
    made = manifest("encryptedresources", "moving", having="snowflake")
    api.create(made)
    try:
        answer = api.judge_change(made, {"spec": {"snowflake": {"account": "contoso-test"}}})
        assert answer.status == 422, "it was admitted"
        assert "the target may not change: create another object instead" in answer.message
        assert api.judge_change(made, {"spec": {"snowflake": {"user": "OTHER"}}}).status == 200
    finally:
        api.request("DELETE", path_of(made))


@pytest.mark.parametrize(
    ("plural", "path", "value"),
    [
        ("customermanagedkeys", "keyUri", "https://contoso.vault.azure.net/keys/other"),
        ("customermanagedkeys", "prerequisites", "Warn"),
        ("customermanagedkeys", "vaultResourceId", None),
        ("customermanagedkeys", "rotation", None),
        ("organizationkeys", "tenantRef", {"name": "other"}),
        ("organizationkeys", "keyUri", "https://other.vault.azure.net/keys/other"),
        ("organizationkeys", "access", {"registration": None, "application": {}}),
        ("organizationkeys", "mode", "CustomerManaged"),
        ("organizationkeys", "organization", {"region": None}),
        ("customertenants", "allowedNamespaces", ["team-a", "team-b"]),
        ("customertenants", "identityRef", {"name": "other"}),
        ("customertenants", "notifications", None),
        ("encryptedresources", "keyRef", {"name": "other"}),
        ("encryptedresources", "mode", "Observe"),
        ("encryptedresources", "deletionPolicy", None),
        ("federatedidentities", "application", {"clientId": OTHER_GUID}),
        ("federatedidentities", "application", {"clientId": None, "displayName": None, "register": {"displayName": "x"}}),
        ("federatedidentities", "registrar", None),
        ("federatedidentities", "operatorCredential", "ServiceAccount"),
    ],
)
def test_everything_else_may_change(api: Api, existing: dict[str, dict[str, Any]], plural: str, path: str, value: Any) -> None:
    answer = api.judge_change(existing[plural], {"spec": {path: value}})
    assert answer.status == 200, answer.message


@pytest.mark.parametrize(
    ("plural", "path", "value"), [("customermanagedkeys", "keyUri", "http://x"), ("customertenants", "allowedScopes[]", "/")]
)
def test_a_change_is_judged_by_the_rules_of_values_too(
    api: Api, existing: dict[str, dict[str, Any]], plural: str, path: str, value: str
) -> None:
    change: dict[str, Any] = {}
    put(change, path, value)
    assert api.judge_change(existing[plural], {"spec": change}).status == 422


def test_every_rule_has_values_that_it_admits_and_values_that_it_refuses() -> None:
    told = rules()
    assert len(told) >= 18
    for rule in told:
        place = (rule.plural, rule.path)
        if rule.message.endswith("may not change: create another object instead"):
            assert place in UNCHANGEABLE, rule
        else:
            assert ADMITTED.get(place), rule
            assert REFUSED.get(place, {}).get(rule.message), rule
    known = {(rule.plural, rule.path, rule.message) for rule in told}
    assert {(plural, path, message) for plural, path, _, message in REFUSED_CASES} <= known


def test_only_what_may_not_change_looks_at_the_old_object_because_new_ones_have_none() -> None:
    for rule in rules():
        assert rule.is_of_change is rule.message.endswith("may not change: create another object instead"), rule


def test_whatever_is_admitted_the_operator_can_read() -> None:
    for plural, path, value in ADMITTED_CASES:
        if path == "keyUri":
            assert str(parse_key_uri(value)) == value
        elif path in {"resourceId", "vaultResourceId", "allowedScopes[]", "managedIdentity.resourceId"}:
            assert parse_arm_id(value).text == value, plural
