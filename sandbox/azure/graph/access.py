"""Who may use Microsoft Graph: the tenant's administrators, and applications with the right app role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.entra.tokens import GRAPH_AUDIENCES, Claims, TokenInvalidError
from sandbox.azure.errors import GraphRefusedError

if TYPE_CHECKING:
    from sandbox.azure.entra.directory import Directory, Tenant
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.exchange import Exchange

READERS = frozenset({"Application.Read.All", "Application.ReadWrite.All", "Directory.Read.All"})
WRITERS = frozenset({"Application.ReadWrite.All"})


def not_found(name: str) -> GraphRefusedError:
    """Request_ResourceNotFound."""
    message = f"Resource '{name}' does not exist or one of its queried reference-property objects are not present."
    return GraphRefusedError(404, "Request_ResourceNotFound", message)


def bad_request(message: str) -> GraphRefusedError:
    """Request_BadRequest."""
    return GraphRefusedError(400, "Request_BadRequest", message)


class GraphAccess:
    """Checks the token and the permission; a token carries the app roles it was issued with."""

    def __init__(self, directory: Directory, tokens: Tokens) -> None:
        self._directory = directory
        self._tokens = tokens

    def admitted(self, exchange: Exchange, *, write: bool = False, administrators_only: bool = False) -> tuple[Tenant, Claims]:
        """The caller and its tenant. Raises GraphRefusedError 401 or 403."""
        token = exchange.bearer()
        if token is None:
            raise GraphRefusedError(401, "InvalidAuthenticationToken", "Access token is empty.")
        try:
            claims = self._tokens.verify(token, GRAPH_AUDIENCES)
        except TokenInvalidError as error:
            message = {
                "audience": "Access token validation failure. Invalid audience.",
                "expired": "Lifetime validation failed, the token is expired.",
            }.get(error.reason, "Access token validation failure.")
            raise GraphRefusedError(401, "InvalidAuthenticationToken", message) from error
        exchange.notes.principal, exchange.notes.application = claims.object_id, claims.app_id
        tenant = self._directory.tenants[claims.tenant_id]
        allowed = claims.object_id in tenant.administrators
        if not administrators_only:
            allowed = allowed or bool(claims.roles & (WRITERS if write else READERS))
        if not allowed:
            raise GraphRefusedError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
        return tenant, claims
