"""The whole of the simulated Azure, put together: two tenants, their subscriptions and administrators, and every service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.azure.arm.assigned_identities import AssignedIdentities
from sandbox.azure.arm.authorization import Authorization, RoleAssignment
from sandbox.azure.arm.diagnostics import DiagnosticOperations
from sandbox.azure.arm.gateway import Gateway, correlation_headers
from sandbox.azure.arm.identities import Identities, IdentityOperations
from sandbox.azure.arm.inventory import Inventory
from sandbox.azure.arm.lock_operations import LockOperations
from sandbox.azure.arm.locks import Locks
from sandbox.azure.arm.operations import Operations
from sandbox.azure.arm.role_operations import RoleOperations
from sandbox.azure.arm.roles import BY_NAME
from sandbox.azure.arm.subscription_operations import SubscriptionOperations
from sandbox.azure.arm.subscriptions import Subscription, Subscriptions
from sandbox.azure.arm.vault_keys import VaultKeyOperations
from sandbox.azure.arm.vaults import VaultOperations
from sandbox.azure.certificates import SNOWFLAKE_SUFFIX
from sandbox.azure.compute import provider as compute
from sandbox.azure.compute.frame import ComputeFrame
from sandbox.azure.compute.model import Fleet
from sandbox.azure.compute.protection import SetProtection
from sandbox.azure.endpoints import here
from sandbox.azure.entra.consent import AdminConsent
from sandbox.azure.entra.directory import Directory, ServicePrincipal, Tenant, new_password
from sandbox.azure.entra.federation import ExternalIssuers, Federation, refused
from sandbox.azure.entra.sign_in import SignIn
from sandbox.azure.entra.token_endpoint import TokenEndpoint
from sandbox.azure.entra.tokens import Tokens
from sandbox.azure.entra.users import Users
from sandbox.azure.errors import ArmRefusedError, BlobRefusedError, EntraRefusedError, GraphRefusedError, VaultRefusedError
from sandbox.azure.exchange import Answer, Exchange, Router
from sandbox.azure.faults import Faults
from sandbox.azure.graph.access import GraphAccess
from sandbox.azure.graph.applications import Applications
from sandbox.azure.graph.federated_credentials import ApplicationCredentials
from sandbox.azure.graph.principals import Principals
from sandbox.azure.key_vault.access import VaultAccess
from sandbox.azure.key_vault.crypto import KeyFactory
from sandbox.azure.key_vault.data_plane import VaultDataPlane
from sandbox.azure.key_vault.keys import Keys
from sandbox.azure.key_vault.model import Vaults
from sandbox.azure.key_vault.service_access import Doors, ServiceAccess
from sandbox.azure.schedule import Schedule
from sandbox.azure.server import Service
from sandbox.azure.snowflake.service import Snowflake
from sandbox.azure.sql.model import Servers as SqlServers
from sandbox.azure.sql.operations import serve_sql
from sandbox.azure.storage.accounts import StorageOperations
from sandbox.azure.storage.blob_service import BlobService
from sandbox.azure.storage.key_protection import KeyProtection
from sandbox.azure.storage.model import StorageAccounts
from sandbox.azure.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sandbox.azure.clock import Clock
    from sandbox.azure.errors import RefusedError

ADMINISTRATOR_ROLES = ("Owner", "Key Vault Administrator", "Storage Blob Data Owner")
DECADE = 3650 * 86_400.0


ENTRA_HEADERS = {
    "Cache-Control": "no-store, no-cache",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}


def _graph_headers(exchange: Exchange, now: float) -> dict[str, str]:
    del now
    return {
        "Cache-Control": "no-cache",
        "Strict-Transport-Security": "max-age=31536000",
        "request-id": exchange.request_id,
        "client-request-id": exchange.headers.get("client-request-id", exchange.request_id),
    }


@dataclass(frozen=True)
class Side:
    """One of the two tenants, with its subscription and its administrator."""

    tenant: Tenant
    subscription: Subscription
    administrator: ServicePrincipal
    secret: str


class Cloud:
    """Holds the state and finds the service for a host."""

    def __init__(self, clock: Clock, certificate_authorities: Sequence[Path] = ()) -> None:
        self.clock = clock
        self.timings = Timings()
        self.faults = Faults()
        self.schedule = Schedule(clock)
        self.directory = Directory()
        self.tokens = Tokens()
        self.authorization = Authorization(clock, self.timings)
        self.subscriptions = Subscriptions()
        self.identities = Identities()
        self.vaults = Vaults()
        self.accounts = StorageAccounts()
        self.sql_servers = SqlServers()
        self.fleet = Fleet()
        self.key_factory = KeyFactory()
        federation = Federation(self.directory, self.tokens, ExternalIssuers(certificate_authorities), clock, self.timings)
        self.users = Users(self.directory)
        self.sign_in = SignIn(self.directory, self.users, clock)
        self.token_endpoint = TokenEndpoint(self.directory, self.tokens, federation, self.sign_in, clock, self.timings)
        vault_access = VaultAccess(self.tokens, self.authorization, clock, self.timings)
        keys = Keys(vault_access, clock, self.timings)
        doors = Doors(self.directory, self.tokens, self.token_endpoint, self.identities, self.vaults, keys, vault_access)
        self.service_access = ServiceAccess(doors)
        self.protection = KeyProtection(self.service_access, clock, self.timings)
        self._arm = self._resource_manager(keys)
        self._vault_data = VaultDataPlane(self.vaults, keys, vault_access, self.key_factory, clock)
        self._blobs = BlobService(
            accounts=self.accounts,
            tokens=self.tokens,
            authorization=self.authorization,
            protection=self.protection,
            clock=clock,
        )
        self.snowflake = Snowflake(doors, clock, self.timings)
        self._login, self._graph = self._entra_router(), self._graph_router()
        self._services = self._described()
        self.provider = self._side("Contoso", "contoso.onmicrosoft.com")
        self.customer = self._side("Fabrikam", "fabrikam.onmicrosoft.com")

    def _resource_manager(self, keys: Keys) -> Gateway:
        gateway = Gateway(
            tokens=self.tokens,
            authorization=self.authorization,
            locks=Locks(),
            subscriptions=self.subscriptions,
            clock=self.clock,
            timings=self.timings,
        )
        operations = Operations(gateway, self.schedule, self.faults, self.clock)
        StorageOperations(
            gateway=gateway,
            accounts=self.accounts,
            identities=self.identities,
            directory=self.directory,
            protection=self.protection,
            operations=operations,
            clock=self.clock,
            timings=self.timings,
        )
        compute.serve(
            ComputeFrame(
                gateway,
                operations,
                self.fleet,
                SetProtection(self.service_access, self.fleet, self.schedule, self.clock, self.timings),
                AssignedIdentities(self.identities, self.directory, self.clock),
                self.clock,
                self.timings,
            )
        )
        serve_sql(
            gateway=gateway,
            servers=self.sql_servers,
            identities=AssignedIdentities(self.identities, self.directory, self.clock),
            access=self.service_access,
            operations=operations,
            schedule=self.schedule,
            clock=self.clock,
            timings=self.timings,
        )
        IdentityOperations(gateway, self.identities, self.directory, self.clock, self.timings)
        VaultOperations(gateway, self.vaults, operations, self.clock, self.timings)
        VaultKeyOperations(gateway, self.vaults, keys, self.key_factory, self.clock)
        diagnostics = DiagnosticOperations(gateway, self.vaults)
        inventory = Inventory(
            gateway,
            self.timings,
            self._names_below,
            self.vaults.all_live,
            lambda: self.accounts.under("/subscriptions"),
            lambda: self.identities.under("/subscriptions"),
            lambda: self.sql_servers.under("/subscriptions"),
            self.fleet.all,
            diagnostics.workspaces,
        )
        SubscriptionOperations(gateway, self.directory, inventory, self._give)
        RoleOperations(gateway, self.directory, inventory, self.clock)
        LockOperations(gateway, inventory)
        return gateway

    def _names_below(self, collection: str) -> set[str] | None:
        """The names, in lower case, in a collection below a resource; None for a collection that nobody looks into."""
        _, _, _, _, _, _, _, _, name, kind = collection.split("/")
        vault, server = self.vaults.live(name), self.sql_servers.find(name)
        if kind.lower() == "keys" and vault is not None and vault.id.lower() == collection.rsplit("/", 1)[0].lower():
            return set(vault.keys)
        if kind.lower() == "databases" and server is not None:
            return set(server.databases)
        return None

    def _entra_router(self) -> Router:
        router = Router()
        self.token_endpoint.add_routes(router)
        self.sign_in.add_routes(router)
        AdminConsent(self.directory, self.tokens, self.sign_in, self.clock).add_routes(router)
        return router

    def _graph_router(self) -> Router:
        router = Router()
        access = GraphAccess(self.directory, self.tokens, self.timings)
        Applications(router, access, self.directory, self.clock)
        ApplicationCredentials(router, access, self.clock)
        Principals(router, access, self.directory, self.clock)
        return router

    async def _serve_login(self, exchange: Exchange) -> Answer:
        found = self._login.find(exchange)
        if found is None:
            raise refused(
                "900561", f"The endpoint does not accept {exchange.method} requests.", error="invalid_request", status=404
            )
        return await found[0](found[1])

    async def _serve_graph(self, exchange: Exchange) -> Answer:
        found = self._graph.find(exchange)
        if found is None and (methods := self._graph.methods(exchange.path)):
            raise GraphRefusedError(
                405,
                "Request_BadRequest",
                "Specified HTTP method is not allowed for the request target.",
                headers={"Allow": ", ".join(methods)},
            )
        if found is None:
            segment = exchange.path.strip("/").split("/")[-1]
            raise GraphRefusedError(400, "BadRequest", f"Resource not found for the segment '{segment}'.")
        return await found[0](found[1])

    def _described(self) -> dict[str, Service]:
        def entra(status: int, code: str, message: str) -> RefusedError:
            number = code.removeprefix("AADSTS")
            return EntraRefusedError(status, number if number.isdigit() else "90033", message, error="temporarily_unavailable")

        return {
            "login": Service("login", self._serve_login, entra, lambda _exchange, _now: ENTRA_HEADERS),
            "graph": Service("graph", self._serve_graph, GraphRefusedError, _graph_headers),
            "management": Service("management", self._arm.serve, ArmRefusedError, correlation_headers),
            "vault": Service(
                "vault",
                self._vault_data.serve,
                VaultRefusedError,
                self._vault_data.headers,
            ),
            "blob": Service("blob", self._blobs.serve, BlobRefusedError),
        }

    def service(self, host: str) -> Service | None:
        """Who answers for this host, if it exists."""
        if not self.known(host):
            return None
        if host.endswith(here().vault_suffix):
            return self._services["vault"]
        if host.endswith(here().blob_suffix):
            return self._services["blob"]
        if host.endswith(SNOWFLAKE_SUFFIX):
            return self.snowflake.service
        return self._services[here().fixed_hosts[host]]

    def known(self, host: str) -> bool:
        """Whether Azure's DNS has the name: vaults and accounts that exist, vaults that can be recovered, and the fixed hosts."""
        name = host.split(".", maxsplit=1)[0]
        if host.endswith(here().vault_suffix):
            return host == name + here().vault_suffix and self.vaults.named(name, self.clock.now())
        if host.endswith(here().blob_suffix):
            return host == name + here().blob_suffix and self.accounts.find(name) is not None
        if host.endswith(SNOWFLAKE_SUFFIX):
            return self.snowflake.accounts.find(host) is not None
        return host in here().fixed_hosts

    @staticmethod
    def azure(host: str) -> bool:
        """Whether the host is one of Azure's at all."""
        return host in here().fixed_hosts or host.endswith((here().vault_suffix, here().blob_suffix, SNOWFLAKE_SUFFIX))

    def _side(self, display_name: str, domain: str) -> Side:
        tenant = self.directory.add_tenant(display_name, domain)
        subscription = self.subscriptions.add(f"{display_name} Production", tenant.id)
        application = self.directory.add_application(tenant, f"{display_name} administrator", "AzureADMyOrg", self.clock.now())
        wall = self.clock.wall()
        secret, _ = new_password(application, "sandbox", wall, wall + DECADE)
        principal = self.directory.add_principal(tenant, application.app_id, application.display_name, now=float("-inf"))
        tenant.administrators.add(principal.object_id)
        self._give(subscription, principal.object_id)
        return Side(tenant, subscription, principal, secret)

    def _give(self, subscription: Subscription, principal_id: str) -> None:
        """All rights in a subscription, for its administrator."""
        for name in ADMINISTRATOR_ROLES:
            role = BY_NAME[name.lower()]
            scope = f"/subscriptions/{subscription.id}"
            long_ago = self.clock.now() - DECADE
            self.authorization.add(
                RoleAssignment(
                    name=role.id,
                    scope=scope,
                    role_id=role.id,
                    principal_id=principal_id,
                    principal_type="ServicePrincipal",
                    created_by=principal_id,
                    created=long_ago,
                )
            )

    async def settle(self) -> None:
        """Do what Azure does by itself and is due by now."""
        await self.schedule.settle()

    def close(self) -> None:
        """Stop the threads."""
        self.key_factory.close()
