"""The operator's connections to Azure: one pooled HTTP session, one credential per identity, one client per endpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from azure.core import AsyncPipelineClient
from azure.core.pipeline import policies
from azure.keyvault.keys.aio import KeyClient
from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

from cmk_operator.answer_gate import open_session
from cmk_operator.azure.call_budget import BudgetedTransport, BudgetRates, BudgetState, CallBudget
from cmk_operator.azure.credentials import (
    ApplicationCredential,
    IdentityChain,
    ManagedIdentityCredential,
    VaultCredential,
    managed_identity_assertion,
    service_account_assertion,
)
from cmk_operator.azure.failures import TokenUnavailableError
from cmk_operator.azure.management import CONNECTION_TIMEOUT, READ_TIMEOUT, ClientT, Sdk, WholeAnswer
from cmk_operator.azure.registered_application import RegisteredApplication, RegisteredCredential
from cmk_operator.azure.rest import RestClient
from cmk_operator.azure.table import UNUSED_FOR
from cmk_operator.core.access.state import AccessState
from cmk_operator.core.access.token_verdict import is_refusal, judge_token_failure
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from cmk_operator.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import aiohttp
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.policies import AsyncHTTPPolicy, SansIOHTTPPolicy

    from cmk_operator.azure.client_options import ClientOptions
    from cmk_operator.telemetry import Telemetry

T = TypeVar("T")

CONNECTIONS: Final = 16
"""One owner of calls uses three quarters of them at most (`Turns`). A TLS connection takes a quarter of a megabyte."""
USER_AGENT: Final = "cmk-operator"


def _authority(chain: IdentityChain) -> str:
    return f"https://{chain.cloud.authority_host}"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The file to which Kubernetes projects the ServiceAccount token for Entra; None if the pod has none."""

    path: Path | None

    def require(self) -> Path:
        """The path. Raises `TokenUnavailableError` if there is none."""
        if self.path is None:
            message = "AZURE_FEDERATED_TOKEN_FILE is not set: the chart projects a ServiceAccount token there"
            raise TokenUnavailableError(AzureFailure(400, "TokenFileUnreadable", message, stage=Stage.OPERATOR_TOKEN))
        return self.path


@dataclass(slots=True)
class AzureSession:
    """Makes and keeps Azure clients; the end of its context closes all of them.

    `connections`: at most this many at the same time, to all of Azure. `monotonic` is the clock, in seconds, for the age of clients and of what was read with them.
    """

    telemetry: Telemetry
    token_file: TokenFile
    rates: BudgetRates = field(default_factory=BudgetRates)
    monotonic: Callable[[], float] = time.monotonic
    connections: int = CONNECTIONS
    _http: aiohttp.ClientSession | None = None
    _budget: CallBudget | None = None
    _turns: Turns | None = None
    """At the connections."""
    _kept: dict[tuple[object, ...], Any] = field(default_factory=dict)
    _used: dict[tuple[object, ...], float] = field(default_factory=dict)
    """The time of each client's last use; the longest unused first."""

    async def __aenter__(self) -> Self:
        self._http = open_session(connections=self.connections)
        self._budget = CallBudget(self.rates)
        self._turns = Turns(self.connections)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in reversed(self._kept.values()):
            await client.close()
        self._kept.clear()
        if self._http is not None:
            await self._http.close()

    def budget_state(self) -> tuple[BudgetState, ...]:
        """The state of the call budgets that are closed or not full."""
        return tuple(self._budget.drawn_on()) if self._budget is not None else ()

    def _touch(self, key: tuple[object, ...]) -> None:
        self._used.pop(key, None)
        self._used[key] = self.monotonic()

    def held(self) -> int:
        """The number of clients held in memory."""
        return len(self._kept)

    def _keep(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        self._touch(key)
        return kept

    def client_options(self, base_url: str) -> ClientOptions:
        """The options of every SDK client: the shared session, the call budget, and few retries.

        Requests to another origin than that of `base_url` are refused, whatever an answer says.

        A broken connection is retried at once, at most twice. An answer is never retried here: the work queue does that.
        """
        if self._http is None or self._budget is None or self._turns is None:
            raise RuntimeError("AzureSession is used outside of its context")
        return {
            "transport": BudgetedTransport(self._http, self._budget, self.telemetry, base_url, self._turns),
            "retry_total": 2,
            "retry_connect": 2,
            "retry_read": 1,
            "retry_status": 0,
            "retry_backoff_factor": 0.2,
            "permit_redirects": False,
            "connection_timeout": CONNECTION_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "user_agent": USER_AGENT,
        }

    def managed_identity(self, chain: IdentityChain) -> ManagedIdentityCredential:
        """The operator's credential in the provider's tenant. Raises `TokenUnavailableError` if there is no token file."""
        token_file = self.token_file.require()
        return self._keep(
            ("managed identity", chain),
            lambda: ManagedIdentityCredential(chain, token_file, **self.client_options(_authority(chain))),
        )

    def application(self, chain: IdentityChain, customer_tenant_id: str) -> ApplicationCredential:
        """The application's credential in a customer's tenant. Raises `TokenUnavailableError` if there is no token file."""
        assertion = self._assertion(chain)
        return self._keep(
            ("application", chain, customer_tenant_id.lower()),
            lambda: ApplicationCredential(chain, customer_tenant_id, assertion, **self.client_options(_authority(chain))),
        )

    def _assertion(self, chain: IdentityChain) -> Callable[[], Awaitable[str]]:
        if chain.by_service_account:
            return service_account_assertion(self.token_file.require())
        return managed_identity_assertion(self.managed_identity(chain), chain.cloud)

    async def fresh_operator_sign_in(self, chain: IdentityChain) -> None:
        """Get a new Resource Manager token as the managed identity, not one from the cache, where it lives for up to a day.

        If Entra does not know the identity any more, the clients that it signed in are dropped. Raises `TokenUnavailableError`.
        """
        token_file = self.token_file.require()
        async with ManagedIdentityCredential(chain, token_file, **self.client_options(_authority(chain))) as credential:
            try:
                await credential.get_token(chain.cloud.resource_manager_scope)
            except TokenUnavailableError as error:
                if judge_token_failure(error.failure).state.is_known_loss:
                    self._forget_chain(chain)
                raise

    async def fresh_sign_in(self, chain: IdentityChain, customer_tenant_id: str) -> None:
        """Get a new Key Vault token in the customer's tenant, and replace the cached one by Entra's answer.

        A cached token is valid for up to a day after the consent was withdrawn, and names a principal that a new consent does
        not restore. An outage of Entra does not drop a cached token. Raises `TokenUnavailableError`.
        """
        credential = ApplicationCredential(
            chain, customer_tenant_id, self._assertion(chain), **self.client_options(_authority(chain))
        )
        try:
            await credential.get_token(chain.cloud.key_vault_scope)
        except TokenUnavailableError as error:
            state = judge_token_failure(error.failure).state
            if state.is_known_loss:
                self._forget_application(chain, customer_tenant_id)
            await credential.close()
            if state in {AccessState.IDENTITY_BROKEN, AccessState.ENTRA_REFUSED} and not chain.by_service_account:
                await self._raise_if_identity_is_gone(chain)
            raise
        self._forget_application(chain, customer_tenant_id)
        self._keep(("application", chain, customer_tenant_id.lower()), lambda: credential)

    async def _raise_if_identity_is_gone(self, chain: IdentityChain) -> None:
        """Raise if the managed identity no longer exists: its cached assertion is then the cause of Entra's refusal."""
        try:
            await self.fresh_operator_sign_in(chain)
        except TokenUnavailableError as error:
            if judge_token_failure(error.failure).state.is_known_loss:
                raise

    def _forget_application(self, chain: IdentityChain, customer_tenant_id: str) -> None:
        """Drop the application's clients in one tenant, with their tokens. A reconcile that holds one still finishes with it."""
        owner = (chain, customer_tenant_id.lower())
        credential = self._kept.pop(("application", *owner), None)
        for key in [key for key in self._kept if key[1:3] == owner or (key[0] == "rest" and key[1] is credential)]:
            del self._kept[key]

    def _forget_chain(self, chain: IdentityChain) -> None:
        """Drop the managed identity's clients, and those of the application for which its tokens were the assertion."""
        if not chain.by_service_account:
            for tenant in [key[2] for key in self._kept if key[:2] == ("application", chain)]:
                self._forget_application(chain, str(tenant))
        self.forget_managed_identity(chain)

    def forget_managed_identity(self, chain: IdentityChain) -> None:
        """Drop the clients of one managed identity, with their tokens, which lack permissions that were granted later."""
        credential = self._kept.pop(("managed identity", chain), None)
        for key in [
            key
            for key in self._kept
            if key[:2] in {("resource manager", chain), ("management", chain)} or (key[0] == "rest" and key[1] is credential)
        ]:
            del self._kept[key]

    def forget_credential(self, credential: AsyncTokenCredential) -> None:
        """Drop the clients of `rest` that use a replaced credential."""
        for key in [key for key in self._kept if key[0] == "rest" and key[1] is credential]:
            del self._kept[key]

    def keys(self, chain: IdentityChain, customer_tenant_id: str, vault_url: str) -> KeyClient:
        """A client for the keys of one vault, signed in as the application."""
        credential = VaultCredential(self.application(chain, customer_tenant_id), chain.cloud.key_vault_scope)
        return self._keep(
            ("keys", chain, customer_tenant_id.lower(), vault_url),
            lambda: KeyClient(vault_url, credential, **self.client_options(vault_url)),
        )

    def registered(self, application: RegisteredApplication) -> RegisteredCredential:
        """The credential of an organization's own registration."""
        return self._keep(("registered", application), lambda: self._new_registered(application))

    def _new_registered(self, application: RegisteredApplication) -> RegisteredCredential:
        authority = f"https://{application.cloud.authority_host}"
        return RegisteredCredential(application, lambda: self.client_options(authority))

    def registered_keys(self, application: RegisteredApplication, vault_url: str) -> KeyClient:
        """A client for the keys of one vault, signed in as an organization's own registration."""
        credential = VaultCredential(self.registered(application), application.cloud.key_vault_scope)
        return self._keep(
            ("registered keys", application, vault_url),
            lambda: KeyClient(vault_url, credential, **self.client_options(vault_url)),
        )

    async def fresh_registered_sign_in(self, application: RegisteredApplication) -> None:
        """Get a new Key Vault token as an organization's own registration, and replace the cached one by Entra's answer.

        A cached token outlives the credential that it was got with. An outage of Entra does not drop it. Raises
        `TokenUnavailableError`.
        """
        credential = self._new_registered(application)
        try:
            # As Key Vault's client asks; azure-identity keeps such tokens apart from others.
            await credential.get_token(application.cloud.key_vault_scope, enable_cae=True)
        except TokenUnavailableError as error:
            await credential.close()
            if is_refusal(error.failure):
                self._forget_registered(application)
            raise
        self._forget_registered(application)
        self._keep(("registered", application), lambda: credential)

    def _forget_registered(self, application: RegisteredApplication) -> None:
        """Drop the clients of a registration, with their tokens."""
        for key in [key for key in self._kept if key[0] in {"registered", "registered keys"} and key[1] == application]:
            del self._kept[key]

    def resource_manager(self, chain: IdentityChain) -> RestClient:
        """A client for Azure Resource Manager, signed in as the managed identity."""
        credential = self.managed_identity(chain)
        scope = chain.cloud.resource_manager_scope
        return self._rest(
            f"https://{chain.cloud.resource_manager}",
            AsyncARMChallengeAuthenticationPolicy(credential, scope),
            ("resource manager", chain),
        )

    def customer_resource_manager(self, chain: IdentityChain, customer_tenant_id: str) -> RestClient:
        """A client for Azure Resource Manager in a customer's tenant, signed in as the application."""
        credential = self.application(chain, customer_tenant_id)
        return self._rest(
            f"https://{chain.cloud.resource_manager}",
            AsyncARMChallengeAuthenticationPolicy(credential, chain.cloud.resource_manager_scope),
            ("customer resource manager", chain, customer_tenant_id.lower()),
        )

    def rest(self, credential: AsyncTokenCredential, base_url: str, scope: str) -> RestClient:
        """A client for calls to `base_url` that the SDKs do not offer, with the same session and call budget."""
        policy = policies.AsyncBearerTokenCredentialPolicy(credential, scope)
        return self._rest(base_url, policy, ("rest", credential, base_url))

    async def management(self, sdk: Sdk[ClientT], chain: IdentityChain, subscription_id: str) -> ClientT:
        """A management SDK's client for one subscription, signed in as the managed identity; imports the SDK on first use.

        Raises `TokenUnavailableError` if there is no token file.
        """
        key = ("management", chain, sdk.package, subscription_id.lower())
        if key not in self._kept:
            await self._make_management(sdk, chain, subscription_id, key)
        client: ClientT = self._kept[key]
        self._touch(key)
        self.drop_unused()
        return client

    async def _make_management(
        self, sdk: Sdk[ClientT], chain: IdentityChain, subscription_id: str, key: tuple[object, ...]
    ) -> None:
        client_class = await sdk.client_class()
        credential = self.managed_identity(chain)
        base_url, scope = f"https://{chain.cloud.resource_manager}", chain.cloud.resource_manager_scope

        def make() -> ClientT:
            authentication = AsyncARMChallengeAuthenticationPolicy(credential, scope)
            transport, chained = self._pipeline(base_url, authentication)
            return client_class(
                credential,
                subscription_id,
                base_url,
                credential_scopes=[scope],
                authentication_policy=authentication,
                policies=[WholeAnswer(sdk.fields), *chained],
                transport=transport,
            )

        self._keep(key, make)

    def drop_unused(self) -> None:
        """Drop the clients that were not used for `UNUSED_FOR` seconds. They need no close, because connections are shared."""
        while self._used:
            key, used = next(iter(self._used.items()))
            if self.monotonic() - used <= UNUSED_FOR:
                return
            del self._used[key]
            self._kept.pop(key, None)

    def _pipeline(
        self, base_url: str, authentication: AsyncHTTPPolicy[Any, Any]
    ) -> tuple[BudgetedTransport, list[AsyncHTTPPolicy[Any, Any] | SansIOHTTPPolicy[Any, Any]]]:
        """A transport and its policies, new for each client: a shared one would mix up the requests of two clients."""
        options = self.client_options(base_url)
        return options["transport"], [
            policies.RequestIdPolicy(),
            policies.UserAgentPolicy(**options),
            policies.AsyncRetryPolicy(**options),
            authentication,
        ]

    def _rest(self, base_url: str, authentication: AsyncHTTPPolicy[Any, Any], key: tuple[object, ...]) -> RestClient:
        def make() -> RestClient:
            transport, chained = self._pipeline(base_url, authentication)
            return RestClient(AsyncPipelineClient(base_url, policies=chained, transport=transport))

        return self._keep(key, make)
