"""The entry to Azure Resource Manager: checks token, permission, locks and limits, then calls the resource provider."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sandbox.azure.arm.api_versions import check_api_version, known_type, supported_versions
from sandbox.azure.arm.bodies import asked_api_version
from sandbox.azure.arm.throttling import Bucket, retry_after
from sandbox.azure.clock import utc
from sandbox.azure.endpoints import here
from sandbox.azure.entra.tokens import Claims, TokenInvalidError, arm_audiences
from sandbox.azure.errors import ArmRefusedError
from sandbox.azure.exchange import JSON, NOT_CACHED, Answer, Exchange, MalformedBodyError, Router

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.azure.arm.authorization import Authorization
    from sandbox.azure.arm.locks import Locks
    from sandbox.azure.arm.subscriptions import Subscription, Subscriptions
    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.timings import Timings


VAULT_PROVIDER_VERSION = "1.5.1491.0"
LARGEST_BODY = 4 * 1024 * 1024
"""https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits"""


@dataclass(frozen=True)
class ArmCall:
    """A request that passed the front door."""

    exchange: Exchange
    caller: Claims
    scope: str

    def __getitem__(self, name: str) -> str:
        """The path parameter of this name."""
        return self.exchange.parameters[name]

    def body(self) -> JSON:
        """The JSON body. Raises ArmRefusedError: InvalidRequestContent."""
        try:
            return self.exchange.json()
        except MalformedBodyError as error:
            raise ArmRefusedError(
                400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{error}'."
            ) from error


def scope_of(path: str) -> str:
    """The resource, or the parent of a collection or of an action, that a path is about."""
    segments = path.strip("/").split("/")
    lower = [one.lower() for one in segments]
    if "providers" not in lower:
        return "/" + "/".join(segments[: len(segments) // 2 * 2])
    position = len(lower) - 1 - lower[::-1].index("providers")
    tail = segments[position + 2 :]
    if len(tail) % 2:
        segments = segments[:-1]
        tail = tail[:-1]
    if not tail:
        segments = segments[:position]
    return "/" + "/".join(segments)


class Gateway:
    """Registers the resource providers' operations and guards them."""

    def __init__(
        self,
        *,
        tokens: Tokens,
        authorization: Authorization,
        locks: Locks,
        subscriptions: Subscriptions,
        clock: Clock,
        timings: Timings,
    ) -> None:
        self.authorization = authorization
        self.locks = locks
        self.subscriptions = subscriptions
        self._tokens = tokens
        self._clock = clock
        self._timings = timings
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self.router = Router()
        self.actions: set[str] = set()
        """Every action that an operation needs, in lower case: what a custom role may name."""

    @property
    def list_page_size(self) -> int:
        """How many resources are on a full page of a list."""
        return int(self._timings.list_page_size)

    def now(self) -> float:
        """Virtual seconds since the epoch."""
        return self._clock.now()

    def supported_versions(self, kind: str) -> list[str]:
        """The api-versions of a resource type that have not ended, oldest first."""
        return supported_versions(kind, ended=self._clock.now() >= self._timings.older_vault_versions_end_at)

    def add(
        self,
        method: str,
        template: str,
        handler: Callable[[ArmCall], Awaitable[Answer]],
        *,
        kind: str,
        action: str | None,
    ) -> None:
        """Serve an operation of resource type `kind`; `action` None means that any caller of the tenant may do it.

        What was assigned on a resource or below it is gone once its deletion is accepted.
        """

        async def guarded(exchange: Exchange) -> Answer:
            call = self._admitted(exchange, kind, action)
            asked_api_version.set(exchange.query["api-version"].lower())
            answer = await handler(call)
            if exchange.method == "DELETE" and not kind.lower().startswith("microsoft.authorization/"):
                self.authorization.forget_below(call.scope)
            return answer

        if action is not None:
            self.actions.add(action.lower())
        self.router.add(method, template, guarded)

    def _admitted(self, exchange: Exchange, kind: str, action: str | None) -> ArmCall:
        caller = self.authenticate(exchange)
        subscription = self._subscription(exchange, caller)
        self._throttle(exchange, caller, subscription)
        _check_content(exchange)
        check_api_version(exchange, kind, self.supported_versions(kind), _location(exchange, subscription))
        scope = exchange.parameters.get("scope", scope_of(exchange.path)).rstrip("/") or "/"
        if not scope.startswith("/"):
            scope = "/" + scope
        if action is not None:
            self.authorize(caller, action, scope, self._whole(exchange.path, scope, kind))
        if exchange.method != "GET" and not kind.lower().startswith("microsoft.authorization/locks"):
            self.locks.check(exchange.method, scope, action or "")
        return ArmCall(exchange, caller, scope)

    @staticmethod
    def _whole(path: str, scope: str, kind: str) -> str:
        return path.rstrip("/") if kind.lower().startswith("microsoft.authorization/") else scope

    def authenticate(self, exchange: Exchange) -> Claims:
        """The caller's token. Raises ArmRefusedError 401."""
        token = exchange.bearer()
        if token is None:
            raise _unauthenticated("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        try:
            claims = self._tokens.verify(token, arm_audiences())
        except TokenInvalidError as error:
            raise _refusal(error, self._clock.wall()) from error
        exchange.notes.principal, exchange.notes.application = claims.object_id, claims.app_id
        return claims

    def _subscription(self, exchange: Exchange, caller: Claims) -> Subscription | None:
        segments = exchange.path.strip("/").split("/")
        if segments[0].lower() != "subscriptions" or len(segments) < 2:
            return None
        subscription = self.subscriptions.find(segments[1])
        if subscription is None:
            raise ArmRefusedError(404, "SubscriptionNotFound", f"The subscription '{segments[1]}' could not be found.")
        if subscription.tenant_id != caller.tenant_id:
            expected = f"{here().token_issuer}/{subscription.tenant_id}/"
            raise _unauthenticated(
                "InvalidAuthenticationTokenTenant",
                f"The access token is from the wrong issuer '{caller.issuer}'. It must match the tenant '{expected}' associated with "
                f"this subscription. Please use the authority (URL) 'https://{here().login_alias}/{subscription.tenant_id}' to get the "
                "token. Note, if the subscription is transferred to another tenant there is no impact to the services, but "
                "information about new tenant could take time to propagate (up to an hour). If you just transferred your "
                "subscription and see this error message, please try back later.",
                f'authorization_uri="https://{here().login_alias}/{subscription.tenant_id}", error="invalid_token", '
                'error_description="The access token is from the wrong issuer. It must match the tenant associated with this '
                'subscription."',
            )
        return subscription

    def _throttle(self, exchange: Exchange, caller: Claims, subscription: Subscription | None) -> None:
        operation = {"GET": "read", "HEAD": "read", "DELETE": "delete"}.get(exchange.method, "write")
        reads = operation == "read"
        size = self._timings.arm_read_bucket if reads else self._timings.arm_write_bucket
        refill = self._timings.arm_read_refill_per_second if reads else self._timings.arm_write_refill_per_second
        where = subscription.id if subscription else caller.tenant_id
        key = (where, caller.object_id, operation)
        bucket = self._buckets.get(key)
        if bucket is None or (bucket.size, bucket.refill) != (size, refill):
            bucket = self._buckets[key] = Bucket(size, refill)
        wait = bucket.take()
        level = "subscription" if subscription else "tenant"
        exchange.notes.headers[f"x-ms-ratelimit-remaining-{level}-{operation}s"] = str(int(bucket.level))
        if wait:
            seconds = retry_after(wait)
            raise ArmRefusedError(
                429,
                f"{level.capitalize()}RequestsThrottled",
                f"Number of '{operation}' requests for {level} '{where}' actor '{caller.object_id}' exceeded. Please try again after "
                f"'{seconds}' seconds after additional tokens are available. Refer to https://aka.ms/arm-throttling for additional "
                "information.",
                headers={"Retry-After": seconds},
            )

    def authorize(self, caller: Claims, action: str, scope: str, shown: str | None = None) -> None:
        """Raises ArmRefusedError 403 AuthorizationFailed unless a role in force allows the action at the scope."""
        if self.authorization.allows(caller.object_id, action, scope):
            return
        raise ArmRefusedError(
            403,
            "AuthorizationFailed",
            f"The client '{caller.app_id}' with object id '{caller.object_id}' does not have authorization to perform action "
            f"'{action}' over scope '{shown or scope}' or the scope is invalid. If access was recently granted, please refresh your "
            "credentials.",
        )

    def authorize_linked(self, caller: Claims, action: str, linked: str, own_action: str, scope: str) -> None:
        """Raises ArmRefusedError 403 LinkedAuthorizationFailed: the caller may not use the other resource it names."""
        if self.authorization.allows(caller.object_id, action, linked):
            return
        raise ArmRefusedError(
            403,
            "LinkedAuthorizationFailed",
            f"The client '{caller.app_id}' with object id '{caller.object_id}' has permission to perform action '{own_action}' on scope "
            f"'{scope}'; however, it does not have permission to perform action(s) '{action}' on the linked scope(s) '{linked}' "
            "(respectively) or the linked scope(s) are invalid.",
        )

    async def serve(self, exchange: Exchange) -> Answer:
        """Find the operation and run it. Raises ArmRefusedError."""
        exchange = replace(exchange, path=re.sub("/{2,}", "/", exchange.path))
        found = self.router.find(exchange)
        if found is None:
            self._subscription(exchange, self.authenticate(exchange))
            raise self._unknown(exchange)
        handler, matched = found
        return await handler(matched)

    def _unknown(self, exchange: Exchange) -> ArmRefusedError:
        if methods := self.router.methods(exchange.path):
            return ArmRefusedError(
                405,
                "MethodNotAllowed",
                f"The HTTP method '{exchange.method}' is not supported at scope '{exchange.path}'.",
                headers={"Allow": ", ".join(methods)},
            )
        segments = exchange.path.strip("/").split("/")
        lower = [one.lower() for one in segments]
        if "providers" in lower and len(lower) > lower.index("providers") + 2:
            at = lower.index("providers")
            namespace, kind = segments[at + 1], segments[at + 2]
            if not known_type(f"{namespace}/{kind}"):
                return ArmRefusedError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
            return ArmRefusedError(
                404,
                "InvalidResourceType",
                f"The resource type could not be found in the namespace '{namespace}' for api version "
                f"'{exchange.query.get('api-version', '')}'.",
            )
        return ArmRefusedError(404, "NotFound", f"No HTTP resource was found that matches the request URI '{exchange.path}'.")


def _location(exchange: Exchange, subscription: Subscription | None) -> str:
    """Where a request is about: the region of its resource group, or that of the subscription."""
    group = subscription.groups.get(exchange.parameters.get("group", "").lower()) if subscription else None
    return group.location if group else "westeurope"


def _check_content(exchange: Exchange) -> None:
    """Raises ArmRefusedError: 413 for a body above 4 MB, 415 for one that is not declared to be JSON."""
    if len(exchange.body) > LARGEST_BODY:
        raise ArmRefusedError(413, "RequestContentTooLarge", "The request content size exceeds the maximum size of 4 MB.")
    declared = exchange.headers.get("content-type")
    if exchange.body and exchange.media_type != "application/json":
        raise ArmRefusedError(
            415,
            "UnsupportedMediaType",
            f"The content media type '{declared or '<null>'}' is not supported. Only 'application/json' is supported.",
        )


def correlation_headers(exchange: Exchange, now: float) -> dict[str, str]:
    """What ARM adds to every response."""
    correlation = exchange.headers.get("x-ms-correlation-request-id", str(uuid.uuid4()))
    of_vaults = "/providers/microsoft.keyvault/" in exchange.path.lower()
    return {
        **({"x-ms-keyvault-service-version": VAULT_PROVIDER_VERSION} if of_vaults else {}),
        **NOT_CACHED,
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "x-ms-correlation-request-id": correlation,
        "x-ms-routing-request-id": f"WESTEUROPE:{utc(now):%Y%m%dT%H%M%SZ}:{correlation}",
        **exchange.notes.headers,
    }


def _unauthenticated(code: str, message: str, challenge: str | None = None) -> ArmRefusedError:
    challenge = (
        challenge
        or f'authorization_uri="https://{here().login_alias}/", error="invalid_token", error_description="' + message + '"'
    )
    return ArmRefusedError(401, code, message, headers={"WWW-Authenticate": f"Bearer {challenge}"})


def _refusal(error: TokenInvalidError, now: float) -> ArmRefusedError:
    if error.reason == "audience":
        return _unauthenticated(
            "InvalidAuthenticationTokenAudience",
            f"The access token has been obtained for wrong audience or resource '{error.token_audience}'. It should exactly match with "
            f"one of the allowed audiences 'https://{here().management_core}/','https://{here().management_core}',"
            f"'https://{here().resource_manager}/','https://{here().resource_manager}'.",
        )
    if error.reason == "expired":
        return _unauthenticated(
            "ExpiredAuthenticationToken",
            f"The access token expiry UTC time '{utc(error.expiry):%m/%d/%Y %I:%M:%S %p}' is earlier than current UTC time "
            f"'{utc(now):%m/%d/%Y %I:%M:%S %p}'.",
        )
    return _unauthenticated("InvalidAuthenticationToken", "The access token is invalid.")
