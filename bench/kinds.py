"""How many requests each kind of target costs: until it is on its key, and for each later check."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.fleet import IDENTITY, VAULT, in_batches
from bench.measurements import PATIENCE, Row
from bench.watching import SETTLED_AFTER, watching
from sandbox.administrators.snowflake import SnowflakeAdministrator, private_pem
from sandbox.operator_process import NAMESPACE, SERVICE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.fleet import Fleet
    from bench.measurements import Bench

GROUP: Final = "rg-kinds"
NUMBER: Final = 20
ACCOUNTS: Final = 5
"""Snowflake accounts: each is an endpoint of its own."""
LOOKS: Final = 4
LOOK_SECONDS: Final = 20.0
"""Between two looks at each resource; 300 by default."""
_RBAC: Final = "rbac.authorization.k8s.io"
_KINDS: Final[Mapping[str, tuple[str, int]]] = {
    "storage account": (r"/providers/Microsoft\.Storage/", NUMBER),
    "SQL server": (r"/providers/Microsoft\.Sql/", NUMBER),
    "disk encryption set with one disk": (r"/providers/Microsoft\.Compute/", NUMBER),
    "Snowflake account": (r"/api/v2/statements", ACCOUNTS),
}


@dataclass
class Kinds:
    """A few resources of each kind, in a namespace of their own, under one key."""

    fleet: Fleet
    bench: Bench
    env: dict[str, str]

    async def measure(self) -> list[Row]:
        """Rows of requests per resource, kind by kind; polls of long-running operations count."""
        fleet = self.fleet
        async with SnowflakeAdministrator(self.env, fleet.control) as snowflake:
            await fleet.control.set_timings(snowflake_activation_wait_seconds=0, snowflake_rekey_seconds=0)
            await self._prepare(snowflake)
            await fleet.control.clear_requests()
            async with watching(fleet.objects, GROUP) as readiness:
                operator = await asyncio.to_thread(self.bench.start)
                try:
                    await readiness.until_ready(4 * NUMBER + ACCOUNTS, PATIENCE)
                    await readiness.until_settled()
                    new = await self._requests()
                finally:
                    operator.stop()
                settings = {"CMK_OPERATOR_DRIFT_CHECK_INTERVAL": f"{LOOK_SECONDS:.0f}"}
                operator = await asyncio.to_thread(self.bench.start, settings)
                try:
                    await asyncio.sleep(SETTLED_AFTER)
                    await fleet.control.clear_requests()
                    await asyncio.sleep(LOOKS * LOOK_SECONDS)
                    steady = await self._requests()
                finally:
                    operator.stop()
        return [
            Row(
                f"{kind}: requests until Ready",
                f"{new[kind] / number:.1f} each",
                f"{number} of them; at rest {steady[kind] / LOOKS / number:.1f} each per look, every 300 s by default",
            )
            for kind, (_, number) in _KINDS.items()
        ]

    async def _requests(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for entry in await self.fleet.control.requests():
            for kind, (path, _) in _KINDS.items():
                found[kind] += bool(re.search(path, entry["path"], re.IGNORECASE))
        return found

    async def _prepare(self, snowflake: SnowflakeAdministrator) -> None:
        fleet = self.fleet
        names = [f"kinds{index:03}" for index in range(NUMBER)]
        accounts = [f"bench-{index}" for index in range(ACCOUNTS)]
        await fleet.provider.create_resource_group(GROUP)

        async def create(name: str) -> None:
            await fleet.provider.create_storage_account(name, resource_group=GROUP)
            await fleet.provider.sql.create_server(name, resource_group=GROUP)
            await fleet.provider.compute.create_disk(name, resource_group=GROUP)

        await in_batches(names, create)
        for account in accounts:
            await snowflake.open_account(account, "CMK")
        await self._let_snowflake_in(snowflake)
        scope = f"/subscriptions/{fleet.provider.subscription_id}/resourceGroups/{GROUP}"
        tenant = {
            "tenantId": fleet.customer.tenant_id,
            "identityRef": {"name": IDENTITY},
            "allowedNamespaces": [GROUP],
            "allowedScopes": [scope],
            "allowedVaults": [f"{VAULT}.vault.azure.net"],
            "allowedSnowflakeAccounts": accounts,
        }
        await fleet.objects.apply("CustomerTenant", GROUP, tenant)
        await fleet.objects.create_namespace(GROUP)
        key = {"tenantRef": {"name": GROUP}, "keyUri": f"https://{VAULT}.vault.azure.net/keys/{next(iter(fleet.keys))}"}
        await fleet.objects.apply("CustomerManagedKey", "cmk", key, GROUP)
        await self._write_secret(snowflake)
        for name in names:
            await self._apply_azure(f"{scope}/providers", name)
        for account in accounts:
            reference = {"account": account, "user": "CMK", "privateKeySecretRef": {"name": "snowflake"}}
            await self._apply(account, {"snowflake": reference})

    async def _apply_azure(self, scope: str, name: str) -> None:
        set_id = f"{scope}/Microsoft.Compute/diskEncryptionSets/{name}"
        creation = {"location": "westeurope", "encryptionType": "EncryptionAtRestWithCustomerKey"}
        await self._apply(f"account-{name}", {"resourceId": f"{scope}/Microsoft.Storage/storageAccounts/{name}"})
        await self._apply(f"server-{name}", {"resourceId": f"{scope}/Microsoft.Sql/servers/{name}"})
        await self._apply(f"set-{name}", {"resourceId": set_id, "diskEncryptionSet": creation})
        placement = {"diskEncryptionSetId": set_id}
        await self._apply(f"disk-{name}", {"resourceId": f"{scope}/Microsoft.Compute/disks/{name}", "disk": placement})

    async def _apply(self, name: str, spec: dict[str, Any]) -> None:
        await self.fleet.objects.apply("EncryptedResource", name, {"keyRef": {"name": "cmk"}, **spec}, GROUP)

    async def _let_snowflake_in(self, snowflake: SnowflakeAdministrator) -> None:
        """The customer's part, once: Snowflake's application is the same for all accounts."""
        customer = self.fleet.customer
        await snowflake.open_account("bench-probe")
        await snowflake.ask("bench-probe", "SYSTEM$REGISTER_CMK_INFO('https://vault.vault.azure.net', 'k')")
        config = await snowflake.ask("bench-probe", f"SYSTEM$GET_CMK_CONFIG('{customer.tenant_id}')")
        application = config.partition("client_id=")[2].partition("&")[0]
        await customer.consent(application)
        await customer.grant(application, VAULT, role="Key Vault Crypto User")

    async def _write_secret(self, snowflake: SnowflakeAdministrator) -> None:
        """The private key, and the right to read it, as the chart gives for the names in rbac.secrets."""
        objects = self.fleet.objects
        data = {"privateKey": base64.b64encode(private_pem(snowflake.key).encode()).decode()}
        await objects.call("POST", f"/api/v1/namespaces/{GROUP}/secrets", {"metadata": {"name": "snowflake"}, "data": data})
        path = f"/apis/{_RBAC}/v1/namespaces/{GROUP}"
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["snowflake"]}]
        await objects.call("POST", f"{path}/roles", {"metadata": {"name": "secrets"}, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}
        reference = {"apiGroup": _RBAC, "kind": "Role", "name": "secrets"}
        binding = {"metadata": {"name": "secrets"}, "roleRef": reference, "subjects": [subject]}
        await objects.call("POST", f"{path}/rolebindings", binding)
