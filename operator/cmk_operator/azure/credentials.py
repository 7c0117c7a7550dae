"""The credentials of the trust path: ServiceAccount token, managed identity, application in the customer's tenant."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, Unpack

from azure.identity.aio import ClientAssertionCredential, WorkloadIdentityCredential

from cmk_operator.azure.failures import EXPECTED_FAILURES, AnotherHostError, TokenUnavailableError, failure_of
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.core.faults.reason import Reason
from cmk_operator.core.text.foreign_text import LONGEST_CODE, cleaned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from azure.core.credentials import AccessToken

    from cmk_operator.azure.client_options import ClientOptions
    from cmk_operator.core.identifiers.cloud import Cloud


class VaultInAnotherTenantError(TokenUnavailableError):
    """A vault's challenge names another tenant than the manifest; no token is sent to that vault."""

    def __init__(self, vault_tenant: str) -> None:
        vault_tenant = cleaned(vault_tenant, LONGEST_CODE)
        super().__init__(
            AzureFailure(
                None,
                Reason.VAULT_IN_ANOTHER_TENANT.value,
                f"the vault belongs to tenant {vault_tenant}",
                stage=Stage.APPLICATION_TOKEN,
            )
        )
        self.vault_tenant = vault_tenant


@dataclass(frozen=True, slots=True)
class IdentityChain:
    """The operator's managed identity in the provider's tenant, and its application for customers' tenants."""

    cloud: Cloud
    provider_tenant_id: str
    managed_identity_client_id: str
    application_client_id: str
    by_service_account: bool
    """Whether the application's assertion is the ServiceAccount token itself instead of a managed identity's token."""


class _Credential:
    """A credential that wraps one of azure-identity and closes it."""

    def __init__(self, inner: ClientAssertionCredential) -> None:
        self._inner = inner

    async def close(self) -> None:
        """Close the credential."""
        await self._inner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class ManagedIdentityCredential(_Credential):
    """Signs in as the managed identity by workload identity: the ServiceAccount token is the assertion.

    Kubernetes projects and renews the token file; azure-identity reads it again.
    """

    def __init__(self, chain: IdentityChain, token_file: Path, **client: Unpack[ClientOptions]) -> None:
        inner = WorkloadIdentityCredential(
            tenant_id=chain.provider_tenant_id,
            client_id=chain.managed_identity_client_id,
            token_file_path=str(token_file),
            authority=chain.cloud.authority_host,
            **client,
        )
        super().__init__(inner)

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_: object,
    ) -> AccessToken:
        """A token in the provider's tenant; raises `TokenUnavailableError` with stage OPERATOR_TOKEN."""
        try:
            return await self._inner.get_token(*scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae)
        except (*EXPECTED_FAILURES, OSError) as error:
            raise TokenUnavailableError(_token_failure(error, Stage.OPERATOR_TOKEN)) from error


class ApplicationCredential(_Credential):
    """Signs in as the multitenant application in one customer's tenant, with an assertion and never with a secret."""

    def __init__(
        self,
        chain: IdentityChain,
        customer_tenant_id: str,
        assertion: Callable[[], Awaitable[str]],
        **client: Unpack[ClientOptions],
    ) -> None:
        self._tenant = customer_tenant_id.lower()
        self._assertion = assertion
        self._held = ""
        inner = ClientAssertionCredential(
            customer_tenant_id,
            chain.application_client_id,
            lambda: self._held,
            authority=chain.cloud.authority_host,
            **client,
        )
        super().__init__(inner)

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_: object,
    ) -> AccessToken:
        """A token in the customer's tenant.

        `tenant_id` is the tenant in a vault's challenge. If it is not the manifest's tenant, no token is requested. Raises
        `VaultInAnotherTenantError` and `TokenUnavailableError`.
        """
        if tenant_id and tenant_id.lower() != self._tenant:
            raise VaultInAnotherTenantError(tenant_id)
        # azure-identity calls for the assertion synchronously, so it is fetched before, usually from a cache.
        self._held = await self._assertion()
        try:
            return await self._inner.get_token(*scopes, claims=claims, enable_cae=enable_cae)
        except EXPECTED_FAILURES as error:
            raise TokenUnavailableError(_token_failure(error, Stage.APPLICATION_TOKEN)) from error


class TenantCredential(Protocol):
    """A credential of one application in one tenant."""

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_: object,
    ) -> AccessToken:
        """A token in that tenant. Raises `VaultInAnotherTenantError` and `TokenUnavailableError`."""


class VaultCredential:
    """An application's credential for one vault: a challenge of the vault can get no token for anything but Key Vault."""

    def __init__(self, application: TenantCredential, scope: str) -> None:
        self._application = application
        self._scope = scope

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_: object,
    ) -> AccessToken:
        """As the application's credential. Raises `AnotherHostError` for another scope, before any token is requested."""
        if scopes != (self._scope,):
            raise AnotherHostError
        return await self._application.get_token(*scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae)

    async def close(self) -> None:
        """Do nothing: the session closes the application's credential."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def managed_identity_assertion(credential: ManagedIdentityCredential, cloud: Cloud) -> Callable[[], Awaitable[str]]:
    """Gets the assertion from the managed identity, as Azure's own services do."""

    async def assertion() -> str:
        return (await credential.get_token(cloud.token_exchange_scope)).token

    return assertion


def service_account_assertion(token_file: Path) -> Callable[[], Awaitable[str]]:
    """Gets the ServiceAccount token as the assertion; it reads the file each time, because Kubernetes renews it."""

    async def assertion() -> str:
        try:
            return (await asyncio.to_thread(token_file.read_text, encoding="ascii")).strip()
        except OSError as error:
            raise TokenUnavailableError(_token_failure(error, Stage.OPERATOR_TOKEN)) from error

    return assertion


def _token_failure(error: BaseException, stage: Stage) -> AzureFailure:
    if isinstance(error, TokenUnavailableError):
        return error.failure
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return AzureFailure(400, "TokenFileUnreadable", "the ServiceAccount token file cannot be read", stage=stage)
    return failure_of(error, stage)
