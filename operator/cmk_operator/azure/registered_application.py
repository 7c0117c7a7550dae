"""Signs in as an organization's own registration in its own tenant, with a client secret or a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from azure.identity.aio import CertificateCredential as CertificateSignIn
from azure.identity.aio import ClientSecretCredential as SecretSignIn

from cmk_operator.azure.credentials import VaultInAnotherTenantError
from cmk_operator.azure.failures import EXPECTED_FAILURES, TokenUnavailableError, failure_of
from cmk_operator.core.access.token_verdict import is_refusal
from cmk_operator.core.faults.azure_failure import Stage
from cmk_operator.core.organization.credential import ClientSecret, Credential

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.core.credentials import AccessToken

    from cmk_operator.azure.client_options import ClientOptions
    from cmk_operator.core.faults.azure_failure import AzureFailure
    from cmk_operator.core.identifiers.cloud import Cloud


@dataclass(frozen=True, slots=True)
class RegisteredApplication:
    """A registration of the organization's own, with one or two credentials that overlap while one is renewed.

    Its representation shows no credential. Its equality compares them, so that a renewed one is another application.
    """

    cloud: Cloud
    tenant_id: str
    client_id: str
    credentials: tuple[Credential, ...]

    def __post_init__(self) -> None:
        if not self.credentials:
            raise ValueError("a registration needs a credential")

    def with_only(self, credential: Credential) -> RegisteredApplication:
        """The same registration with one of its credentials, to try that one alone."""
        return RegisteredApplication(self.cloud, self.tenant_id, self.client_id, (credential,))


class RegisteredCredential:
    """Gets tokens with whichever credential Entra accepts: the one that worked last is tried first."""

    def __init__(self, application: RegisteredApplication, options: Callable[[], ClientOptions]) -> None:
        self._tenant = application.tenant_id.lower()
        self._sign_ins = [_sign_in(application, credential, options()) for credential in application.credentials]

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_: object,
    ) -> AccessToken:
        """A token in the organization's tenant.

        `tenant_id` is the tenant in a vault's challenge. If it is not the manifest's tenant, no token is requested. Raises
        `VaultInAnotherTenantError`, and `TokenUnavailableError` if Entra accepts no credential. If it refuses one and gives no
        usable answer about another, that is no refusal.
        """
        if tenant_id and tenant_id.lower() != self._tenant:
            raise VaultInAnotherTenantError(tenant_id)
        failures: list[AzureFailure] = []
        for sign_in in list(self._sign_ins):
            try:
                token = await sign_in.get_token(*scopes, claims=claims, enable_cae=enable_cae)
            except EXPECTED_FAILURES as error:
                failures.append(failure_of(error, Stage.APPLICATION_TOKEN))
                continue
            self._prefer(sign_in)
            return token
        unanswered = [failure for failure in failures if not is_refusal(failure)]
        raise TokenUnavailableError((unanswered or failures)[0])

    def _prefer(self, sign_in: SecretSignIn | CertificateSignIn) -> None:
        if self._sign_ins[0] is not sign_in:
            self._sign_ins.remove(sign_in)
            self._sign_ins.insert(0, sign_in)

    async def close(self) -> None:
        """Close the credentials."""
        for sign_in in self._sign_ins:
            await sign_in.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _sign_in(
    application: RegisteredApplication, credential: Credential, options: ClientOptions
) -> SecretSignIn | CertificateSignIn:
    tenant, client, authority = application.tenant_id, application.client_id, application.cloud.authority_host
    if isinstance(credential, ClientSecret):
        return SecretSignIn(tenant, client, credential.value, authority=authority, **options)
    return CertificateSignIn(tenant, client, certificate_data=credential.pem, authority=authority, **options)
