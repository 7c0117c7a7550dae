"""The people of a tenant: what they sign in with, the groups they are in, and who is signed in in which browser."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.azure.entra.directory import Directory, Tenant

SESSION_COOKIE = "ESTSAUTH"
MOST_GROUPS = 200
"""Groups that a JSON Web Token names; with more it names only where to ask (`_claim_names`)."""


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()


@dataclass
class User:
    """A person in one tenant. `administrator`: has a directory role that may consent for everybody."""

    object_id: str
    tenant_id: str
    display_name: str
    name: str
    password: bytes
    groups: tuple[str, ...] = ()
    administrator: bool = False
    enabled: bool = True

    def subject(self, app_id: str) -> str:
        """The `sub` claim: another one for each application (pairwise, OpenID Connect Core, section 8)."""
        digest = hashlib.sha256(f"{self.tenant_id}|{self.object_id}|{app_id}".encode()).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Users:
    """All users, and the sessions of their browsers with the sign-in page."""

    directory: Directory
    _users: dict[str, User] = field(default_factory=dict)
    _sessions: dict[str, User] = field(default_factory=dict)

    def put(self, tenant_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Add a user, or change the one of this name. Raises ValueError."""
        tenant = self.directory.tenant(tenant_id)
        if tenant is None:
            raise ValueError("there is no such tenant")
        name, password = body.get("userPrincipalName"), body.get("password")
        if not isinstance(name, str) or not name.endswith(f"@{tenant.domain}"):
            raise ValueError(f"userPrincipalName must end with @{tenant.domain}")
        if not isinstance(password, str) or not password:
            raise ValueError("password must be text")
        before = self.named(name)
        user = User(
            before.object_id if before else str(uuid.uuid4()),
            tenant.id,
            str(body.get("displayName", name)),
            name,
            _digest(password),
            tuple(str(one) for one in body.get("groups", ())),
            bool(body.get("administrator", False)),
            bool(body.get("accountEnabled", True)),
        )
        self._users[name.lower()] = user
        for key in [key for key, one in self._sessions.items() if one.object_id == user.object_id]:
            del self._sessions[key]  # a changed password or group takes effect at the next sign-in
        return {"id": user.object_id, "userPrincipalName": name, "groups": list(user.groups)}

    def named(self, name: str) -> User | None:
        """By user principal name, without regard to case."""
        return self._users.get(name.strip().lower())

    def matching(self, name: str, password: str) -> User | None:
        """The user whose password this is."""
        user = self.named(name)
        return user if user is not None and hmac.compare_digest(user.password, _digest(password)) else None

    def sign_in(self, user: User) -> str:
        """A new session; what its cookie holds."""
        key = secrets.token_urlsafe(32)
        self._sessions[key] = user
        return key

    def signed_in(self, cookies: Mapping[str, str], tenant: Tenant | None) -> User | None:
        """Who is signed in in this browser and belongs to the tenant (any tenant if None)."""
        user = self._sessions.get(cookies.get(SESSION_COOKIE, ""))
        return user if user is not None and (tenant is None or user.tenant_id == tenant.id) else None


def group_claims(user: User, graph: str) -> dict[str, Any]:
    """The groups of an id_token, or where to ask for them (Entra: "Groups overage claim")."""
    if len(user.groups) <= MOST_GROUPS:
        return {"groups": list(user.groups)} if user.groups else {}
    source = {"endpoint": f"https://{graph}/v1.0/users/{user.object_id}/getMemberObjects"}
    return {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": source}}
