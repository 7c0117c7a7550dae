"""The address of the API server, and authenticated sessions to it.

`kubernetes.aio` reads the configuration, in a pod and from a kubeconfig. The operator's requests and kopf's watches use the
same kind of session, so that nothing else decides where the API server is.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import yaml
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME, InClusterConfigLoader
from kubernetes.aio.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR, KubeConfigLoader, KubeConfigMerger

from cmk_operator import __version__
from cmk_operator.kubernetes.bounded_answer import BoundedAnswer
from cmk_operator.kubernetes.credential import Credential, Fresh, Proof
from cmk_operator.kubernetes.exec_plugin import ConfigurationError, run_plugin

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

CONNECTIONS: Final = 10
"""More connections only cause 429 from API priority and fairness; measured on a real API server with 5,000 objects."""
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
READ_AGAIN_AFTER: Final = 60.0
"""Seconds after which a token in a file is read again, because the kubelet or another program renews it."""
_FILES: Final = (("cluster", "certificate-authority"), ("user", "client-certificate"), ("user", "client-key"))
_MALFORMED: Final = (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, KeyError)
"""What the library raises for a file that is not a valid kubeconfig."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of the API server and the credential for it."""

    server: str
    tls: ssl.SSLContext | None = None
    credential: Credential = field(default_factory=lambda: Credential(Fresh(Proof())))
    namespace: str = "default"
    """The namespace of the operator itself."""
    tls_server_name: str | None = None
    proxy: str | None = None

    def session(
        self,
        *traces: aiohttp.TraceConfig,
        connections: int = CONNECTIONS,
        middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = (),
    ) -> aiohttp.ClientSession:
        """A session of at most `connections` connections. It ignores proxy variables: the API server is inside the cluster."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=self.tls if self.tls is not None else True),
            middlewares=(*middlewares, self._prove),
            headers={"User-Agent": f"cmk-operator/{__version__}"},
            trace_configs=list(traces),
            response_class=BoundedAnswer,
            proxy=self.proxy,
            trust_env=False,
        )

    def open(self, *traces: aiohttp.TraceConfig, connections: int = CONNECTIONS) -> ApiClient:
        """The library's client on a session of at most `connections` connections."""
        client = ApiClient(Configuration(host=self.server))
        client.rest_client.ssl_context = self.tls
        client.rest_client.pool_manager = self.session(*traces, connections=connections)
        return client

    async def _prove(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if self.tls_server_name is not None:
            request.server_hostname = self.tls_server_name
        proof = await self.credential.proof()
        response = await self._send(request, handler, proof)
        if response.status == 401 and await self.credential.replaced(proof):
            # Closed, not released: a connection keeps the client certificate with which it was opened.
            response.close()
            response = await self._send(request, handler, await self.credential.proof())
        return response

    @staticmethod
    async def _send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, proof: Proof) -> aiohttp.ClientResponse:
        if proof.header is not None:
            request.headers["Authorization"] = proof.header
        return await handler(request)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The result of one read of the configuration."""

    configuration: Any
    tls: ssl.SSLContext | None
    fresh: Fresh


class _Source(Protocol):
    async def load(self, tls: ssl.SSLContext | None) -> _Loaded:
        """Read the configuration. If `tls` is given, the certificates go into it, because open sessions use it."""

    async def namespace(self) -> str | None:
        """The namespace of the operator; None if the configuration names none."""


async def find_connection(environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT) -> Connection:
    """The connection by the pod's ServiceAccount in a pod, else by $KUBECONFIG or ~/.kube/config.

    Raises `ConfigurationError` if none of them can be used.
    """
    source = _source(environ, service_account)
    loaded = await source.load(None)
    configuration = loaded.configuration
    if loaded.fresh.proof.header is not None and _is_in_the_clear(configuration.host):
        raise ConfigurationError(
            "the address of the API server begins with http://, and a bearer token is sent over https only: whoever starts the "
            "operator must correct the kubeconfig's server"
        )

    async def renew() -> Fresh:
        return (await source.load(loaded.tls)).fresh

    return Connection(
        configuration.host,
        loaded.tls,
        Credential(loaded.fresh, renew),
        await source.namespace() or "default",
        tls_server_name=configuration.tls_server_name,
        proxy=configuration.proxy,
    )


def _is_in_the_clear(server: str) -> bool:
    """Whether requests leave this machine without encryption."""
    parts = urlsplit(server)
    return parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}


def _source(environ: Mapping[str, str], service_account: Path) -> _Source:
    in_pod = bool(environ.get(SERVICE_HOST_ENV_NAME))
    if in_pod and (service_account / "token").exists():
        return _ServiceAccount(environ, service_account)
    default = Path(environ.get("HOME") or Path.home()) / ".kube" / "config"
    paths = environ.get("KUBECONFIG") or str(default)
    if any(Path(path).expanduser().exists() for path in paths.split(ENV_KUBECONFIG_PATH_SEPARATOR) if path):
        return _Kubeconfig(paths)
    if in_pod:
        raise ConfigurationError(
            f"the pod has no ServiceAccount token in {service_account}: whoever installs the operator must set "
            "automountServiceAccountToken to true for its pod"
        )
    raise ConfigurationError(
        f"no configuration for the Kubernetes API: {SERVICE_HOST_ENV_NAME} is not set, so this is not a pod, and there is no "
        f"kubeconfig at {paths}: whoever starts the operator must set KUBECONFIG to a kubeconfig file"
    )


@dataclass(frozen=True, slots=True)
class _ServiceAccount:
    environ: Mapping[str, str]
    folder: Path

    async def load(self, tls: ssl.SSLContext | None) -> _Loaded:
        configuration = Configuration()
        authority = str(self.folder / "ca.crt")
        loader = InClusterConfigLoader(
            token_filename=str(self.folder / "token"), cert_filename=authority, try_refresh_token=False, environ=self.environ
        )
        try:
            await asyncio.to_thread(loader.load_and_set, configuration)
            tls = _tls_of(configuration, tls)
        except (ConfigException, OSError, ValueError) as error:
            raise ConfigurationError(
                f"the pod's ServiceAccount in {self.folder} cannot be used ({error}): whoever installs the operator must let "
                "Kubernetes mount its ServiceAccount and set KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"
            ) from error
        return _Loaded(configuration, tls, Fresh(_proof_of(configuration), read_again_after=READ_AGAIN_AFTER))

    async def namespace(self) -> str | None:
        path = self.folder / "namespace"
        return (await asyncio.to_thread(path.read_text, encoding="utf-8")).strip() if path.exists() else None


@dataclass(slots=True)
class _Kubeconfig:
    paths: str
    _namespace: str | None = None

    async def load(self, tls: ssl.SSLContext | None) -> _Loaded:
        try:
            return await self._load(tls)
        except _MALFORMED as error:
            raise ConfigurationError(
                f"the kubeconfig {self.paths} cannot be used ({_described(error)}): whoever starts the operator must correct it; "
                "`kubectl config view --minify` shows what is used"
            ) from None

    async def _load(self, tls: ssl.SSLContext | None) -> _Loaded:
        merged = (await asyncio.to_thread(KubeConfigMerger, self.paths)).config
        context = self._context(merged)
        self._namespace = context.get("namespace")
        user = self._named(merged, "users", context.get("user"))
        cluster = self._named(merged, "clusters", context.get("cluster"))
        good_for = float("inf")
        if "exec" in user:
            answer = await run_plugin(user["exec"], cluster.value, context["user"])
            good_for = answer.seconds_left()
            _let_use(user.value, answer.token, answer.certificate, answer.private_key)
        certificate = user.value.get("client-certificate-data")
        with tempfile.TemporaryDirectory() as folder:
            # The ssl module reads certificates only from files. The library would keep its own files until the process ends.
            _write_files({"user": user.value, "cluster": cluster.value}, Path(folder))
            configuration = Configuration()
            loader = KubeConfigLoader(merged, config_base_path=None)
            await loader.load_and_set(configuration)
            tls = _tls_of(configuration, tls)
        again = READ_AGAIN_AFTER if "tokenFile" in user else float("inf")
        return _Loaded(configuration, tls, Fresh(_proof_of(configuration, certificate), good_for, again))

    def _context(self, merged: Any) -> dict[str, Any]:  # noqa: ANN401 - a node of the library
        known = sorted(str(context["name"]) for context in merged["contexts"].value)
        current = merged.safe_get("current-context")
        if current not in known:
            wrong = f"its current context {current!r} is not defined" if current else "it names no current context"
            raise ConfigurationError(
                f"the kubeconfig {self.paths} cannot be used: {wrong}; whoever starts the operator must choose one with "
                f"`kubectl config use-context` (defined: {', '.join(known) or 'none'})"
            )
        context: dict[str, Any] = merged["contexts"].get_with_name(current)["context"].value
        return context

    def _named(self, merged: Any, kind: str, name: str | None) -> Any:  # noqa: ANN401 - nodes of the library
        entry = merged[kind].get_with_name(name, safe=True) if name else None
        if entry is None:
            raise ConfigurationError(
                f"the kubeconfig {self.paths} cannot be used: its current context needs an entry in {kind} named {name!r}; "
                "whoever starts the operator must add it"
            )
        return entry[kind.removesuffix("s")]

    async def namespace(self) -> str | None:
        return self._namespace


def _described(error: Exception) -> str:
    """The error without the part that it quotes: the library quotes the whole entry, with its token."""
    if isinstance(error, ConfigException):
        return str(error).partition(" in ")[0]
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return str(error) if isinstance(error, OSError) else type(error).__name__


def _let_use(user: dict[str, Any], token: str | None, certificate: str | None, private_key: str | None) -> None:
    """Put a plugin's credential into the user's entry of the kubeconfig, where the library reads it."""
    del user["exec"]
    if token:
        user["token"] = token
    if certificate and private_key:
        user["client-certificate-data"] = base64.b64encode(certificate.encode()).decode()
        user["client-key-data"] = base64.b64encode(private_key.encode()).decode()


def _write_files(entries: Mapping[str, dict[str, Any]], folder: Path) -> None:
    for owner, key in _FILES:
        data = entries[owner].pop(f"{key}-data", None)
        if data:
            path = folder / key
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(data))
            entries[owner][key] = str(path)


def _tls_of(configuration: Any, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:  # noqa: ANN401 - untyped in the library
    """The TLS context that the library makes, or `tls` with the renewed certificates; None for http."""
    if not configuration.host.startswith("https://"):
        return None
    if tls is None:
        # The CA certificates of many clusters violate RFC 5280. Python 3.13 checks that; Go's clients do not.
        configuration.disable_strict_ssl_verification = True
        made: ssl.SSLContext = RESTClientObject(configuration).ssl_context
        return made
    if configuration.ssl_ca_cert:
        tls.load_verify_locations(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    return tls


def _proof_of(configuration: Any, certificate: str | None = None) -> Proof:  # noqa: ANN401 - untyped in the library
    header = configuration.api_key.get("BearerToken")
    return Proof(header.strip() if header else None, certificate)
