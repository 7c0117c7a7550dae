"""One line of audit for each change; what else the log of a whole run must hold is judged when the operator has ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.session_log import faults_of_log

if TYPE_CHECKING:
    from tests.e2e.conftest import Operator
    from tests.environment import Environment

GOOD = json.dumps({"level": "INFO", "time": "2026-01-01T00:00:00Z", "message": "done"})


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace("done", "token eyJhbGciOiJSUzI1NiJ9"),
        GOOD.replace("done", "Authorization: Bearer x"),
        GOOD.replace("done", "s3cret was used"),
        GOOD.replace("done", "signed with whsec_AAAA"),
        GOOD.replace("done", "https://hooks.example/in?code=AAAA"),
        GOOD.replace("done", "the pass failed"),
        "Traceback (most recent call last):",
        json.dumps({"message": "no level"}),
    ],
)
def test_what_may_not_be_in_a_log_is_found(line: str) -> None:
    env = {"PROVIDER_ADMIN_CLIENT_SECRET": "s3cret", "PROVIDER_TENANT_ID": "done"}
    assert faults_of_log(GOOD, env) == []
    assert faults_of_log(f"{GOOD}\n{line}\n", env) != []


async def test_every_change_of_a_key_is_one_line_of_audit_with_azures_request_id(
    environment: Environment, operator: Operator
) -> None:
    # Law 8.
    version = await environment.ready()
    lines = [json.loads(line) for line in operator.log().splitlines()]
    changed = [line["audit"] for line in lines if line["message"] == "key changed"]
    (line,) = [one for one in changed if one["object"]["namespace"] == environment.namespace]
    (patch,) = await environment.writes()
    assert (line["by"], line["why"]) == ("cmk-operator", "the manifest says so (generation 1, field manager tests)")
    assert (line["from"], line["to"]) == ("a Microsoft-managed key", environment.key_uri(version))
    assert line["azureRequestId"] == patch["request_id"]
    assert line["target"] == environment.accounts["docs"]
