"""Parts of the console without a server: who a person is, what a form asks for, sessions and limits, and which id_token is believed."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from cmk_keyservice.console.changes import Draft, TenantChoice, Wanted, wanted
from cmk_keyservice.console.openid import Client, OpenId, SignInError, _verified, challenge_of
from cmk_keyservice.console.people import Person, Role, person_of, role_of
from cmk_keyservice.console.sessions import PENDING_SECONDS, SESSION_SECONDS, RateLimit, Sessions
from cmk_keyservice.settings import ConsoleSettings
from cmk_operator.answer_gate import LARGEST_ANSWER, open_session
from cmk_operator.api.organization_key import OrganizationKeySpec

NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
TENANT, CLIENT = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
KEY = "https://contoso.vault.azure.net/keys/orders"
CHOICE = TenantChoice("contoso", TENANT, "https://login.microsoftonline.com", "https://issuer.example", CLIENT)
ISSUED = Client("https://issuer.example", CLIENT, "https://page.example/back", {})
SIGNER, STRANGER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
KEYS = {
    "keys": [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True), "kid": "k1", "use": "sig", "alg": "RS256"}
    ]
}


def spec(**changes: Any) -> OrganizationKeySpec:
    return OrganizationKeySpec.model_validate({"organization": {"id": "acme", "name": "Acme"}, **changes})


@pytest.mark.parametrize(
    ("members", "role"),
    [
        ({}, Role.NONE),
        ({"administrators": [{"subject": "s"}]}, Role.ADMINISTRATOR),
        ({"administrators": [{"group": "g"}]}, Role.ADMINISTRATOR),
        ({"administrators": [{"subject": "g"}, {"group": "s"}]}, Role.NONE),
        ({"viewers": [{"group": "g"}], "administrators": []}, Role.VIEWER),
        ({"viewers": [{"group": "g"}], "administrators": [{"subject": "s"}]}, Role.ADMINISTRATOR),
        ({"administrators": [{}]}, Role.NONE),
        ({"administrators": [{"subject": "Name"}]}, Role.NONE),
    ],
    ids=str,
)
def test_a_role_comes_from_the_subject_or_a_group_and_never_from_a_name(members: dict[str, Any], role: Role) -> None:
    assert role_of("ns/acme", spec(**members), Person("s", "Name", frozenset({"g"}))) is role


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({"sub": "s", "groups": ["g", 1]}, Person("s", "s", frozenset({"g"}))),
        ({"sub": "s", "preferred_username": "a\nb\u202ec"}, Person("s", "a b c", frozenset())),
        ({"sub": "s", "groups": "admins"}, Person("s", "s", frozenset())),
        ({"oid": "s"}, None),
        ({"sub": ""}, None),
        ({"sub": "break-glass:acme"}, None),
        ({"sub": "s", "_claim_names": {"groups": "src1"}}, None),
    ],
    ids=str,
)
def test_a_person_is_who_the_claims_name_or_nobody(claims: dict[str, Any], found: Person | None) -> None:
    person = person_of(claims, "sub")
    assert person == found if found is not None else isinstance(person, str)


def token(key: Any = SIGNER, algorithm: str = "RS256", kid: str | None = "k1", **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": ISSUED.issuer, "aud": CLIENT, "sub": "s", "iat": now, "exp": now + 600, "nonce": "n", **changes}
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


def test_an_id_token_of_the_issuer_for_this_sign_in_is_believed() -> None:
    assert _verified(token(), KEYS, ISSUED, "n")["sub"] == "s"


@pytest.mark.parametrize(
    "forged",
    [
        token(STRANGER),
        token("shared secret of at least 32 bytes!", "HS256"),
        token("", "none"),
        token(kid="k2"),
        token(kid=None),
        token(iss="https://issuer.example/other"),
        token(aud="other"),
        token(aud=[CLIENT, "other"]),
        token(exp=int(time.time()) - 600),
        token(exp=None),
        token(nbf=int(time.time()) + 600),
        token(nonce="other"),
        token(nonce=None),
        token(sub=None),
        "no token",
    ],
)
def test_no_other_id_token_is(forged: str) -> None:
    with pytest.raises(SignInError):
        _verified(forged, KEYS, ISSUED, "n")


@pytest.mark.parametrize(
    ("size", "begins"),
    [(600_000, "https://issuer.example/authorize?"), (LARGEST_ANSWER + 1, "The identity provider gave no usable")],
)
async def test_an_answer_is_read_whole_in_however_many_pieces_it_comes_and_no_further_than_the_bound(
    size: int, begins: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        endpoints = dict.fromkeys(("authorization_endpoint", "token_endpoint", "jwks_uri"), "https://issuer.example/authorize")
        body = json.dumps({"issuer": issuer, **endpoints}).encode().rjust(size)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    issuer = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, open_session(connections=1) as session:
        client = Client(issuer, CLIENT, "https://page.example/back", {})
        try:
            found = await OpenId(session).authorization_url(client, state="s", nonce="n", verifier="v")
        except SignInError as error:
            found = str(error)
    assert found.startswith(begins)


def test_the_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


ASKED = Draft(mode="CustomerManaged", confirmation="Acme", tenant="contoso", key_uri=KEY)
OWN = Draft(mode="CustomerManaged", confirmation="Acme", tenant="contoso", key_uri=KEY, method="registration", client_id=CLIENT)
IN_USE = {
    "mode": "CustomerManaged",
    "confirmation": "Acme",
    "tenantRef": {"name": "contoso"},
    "keyUri": KEY,
    "access": {"application": {}},
}
REGISTERED = {
    **IN_USE,
    "access": {"registration": {"clientId": CLIENT, "credentials": [{"secretRef": {"name": "acme-console", "key": "old"}}]}},
}


@pytest.mark.parametrize(
    ("draft", "before", "proven", "word"),
    [
        (ASKED, {}, {TENANT}, None),
        (ASKED, {}, set(), "Sign in at the tenant"),
        (ASKED, {}, {CLIENT}, "Sign in at the tenant"),
        (ASKED, IN_USE, set(), None),
        (ASKED, REGISTERED, set(), "Sign in at the tenant"),
        (ASKED, {"tenantRef": {"name": "contoso"}}, set(), "Sign in at the tenant"),
        (Draft(mode="CustomerManaged", tenant="other", confirmation="Acme", key_uri=KEY), {}, {TENANT}, "Choose the tenant"),
        (
            Draft(mode="CustomerManaged", tenant="contoso", confirmation="acme", key_uri=KEY),
            {},
            {TENANT},
            "Type the organization's",
        ),
        (
            Draft(mode="CustomerManaged", tenant="contoso", confirmation="Acme", key_uri="x"),
            {},
            {TENANT},
            "Enter the key identifier",
        ),
        (Draft(mode="Other"), {}, {TENANT}, "Choose who manages"),
        (OWN, {}, set(), "Paste the client secret"),
        (OWN, REGISTERED, set(), None),
        (Draft(mode="PlatformManaged"), IN_USE, set(), None),
    ],
    ids=str,
)
def test_the_application_is_used_only_at_a_tenant_that_the_person_has_proven(
    draft: Draft, before: dict[str, Any], proven: set[str], word: str | None
) -> None:
    found = wanted(draft, spec(**before), [CHOICE], proven, "acme-console", NOW)
    assert isinstance(found, Wanted) if word is None else any(one.startswith(word) for one in found), found  # type: ignore[union-attr]


def test_a_new_credential_gets_an_entry_of_its_own_and_is_in_no_representation() -> None:
    draft = Draft(
        mode="CustomerManaged",
        confirmation="Acme",
        tenant="contoso",
        key_uri=KEY,
        method="registration",
        client_id=CLIENT,
        credential="hunter2",
        expires="2027-06-01",
    )
    found = wanted(draft, spec(**REGISTERED), [CHOICE], set(), "acme-console", NOW)
    assert isinstance(found, Wanted)
    assert found.credential == ("acme-console", "credential-20261130090000", "hunter2")
    (credential,) = found.fields["access"]["registration"]["credentials"]
    assert credential == {
        "secretRef": {"name": "acme-console", "key": "credential-20261130090000"},
        "expires": "2027-06-01T00:00:00Z",
    }
    assert "hunter2" not in repr(found) + repr(draft)


def test_a_state_is_good_once_in_its_session_for_its_purpose_and_a_while() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    mine, other = sessions.new(), sessions.new()
    begun = sessions.begin(mine, "consent", "ns/acme", "contoso")
    assert sessions.take(other, "consent", begun.state) is None
    assert sessions.take(mine, "tenant", begun.state) is None
    assert sessions.take(mine, "consent", "") is None
    assert sessions.take(mine, "consent", begun.state) == begun
    assert sessions.take(mine, "consent", begun.state) is None
    late = sessions.begin(mine, "consent")
    now[0] += PENDING_SECONDS + 1
    assert sessions.take(mine, "consent", late.state) is None
    person = sessions.signed_in(mine, Person("s", "s", frozenset()))
    assert (sessions.find(mine.id), person.id != mine.id, person.csrf != mine.csrf) == (None, True, True)
    for _ in range(int(SESSION_SECONDS // 1000)):
        now[0] += 1000
        assert sessions.find(person.id) is person
    now[0] += 1000
    assert sessions.find(person.id) is None, "use does not extend the longest life"


def test_a_limit_counts_each_key_by_itself_and_forgets_the_oldest() -> None:
    now = [0.0]
    limit = RateLimit(2, 10.0, lambda: now[0], kept=2)
    assert [limit.allows("a"), limit.allows("a"), limit.allows("a"), limit.allows("b")] == [True, True, False, True]
    now[0] += 11
    assert limit.allows("a")


@pytest.mark.parametrize(
    "changes",
    [
        {"public_url": "http://page.example"},
        {"public_url": "http://127.0.0.1.evil.example"},
        {"public_url": "https://page.example/path"},
        {"issuer": "http://issuer.example"},
        {"listen_address": "0.0.0.0"},  # noqa: S104 - it is refused
        {"insecure_http": False},
    ],
    ids=str,
)
def test_settings_that_would_send_cookies_or_credentials_in_the_clear_are_refused(
    changes: dict[str, Any], tmp_path: Any
) -> None:
    good = {
        "public_url": "https://page.example",
        "issuer": "https://issuer.example",
        "client_id": "c",
        "client_secret_file": tmp_path / "s",
        "listen_address": "127.0.0.1",
        "insecure_http": True,
    }
    assert ConsoleSettings.model_validate(good).subject_claim == "sub"
    with pytest.raises(ValidationError):
        ConsoleSettings.model_validate(good | changes)
