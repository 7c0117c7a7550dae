"""Callers and their rights on the real API server: real tokens, real Roles."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING

import pytest

from cmk_keyservice.callers.caller import Place
from cmk_keyservice.callers.reviews import Reviews, ReviewTimes
from cmk_keyservice.problem import Kind, ProblemError
from cmk_operator.kubernetes.client import KubernetesClient
from cmk_operator.kubernetes.connection import Connection
from cmk_operator.kubernetes.credential import Credential
from cmk_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.kubernetes.cluster import Cluster

pytestmark = pytest.mark.cluster
AUDIENCE = "cmk-key-service"
TEAM = "callers"
ACME = Place(TEAM, "acme")
PATIENCE = 30.0
OBJECTS = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cmk-keyservice", "namespace": TEAM}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "orders", "namespace": TEAM}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "callers-reviews"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "cmk-keyservice", "namespace": TEAM}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "orders", "namespace": TEAM},
        "rules": [
            {
                "apiGroups": ["cmk-operator.dev"],
                "resources": ["organizationkeys/data"],
                "resourceNames": ["acme"],
                "verbs": ["encrypt", "decrypt"],
            }
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "orders", "namespace": TEAM},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "orders"},
        "subjects": [{"kind": "ServiceAccount", "name": "orders", "namespace": TEAM}],
    },
]


@pytest.fixture(scope="module")
def team(empty_cluster: Cluster) -> Cluster:
    """The API server with a caller that may encrypt and decrypt for acme, and a key service that may review it."""
    empty_cluster.kubectl("apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    return empty_cluster


def _connection(team: Cluster, own_token: str) -> Connection:
    return Connection(team.server, ssl.create_default_context(cafile=str(team.ca_file)), Credential.bearer(own_token))


@pytest.fixture
async def reviews(team: Cluster) -> AsyncIterator[Reviews]:
    own = team.service_account_token(TEAM, "cmk-keyservice")
    async with _connection(team, own).open() as session:
        yield Reviews(KubernetesClient(session, Telemetry()), AUDIENCE, ReviewTimes(fresh_for=0.1, outage_grace=0.0))


def _bearer(team: Cluster, audience: str | None = AUDIENCE, name: str = "orders") -> str:
    return f"Bearer {team.service_account_token(TEAM, name, audience)}"


async def test_a_caller_is_its_service_account_and_may_do_what_its_role_says_and_nothing_else(
    team: Cluster, reviews: Reviews
) -> None:
    caller = await reviews.caller(_bearer(team))
    assert caller.service == f"{TEAM}/orders"
    assert await reviews.may(caller, ACME, "encrypt")
    assert await reviews.may(caller, ACME, "decrypt")
    assert not await reviews.may(caller, ACME, "reencrypt")
    assert not await reviews.may(caller, Place(TEAM, "globex"), "encrypt")
    assert not await reviews.may(caller, Place("default", "acme"), "encrypt")
    assert not await reviews.may(caller, Place(), "encrypt")


async def test_a_refused_right_is_named_in_the_same_words_whether_or_not_the_organization_exists(
    team: Cluster, reviews: Reviews
) -> None:
    caller = await reviews.caller(_bearer(team))
    said = []
    for place in (Place(TEAM, "globex"), Place()):
        with pytest.raises(ProblemError) as refused:
            await reviews.require(caller, place, "encrypt", "globex")
        said.append(refused.value.problem)
    assert said[0] == said[1]
    assert said[0].kind is Kind.FORBIDDEN
    assert "must bind a Role with the verb encrypt on organizationkeys/data" in said[0].remedy


@pytest.mark.parametrize("audience", [None, "api://AzureADTokenExchange"])
async def test_a_token_for_another_audience_is_not_accepted(team: Cluster, reviews: Reviews, audience: str | None) -> None:
    with pytest.raises(ProblemError) as refused:
        await reviews.caller(_bearer(team, audience))
    assert (refused.value.problem.kind, refused.value.problem.code) == (Kind.UNAUTHENTICATED, "TokenNotAccepted")


async def test_a_token_that_somebody_else_signed_is_not_accepted(team: Cluster, reviews: Reviews) -> None:
    header, claims, signature = _bearer(team).split(".")
    changed = ("A" if signature[10] != "A" else "B").join((signature[:10], signature[11:]))
    with pytest.raises(ProblemError) as refused:
        await reviews.caller(f"{header}.{claims}.{changed}")
    assert refused.value.problem.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic b3JkZXJzOng=", "Bearer x", "Bearer a.b.c", f"Bearer {'a' * 20000}"]
)
async def test_what_is_no_token_is_not_accepted(reviews: Reviews, header: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await reviews.caller(header)
    assert refused.value.problem.kind is Kind.UNAUTHENTICATED
    assert "must mount a ServiceAccount token for the audience cmk-key-service" in refused.value.problem.remedy


async def test_the_token_of_a_deleted_service_account_is_refused_once_its_answer_has_ended(
    team: Cluster, reviews: Reviews
) -> None:
    team.kubectl("create", "serviceaccount", "leaver", "--namespace", TEAM)
    bearer = _bearer(team, name="leaver")
    assert (await reviews.caller(bearer)).service == f"{TEAM}/leaver"
    team.kubectl("delete", "serviceaccount", "leaver", "--namespace", TEAM)

    async def refused() -> Kind:
        while True:
            try:
                await reviews.caller(bearer)
            except ProblemError as error:
                return error.problem.kind
            await asyncio.sleep(0.05)

    assert await asyncio.wait_for(refused(), PATIENCE) is Kind.UNAUTHENTICATED


async def test_our_own_expired_token_is_an_outage_and_never_the_callers_fault(team: Cluster) -> None:
    bearer = _bearer(team)
    async with _connection(team, "expired").open() as session:
        reviews = Reviews(KubernetesClient(session, Telemetry()), AUDIENCE, ReviewTimes())
        with pytest.raises(ProblemError) as failed:
            await reviews.caller(bearer)
    assert (failed.value.problem.kind, failed.value.problem.retryable) == (Kind.UNAVAILABLE, True)
    assert "its own token has expired" in failed.value.problem.remedy


async def test_a_key_service_without_the_right_to_review_says_who_must_grant_it(team: Cluster) -> None:
    own = team.service_account_token(TEAM, "orders")
    async with _connection(team, own).open() as session:
        reviews = Reviews(KubernetesClient(session, Telemetry()), AUDIENCE, ReviewTimes())
        with pytest.raises(ProblemError, match="refuses the key service's own TokenReview with 403") as failed:
            await reviews.caller(_bearer(team))
    assert failed.value.problem.kind is Kind.UNAVAILABLE
    assert "system:auth-delegator" in failed.value.problem.remedy
