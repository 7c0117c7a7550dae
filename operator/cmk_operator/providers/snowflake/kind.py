"""The constants of Snowflake accounts.

Source: Snowflake, "Tri-Secret Secure".
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cmk_operator.core.faults.fault import Actor, Fault
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.kinds.key_use import KeyUse
from cmk_operator.core.kinds.kind import Kind, OwnIdentifier
from cmk_operator.core.kinds.required_actions import RightsNotVisible
from cmk_operator.core.kinds.service_timing import ServiceTiming
from cmk_operator.providers.snowflake.account import RESOURCE_TYPE, SnowflakeAccount

if TYPE_CHECKING:
    from cmk_operator.core.authority import TenantGrant
    from cmk_operator.core.identifiers.resource_id import ResourceId


def judge_account(grant: TenantGrant, account: ResourceId) -> Fault | None:
    """The fault of an account that the tenant does not list; None if it is listed."""
    if account in grant.listed:
        return None
    return Fault(
        Reason.SNOWFLAKE_ACCOUNT_NOT_ALLOWED,
        f"CustomerTenant {grant.name!r} does not allow Snowflake account {account}: the provider's administrator must add it to "
        "spec.allowedSnowflakeAccounts, or the platform engineer correct spec.snowflake.account",
        Actor.PROVIDER_ADMINISTRATOR,
    )


SNOWFLAKE_ACCOUNT: Final = Kind(
    resource_type=RESOURCE_TYPE,
    shown="SnowflakeAccount",
    timing=ServiceTiming(
        "Snowflake",
        timedelta(minutes=10),
        "all operations on its data stop",
        "it heals by itself",
        own_application=True,
    ),
    rights=RightsNotVisible("Snowflake does not report in advance what the user and role may do"),
    key_use=KeyUse(
        "Snowflake accounts",
        more_operations=("sign", "verify"),
        outside="Snowflake Postgres instances, which need a registration of their own",
    ),
    off_another_key="the provider's administrator must run SELECT SYSTEM$DEACTIVATE_CMK_INFO() there, if that key is not the one to use",
    manifest_field="snowflake",
    identifier=OwnIdentifier("account", "allowedSnowflakeAccounts", SnowflakeAccount, judge_account),
    reported_by="Snowflake",
    platform_key="a Snowflake-managed key",
)
KINDS: Final = (SNOWFLAKE_ACCOUNT,)
