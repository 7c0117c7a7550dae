"""The operator's reading of Secrets, with its own token, against the API server that enforces the chart's roles."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from typing import TYPE_CHECKING

import pytest

from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.identifiers.secret_key import SecretKey
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.credential import Credential
from cmk_operator.kubernetes.secrets import read_secret
from cmk_operator.telemetry import Telemetry
from tests.chart.conftest import NAMESPACE

if TYPE_CHECKING:
    from tests.chart.conftest import Installation

pytestmark = pytest.mark.cluster

OWNER = Actor.PLATFORM_ENGINEER


@pytest.fixture(scope="module")
def stocked(installed: Installation) -> Installation:
    data = {"key": base64.b64encode(b"\x00binary").decode(), "empty": ""}
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "signing", "namespace": namespace}, "data": data}
        for namespace in (NAMESPACE, "default")
    ]
    installed.cluster.kubectl(
        "apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": secrets})
    )
    return installed


def read(installed: Installation, wanted: SecretKey, token: str | None = None) -> bytes | Fault:
    tls = ssl.create_default_context(cafile=str(installed.cluster.ca_file))
    token = token or installed.cluster.service_account_token(NAMESPACE, "cmk-operator")

    async def ask() -> bytes | Fault:
        async with Connection(installed.cluster.server, tls, Credential.bearer(token)).open() as session:
            return await read_secret(KubernetesClient(session, Telemetry()), wanted, OWNER)

    return asyncio.run(ask())


def test_a_value_is_read_as_it_is(stocked: Installation) -> None:
    assert read(stocked, SecretKey(NAMESPACE, "signing", "key")) == b"\x00binary"


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (
            SecretKey(NAMESPACE, "absent", "key"),
            "SecretNotFound",
            f"Secret {NAMESPACE}/absent does not exist: the platform engineer must create it",
        ),
        (SecretKey(NAMESPACE, "signing", "other"), "SecretKeyMissing", "no value under the key 'other': the platform engineer"),
        (SecretKey(NAMESPACE, "signing", "empty"), "SecretKeyMissing", "no value under the key 'empty'"),
        (
            SecretKey("default", "signing", "key"),
            "SecretForbidden",
            "may not read Secret default/signing: the provider's administrator must add it to the chart's value rbac.secrets",
        ),
        (
            SecretKey(NAMESPACE, "sh.helm.release.v1.cmk-operator.v1", "release"),
            "SecretForbidden",
            f"may not read Secret {NAMESPACE}/sh.helm.release.v1.cmk-operator.v1",
        ),
    ],
)
def test_what_is_in_the_way_is_named_with_who_must_act(
    stocked: Installation, wanted: SecretKey, reason: str, words: str
) -> None:
    fault = read(stocked, wanted)
    assert isinstance(fault, Fault)
    assert fault.reason == reason
    assert words in fault.message


def test_a_refusal_that_says_nothing_of_the_secret_is_no_fault_of_the_manifest(stocked: Installation) -> None:
    with pytest.raises(KubernetesError):
        read(stocked, SecretKey(NAMESPACE, "signing", "key"), token="not-a-token")  # noqa: S106 - refused by the API server
