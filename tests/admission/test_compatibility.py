"""What the last release stored stays valid under today's definitions, and what takes something away is noticed."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.admission.compatibility import RELEASED, breaks, released, without_descriptions
from tests.admission.manifests import CRDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admission.api import Api

LAST = "0.1.0"
TODAY = {
    found["spec"]["names"]["plural"]: found for found in (yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml"))
}
OBJECTS = [json.loads(line) for line in (RELEASED / f"{LAST}-objects.jsonl").read_text().splitlines()]
BECAUSE = {
    r"v1alpha1\.status\.\S+: (maxLength|maxItems) None becomes": "the operator alone writes a status, and cuts it to size",
    r"v1alpha1\.spec\.keyUri: a new rule": "the same grammar in other words, one generated from it (tests/admission/test_key_uri_grammar.py)",
    r"v1alpha1\.spec: a new rule: !has\(self\.requireFullCoverage\) ": "a rule about a new field: without it nothing is refused",
    r"v1alpha1\.spec\.(keys|resources)\[\]\.spec: x-kubernetes-preserve-unknown-fields True is gone": "a Preflight lives for minutes; "
    "what it wraps has the fields of its kind",
}
"""What was taken away since the last release, and why no object suffers."""


def test_each_kind_of_the_last_release_is_still_served_and_takes_what_it_took() -> None:
    found = [line for plural, definition in released(LAST).items() for line in breaks(definition, TODAY[plural])]
    assert [line for line in found if not any(re.match(reason, line) for reason in BECAUSE)] == []
    assert [reason for reason in BECAUSE if not any(re.match(reason, line) for line in found)] == [], "a reason without a cause"


def test_today_takes_nothing_away_from_itself() -> None:
    assert [line for definition in TODAY.values() for line in breaks(without_descriptions(definition), definition)] == []


@pytest.mark.cluster
@pytest.mark.parametrize("stored", OBJECTS, ids=[one["kind"] for one in OBJECTS])
def test_an_object_of_the_last_release_with_every_field_is_accepted(api: Api, stored: dict[str, Any]) -> None:
    answer = api.judge(stored)
    assert answer.status == 201, answer.message


def _spec(definition: dict[str, Any]) -> Any:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def _pop(field: str) -> Callable[[dict[str, Any]], object]:
    return lambda definition: _spec(definition)["properties"].pop(field)


def _set(field: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda definition: _spec(definition)["properties"][field].update(values)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_pop("mode"), "v1alpha1.spec.mode: is gone"),
        (_set("mode", enum=["Enforce"]), "v1alpha1.spec.mode: enum lacks Observe"),
        (_set("resourceId", enum=["/x"]), "v1alpha1.spec.resourceId: enum lacks any other"),
        (_set("resourceId", maxLength=3), "v1alpha1.spec.resourceId: maxLength"),
        (_set("resourceId", minLength=30), "v1alpha1.spec.resourceId: minLength"),
        (_set("resourceId", pattern="^x"), "v1alpha1.spec.resourceId: pattern"),
        (_set("resourceId", type="integer"), "v1alpha1.spec.resourceId: type string becomes integer"),
        (_set("resourceId", default="/x"), "v1alpha1.spec.resourceId: default None becomes /x"),
        (_set("keyRef", required=["name", "namespace"]), "v1alpha1.spec.keyRef: namespace becomes required"),
        (lambda it: _spec(it)["x-kubernetes-validations"].append({"rule": "false"}), "v1alpha1.spec: a new rule: false"),
        (lambda it: it["spec"].update(scope="Cluster"), "scope: Namespaced becomes Cluster"),
        (lambda it: it["spec"]["names"].update(shortNames=[]), "names: encres is gone"),
        (lambda it: it["spec"]["versions"][0].update(served=False), "v1alpha1: is not served any more"),
        (lambda it: it["spec"]["versions"][0].update(storage=False), "v1alpha1: is not stored any more"),
    ],
)
def test_what_takes_something_away_is_told(change: Callable[[dict[str, Any]], object], told: str) -> None:
    old = without_descriptions(TODAY["encryptedresources"])
    new = deepcopy(old)
    change(new)
    [found] = breaks(old, new)
    assert found.startswith(told)
