"""Who may use Microsoft Graph: the tenant's administrators, and applications with the right app role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sandbox.azure.endpoints import here
from sandbox.azure.entra.tokens import Claims, TokenInvalidError, graph_audiences
from sandbox.azure.errors import GraphRefusedError
from sandbox.azure.exchange import Answer
from sandbox.azure.graph.views import listed

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandbox.azure.entra.directory import Directory, Tenant
    from sandbox.azure.entra.tokens import Tokens
    from sandbox.azure.exchange import Exchange
    from sandbox.azure.timings import Timings

LARGEST_PAGE = 999
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

    def __init__(self, directory: Directory, tokens: Tokens, timings: Timings) -> None:
        self._directory = directory
        self._tokens = tokens
        self._timings = timings

    def page(self, exchange: Exchange, kind: str, items: list[dict[str, Any]]) -> Answer:
        """The page that a request asks for: `$top` objects or the default, with `@odata.nextLink` if there is more.

        A list of several pages has empty ones and shorter ones among them (https://learn.microsoft.com/graph/paging).
        """
        query = exchange.query
        top = query.get("$top", str(int(self._timings.graph_page_size)))
        if not top.isdigit() or not 1 <= int(top) <= LARGEST_PAGE:
            raise GraphRefusedError(400, "Request_UnsupportedQuery", f"Invalid page size specified: '{top}'.")
        size, (start, _, turn) = int(top), query.get("$skiptoken", "0.0").partition(".")
        if not start.isdigit() or not turn.isdigit():
            raise GraphRefusedError(400, "Directory_ExpiredPageToken", "The specified page token value has expired.")
        begin, before = int(start), int(turn)
        sizes = (size, 0, max(1, size // 2))
        end = min(begin + sizes[before % len(sizes)], len(items))
        body = listed(kind, items[begin:end])
        if end < len(items):
            more = urlencode({**query, "$skiptoken": f"{end}.{before + 1}"})
            body["@odata.nextLink"] = f"https://{here().graph}{exchange.path}?{more}"
        return Answer(json=body)

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
