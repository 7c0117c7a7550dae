"""Hand-overs that tests look at: a plain one, and one in which everything is asked for, under names that bite."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cmk_operator.core.handover.request import Choices, Handover, WantedApplication, WantedKey, WantedVault
from cmk_operator.core.identifiers.cloud import CLOUDS, CloudName
from cmk_operator.core.identifiers.key_uri import parse_key_uri
from cmk_operator.providers.disk.kind import DISK
from cmk_operator.providers.snowflake.kind import SNOWFLAKE_ACCOUNT
from cmk_operator.providers.sql.kind import SQL_SERVER
from cmk_operator.providers.storage.kind import STORAGE_ACCOUNT

if TYPE_CHECKING:
    from cmk_operator.core.kinds.key_use import KeyUse

TENANT: Final = "22222222-2222-4222-8222-222222222222"
APPLICATION: Final = "33333333-3333-4333-8333-333333333333"
SNOWFLAKE: Final = "c03edcfb-19f9-435f-92fa-e8ec9e24f40e"
SUBSCRIPTION: Final = "66666666-6666-4666-8666-666666666666"
SUBNET: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/deployment-infra-rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/gs"
WORKSPACE: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/logs"
BITING: Final = (
    "Contoso's \"keys\" $(touch pwned) `touch pwned` ${LOCATION} %{if} \\ ' */ #{x}\ntouch pwned\r\n\u2028\x1b[2JEOF"
)


def key(uri: str, *uses: KeyUse, regions: tuple[str, ...] = ()) -> WantedKey:
    """A wanted key by its URI."""
    return WantedKey(parse_key_uri(uri), uses, regions)


PLAIN: Final = Handover(
    tenant="fabrikam",
    tenant_id=TENANT,
    cloud=CLOUDS[CloudName.PUBLIC],
    application=APPLICATION,
    application_name="Contoso",
    consent_url=CLOUDS[CloudName.PUBLIC].admin_consent_url(TENANT, APPLICATION),
    vaults=(
        WantedVault(
            "fabrikam-kv.vault.azure.net", (key("https://fabrikam-kv.vault.azure.net/keys/cmk", STORAGE_ACCOUNT.key_use),)
        ),
    ),
)
_DOCUMENTS = key("https://fabrikam-kv.vault.azure.net/keys/documents", STORAGE_ACCOUNT.key_use, SQL_SERVER.key_use)
_WAREHOUSE = key("https://fabrikam-kv.vault.azure.net/keys/warehouse", SNOWFLAKE_ACCOUNT.key_use)
_DISKS = key("https://fabrikam-vm.vault.azure.net/keys/disks", DISK.key_use, regions=("westeurope",))
OPERATIONS: Final = ("wrapKey", "unwrapKey", *SNOWFLAKE_ACCOUNT.key_use.more_operations)
EVERYTHING: Final = replace(
    PLAIN,
    application_name=BITING,
    vaults=(
        WantedVault("fabrikam-kv.vault.azure.net", (_DOCUMENTS, _WAREHOUSE)),
        WantedVault("fabrikam-vm.vault.azure.net", (_DISKS,)),
    ),
    applications=(
        WantedApplication(
            "Snowflake",
            "fabrikam-prod",
            f"https://login.microsoftonline.com/tenantId/oauth2/authorize?client_id={SNOWFLAKE}&response_type=code",
            BITING,
            (SUBNET, BITING),
            (_WAREHOUSE.uri,),
            OPERATIONS,
        ),
        WantedApplication("Snowflake", "fabrikam-test", None, None, (), (_WAREHOUSE.uri,), OPERATIONS),
    ),
)
ALL_CHOICES: Final = Choices(
    resource_group="rg-(keys)",
    location="westeurope",
    subscription=SUBSCRIPTION,
    retention_days=30,
    key_size=3072,
    hardware=True,
    rotate_after_days=180,
    expire_after_days=365,
    grant_on_vault=True,
    reader=True,
    addresses=("203.0.113.10", "203.0.113.32/28"),
    workspace=WORKSPACE,
)
VARIANTS: Final = {
    "plain": (PLAIN, Choices()),
    "everything": (EVERYTHING, ALL_CHOICES),
    "everything, nothing chosen": (EVERYTHING, Choices()),
    "another cloud": (replace(PLAIN, cloud=CLOUDS[CloudName.CHINA]), Choices()),
}
