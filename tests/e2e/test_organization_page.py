"""The page for administrators, with a real operator, API server and sign-in page: what people can do, and what forgers cannot.

Threats: OWASP "Cross-Site Request Forgery Prevention", "Session Management" and RFC 9700; forged consents: azure-docs#91932, #115173.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import html
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import pytest
import yaml

from cmk_keyservice.console.accounts import Accounts
from cmk_keyservice.console.application import SAVES, SIGN_INS, Console
from cmk_keyservice.console.openid import OpenId
from cmk_keyservice.console.organizations import OrganizationKeys
from cmk_keyservice.console.record_reading import Record
from cmk_keyservice.http.server import listener
from cmk_keyservice.settings import ConsoleSettings
from cmk_operator.api.model import API_VERSION
from cmk_operator.core.audit.chain import parse_entry
from cmk_operator.kubernetes.client import KubernetesClient, collection_path
from cmk_operator.kubernetes.connection import find_connection
from cmk_operator.telemetry import Telemetry
from sandbox.kubernetes.objects import has
from sandbox.kubernetes.servers import ClusterError
from sandbox.operator_process import start_operator
from tests.browser import Browser, Page, browser
from tests.chart.conftest import CHART, helm
from tests.chart.test_console import CONSOLE
from tests.chromium import PATIENCE, Tab, chromium
from tests.conftest import ROOT
from tests.e2e import test_organization_keys as keys
from tests.e2e.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sandbox.azure.process import AzureProcess
    from sandbox.kubernetes.cluster import Cluster
    from sandbox.operator_process import OperatorProcess
    from tests.environment import Environment

pytestmark = pytest.mark.cluster
ALICE, BEA, VERA = (f"{one}@contoso.onmicrosoft.com" for one in ("alice", "bea", "vera"))
CAROL, DAN = "carol@fabrikam.onmicrosoft.com", "dan@fabrikam.onmicrosoft.com"
WORD = "pass word"
OPERATOR_NAMESPACE = "cmk-operator-system"
ACCOUNT = "cmk-console"
STATES: dict[str, Any] = {
    "status": {
        "conditions": [
            {
                "type": "LicenceAllowsChange",
                "status": "False",
                "reason": "LicenceMissing",
                "message": "the plan has ended: the provider's administrator must renew it",
                "lastTransitionTime": "2026-11-30T00:00:00Z",
                "observedGeneration": 1,
            }
        ],
        "credentials": [
            {
                "secret": "acme-console",
                "key": "credential-1",
                "type": "ClientSecret",
                "expires": "2026-12-07T00:00:00Z",
                "daysLeft": 7,
            }
        ],
        "versions": [
            {
                "kid": "platform-key",
                "dataKeys": 0,
                "safeToDisable": "True",
                "safeToDisableAfter": "2026-11-01T10:00:00Z",
                "reason": "",
            }
        ],
        "pendingVersion": "newer",
        "platformKeyNeededUntil": "2027-01-01T00:00:00Z",
        "advice": ["the vault is in another region"],
        "dataKeys": {"revision": 1, "total": 5, "rewrap": {"pending": 3, "failed": 0, "message": ""}},
    }
}
"""Parts of a status that tests cannot bring about in seconds."""
ARTEFACTS = ROOT / ".artefacts" / "page"
"""Pictures of the page, kept for people to look at."""
README_PICTURE = ROOT / "docs" / "images" / "encryption-page.png"
"""Made by the test of the keyboard, and copied by `make page-picture`."""
README_HEIGHT = 600
SOME_NAMESPACE = "namespace-of-the-organization"
ORGANIZATION = {"id": "acme", "name": "Acme <Corp>"}


class Clock:
    """Time that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Running:
    """A console, and what its people meet."""

    url: str
    environment: Environment
    env: dict[str, str]
    clock: Clock
    session: aiohttp.ClientSession
    console: Console
    accounts: Path

    @property
    def page(self) -> str:
        """The address of the organization's page."""
        return f"{self.url}/organizations/{self.environment.namespace}/acme"

    async def signed_in(self, window: Browser, name: str) -> Page:
        """Sign in at the console as somebody."""
        begun = await window.submit(await window.open(f"{self.url}/"))
        return await window.submit(begun, login=name, passwd=WORD)

    async def stored(self) -> dict[str, Any]:
        """The object as it is now."""
        return await self.environment.objects.get("OrganizationKey", "acme", self.environment.namespace)

    def draft(self, **changes: str) -> dict[str, str]:
        """The form for the customer's key."""
        environment = self.environment
        return {
            "mode": "CustomerManaged",
            "confirmation": ORGANIZATION["name"],
            "tenant": environment.name,
            "key_uri": environment.key_uri(),
            "method": "application",
            **changes,
        }


SUPPORT = "supportRequests.enabled=true"


@pytest.fixture
def with_support(
    empty_cluster: Cluster, azure: AzureProcess, operator_process: OperatorProcess, operator_directory: Path
) -> Iterator[None]:
    """The operator started anew with SupportRequests, and what the chart installs for them."""
    only = ("--show-only", "templates/support-requests.yaml", "--set", SUPPORT)
    text = helm("template", "cmk-operator", CHART, "--namespace", OPERATOR_NAMESPACE, *only)
    empty_cluster.kubectl("apply", "--filename", "-", stdin=text)
    for person, role in (("alice", "requester"), ("alice", "approver"), ("bob", "approver")):
        binding = ("create", "clusterrolebinding", f"{person}-{role}", f"--user={person}")
        empty_cluster.kubectl(*binding, f"--clusterrole=cmk-operator-support-{role}")

    def restart(**settings: str) -> None:
        assert operator_process.stop() == 0
        started = start_operator(empty_cluster, azure.env, operator_directory, {**SETTINGS, **settings})
        operator_process.process, operator_process.url = started.process, started.url

    restart(CMK_OPERATOR_SUPPORT_REQUESTS="true")
    yield
    empty_cluster.kubectl("delete", "--filename", "-", "--wait=false", stdin=text)
    restart()


@functools.cache
def rights() -> str:
    """What the chart gives the console, and the operator for the one Secret of an organization in `SOME_NAMESPACE`."""
    secrets = f"keyService.console.secrets[0].namespace={SOME_NAMESPACE},keyService.console.secrets[0].names={{acme-console}}"
    text = helm("template", "cmk-operator", CHART, "--namespace", OPERATOR_NAMESPACE, "--set", f"{CONSOLE},{secrets},{SUPPORT}")
    found = [item for item in yaml.safe_load_all(text) if item and (item["kind"] == "ServiceAccount" or "Role" in item["kind"])]
    theirs = ("cmk-operator-console", ACCOUNT)
    return yaml.safe_dump_all(
        item
        for item in found
        if item["metadata"]["name"].startswith(theirs) or item["metadata"].get("namespace") == SOME_NAMESPACE
    )


async def registered(environment: Environment, url: str, cluster: Cluster) -> tuple[str, str]:
    """The console at the provider's Entra, and at the platform's application; client id and secret."""
    graph = environment.provider.graph
    web = {"displayName": f"Console {environment.name}", "web": {"redirectUris": [f"{url}/sign-in/callback"]}}
    made = await graph.json("POST", "/applications", {**web, "groupMembershipClaims": "SecurityGroup"})
    await graph.json("POST", "/servicePrincipals", {"appId": made["appId"]})
    secret = await graph.json("POST", f"/applications/{made['id']}/addPassword", {"passwordCredential": {}})
    platform = f"/applications(appId='{environment.identity.application_client_id}')"
    uris = [f"{url}/consent/callback", f"{url}/tenant/callback"]
    await graph.send("PATCH", platform, {"web": {"redirectUris": uris}})
    subject = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{ACCOUNT}"
    trust = {
        "name": ACCOUNT,
        "issuer": cluster.issuer,
        "subject": subject,
        "audiences": ["api://AzureADTokenExchange"],
    }
    trusted = await graph.json("GET", f"{platform}/federatedIdentityCredentials")
    if subject not in [one["subject"] for one in trusted["value"]]:
        await graph.json("POST", f"{platform}/federatedIdentityCredentials", trust)
    return str(made["appId"]), str(secret["secretText"])


@pytest.fixture
async def console(
    environment: Environment, empty_cluster: Cluster, azure: AzureProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    namespace = environment.namespace
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    client_id, secret = await registered(environment, url, empty_cluster)
    for name, groups in ((ALICE, ["admins"]), (BEA, []), (VERA, ["viewers"])):
        await environment.control.put_user(environment.provider.tenant_id, name, WORD, groups=groups)
    await environment.control.put_user(environment.customer.tenant_id, CAROL, WORD, administrator=True)
    await environment.control.put_user(environment.customer.tenant_id, DAN, WORD)
    empty_cluster.kubectl("apply", "--filename", "-", stdin=rights().replace(SOME_NAMESPACE, namespace))
    kubeconfig = empty_cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, ACCOUNT, tmp_path / "kubeconfig")
    (tmp_path / "secret").write_text(secret)
    audience = "api://AzureADTokenExchange"
    (tmp_path / "token").write_text(empty_cluster.service_account_token(OPERATOR_NAMESPACE, ACCOUNT, audience))
    settings = ConsoleSettings(
        public_url=url,
        listen_address="127.0.0.1",
        insecure_http=True,
        issuer=f"https://login.microsoftonline.com/{environment.provider.tenant_id}/v2.0",
        client_id=client_id,
        client_secret_file=tmp_path / "secret",
        federated_token_file=tmp_path / "token",
        subject_claim="oid",
        break_glass_folder=tmp_path / "accounts",
    )
    (tmp_path / "accounts").mkdir()
    for variable in ("HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.setenv(variable, azure.env[variable])
    connection = await find_connection({"KUBECONFIG": str(kubeconfig)})
    tls, stop, clock = ssl.create_default_context(cafile=azure.env["SSL_CERT_FILE"]), asyncio.Event(), Clock()
    async with (
        connection.open() as api,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), trust_env=True) as session,
    ):
        keys = OrganizationKeys(KubernetesClient(api, Telemetry()), lambda: datetime.now(UTC) + timedelta(seconds=clock.now))
        record = Record(KubernetesClient(api, Telemetry()), OPERATOR_NAMESPACE, asyncio.get_running_loop().time)
        made = Console(settings, keys, record, OpenId(session), clock, lambda: datetime.now(UTC))
        serving = asyncio.ensure_future(listener(made.application(), None, 1.0).serve_until(stop, listening))
        await environment.apply_identity()
        await environment.apply_tenant()
        members = {"administrators": [{"group": "admins"}], "viewers": [{"group": "viewers"}]}
        await environment.objects.apply("OrganizationKey", "acme", {"organization": ORGANIZATION, **members}, namespace)
        yield Running(url, environment, azure.env, clock, session, made, tmp_path / "accounts")
        stop.set()
        await serving


async def test_an_administrator_brings_the_organization_to_its_own_key_and_the_record_names_them(
    console: Running, operator: Any
) -> None:
    await console.environment.vault_with_key(grant=False)
    async with browser(console.env) as window:
        home = await console.signed_in(window, ALICE)
        assert (home.url, "Acme &lt;Corp&gt;" in home.text) == (f"{console.url}/", True)
        page = await window.open(console.page)
        unproven = await window.submit(page, 1, **console.draft())
        assert "Sign in at the tenant" in unproven.text
        wrong = await window.submit(page, 1, **console.draft(confirmation="acme"))
        assert "Type the organization&#39;s name" in wrong.text
        consent = await window.submit(page, 2, tenant=console.environment.name, consent="1")
        asked = await window.submit(consent, login=CAROL, passwd=WORD)
        chosen = await window.submit(asked, accept="1") if "accept" in asked.text else asked
        proven = await window.submit(chosen, login=DAN, passwd=WORD)
        assert (proven.url, "You have signed in at the tenant" in proven.text) == (console.page, True), proven.text
        # The proof is for this organization alone, although the application could use the vault for another as well.
        other = {"organization": {"id": "other", "name": "Other"}, "administrators": [{"group": "admins"}]}
        await console.environment.objects.apply("OrganizationKey", "other", other, console.environment.namespace)
        page = await window.open(console.page.replace("/acme", "/other"))
        foreign = await window.submit(page, 1, **console.draft(confirmation="Other"))
        assert (foreign.status, "Sign in at the tenant" in foreign.text) == (422, True)
        failed = await window.submit(proven, 1, **console.draft())
        assert "Wrap</th><td>Fail" in failed.text
        assert "mode" not in (await console.stored())["spec"]
        await console.environment.customer.grant(console.environment.identity.application_client_id, console.environment.vault)
        saved = await window.submit(proven, 1, **console.draft())
        assert "have passed their test and are saved" in saved.text, saved.text
        status = await console.environment.organization_until(
            "accepted", lambda found: found.get("accepted", {}).get("mode") == "CustomerManaged"
        )
        assert status["accepted"]["access"]["tenantId"] == console.environment.customer.tenant_id
        stored = await console.stored()
        fields = [one for one in stored["metadata"]["managedFields"] if "subresource" not in one]
        owned = [one["manager"] for one in fields if "f:keyUri" in str(one["fieldsV1"])]
        assert owned == ["console"]
        person = stored["metadata"]["annotations"]["cmk-operator.dev/changed-by"]
        assert person.endswith(f" ({ALICE})")
        assert f"field manager console, for {person}" in operator.log()
        back = await window.submit(await window.open(console.page), 1, mode="PlatformManaged")
        assert "have passed their test and are saved" in back.text, back.text
        assert (await console.stored())["spec"].get("keyUri") is None


async def test_the_audit_log_has_the_changes_of_this_organization_by_hand_and_automatic_and_of_no_other(
    console: Running,
) -> None:
    environment = console.environment
    await environment.vault_with_key()
    other = {"organization": {"id": "other", "name": "Other"}, "viewers": [{"group": "nobody"}]}
    await environment.objects.apply("OrganizationKey", "other", other, environment.namespace)
    other_uid = (await environment.objects.get("OrganizationKey", "other", environment.namespace))["metadata"]["uid"]
    spec = {
        "organization": ORGANIZATION,
        "mode": "CustomerManaged",
        "confirmation": ORGANIZATION["name"],
        "tenantRef": {"name": environment.name},
        "keyUri": environment.key_uri(),
        "access": {"application": {}},
        "administrators": [{"group": "admins"}],
        "viewers": [{"group": "viewers"}],
    }
    await environment.objects.apply("OrganizationKey", "acme", spec, environment.namespace)
    before = await environment.organization_until(
        "in force", lambda found: found.get("accepted", {}).get("mode") == spec["mode"]
    )
    await environment.customer.new_version(environment.vault, "cmk")
    asked = {"metadata": {"annotations": {"cmk-operator.dev/reconcile-requested-at": "1"}}}
    await environment.objects.merge("OrganizationKey", "acme", asked, environment.namespace)
    await environment.organization_until(
        "rotated", lambda found: found["accepted"]["revision"] > before["accepted"]["revision"]
    )
    async with browser(console.env) as window:
        await console.signed_in(window, VERA)
        assert "/audit" in (await window.open(console.page)).text
        page = await window.open(f"{console.page}/audit")
        assert "whole from the first change of this organization on" in page.text, page.text
        assert "(manual)" in page.text
        lines = (await window.open(f"{console.page}/audit.ndjson")).text
        entries = [entry for line in lines.splitlines() if (entry := parse_entry(line)) is not None]
        assert all(entry.is_intact and entry.body["object"]["name"] == "acme" for entry in entries)
        assert other_uid not in lines
        table = await window.open(f"{console.page}/audit.csv?kind=Automatic&event=KeyChanged")
        assert table.headers["Content-Disposition"] == 'attachment; filename="audit-acme.csv"'
        assert [row.split(",")[2:5] for row in table.text.splitlines()[1:]] == [["KeyChanged", "Automatic", "cmk-operator"]]
        assert (await window.open(f"{console.page}/audit?first=yesterday")).status == 400
        for path in ("audit", "audit.csv", "audit.ndjson"):
            assert (await window.open(console.page.replace("/acme", f"/other/{path}"))).status == 404


async def test_a_credential_of_an_own_registration_is_stored_for_the_operator_and_never_shown(
    console: Running, empty_cluster: Cluster
) -> None:
    environment, namespace = console.environment, console.environment.namespace
    await environment.vault_with_key(grant=False)
    own = await environment.customer.register(f"{environment.name}-own")
    await environment.customer.grant(own.client_id, environment.vault)
    _, secret = await environment.customer.add_secret(own)
    draft = console.draft(method="registration", client_id=own.client_id, credential=secret, expires="2030-01-01")
    async with browser(console.env) as window:
        await console.signed_in(window, ALICE)
        page = await window.open(console.page)
        refused = await window.submit(page, 1, **draft)
        assert (refused.status, "the provider must create it" in refused.text) == (503, True)
        empty_cluster.kubectl("create", "secret", "generic", "acme-console", "--namespace", namespace)
        failed = await window.submit(page, 1, **draft | {"credential": "wrong"})
        assert (failed.status, "Token</th><td>Fail" in failed.text) == (422, True), failed.text
        path = f"/api/v1/namespaces/{namespace}/secrets/acme-console"
        assert "data" not in await environment.objects.call("GET", path), "what failed its test is not kept"
        saved = await window.submit(page, 1, **draft)
        assert "have passed their test and are saved" in saved.text, saved.text
        status = await environment.organization_until(
            "accepted", lambda found: found.get("accepted", {}).get("mode") == "CustomerManaged"
        )
        assert status["accepted"]["access"]["clientId"] == own.client_id
        shown = await window.open(console.page)
        assert "2030-01-01" in shown.text
        for one in (refused, failed, saved, shown):
            assert secret not in one.text


async def test_fields_of_gitops_are_shown_with_their_manager_and_stay(console: Running) -> None:
    await console.environment.vault_with_key()
    spec = {
        "organization": ORGANIZATION,
        "mode": "CustomerManaged",
        "confirmation": ORGANIZATION["name"],
        "tenantRef": {"name": console.environment.name},
        "keyUri": console.environment.key_uri(),
        "access": {"application": {}},
        "administrators": [{"group": "admins"}],
        "viewers": [{"group": "viewers"}],
    }
    await console.environment.objects.apply("OrganizationKey", "acme", spec, console.environment.namespace)
    await console.environment.organization_until("in force", has("ConfigurationAccepted"))
    async with browser(console.env) as window:
        await console.signed_in(window, ALICE)
        page = await window.open(console.page)
        assert "managed by tests. Change them there" in page.text
        assert "<fieldset disabled>" in page.text
        forced = await window.submit(page, 1, mode="PlatformManaged")
        assert (forced.status, "tests manages these settings" in forced.text) == (409, True)
    assert (await console.stored())["spec"] == spec


async def test_forged_callbacks_and_forms_change_nothing(console: Running) -> None:
    before = await console.stored()
    tenant = console.environment.customer.tenant_id
    async with browser(console.env) as window, browser(console.env) as attacker:
        forged = urlencode({"admin_consent": "True", "tenant": tenant, "state": "x"})
        assert (await attacker.open(f"{console.url}/consent/callback?{forged}")).status == 400  # no session
        await console.signed_in(window, ALICE)
        page = await window.open(console.page)
        for path in ("consent", "tenant", "sign-in"):  # a state of nobody
            assert (await window.open(f"{console.url}/{path}/callback?{forged}&code=1")).status == 400
        stop, window.stop = window.stop, "https://login.microsoftonline.com/"
        sent = await window.submit(page, 2, tenant=console.environment.name, consent="1")
        theirs = sent.query["state"]
        await console.signed_in(attacker, BEA)
        foreign = urlencode({"admin_consent": "True", "tenant": tenant, "state": theirs})
        assert (await attacker.open(f"{console.url}/consent/callback?{foreign}")).status == 400  # another session
        onward = await window.open(f"{console.url}/consent/callback?{foreign}")
        assert onward.url.startswith(f"https://login.microsoftonline.com/{tenant}/oauth2/"), "a sign-in, and no proof yet"
        assert (await window.open(f"{console.url}/consent/callback?{foreign}")).status == 400  # a second time
        other = urlencode({"code": "1", "state": onward.query["state"]})
        assert (await window.open(f"{console.url}/sign-in/callback?{other}")).status == 400  # another purpose
        assert (await window.open(f"{console.url}/tenant/callback?{other}")).status == 502  # a code of nobody
        window.stop = stop
        refused = await window.submit(await window.open(console.page), 1, **console.draft())
        assert "Sign in at the tenant" in refused.text
        form = {**page.forms[1].fields, "mode": "PlatformManaged"}
        for changed, origin in (
            ({"csrf": "x"}, console.url),
            ({"csrf": ""}, console.url),
            ({"csrf": attacker.cookie("console") or ""}, console.url),
            ({}, "https://evil.example"),
            ({}, "null"),
        ):
            assert (await window.open(console.page, form | changed, {"Origin": origin})).status == 403, changed
    after = await console.stored()
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


async def test_a_person_sees_and_changes_only_what_the_organization_gives_them(console: Running) -> None:
    async with browser(console.env) as window:
        await console.signed_in(window, VERA)
        page = await window.open(console.page)
        assert (page.status, "<fieldset disabled>" in page.text) == (200, True)
        assert (await window.submit(page, 1, mode="PlatformManaged")).status == 403
        assert (await window.open(f"{console.page}/tenant", {"csrf": page.forms[0].fields["csrf"]})).status == 403
    async with browser(console.env) as window:
        assert "You have no role" in (await console.signed_in(window, BEA)).text
        assert (await window.open(console.page)).status == 404
    async with browser(console.env) as window:
        assert (await window.open(console.page)).status == 401


async def test_a_session_is_new_at_each_sign_in_ends_and_cannot_be_planted(console: Running) -> None:
    async with browser(console.env) as window:
        await window.open(f"{console.url}/")
        planted = window.cookie("console")
        assert planted
        home = await console.signed_in(window, ALICE)
        assert window.cookie("console") not in {None, planted}
        async with browser(console.env) as attacker:
            old = await attacker.open(console.page, headers={"Cookie": f"console={planted}"})
            assert old.status == 401
            chosen = await attacker.open(f"{console.url}/", headers={"Cookie": "console=chosen-by-me"})
            assert attacker.cookie("console") != "chosen-by-me", chosen
        kept = window.cookie("console")
        await window.submit(home)
        async with browser(console.env) as attacker:
            assert (await attacker.open(console.page, headers={"Cookie": f"console={kept}"})).status == 401
        await console.signed_in(window, ALICE)
        console.clock.now += 1801
        assert (await window.open(console.page)).status == 401


async def test_every_answer_keeps_other_sites_out_and_leads_to_none(console: Running) -> None:
    async with browser(console.env) as window:
        first = await window.once(f"{console.url}/?next=https://evil.example//evil.example")
        cookie = first.headers["Set-Cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/")), cookie
        await console.signed_in(window, ALICE)
        own = f"/organizations/{console.environment.namespace}/acme"
        paths = (
            "/",
            "/style.css",
            "/healthz",
            "/sign-in/callback",
            own,
            f"{own}/audit",
            f"{own}/audit.csv",
            "/nothing",
            "/sign-in",
        )
        for path in paths:
            headers = (await window.once(f"{console.url}{path}")).headers
            policy = headers["Content-Security-Policy"]
            assert all(part in policy for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'")), path
            assert "script" not in policy
            assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
        page = await window.open(console.page)
        assert "<script" not in page.text.lower()
        out = await window.once(
            f"{console.url}/sign-out", {"csrf": page.forms[0].fields["csrf"], "next": "https://evil.example"}
        )
        assert (out.status, out.headers["Location"]) == (303, "/")


async def test_sign_ins_and_tests_are_limited(console: Running) -> None:
    async with browser(console.env) as window:
        await console.signed_in(window, ALICE)
        page = await window.open(console.page)
        answers = [await window.submit(page, 1, generation="0") for _ in range(SAVES[0] + 1)]
        assert [one.status for one in answers] == [409] * SAVES[0] + [429]
        callback = f"{console.url}/sign-in/callback?state=x"
        statuses = [(await window.open(callback)).status for _ in range(SIGN_INS[0])]
        assert (statuses[0], statuses[-1]) == (400, 429)
        console.clock.now += 601
        assert (await window.open(callback)).status == 400


def test_the_program_serves_the_page_ends_in_order_and_says_which_setting_is_wrong(
    empty_cluster: Cluster, tmp_path: Path
) -> None:
    settings = {
        "CMK_KEYSERVICE_PUBLIC_URL": "https://page.example",
        "CMK_KEYSERVICE_LISTEN_ADDRESS": "127.0.0.1",
        "CMK_KEYSERVICE_PORT": "0",
        "CMK_KEYSERVICE_INSECURE_HTTP": "true",
        "CMK_KEYSERVICE_ISSUER": "https://issuer.example",
        "CMK_KEYSERVICE_CLIENT_ID": "page",
        "CMK_KEYSERVICE_CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        "KUBECONFIG": str(empty_cluster.kubeconfig),
    }
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "cmk_keyservice", "console"]
    with subprocess.Popen(command, env=paths | settings, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            started = json.loads(running.stderr.readline())
            with urllib.request.urlopen(f"http://127.0.0.1:{started['port']}/", timeout=10) as answer:
                cookie, text = answer.headers["Set-Cookie"], answer.read().decode()
            assert "Administrators and viewers of an organization sign in here" in text
            assert cookie.startswith("__Host-console=")
            assert "Secure" in cookie
        finally:
            running.terminate()
        assert running.wait(20) == 0
    wrong = subprocess.run(command, env=paths, capture_output=True, text=True, check=False, timeout=60)
    assert (wrong.returncode, "cmk-keyservice: setting public_url: Field required" in wrong.stderr) == (2, True), wrong.stderr


async def test_an_administrator_of_the_organization_alone_hands_over_the_link_comes_back_and_repeats(console: Running) -> None:
    environment = console.environment
    application = environment.identity.application_client_id
    await environment.customer.consent(application)
    await environment.customer.withdraw_consent(application)
    async with browser(console.env) as window, browser(console.env) as theirs:
        await console.signed_in(window, ALICE)
        page = await window.open(console.page)
        asked = await window.submit(await window.submit(page, 2, tenant=environment.name), login=DAN, passwd=WORD)
        assert "admin" in asked.text
        assert "need" in asked.text.lower()
        refused = await window.submit(await window.open(console.page), 1, **console.draft())
        assert "Sign in at the tenant" in refused.text
        [link] = re.findall(r"<code>(https://[^<]*adminconsent[^<]*)</code>", page.text)
        consent = await theirs.open(html.unescape(link))
        chosen = await theirs.submit(consent, login=CAROL, passwd=WORD)
        ended = await theirs.submit(chosen, accept="1") if "accept" in chosen.text else chosen
        assert "they sign in at the tenant on their page" in ended.text, ended.text
        again = await window.submit(await window.open(console.page), 2, tenant=environment.name)
        proven = again if again.url == console.page else await window.submit(again, login=DAN, passwd=WORD)
        assert "You have signed in at the tenant" in proven.text, proven.text


async def looked_at(tab: Tab, name: str) -> None:
    """The page as it is now is kept as a picture, runs no script, and axe-core finds nothing wrong in it."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    await tab.screenshot(ARTEFACTS / f"{name}.png")
    assert await tab.accessibility_findings() == [], name


async def signed_in_at_entra(tab: Tab, name: str) -> None:
    """What somebody does at the sign-in page of Entra."""
    await tab.until("!!document.querySelector('[name=passwd]')")
    await tab.fill(login=name, passwd=WORD)
    await tab.press("Sign in")


async def served(environment: Environment) -> None:
    """Wait until the organization's key is in force, and report as the key service would."""
    status = await environment.organization_until(
        "in force", lambda found: found.get("accepted", {}).get("mode") == "CustomerManaged"
    )
    accepted = status["accepted"]
    await keys.reported(environment, accepted["revision"], {accepted["kid"]: 12}, rewrap={"pending": 0, "failed": 0})
    await keys.requested(environment, "1")
    await environment.organization_until("ready", has("Ready"))


async def refused_account(tab: Tab, console: Running) -> None:
    """Try an account that nobody has."""
    await tab.call("Page.navigate", url=f"{console.url}/break-glass")
    await tab.until("document.title === 'Break-glass account'")
    for name, text in (("account", "nobody"), ("password", WORD)):
        await tab.tab_to(name)
        await tab.type(text)
    await tab.key("Enter")
    await tab.until("!!document.querySelector('[role=alert]')")
    await looked_at(tab, "break-glass")


async def test_the_page_needs_no_pointer_and_no_script_and_asks_nobody_else(console: Running, tmp_path: Path) -> None:
    environment = console.environment
    await environment.vault_with_key(grant=False)
    async with chromium(console.env, tmp_path / "chromium") as tab:
        await tab.scripts(allowed=False)
        await tab.call("Page.navigate", url=f"{console.url}/")
        await tab.until("document.title === 'Sign in'")
        await looked_at(tab, "sign-in")
        await tab.tab_to("Sign in")
        await tab.key("Enter")
        await signed_in_at_entra(tab, ALICE)
        await tab.until("document.title === 'Organizations'")
        await looked_at(tab, "organizations")
        await tab.tab_to(ORGANIZATION["name"])
        await tab.key("Enter")
        await tab.until("document.title.startsWith('Encryption of')")
        await looked_at(tab, "platform-key")
        await tab.tab_to("Sign in at the tenant")
        await tab.key("Enter")
        await signed_in_at_entra(tab, DAN)
        await tab.until("!!document.querySelector('[role=status]')")
        await tab.tab_to("mode")
        await tab.key("ArrowDown")
        for name, text in (("confirmation", ORGANIZATION["name"]), ("key_uri", environment.key_uri())):
            await tab.tab_to(name)
            await tab.type(text)
        await tab.tab_to("Test and save")
        await tab.key("Enter")
        await tab.until("!!document.querySelector('[role=alert]')")
        await looked_at(tab, "failed-test")
        await environment.customer.grant(environment.identity.application_client_id, environment.vault)
        await tab.tab_to("Test and save")
        await tab.key("Enter")
        await tab.until("document.querySelector('[role=status]')?.textContent.includes('saved')")
        await served(environment)
        await tab.call("Page.navigate", url=console.page)
        await tab.until("document.body.textContent.includes('own key, since')")
        await tab.screenshot(ARTEFACTS / README_PICTURE.name, README_HEIGHT)
        await looked_at(tab, "encryption")
        await tab.tab_to("Audit log")
        await tab.key("Enter")
        await tab.until("document.title.startsWith('Audit log of')")
        await looked_at(tab, "audit-log")
        await refused_account(tab, console)
        await tab.call("Page.navigate", url=f"{console.page}-of-nobody")
        await tab.until("document.title === 'No such organization'")
        await looked_at(tab, "no-such-organization")
        own, entra, drawn = f"{console.url}/", "https://login.microsoftonline.com/", "data:"
        assert [one for one in tab.requested if not one.startswith((own, entra, drawn))] == []
        assert [one for one in tab.complaints if "responded with a status of 4" not in one] == []
    assert (await console.stored())["spec"]["mode"] == "CustomerManaged"


def mounted(console: Running, cluster: Cluster, **passwords: str) -> None:
    """Make accounts of the organization by the documented commands, and mount their Secret as kubelet does."""
    namespace = console.environment.namespace
    for name, password in passwords.items():
        arguments = ["break-glass", name, "--person", f"Person {name}", "--organization", f"{namespace}/acme"]
        command = [sys.executable, "-m", "cmk_keyservice", *arguments, "--namespace", namespace, "--password-stdin"]
        made = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
        applied = ("apply", "--server-side", f"--field-manager=break-glass-{name}", "--filename", "-")
        cluster.kubectl(*applied, stdin=made.stdout)
    held = json.loads(cluster.kubectl("get", "secret", "cmk-break-glass", "--namespace", namespace, "--output", "json"))
    for name, entry in held["data"].items():
        (console.accounts / name).write_bytes(base64.b64decode(entry))


async def by_account(console: Running, window: Browser, account: str, password: str) -> Page:
    """Sign in with a break-glass account."""
    form = await window.open(f"{console.url}/break-glass")
    return await window.submit(form, account=account, password=password)


async def test_a_break_glass_account_gets_in_without_the_identity_provider(
    console: Running, empty_cluster: Cluster, operator: Any
) -> None:
    environment, word = console.environment, "a long pass phrase"
    mounted(console, empty_cluster, first=word, second="another long phrase")
    await console.console.reports.report(await Accounts(console.accounts).all())
    await environment.organization_until("not tried", has("BreakGlassReady", "False", "BreakGlassNotTried"))
    fault = await environment.control.inject(kind="reset", host="login.microsoftonline.com")
    async with browser(console.env) as window:
        down = await window.submit(await window.open(f"{console.url}/"))
        assert (down.status, "sign in with a break-glass account" in (await window.open(f"{console.url}/")).text) == (502, True)
        assert (await by_account(console, window, "first", "a wrong pass phrase")).status == 403
        assert (await by_account(console, window, "third", word)).status == 403
        home = await by_account(console, window, "first", word)
        assert "Acme &lt;Corp&gt;" in home.text, home.text
        page = await window.open(console.page)
        saved = await window.submit(page, 1, mode="PlatformManaged")
        assert "have passed their test and are saved" in saved.text, saved.text
        status = await environment.organization_until("tried", has("BreakGlassReady", "True", "BreakGlassTried"))
        assert [one["account"] for one in status["recordedBreakGlassUses"]] == ["first"]
        assert "break-glass:first (Person first)" in operator.log()
        changed = (await console.stored())["metadata"]["annotations"]["cmk-operator.dev/changed-by"]
        assert changed == "break-glass:first (Person first)"
        path = f"/apis/events.k8s.io/v1/namespaces/{environment.namespace}/events"
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:  # an event follows the status that it is about
            events = (await environment.objects.call("GET", path))["items"]
            used = [one["type"] for one in events if one["reason"] == "BreakGlassUsed"]
            if used or asyncio.get_running_loop().time() > deadline:
                break
        assert used == ["Warning"]
        other = (await window.open(console.page.replace("/acme", "/other"))).status
        mounted(console, empty_cluster, first="the next pass phrase")
        gone = await window.open(console.page)
        assert (other, gone.status) == (404, 401), "a session ends when its account changes"
        assert (await by_account(console, window, "first", word)).status == 403
        assert "Acme" in (await by_account(console, window, "second", "another long phrase")).text
    await environment.control.clear_fault(fault)
    await console.console.reports.report(await Accounts(console.accounts).all())
    status = await environment.organization_until(
        "both reported", lambda found: len(found.get("recordedBreakGlassUses", ())) == 2
    )
    assert {one["name"]: "lastUsedAt" in one for one in status["breakGlass"]["accounts"]} == {"first": False, "second": True}
    for secret in (word, "the next pass phrase", "argon2id"):
        assert secret not in operator.log() + json.dumps(await console.stored())


async def test_a_use_that_cannot_be_reported_signs_nobody_in(console: Running, empty_cluster: Cluster) -> None:
    mounted(console, empty_cluster, first="a long pass phrase")
    role = json.loads(empty_cluster.kubectl("get", "clusterrole", "cmk-operator-console", "--output", "json"))
    rules = [rule for rule in role["rules"] if rule["resources"] != ["organizationkeys/status"]]
    empty_cluster.kubectl("replace", "--filename", "-", stdin=json.dumps({**role, "rules": rules}))
    async with browser(console.env) as window:
        refused = await by_account(console, window, "first", "a long pass phrase")
        assert (refused.status, (await window.open(console.page)).status) == (503, 401)


async def test_what_a_person_may_not_change_is_grey_and_the_way_that_is_left_is_shown(console: Running, tmp_path: Path) -> None:
    environment = console.environment
    credential = {"secretRef": {"name": "acme-console", "key": "credential-1"}, "expires": "2026-12-07T00:00:00Z"}
    spec = {
        "mode": "CustomerManaged",
        "confirmation": ORGANIZATION["name"],
        "tenantRef": {"name": environment.name},
        "keyUri": environment.key_uri(),
        "access": {"registration": {"clientId": environment.customer.client_id, "credentials": [credential]}},
    }
    path = f"{collection_path('organizationkeys', environment.namespace)}/acme"
    applied = {"apiVersion": API_VERSION, "kind": "OrganizationKey", "metadata": {"name": "acme"}, "spec": spec}
    async with chromium(console.env, tmp_path / "chromium") as tab:
        await tab.scripts(allowed=False)
        await tab.call("Page.navigate", url=f"{console.url}/")
        await tab.until("document.title === 'Sign in'")
        await tab.press("Sign in")
        await signed_in_at_entra(tab, VERA)
        await tab.until("document.title === 'Organizations'")
        await tab.call("Page.navigate", url=console.page)
        await tab.until("document.body.textContent.includes('You may look at these settings')")
        await looked_at(tab, "viewer")
        await tab.call("Network.clearBrowserCookies")  # Entra would know who is there
        await tab.call("Page.navigate", url=f"{console.url}/break-glass")
        await tab.until("document.title === 'Break-glass account'")
        await looked_at(tab, "break-glass")
        await tab.call("Page.navigate", url=f"{console.url}/")
        await tab.until("document.title === 'Sign in'")
        await tab.press("Sign in")
        await signed_in_at_entra(tab, ALICE)
        await tab.until("document.title === 'Organizations'")
        await environment.objects.call("PATCH", path, applied, "application/apply-patch+yaml", fieldManager="console")
        known = tuple(STATES["status"]["conditions"])
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:  # the operator writes its own word over it at its next pass
            await environment.objects.call("PATCH", f"{path}/status", STATES, "application/merge-patch+json")
            await tab.call("Page.navigate", url=console.page)
            await tab.until("document.title.startsWith('Encryption of')")
            if known[0]["message"] in await tab.ask("document.body.textContent"):
                break
            assert asyncio.get_running_loop().time() < deadline
        await looked_at(tab, "frozen")
        text = await tab.ask("document.querySelector('main').textContent")
        for sentence in (
            "2026-12-07T00:00:00Z (7 days left)",
            "Yes; after 2026-11-01 10:00 UTC",
            "3 still to be wrapped",
            "newer",
        ):
            assert sentence in text, sentence
        assert await tab.ask("document.querySelector('fieldset').disabled")
        await tab.tab_to("credential")
        await tab.tab_to("Test and renew")
        await tab.tab_to("Switch to the platform's key")
        await tab.key("Enter")
        await tab.until("!!document.querySelector('[role=status], [role=alert]')")
        assert "saved" in await tab.ask("document.querySelector('[role=status], [role=alert]').textContent")
    assert (await console.stored())["spec"]["mode"] == "PlatformManaged"


def requested(cluster: Cluster, name: str, organization: str, subject: str) -> None:
    """Let alice ask for a promotion."""
    until = (datetime.now(UTC) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    spec = {"organizationId": organization, "subject": subject, "ticket": "4711", "until": until, "requestedBy": "alice"}
    body = {"apiVersion": "cmk-operator.dev/v1alpha1", "kind": "SupportRequest", "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("--as=alice", "create", "--filename", "-", stdin=json.dumps(body))


def approved(cluster: Cluster, name: str, person: str) -> None:
    """Let somebody approve it."""
    patch = ("patch", "supportrequest", name, "--type=merge", "--patch", json.dumps({"spec": {"approvedBy": person}}))
    cluster.kubectl(f"--as={person}", *patch)


def promoted(found: dict[str, Any]) -> bool:
    return bool(found.get("support", {}).get("active"))


async def test_support_makes_an_administrator_by_two_persons_until_it_is_withdrawn_or_over(
    console: Running, empty_cluster: Cluster, with_support: None, operator: Any
) -> None:
    environment = console.environment
    await environment.vault_with_key()
    own = {"mode": "CustomerManaged", "confirmation": ORGANIZATION["name"], "tenantRef": {"name": environment.name}}
    spec = {"organization": ORGANIZATION, **own, "keyUri": environment.key_uri(), "access": {"application": {}}}
    await environment.objects.apply("OrganizationKey", "acme", spec, environment.namespace)
    await environment.organization_until("in force", has("ConfigurationAccepted"))
    async with browser(console.env) as window:
        home = await console.signed_in(window, BEA)
        subject = home.text.split("<code>")[1].split("</code>")[0]
        requested(empty_cluster, "unknown", "nobody", subject)
        requested(empty_cluster, "ticket", "acme", subject)
        for name, state in (("unknown", "Refused"), ("ticket", "Pending")):
            status = await environment.objects.until("judged", "SupportRequest", name, lambda status: status.get("state"))
            assert status["state"] == state, status
        with pytest.raises(ClusterError, match="who asks cannot approve"):
            approved(empty_cluster, "ticket", "alice")
        assert (await window.open(console.page)).status == 404, "nobody is promoted by one person"
        approved(empty_cluster, "ticket", "bob")
        status = await environment.organization_until("promoted", promoted)
        assert "support made somebody an administrator" in operator.log()
        assert "alice, approved by bob" in operator.log()
        assert "the customer's administrator should create a new key" in status["support"]["advice"]
        page = await window.open(console.page)
        assert (page.status, "should create a new key" in page.text) == (200, True)
        assert "administrator" in (await window.open(f"{console.url}/")).text
        console.clock.now += 2 * 3600
        async with browser(console.env) as later:
            assert "You have no role" in (await console.signed_in(later, BEA)).text, "its time is over"
        console.clock.now -= 2 * 3600
    async with browser(console.env) as window:
        await console.signed_in(window, BEA)
        assert (await window.open(console.page)).status == 200
        empty_cluster.kubectl("--as=alice", "delete", "supportrequest", "ticket", "unknown")
        assert (await window.open(console.page)).status == 404, "at once, whether or not the operator has seen it"
        await environment.organization_until("ended", lambda found: not promoted(found))
        assert "promotion by support ended" in operator.log()
