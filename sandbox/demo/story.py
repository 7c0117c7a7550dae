"""The story, step by step; each step checks what it claims and returns one line about what was observed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import HttpResponseError

from sandbox.administrators.snowflake import private_pem
from sandbox.demo.stage import (
    ACCOUNT,
    CUSTOMER_GROUP,
    DATABASE,
    DISK,
    DISK_ENCRYPTION_SET,
    KEY,
    MANIFESTS,
    OUTSIDER,
    RESOURCES,
    SNOWFLAKE_ACCOUNT,
    SNOWFLAKE_USER,
    SQL_SERVER,
    VAULT,
    Stage,
    StoryFailedError,
    condition,
    expect,
    is_true,
)
from sandbox.demo.steps import Story
from sandbox.kubernetes.servers import ClusterError

CONTENT = b"a customer's document"
STEPS = Story()
step = STEPS.step


@step("The provider prepares its identity, and storage, SQL, a disk and a Snowflake account")
async def prepare(stage: Stage) -> str:
    """Everything of the provider's side that exists before the first manifest."""
    identity = await stage.provider.prepare(issuer=stage.cluster.issuer)
    await stage.provider.create_resource_group(CUSTOMER_GROUP)
    stage.account_id = await stage.provider.create_storage_account(ACCOUNT, resource_group=CUSTOMER_GROUP)
    stage.outsider_id = await stage.provider.create_storage_account(OUTSIDER)
    server = await stage.provider.sql.create_server(SQL_SERVER, resource_group=CUSTOMER_GROUP)
    await stage.provider.sql.create_database(server, DATABASE)
    await stage.provider.compute.create_disk(DISK, resource_group=CUSTOMER_GROUP)
    await stage.snowflake.open_account(SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER)
    stage.identity = identity
    stage.variables |= {
        "APPLICATION_CLIENT_ID": identity.application_client_id,
        "MANAGED_IDENTITY_RESOURCE_ID": identity.managed_identity_resource_id,
        "MANAGED_IDENTITY_CLIENT_ID": identity.managed_identity_client_id,
        "CUSTOMER_VAULT": VAULT,
        "STORAGE_ACCOUNT": ACCOUNT,
        "SQL_SERVER": SQL_SERVER,
        "DISK_ENCRYPTION_SET": DISK_ENCRYPTION_SET,
        "DISK": DISK,
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "snowflake-key", "namespace": "fabrikam"},
        "stringData": {"privateKey": private_pem(stage.snowflake.key)},
    }
    await stage.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    targets = f"{ACCOUNT}, {OUTSIDER}, {SQL_SERVER}, {DISK} and Snowflake's {SNOWFLAKE_ACCOUNT}"
    return f"application {identity.application_name!r}, managed identity, {targets}"


@step("Manifests are applied before the customer has consented")
async def pending(stage: Stage) -> str:
    """Status tells what to hand to the customer, and Azure is not written to."""
    position = await stage.log_position()
    await stage.apply(*MANIFESTS)
    status = await stage.until(
        "consent Pending, with the application's name",
        "ctenant",
        "fabrikam",
        lambda seen: seen.get("consent", {}).get("state") == "Pending" and "displayName" in seen.get("application", {}),
        None,
    )
    identity = stage.identity
    assert identity is not None  # noqa: S101 - the step before set it
    expect(status["application"]["clientId"] == identity.application_client_id, "the application's id", status)
    expect(status["application"]["displayName"] == identity.application_name, "the application's name", status)
    url = status["consent"]["url"]
    expect(url.endswith(f"/adminconsent?client_id={identity.application_client_id}"), "the admin-consent URL", url)
    await stage.until(
        "KeyAccessible False/ConsentMissing",
        "encres",
        "documents",
        lambda seen: condition(seen, "KeyAccessible").get("reason") == "ConsentMissing",
    )
    expect(await stage.writes_to(ACCOUNT, position) == 0, "no write to the storage account")
    return f"Pending; consent URL {url}"


@step("The customer consents, creates vault and key, and grants the role")
async def granted(stage: Stage) -> str:
    """Within one interval the key is accessible and the account is on it."""
    identity, customer = stage.identity, stage.customer
    assert identity is not None  # noqa: S101 - an earlier step set it
    await customer.consent(identity.application_client_id)
    await customer.create_vault(VAULT)
    await customer.assign_role(
        await customer.principal_id(customer.client_id), "Key Vault Administrator", customer.vault_id(VAULT)
    )
    stage.notes["first version"] = (await stage.create_key(VAULT, KEY)).rsplit("/", 1)[-1]
    await customer.grant(identity.application_client_id, VAULT)
    began = time.monotonic()
    await stage.until("Accessible", "cmk", "fabrikam", lambda seen: seen.get("access", {}).get("state") == "Accessible")
    accessible = time.monotonic() - began
    await stage.until("Ready", "encres", "documents", lambda seen: is_true(seen, "Ready"))
    ready = time.monotonic() - began
    account = await stage.provider.storage_account(stage.account_id)
    encryption: dict[str, Any] = account["properties"]["encryption"]
    expect(encryption["keySource"] == "Microsoft.Keyvault", "keySource Microsoft.Keyvault", encryption)
    expect(encryption["keyvaultproperties"]["keyversion"] == "", "automatic rotation (an empty keyversion)", encryption)
    used = encryption["identity"]
    expect(used["federatedIdentityClientId"] == identity.application_client_id, "the federated client id", used)
    same_identity = used["userAssignedIdentity"].lower() == identity.managed_identity_resource_id.lower()
    expect(same_identity, "the user-assigned identity", used)
    for name in ("database-server", "disk-encryption", "data-disk"):
        await stage.until("Ready", "encres", name, lambda seen: is_true(seen, "Ready"))
    server = stage.provider.sql.server_id(SQL_SERVER, CUSTOMER_GROUP)
    protector = await stage.provider.sql.protector(server)
    expect(protector["serverKeyType"] == "AzureKeyVault", "the SQL server's protector in the vault", protector)
    disk = await stage.provider.compute.disk(stage.provider.compute.id_of("disks", DISK, CUSTOMER_GROUP))
    encryption = disk["properties"]["encryption"]
    expect(encryption.get("diskEncryptionSetId", "").endswith(DISK_ENCRYPTION_SET), "the disk on its set", encryption)
    everything = time.monotonic() - began
    return f"Accessible {accessible:.1f} s after the grant, the account Ready after {ready:.1f} s, SQL and disk after {everything:.1f} s"


@step("The customer lets Snowflake in, and its 72 hours pass")
async def snowflake(stage: Stage) -> str:
    """Snowflake comes as an application of its own: status says what to consent to and to grant, and how long to wait."""
    consent = await stage.until(
        "what the customer must consent to",
        "encres",
        "warehouse",
        lambda seen: seen.get("details", {}).get("consentUrl") and seen["details"].get("servicePrincipalName"),
        ask=True,
    )
    url = consent["details"]["consentUrl"]
    await stage.customer.consent_at(url)
    application = url.partition("client_id=")[2].partition("&")[0]
    await stage.customer.grant(application, VAULT, role="Key Vault Crypto User")
    waiting = await stage.until(
        "the waiting time",
        "encres",
        "warehouse",
        lambda seen: condition(seen, "Ready").get("reason") == "WaitingForActivation",
        ask=True,
    )
    await stage.control.advance(timedelta(hours=72).total_seconds())
    await stage.until("the activation", "encres", "warehouse", lambda seen: seen.get("operation"), ask=True)
    await stage.control.advance(timedelta(hours=24).total_seconds())
    await stage.until("Ready", "encres", "warehouse", lambda seen: is_true(seen, "Ready"), ask=True)
    expect(await stage.snowflake.read(SNOWFLAKE_ACCOUNT), "rows")
    return f"waited until {waiting['details']['waitsUntil']}, then activated and read"


@step("Event Hubs is refused, and every target is looked at")
async def targets(stage: Stage) -> str:
    """Storage, SQL, disks and Snowflake are on the customer's key; what can never be is refused with the reason."""
    for name in RESOURCES:
        status = await stage.until("Ready", "encres", name, lambda seen: is_true(seen, "Ready"))
        stage.protected.append(
            (
                status["target"]["kind"],
                status["target"]["name"],
                status["applied"]["version"][:8] + "…",
                condition(status, "KeyAccessible")["reason"],
                "True",
                condition(status, "Encrypted")["message"],
            )
        )
    try:
        await stage.apply("refused/event-hubs.yaml")
    except ClusterError as error:
        said = str(error).rpartition(": ")[2]
    else:
        raise StoryFailedError("expected: Event Hubs is refused; seen: it was admitted")
    expect("its own tenant" in said, "the reason", said)
    stage.protected.append(("EventHubsNamespace", "fabrikamtelemetry", "", "", "refused", said))
    return f"{len(RESOURCES)} resources of 5 kinds on the customer's key; Event Hubs: {said}"


@step("A blob is written and read")
async def blob(stage: Stage) -> str:
    """The data plane works under the customer's key."""
    await stage.provider.put_blob(ACCOUNT, "documents", "letter.txt", CONTENT)
    read = await stage.provider.get_blob(ACCOUNT, "documents", "letter.txt")
    expect(read == CONTENT, "the same bytes", read)
    return f"{len(read)} bytes, encrypted under key version {stage.notes['first version'][:8]}…"


@step("The customer creates a new key version")
async def rotated(stage: Stage) -> str:
    """Status shows from and to, and when the old version may be disabled; Azure follows on its daily check."""
    old = stage.notes["first version"]
    new = (await stage.customer.new_version(VAULT, KEY)).rsplit("/", 1)[-1]
    stage.notes["second version"] = new
    status = await stage.until("the new version active", "cmk", "fabrikam", lambda seen: seen.get("activeVersion") == new)
    rotation = status["rotations"][0]
    expect((rotation["from"], rotation["to"]) == (old, new), "the rotation from old to new", rotation)
    before = next(entry for entry in status["versions"] if entry["version"] == old)
    expect("safeToDisableAfter" not in before, "the old version not safe to disable while in use", before)
    await stage.until(
        "KeyCurrent False/AzureWillRotate",
        "encres",
        "documents",
        lambda seen: condition(seen, "KeyCurrent").get("reason") == "AzureWillRotate",
    )
    return f"{old[:8]}… to {new[:8]}…; in use until everything has moved: {', '.join(before['inUseBy'])}"


@step("The customer disables the old version too early")
async def too_early(stage: Stage) -> str:
    """Seen within one interval, with what it breaks by name; nothing else is taken for lost."""
    old = stage.notes["first version"]
    began = time.monotonic()
    await stage.customer.disable(VAULT, KEY, old)
    status = await stage.until(
        "the old version Disabled while in use",
        "cmk",
        "fabrikam",
        lambda seen: condition(seen, "KeyAccessible").get("reason") == "Disabled",
    )
    seconds = time.monotonic() - began
    message = str(condition(status, "KeyAccessible")["message"])
    expect(old in message and "still in use by" in message, "the version and who is on it", message)
    stopping = {name for stop in status["access"]["stops"] for name in stop["resources"]}
    expect("documents" in stopping, "what stops, by name", status["access"])
    await stage.customer.enable(VAULT, KEY, old)
    await stage.until("Ready", "cmk", "fabrikam", lambda seen: is_true(seen, "Ready"))
    return f"seen after {seconds:.1f} s: {message}"


@step("Azure's services follow, and Snowflake is rekeyed")
async def followed(stage: Stage) -> str:
    """Every target is on the new version, and status says from when the old one may be disabled."""
    old, new = stage.notes["first version"], stage.notes["second version"]
    # Snowflake never looks for a version by itself: the operator has it rekeyed.
    await stage.until("a rekey", "encres", "warehouse", lambda seen: seen.get("operation"))
    await stage.control.advance(timedelta(hours=25).total_seconds())
    for name in RESOURCES:
        await stage.until(
            "the new version",
            "encres",
            name,
            lambda seen: seen.get("applied", {}).get("version") == new and is_true(seen, "KeyCurrent"),
            ask=True,
        )
    status = await stage.until(
        "safeToDisableAfter of the old version",
        "cmk",
        "fabrikam",
        lambda seen: any("safeToDisableAfter" in entry for entry in seen["versions"] if entry["version"] == old),
    )
    after = next(entry for entry in status["versions"] if entry["version"] == old)
    safe = datetime.fromisoformat(after["safeToDisableAfter"])
    hours = (safe - datetime.now(UTC)).total_seconds() / 3600
    expect(hours > 23.9, "at least 24 hours from now", safe)
    return f"all {len(RESOURCES)} on {new[:8]}…; the old version may be disabled after {safe:%Y-%m-%d %H:%M}Z"


@step("The vault gives no answer")
async def outage(stage: Stage) -> str:
    """An outage is told as one, never as a revocation, and ends by itself."""
    began = time.monotonic()
    fault = await stage.control.inject(kind="status", host=f"{VAULT}.vault.azure.net", status=503, code="ServiceUnavailable")
    status = await stage.until(
        "VaultUnreachable", "cmk", "fabrikam", lambda seen: seen.get("access", {}).get("state") == "VaultUnreachable"
    )
    seconds = time.monotonic() - began
    accessible = condition(status, "KeyAccessible")
    expect(accessible["status"] == "Unknown", "KeyAccessible Unknown, not False", accessible)
    cut_off = status["access"].get("inaccessibleExpectedAt")
    expect(cut_off, "when data stops if the outage lasts: Azure's services cannot reach the vault either", status["access"])
    await stage.control.clear_fault(fault)
    await stage.until("Ready", "cmk", "fabrikam", lambda seen: is_true(seen, "Ready"))
    return f"seen after {seconds:.1f} s, as an outage: KeyAccessible is Unknown; data stops about {cut_off} if it lasts"


@step("The customer disables the key")
async def disabled(stage: Stage) -> str:
    """Status says what stops when; data really stops; the operator changes nothing."""
    position = await stage.log_position()
    began = time.monotonic()
    await stage.customer.disable(VAULT, KEY)
    status = await stage.until(
        "access Disabled", "cmk", "fabrikam", lambda seen: seen.get("access", {}).get("state") == "Disabled"
    )
    seen_after = time.monotonic() - began
    accessible = condition(status, "KeyAccessible")
    expect((accessible["status"], accessible["reason"]) == ("False", "Disabled"), "KeyAccessible False/Disabled", accessible)
    cut_off = status["access"].get("inaccessibleExpectedAt")
    expect(cut_off, "the time by which data becomes inaccessible", status["access"])
    await stage.until(
        "Ready False and Stalled", "encres", "documents", lambda seen: is_true(seen, "Stalled") and not is_true(seen, "Ready")
    )
    await stage.control.advance(timedelta(minutes=11).total_seconds())
    code = await _refused_read(stage)
    expect(await stage.writes_to(ACCOUNT, position) == 0, "no write to the storage account")
    return f"seen after {seen_after:.1f} s, cut-off told for {cut_off}; then the blob read fails with 403 {code}"


async def _refused_read(stage: Stage) -> str:
    try:
        await stage.provider.get_blob(ACCOUNT, "documents", "letter.txt")
    except HttpResponseError as error:
        expect(error.status_code == 403, "HTTP status 403", error.status_code)
        return str(error.error_code) if hasattr(error, "error_code") else str(error.reason)
    raise StoryFailedError("expected: the blob read fails while the key is disabled; seen: it was read")


@step("The customer enables the key again")
async def healed(stage: Stage) -> str:
    """Everything heals by itself."""
    began = time.monotonic()
    await stage.customer.enable(VAULT, KEY)
    await stage.until("Ready", "cmk", "fabrikam", lambda seen: is_true(seen, "Ready"))
    for name in RESOURCES:
        await stage.until("Ready", "encres", name, lambda seen: is_true(seen, "Ready"), ask=True)
    seconds = time.monotonic() - began
    read = await stage.provider.get_blob(ACCOUNT, "documents", "letter.txt")
    expect(read == CONTENT, "the same bytes", read)
    return f"Ready again after {seconds:.1f} s, and the blob is read"


@step("Another namespace and another scope try to use this tenant")
async def refused(stage: Stage) -> str:
    """Both are refused before any call to Azure, and told why."""
    position = await stage.log_position()
    await stage.apply("refused/other-namespace.yaml", "refused/other-scope.yaml", STORAGE_ACCOUNT=OUTSIDER)
    key = await stage.until(
        "NamespaceNotAllowed",
        "cmk",
        "borrowed",
        lambda seen: condition(seen, "Ready").get("reason") == "NamespaceNotAllowed",
        "adventure-works",
    )
    resource = await stage.until(
        "ScopeNotAllowed",
        "encres",
        "internal",
        lambda seen: condition(seen, "Ready").get("reason") == "ScopeNotAllowed",
    )
    expect(is_true(key, "Stalled") and is_true(resource, "Stalled"), "Stalled", (key, resource))
    expect(await stage.mentions_of(OUTSIDER, position) == 0, "no request about the other account")
    expect(await stage.mentions_of("borrowed", position) == 0, "no request about the other key")
    return str(condition(resource, "Ready")["message"])


@step("The manifests are deleted")
async def deleted(stage: Stage) -> str:
    """Under Orphan, the default, nothing changes in Azure."""
    position = await stage.log_position()
    await stage.kubectl("delete", "encres,cmk", "--all", "--namespace", "fabrikam")
    account = await stage.provider.storage_account(stage.account_id)
    source = account["properties"]["encryption"]["keySource"]
    expect(source == "Microsoft.Keyvault", "still on the customer's key", source)
    expect(await stage.writes_to(ACCOUNT, position) == 0, "no write to the storage account")
    hosts = await stage.control.refused_hosts()
    expect(not hosts, "no contact with any host but Azure's", hosts)
    return "the account is still on the customer's key, and no host but Azure's was contacted"
