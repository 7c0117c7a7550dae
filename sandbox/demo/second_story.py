"""The second story: a service encrypts before it stores, under the organization's own key; each step checks what it claims."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from sandbox.demo.services import CALLER, NAMESPACE, ORGANIZATION, Services, decrypt, encrypt, read_pages
from sandbox.demo.stage import PATIENCE, Stage, StoryFailedError, condition, expect, is_true
from sandbox.demo.steps import Story
from sandbox.environment import SECOND_STORY
from sandbox.keyservice_process import SERVICE_ACCOUNT
from sandbox.operator_process import NAMESPACE as OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

VAULT, KEY = "acme-kv", "organization"
NOTE = b"deliver to the back door"
PROBE_SECONDS, GRACE_SECONDS = 2, 30
STEPS = Story()
step = STEPS.step


@step("The key service starts beside the operator, with a database of its own")
async def start(stage: Stage) -> str:
    """PostgreSQL is real; the key service runs as its own ServiceAccount, which the provider trusts for the same identity."""
    subject = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{SERVICE_ACCOUNT}"
    await stage.provider.prepare(issuer=stage.cluster.issuer, key_service_account=subject)
    stage.services = await asyncio.to_thread(Services.start, stage.cluster, stage.variables, stage.directory / SECOND_STORY)
    await stage.kubectl("create", "serviceaccount", CALLER, "--namespace", NAMESPACE)
    may = ("--verb=encrypt,decrypt", "--resource=organizationkeys.cmk-operator.dev/data", f"--resource-name={ORGANIZATION}")
    await stage.kubectl("create", "role", CALLER, "--namespace", NAMESPACE, *may)
    to = (f"--role={CALLER}", f"--serviceaccount={NAMESPACE}:{CALLER}")
    await stage.kubectl("create", "rolebinding", CALLER, "--namespace", NAMESPACE, *to)
    return f"PostgreSQL, and the key service at {stage.services.key_service.url}, with TLS"


@step("A service writes a row under the platform's key")
async def written(stage: Stage) -> str:
    """An organization that brings no key is served under the platform's."""
    await _apply(stage, {"organization": {"id": ORGANIZATION, "name": "Acme Corp"}, "backupRetention": "0h"})
    await _until(stage, "the platform's key in force", lambda seen: seen.get("accepted", {}).get("kid") == "platform-key")
    services = stage.required_services
    stage.ciphertext = await _until_encrypted(stage)
    await asyncio.to_thread(services.write_row, stage.ciphertext)
    expect(NOTE not in stage.ciphertext, "no plaintext in the row")
    expect(await _read(stage) == NOTE, "the same note")
    return f"{len(NOTE)} bytes of plaintext, {len(stage.ciphertext)} bytes in the row"


@step("The organization asks for its own key, and a grant is missing")
async def untested(stage: Stage) -> str:
    """Test and save: the settings do not come into force, the old ones stay, and the message says who must do what."""
    customer = stage.customer
    await customer.create_vault(VAULT)
    await customer.assign_role(
        await customer.principal_id(customer.client_id), "Key Vault Administrator", customer.vault_id(VAULT)
    )
    await stage.create_key(VAULT, KEY)
    await stage.kubectl("apply", "-f", "-", stdin=json.dumps(_tenant(stage)))
    await _apply(stage, _customer_managed())
    status = await _until(stage, "a failed test", lambda seen: seen.get("test", {}).get("result") == "Failed")
    expect(status["accepted"]["kid"] == "platform-key", "the platform's key still in force", status["accepted"])
    expect(await _read(stage) == NOTE, "the row still readable")
    return f"{status['test']['stage']}: {status['test']['message']}"


@step("The grant is there: tested, accepted, and every data key wrapped anew")
async def accepted(stage: Stage) -> str:
    """The data stays as it is, byte for byte; only data keys are wrapped anew."""
    await stage.customer.grant(
        stage.required_identity.application_client_id, VAULT, role="Key Vault Crypto Service Encryption User"
    )
    status = await _until(stage, "the organization's key in force", _in_force_and_rewrapped, ask=True)
    kid = status["accepted"]["kid"]
    expect(f"{VAULT}.vault.azure.net/keys/{KEY}/" in kid, "a version of the organization's key", kid)
    stage.notes["first organization key"] = kid
    expect(await asyncio.to_thread(stage.required_services.read_row) == stage.ciphertext, "the same bytes in the row")
    expect(await _read(stage) == NOTE, "the same note")
    return f"{status['dataKeys']['total']} data key on {kid.rsplit('/', 1)[-1][:8]}…; the row is unchanged"


@step("The organization disables its key, and the row is unreadable")
async def revoked(stage: Stage) -> str:
    """Within the stated bound, whatever the service asks for."""
    version = stage.notes["first organization key"].rsplit("/", 1)[-1]
    await stage.customer.disable(VAULT, KEY, version)
    began = time.monotonic()
    problem = await _until_read(stage, "a refusal", lambda found: isinstance(found, dict))
    seconds = time.monotonic() - began
    expect(problem["class"] == "Denied", "Denied, and not an outage", problem)
    status = await _until(stage, "KeyAccessible False", lambda seen: condition(seen, "KeyAccessible").get("status") == "False")
    return f"unreadable after {seconds:.1f} s: {problem['detail']}; status: {condition(status, 'KeyAccessible')['reason']}"


@step("The organization enables its key again, and the row is readable")
async def enabled(stage: Stage) -> str:
    """No restart, and nobody here has to act."""
    version = stage.notes["first organization key"].rsplit("/", 1)[-1]
    await stage.customer.enable(VAULT, KEY, version)
    began = time.monotonic()
    await _until_read(stage, "the note", lambda found: found == NOTE)
    return f"readable after {time.monotonic() - began:.1f} s"


@step("The organization's key gets a new version, and data keys follow")
async def rotated(stage: Stage) -> str:
    """The row's bytes do not change, and the old version is called safe to disable only once nothing is on it."""
    old = stage.notes["first organization key"]
    new = (await stage.customer.new_version(VAULT, KEY)).rsplit("/", 1)[-1]

    def on_the_new_version(seen: dict[str, Any]) -> bool:
        return bool(seen.get("accepted", {}).get("kid", "").endswith(new)) and _in_force_and_rewrapped(seen)

    await _until(stage, "the new version in force", on_the_new_version, ask=True)
    expect(await asyncio.to_thread(stage.required_services.read_row) == stage.ciphertext, "the same bytes in the row")
    expect(await _read(stage) == NOTE, "the same note")
    status = await _until(stage, "the old version safe to disable", lambda seen: _safe(seen, old), ask=True)
    told = next(entry for entry in status["versions"] if entry["kid"] == old)
    return f"{old.rsplit('/', 1)[-1][:8]}… to {new[:8]}…; old version: {told['reason']}"


@step("The organization's administrator sees it all on a page of their own")
async def seen(stage: Stage) -> str:
    """The console runs as its own ServiceAccount, with only its RBAC; the account needs no identity provider."""
    console = await asyncio.to_thread(stage.required_services.open_console, stage.cluster, stage.variables)
    page = f"/organizations/{NAMESPACE}/{ORGANIZATION}"
    encryption, audit = await read_pages(console, page, f"{page}/audit")
    status = await _until(stage, "the organization", lambda found: found.get("accepted"))
    expect(status["accepted"]["kid"] in encryption, "the version in force on the page")
    expect("The record is whole from the first change" in audit, "an audit log that is whole")
    expect("(automatic)" in audit, "the version that was followed in the audit log")
    return f"{console.url}/break-glass: key versions, what may be disabled, and the audit log"


@step("The old version is disabled as status says, and everything is still readable")
async def done(stage: Stage) -> str:
    """Also by a key service that has just started and has nothing in memory."""
    await stage.customer.disable(VAULT, KEY, stage.notes["first organization key"].rsplit("/", 1)[-1])
    services = stage.required_services
    await asyncio.to_thread(services.restart, stage.cluster, stage.variables)
    await _until_read(stage, "the note", lambda found: found == NOTE)
    status = await _until(stage, "Ready", lambda seen: is_true(seen, "Ready"), ask=True)
    return f"readable after a restart of the key service; {condition(status, 'Ready')['message']}"


def _tenant(stage: Stage) -> dict[str, Any]:
    return {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "CustomerTenant",
        "metadata": {"name": ORGANIZATION},
        "spec": {
            "tenantId": stage.variables["CUSTOMER_TENANT_ID"],
            "identityRef": {"name": "contoso"},
            "allowedNamespaces": [NAMESPACE],
            "allowedScopes": [f"/subscriptions/{stage.variables['SUBSCRIPTION_ID']}/resourceGroups/rg-acme"],
            "allowedVaults": [f"{VAULT}.vault.azure.net"],
        },
    }


def _customer_managed() -> dict[str, Any]:
    return {
        "organization": {"id": ORGANIZATION, "name": "Acme Corp"},
        "mode": "CustomerManaged",
        "confirmation": "Acme Corp",
        "tenantRef": {"name": ORGANIZATION},
        "keyUri": f"https://{VAULT}.vault.azure.net/keys/{KEY}",
        "access": {"application": {}},
        "revocation": {"probeInterval": f"{PROBE_SECONDS}s", "outageGrace": f"{GRACE_SECONDS}s"},
        "backupRetention": "0h",
    }


async def _apply(stage: Stage, spec: dict[str, Any]) -> None:
    body = {
        "apiVersion": "cmk-operator.dev/v1alpha1",
        "kind": "OrganizationKey",
        "metadata": {"name": ORGANIZATION, "namespace": NAMESPACE},
        "spec": spec,
    }
    await stage.kubectl("apply", "-f", "-", stdin=json.dumps(body))


async def _until(stage: Stage, what: str, test: Callable[[dict[str, Any]], object], *, ask: bool = False) -> dict[str, Any]:
    return await stage.until(what, "orgkey", ORGANIZATION, test, NAMESPACE, ask=ask)


def _in_force_and_rewrapped(seen: dict[str, Any]) -> bool:
    counted = seen.get("dataKeys", {})
    kid = seen.get("accepted", {}).get("kid", "")
    return bool(
        kid.startswith("https://")
        and counted.get("revision") == seen["accepted"]["revision"]
        and counted.get("total", 0) > 0
        and {entry["kid"] for entry in counted.get("byKid", []) if entry["dataKeys"]} == {kid}
    )


def _safe(seen: dict[str, Any], kid: str) -> bool:
    return any(entry["safeToDisable"] == "True" for entry in seen.get("versions", []) if entry["kid"] == kid)


async def _until_encrypted(stage: Stage) -> bytes:
    """The key service hears of a new organization by its watch."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await encrypt(stage.cluster, stage.required_services, NOTE)
        except AssertionError as error:
            if time.monotonic() > deadline:
                raise StoryFailedError(f"expected: a ciphertext; seen: {error}") from error
            await asyncio.sleep(0.2)


async def _read(stage: Stage) -> bytes | dict[str, Any]:
    services = stage.required_services
    return await decrypt(stage.cluster, services, await asyncio.to_thread(services.read_row))


async def _until_read(stage: Stage, what: str, test: Callable[[bytes | dict[str, Any]], bool]) -> Any:  # noqa: ANN401 - the note or the problem
    deadline = time.monotonic() + PATIENCE
    while not test(found := await _read(stage)):
        if time.monotonic() > deadline:
            raise StoryFailedError(f"expected: {what}; seen: {found!r}")
        await asyncio.sleep(0.1)
    return found
