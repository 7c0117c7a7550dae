"""Where the API server is said to be, and what a person is told when nothing says it; connections are tried with a cluster."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import yaml

from cmk_operator.kubernetes import exec_plugin
from cmk_operator.kubernetes.connection import Connection, find_connection
from cmk_operator.kubernetes.credential import PAUSE, Credential, Fresh, Proof
from cmk_operator.kubernetes.exec_plugin import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
SECRET = "not-to-be-shown"  # noqa: S105 - it is none
V1 = "client.authentication.k8s.io/v1"


@pytest.fixture(scope="module")
def authority() -> bytes:
    return trustme.CA().cert_pem.bytes()


@pytest.fixture
def service_account(tmp_path: Path, authority: bytes) -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority)
    (folder / "token").write_text("of-the-pod\n")
    (folder / "namespace").write_text("operators\n")
    return folder


def _find(environ: dict[str, str], folder: Path) -> Connection:
    return asyncio.run(find_connection(environ, folder))


def _kubeconfig(path: Path, authority: bytes, user: Any, **cluster: Any) -> dict[str, str]:
    data = base64.b64encode(authority).decode()
    content = {
        "clusters": [
            {"name": "c", "cluster": {"server": "https://api.test:6443/", "certificate-authority-data": data} | cluster}
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "ours"}}],
        "current-context": "one",
    }
    path.write_text(yaml.safe_dump(content))
    return {"KUBECONFIG": str(path), "HOME": str(path.parent)}


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("10.0.0.1", "https://10.0.0.1:443"),
        ("fd00::1", "https://[fd00::1]:443"),
        ("mine-1a2b3c.hcp.westeurope.azmk8s.io", "https://mine-1a2b3c.hcp.westeurope.azmk8s.io:443"),
    ],
)
def test_a_pod_goes_where_its_environment_says(service_account: Path, host: str, server: str) -> None:
    connection = _find(IN_POD | {"KUBERNETES_SERVICE_HOST": host}, service_account)
    assert (connection.server, connection.namespace) == (server, "operators")
    assert connection.tls is not None
    assert asyncio.run(connection.credential.proof()) == Proof("bearer of-the-pod")


def test_a_kubeconfig_is_read_with_all_that_concerns_the_way(tmp_path: Path, authority: bytes) -> None:
    environ = _kubeconfig(
        tmp_path / "config",
        authority,
        {"token": SECRET},
        **{"tls-server-name": "inside.test", "proxy-url": "http://proxy.test:3128"},
    )
    connection = _find(environ, tmp_path / "none")
    assert (connection.server, connection.namespace) == ("https://api.test:6443", "ours")
    assert (connection.tls_server_name, connection.proxy) == ("inside.test", "http://proxy.test:3128")
    assert asyncio.run(connection.credential.proof()) == Proof(f"Bearer {SECRET}")
    assert SECRET not in repr(asyncio.run(connection.credential.proof()))


def test_the_server_is_not_checked_only_if_the_kubeconfig_says_so(tmp_path: Path, authority: bytes) -> None:
    checked, unchecked = (
        _find(_kubeconfig(tmp_path / "config", authority, {"token": "t"}, **{"insecure-skip-tls-verify": skip}), tmp_path)
        for skip in (False, True)
    )
    assert checked.tls is not None
    assert unchecked.tls is not None
    assert (checked.tls.check_hostname, unchecked.tls.check_hostname) == (True, False)


def _told(environ: dict[str, str], folder: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        _find(environ, folder)
    assert SECRET not in str(refused.value)
    return str(refused.value)


def test_without_any_configuration_it_says_what_to_set(tmp_path: Path) -> None:
    told = _told({"HOME": str(tmp_path)}, tmp_path / "none")
    assert "no configuration for the Kubernetes API" in told
    assert f"{tmp_path}/.kube/config" in told
    assert "must set KUBECONFIG" in told


def test_a_pod_without_a_token_says_what_to_set(tmp_path: Path) -> None:
    told = _told(IN_POD | {"HOME": str(tmp_path)}, tmp_path / "none")
    assert "automountServiceAccountToken" in told


@pytest.mark.parametrize(("file", "content"), [("ca.crt", None), ("ca.crt", "no certificate"), ("token", "")])
def test_a_broken_service_account_is_told(service_account: Path, file: str, content: str | None) -> None:
    if content is None:
        (service_account / file).unlink()
    else:
        (service_account / file).write_text(content)
    assert "whoever installs the operator must let Kubernetes mount" in _told(dict(IN_POD), service_account)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"current-context": "other"}, "'other' is not defined; .* use-context` .defined: one."),
        ({"current-context": ""}, "names no current context"),
        ({"users": []}, "needs an entry in users named 'u'"),
        ({"clusters": []}, "needs an entry in clusters named 'c'"),
        (
            {"users": [{"name": "u", "user": {"exec": {"apiVersion": V1, "env": [{"name": "S", "value": SECRET}]}}}]},
            "'command'",
        ),
        ({"users": [{"user": {"token": SECRET}}]}, "ConfigException|Expected all values"),
        ({"users": "nonsense"}, "cannot be used"),
    ],
)
def test_what_is_wrong_in_a_kubeconfig_is_told_without_what_is_secret(
    tmp_path: Path, authority: bytes, changes: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "config"
    environ = _kubeconfig(path, authority, {"token": SECRET})
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    told = _told(environ, tmp_path / "none")
    assert re.search(expected, told), told
    assert "whoever starts the operator must" in told


def test_a_file_that_is_no_yaml_is_told_by_its_line(tmp_path: Path, authority: bytes) -> None:
    path = tmp_path / "config"
    environ = _kubeconfig(path, authority, {"token": SECRET})
    path.write_text(f"users:\n- token: '{SECRET}\n")
    assert "in line" in _told(environ, tmp_path / "none")


def _plugin(folder: Path, script: str, **entry: Any) -> dict[str, Any]:
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return {"exec": {"apiVersion": V1, "command": str(path)} | entry}


def _answering(**status: Any) -> str:
    return f"print({json.dumps(json.dumps({'apiVersion': V1, 'kind': 'ExecCredential', 'status': status}))})"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"import sys; print('no: Bearer {SECRET}-{'x' * 30}', file=sys.stderr); sys.exit(3)", r"status 3.*no: \[token\]"),
        (f"print('{SECRET}')", "did not answer with an ExecCredential"),
        (_answering(), "neither a token nor a certificate"),
        (_answering(token=[SECRET]), "did not answer with an ExecCredential"),
        (_answering(clientCertificateData="only half"), "neither a token nor a certificate"),
    ],
)
def test_a_plugin_that_gives_no_credential_is_told(tmp_path: Path, authority: bytes, script: str, expected: str) -> None:
    told = _told(_kubeconfig(tmp_path / "config", authority, _plugin(tmp_path, script)), tmp_path / "none")
    assert re.search(expected, told), told
    assert "whoever starts the operator must" in told


def test_a_plugin_that_is_not_installed_is_told_with_its_own_hint(tmp_path: Path, authority: bytes) -> None:
    user = {"exec": {"apiVersion": V1, "command": "kubelogin-of-nobody", "installHint": "See https://aka.ms/kubelogin"}}
    told = _told(_kubeconfig(tmp_path / "config", authority, user), tmp_path / "none")
    assert "'kubelogin-of-nobody' of user 'u'" in told
    assert "must install it. See https://aka.ms/kubelogin" in told


def test_a_plugin_that_waits_for_a_person_is_ended_and_told(
    tmp_path: Path, authority: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugin, "PATIENCE", 0.5)
    user = _plugin(tmp_path, "import time; time.sleep(600)")
    assert "kubelogin: workloadidentity" in _told(_kubeconfig(tmp_path / "config", authority, user), tmp_path / "none")


def test_a_plugin_may_say_much_and_is_told_which_cluster(tmp_path: Path, authority: bytes) -> None:
    script = (
        "import os, sys, json\n"
        "sys.stderr.write('x' * 1_000_000)\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert not info['spec']['interactive'] and os.environ['MODE'] == 'msi' and sys.argv[1:] == ['get-token']\n"
        f"print(json.dumps({{'apiVersion': '{V1}', 'kind': 'ExecCredential', 'status':"
        " {'token': info['spec']['cluster']['server']}}))\n"
    )
    user = _plugin(tmp_path, script, provideClusterInfo=True, args=["get-token"], env=[{"name": "MODE", "value": "msi"}])
    user["exec"]["command"] = "./plugin"
    connection = _find(_kubeconfig(tmp_path / "config", authority, user), tmp_path / "none")
    assert asyncio.run(connection.credential.proof()) == Proof("Bearer https://api.test:6443/")


async def test_many_who_are_refused_at_once_renew_once() -> None:
    renewals = 0

    async def renew() -> Fresh:
        nonlocal renewals
        renewals += 1
        await asyncio.sleep(0)
        return Fresh(Proof(f"Bearer {renewals}"))

    credential = Credential(Fresh(Proof("Bearer 0")), renew)
    refused = await credential.proof()
    assert await asyncio.gather(*(credential.replaced(refused) for _ in range(50))) == [True] * 50
    assert await credential.proof() == Proof("Bearer 1")
    assert not await credential.replaced(Proof("Bearer 1"))
    assert renewals == 1


def test_a_plugin_that_fails_leaves_what_is_still_good(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("cmk_operator.kubernetes.credential.time.monotonic", lambda: now)
    attempts: list[float] = []

    async def renew() -> Fresh:
        attempts.append(now)
        if len(attempts) < 3:
            raise ConfigurationError("not now")
        return Fresh(Proof("Bearer new"), good_for=3600)

    async def main() -> list[str | None]:
        nonlocal now
        credential = Credential(Fresh(Proof("Bearer old"), good_for=100), renew)
        seen = []
        for moment in (1000.0, 1079.0, 1080.0, 1081.0, 1101.0, 1101.0 + PAUSE):
            now = moment
            seen.append((await credential.proof()).header)
            for _ in range(5):  # what is renewed beside the requests
                await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == [*["Bearer old"] * 5, "Bearer new"]
    assert attempts == [1080.0, 1101.0, 1101.0 + PAUSE]


@pytest.mark.parametrize(("server", "refused"), [("http://api.test:8080", True), ("http://127.0.0.1:8080", False)])
def test_a_token_leaves_the_machine_over_https_only(tmp_path: Path, authority: bytes, server: str, refused: bool) -> None:  # noqa: FBT001 - a case
    environ = _kubeconfig(tmp_path / "config", authority, {"token": SECRET}, server=server)
    if not refused:
        assert _find(environ, tmp_path / "none").server == server
        return
    with pytest.raises(ConfigurationError, match="sent over https only: whoever starts the operator must correct") as told:
        _find(environ, tmp_path / "none")
    assert SECRET not in str(told.value)
