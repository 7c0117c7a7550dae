"""Who may use Microsoft Graph: the tenant's administrators, and applications with the right app role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.azure.entra.tokens import Claims, TokenInvalidError, graph_audiences
from sandbox.azure.errors import GraphRefusedError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.azure.entra.directory import Directory, Tenant
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.exchange import Exchange

WRITERS = frozenset({"Application.ReadWrite.All"})
OWNERS = frozenset({"Application.ReadWrite.OwnedBy"})
"""May create applications, read all of them, and write those that they own."""
READERS = frozenset({"Application.Read.All", "Directory.Read.All"}) | WRITERS | OWNERS


def not_found(name: str) -> GraphRefusedError:
    """Request_ResourceNotFound."""
    message = f"Resource '{name}' does not exist or one of its queried reference-property objects are not present."
    return GraphRefusedError(404, "Request_ResourceNotFound", message)


def bad_request(message: str) -> GraphRefusedError:
    """Request_BadRequest."""
    return GraphRefusedError(400, "Request_BadRequest", message)


def denied() -> GraphRefusedError:
    """Authorization_RequestDenied."""
    return GraphRefusedError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")


class GraphAccess:
    """Checks the token and the permission; a token carries the app roles it was issued with."""

    def __init__(self, directory: Directory, tokens: Tokens) -> None:
        self._directory = directory
        self._tokens = tokens

    def admitted(
        self, exchange: Exchange, *, write: bool = False, administrators_only: bool = False, owners_too: bool = False
    ) -> tuple[Tenant, Claims]:
        """The caller and its tenant; `owners_too` lets those write who may write what they own. Raises GraphRefusedError 401 or 403."""
        token = exchange.bearer()
        if token is None:
            raise GraphRefusedError(401, "InvalidAuthenticationToken", "Access token is empty.")
        try:
            claims = self._tokens.verify(token, graph_audiences())
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
            needed = (WRITERS | OWNERS if owners_too else WRITERS) if write else READERS
            allowed = allowed or bool(claims.roles & needed)
        if not allowed:
            raise denied()
        return tenant, claims

    @staticmethod
    def check_owner(tenant: Tenant, claims: Claims, owners: Collection[str]) -> None:
        """Raises GraphRefusedError 403 for a caller that may write only what it owns, and does not own this."""
        if claims.object_id in tenant.administrators or claims.roles & WRITERS or claims.object_id in owners:
            return
        raise denied()
