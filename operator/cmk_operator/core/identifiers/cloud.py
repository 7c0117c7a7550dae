"""Hosts, audiences and vault suffixes of Azure's clouds; never mixed, because tokens of one cloud are invalid in another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

WITHOUT_REPLY_ADDRESS: Final = (
    "if that page ends with AADSTS500113 (no reply address is registered), the consent has been given all the same"
)
"""What an administrator must know who consents to an application without a redirect URI. Source: Azure-Lighthouse-samples#122."""


class CloudName(StrEnum):
    """The clouds that a `FederatedIdentity` may name."""

    PUBLIC = "AzurePublic"
    US_GOVERNMENT = "AzureUSGovernment"
    CHINA = "AzureChina"


@dataclass(frozen=True, slots=True)
class Cloud:
    """The host names and token scopes of one cloud."""

    name: CloudName
    authority_host: str
    resource_manager: str
    graph: str
    key_vault_suffix: str
    token_exchange_audience: str
    issuer_host: str
    """The host in the issuer of Entra's version 2 tokens, which a federated credential must name."""

    @property
    def resource_manager_scope(self) -> str:
        """Scope of tokens for Azure Resource Manager."""
        return f"https://{self.resource_manager}/.default"

    @property
    def key_vault_scope(self) -> str:
        """Scope of tokens for the data plane of every vault of this cloud."""
        return f"https://{self.key_vault_suffix}/.default"

    @property
    def graph_scope(self) -> str:
        """Scope of tokens for Microsoft Graph."""
        return f"https://{self.graph}/.default"

    @property
    def token_exchange_scope(self) -> str:
        """Scope of the token that a federated credential accepts as an assertion."""
        return f"{self.token_exchange_audience}/.default"

    def admin_consent_url(self, tenant_id: str, application_client_id: str) -> str:
        """The page on which a tenant's administrator consents to an application.

        Source: Entra "Grant tenant-wide admin consent to an application".
        """
        return f"https://{self.authority_host}/{tenant_id}/adminconsent?client_id={application_client_id}"


# Sources: hosts: Key Vault "Access behind a firewall"; audiences: Entra "Configure an app to trust a managed identity"; issuers: the
# discovery metadata in MSAL, in which login.chinacloudapi.cn has an issuer with another host.
CLOUDS: Final = MappingProxyType(
    {
        CloudName.PUBLIC: Cloud(
            CloudName.PUBLIC,
            "login.microsoftonline.com",
            "management.azure.com",
            "graph.microsoft.com",
            "vault.azure.net",
            "api://AzureADTokenExchange",
            "login.microsoftonline.com",
        ),
        CloudName.US_GOVERNMENT: Cloud(
            CloudName.US_GOVERNMENT,
            "login.microsoftonline.us",
            "management.usgovcloudapi.net",
            "graph.microsoft.us",
            "vault.usgovcloudapi.net",
            "api://AzureADTokenExchangeUSGov",
            "login.microsoftonline.us",
        ),
        CloudName.CHINA: Cloud(
            CloudName.CHINA,
            "login.chinacloudapi.cn",
            "management.chinacloudapi.cn",
            "microsoftgraph.chinacloudapi.cn",
            "vault.azure.cn",
            "api://AzureADTokenExchangeChina",
            "login.partner.microsoftonline.cn",
        ),
    }
)
