"""What guards a key: what is not visible is Unknown, and what Azure itself refuses is never waived."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmk_operator.core.identifiers.region_failover import REGIONS, failover_of, warning_of, without_failover
from cmk_operator.core.prerequisites.check import ALL_PREREQUISITES, Prerequisite, Result, Weight, check_prerequisites, failed
from cmk_operator.core.prerequisites.key_users import KeyUsers, RegionalUser, SizedUsers
from cmk_operator.core.prerequisites.vault_facts import VaultNotVisible, vault_lock
from cmk_operator.providers.disk.kind import DISK_ENCRYPTION_SET
from cmk_operator.providers.sql.kind import SQL_SERVER
from tests.unit.samples import (
    APPLICATION,
    CUSTOMER_VAULT,
    KEY,
    NOW,
    V1,
    attributes,
    entra,
    forbidden,
    guard,
    healthy,
    key_probes,
    lock,
    probe,
    refused,
    vault,
)

if TYPE_CHECKING:
    from cmk_operator.core.access.state import KeyProbe, VersionProbe

PASS, FAIL, UNKNOWN = Result.PASS, Result.FAIL, Result.UNKNOWN
HARD, ENFORCED, PROBED, ADVISED = Weight.HARD, Weight.ENFORCED, Weight.PROBED, Weight.ADVISED
REQUIRED = Weight.REQUIRED
READER = f"az role assignment create --assignee {APPLICATION} --role 'Key Vault Reader' --scope "


def check(wanted: VersionProbe | None = None, **fields: Any) -> dict[str, Prerequisite]:
    return {entry.name: entry for entry in check_prerequisites(guard(probe(wanted), **fields))}


@pytest.mark.parametrize(
    ("level", "soft_delete", "purge_protection"),
    [
        ("Purgeable", FAIL, FAIL),
        ("Recoverable+Purgeable", PASS, FAIL),
        ("CustomizedRecoverable+Purgeable", PASS, FAIL),
        ("Recoverable", PASS, PASS),
        ("Recoverable+ProtectedSubscription", PASS, PASS),
        ("CustomizedRecoverable", PASS, PASS),
        ("CustomizedRecoverable+ProtectedSubscription", PASS, PASS),
        ("", UNKNOWN, UNKNOWN),
    ],
)
def test_purge_protection_is_read_from_the_recovery_level(level: str, soft_delete: Result, purge_protection: Result) -> None:
    found = check(healthy(recovery_level=level))
    assert (found["SoftDelete"].result, found["PurgeProtection"].result) == (soft_delete, purge_protection)
    assert {found["SoftDelete"].weight, found["PurgeProtection"].weight} == {HARD}


def test_a_vault_that_is_visible_tells_its_recovery_where_the_key_does_not() -> None:
    found = check(healthy(recovery_level="", recoverable_days=None), vault=vault(enablePurgeProtection=None))
    assert [found[name].result for name in ("SoftDelete", "PurgeProtection", "RetentionDays")] == [PASS, FAIL, PASS]


@pytest.mark.parametrize(
    ("changes", "name", "result", "weight", "words", "command"),
    [
        (
            {"recovery_level": "Purgeable"},
            "SoftDelete",
            FAIL,
            HARD,
            "administrator must enable it",
            "--enable-soft-delete true",
        ),
        (
            {"recovery_level": "Recoverable+Purgeable"},
            "PurgeProtection",
            FAIL,
            HARD,
            "must enable it",
            "az keyvault update --name contoso --enable-purge-protection true",
        ),
        ({"recoverable_days": 90}, "RetentionDays", PASS, ADVISED, "for 90 days", None),
        ({"recoverable_days": 7}, "RetentionDays", FAIL, ADVISED, "must move the key to a vault with 90 days", None),
        ({"recoverable_days": None}, "RetentionDays", UNKNOWN, ADVISED, "does not report for how long", None),
        ({"recovery_level": "Purgeable"}, "RetentionDays", FAIL, ADVISED, "nothing is retained", None),
        ({"key_type": "RSA"}, "KeyType", PASS, HARD, "the key is RSA", None),
        ({"key_type": "RSA-HSM"}, "KeyType", PASS, HARD, "the key is RSA-HSM", None),
        (
            {"key_type": "EC"},
            "KeyType",
            FAIL,
            HARD,
            "the customer's administrator must create an RSA 2048 key",
            "az keyvault key create --vault-name contoso --name storage --kty RSA --size 2048",
        ),
        ({"key_type": "oct-HSM"}, "KeyType", FAIL, HARD, "not RSA", "--kty RSA"),
        ({"key_size": 2048}, "KeySize", PASS, ENFORCED, "2048 bits", None),
        ({"key_size": 3072}, "KeySize", FAIL, ENFORCED, "must create an RSA 2048 key", "--size 2048"),
        ({"key_size": 4096}, "KeySize", FAIL, ENFORCED, "set spec.prerequisites to Warn", "--size 2048"),
        ({"key_size": None}, "KeySize", UNKNOWN, ENFORCED, "not known", None),
        ({"operations": ("wrapKey", "unwrapKey")}, "KeyOperations", PASS, HARD, "permits wrapKey and unwrapKey", None),
        (
            {"operations": ("sign", "wrapKey")},
            "KeyOperations",
            FAIL,
            HARD,
            "does not permit unwrapKey: the customer's administrator must add",
            f"az keyvault key set-attributes --id {KEY}/{V1} --ops sign wrapKey unwrapKey",
        ),
        ({"operations": ()}, "KeyOperations", FAIL, HARD, "does not permit wrapKey and unwrapKey", "--ops wrapKey unwrapKey"),
        ({"enabled": True}, "KeyEnabled", PASS, PROBED, "enabled", None),
        ({"enabled": False}, "KeyEnabled", FAIL, PROBED, "must enable it", f"--id {KEY}/{V1} --enabled true"),
        ({"expires": None}, "KeyExpiry", PASS, ENFORCED, "does not expire", None),
        (
            {"expires": NOW},
            "KeyExpiry",
            FAIL,
            ENFORCED,
            "expired on 2026-11-24: the customer's administrator must rotate",
            "rotate",
        ),
        (
            {"expires": NOW + timedelta(days=29)},
            "KeyExpiry",
            PASS,
            ENFORCED,
            "in less than 30 days: the customer's administrator should",
            "az keyvault key rotate --vault-name contoso --name storage",
        ),
        ({"expires": NOW + timedelta(days=31)}, "KeyExpiry", PASS, ENFORCED, "the key version expires on 2026-12-25", None),
    ],
)
def test_what_the_key_tells_is_judged_with_who_must_do_what(
    changes: dict[str, Any], name: str, result: Result, weight: Weight, words: str, command: str | None
) -> None:
    found = check(healthy(**changes))[name]
    assert (found.result, found.weight) == (result, weight)
    assert words in found.message
    assert (command is None) == (found.command is None)
    assert command is None or command in str(found.command)


@pytest.mark.parametrize(
    ("unseen", "words", "grant"),
    [
        (VaultNotVisible.NOT_READ, "not read yet", False),
        (VaultNotVisible.NOT_GRANTED, "may grant the application Key Vault Reader on the vault", True),
        (VaultNotVisible.NO_ANSWER, "Resource Manager gave no usable answer", False),
        (VaultNotVisible.ANOTHER_VAULT, "the platform engineer must correct or remove it", False),
    ],
)
def test_a_vault_that_is_not_visible_is_unknown_with_the_grant_that_would_show_it(
    *, unseen: VaultNotVisible, words: str, grant: bool
) -> None:
    found = check(vault=unseen)
    for name in ("VaultLock", "KeyLock", "TrustedServicesBypass", "NetworkProtection"):
        assert found[name].result is UNKNOWN
        assert words in found[name].message
        assert found[name].command == (
            f'{READER}"$(az keyvault show --name contoso --query id --output tsv)"' if grant else None
        )


SUBSCRIPTION_SCOPE = "/".join(CUSTOMER_VAULT.split("/")[:3])
GROUP_SCOPE = "/".join(CUSTOMER_VAULT.split("/")[:5])


@pytest.mark.parametrize(
    ("locks", "vault_lock", "key_lock", "words"),
    [
        ([], FAIL, FAIL, "the customer's administrator must lock the vault, whose keys inherit it"),
        ([lock(CUSTOMER_VAULT)], PASS, PASS, "cmk (CanNotDelete, on the vault)"),
        ([lock(GROUP_SCOPE.upper(), level="ReadOnly")], PASS, PASS, "cmk (ReadOnly, on the resource group)"),
        ([lock(SUBSCRIPTION_SCOPE)], PASS, PASS, "cmk (CanNotDelete, on the subscription)"),
        ([lock(f"{CUSTOMER_VAULT}/keys/storage")], FAIL, PASS, "cmk (CanNotDelete, on the key)"),
        ([lock(f"{CUSTOMER_VAULT}/keys/other"), lock(f"{CUSTOMER_VAULT}-2")], FAIL, FAIL, "must lock the vault"),
        ([lock(CUSTOMER_VAULT, level="NotSpecified")], FAIL, FAIL, "must lock the vault"),
        (None, UNKNOWN, UNKNOWN, "locks are not visible: the customer's administrator may grant"),
    ],
)
def test_a_lock_counts_at_the_vault_or_above_and_at_the_key_too(
    locks: Any, vault_lock: Result, key_lock: Result, words: str
) -> None:
    found = check(vault=vault(locks=locks))
    assert (found["VaultLock"].result, found["KeyLock"].result) == (vault_lock, key_lock)
    assert words in found["KeyLock"].message
    for entry in (found["VaultLock"], found["KeyLock"]):
        assert entry.weight is ADVISED
        if entry.result is FAIL:
            assert entry.command == f"az lock create --name cmk --lock-type CanNotDelete --resource {CUSTOMER_VAULT}"
        if entry.result is UNKNOWN:
            assert entry.command == READER + CUSTOMER_VAULT


ODD_LEVELS: list[Any] = [None, [], {"level": None}, {"level": "DoNotTouch"}, {"level": ["ReadOnly"]}]
ODD_LOCKS: list[object] = [
    *(None, 7, "text", [], {}, {"id": 7}, {"id": f"{CUSTOMER_VAULT}/providers/Microsoft.Authorization/locks/x"}),
    *({"id": f"{CUSTOMER_VAULT}/providers/Microsoft.Authorization/locks/x", "properties": level} for level in ODD_LEVELS),
]


@pytest.mark.parametrize("entry", ODD_LOCKS, ids=str)
def test_a_lock_that_cannot_be_read_may_hold_and_is_not_taken_for_none(entry: object) -> None:
    assert vault_lock(entry) is None
    found = check(vault=replace(vault(locks=[]), unread_locks=1))
    for name in ("VaultLock", "KeyLock"):
        assert found[name].result is UNKNOWN
        assert "1 of the locks that Azure lists cannot be read" in found[name].message
    held = check(vault=replace(vault(locks=[lock(CUSTOMER_VAULT)]), unread_locks=1))
    assert held["VaultLock"].result is PASS, "another lock holds whatever this one is"


OPEN = {"bypass": "None", "defaultAction": "Allow"}
CLOSED = {"bypass": "None", "defaultAction": "deny"}


@pytest.mark.parametrize(
    ("properties", "bypass", "network", "words"),
    [
        ({}, PASS, FAIL, "open to all networks"),
        ({"networkAcls": OPEN}, PASS, FAIL, "should enable it before closing"),
        ({"networkAcls": CLOSED}, FAIL, PASS, "blocks Azure's services"),
        ({"networkAcls": CLOSED | {"bypass": "azureservices"}}, PASS, PASS, "may pass the vault's firewall"),
        ({"networkAcls": {"defaultAction": "Deny"}}, PASS, PASS, "may pass"),
        ({"publicNetworkAccess": "disabled"}, PASS, PASS, "public access is disabled"),
        ({"publicNetworkAccess": "Disabled", "networkAcls": OPEN}, FAIL, PASS, "blocks Azure's services"),
        ({"publicNetworkAccess": "SecuredByPerimeter"}, UNKNOWN, PASS, "disables the bypass for trusted services"),
    ],
)
def test_the_firewall_must_let_azures_services_in_and_should_keep_others_out(
    properties: dict[str, Any], bypass: Result, network: Result, words: str
) -> None:
    found = check(vault=vault(**properties))
    services, others = found["TrustedServicesBypass"], found["NetworkProtection"]
    assert (services.result, others.result) == (bypass, network)
    assert (services.weight, others.weight) == (HARD, ADVISED)
    assert words in f"{services.message} {others.message}"
    if bypass is FAIL:
        assert services.command == "az keyvault update --name contoso --bypass AzureServices"
    if network is FAIL:
        assert others.command == "az keyvault update --name contoso --default-action Deny --bypass AzureServices"


@pytest.mark.parametrize("inner", ["ForbiddenByFirewall", "ForbiddenByConnection"])
def test_a_vault_that_turned_the_operator_away_is_not_open_to_everybody(inner: str) -> None:
    found = check(refused(forbidden(inner)), vault=VaultNotVisible.NOT_GRANTED)
    assert found["NetworkProtection"].result is PASS
    assert found["TrustedServicesBypass"].result is UNKNOWN
    assert found["Permissions"].result is UNKNOWN, "it says nothing about what the application may do"


GRANT = f"az role assignment create --assignee {APPLICATION} --role 'Key Vault Crypto Service Encryption User' --scope "
POLICY = f"az keyvault set-policy --name contoso --spn {APPLICATION} --key-permissions get wrapKey unwrapKey"


@pytest.mark.parametrize(
    ("wanted", "result", "words", "command"),
    [
        (healthy(), PASS, "wrapped and unwrapped", None),
        (refused(forbidden("ForbiddenByRbac")), FAIL, "refuses get by RBAC", GRANT),
        (
            refused(forbidden("ForbiddenByPolicy"), "unwrapKey", attributes()),
            FAIL,
            "refuses unwrapKey by access policy",
            POLICY,
        ),
        (
            refused(forbidden("ForbiddenByRbac"), "wrapKey", attributes(operations=())),
            UNKNOWN,
            "the key does not permit wrapKey",
            None,
        ),
        (healthy(enabled=False), PASS, "", None),
        (refused(entra(700016)), UNKNOWN, "not proven, because the key is ConsentMissing", None),
        (refused(forbidden("KeyDisabled")), UNKNOWN, "not proven, because the key is Disabled", None),
    ],
)
def test_permissions_are_proven_by_the_probe_or_not_known(
    wanted: VersionProbe, result: Result, words: str, command: str | None
) -> None:
    found = check(wanted)["Permissions"]
    assert (found.result, found.weight) == (result, PROBED)
    assert words in found.message
    assert (command is None) == (found.command is None)
    assert str(found.command).startswith(str(command))


def sets(**locations: str | None) -> KeyUsers:
    shown = DISK_ENCRYPTION_SET.shares_vault_region
    assert shown is not None
    return KeyUsers(regional=tuple(RegionalUser(name, location, shown) for name, location in locations.items()))


@pytest.mark.parametrize(
    ("region", "users", "result", "words"),
    [
        ("westeurope", KeyUsers(), PASS, "nothing that uses the key needs a vault in its own region"),
        ("westeurope", sets(a="westeurope"), PASS, "is in westeurope, and so are all disk encryption sets on the key"),
        (
            "westeurope",
            sets(a="westeurope", b="eastus"),
            FAIL,
            "these disk encryption sets are not: b (eastus): the customer's",
        ),
        ("westeurope", sets(a=None), UNKNOWN, "the region of a is not known yet"),
        (None, sets(a="westeurope"), UNKNOWN, "does not report its region"),
        (None, KeyUsers(), PASS, "nothing that uses the key needs"),
    ],
)
def test_only_disks_need_the_vaults_region(region: str | None, users: KeyUsers, result: Result, words: str) -> None:
    found = check(healthy(vault_region=region), users=users)["VaultRegion"]
    assert (found.result, found.weight) == (result, ADVISED)
    assert words in found.message


def test_resource_manager_tells_the_region_where_the_data_plane_does_not() -> None:
    found = check(healthy(vault_region=None), users=sets(a="westeurope"), vault=vault())
    assert found["VaultRegion"].result is PASS


@pytest.mark.parametrize(
    ("region", "result", "words"),
    [
        ("westeurope", PASS, "fails over from westeurope to northeurope"),
        ("westindia", PASS, "fails over from westindia to southindia"),
        ("usgovvirginia", PASS, "fails over from usgovvirginia to usgovtexas"),
        ("brazilsouth", FAIL, "its pair is in another geography"),
        ("brazilsoutheast", FAIL, "does not replicate it to its pair"),
        ("westus3", FAIL, "does not replicate it to its pair"),
        ("qatarcentral", FAIL, "it has no paired region"),
        ("polandcentral", FAIL, "it has no paired region"),
        ("chinanorth", FAIL, "not assured in China's regions"),
        ("chinaeast2", FAIL, "not assured in China's regions"),
        ("usdodeast", UNKNOWN, "which the table of 2026-11-30 does not list"),
        ("atlantis", UNKNOWN, "which the table of 2026-11-30 does not list"),
    ],
)
def test_a_region_without_failover_is_told_and_one_that_nobody_knows_never_passes(
    region: str, result: Result, words: str
) -> None:
    found = check(healthy(vault_region=region))["RegionFailover"]
    assert (found.result, found.weight) == (result, ADVISED)
    assert words in found.message
    if result is PASS:
        assert "wrapping and unwrapping work, but no key can be created, rotated" in found.message
        assert "a private endpoint may need 20 minutes more" in found.message


@given(st.text())
def test_only_a_region_of_the_table_passes(region: str) -> None:
    passes = check(healthy(vault_region=region or None))["RegionFailover"].result is PASS
    found = failover_of(region)
    assert passes == (found is not None and found.pair is not None)


def test_a_region_that_was_not_read_is_unknown_with_the_grant_that_shows_it() -> None:
    found = check(healthy(vault_region=None), vault=VaultNotVisible.NOT_GRANTED)["RegionFailover"]
    assert found.result is UNKNOWN
    assert "does not report its region" in found.message
    assert str(found.command).startswith(READER)
    assert check(healthy(vault_region=None), vault=vault())["RegionFailover"].result is PASS, "Resource Manager tells it"
    assert check(refused(forbidden("ForbiddenByRbac")), known_region="westus3")["RegionFailover"].result is FAIL


def test_a_region_without_failover_forbids_writes_only_where_the_manifest_asks() -> None:
    def forbidden_names(**fields: Any) -> list[list[str]]:
        found = check_prerequisites(guard(probe(healthy(vault_region="westus3")), **fields))
        return [[entry.name for entry in failed(found, enforce=enforce)] for enforce in (True, False)]

    assert forbidden_names() == [[], []]
    assert forbidden_names(requires_failover=True) == [["RegionFailover"], ["RegionFailover"]]
    unknown = check(healthy(vault_region="atlantis"), requires_failover=True)["RegionFailover"]
    assert (unknown.result, unknown.weight) == (UNKNOWN, REQUIRED)
    assert failed([unknown], enforce=True) == ()


def test_each_region_of_the_table_has_a_pair_that_it_knows_or_a_reason() -> None:
    for region, found in REGIONS.items():
        assert region == region.lower().replace(" ", "")
        assert (found.pair is None) == bool(found.why)
        assert found.pair is None or found.pair in REGIONS
        assert (warning_of(region) is None) == (found.pair is not None)
    assert {"brazilsouth", "westus3", "qatarcentral", "chinanorth"} <= set(without_failover())
    assert failover_of("West Europe") == REGIONS["westeurope"]
    assert "is not known" in str(warning_of("Atlantis"))


def test_a_size_that_sql_does_not_take_names_the_servers() -> None:
    users = KeyUsers(sized=(SizedUsers(SQL_SERVER.key_use, ("orders", "people")),))
    assert (
        "SQL servers (orders and 1 more) take 2048 or 3072 bits only"
        in check(healthy(key_size=4096), users=users)["KeySize"].message
    )
    assert "SQL" not in check(healthy(key_size=3072), users=users)["KeySize"].message


def test_warn_waives_only_what_azure_itself_would_take() -> None:
    lacking = check_prerequisites(
        guard(probe(healthy(key_size=4096, recovery_level="Recoverable+Purgeable", recoverable_days=7)), vault=vault(locks=[]))
    )
    told = {entry.name for entry in lacking if entry.result is FAIL}
    assert told == {"PurgeProtection", "RetentionDays", "KeySize", "VaultLock", "KeyLock", "NetworkProtection"}
    assert [entry.name for entry in failed(lacking, enforce=True)] == ["PurgeProtection", "KeySize"]
    assert [entry.name for entry in failed(lacking, enforce=False)] == ["PurgeProtection"]


def test_each_prerequisite_is_told_once_in_one_order() -> None:
    assert tuple(entry.name for entry in check_prerequisites(guard(vault=vault()))) == ALL_PREREQUISITES


vaults = st.one_of(
    st.sampled_from(VaultNotVisible),
    st.builds(
        lambda access, action, bypass, locks: vault(
            publicNetworkAccess=access, networkAcls={"defaultAction": action, "bypass": bypass}, locks=locks
        ),
        st.sampled_from(["Enabled", "disabled", "SecuredByPerimeter"]),
        st.sampled_from(["Allow", "Deny"]),
        st.sampled_from(["AzureServices", "None"]),
        st.sampled_from([None, [], [lock(CUSTOMER_VAULT)]]),
    ),
)


@given(key_probes(), vaults)
def test_what_fails_says_who_must_act_and_what_is_unknown_never_blocks(found: KeyProbe, seen: Any) -> None:
    entries = check_prerequisites(guard(found, vault=seen))
    names = [entry.name for entry in entries]
    assert names == [name for name in ALL_PREREQUISITES if name in names], "in order, and each once"
    for entry in entries:
        if entry.result is FAIL:
            assert " must " in entry.message
    blocking = failed(entries, enforce=True)
    assert all(entry.result is FAIL for entry in blocking)
    assert set(failed(entries, enforce=False)) <= set(blocking)
