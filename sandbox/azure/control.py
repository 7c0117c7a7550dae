"""The control server: the clock, timings, faults and the request log, as JSON over plain HTTP on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from sandbox.azure.clock import Clock
    from sandbox.azure.entra.users import Users
    from sandbox.azure.faults import Faults
    from sandbox.azure.key_vault.model import Vaults
    from sandbox.azure.proxy import ConnectProxy
    from sandbox.azure.request_log import RequestLog
    from sandbox.azure.snowflake.administration import Administration
    from sandbox.azure.timings import Timings


class Control:
    """The routes."""

    def __init__(
        self,
        clock: Clock,
        timings: Timings,
        faults: Faults,
        log: RequestLog,
        proxy: ConnectProxy,
        snowflake: Administration,
        *,
        vaults: Vaults,
        users: Users,
    ) -> None:
        self._clock = clock
        self._timings = timings
        self._faults = faults
        self._log = log
        self._proxy = proxy
        self._snowflake = snowflake
        self._vaults = vaults
        self._users = users

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/clock", _checked(self.clock), methods=["GET", "POST"]),
                Route("/timings", _checked(self.timings), methods=["GET", "POST"]),
                Route("/faults", _checked(self.faults), methods=["GET", "POST", "DELETE"]),
                Route("/faults/{id}", _checked(self.fault), methods=["DELETE"]),
                Route("/requests", _checked(self.requests), methods=["GET", "DELETE"]),
                Route("/requests/counts", _checked(self.counts), methods=["GET"]),
                Route("/refused-hosts", _checked(self.refused_hosts), methods=["GET"]),
                Route("/vaults/{name}", _checked(self.vault), methods=["PUT"]),
                Route("/tenants/{id}/users", _checked(self.user), methods=["PUT"]),
                Route("/snowflake/{account}", _checked(self.snowflake_account), methods=["GET", "PUT"]),
                Route("/snowflake/{account}/votes", _checked(self.snowflake_vote), methods=["POST"]),
            ]
        )

    async def clock(self, request: Request) -> Response:
        """GET, or POST {"advance_seconds"?, "scale"?}."""
        if request.method == "POST":
            body = await _body(request, {"advance_seconds", "scale"})
            if "scale" in body:
                self._clock.set_scale(float(body["scale"]))
            if "advance_seconds" in body:
                self._clock.advance(float(body["advance_seconds"]))
        return JSONResponse({"now": self._clock.now(), "scale": self._clock.scale})

    async def timings(self, request: Request) -> Response:
        """GET, or POST with the values to change."""
        if request.method == "POST":
            self._timings.update(await _body(request))
        return JSONResponse(self._timings.as_json())

    async def faults(self, request: Request) -> Response:
        """GET all, POST one (answers its id), DELETE all."""
        if request.method == "POST":
            return JSONResponse({"id": self._faults.inject(await _body(request)).id}, 201)
        if request.method == "DELETE":
            self._faults.remove()
        return JSONResponse({"faults": self._faults.shown()})

    async def fault(self, request: Request) -> Response:
        """DELETE one."""
        self._faults.remove(request.path_params["id"])
        return JSONResponse({"faults": self._faults.shown()})

    async def requests(self, request: Request) -> Response:
        """GET ?since=N, or DELETE."""
        if request.method == "DELETE":
            self._log.clear()
        return JSONResponse({"requests": self._log.since(int(request.query_params.get("since", "0")))})

    async def counts(self, request: Request) -> Response:
        """Requests by service, method, operation and status."""
        del request
        return JSONResponse({"counts": self._log.counts()})

    async def refused_hosts(self, request: Request) -> Response:
        """What the proxy refused."""
        del request
        return JSONResponse({"refused": self._proxy.refused()})

    async def vault(self, request: Request) -> Response:
        """PUT {"failed_over"}: whether the paired region serves the vault, read-only. Raises ValueError."""
        body = await _body(request, {"failed_over"})
        vault = self._vaults.live(request.path_params["name"])
        if vault is None:
            raise ValueError("there is no such vault")
        if not isinstance(body.get("failed_over"), bool):
            raise ValueError("failed_over must be true or false")  # noqa: TRY004 - told to the client as any other bad value
        vault.failed_over = body["failed_over"]
        return JSONResponse({"failed_over": vault.failed_over})

    async def user(self, request: Request) -> Response:
        """PUT a person: name, password, groups, and whether they may consent for the tenant. Raises ValueError."""
        allowed = {"userPrincipalName", "displayName", "password", "groups", "administrator", "accountEnabled"}
        return JSONResponse(self._users.put(request.path_params["id"], await _body(request, allowed)))

    async def snowflake_account(self, request: Request) -> Response:
        """GET what only Snowflake knows, PUT to open an account or to change it."""
        name = request.path_params["account"]
        if request.method == "PUT":
            return JSONResponse(self._snowflake.put(name, await _body(request)))
        return JSONResponse(self._snowflake.shown(name))

    async def snowflake_vote(self, request: Request) -> Response:
        """POST an approver's vote."""
        return JSONResponse(self._snowflake.vote(request.path_params["account"], await _body(request)))


async def _body(request: Request, allowed: set[str] | None = None) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - told to the client as any other bad value
    if allowed is not None and set(body) - allowed:
        raise ValueError(f"unknown: {', '.join(sorted(set(body) - allowed))}")
    return body


def _checked(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def checked(request: Request) -> Response:
        try:
            return await handler(request)
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return checked
