"""The names of one cloud: its hosts, the audiences and issuers of its tokens. A process speaks for one cloud, chosen before it serves.

Sources: Azure "Compare Azure Government and global Azure" and "Azure in China developer guide" (endpoints); Key Vault "Access behind
a firewall"; Entra "Configure an app to trust a managed identity" (audiences). The table is the sandbox's own: that of the operator
must agree with it, or the operator does not get far.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoints:
    """Host names without a scheme, suffixes with their dot, audiences without a last slash.

    `issuer` and `token_issuer` are those of tokens of version 2 and 1; that of version 2 is not always the host that issues.
    """

    cloud: str
    login: str
    login_alias: str
    issuer: str
    token_issuer: str
    resource_manager: str
    management_core: str
    graph: str
    vault_suffix: str
    core_suffix: str
    sql_suffix: str
    exchange_audience: str

    @property
    def authority(self) -> str:
        """Entra's base URL."""
        return f"https://{self.login}"

    @property
    def blob_suffix(self) -> str:
        """What ends the name of every blob endpoint."""
        return f".blob{self.core_suffix}"

    @property
    def vault_audience(self) -> str:
        """For tokens of every vault."""
        return f"https://{self.vault_suffix.removeprefix('.')}"

    @property
    def fixed_hosts(self) -> dict[str, str]:
        """The service behind each host that always exists."""
        return {
            self.login: "login",
            self.login_alias: "login",
            self.graph: "graph",
            self.resource_manager: "management",
        }


PUBLIC = Endpoints(
    cloud="AzurePublic",
    login="login.microsoftonline.com",
    login_alias="login.windows.net",
    issuer="https://login.microsoftonline.com",
    token_issuer="https://sts.windows.net",  # noqa: S106 - a URL
    resource_manager="management.azure.com",
    management_core="management.core.windows.net",
    graph="graph.microsoft.com",
    vault_suffix=".vault.azure.net",
    core_suffix=".core.windows.net",
    sql_suffix=".database.windows.net",
    exchange_audience="api://AzureADTokenExchange",
)
CLOUDS = {
    one.cloud: one
    for one in (
        PUBLIC,
        Endpoints(
            cloud="AzureUSGovernment",
            login="login.microsoftonline.us",
            login_alias="login.usgovcloudapi.net",
            issuer="https://login.microsoftonline.us",
            token_issuer="https://sts.windows.net",  # noqa: S106 - a URL
            resource_manager="management.usgovcloudapi.net",
            management_core="management.core.usgovcloudapi.net",
            graph="graph.microsoft.us",
            vault_suffix=".vault.usgovcloudapi.net",
            core_suffix=".core.usgovcloudapi.net",
            sql_suffix=".database.usgovcloudapi.net",
            exchange_audience="api://AzureADTokenExchangeUSGov",
        ),
        Endpoints(
            cloud="AzureChina",
            login="login.chinacloudapi.cn",
            login_alias="login.partner.microsoftonline.cn",
            issuer="https://login.partner.microsoftonline.cn",
            token_issuer="https://sts.chinacloudapi.cn",  # noqa: S106 - a URL
            resource_manager="management.chinacloudapi.cn",
            management_core="management.core.chinacloudapi.cn",
            graph="microsoftgraph.chinacloudapi.cn",
            vault_suffix=".vault.azure.cn",
            core_suffix=".core.chinacloudapi.cn",
            sql_suffix=".database.chinacloudapi.cn",
            exchange_audience="api://AzureADTokenExchangeChina",
        ),
    )
}
_chosen = [PUBLIC]


def choose(cloud: str) -> None:
    """Speak for this cloud from now on; before anything is served. Raises KeyError."""
    _chosen[0] = CLOUDS[cloud]


def here() -> Endpoints:
    """The cloud that this process speaks for."""
    return _chosen[0]
