"""Everything about Azure's delays and limits that a test may change while the sandbox runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFTED = 10_000_000
"""A limit that is lifted: nothing is counted against it."""
FOR_GOOD = 10_000_000_000.0
"""A delay that does not end."""
WITHOUT_LIMITS: Mapping[str, float] = {
    "arm_read_bucket": LIFTED,
    "arm_write_bucket": LIFTED,
    "arm_read_refill_per_second": LIFTED,
    "arm_write_refill_per_second": LIFTED,
    "storage_read_per_5_minutes": LIFTED,
    "storage_list_per_5_minutes": LIFTED,
    "storage_write_per_second": LIFTED,
    "storage_write_per_hour": LIFTED,
    "identity_write_per_second": LIFTED,
    "vault_software_key_operations_per_10_seconds": LIFTED,
    "vault_software_key_creations_per_10_seconds": LIFTED,
    "storage_create_seconds": 0,
}
"""For tests and measurements that Azure's limits would only slow down."""
WITHOUT_DELAYS: Mapping[str, float] = {
    "role_propagation_seconds": 0,
    "federated_credential_replication_seconds": 0,
    "consent_replication_seconds": 0,
    "deleted_key_appears_seconds": 0,
    "recovered_key_appears_seconds": 0,
    "recovered_vault_appears_seconds": 0,
    "vault_settings_propagation_seconds": 0,
}
"""Grants, settings, deletions and recoveries are in force at once."""


@dataclass
class Timings:
    """Delays in virtual seconds and limits in requests; the defaults are Azure's own unless said otherwise."""

    role_propagation_seconds: float = 1.0  # Azure: minutes; one second, so that the race is always there
    federated_credential_replication_seconds: float = 1.0  # Azure: up to minutes; as above
    consent_replication_seconds: float = 1.0  # Azure: seconds; as above
    deleted_key_appears_seconds: float = 2.0  # measured (recordings of the SDKs): until then `deletedkeys` has no such key
    recovered_key_appears_seconds: float = 2.0  # the SDKs wait for it as for a deletion
    recovered_vault_appears_seconds: float = 1.0  # Azure: seconds; as the other delays of one second
    vault_settings_propagation_seconds: float = 1.0  # access policies and firewall rules; Azure: up to minutes; as above
    missing_principal_is_an_invalid_client: bool = False  # 401 AADSTS7000229 in place of 400 AADSTS700016; both are reported
    storage_loss_notice_seconds: float = 600.0
    storage_user_assigned_identities: int = 1  # on one account, as the SDK's documentation and public reports say
    key_version_check_seconds: float = 86_400.0
    storage_create_seconds: float = 0.5
    disk_key_version_check_seconds: float = 2700.0  # with the next: within one hour, Azure says
    disk_rotation_seconds: float = 600.0  # from a new key on a set to all of its disks being under it
    disk_loss_notice_seconds: float = 600.0  # Azure names no time for the machines; as Azure's other services
    disk_io_failure_seconds: float = 3600.0
    compute_operation_seconds: float = 0.5  # 0: answered at once, without a long-running operation
    get_of_disabled_key_is_refused: bool = False  # the sources disagree; both must be survived
    disabled_key_wraps_seconds: float = FOR_GOOD  # encrypt, wrapKey and verify need no private key (azure-sdk-for-python#45342)
    sql_operation_seconds: float = 1.0  # Azure: seconds to minutes
    sql_key_check_seconds: float = 600.0  # a database is inaccessible at most ten minutes after its key was lost
    sql_self_healing_seconds: float = 1800.0  # longer without its key, a database must be revalidated
    sql_rotation_check_seconds: float = 86_400.0
    sql_key_is_judged_by_the_request: bool = True  # else by the operation that it starts; the sources name codes for both
    arm_read_bucket: int = 250
    arm_read_refill_per_second: float = 25.0
    arm_write_bucket: int = 200
    arm_write_refill_per_second: float = 10.0
    storage_read_per_5_minutes: int = 800
    storage_list_per_5_minutes: int = 100
    storage_write_per_second: int = 10
    storage_write_per_hour: int = 1200
    identity_write_per_second: int = 2
    vault_software_key_operations_per_10_seconds: int = 4000  # in units of one RSA 2048 operation
    vault_software_key_creations_per_10_seconds: int = 20
    older_vault_versions_end_at: float = 1_803_686_400.0  # seconds since the epoch: 27 February 2027
    list_page_size: int = 1000
    graph_page_size: int = 100
    snowflake_activation_wait_seconds: float = 259_200.0
    snowflake_rekey_seconds: float = 3000.0  # Snowflake: "under an hour", up to 24
    snowflake_loss_notice_seconds: float = 600.0
    snowflake_statement_seconds: float = 0.0
    snowflake_signs_and_verifies: bool = (
        True  # a grant of wrap and unwrap alone is not enough; the sources are not Snowflake's reference
    )

    def update(self, changes: Mapping[str, object]) -> None:
        """Set the named values; a name that does not exist or a wrong type changes nothing (ValueError)."""
        known = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        converted: dict[str, bool | int | float] = {}
        for name, value in changes.items():
            kind = known.get(name)
            if kind is None:
                raise ValueError(f"there is no timing {name!r}; there are {', '.join(sorted(known))}")
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{name} must be a {'boolean' if kind is bool else 'number that is not negative'}")
            converted[name] = kind(value)
        for name, setting in converted.items():
            setattr(self, name, setting)

    def as_json(self) -> dict[str, bool | int | float]:
        """All values by name."""
        return asdict(self)
