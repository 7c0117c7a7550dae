"""The credentials of organizations' own registrations: from their Secrets, else from the database.

The database keeps them, sealed by the internal key ring, for keys that are no longer configured: data keys and backups may still
need those after a Secret is gone.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cmk_keyservice.crypto.context import credentials_context
from cmk_keyservice.problem import Kind, Problem, ProblemError
from cmk_keyservice.store.rows import Fence
from cmk_keyservice.vaults.accepted import RegistrationAccess, read_access
from cmk_operator.core.organization.certificate import read_credential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cmk_keyservice.crypto.key_ring import KeyRing
    from cmk_keyservice.store.store import Store
    from cmk_keyservice.vaults.accepted import CredentialReference, Organization
    from cmk_operator.core.organization.credential import Credential


@dataclass(frozen=True, slots=True)
class Credentials:
    """Reads, and keeps for later. `read` takes a Secret's namespace, its name and the entry in it."""

    read: Callable[[str, str, str], Awaitable[bytes | Problem]]
    store: Store
    internal: KeyRing

    async def credentials(self, organization: Organization, access: RegistrationAccess, kid: str) -> tuple[Credential, ...]:
        """The credentials that can be read of those that an access names, at least one.

        Raises `ProblemError` if none can be read: as the last Secret says, and nothing is kept in the database.
        """
        values = await self._read(organization, access)
        if not any(isinstance(value, bytes) for value in values.values()):
            values |= await self._kept(organization, access, kid)
        now = datetime.now(UTC)
        read = [_credential(organization, one, values[one], now) for one in access.credentials if one in values]
        found = tuple(one for one in read if not isinstance(one, Problem))
        if not found:
            raise ProblemError(next(one for one in read if isinstance(one, Problem)))
        return found

    async def keep(self, organization: Organization) -> None:
        """Store how the key in force is reached. Raises `ProblemError` if the database or all credentials cannot be read."""
        accepted = organization.accepted
        if accepted is None or accepted.access is None:
            return
        fence = Fence(organization.uid, accepted.revision)
        sealed: bytes | None = None
        if isinstance(accepted.access, RegistrationAccess):
            values = await self._read(organization, accepted.access)
            texts = {_name(one): _text(value) for one, value in values.items() if isinstance(value, bytes)}
            if not texts and await self._kept(organization, accepted.access, accepted.kid):
                return
            if not texts:
                raise ProblemError(next(value for value in values.values() if isinstance(value, Problem)))
            sealed = self.internal.encrypt(
                json.dumps(texts).encode(), credentials_context(organization.id, fence.uid, fence.revision, accepted.kid)
            )
        access: Mapping[str, Any] = organization.raw.get("access") or {}
        await self.store.write_access(organization.id, fence, accepted.kid, access, sealed)

    async def _read(self, organization: Organization, access: RegistrationAccess) -> dict[CredentialReference, bytes | Problem]:
        return {one: await self.read(organization.namespace, one.secret, one.key) for one in access.credentials}

    async def _kept(self, organization: Organization, access: RegistrationAccess, kid: str) -> dict[CredentialReference, bytes]:
        """What the database keeps for the same access to the same key version."""
        for row in await self.store.access_for(organization.id, kid):
            if row.credentials is None or read_access(row.access) != access:
                continue
            opened = self.internal.decrypt(row.credentials, credentials_context(organization.id, row.uid, row.revision, kid))
            texts: dict[str, str] = json.loads(opened)
            return {one: base64.b64decode(texts[_name(one)]) for one in access.credentials if _name(one) in texts}
        return {}


def _credential(
    organization: Organization, reference: CredentialReference, value: bytes | Problem, now: datetime
) -> Credential | Problem:
    if isinstance(value, Problem):
        return value
    read = read_credential(value, now)
    if isinstance(read, str):
        shown = f"entry {reference.key!r} of Secret {organization.namespace}/{reference.secret}"
        return unreadable_secret(shown, "is no credential", f"{read[:1].upper()}{read[1:]}.")
    return read.credential


def _name(reference: CredentialReference) -> str:
    return f"{reference.secret}/{reference.key}"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def unreadable_secret(shown: str, why: str, remedy: str) -> Problem:
    """A Secret that a credential is in cannot be read."""
    return Problem(Kind.UNAVAILABLE, "CredentialUnreadable", f"{shown} {why}", remedy, retryable=True)
