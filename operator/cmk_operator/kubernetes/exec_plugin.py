"""Runs the exec plugin of a kubeconfig, such as kubelogin, to get a credential.

`kubernetes.aio` reads the plugin's entry, but does not run it here. Its own run has no time limit, leaves the process behind
when it is cancelled, waits for ever if the plugin fills the pipe of standard error, does not pass the cluster
(`provideClusterInfo`) and only logs a failure.
Source: Kubernetes, "client-go credential plugins" (client.authentication.k8s.io/v1).
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubernetes.aio.config.exec_provider import ExecProvider
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from cmk_operator.core.text.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE: Final = 60.0
"""Seconds. A plugin that takes longer waits for a person to sign in, and a service has nobody who could."""
_CLUSTER: Final = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)


class ConfigurationError(Exception):
    """The configuration for the Kubernetes API cannot be used; the message says who must do what."""


class PluginAnswer(BaseModel):
    """The status of an ExecCredential: a token, or a client certificate with its key."""

    token: str | None = None
    certificate: str | None = Field(default=None, alias="clientCertificateData")
    private_key: str | None = Field(default=None, alias="clientKeyData")
    expiration: AwareDatetime | None = Field(default=None, alias="expirationTimestamp")

    def seconds_left(self) -> float:
        """Seconds until the credential expires; infinity if the plugin does not report it."""
        return (self.expiration - datetime.now(UTC)).total_seconds() if self.expiration is not None else float("inf")


async def run_plugin(entry: Any, cluster: Mapping[str, Any], user: str) -> PluginAnswer:  # noqa: ANN401 - a node of the library
    """Run the plugin of `entry` once and return its credential. Raises `ConfigurationError` if it gives none.

    `entry` is the `exec` node of the kubeconfig user `user`, as the library's merger returns it. `cluster` is the plain entry
    of the cluster.
    """
    provider = ExecProvider(entry)
    spec: dict[str, Any] = {"interactive": False}
    if entry.safe_get("provideClusterInfo"):
        spec["cluster"] = {key: cluster[key] for key in _CLUSTER if key in cluster}
    information = {"apiVersion": provider.api_version, "kind": "ExecCredential", "spec": spec}
    command, *arguments = provider.args
    if "/" in command:
        # As client-go does: a path is relative to the kubeconfig, a bare name is looked up on PATH.
        command = str(Path(entry.path).parent / command)
    shown = f"the exec plugin {command!r} of user {user!r} in the kubeconfig"
    environment = provider.env | {"KUBERNETES_EXEC_INFO": json.dumps(information)}
    try:
        process = await asyncio.create_subprocess_exec(
            command,
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        hint = entry.safe_get("installHint")
        message = f"{shown} cannot be run ({error.strerror}): whoever starts the operator must install it"
        raise ConfigurationError(f"{message}. {hint}" if hint else message) from error
    try:
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise ConfigurationError(
            f"{shown} did not answer within {PATIENCE:.0f} s: whoever starts the operator must choose a login mode that needs no "
            "person (kubelogin: workloadidentity, msi, spn or azurecli)"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ConfigurationError(
            f"{shown} failed with exit status {process.returncode}: whoever starts the operator must repair it. "
            f"Its last error line: {_last_line(errors)}"
        )
    return _answer_in(output, provider.api_version, shown)


def _answer_in(output: bytes, api_version: str, shown: str) -> PluginAnswer:
    problem = (
        f"{shown} did not answer with an ExecCredential of {api_version}: whoever starts the operator must correct its entry"
    )
    try:
        credential = json.loads(output)
        if (credential["kind"], credential["apiVersion"]) != ("ExecCredential", api_version):
            raise ConfigurationError(problem)
        answer = PluginAnswer.model_validate(credential["status"])
    except (ValueError, KeyError, TypeError, ValidationError):
        # These errors quote the answer, and the answer is a secret.
        raise ConfigurationError(problem) from None
    if not answer.token and not (answer.certificate and answer.private_key):
        raise ConfigurationError(f"{problem}. The answer has neither a token nor a certificate with its key")
    return answer


def _last_line(errors: bytes) -> str:
    lines = redacted(errors.decode(errors="replace")).strip().splitlines()
    return lines[-1].strip()[:300] if lines else "none"
