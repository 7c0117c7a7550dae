"""Queries of the table `proof`: one look by one replica counts for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from cmk_keyservice.store.notices import CHANNEL, Notices
from cmk_keyservice.store.rows import Proof, Word

if TYPE_CHECKING:
    from cmk_keyservice.store.rows import Fence

_WRITE: Final = text(
    """
    INSERT INTO proof AS old (organization, uid, revision, kid, asked_at, proven_at, verdict, refused_at, detail)
    SELECT :organization, :uid, :revision, :kid, asked.at, CASE WHEN :proven THEN asked.at END, :verdict,
           CASE WHEN :refused THEN asked.at END, :detail
    FROM (SELECT clock_timestamp() - make_interval(secs => :age) AS at) AS asked
    ON CONFLICT (organization) DO UPDATE SET
        uid = excluded.uid, revision = excluded.revision, kid = excluded.kid, asked_at = excluded.asked_at,
        verdict = excluded.verdict, detail = excluded.detail,
        proven_at = CASE WHEN (old.uid, old.revision, old.kid) = (excluded.uid, excluded.revision, excluded.kid)
                              AND greatest(old.asked_at, old.proven_at) <= clock_timestamp()
                         THEN greatest(old.proven_at, excluded.proven_at) ELSE excluded.proven_at END,
        refused_at = CASE WHEN excluded.proven_at IS NOT NULL THEN NULL
                          WHEN (old.uid, old.revision, old.kid) = (excluded.uid, excluded.revision, excluded.kid)
                          THEN coalesce(old.refused_at, excluded.refused_at) ELSE excluded.refused_at END
    WHERE excluded.asked_at >= old.asked_at OR old.asked_at > clock_timestamp()
    RETURNING pg_notify(:channel, :payload)
    """
)
_READ: Final = text(
    """
    SELECT uid, revision, kid, verdict, detail,
           extract(epoch FROM clock_timestamp() - proven_at)::float AS age,
           extract(epoch FROM clock_timestamp() - asked_at)::float AS asked_age,
           extract(epoch FROM clock_timestamp() - refused_at)::float AS refused_age
    FROM proof WHERE organization = :organization
    """
)


class Proofs(Notices):
    """Proof of access, by age."""

    async def write_proof(self, organization: str, fence: Fence, kid: str, verdict: Word, detail: str, age: float) -> bool:
        """Note a look at the key that was sent `age` seconds ago, and tell all replicas; False if a later one is known.

        The success counts from when the vault was asked. Of settings that are not the row's, nothing is kept, and nothing of a
        row from the future: the database's clock went back, or somebody else wrote it.
        """
        values = {
            "organization": organization,
            "uid": fence.uid,
            "revision": fence.revision,
            "kid": kid,
            "verdict": verdict.value,
            "proven": verdict is Word.PROVEN,
            "refused": verdict in {Word.REFUSED, Word.LOST},
            "detail": detail[:1024],
            "age": max(age, 0.0),
            "channel": CHANNEL,
            "payload": f"proof {organization}",
        }
        async with self.transaction() as connection:
            return (await connection.execute(_WRITE, values)).first() is not None

    async def read_proof(self, organization: str) -> Proof | None:
        """The newest look; None if nobody looked yet."""
        row = await self.row(_READ, organization=organization)
        if row is None:
            return None
        return Proof(row.uid, row.revision, row.kid, row.age, Word(row.verdict), row.asked_age, row.refused_age, row.detail)
