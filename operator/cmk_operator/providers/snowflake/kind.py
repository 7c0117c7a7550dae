"""What is particular to Snowflake accounts.

Source: Snowflake, "Tri-Secret Secure".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cmk_operator.core.encryption.key_use import KeyUse
from cmk_operator.core.encryption.required_actions import RightsNotVisible
from cmk_operator.core.encryption.service_timing import ServiceTiming
from cmk_operator.core.identifiers.snowflake_account import RESOURCE_TYPE
from cmk_operator.core.kind import Kind

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
    rights=RightsNotVisible("the service does not tell beforehand what the user and role may do"),
    key_use=KeyUse("Snowflake accounts", more_operations=("sign", "verify")),
)
KINDS: Final = (SNOWFLAKE_ACCOUNT,)
