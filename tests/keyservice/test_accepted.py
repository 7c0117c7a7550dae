"""Reading OrganizationKey objects, and which of them an organization belongs to."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.vaults.accepted import (
    PLATFORM_KEY,
    Accepted,
    ApplicationAccess,
    Organization,
    RegistrationAccess,
    read_organization,
)
from cmk_keyservice.vaults.organizations import Organizations
from cmk_operator.api.organization_key import AcceptedKey

if TYPE_CHECKING:
    from collections.abc import Mapping

KID = "https://acme-kv.vault.azure.net/keys/cmk/" + "1" * 32
OLD_KID = "https://acme-kv.vault.azure.net/keys/cmk/" + "0" * 32
APPLICATION = {
    "method": "Application",
    "cloud": "AzurePublic",
    "tenantId": "t",
    "providerTenantId": "p",
    "applicationClientId": "a",
    "managedIdentityClientId": "m",
    "operatorCredential": "ManagedIdentity",
}
REGISTRATION = {
    "method": "Registration",
    "cloud": "AzureUSGovernment",
    "tenantId": "t",
    "clientId": "c",
    "credentials": [
        {"secret": "acme", "key": "pem", "type": "Certificate"},
        {"secret": "acme", "key": "secret", "type": "ClientSecret"},
    ],
}
ACCEPTED = {
    "revision": 3,
    "mode": "CustomerManaged",
    "kid": KID,
    "algorithm": "RSA-OAEP-256",
    "canary": {"wrapped": "AAEC", "digest": sha256(b"x").hexdigest()},
    "since": "2026-11-30T07:00:00Z",
    "probeIntervalSeconds": 30,
    "outageGraceSeconds": 0,
    "access": APPLICATION,
}


def body(name: str = "acme", organization: str = "acme", **status: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "resourceVersion": "5",
        "creationTimestamp": f"2026-11-30T07:00:0{len(name) % 10}Z",
    }
    return {"metadata": metadata, "spec": {"organization": {"id": organization, "name": "Acme"}}, "status": status}


def read(accepted: Mapping[str, Any], *earlier: Mapping[str, Any]) -> Organization:
    found = read_organization(body(accepted=dict(accepted), earlier=[dict(one) for one in earlier]))
    assert found is not None
    return found


def test_what_the_operator_writes_is_what_is_read() -> None:
    written = AcceptedKey.model_validate(ACCEPTED).model_dump(mode="json", by_alias=True, exclude_none=True)
    accepted = read(written).accepted
    assert accepted is not None
    assert (accepted.revision, accepted.kid, accepted.probe_interval, accepted.outage_grace) == (3, KID, 30, 0)
    assert accepted.canary is not None
    assert accepted.canary.wrapped == b"\x00\x01\x02"
    assert isinstance(accepted.access, ApplicationAccess)
    assert accepted.access.chain.by_service_account is False


def test_a_registration_has_its_credentials_in_their_order() -> None:
    written = AcceptedKey.model_validate(ACCEPTED | {"access": REGISTRATION}).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    accepted = read(written).accepted
    assert accepted is not None
    assert isinstance(accepted.access, RegistrationAccess)
    assert [(one.key, one.certificate) for one in accepted.access.credentials] == [("pem", True), ("secret", False)]


def test_the_platforms_key_needs_no_access() -> None:
    assert read({"revision": 1, "kid": PLATFORM_KEY, "mode": "PlatformManaged"}).accepted == Accepted(1, PLATFORM_KEY, "")


def test_an_older_key_version_is_reached_as_it_was_accepted() -> None:
    found = read(ACCEPTED, ACCEPTED | {"revision": 2, "kid": OLD_KID, "access": REGISTRATION, "until": "2026-11-30T07:00:00Z"})
    old = found.accepted_for(OLD_KID)
    assert old is not None
    assert (old.revision, type(old.access)) == (2, RegistrationAccess)
    assert found.accepted_for("https://other.vault.azure.net/keys/k/" + "1" * 32) is None


@pytest.mark.parametrize("missing", ["revision", "kid", "algorithm", "access"])
def test_without_a_part_that_is_needed_nothing_counts_as_accepted(missing: str) -> None:
    assert read({name: value for name, value in ACCEPTED.items() if name != missing}).accepted is None


@pytest.mark.parametrize("kid", ["https://acme-kv.vault.azure.net/keys/cmk", "https://evil.example/keys/k/" + "1" * 32, "", 7])
def test_a_kid_that_names_no_version_in_a_vault_counts_as_nothing(kid: object) -> None:
    assert read(ACCEPTED | {"kid": kid}).accepted is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ACCEPTED, *APPLICATION, *REGISTRATION]), inner)
    ),
    max_leaves=20,
)


@given(json_values, json_values)
def test_whatever_a_status_holds_is_read_without_an_error(accepted: object, earlier: object) -> None:
    found = read_organization(body(accepted=accepted, earlier=earlier))
    assert found is not None
    assert found.accepted is None or found.accepted.revision >= 1


async def nobody(namespace: str, name: str) -> Organization | None:
    return None


def note(organizations: Organizations, *, version: int = 5, **changes: Any) -> None:
    made = body(**changes)
    made["metadata"]["resourceVersion"] = str(version)
    found = read_organization(made)
    assert found is not None
    organizations.note(found)


def owner(organizations: Organizations, organization: str = "acme") -> str | None:
    found = organizations.find(organization)
    return found.name if found is not None else None


def test_an_organization_belongs_to_the_oldest_object_that_has_something_accepted() -> None:
    organizations = Organizations(nobody)
    note(organizations, name="a")
    note(organizations, name="younger", accepted=ACCEPTED)
    assert owner(organizations) == "younger"
    note(organizations, name="old", accepted=ACCEPTED)
    assert owner(organizations) == "old"
    organizations.gone("shop", "old", "uid-old")
    assert owner(organizations) == "younger"
    organizations.keep({("shop", "a")}, 9)
    assert (owner(organizations), organizations.complete) == ("a", True)
    organizations.gone("shop", "a")
    assert (owner(organizations), len(organizations)) == (None, 0)


def test_a_watch_that_lags_changes_nothing_that_is_newer() -> None:
    organizations = Organizations(nobody)
    heard: list[int] = []
    organizations.listen(lambda one: heard.append(one.accepted.revision if one.accepted else 0))
    note(organizations, version=9, accepted=ACCEPTED | {"revision": 4})
    note(organizations, version=8, accepted=ACCEPTED)
    note(organizations, version=10, accepted=ACCEPTED | {"revision": 4})
    organizations.keep(set(), 9)
    found = organizations.find("acme")
    assert found is not None
    assert found.accepted is not None
    assert (found.accepted.revision, heard) == (4, [4])
    organizations.gone("shop", "acme", "uid-of-an-older-object")
    assert owner(organizations) == "acme"


@pytest.mark.parametrize(("encrypt", "encrypts"), [("Refused", False), ("Allowed", True), (None, True), (7, True)])
@pytest.mark.parametrize("kid", [PLATFORM_KEY, KID])
def test_only_a_refusal_stops_encryption(kid: str, encrypt: object, *, encrypts: bool) -> None:
    found = read({**ACCEPTED, "kid": kid, "encrypt": encrypt}).accepted
    assert found is not None
    assert found.encrypts is encrypts
