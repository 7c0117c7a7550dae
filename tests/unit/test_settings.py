"""A setting that nobody knows ends the process with the name that was meant; variables of every pod are defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmk_keyservice.settings import VARIABLES, ConsoleSettings, MigrateSettings, SealSettings, ServeSettings
from cmk_operator.core.text.variables import unknown_settings
from cmk_operator.process_settings import ProcessSettings, settings_or_exit
from cmk_operator.settings import Settings

PREFIX = "CMK_OPERATOR_"
RINGS = ["--internal-keyring-file=/i", "--platform-keyring-file=/p", "--tls-certificate-file=/c", "--tls-key-file=/k"]
SERVE = [*RINGS, "--database-url-file=/d"]
PROGRAMS: list[tuple[type[ProcessSettings], list[str]]] = [(Settings, []), (ServeSettings, SERVE)]


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *Settings.variables(), "HOSTNAME", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("CMK_OPERATOR_WORKER", "rename it to CMK_OPERATOR_WORKERS, or remove it"),
        ("CMK_OPERATOR_KEY_CHECK_INTERVAL_SECONDS", "rename it to CMK_OPERATOR_KEY_CHECK_INTERVAL, or remove it"),
        ("CMK_OPERATOR_LOGLEVEL", "rename it to CMK_OPERATOR_LOG_LEVEL, or remove it"),
        ("CMK_OPERATOR_CLASS", "rename it to CMK_OPERATOR_OPERATOR_CLASS, or remove it"),
        ("cmk_operator_worker", "rename it to CMK_OPERATOR_WORKERS, or remove it"),
        ("CMK_OPERATOR_XYZZY", "CMK_OPERATOR_XYZZY is no setting: remove it"),
        ("CMK_OPERATOR_", "CMK_OPERATOR_ is no setting: remove it"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_nearest_name(variable: str, complaint: str) -> None:
    [found] = unknown_settings([variable, "PATH"], PREFIX, Settings.variables())
    assert complaint in found


@pytest.mark.parametrize(
    "others",
    [
        ["CMK_OPERATOR_WORKERS"],
        ["cmk_operator_workers"],
        ["PATH", "CMKOPERATOR_X", "MY_CMK_OPERATOR_X"],
        ["CMK_OPERATOR_SERVICE_HOST", "CMK_OPERATOR_SERVICE_PORT_HTTP", "CMK_OPERATOR_PORT", "CMK_OPERATOR_PORT_80_TCP_ADDR"],
        ["CMK_OPERATOR_KEYSERVICE_SERVICE_HOST", "CMK_OPERATOR_KEYSERVICE_PORT_443_TCP"],
    ],
    ids=["a setting", "in lower case", "of others", "of a Service", "of the key service's Service"],
)
def test_settings_and_variables_of_others_are_no_complaint(others: list[str]) -> None:
    assert unknown_settings(others, PREFIX, Settings.variables()) == ()


def test_a_service_excuses_only_its_own_variables() -> None:
    assert len(unknown_settings(["CMK_OPERATOR_A_SERVICE_HOST", "CMK_OPERATOR_B_PORT"], PREFIX, Settings.variables())) == 1


@pytest.mark.parametrize(("kind", "flags"), PROGRAMS, ids=["operator", "key service"])
def test_each_variable_of_every_pod_is_the_default_and_the_own_variable_and_the_flag_win(
    kind: type[ProcessSettings], flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = str(kind.model_config["env_prefix"])

    def read(*more: str) -> tuple[str, Path]:
        dump = settings_or_exit("program", kind, [*flags, *more], kind.variables()).model_dump()
        return dump["instance"], dump["federated_token_file"]

    monkeypatch.setenv("HOSTNAME", "pod")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/azure")
    monkeypatch.setenv("INSTANCE", "a variable of somebody else")
    monkeypatch.setenv("FEDERATED_TOKEN_FILE", "/of-somebody-else")
    assert read() == ("pod", Path("/azure"))
    monkeypatch.setenv(f"{prefix}INSTANCE", "own")
    monkeypatch.setenv(f"{prefix}FEDERATED_TOKEN_FILE", "/own")
    assert read() == ("own", Path("/own"))
    assert read("--instance=flag", "--federated-token-file=/flag") == ("flag", Path("/flag"))


def test_every_wrong_setting_is_told_at_once_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMK_KEYSERVICE_DATABASE_URL", "postgresql://u:hidden@h/d")
    monkeypatch.setenv("CMK_KEYSERVICE_DATABASE_UR", "postgresql://u:hidden@h/d")
    monkeypatch.setenv("CMK_KEYSERVICE_LEASE_SECONDS", "soon")
    with pytest.raises(SystemExit, match="2"):
        settings_or_exit("cmk-keyservice", ServeSettings, RINGS, VARIABLES)
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "cmk-keyservice: setting lease_seconds: Input should be a valid number, unable to parse string as a number (got 'soon')",
        "cmk-keyservice: setting CMK_KEYSERVICE_DATABASE_UR is no setting: rename it to CMK_KEYSERVICE_DATABASE_URL, or remove it",
    ]


def test_one_environment_may_serve_every_command_of_the_key_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMK_KEYSERVICE_PUBLIC_URL", "https://page.example")
    settings = settings_or_exit("cmk-keyservice", MigrateSettings, ["--database-url-file=/d"], VARIABLES)
    assert settings.database_url_file == Path("/d")
    assert {kind.variables() <= VARIABLES for kind in (ServeSettings, ConsoleSettings, MigrateSettings, SealSettings)} == {True}


def test_the_operator_does_not_start_with_a_setting_that_nobody_knows() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "cmk_operator"],
        env={"PATH": os.environ["PATH"], "CMK_OPERATOR_WORKER": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "cmk-operator: setting CMK_OPERATOR_WORKER is no setting: rename it to CMK_OPERATOR_WORKERS, or remove it\n"
    )
