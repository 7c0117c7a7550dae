"""The simulated Snowflake, put together behind one handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.errors import SnowflakeRefusedError
from sandbox.azure.exchange import Answer, Exchange, Router
from sandbox.azure.server import Service
from sandbox.azure.snowflake.administration import Administration
from sandbox.azure.snowflake.connector import Connector
from sandbox.azure.snowflake.custody import Custody
from sandbox.azure.snowflake.engine import Engine
from sandbox.azure.snowflake.model import Accounts
from sandbox.azure.snowflake.sql_api import SqlApi
from sandbox.azure.snowflake.tri_secret_secure import TriSecretSecure

if TYPE_CHECKING:
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.directory import Application, Directory
    from sandbox.azure.key_vault.service_access import Doors
    from sandbox.azure.timings import Timings

APPLICATION_NAME = "trisec_cmk_azure"


class Snowflake:
    """The accounts, the endpoints, and Snowflake's own multitenant application in a tenant of its own."""

    def __init__(self, doors: Doors, clock: Clock, timings: Timings) -> None:
        self.accounts = Accounts()
        custody = Custody(doors, _application(doors.directory, clock), clock, timings)
        engine = Engine(TriSecretSecure(custody, clock, timings))
        self.administration = Administration(self.accounts, custody, clock)
        self._router = Router()
        SqlApi(self.accounts, engine, clock, timings).add_routes(self._router)
        Connector(self.accounts, engine).add_routes(self._router)
        self.service = Service("snowflake", self._serve, SnowflakeRefusedError)

    async def _serve(self, exchange: Exchange) -> Answer:
        found = self._router.find(exchange)
        if found is None and (methods := self._router.methods(exchange.path)):
            message = f"Method {exchange.method} is not allowed."
            raise SnowflakeRefusedError(405, "391905", message, headers={"Allow": ", ".join(methods)})
        if found is None:
            raise SnowflakeRefusedError(404, "390404", "The requested resource does not exist.")
        return await found[0](found[1])


def _application(directory: Directory, clock: Clock) -> Application:
    tenant = directory.add_tenant("Snowflake Inc.", "snowflakeinc.onmicrosoft.com")
    application = directory.add_application(tenant, APPLICATION_NAME, "AzureADMultipleOrgs", clock.now())
    application.other["web"] = {"redirectUris": ["https://app.snowflake.com/"]}
    directory.add_principal(tenant, application.app_id, application.display_name, now=float("-inf"))
    return application
