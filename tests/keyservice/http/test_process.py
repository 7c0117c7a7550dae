"""The program itself: start, readiness, an outage of its database, a renewed certificate, its log and its end."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cmk_keyservice.__main__ import main
from cmk_keyservice.crypto.key_ring import KeyRing, RingName
from sandbox import postgresql
from tests.keyservice.http.world import ServedProcess, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.kubernetes.cluster import Cluster
    from sandbox.postgresql import Postgresql

PATIENCE = 40.0
SECRET = b"plaintext-that-must-not-be-logged"


@dataclass
class OwnServer:
    """A PostgreSQL that these tests may stop."""

    running: Postgresql

    def restart(self) -> None:
        """On the same data and port, in a new process."""
        self.running = self.running.restarted()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """For this module alone."""
    server = OwnServer(postgresql.start(tmp_path_factory.mktemp("own") / "server"))
    yield server
    server.running.stop()


@pytest.fixture(scope="module")
def own(prepared: Cluster, own_server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedProcess]:
    """A key service that these tests may break."""
    url = own_server.running.create("own")
    ended = _program("migrate", CMK_KEYSERVICE_DATABASE_URL=url)
    assert ended.returncode == 0, ended.stderr
    running = ServedProcess(prepared, tmp_path_factory.mktemp("own-keyservice"), url, {"CMK_KEYSERVICE_LOG_LEVEL": "DEBUG"})
    running.start()
    yield running
    running.stop()


def _program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    every = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    command = [sys.executable, "-m", "cmk_keyservice", *arguments]
    return subprocess.run(command, env=every, capture_output=True, text=True, check=False, timeout=120)


def _until(test: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.05)


@pytest.mark.cluster
async def test_an_outage_of_the_database_is_told_and_what_memory_holds_is_served(
    own: ServedProcess, own_server: OwnServer
) -> None:
    async with own.caller() as caller:
        sealed = await caller.done("encrypt", plaintext=encoded(SECRET), purpose="orders")
        own_server.running.stop()
        _until(lambda: own.monitoring("/readyz")[0] == 503, "not ready")
        assert "Database" in own.monitoring("/readyz")[1]
        assert own.monitoring("/readyz/traffic")[0] == 200
        assert decoded((await caller.done("decrypt", ciphertext=sealed["ciphertext"]))["plaintext"]) == SECRET
        status, problem = await caller.post("encrypt", {"plaintext": "", "purpose": "new"})
        assert (status, problem["class"], problem["retryable"]) == (503, "Unavailable", True)
        own_server.restart()
        _until(lambda: own.monitoring("/readyz")[0] == 200, "ready again")
        await caller.done("encrypt", plaintext="", purpose="new")


@pytest.mark.cluster
def test_a_renewed_certificate_is_shown_without_a_restart(own: ServedProcess) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", own.port), timeout=10)

    before = shown()
    assert shown() == before
    own.show_certificate()
    _until(lambda: shown() != before, "the new certificate")


@pytest.mark.cluster
def test_its_memory_is_its_own(own: ServedProcess) -> None:
    assert own.process is not None
    limits = Path(f"/proc/{own.process.pid}/limits").read_text()
    [core] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


@pytest.mark.cluster
async def test_the_log_and_every_problem_are_free_of_plaintext_keys_and_tokens(own: ServedProcess) -> None:
    async with own.caller() as caller:
        sealed = await caller.done("encrypt", plaintext=encoded(SECRET), purpose="orders", context={"card": "context-word"})
        lease = await caller.done("data-keys", purpose="local")
        said = []
        for path, body in (
            ("encrypt", {"plaintext": encoded(SECRET), "purpose": "Wrong"}),
            ("encrypt", {"plaintext": SECRET.decode(), "purpose": "orders"}),
            ("encrypt", {"plaintext": encoded(SECRET), "purpose": "orders", "context": {"card": 7}}),
            ("decrypt", {"ciphertext": sealed["ciphertext"], "context": {"card": "context-word-2"}}),
            ("decrypt", {"ciphertext": encoded(SECRET)}),
            ("wrap", {"key": lease["key"], "purpose": "Wrong"}),
        ):
            status, problem = await caller.post(path, body)
            assert status >= 400, path
            said.append(json.dumps(problem))
        token = own.token("orders")
    secrets = {
        *(SECRET.decode(), encoded(SECRET), lease["key"], decoded(lease["key"]).hex(), "context-word"),
        *(token, token.split(".")[2], own.database_url, own.database_url.split("@")[0].rsplit(":", 1)[1]),
    }
    for name in ("internal", "platform"):
        keyset = json.loads((own.directory / f"{name}.json").read_text())
        secrets |= {key["keyData"]["value"] for key in keyset["key"]}
    text = own.log.read_text() + own.monitoring("/metrics")[1] + "".join(said)
    assert [secret for secret in secrets if secret in text] == []
    lines = own.log.read_text().splitlines()
    assert lines
    assert all(json.loads(line)["level"] for line in lines)


@pytest.mark.cluster
async def test_sigterm_lets_a_request_end_and_the_status_is_0(own: ServedProcess) -> None:
    async with own.caller() as caller:
        await caller.done("encrypt", plaintext="", purpose="orders")
        assert own.stop() == 0
    lines = [json.loads(line) for line in own.log.read_text().splitlines()]
    assert lines[-1]["message"] == "stopped"
    assert [line["message"] for line in lines if line["level"] == "ERROR"] == []
    own.start()
    async with own.caller() as caller:
        await caller.done("encrypt", plaintext="", purpose="orders")


def test_help_says_what_the_commands_are_and_how_a_ring_is_rotated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for word in ("serve", "migrate", "new-keyring FILE", "add-key FILE", "use-key FILE KEY_ID", "CMK_KEYSERVICE_<NAME>"):
        assert word in said
    assert main([]) == 2
    with pytest.raises(SystemExit):
        main(["migrate", "--help"])
    said = capsys.readouterr().out
    assert "--database-url-file" in said
    assert "--database-url " not in said


def test_serve_tells_its_settings() -> None:
    said = _program("serve", "--help").stdout
    assert "--tls-certificate-file" in said
    assert "--review-outage-grace" in said


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "set one of CMK_KEYSERVICE_DATABASE_URL and --database-url-file"),
        ({"CMK_KEYSERVICE_DATABASE_URL": "postgresql://u:hidden@h/d"}, "set --tls-certificate-file and --tls-key-file"),
        (
            {"CMK_KEYSERVICE_DATABASE_URL": "postgresql://u:hidden@h/d", "CMK_KEYSERVICE_INSECURE_HTTP": "true"},
            "--insecure-http needs --listen-address 127.0.0.1",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named_without_their_secrets(settings: dict[str, str], sentence: str) -> None:
    rings = {"CMK_KEYSERVICE_INTERNAL_KEYRING_FILE": "/i", "CMK_KEYSERVICE_PLATFORM_KEYRING_FILE": "/p"}
    ended = _program("serve", **rings, **settings)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "hidden" not in ended.stderr


def test_a_database_that_cannot_be_reached_ends_the_migration_with_the_sentence_that_helps() -> None:
    ended = _program("migrate", CMK_KEYSERVICE_DATABASE_URL="postgresql://u:hidden@127.0.0.1:1/d")
    assert ended.returncode == 1
    assert "the provider must check PostgreSQL" in ended.stderr
    assert "hidden" not in ended.stderr


def test_a_key_ring_is_made_once_for_its_owner_alone_and_is_rotated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ring.json"
    assert main(["new-keyring", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["new-keyring", str(file)]) == 2
    assert "name a file that does not exist yet" in capsys.readouterr().err
    first = KeyRing.parse(RingName.INTERNAL, file.read_bytes())
    sealed = first.encrypt(SECRET, b"")
    assert main(["add-key", str(file)]) == 0
    file.write_text(capsys.readouterr().out)
    both = KeyRing.parse(RingName.INTERNAL, file.read_bytes())
    assert (both.primary_id, len(both.key_ids)) == (first.primary_id, 2)
    [new] = both.key_ids - {first.primary_id}
    assert main(["use-key", str(file), str(new)]) == 0
    file.write_text(capsys.readouterr().out)
    used = KeyRing.parse(RingName.INTERNAL, file.read_bytes())
    assert (used.primary_id, used.decrypt(sealed, b"")) == (new, SECRET)
    assert main(["use-key", str(file), "7"]) == 1
    assert main(["use-key", str(file), "x"]) == 2
    assert main(["add-key", str(tmp_path / "absent.json")]) == 2
