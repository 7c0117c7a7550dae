"""Each constraint of the schemas, found in the definitions themselves, refuses what breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.admission.api import path_of
from tests.admission.manifests import KINDS, manifest, minimal, put, remove, spec_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kubernetes.cluster import Cluster
    from tests.admission.api import Api

pytestmark = pytest.mark.cluster

_WORDS = {
    "enum": "Unsupported value",
    "maxLength": "Too long",
    "minLength": "should be at least",
    "pattern": "should match",
    "maxItems": "must have at most",
    "minItems": "should have at least",
    "x-kubernetes-list-type": "Duplicate value",
    "type": "must be of type",
}


def _breaking(constraint: str, value: Any) -> Any:
    match constraint:
        case "enum":
            return "SomethingElse"
        case "maxLength":
            return "a" * (value + 1)
        case "minLength":
            return "a" * (value - 1)
        case "pattern":
            return "!?"
        case "maxItems":
            return [f"item-{number}" for number in range(value + 1)]
        case "minItems":
            return []
        case "x-kubernetes-list-type":
            return ["team-a", "team-a"]
        case "type":
            return "text" if value in {"object", "array"} else 42
        case _:
            raise AssertionError(constraint)


def _constraints() -> Iterator[tuple[str, str, str, Any]]:
    for plural, path, schema in spec_schemas():
        for name in _WORDS:
            if name in schema and path:
                yield plural, path, name, _breaking(name, schema[name])


def _required() -> Iterator[tuple[str, str]]:
    for plural, path, schema in spec_schemas():
        for name in schema.get("required", ()):
            yield plural, f"{path}.{name}" if path else name


@pytest.mark.parametrize(("plural", "path", "constraint", "value"), list(_constraints()))
def test_what_breaks_a_constraint_is_refused_at_its_field(
    api: Api, plural: str, path: str, constraint: str, value: Any
) -> None:
    broken = manifest(plural, "judged", having=path)
    put(broken["spec"], path, value)
    answer = api.judge(broken)
    assert answer.status == 422, "it was admitted"
    where = f"spec.{path.replace('[]', '[0]')}"
    found = [said for field, said in answer.causes if field.startswith(where)]
    assert any(_WORDS[constraint] in said for said in found), answer.causes


@pytest.mark.parametrize(("plural", "path"), list(_required()))
def test_what_must_be_there_is_asked_for(api: Api, plural: str, path: str) -> None:
    broken = manifest(plural, "judged", having=path)
    remove(broken["spec"], path)
    answer = api.judge(broken)
    assert answer.status == 422, "it was admitted"
    assert (f"spec.{path.replace('[]', '[0]')}", "Required value") in answer.causes


@pytest.mark.parametrize("plural", list(KINDS))
def test_a_manifest_without_a_spec_is_refused(api: Api, plural: str) -> None:
    broken = manifest(plural, "judged")
    del broken["spec"]
    assert ("spec", "Required value") in api.judge(broken).causes


@pytest.mark.parametrize(
    ("plural", "path", "value"),
    [(plural, path, value) for plural, path, schema in spec_schemas() for value in schema.get("enum", ())],
)
def test_every_word_of_an_enumeration_is_admitted(api: Api, plural: str, path: str, value: str) -> None:
    good = manifest(plural, "judged", having=path)
    put(good["spec"], path, value)
    answer = api.judge(good)
    assert answer.status == 201, answer.message


@pytest.mark.parametrize("plural", list(KINDS))
def test_a_new_object_has_the_spec_of_its_manifest_and_a_status_that_says_not_seen_yet(api: Api, plural: str) -> None:
    small = minimal(plural, "judged")
    answer = api.judge(small)
    assert answer.status == 201, answer.message
    assert answer.body["spec"] == small["spec"]
    assert answer.body["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize("plural", list(KINDS))
def test_an_unknown_field_is_refused_to_the_strict_and_pruned_for_the_others(api: Api, plural: str) -> None:
    odd = manifest(plural, "judged")
    odd["spec"]["novelty"] = 1
    strict = api.judge(odd)
    assert strict.status == 400
    assert 'unknown field "spec.novelty"' in strict.message
    pruned = api.request("POST", path_of(odd, named=False), odd, dryRun="All", fieldValidation="Ignore")
    assert pruned.status == 201
    assert "novelty" not in pruned.body["spec"]


@pytest.mark.parametrize("plural", list(KINDS))
def test_a_status_in_the_manifest_is_not_taken_over(api: Api, plural: str) -> None:
    forged = manifest(plural, "judged") | {"status": {"observedGeneration": 99}}
    assert api.judge(forged).body["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize("complete", [manifest, minimal], ids=["complete", "minimal"])
@pytest.mark.parametrize("plural", list(KINDS))
def test_gitops_sees_no_difference_between_what_was_applied_and_what_is(
    cluster: Cluster, api: Api, plural: str, complete: Any
) -> None:
    applied = complete(plural, "gitops")
    text = _yaml(applied)
    try:
        cluster.kubectl("apply", "--server-side", "--filename", "-", stdin=text)
        # `kubectl diff` ends with an error when there is a difference.
        assert cluster.kubectl("diff", "--server-side", "--filename", "-", stdin=text) == ""
    finally:
        api.request("DELETE", path_of(applied))


def _yaml(body: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415 - for this one text

    return str(yaml.safe_dump(body))
