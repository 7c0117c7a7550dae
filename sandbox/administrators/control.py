"""A client of the sandbox's control server: clock, timings, faults and the request log."""

from __future__ import annotations

from typing import Any, Self

import aiohttp


class SandboxControl:
    """The sandbox's clock, timings, faults and request log."""

    def __init__(self, base_url: str) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._base_url = base_url

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(self._base_url, trust_env=False)
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("use it as an async context manager")
        async with self._session.request(method, path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status >= 400:
                raise ValueError(str(answer.get("error")))
            return answer

    async def now(self) -> float:
        """Virtual seconds since the epoch."""
        return float((await self._call("GET", "/clock"))["now"])

    async def advance(self, seconds: float) -> None:
        """Let virtual time pass at once."""
        await self._call("POST", "/clock", {"advance_seconds": seconds})

    async def set_scale(self, scale: float) -> None:
        """Virtual seconds in a second."""
        await self._call("POST", "/clock", {"scale": scale})

    async def timings(self) -> dict[str, Any]:
        """All timings."""
        return await self._call("GET", "/timings")

    async def set_timings(self, **values: float) -> None:
        """Change the named timings. Raises ValueError."""
        await self._call("POST", "/timings", values)

    async def inject(self, **fault: object) -> str:
        """Inject a fault; its id. Raises ValueError."""
        return str((await self._call("POST", "/faults", fault))["id"])

    async def faults(self) -> list[dict[str, Any]]:
        """The faults in force with their hits."""
        found: list[dict[str, Any]] = (await self._call("GET", "/faults"))["faults"]
        return found

    async def clear_fault(self, fault_id: str) -> None:
        """Take one fault away."""
        await self._call("DELETE", f"/faults/{fault_id}")

    async def clear_faults(self) -> None:
        """Take every fault away."""
        await self._call("DELETE", "/faults")

    async def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """The log after entry `since`."""
        found: list[dict[str, Any]] = (await self._call("GET", f"/requests?since={since}"))["requests"]
        return found

    async def counts(self) -> list[dict[str, Any]]:
        """Requests by service, method, operation and status."""
        found: list[dict[str, Any]] = (await self._call("GET", "/requests/counts"))["counts"]
        return found

    async def clear_requests(self) -> None:
        """Forget the log and the counts."""
        await self._call("DELETE", "/requests")

    async def refused_hosts(self) -> list[dict[str, Any]]:
        """What the proxy refused, because it is none of Azure's."""
        found: list[dict[str, Any]] = (await self._call("GET", "/refused-hosts"))["refused"]
        return found

    async def fail_over(self, vault: str, *, to_the_pair: bool = True) -> None:
        """Let the paired region serve a vault, read-only, or its own again, as Microsoft alone can. Raises ValueError."""
        await self._call("PUT", f"/vaults/{vault}", {"failed_over": to_the_pair})

    async def put_user(self, tenant_id: str, name: str, password: str, **more: object) -> dict[str, Any]:
        """A person of a tenant, new or changed; `groups`, `administrator`, `displayName`, `accountEnabled`. Raises ValueError."""
        body = {"userPrincipalName": name, "password": password, **more}
        return await self._call("PUT", f"/tenants/{tenant_id}/users", body)

    async def snowflake_account(self, name: str) -> dict[str, Any]:
        """What only Snowflake knows of an account: versions, mails, requests for approval. Raises ValueError."""
        return await self._call("GET", f"/snowflake/{name}")

    async def set_snowflake_account(self, name: str, **settings: object) -> dict[str, Any]:
        """Open an account, or change what is named (`snowflake.administration.AccountSettings`). Raises ValueError."""
        return await self._call("PUT", f"/snowflake/{name}", settings)

    async def vote_in_snowflake(self, name: str, request_id: str, approver: str, vote: str) -> None:
        """An approver's `APPROVE` or `REJECT`, as in Snowsight. Raises ValueError."""
        body = {"request_id": request_id, "approver": approver, "vote": vote}
        await self._call("POST", f"/snowflake/{name}/votes", body)
