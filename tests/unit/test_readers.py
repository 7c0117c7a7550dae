"""Every function that asks an outside service: whatever is answered, it gives a value or a listed failure, and nothing else.

The table `READERS` is complete: a test walks the code for functions that ask, and fails for one that no entry runs.
"""

from __future__ import annotations

import ast
import base64
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import cmk_operator
from cmk_operator.answer_gate import LONGEST_LINK, LONGEST_RETRY_AFTER, LONGEST_TEXT
from cmk_operator.audit.sink import AuditSink
from cmk_operator.azure.credentials import VaultInAnotherTenantError
from cmk_operator.azure.failures import EXPECTED_FAILURES
from cmk_operator.azure.identities import read_application, read_managed_identity, sign_in, sign_in_to_customer
from cmk_operator.azure.key_gate import WRAP_ALGORITHM, KeyGate, Purpose, RegisteredAccess
from cmk_operator.azure.key_vault import Wrapped, probe_key, probe_versions, round_trip_again, unwrap_again
from cmk_operator.azure.long_running import ask_after
from cmk_operator.azure.permissions import permissions_at
from cmk_operator.azure.registered_application import RegisteredApplication
from cmk_operator.azure.registrar import RegistrarClient
from cmk_operator.azure.vault_list import VaultList, _list_keys
from cmk_operator.azure.vault_reader import ReadVault, VaultReader
from cmk_operator.core.faults.fault import Fault
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.core.organization.credential import CertificateCredential, ClientSecret
from cmk_operator.core.registration.plan import (
    CreateManagedIdentity,
    DesiredRegistration,
    MarkApplication,
    ServiceAccount,
    TrustAtApplication,
    TrustAtManagedIdentity,
    UpsertApplication,
)
from cmk_operator.providers.disk.encryption_set import ChangeSet, CreateSet
from cmk_operator.providers.disk.provider import make_providers as disk_providers
from cmk_operator.providers.protocol import Plan, Target
from cmk_operator.providers.registry import make_user_lists
from cmk_operator.providers.snowflake.client import SnowflakeClients
from cmk_operator.providers.snowflake.provider import SnowflakeProvider
from cmk_operator.providers.snowflake.requests import Activate, Deactivate, Register, Rekey
from cmk_operator.providers.sql.client import SqlClient
from cmk_operator.providers.sql.provider import make_providers as sql_providers
from cmk_operator.providers.sql.requests import (
    AddServerKey,
    RevalidateDatabase,
    RevalidateServer,
    RevertDatabase,
    SetDatabaseKey,
    SetProtector,
    SetServerIdentity,
    SetServiceManagedProtector,
)
from cmk_operator.providers.storage.accounts import StorageAccounts
from cmk_operator.providers.storage.provider import make_providers as storage_providers
from cmk_operator.providers.user_lists import Details, read_list
from cmk_operator.sinks.receivers import Message, Receivers
from tests.certificates import Made
from tests.unit.internet import CHALLENGE, TOKEN, Asked, Internet, Raw, answer, usual_token
from tests.unit.samples import APPLICATION, CUSTOMER, GROUP, IDENTITY, NOW, SUBSCRIPTION, V1, V2
from tests.unit.test_answer_gate import (
    ELSEWHERE,
    ENTRA,
    GRAPH,
    KEY,
    MANAGEMENT,
    NOT_READABLE,
    SNOWFLAKE,
    SNOWFLAKE_ACCOUNT,
    VAULT,
    denied,
    internet,
    session,
)
from tests.unit.test_management import ARM, CHAIN
from tests.unit.test_typed_answers import (
    ACCOUNT,
    ACCOUNT_BODY,
    DISK,
    DISK_BODY,
    PATCH,
    SET,
    SET_BODY,
    SET_PATCH,
    SET_PUT,
    places,
    with_odd,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from types import FrameType

    from cmk_operator.azure.key_gate import VaultAccess
    from cmk_operator.azure.session import AzureSession

__all__ = ["internet", "session"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that runs on is waited for hardly at all."""
    monkeypatch.setattr("cmk_operator.providers.snowflake.client.PAUSE", 0.0)
    monkeypatch.setattr("cmk_operator.providers.snowflake.client.PATIENCE", 0.05)


SERVER = ArmId(f"{GROUP}/providers/Microsoft.Sql/servers/server")
DATABASE = ArmId(f"{SERVER}/databases/data")
VERSION = KEY.key_uri.at(V1)
WRAPPED = base64.urlsafe_b64encode(b"w" * 32).rstrip(b"=").decode()
KEY_BODY: dict[str, Any] = {
    "key": {"kid": f"{KEY.key_uri}/{V1}", "kty": "RSA", "n": "AQAB", "e": "AQAB", "key_ops": ["wrapKey", "unwrapKey"]},
    "attributes": {"enabled": True, "exp": 4102444800, "created": 1, "recoveryLevel": "Recoverable", "recoverableDays": 90},
    "kid": f"{KEY.key_uri}/{V1}",
    "value": WRAPPED,
}
DELETED_BODY: dict[str, Any] = {
    **KEY_BODY,
    "recoveryId": f"https://{VAULT}/deletedkeys/storage",
    "scheduledPurgeDate": 4102444800,
}
APPLICATION_BODY: dict[str, Any] = {
    "id": "1",
    "appId": APPLICATION,
    "displayName": "x",
    "signInAudience": "AzureADMultipleOrgs",
    "uniqueName": "cmk-operator-x",
    "name": "f",
    "value": [
        {"id": "1", "appId": APPLICATION, "name": "f", "issuer": "i", "subject": "s", "audiences": ["a"], "uniqueName": None}
    ],
}
IDENTITY_BODY: dict[str, Any] = {
    "id": IDENTITY,
    "properties": {"clientId": "1", "principalId": "2"},
    "value": [{"name": "f", "properties": {"issuer": "i", "subject": "s", "audiences": ["a"]}}],
}
VAULT_BODY: dict[str, Any] = {
    "value": [
        {
            "id": f"{GROUP}/providers/Microsoft.KeyVault/vaults/acme",
            "subscriptionId": SUBSCRIPTION,
            "properties": {"level": "x"},
        }
    ],
    "id": f"{GROUP}/providers/Microsoft.KeyVault/vaults/acme",
    "properties": {"vaultUri": f"https://{VAULT}/", "networkAcls": {"bypass": "None"}, "enablePurgeProtection": True},
}
SERVER_BODY: dict[str, Any] = {
    "id": str(SERVER),
    "name": "server",
    "location": "westeurope",
    "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {"clientId": "x"}}},
    "properties": {
        "fullyQualifiedDomainName": "one.database.windows.net",
        "primaryUserAssignedIdentityId": IDENTITY,
        "federatedClientId": APPLICATION,
    },
}
PROTECTOR_BODY: dict[str, Any] = {
    "id": f"{SERVER}/encryptionProtector/current",
    "properties": {
        "serverKeyName": f"acme_storage_{V1}",
        "serverKeyType": "AzureKeyVault",
        "uri": f"https://{VAULT}/keys/storage/{V1}",
        "autoRotationEnabled": True,
        "keyVersion": V1,
    },
}
DATABASE_BODY: dict[str, Any] = {
    "id": str(DATABASE),
    "name": "data",
    "location": "westeurope",
    "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {"clientId": "x"}}},
    "properties": {
        "encryptionProtector": f"https://{VAULT}/keys/storage/{V1}",
        "encryptionProtectorAutoRotation": True,
        "federatedClientId": APPLICATION,
        "status": "Inaccessible",
    },
}
PARTNER = f"{GROUP}/providers/Microsoft.Sql/servers/other"
SQL: dict[str, Any] = {
    "/failoverGroups": {
        "value": [{"id": "/x", "properties": {"replicationRole": "Primary", "partnerServers": [{"id": PARTNER}]}}]
    },
    "/replicationLinks": {
        "value": [{"id": "/x", "properties": {"partnerDatabaseId": f"{PARTNER}/databases/data", "role": "Primary"}}]
    },
    "/keys": {"value": [{"id": f"{SERVER}/keys/acme_storage_{V1}", "name": f"acme_storage_{V1}", "properties": {}}]},
    "/inaccessibleDatabases": {"value": [DATABASE_BODY]},
    "/encryptionProtector": PROTECTOR_BODY,
    "/transparentDataEncryption": {"properties": {"state": "Enabled"}},
    "/databases/data": DATABASE_BODY,
    "/databases?": {"value": [DATABASE_BODY]},
    "/servers?": {"value": [SERVER_BODY]},
    "/servers/": SERVER_BODY,
}
STORAGE: dict[str, Any] = {
    "/encryptionScopes": {"value": [{"id": f"{ACCOUNT}/encryptionScopes/x", "properties": {"source": "Microsoft.KeyVault"}}]},
    "/storageAccounts?": {"value": [ACCOUNT_BODY]},
    "/storageAccounts/": ACCOUNT_BODY,
}
COMPUTE: dict[str, Any] = {
    "/diskEncryptionSets?": {"value": [SET_BODY]},
    "/disks?": {"value": [DISK_BODY]},
    "/diskEncryptionSets/": SET_BODY,
    "/disks/": DISK_BODY,
}
PERMISSIONS: dict[str, Any] = {"": {"value": [{"actions": ["*"], "notActions": []}]}}
USERS: dict[str, Any] = {
    "/backupShortTermRetentionPolicies/": {"properties": {"retentionDays": 7}},
    "/backupLongTermRetentionPolicies/": {"properties": {"weeklyRetention": "P1W", "yearlyRetention": "P1Y"}},
    "/restorableDroppedDatabases": {"value": [{"id": f"{SERVER}/restorableDroppedDatabases/x"}]},
    **SQL,
    "/keys": {
        "value": [
            {
                "id": f"{SERVER}/keys/acme_storage_{V2}",
                "properties": {"serverKeyType": "AzureKeyVault", "uri": f"https://{VAULT}/keys/storage/{V2}"},
            }
        ]
    },
    "/databases/data?": {
        **DATABASE_BODY,
        "properties": {**DATABASE_BODY["properties"], "keys": {f"https://{VAULT}/keys/storage/{V2}": {}}},
    },
    "/databases?": {"value": [DATABASE_BODY]},
    **STORAGE,
    **COMPUTE,
}
STATEMENT_BODY = {"data": [[f"The key https://{VAULT}/keys/storage is registered"]], "statementHandle": "1" * 32}


async def _ended(*awaited: Awaitable[object]) -> tuple[object, ...]:
    """The result of each call, or None for one that raised a listed failure."""
    found: list[object] = []
    for one in awaited:
        result: object = None
        with suppress(*EXPECTED_FAILURES):
            result = await one
        found.append(result)
    return tuple(found)


async def read_storage(session: AzureSession) -> object:
    (provider,) = storage_providers(session, 60.0)
    target = Target(ACCOUNT, None, lambda _: True)
    return await _ended(
        provider.observe(CHAIN, target, max_age=60.0),
        provider.observe_before_write(CHAIN, target),
        provider.apply(CHAIN, target, Plan(PATCH, (), "move")),
        provider.observe(CHAIN, target, max_age=0.0),
        StorageAccounts(session).parts(CHAIN, ACCOUNT),
    )


async def read_sets(session: AzureSession) -> object:
    provider, _ = disk_providers(session, 60.0)
    target = Target(SET, None, lambda _: True)
    return await _ended(
        provider.observe(CHAIN, target, max_age=60.0),
        provider.observe_before_write(CHAIN, target),
        provider.apply(CHAIN, target, Plan(CreateSet(SET_PUT), (), "make")),
        provider.apply(CHAIN, target, Plan(ChangeSet(SET_PATCH), (), "move")),
    )


async def read_disks(session: AzureSession) -> object:
    _, provider = disk_providers(session, 60.0)
    target = Target(DISK, None, lambda _: True)
    return await _ended(
        provider.observe(CHAIN, target, max_age=60.0),
        provider.observe_before_write(CHAIN, target),
        provider.apply(CHAIN, target, Plan({"properties": {}}, (), "move")),
    )


async def read_servers(session: AzureSession) -> object:
    provider, _ = sql_providers(session, 60.0)
    target, client = Target(SERVER, None, lambda _: True), SqlClient(session)
    server_id, identity = ArmId(str(SERVER)), ArmId(IDENTITY)
    return await _ended(
        provider.observe(CHAIN, target, max_age=60.0),
        provider.observe_before_write(CHAIN, target),
        client.linked(CHAIN, SERVER),
        client.known_keys(CHAIN, SERVER),
        provider.apply(CHAIN, target, Plan(RevalidateServer(server_id), (), "move")),
        client.send(CHAIN, SetServerIdentity(server_id, "UserAssigned", (identity,), identity, "x")),
        client.send(CHAIN, AddServerKey(server_id, "acme_storage_1", VERSION)),
        client.send(CHAIN, SetProtector(server_id, "acme_storage_1", follow_latest=True)),
        client.send(CHAIN, SetServiceManagedProtector(server_id)),
    )


async def read_databases(session: AzureSession) -> object:
    _, provider = sql_providers(session, 60.0)
    target, identity, client = Target(DATABASE, None, lambda _: True), ArmId(IDENTITY), SqlClient(session)
    moved = SetDatabaseKey(DATABASE, identity, (), "x", VERSION, follow_latest=True)
    return await _ended(
        provider.observe(CHAIN, target, max_age=60.0),
        provider.observe_before_write(CHAIN, target),
        provider.apply(CHAIN, target, Plan(moved, (), "move")),
        client.send(CHAIN, RevalidateDatabase(DATABASE)),
        client.send(CHAIN, RevertDatabase(DATABASE)),
        client.encrypted(CHAIN, DATABASE),
    )


async def read_snowflake(session: AzureSession) -> object:
    provider, client = SnowflakeProvider(session, 60.0), SnowflakeClients(session).of(SNOWFLAKE_ACCOUNT)
    requests = (Register(VERSION, pinned=False), Activate(VERSION, pinned=False), Rekey(VERSION, pinned=False), Deactivate())
    return await _ended(
        provider.observe(CHAIN, SNOWFLAKE_ACCOUNT, max_age=60.0),
        client.ask("SELECT 1") if not isinstance(client, Fault) and hasattr(client, "ask") else _nothing(),
        *(provider.apply(CHAIN, SNOWFLAKE_ACCOUNT, Plan(request, (), "move")) for request in requests),
    )


async def _nothing() -> None:
    return None


async def read_key_users(session: AzureSession) -> object:
    details = Details(lambda: NOW, NOW, NOW)
    return tuple(
        [await read_list(one, CHAIN, SUBSCRIPTION, frozenset(), details) for one in make_user_lists(session)]
    )  # every list of every kind


async def read_registration(session: AzureSession) -> object:
    client = RegistrarClient(session, CHAIN)
    account = ServiceAccount("https://issuer", "system:serviceaccount:a:b", ("api://AzureADTokenExchange",))
    identity = ArmId(IDENTITY)
    found: list[object] = []
    for known in (None, APPLICATION):
        desired = DesiredRegistration(
            "x", APPLICATION, "x", known, None, identity, "westeurope", "https://i", "a", account, by_service_account=False
        )
        found.append(await client.observe(desired))
        trust = desired.trust_in_service_account
        steps = (
            UpsertApplication("cmk-operator-x", "x"),
            MarkApplication("1", "cmk-operator-x"),
            TrustAtApplication("1", trust),
            CreateManagedIdentity(identity, "westeurope"),
            TrustAtManagedIdentity(identity, trust),
        )
        found += [await client.take(desired, step) for step in steps]
    return tuple(found)


async def read_key(session: AzureSession) -> object:
    value = {V1: Wrapped(b"w" * 32, WRAPPED)}
    with suppress(VaultInAnotherTenantError):
        return (
            (await probe_key(session, KEY, (V2,), NOW, denied)).probe,
            (await probe_versions(session, KEY, (V1,), NOW)).probe,
            await unwrap_again(session, KEY, value),
            len(again) if isinstance(again := await round_trip_again(session, KEY, (V1,)), dict) else again,
        )
    return None


async def read_pinned_key(session: AzureSession) -> object:
    pinned = type(KEY)(CHAIN, CUSTOMER, VERSION)
    return (await probe_key(session, pinned, (), NOW, denied)).probe


async def read_through(session: AzureSession, access: VaultAccess) -> object:
    gate = KeyGate(session, access)
    return (
        await gate.wrap(KEY.key_uri, b"w" * 64, purpose=Purpose.PROBE),
        await gate.unwrap(VERSION, WRAP_ALGORITHM, b"w" * 256, purpose=Purpose.PROBE),
        await gate.read(KEY.key_uri),
        await gate.is_purged(VERSION),
        await gate.sign_in(),
    )


OWN_REGISTRATION = RegisteredApplication(
    CHAIN.cloud, CUSTOMER, APPLICATION, (ClientSecret("x"), CertificateCredential(Made().pem))
)
GATE_BODY = {"kid": str(VERSION), "value": base64.urlsafe_b64encode(b"w" * 256).rstrip(b"=").decode()}


async def read_receivers(_: AzureSession) -> object:
    receivers = Receivers()
    try:
        said = await receivers.send(f"https://{ELSEWHERE}/", Message("1", "application/json", "{}"), None)
    finally:
        await receivers.close()
    async with AuditSink(f"https://{ELSEWHERE}/") as sink:
        return said, await sink.send(["{}"])


@dataclass(frozen=True)
class Reader:
    """One or more functions that ask `host`, and the usual answers by a part of the path; the first that fits is given."""

    host: str
    read: Callable[[AzureSession], Awaitable[object]]
    usual: Mapping[str, Any]
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def says(self, bodies: Mapping[str, Any], make: Callable[[Any], Raw]) -> Callable[[Asked], Raw]:
        def said(asked: Asked) -> Raw:
            return make(next((body for part, body in bodies.items() if part in asked.path), {}))

        return said


READERS: dict[str, Reader] = {
    "key": Reader(VAULT, read_key, {"/deletedkeys/": DELETED_BODY, "": KEY_BODY}),
    "deleted key": Reader(
        VAULT, read_pinned_key, {"/deletedkeys/": DELETED_BODY, "": (404, {"error": {"code": "KeyNotFound"}})}
    ),
    "keys": Reader(
        VAULT,
        lambda session: _list_keys(session, VaultList(session, CHAIN, CUSTOMER, f"https://{VAULT}", session.monotonic), 2),
        {"": {"value": [{"kid": str(KEY.key_uri), "attributes": {"enabled": True, "nbf": 1}}], "nextLink": None}},
    ),
    "token": Reader(ENTRA, lambda session: sign_in(session, CHAIN), {"": TOKEN}),
    "token of a customer": Reader(ENTRA, lambda session: sign_in_to_customer(session, CHAIN, CUSTOMER), {"": TOKEN}),
    "application": Reader(GRAPH, lambda session: read_application(session, CHAIN), {"": APPLICATION_BODY}),
    "registered application": Reader(GRAPH, read_registration, {"": APPLICATION_BODY}, {MANAGEMENT: {"": IDENTITY_BODY}}),
    "application to register": Reader(
        GRAPH,
        read_registration,
        {
            "(uniqueName=": (404, {"error": {"code": "Request_ResourceNotFound", "message": "x"}}),
            "(appId=": (404, {"error": {"code": "Request_ResourceNotFound", "message": "x"}}),
            "": APPLICATION_BODY,
        },
        {MANAGEMENT: {"": IDENTITY_BODY}},
    ),
    "registered identity": Reader(MANAGEMENT, read_registration, {"": IDENTITY_BODY}, {GRAPH: {"": APPLICATION_BODY}}),
    "identity": Reader(MANAGEMENT, lambda session: read_managed_identity(session, CHAIN, IDENTITY), {"": IDENTITY_BODY}),
    "permissions": Reader(MANAGEMENT, lambda session: permissions_at(session, CHAIN, ACCOUNT), PERMISSIONS),
    "vault": Reader(
        MANAGEMENT,
        lambda session: VaultReader(session, 60.0).read(ReadVault(CHAIN, CUSTOMER, VAULT), 0.0),
        {"": VAULT_BODY},
    ),
    "operation": Reader(
        MANAGEMENT,
        lambda session: ask_after(session, CHAIN, f"{ARM}/subscriptions/{SUBSCRIPTION}/operations/1"),
        {"": {"status": "Failed", "error": {"code": "x", "message": "y"}}},
    ),
    "storage": Reader(MANAGEMENT, read_storage, STORAGE),
    "sets": Reader(MANAGEMENT, read_sets, COMPUTE),
    "disks": Reader(MANAGEMENT, read_disks, COMPUTE),
    "servers": Reader(MANAGEMENT, read_servers, SQL),
    "databases": Reader(MANAGEMENT, read_databases, SQL),
    "users of keys": Reader(MANAGEMENT, read_key_users, USERS),
    "snowflake": Reader(SNOWFLAKE, read_snowflake, {"": STATEMENT_BODY}, {VAULT: {"": KEY_BODY}}),
    "a statement that runs on": Reader(
        SNOWFLAKE,
        read_snowflake,
        {"?requestId": (202, {"statementHandle": "1" * 32}), "": STATEMENT_BODY},
        {VAULT: {"": KEY_BODY}},
    ),
    "the vault of a Snowflake account": Reader(VAULT, read_snowflake, {"": KEY_BODY}, {SNOWFLAKE: {"": STATEMENT_BODY}}),
    "a key of an own registration": Reader(
        VAULT, lambda session: read_through(session, RegisteredAccess(OWN_REGISTRATION)), {"": GATE_BODY}
    ),
    "token of an own registration": Reader(
        ENTRA,
        lambda session: read_through(session, RegisteredAccess(OWN_REGISTRATION)),
        {"": TOKEN},
        {VAULT: {"": GATE_BODY}},
    ),
    "receivers": Reader(ELSEWHERE, read_receivers, {"": {}}),
}


def said(body: Any, status: int | None = None, headers: Mapping[str, str] | None = None) -> Raw:
    """A body, or a pair of a status and a body."""
    own, content = body if isinstance(body, tuple) else (200, body)
    return answer(content, own if status is None else status, headers)


def prepared(internet: Internet, reader: Reader) -> None:
    """Let all hosts of a reader answer as usual; a vault asks for a token first."""
    challenge = {"WWW-Authenticate": CHALLENGE.format(tenant=CUSTOMER)}

    def guarded(bodies: Mapping[str, Any]) -> Callable[[Asked], Raw]:
        usual = reader.says(bodies, said)
        return lambda asked: usual(asked) if "authorization" in asked.headers else answer({}, 401, challenge)

    internet.say(ENTRA, usual_token)
    for host, bodies in {reader.host: reader.usual, **reader.others}.items():
        internet.say(host, guarded(bodies) if host == VAULT else reader.says(bodies, said))


PRODUCT: Final = Path(cmk_operator.__file__).parent
ASKS: Final = frozenset(
    {"call", "send", "pages", "entries_of", "pages_of", "typed_answer", "get_key", "get_deleted_key", "get_token", "post"}
    | {"send_request", "management", "resource_manager", "customer_resource_manager", "rest"}
)
"""Calls that ask a service, or give the client to do so."""
BELOW_THE_READERS: Final = frozenset({"AzureSession._pipeline"})


def functions_that_ask() -> Iterator[tuple[Path, str]]:
    files = [*PRODUCT.glob("azure/*.py"), *PRODUCT.glob("providers/**/*.py"), *PRODUCT.glob("sinks/*.py")]
    for file in [*files, PRODUCT / "audit" / "sink.py"]:
        for name in _asking(ast.parse(file.read_text(encoding="utf-8")), ""):
            yield file, name


def _asking(node: ast.AST, within: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            called = (one.func for one in _own(child) if isinstance(one, ast.Call))
            if {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in called} & ASKS:
                yield within + child.name
            yield from _asking(child, f"{within}{child.name}.<locals>.")
        else:
            yield from _asking(child, f"{within}{child.name}." if isinstance(child, ast.ClassDef) else within)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What a function itself does, without the functions in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _own(child)


async def test_every_function_that_asks_is_run_by_an_entry_of_the_table(internet: Internet, session: AzureSession) -> None:
    ran: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            ran.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    for reader in READERS.values():
        prepared(internet, reader)
        sys.setprofile(note)
        try:
            await reader.read(session)
        finally:
            sys.setprofile(None)
    wanted = {(str(file), name) for file, name in functions_that_ask() if name not in BELOW_THE_READERS}
    assert len(wanted) > 40
    assert wanted - ran == set(), "add an entry to READERS that runs these functions"


LONG: Final = "x" * (3 * LONGEST_TEXT)
HOSTILE: Final = "\x1b[31m\u202e\x9b\r\n\ufeff"
ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 7, -1, -62135596800, 253402300799, 1 << 62, 0.5, "", "text", "\ud800", "\0", "https://["),
    *(f"https://{ELSEWHERE}/x", HOSTILE, LONG, {"id": None}, [[]]),
)
ODD: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(ODD_VALUES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "value", "kid"]), inner, max_size=2),
    max_leaves=4,
)
ODD_HEADERS: Final[tuple[Mapping[str, str], ...]] = (
    {},
    {"Retry-After": "100000000", "x-ms-request-id": "\xff" * 2000, "x-ms-keyvault-region": "west\xe9"},
    {"Retry-After": "-5", "Azure-AsyncOperation": f"https://{ELSEWHERE}/operations/1"},
    {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Location": f"https://{ELSEWHERE}/operations/1"},
    {"Retry-After": "soon", "x-ms-retry-after-ms": "1e400", "Content-Type": "text/html; charset=rot13"},
)


def check(result: object) -> None:
    """Nothing of what was said is over-long or unprintable, and no wait is over-long."""
    shown = repr(result)
    for mark in ("\\x1b", "\\u202e", "\\x9b", "\\r", "\\ufeff", "\\ud8"):
        assert mark not in shown
    assert "x" * (LONGEST_TEXT + 1) not in shown
    for part in shown.split("retry_after=")[1:]:
        text = part.partition(",")[0].rstrip(")")
        assert text == "None" or 0 <= float(text) <= LONGEST_RETRY_AFTER


async def played(internet: Internet, session: AzureSession, reader: Reader) -> None:
    result: object = None
    assert session._budget is not None  # noqa: SLF001
    session._budget._buckets.clear()  # noqa: SLF001 - an earlier answer may have closed one, or its burst be spent
    with suppress(*EXPECTED_FAILURES):
        result = await reader.read(session)
    check(result)
    assert reader.host == ELSEWHERE or not internet.of(ELSEWHERE)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=8, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
async def test_any_json_is_a_value_or_a_listed_failure(
    internet: Internet, session: AzureSession, name: str, data: st.DataObject
) -> None:
    reader = READERS[name]
    prepared(internet, reader)
    part = data.draw(st.sampled_from(list(reader.usual)))
    odd: Any = reader.usual[part]
    own, odd = odd if isinstance(odd, tuple) else (200, odd)
    for _ in range(data.draw(st.integers(0, 2))):
        odd = with_odd(odd, data.draw(st.sampled_from(places(odd))), data.draw(ODD))
    status, headers = data.draw(st.sampled_from([own, own, 202, 400, 403, 404, 429])), data.draw(st.sampled_from(ODD_HEADERS))
    internet.say(reader.host, reader.says({**reader.usual, part: (status, odd)}, lambda body: said(body, None, headers)))
    await played(internet, session, reader)


MOST_PLACES: Final = 12
BOUNDARIES: Final[tuple[Any, ...]] = (
    *ODD_VALUES,
    *({"value": None}, {"value": 5}, {"value": [None]}, {"value": [{}]}, {"value": [{"id": "/x", "properties": None}]}),
)


@pytest.mark.parametrize("name", READERS)
async def test_fields_of_each_usual_answer_may_be_odd(internet: Internet, session: AzureSession, name: str) -> None:
    """At most a dozen fields of each answer, each once with one of the odd values."""
    reader, count = READERS[name], 0
    for part, usual in reader.usual.items():
        own, body = usual if isinstance(usual, tuple) else (200, usual)
        step = 1 + len(places(body)) // MOST_PLACES
        for place in places(body)[::step]:
            odd = BOUNDARIES[count % len(BOUNDARIES)]
            count += 1
            prepared(internet, reader)
            changed = with_odd(body, place, odd)
            internet.say(reader.host, reader.says({**reader.usual, part: (own, changed)}, said))
            await played(internet, session, reader)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("status", [200, 403])
async def test_a_body_that_is_no_object_is_a_listed_failure(
    internet: Internet, session: AzureSession, name: str, status: int
) -> None:
    reader, first = READERS[name], list(READERS).index(name) % 3
    for body in list(NOT_READABLE.values())[first::3]:
        prepared(internet, reader)
        internet.say(reader.host, answer(body, status, {"Content-Type": "text/html"}))
        await played(internet, session, reader)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=5, suppress_health_check=list(HealthCheck), deadline=None)
@given(content=st.binary(), cut=st.integers(0, 400), at=st.floats(0, 1))
@example(content=b"", cut=0, at=0.5)
async def test_any_bytes_are_a_listed_failure(
    internet: Internet, session: AzureSession, name: str, content: bytes, cut: int, at: float
) -> None:
    """Random bytes in the middle of a usual answer, or in its place."""
    reader = READERS[name]
    prepared(internet, reader)

    def spoilt(body: Any) -> Raw:
        usual = json.dumps(body[1] if isinstance(body, tuple) else body).encode()
        place = int(len(usual) * at)
        return answer(usual[:place] + content + usual[place + cut :])

    internet.say(reader.host, reader.says(reader.usual, spoilt))
    await played(internet, session, reader)


def test_only_a_link_may_be_longer_than_a_text() -> None:
    assert LONGEST_TEXT < LONGEST_LINK
    assert parse_key_uri(str(VERSION)) == VERSION
