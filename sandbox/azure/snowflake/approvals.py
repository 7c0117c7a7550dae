"""Multi-party Approval: other people must approve a protected statement; then its user sends it again.

https://docs.snowflake.com/en/user-guide/multi-party-approval
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from sandbox.azure.clock import utc
from sandbox.azure.snowflake.errors import failed

DAY = 86_400.0
REQUEST_SECONDS = 3 * DAY
REPLAY_SECONDS = 3 * DAY
SPEED_BUMP_ENDS_SECONDS = 3 * DAY
_OPEN = frozenset({"CREATED", "PENDING", "APPROVED"})


@dataclass
class Request:
    """One request for approval of one statement."""

    id: str
    statement: str
    user: str
    expires: float
    state: str = "CREATED"
    justification: str = ""
    votes: list[str] = field(default_factory=list)


@dataclass
class Approvals:
    """The policy of an account, if it has one, and its requests."""

    since: float | None = None
    approvers: tuple[str, ...] = ()
    requests: dict[str, Request] = field(default_factory=dict)

    def replaces_the_wait(self, now: float) -> bool:
        """After 72 hours of a policy, the wait after a registration is no longer required."""
        return self.since is not None and now - self.since >= SPEED_BUMP_ENDS_SECONDS

    def admitted(self, statement: str, user: str, now: float) -> Request | None:
        """None without a policy, else the approved request. Raises SnowflakeRefusedError while it is not approved."""
        if self.since is None:
            return None
        for request in self.requests.values():
            if request.state in _OPEN and request.expires <= now:
                request.state = "EXPIRED"
        wanted = " ".join(statement.split()).rstrip("; ")
        found = next(
            (one for one in self.requests.values() if (one.statement, one.user) == (wanted, user) and one.state in _OPEN), None
        )
        if found is not None and found.state == "APPROVED":
            return found
        if found is None:
            found = Request(str(uuid.uuid4()), wanted, user, now + REQUEST_SECONDS)
            self.requests[found.id] = found
        moment = utc(found.expires).strftime("%Y-%m-%d at %I:%M:%S %p UTC")
        raise failed(
            "MPA_APPROVAL_REQUIRED: Blocked by Multi-party Approval. A request has been created. To proceed, add a justification: "
            f"\"select SYSTEM$UPDATE_MULTI_PARTY_APPROVAL_JUSTIFICATION('{found.id}', '<reason>');\". To cancel: \"select "
            f"SYSTEM$CAST_MULTI_PARTY_APPROVAL_VOTE('{found.id}', 'REJECT');\". Expires: {moment}.\nRequest-ID: '{found.id}'"
        )

    def justify(self, request_id: str, text: str) -> str:
        """The approvers are told. Raises SnowflakeRefusedError."""
        request = self.requests.get(request_id)
        if request is None or request.state not in {"CREATED", "PENDING"}:
            raise failed(f"Multi-party Approval request '{request_id}' does not exist or can no longer be updated.")
        request.state, request.justification = "PENDING", text
        return "Justification recorded successfully."

    def vote(self, request_id: str, approver: str, vote: str, now: float) -> Request:
        """An approver's vote in Snowsight: one approval is enough here, and one rejection always. Raises ValueError."""
        request = self.requests.get(request_id)
        if request is None or request.state != "PENDING":
            raise ValueError("there is no such request that waits for votes: a request without a justification waits for none")
        if approver not in self.approvers:
            raise ValueError(f"{approver} is no approver")
        request.votes.append(f"{approver}: {vote}")
        request.state = "APPROVED" if vote == "APPROVE" else "REJECTED"
        request.expires = now + REPLAY_SECONDS
        return request

    def shown(self) -> list[dict[str, Any]]:
        """All requests."""
        return [
            {"id": one.id, "statement": one.statement, "state": one.state, "justification": one.justification}
            for one in self.requests.values()
        ]
