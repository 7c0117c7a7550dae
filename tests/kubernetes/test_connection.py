"""How the operator comes to a real API server, and stays there while its credentials end and are renewed."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt
import pytest
import yaml

from cmk_operator.api.federated_identity import FederatedIdentity
from cmk_operator.changes import Changes
from cmk_operator.handlers import Watches
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError
from cmk_operator.kubernetes.connection import find_connection
from cmk_operator.kubernetes.inventory import WATCHED, Inventory
from cmk_operator.queue import WorkQueue
from cmk_operator.telemetry import Telemetry
from sandbox.kubernetes.credentials import write_kubeconfig
from tests.engine.operators import until
from tests.unit.samples import identity_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cmk_operator.core.schedule import Next
    from cmk_operator.kubernetes.client import ObjectReference
    from cmk_operator.kubernetes.connection import Connection
    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster

NAMESPACE = "of-the-connection-tests"
ACCOUNT = "operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
LEEWAY = 60
"""Seconds for which the API server believes a token after its end, because clocks differ (go-jose's default)."""
LIFE = 4
"""Seconds; the API server believes a token that it has once seen for ten seconds more."""
LIFE_OF_A_START = 10
"""Seconds for which a token lives that kopf starts with, also on a machine that is slow at that moment."""
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


@dataclass(frozen=True)
class Account:
    """A ServiceAccount that may do everything, with tokens of any life, signed by the API server's own key."""

    cluster: Cluster
    token: str

    def token_for(self, seconds: float) -> str:
        """As the API server gives them, but believed for `seconds` only: it gives none for less than ten minutes."""
        key = (self.cluster.ca_file.parent / "service-account.key").read_text()
        claims = jwt.decode(self.token, options={"verify_signature": False})
        headers = {"kid": jwt.get_unverified_header(self.token)["kid"]}
        end = datetime.now(UTC).timestamp() + seconds - LEEWAY
        return jwt.encode(claims | {"exp": int(end), "jti": str(end)}, key, "RS256", headers)

    def environ(self) -> dict[str, str]:
        parts = urlsplit(self.cluster.server)
        return {"KUBERNETES_SERVICE_HOST": parts.hostname or "", "KUBERNETES_SERVICE_PORT": str(parts.port)}


@pytest.fixture(scope="module")
def account(cluster: Cluster) -> Account:
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("create", "serviceaccount", ACCOUNT, "--namespace", NAMESPACE)
    binding = ["create", "clusterrolebinding", NAMESPACE, "--clusterrole=cluster-admin"]
    cluster.kubectl(*binding, f"--serviceaccount={NAMESPACE}:{ACCOUNT}")
    return Account(cluster, cluster.service_account_token(NAMESPACE, ACCOUNT))


@pytest.fixture
def folder(account: Account, tmp_path: Path) -> Path:
    """What the kubelet mounts into a pod."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(account.cluster.ca_file.read_bytes())
    (folder / "token").write_text(account.token)
    (folder / "namespace").write_text(NAMESPACE)
    return folder


async def _who(client: KubernetesClient) -> str:
    answer = await client.request("POST", REVIEWS, body=REVIEW)
    return str(answer["status"]["userInfo"]["username"])


@asynccontextmanager
async def _client(connection: Connection) -> AsyncIterator[KubernetesClient]:
    async with connection.open() as api:
        yield KubernetesClient(api, Telemetry())


async def _refused(account: Account, token: str) -> bool:
    """Whether the API server itself refuses a token by now."""
    kubeconfig = {"token": token}
    path = account.cluster.kubeconfig.parent / "probe"
    write_kubeconfig(path, server=account.cluster.server, ca_file=account.cluster.ca_file, user=kubeconfig)
    async with _client(await find_connection({"KUBECONFIG": str(path)})) as client:
        try:
            await _who(client)
        except KubernetesError as error:
            return error.status == 401
    return False


async def test_a_pod_uses_its_service_account_and_the_token_that_is_there_now(account: Account, folder: Path) -> None:
    first = account.token_for(LIFE)
    (folder / "token").write_text(first)
    connection = await find_connection(account.environ(), folder)
    assert (connection.server, connection.namespace) == (account.cluster.server, NAMESPACE)
    async with _client(connection) as client:
        assert await _who(client) == USER
        (folder / "token").write_text(f"{account.token}\n")
        await until("a token that has ended", lambda: _refused(account, first))
        assert await _who(client) == USER


PLUGIN = f"""#!{sys.executable}
import json, pathlib
folder = pathlib.Path(__file__).parent
with (folder / "runs").open("a") as runs:
    runs.write("run\\n")
print((folder / "answer").read_text())
"""


class Plugin:
    """An exec plugin that answers what the test gives it, and notes each run."""

    def __init__(self, folder: Path, account: Account) -> None:
        self._folder = folder
        command = folder / "plugin"
        command.write_text(PLUGIN)
        command.chmod(0o755)
        (folder / "runs").touch()
        user: dict[str, Any] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(command)}}
        cluster = account.cluster
        self.path = write_kubeconfig(folder / "kubeconfig", server=cluster.server, ca_file=cluster.ca_file, user=user)
        self.environ = {"KUBECONFIG": str(self.path)}

    def answer(self, **status: Any) -> None:
        answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
        (self._folder / "answer.new").write_text(json.dumps(answer))
        (self._folder / "answer.new").rename(self._folder / "answer")

    @property
    def runs(self) -> int:
        return len((self._folder / "runs").read_text().splitlines())


async def test_the_credential_of_a_plugin_is_renewed_before_it_ends(account: Account, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, account)
    life = 12
    end = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) + life, UTC)
    first = account.token_for(life)
    plugin.answer(token=first, expirationTimestamp=end.isoformat())
    async with _client(await find_connection(plugin.environ)) as client:
        plugin.answer(token=account.token)

        async def renewed() -> bool:
            assert await _who(client) == USER
            return plugin.runs == 2

        await until("a second run of the plugin", renewed)
        assert datetime.now(UTC) < end
        await until("a first token that has ended", lambda: _refused(account, first))
        assert await _who(client) == USER
        assert plugin.runs == 2


async def test_a_plugin_that_names_no_end_is_run_again_when_the_api_server_refuses(account: Account, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, account)
    first = account.token_for(LIFE)
    plugin.answer(token=first)
    async with _client(await find_connection(plugin.environ)) as client:
        assert await _who(client) == USER
        plugin.answer(token=account.token)
        await until("a token that has ended", lambda: _refused(account, first))
        assert await asyncio.gather(*(_who(client) for _ in range(20))) == [USER] * 20
        assert plugin.runs == 2


async def test_a_credential_that_is_refused_for_good_is_an_error_and_no_storm(account: Account, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, account)
    plugin.answer(token=account.token_for(-60))
    async with _client(await find_connection(plugin.environ)) as client:
        answers = await asyncio.gather(*(_who(client) for _ in range(20)), return_exceptions=True)
        assert {answer.status for answer in answers if isinstance(answer, KubernetesError)} == {401}
        assert len(answers) == 20
    assert plugin.runs == 2


async def test_a_plugin_may_give_a_certificate(account: Account, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, account)
    admin = yaml.safe_load(account.cluster.kubectl("config", "view", "--raw"))["users"][0]["user"]
    plugin.answer(**{f"client{part.title()}Data": _decoded(admin[f"client-{part}-data"]) for part in ("certificate", "key")})
    async with _client(await find_connection(plugin.environ)) as client:
        assert await _who(client) == "sandbox-admin"


async def test_a_kubeconfig_with_certificates_in_it_is_enough(account: Account) -> None:
    async with _client(await find_connection({"KUBECONFIG": str(account.cluster.kubeconfig)})) as client:
        assert await _who(client) == "sandbox-admin"


def _decoded(data: str) -> str:
    return base64.b64decode(data).decode()


@asynccontextmanager
async def _other_address(upstream: str) -> AsyncIterator[tuple[str, list[str]]]:
    """An address that the server's certificate does not name; it also is a proxy for CONNECT. With what was asked of it."""
    parts = urlsplit(upstream)
    asked: list[str] = []
    open_writers: set[asyncio.StreamWriter] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.read(8)
        there, onward = await asyncio.open_connection(parts.hostname, parts.port)
        if start.startswith(b"CONNECT"):
            asked.append((start + await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            onward.write(start)
        await asyncio.gather(copy(reader, onward), copy(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.2", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", asked
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


async def test_another_address_needs_the_name_in_the_certificate_or_no_check(account: Account, tmp_path: Path) -> None:
    async with _other_address(account.cluster.server) as (address, _):
        refused, named, unchecked = (
            _kubeconfig_with(tmp_path / name, account, server=f"https://{address}", **settings)
            for name, settings in (
                ("refused", {}),
                ("named", {"tls-server-name": "kubernetes.default.svc"}),
                ("unchecked", {"insecure-skip-tls-verify": True, "certificate-authority-data": None}),
            )
        )
        async with _client(await find_connection(refused)) as client:
            with pytest.raises(KubernetesError, match="ClientConnectorCertificateError"):
                await _who(client)
        for environ in (named, unchecked):
            async with _client(await find_connection(environ)) as client:
                assert await _who(client) == USER


async def test_a_proxy_of_the_kubeconfig_is_used(account: Account, tmp_path: Path) -> None:
    async with _other_address(account.cluster.server) as (address, asked):
        environ = _kubeconfig_with(tmp_path / "proxied", account, **{"proxy-url": f"http://{address}"})
        async with _client(await find_connection(environ)) as client:
            assert await _who(client) == USER
        assert asked == [urlsplit(account.cluster.server).netloc]


def _kubeconfig_with(path: Path, account: Account, **settings: Any) -> dict[str, str]:
    cluster = account.cluster
    write_kubeconfig(path, server=cluster.server, ca_file=cluster.ca_file, user={"token": account.token})
    content = yaml.safe_load(path.read_text())
    entry = content["clusters"][0]["cluster"] | settings
    content["clusters"][0]["cluster"] = {key: value for key, value in entry.items() if value is not None}
    path.write_text(yaml.safe_dump(content))
    return {"KUBECONFIG": str(path)}


async def test_kopf_goes_where_the_connection_goes_and_outlives_its_credentials(account: Account, folder: Path) -> None:
    first = account.token_for(LIFE_OF_A_START)
    (folder / "token").write_text(first)
    connection = await find_connection(account.environ(), folder)
    inventory, telemetry, stop = Inventory(), Telemetry(), asyncio.Event()

    async def process(_: ObjectReference) -> Next:
        raise AssertionError("nobody works here")

    # Other tests may have left objects of any kind in this cluster.
    queue: WorkQueue[ObjectReference] = WorkQueue(process, lambda item: item.plural, dict.fromkeys(WATCHED, 1), telemetry)
    async with _client(connection) as client:
        changes = Changes(5.0, 3, queue.add)
        watches = Watches(connection, client, inventory, queue, telemetry, lambda _: 0.0, changes)
        watching = asyncio.create_task(watches.run(stop))
        await until("kopf's watches", lambda: watches._sessions)  # noqa: SLF001 - they are cut below
        account.cluster.kubectl("create", "--filename", "-", stdin=_identity("of-kopf"))
        await until("what a watch shows", lambda: inventory.get(FederatedIdentity, "of-kopf"))
        (folder / "token").write_text(account.token)
        await until("a token that has ended", lambda: _refused(account, first))
        await asyncio.gather(*(session.close() for session in watches._sessions))  # noqa: SLF001 - cut connections
        account.cluster.kubectl("create", "--filename", "-", stdin=_identity("of-kopf-again"))
        await until("what a new watch shows", lambda: inventory.get(FederatedIdentity, "of-kopf-again"))
        stop.set()
        await watching
    account.cluster.kubectl("delete", "federatedidentities", "of-kopf", "of-kopf-again")


def _identity(name: str) -> str:
    kind = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": "FederatedIdentity"}
    return json.dumps(kind | {"metadata": {"name": name}, "spec": identity_body()["spec"]})
