"""The document is valid, and the running service does what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

from cmk_keyservice.http.bodies import ORGANIZATION
from cmk_keyservice.http.openapi import DOCUMENT, document
from cmk_keyservice.http.operations import OPERATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.keyservice.http.world import ServedProcess

SIZES = frozenset({"maxLength", "maxItems"})
SCHEMATHESIS = """\
[generation]
database = "none"
max-examples = 8

[checks.positive_data_acceptance]
expected-statuses = [200, 403, 404, 422]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 413, 415, 422]
"""


def test_the_document_is_valid() -> None:
    validate(json.loads(DOCUMENT))


def test_every_operation_has_its_path_and_says_which_verb_it_needs() -> None:
    paths = document()["paths"]
    for operation in OPERATIONS:
        post = paths[f"/v1/organizations/{{organization}}/{operation.name}"]["post"]
        assert f"`{operation.verb}`" in post["description"]


def test_no_pattern_lets_a_line_end_through() -> None:
    patterns = set(re.findall(r'"pattern": ?"((?:[^"\\]|\\.)*)"', json.dumps(document())))
    assert len(patterns) >= 4
    for pattern in patterns:
        decoded = json.loads(f'"{pattern}"')
        if decoded == ORGANIZATION:
            continue  # matched as a whole
        for word in ("orders", "a/b", "AAAA"):
            if re.search(decoded, word) and "A-Z" not in decoded:  # msgspec itself refuses a line end in base64
                assert not re.search(decoded, f"{word}\n"), decoded


def _without_large_sizes(part: Any) -> Any:
    """The document without bounds that take megabytes to try: test_bounds.py tries them."""
    if isinstance(part, dict):
        return {key: _without_large_sizes(value) for key, value in part.items() if not (key in SIZES and value > 128)}
    return [_without_large_sizes(each) for each in part] if isinstance(part, list) else part


@pytest.mark.cluster
async def test_the_service_shows_its_document_to_everybody(served: ServedProcess) -> None:
    async with served.caller() as caller, caller.session.get("/openapi.json", headers={"Authorization": ""}) as answer:
        assert await answer.json() == json.loads(DOCUMENT)


@pytest.mark.cluster
def test_schemathesis_finds_no_difference_between_the_document_and_the_running_service(
    served: ServedProcess, tmp_path: Path
) -> None:
    served.authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    (tmp_path / "openapi.json").write_text(json.dumps(_without_large_sizes(document())))
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(tmp_path / "schemathesis.toml"), "run", str(tmp_path / "openapi.json")),
        *("--url", served.url),
        *("--header", f"Authorization: Bearer {served.token('orders')}", "--tls-verify", str(tmp_path / "ca.crt")),
        *("--seed", "1", "--checks", "all", "--phases", "examples,coverage,fuzzing", "--no-color"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
