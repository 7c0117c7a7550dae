"""What one operator process logged while all the other tests of this folder used it; these come last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.azure.process import AzureProcess
    from tests.e2e.conftest import Operator
    from tests.environment import Environment


async def test_no_token_and_no_secret_was_ever_logged(operator: Operator, azure: AzureProcess) -> None:
    log = operator.log()
    assert "eyJ" not in log, "the beginning of every JSON Web Token"
    for name, value in azure.env.items():
        if "SECRET" in name:
            assert value not in log, name
    assert "Bearer " not in log


async def test_every_line_is_json_with_a_level_and_a_time(operator: Operator) -> None:
    for line in operator.log().splitlines():
        assert {"level", "time", "message"} <= set(json.loads(line)), line


async def test_no_pass_failed_and_no_traceback_was_logged(operator: Operator) -> None:
    log = operator.log()
    failed = [line for line in log.splitlines() if "pass failed" in line or "Traceback" in line]
    assert failed == []


async def test_every_change_of_a_key_is_one_line_of_audit_with_azures_request_id(
    environment: Environment, operator: Operator
) -> None:
    # Law 8.
    version = await environment.ready()
    lines = [json.loads(line) for line in operator.log().splitlines()]
    own = [
        line for line in lines if line.get("resource") == f"{environment.namespace}/docs" and line["message"] == "key changed"
    ]
    (line,) = own
    (patch,) = await environment.writes()
    assert (line["from"], line["to"]) == ("a key of Microsoft", environment.key_uri(version))
    assert line["azureRequestId"] == patch["request_id"]
    assert line["target"] == environment.accounts["docs"]


async def test_no_host_but_azures_was_ever_contacted(environment: Environment) -> None:
    assert await environment.control.refused_hosts() == []
