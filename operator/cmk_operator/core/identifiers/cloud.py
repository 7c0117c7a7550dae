"""Hosts, audiences and vault suffixes of the sovereign clouds; never mixed, because tokens of one are void in another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class CloudName(StrEnum):
    """The clouds a `FederatedIdentity` may name."""

    PUBLIC = "AzurePublic"
    US_GOVERNMENT = "AzureUSGovernment"
    CHINA = "AzureChina"


@dataclass(frozen=True, slots=True)
class Cloud:
    """The endpoints of one cloud, as the host names and token scopes that its clients need."""

    name: CloudName
    authority_host: str
    resource_manager: str
    graph: str
    key_vault_suffix: str
    token_exchange_audience: str
    issuer_host: str
    """Host in the issuer of Entra's tokens of version 2, such as a managed identity's for a federated credential."""

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
        """Page on which an administrator of a tenant consents to an application.

        Source: Entra "Grant tenant-wide admin consent to an application".
        """
        return f"https://{self.authority_host}/{tenant_id}/adminconsent?client_id={application_client_id}"


# Hosts: Key Vault "Access behind a firewall"; audiences: Entra "Configure an app to trust a managed identity". Issuers: the discovery
# metadata that MSAL carries, in which login.chinacloudapi.cn names another host as its issuer.
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
