"""Asks the API server who calls (TokenReview) and what the caller may do (SubjectAccessReview).

Source: Kubernetes API reference, authentication.k8s.io/v1 and authorization.k8s.io/v1. The ClusterRole `system:auth-delegator`
is the right that both need.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt

from cmk_keyservice.callers.answers import Answer, Answers
from cmk_keyservice.callers.caller import Caller, Place, is_service_account
from cmk_keyservice.problem import Kind, ProblemError, problem_error
from cmk_operator.api.model import GROUP
from cmk_operator.kubernetes.client import KubernetesError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cmk_operator.kubernetes.client import KubernetesClient

RESOURCE: Final = "organizationkeys"
SUBRESOURCE: Final = "data"
MOST_TOKENS: Final = 10_000
MOST_RIGHTS: Final = 50_000
LONGEST_TOKEN: Final = 16_384
_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class ReviewTimes:
    """For how long, in seconds, an answer of the API server is used: while it answers, and how much longer while it does not."""

    fresh_for: float = 60.0
    outage_grace: float = 600.0


class Reviews:
    """Callers and their rights, each asked of the API server and remembered. Nobody has a right that no Role gives."""

    def __init__(
        self,
        client: KubernetesClient,
        audience: str,
        times: ReviewTimes,
        counted: Callable[[str, str], None] = lambda _kind, _result: None,
    ) -> None:
        """`counted` is called with the kind of each review and its result: allowed, refused or failed."""
        self._client, self._audience, self._counted = client, audience, counted
        self._tokens: Answers[bytes, Caller | None] = Answers(times.fresh_for, times.outage_grace, MOST_TOKENS)
        self._rights: Answers[tuple[Caller, Place, str], bool] = Answers(times.fresh_for, times.outage_grace, MOST_RIGHTS)

    async def caller(self, authorization: str) -> Caller:
        """The ServiceAccount whose token the header `Authorization` bears.

        Raises `ProblemError`: Unauthenticated for no token or a refused one, Unavailable if the API server cannot be asked.
        """
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise self._unauthenticated("TokenMissing", "the request bears no token")
        # The digest, so that no token stays in memory.
        caller = await self._tokens.get(hashlib.sha256(token.encode()).digest(), lambda: self._review_token(token))
        if caller is None:
            raise self._unauthenticated(
                "TokenNotAccepted", f"the API server accepts the token as none of a ServiceAccount for {self._audience}"
            )
        return caller

    async def require(self, caller: Caller, place: Place, verb: str, organization: str) -> None:
        """Return if the caller may do `verb` for the organization, whose OrganizationKey is `place`.

        Raises `ProblemError`: Forbidden, in the same words whether or not there is such an organization; Unavailable.
        """
        if not await self.may(caller, place, verb):
            raise problem_error(
                Kind.FORBIDDEN,
                "RightMissing",
                f"no Role lets ServiceAccount {caller.service} {verb} for organization {organization}, or there is no such "
                "organization",
                f"the administrator of the namespace of the OrganizationKey must bind a Role with the verb {verb} on "
                f"{RESOURCE}/{SUBRESOURCE} to the ServiceAccount (docs/application-level-encryption.md)",
            )

    async def may(self, caller: Caller, place: Place, verb: str) -> bool:
        """Whether a Role lets the caller do `verb` there. Raises `ProblemError` (Unavailable)."""
        return await self._rights.get((caller, place, verb), lambda: self._review_access(caller, place, verb))

    async def _review_token(self, token: str) -> Answer[Caller | None]:
        claims = _claims(token)
        if self._audience not in _audiences(claims):
            # What cannot be a token for this service costs the API server nothing.
            return Answer(None, allowed=False)
        spec = {"token": token, "audiences": [self._audience]}
        status = await self._ask(_TOKEN_REVIEWS, "TokenReview", "authentication.k8s.io/v1", spec)
        user = status.get("user") or {}
        # An authenticator that knows no audiences answers none: then the token was not made for this service.
        accepted = bool(status.get("authenticated")) and self._audience in (status.get("audiences") or ())
        if not accepted or not is_service_account(str(user.get("username", ""))):
            self._counted("TokenReview", "refused")
            return Answer(None, allowed=False)
        self._counted("TokenReview", "allowed")
        extra = tuple(sorted((str(name), tuple(values)) for name, values in (user.get("extra") or {}).items()))
        caller = Caller(str(user["username"]), str(user.get("uid", "")), tuple(user.get("groups") or ()), extra)
        return Answer(caller, allowed=True, good_for=_seconds_left(claims))

    async def _review_access(self, caller: Caller, place: Place, verb: str) -> Answer[bool]:
        attributes = {
            "group": GROUP,
            "resource": RESOURCE,
            "subresource": SUBRESOURCE,
            "verb": verb,
            "namespace": place.namespace,
            "name": place.name,
        }
        spec = {
            "user": caller.username,
            "uid": caller.uid,
            "groups": list(caller.groups),
            "extra": {name: list(values) for name, values in caller.extra},
            "resourceAttributes": attributes,
        }
        status = await self._ask(_ACCESS_REVIEWS, "SubjectAccessReview", "authorization.k8s.io/v1", spec)
        allowed = bool(status.get("allowed")) and not status.get("denied")
        self._counted("SubjectAccessReview", "allowed" if allowed else "refused")
        return Answer(allowed, allowed=allowed)

    async def _ask(self, path: str, kind: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._client.request("POST", path, body={"apiVersion": version, "kind": kind, "spec": spec})
        except KubernetesError as error:
            self._counted(kind, "failed")
            # 401 and 403 are about the key service's own token and its own rights, and say nothing of the caller.
            if error.status in {401, 403}:
                raise problem_error(
                    Kind.UNAVAILABLE,
                    "CallersCannotBeReviewed",
                    f"the API server refuses the key service's own {kind} with {error.status}",
                    "the administrator of the cluster must give the key service's ServiceAccount the ClusterRole "
                    "system:auth-delegator, or restart the key service if its own token has expired",
                ) from None
            raise problem_error(
                Kind.UNAVAILABLE,
                "CallersCannotBeReviewed",
                f"the API server does not answer a {kind} (status {error.status})",
                "try again; if it lasts, the administrator of the cluster must look at the API server",
                retry_after=1.0,
            ) from None
        return dict(answer.get("status") or {})

    def _unauthenticated(self, code: str, detail: str) -> ProblemError:
        return problem_error(
            Kind.UNAUTHENTICATED,
            code,
            detail,
            f"whoever deploys the caller must mount a ServiceAccount token for the audience {self._audience} and send it in the "
            "header Authorization: Bearer",
        )


def _claims(token: str) -> dict[str, Any]:
    """What the token claims, unproven: only good for refusing what cannot be meant, and for ending an accepted one in time."""
    if len(token) > LONGEST_TOKEN:
        return {}
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):
        return {}
    return claims


def _audiences(claims: dict[str, Any]) -> tuple[str, ...]:
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        return (audiences,)
    return tuple(each for each in audiences if isinstance(each, str)) if isinstance(audiences, list) else ()


def _seconds_left(claims: dict[str, Any]) -> float:
    expires = claims.get("exp")
    return max(0.0, expires - time.time()) if isinstance(expires, int | float) else float("inf")
