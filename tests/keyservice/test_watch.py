"""The OrganizationKey objects on a real API server: `status.accepted` in by a watch, `status.dataKeys` out beside the operator's status."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cmk_keyservice.keys.clock import seconds
from cmk_keyservice.keys.rewrap_state import RewrapState
from cmk_keyservice.keys.standing import Serving
from cmk_keyservice.problem import Problem
from cmk_keyservice.store.rows import KidCount
from cmk_keyservice.vaults.accepted import PLATFORM_KEY
from cmk_keyservice.vaults.organizations import Organizations, UnreadableOrganizationError
from cmk_keyservice.watch.organization_keys import PLURAL, OrganizationKeyWatch, read_one
from cmk_keyservice.watch.report import apply_report, data_keys_report, is_same, with_since
from cmk_keyservice.watch.secrets import read_entry
from cmk_operator.kubernetes.client import KubernetesClient, KubernetesError, ObjectReference, collection_path
from cmk_operator.kubernetes.connection import Connection, find_connection
from cmk_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sandbox.kubernetes.cluster import Cluster

NAMESPACE = "key-service-watch"
ACME = ObjectReference(PLURAL, NAMESPACE, "acme")
PATIENCE = 30.0
ACCEPTED = {
    "revision": 1,
    "mode": "PlatformManaged",
    "kid": PLATFORM_KEY,
    "since": "2026-11-30T07:00:00Z",
    "probeIntervalSeconds": 60,
    "outageGraceSeconds": 600,
}


@pytest.fixture
async def connection(cluster: Cluster) -> Connection:
    return await find_connection({"KUBECONFIG": str(cluster.kubeconfig)})


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[KubernetesClient]:
    api = connection.open()
    made = KubernetesClient(api, Telemetry())
    with suppress(KubernetesError):  # it is there already
        await made.request("POST", "/api/v1/namespaces", body={"metadata": {"name": NAMESPACE}})
    yield made
    await api.close()


async def create(client: KubernetesClient, name: str = "acme", organization: str = "watched") -> str:
    body = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "OrganizationKey",
        "metadata": {"name": name},
        "spec": {"organization": {"id": organization, "name": "Acme Corp"}},
    }
    return str((await client.request("POST", collection_path(PLURAL, NAMESPACE), body=body))["metadata"]["uid"])


async def status_of(client: KubernetesClient) -> dict[str, Any]:
    found = await client.get(ACME)
    assert found is not None
    status: dict[str, Any] = found.get("status", {})
    return status


async def eventually(what: str, test: Callable[[], object]) -> None:
    deadline = seconds() + PATIENCE
    while not test():
        assert seconds() < deadline, f"awaited: {what}"
        await asyncio.sleep(0.02)


@pytest.mark.cluster
async def test_what_is_accepted_comes_in_and_the_report_goes_out_beside_the_operators_status(
    connection: Connection, client: KubernetesClient
) -> None:
    async def read(namespace: str, name: str) -> Any:
        return await read_one(client, namespace, name)

    organizations = Organizations(read)
    stop = asyncio.Event()
    running = asyncio.create_task(OrganizationKeyWatch(client, connection, organizations).run(stop))
    await eventually("a first list", lambda: organizations.complete)
    uid = await create(client)
    await eventually("the object", lambda: organizations.find("watched"))
    found = organizations.find("watched")
    assert found is not None
    assert (found.accepted, found.uid) == (None, uid)
    await client.apply_status(ACME, "OrganizationKey", uid, {"observedGeneration": 1, "accepted": ACCEPTED})
    await eventually("what is accepted", lambda: (one := organizations.find("watched")) is not None and one.accepted)
    report = data_keys_report(
        1, [KidCount(PLATFORM_KEY, 3, 0)], RewrapState(2, 1, "waits"), Serving.SERVING, datetime.now(UTC), ""
    )
    assert report is not None
    await apply_report(client, found, report | {"observedAt": "2026-11-30T07:01:00Z"})
    await eventually("the report", lambda: (one := organizations.find("watched")) is not None and one.reported)
    found = organizations.find("watched")
    assert found is not None
    assert is_same(found.reported, report)
    # The operator applies its whole status again, which has no dataKeys.
    await client.apply_status(ACME, "OrganizationKey", uid, {"observedGeneration": 1, "accepted": ACCEPTED | {"revision": 2}})
    await eventually(
        "the second revision", lambda: (one := organizations.find("watched")) and one.accepted and one.accepted.revision == 2
    )
    assert (await status_of(client))["dataKeys"]["total"] == 3
    assert (await read("key-service-watch", "acme")).accepted.revision == 2
    await client.delete(ACME, uid)
    await eventually("the deletion", lambda: organizations.find("watched") is None)
    again = await create(client)
    await eventually("the new object", lambda: (one := organizations.find("watched")) is not None and one.uid == again)
    await apply_report(client, found, report)
    assert "dataKeys" not in await status_of(client)
    await client.delete(ACME, again)
    stop.set()
    await running


async def test_an_api_server_that_does_not_answer_is_a_value() -> None:
    nowhere = KubernetesClient(Connection("http://127.0.0.1:1").open(), Telemetry())
    with pytest.raises(UnreadableOrganizationError):
        await read_one(nowhere, NAMESPACE, "acme")
    assert isinstance(await read_entry(nowhere, NAMESPACE, "none", "pem"), Problem)
    await nowhere._api.close()  # noqa: SLF001 - the test opened it


@pytest.mark.cluster
async def test_an_entry_of_a_secret_is_read_or_said_to_be_missing(client: KubernetesClient) -> None:
    body = {"metadata": {"name": "credential"}, "stringData": {"pem": "content"}}
    await client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body=body)
    assert await read_entry(client, NAMESPACE, "credential", "pem") == b"content"
    for name, entry in (("credential", "other"), ("none", "pem")):
        problem = await read_entry(client, NAMESPACE, name, entry)
        assert isinstance(problem, Problem)
        assert problem.detail.startswith(f"Secret {NAMESPACE}/{name} ")


def test_a_key_version_that_only_an_old_wrap_names_is_reported_as_used() -> None:
    counts = [KidCount("b", 2, 0), KidCount("a", 0, 1)]
    report = data_keys_report(1, counts, RewrapState(), Serving.SERVING, datetime.now(UTC), "")
    assert report is not None
    assert report["byKid"] == [{"kid": "a", "dataKeys": 1}, {"kid": "b", "dataKeys": 2}]
    assert report["total"] == 2


def test_a_report_that_would_leave_a_key_version_out_is_not_made() -> None:
    counts = [KidCount(f"{number}", 1, 0) for number in range(201)]
    assert data_keys_report(1, counts, RewrapState(), Serving.SERVING, datetime.now(UTC), "") is None


def test_since_when_a_state_is_one_stays_until_it_is_another() -> None:
    before = {"serving": {"state": "Serving", "since": "2026-11-30T07:00:00Z", "message": ""}}
    wanted = {"serving": {"state": "Serving", "since": "2026-11-30T08:00:00Z", "message": ""}}
    assert with_since(wanted, before)["serving"]["since"] == "2026-11-30T07:00:00Z"
    refused = {"serving": {"state": "Refused", "since": "2026-11-30T08:00:00Z", "message": ""}}
    assert with_since(refused, before) == refused
