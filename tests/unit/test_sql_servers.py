"""The way of a SQL server to the key: Azure's wire names, its order, nobody else's identity lost, no step that is not needed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from azure.mgmt.sql.models import Database, EncryptionProtector, FailoverGroup, ReplicationLink, Server
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.encryption.protection import KeyChoice, OnKey
from cmk_operator.core.faults.azure_failure import AzureFailure
from cmk_operator.core.faults.fault import Actor, Fault, FaultKind
from cmk_operator.core.identifiers.arm_id import ArmId
from cmk_operator.core.identifiers.key_uri import KeyUri
from cmk_operator.providers.protocol import Plan, Target
from cmk_operator.providers.sql.options import SqlServerOptions
from cmk_operator.providers.sql.requests import (
    AddServerKey,
    RevalidateServer,
    SetProtector,
    SetServerIdentity,
    SetServiceManagedProtector,
    SqlRequest,
)
from cmk_operator.providers.sql.server import (
    ClosedDatabase,
    Facts,
    Listed,
    Partner,
    Protector,
    Secondary,
    ServerIdentity,
    ServerKeys,
    facts_of,
    listed_of,
    merged,
    read_closed,
    read_linked,
    read_partners,
    read_protector,
    read_server,
    server_keys,
    with_keys,
)
from cmk_operator.providers.sql.server_plan import plan_server, plan_server_revert
from tests.unit.samples import APPLICATION, GROUP, IDENTITY, SUBSCRIPTION, V1, V2, VAULT, uri_of

SERVER = f"{GROUP}/providers/Microsoft.Sql/servers/one"
SECONDARY = f"{GROUP}/providers/Microsoft.Sql/servers/two"
OTHER_IDENTITY = IDENTITY.replace("/cmk", "/other")
KEY = KeyUri(VAULT, "sql")
OTHER_KEY = KeyUri(VAULT, "other")
NAME = f"{VAULT.split('.')[0]}_sql_{V1}"
READY = ServerIdentity("UserAssigned", (ArmId(IDENTITY),), ArmId(IDENTITY), APPLICATION)


def want(uri: KeyUri = KEY, version: str = V1, size: int | None = 2048) -> KeyChoice:
    return KeyChoice(uri, version, ArmId(IDENTITY), APPLICATION, key_size=size)


def target(*, switch: bool = False, in_scope: bool = True) -> Target:
    return Target(ArmId(SERVER), SqlServerOptions(switch), lambda _: in_scope)


def protected_by(uri: KeyUri, *, following: bool) -> Protector:
    name = "_".join((uri.vault_host.split(".")[0], uri.key_name, uri.version or ""))
    return Protector(OnKey(uri.versionless if following else uri, uri.version), name, following)


def server(
    identity: ServerIdentity | None = None,
    protector: Protector | None = None,
    known: frozenset[str] = frozenset(),
    secondaries: tuple[Secondary, ...] = (),
    closed: tuple[str, ...] = (),
) -> Facts:
    databases = tuple(ClosedDatabase(name, own_key=False) for name in closed)
    facts = facts_of(identity or ServerIdentity(), protector or Protector(), Listed(databases), Listed())
    return with_keys(facts, ServerKeys(known), secondaries)


def planned(result: Plan[Any] | Fault | None) -> Plan[Any]:
    assert isinstance(result, Plan), result
    return result


def refused(result: Plan[Any] | Fault | None) -> Fault:
    assert isinstance(result, Fault), result
    return result


def test_the_three_requests_are_azures_to_the_letter() -> None:
    first = planned(plan_server(target(), want(), server()))
    assert (first.request, first.body) == (
        SetServerIdentity(ArmId(SERVER), "UserAssigned", (ArmId(IDENTITY),), ArmId(IDENTITY), APPLICATION),
        {
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}},
            "properties": {"primaryUserAssignedIdentityId": IDENTITY, "federatedClientId": APPLICATION},
        },
    )
    second = planned(plan_server(target(), want(), server(READY)))
    assert (second.request, second.body) == (
        AddServerKey(ArmId(SERVER), NAME, KEY.at(V1)),
        {"properties": {"serverKeyType": "AzureKeyVault", "uri": str(KEY.at(V1))}},
    )
    third = planned(plan_server(target(), want(), server(READY, known=frozenset({NAME.lower()}))))
    assert (third.request, third.body) == (
        SetProtector(ArmId(SERVER), NAME, follow_latest=True),
        {"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": NAME, "autoRotationEnabled": True}},
    )


def test_the_first_plan_shows_all_that_is_ahead() -> None:
    plan = planned(plan_server(target(), want(KEY.at(V1)), server()))
    assert [(change.path, change.before, change.after) for change in plan.changes] == [
        ("identity.type", "None", "UserAssigned"),
        ("identity.userAssignedIdentities", "", "present"),
        ("properties.primaryUserAssignedIdentityId", "", ArmId(IDENTITY).key),
        ("properties.federatedClientId", "", APPLICATION),
        (f"keys/{NAME}", "", str(KEY.at(V1))),
        ("encryptionProtector.serverKeyName", "ServiceManaged", NAME),
    ]


def test_a_pinned_key_turns_automatic_rotation_off_and_a_versionless_one_turns_it_on() -> None:
    on_it = server(READY, protected_by(KEY.at(V1), following=False))
    assert plan_server(target(), want(KEY.at(V1)), on_it) is None
    plan = planned(plan_server(target(), want(), on_it))
    assert plan.body["properties"] == {"serverKeyType": "AzureKeyVault", "serverKeyName": NAME, "autoRotationEnabled": True}
    assert plan.keeps_key
    following = server(READY, protected_by(KEY.at(V1), following=True))
    assert plan_server(target(), want(), following) is None
    assert planned(plan_server(target(), want(KEY.at(V1)), following)).body["properties"]["autoRotationEnabled"] is False


def test_a_version_that_sql_moved_to_by_itself_is_never_fought() -> None:
    moved = server(READY, protected_by(KEY.at(V2), following=True))
    assert plan_server(target(), want(version=V1), moved) is None
    flag = planned(plan_server(target(), want(version=V1), server(READY, protected_by(KEY.at(V2), following=False))))
    assert flag.body["properties"]["serverKeyName"].endswith(V2)
    assert planned(plan_server(target(), want(KEY.at(V1)), moved)).request == AddServerKey(ArmId(SERVER), NAME, KEY.at(V1))


def test_other_identities_stay() -> None:
    present = ServerIdentity("SystemAssigned,UserAssigned", (ArmId(OTHER_IDENTITY),), ArmId(OTHER_IDENTITY))
    body = planned(plan_server(target(), want(), server(present))).body
    assert body["identity"] == {
        "type": "SystemAssigned,UserAssigned",
        "userAssignedIdentities": {OTHER_IDENTITY: {}, IDENTITY: {}},
    }


def test_another_key_by_the_same_application_is_left_directly() -> None:
    plan = planned(plan_server(target(), want(), server(READY, protected_by(OTHER_KEY.at(V1), following=True))))
    assert plan.request == AddServerKey(ArmId(SERVER), NAME, KEY.at(V1))


@pytest.mark.parametrize("field", ["primary", "application_client_id"])
def test_another_key_as_someone_else_is_left_over_a_key_of_microsoft_only_where_the_manifest_says_so(field: str) -> None:
    changed: Any = ArmId(OTHER_IDENTITY) if field == "primary" else "11111111-1111-1111-1111-111111111111"
    seen = server(replace(READY, **{field: changed}), protected_by(OTHER_KEY.at(V1), following=False))
    assert plan_server(Target(ArmId(SERVER), None, lambda _: True), want(), seen) == plan_server(target(), want(), seen)
    fault = refused(plan_server(target(), want(), seen))
    assert (fault.kind, fault.reason, fault.actor) == (
        FaultKind.BLOCKED,
        "SwitchNeedsServiceManagedKey",
        Actor.PLATFORM_ENGINEER,
    )
    assert "spec.sqlServer.switchThroughServiceManagedKey" in fault.message
    plan = planned(plan_server(target(switch=True), want(), seen))
    assert plan.body == {"properties": {"serverKeyType": "ServiceManaged", "serverKeyName": "ServiceManaged"}}
    assert plan.changes[0].after == "ServiceManaged"
    on_the_same_key = server(replace(READY, **{field: changed}), protected_by(KEY.at(V1), following=True))
    assert isinstance(planned(plan_server(target(), want(), on_the_same_key)).request, SetServerIdentity)


PROTECT = SetProtector(ArmId(SERVER), NAME, follow_latest=True)
SECONDARIES: dict[str, tuple[Secondary, bool, str | SqlRequest]] = {
    "it knows the key": (Secondary(ArmId(SECONDARY), READY, ServerKeys(frozenset({NAME.lower()}))), True, PROTECT),
    "it can be told": (
        Secondary(ArmId(SECONDARY), READY, ServerKeys()),
        True,
        AddServerKey(ArmId(SECONDARY), NAME, KEY.at(V1)),
    ),
    "another identity": (Secondary(ArmId(SECONDARY), ServerIdentity(), ServerKeys()), True, "GeoSecondaryNotReady"),
    "out of scope": (Secondary(ArmId(SECONDARY), READY, ServerKeys()), False, "GeoSecondaryOutOfScope"),
    "out of scope, and it knows the key": (
        Secondary(ArmId(SECONDARY), ServerIdentity(), ServerKeys(frozenset({NAME.lower()}))),
        False,
        PROTECT,
    ),
    "unread": (Secondary(ArmId(SECONDARY), failure=AzureFailure(403, "X", "")), True, "GeoSecondaryUnreachable"),
    "silent": (Secondary(ArmId(SECONDARY), failure=AzureFailure(None, "", "")), True, "GeoSecondaryUnreachable"),
}


@pytest.mark.parametrize("case", SECONDARIES)
def test_a_geo_secondary_knows_the_key_before_its_primary_is_protected_by_it(case: str) -> None:
    secondary, in_scope, expected = SECONDARIES[case]
    seen = server(READY, known=frozenset({NAME.lower()}), secondaries=(secondary,))
    result = plan_server(target(in_scope=in_scope), want(), seen)
    if isinstance(result, Fault):
        assert result.reason == expected
        assert "geo-secondary two of server one" in result.message
        assert (result.kind is FaultKind.BUSY) == (case == "silent")
    else:
        assert planned(result).request == expected


def test_the_key_comes_to_the_server_itself_before_a_secondary_is_asked_for() -> None:
    unready = Secondary(ArmId(SECONDARY), ServerIdentity(), ServerKeys())
    first = planned(plan_server(target(), want(), server(READY, secondaries=(unready,))))
    assert first.request == AddServerKey(ArmId(SERVER), NAME, KEY.at(V1))
    on_it = server(READY, protected_by(KEY.at(V1), following=True), secondaries=(unready,))
    assert plan_server(target(), want(), on_it) is None


def test_closed_databases_are_opened_and_nothing_else_is_tried() -> None:
    seen = server(READY, protected_by(KEY.at(V2), following=False), closed=("a", "b"))
    plan = planned(plan_server(target(), want(KEY.at(V1)), seen))
    assert (plan.request, dict(plan.body)) == (RevalidateServer(ArmId(SERVER)), {})
    assert plan.keeps_key
    assert "a, b" in plan.changes[0].path
    waiting = replace(seen, detail=replace(seen.detail, recovering=True))
    assert refused(plan_server(target(), want(KEY.at(V1)), waiting)).kind is FaultKind.BUSY


def test_a_server_that_lost_its_way_to_the_key_gets_its_identity_back_before_its_databases_are_opened() -> None:
    seen = server(replace(READY, application_client_id=""), protected_by(KEY.at(V1), following=True), closed=("a",))
    assert isinstance(planned(plan_server(target(), want(), seen)).request, SetServerIdentity)


def test_a_closed_database_with_a_key_of_its_own_is_shown_and_is_no_matter_of_the_servers_key() -> None:
    facts = facts_of(READY, protected_by(KEY.at(V1), following=True), Listed((ClosedDatabase("a", own_key=True),)), Listed())
    assert facts.shown.inaccessible_databases == ("a",)
    assert plan_server(target(), want(), facts) is None


@pytest.mark.parametrize("switch", [True, False])
def test_a_server_with_closed_databases_never_leaves_its_key(switch: bool) -> None:  # noqa: FBT001 - a parameter of the test
    seen = server(READY, protected_by(OTHER_KEY.at(V1), following=False), closed=("a",))
    assert refused(plan_server(target(switch=switch), want(), seen)).reason == "DatabasesInaccessible"
    first = planned(plan_server_revert(target(), seen))
    assert first.request == RevalidateServer(ArmId(SERVER)), "it is opened first"


def test_a_reversion_goes_to_microsofts_key_and_touches_neither_identity_nor_keys() -> None:
    assert plan_server_revert(target(), server(READY)) is None
    plan = planned(plan_server_revert(target(), server(READY, protected_by(KEY.at(V1), following=True))))
    assert plan.request == SetServiceManagedProtector(ArmId(SERVER))
    assert plan.body == {"properties": {"serverKeyType": "ServiceManaged", "serverKeyName": "ServiceManaged"}}


def test_what_sql_will_not_take_is_told_before_anything_is_written() -> None:
    assert refused(plan_server(target(), want(size=4096), server())).reason == "KeySizeNotSupported"
    long = want(KeyUri(VAULT, "k" * (95 - len(VAULT.split(".")[0]))))
    assert refused(plan_server(target(), long, server())).reason == "KeyNameTooLong"
    longest = want(KeyUri(VAULT, "k" * (94 - len(VAULT.split(".")[0]))))
    for fits in (longest, want(size=None)):
        assert isinstance(planned(plan_server(target(), fits, server())).request, SetServerIdentity)


def test_the_wire_is_read_whatever_its_spelling() -> None:
    assert read_server(
        Server(
            {
                "identity": {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {IDENTITY.upper(): {}}},
                "properties": {"primaryUserAssignedIdentityId": IDENTITY.lower(), "federatedClientId": APPLICATION},
            }
        )
    ) == replace(READY, kind="SystemAssigned,UserAssigned")
    assert read_server(Server({})) == ServerIdentity()
    following = {"serverKeyType": "azurekeyvault", "serverKeyName": NAME, "uri": str(KEY.at(V1)), "autoRotationEnabled": True}
    assert read_protector(EncryptionProtector({"properties": following})) == protected_by(KEY.at(V1), following=True)
    versionless = {"serverKeyType": "AzureKeyVault", "serverKeyName": "v_k", "uri": str(KEY), "keyVersion": V2}
    assert read_protector(EncryptionProtector({"properties": versionless})).protection == OnKey(KEY, V2)
    assert read_protector(EncryptionProtector({"properties": {"serverKeyType": "ServiceManaged"}})) == Protector()
    assert server_keys([f"{SERVER}/keys/{NAME}"]) == ServerKeys(frozenset({NAME.lower()}))
    closed = {"name": "a", "properties": {"status": "inaccessible"}}
    own = {"name": "b", "properties": {"status": "Inaccessible", "encryptionProtector": str(KEY)}}
    opened = {"name": "c", "properties": {"status": "Online"}}
    assert read_closed(Database(closed)).found == (ClosedDatabase("a", own_key=False),)
    assert read_closed(Database(own)).found == (ClosedDatabase("b", own_key=True),)
    assert read_closed(Database(opened)).found == ()


def test_partners_are_secondaries_only_where_the_server_is_the_primary() -> None:
    def group(role: str, *partners: str) -> FailoverGroup:
        return FailoverGroup(
            {"name": "pair", "properties": {"replicationRole": role, "partnerServers": [{"id": one} for one in partners]}}
        )

    assert read_partners(group("Primary", SECONDARY)) == Listed((Partner(ArmId(SECONDARY), secondary=True),))
    assert read_partners(group("Secondary", SECONDARY)) == Listed((Partner(ArmId(SECONDARY), secondary=False),))
    facts = facts_of(READY, Protector(), Listed(), read_partners(group("Secondary", SECONDARY)))
    assert facts.detail.secondaries == ()
    assert facts.shown.geo_secondaries == ("two",)


def test_one_odd_partner_is_named_and_spoils_no_other() -> None:
    odd = {"replicationRole": "Primary", "partnerServers": [{"id": "no id"}, {"id": SECONDARY}]}
    read = read_partners(FailoverGroup({"name": "pair", "properties": odd}))
    assert read.found == (Partner(ArmId(SECONDARY), secondary=True),)
    assert read.unread == ("a partner server of failover group pair",)
    listed = listed_of("failover group", [(f"{SERVER}/failoverGroups/odd", None), ("", None), ("x", read)])
    assert listed.found == read.found
    assert listed.unread == ("a failover group without an id", "a partner server of failover group pair", "failover group odd")
    facts = facts_of(READY, Protector(), Listed(unread=("inaccessible database d",)), listed)
    assert facts.shown.not_readable == ("inaccessible database d", *listed.unread)
    assert [one.id for one in facts.detail.secondaries] == [ArmId(SECONDARY)]


@pytest.mark.parametrize("unreadable", [{}, {"replicationRole": None, "partnerServers": []}])
def test_a_failover_group_without_a_role_is_not_read_as_a_secondarys(unreadable: dict[str, Any]) -> None:
    with pytest.raises(LookupError):
        read_partners(FailoverGroup({"name": "pair", "properties": unreadable}))


def test_a_list_of_keys_with_an_odd_entry_starts_no_write_unless_it_shows_the_wanted_key() -> None:
    odd = ServerKeys(frozenset({"other"}), unread=1)
    facts = with_keys(facts_of(READY, Protector(), Listed(), Listed()), odd, ())
    assert refused(plan_server(target(), want(), facts)).reason == "Unreadable"
    shown = ServerKeys(frozenset({NAME.lower()}), unread=1)
    there = with_keys(facts_of(READY, Protector(), Listed(), Listed()), shown, ())
    assert planned(plan_server(target(), want(), there)).request == PROTECT
    secondary = Secondary(ArmId(SECONDARY), READY, odd)
    assert refused(plan_server(target(), want(), with_keys(facts, shown, (secondary,)))).reason == "Unreadable"


versions = st.sampled_from([V1, V2])
identities = st.sampled_from([IDENTITY, OTHER_IDENTITY])
clients = st.sampled_from(["", APPLICATION, "11111111-1111-1111-1111-111111111111"])
wanted = st.builds(lambda version, pinned: want(KEY.at(version) if pinned else KEY, version), versions, st.booleans())


@st.composite
def states(draw: st.DrawFn) -> Facts:
    assigned = tuple(ArmId(one) for one in draw(st.sets(identities)))
    primary = draw(st.sampled_from([None, *assigned]))
    identity = ServerIdentity("UserAssigned" if assigned else "None", assigned, primary, draw(clients))
    protector = draw(
        st.one_of(
            st.just(Protector()),
            st.builds(
                lambda uri, version, following: protected_by(uri.at(version), following=following),
                st.sampled_from([KEY, OTHER_KEY]),
                versions,
                st.booleans(),
            ),
        )
    )
    known = draw(st.sets(st.sampled_from([NAME.lower(), NAME.lower().replace(V1, V2)])))
    in_force = {protector.server_key_name.lower()} if isinstance(protector.protection, OnKey) else set()
    secondaries = draw(st.sampled_from([(), (Secondary(ArmId(SECONDARY), READY, ServerKeys()),)]))
    return server(identity, protector, frozenset(known | in_force), secondaries)


def with_name(keys: ServerKeys | None, name: str) -> ServerKeys:
    return ServerKeys((keys.names if keys is not None else frozenset()) | {name.lower()})


class AzureSql:
    """A server as Azure changes it at each request; it refuses what is out of order."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def take(self, plan: Plan[Any]) -> None:
        match plan.request:
            case SetServerIdentity():
                identity = read_server(Server(json.loads(json.dumps(plan.body))))
                self.facts = replace(self.facts, detail=replace(self.facts.detail, identity=identity))
            case AddServerKey(server=ArmId(text=text), name=name) if text == SECONDARY:
                (secondary,) = self.facts.detail.secondaries
                told = replace(secondary, known_keys=with_name(secondary.known_keys, name))
                self.facts = replace(self.facts, detail=replace(self.facts.detail, secondaries=(told,)))
            case AddServerKey(name=name):
                detail = self.facts.detail
                assert detail.identity.reaches_as(ArmId(IDENTITY), APPLICATION), "the identity comes first"
                assert detail.known_keys is not None
                self.facts = replace(self.facts, detail=replace(detail, known_keys=with_name(detail.known_keys, name)))
            case SetProtector(key_name=name, follow_latest=following):
                self._protect(protected_by(self._known(name.lower()), following=following))
            case SetServiceManagedProtector():
                self._protect(Protector())
            case unexpected:
                pytest.fail(f"{unexpected}")

    def _known(self, name: str) -> KeyUri:
        detail = self.facts.detail
        assert detail.known_keys is not None
        assert detail.known_keys.has(name), "the key comes before the protector"
        if name != detail.server_key_name.lower():
            assert all(one.known_keys and one.known_keys.has(name) for one in detail.secondaries), "the secondary comes first"
        _, key, version = name.split("_")
        return KeyUri(VAULT, key, version)

    def _protect(self, protector: Protector) -> None:
        self.facts = replace(
            self.facts,
            protection=protector.protection,
            detail=replace(self.facts.detail, server_key_name=protector.server_key_name, auto_rotation=protector.auto_rotation),
        )


@given(states(), wanted, st.booleans())
def test_from_any_state_the_steps_lead_to_the_key_in_azures_order_or_end_at_a_fault(
    facts: Facts,
    choice: KeyChoice,
    switch: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    azure = AzureSql(facts)
    before = set(facts.detail.identity.user_assigned)
    for _ in range(6):
        result = plan_server(target(switch=switch), choice, azure.facts)
        if not isinstance(result, Plan):
            break
        assert result.changes
        assert switch or not isinstance(result.request, SetServiceManagedProtector), (
            "nothing is weakened unless the manifest says so"
        )
        azure.take(result)
    else:
        pytest.fail("no end")
    assert before <= set(azure.facts.detail.identity.user_assigned)
    if isinstance(result, Fault):
        assert (result.reason, switch) == ("SwitchNeedsServiceManagedKey", False)
        assert azure.facts == facts, "nothing was changed on the way to it"
        return
    assert uri_of(azure.facts.protection) == choice.key_uri
    assert azure.facts.detail.identity.reaches_as(ArmId(IDENTITY), APPLICATION)
    assert azure.facts.detail.auto_rotation == (choice.key_uri.version is None)


def test_replication_links_name_each_server_once_and_on_which_side_it_is() -> None:
    two, three = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Sql/servers/{name}" for name in ("two", "three")
    )
    one = ArmId(two.replace("/two", "/one"))
    links: list[dict[str, Any]] = [
        {"properties": {"role": role, "partnerDatabaseId": f"{server}/databases/{name}"}}
        for role, server, name in (
            ("Primary", two, "orders"),
            ("primary", two.upper().replace("/DATABASES", "/databases"), "stock"),
            ("Secondary", three, "bills"),
            ("Source", one.text, "copy"),
        )
    ]
    odd: list[dict[str, Any]] = [
        {},
        {"properties": None},
        {"properties": {"role": "Primary"}},
        {"properties": {"role": None, "partnerDatabaseId": "x"}},
    ]
    found = merged(partner for body in links for partner in read_linked(one, ReplicationLink(body)).found)
    assert [(partner.id.name.lower(), partner.secondary) for partner in found] == [("three", False), ("two", True)]
    assert merged(found, (Partner(ArmId(three), secondary=True),))[0].secondary
    for body in odd:
        with pytest.raises((LookupError, ValueError)):
            read_linked(one, ReplicationLink(body))
