"""Reads Azure's request log and state after each step, and checks the laws of writing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cmk_operator.reconcile.resource.admitted_resource import LATEST_MAX_AGE
from tests.soak.permissions import Permission, permissions_of
from tests.soak.world import ViolationError

if TYPE_CHECKING:
    from tests.soak.targets import Target, Truth
    from tests.soak.world import World

PROBE_MAX_AGE: Final = 60.0
OPERATION_SECONDS: Final = 900.0
"""Seconds after a write within which a change of a slow resource still counts as its effect."""
_KEY_PATH: Final = re.compile(r"^/keys/([^/?]+)/([0-9a-f]{32})/(wrapkey|unwrapkey)(?:\?|$)")
Proofs = dict[tuple[str, str, str], float]
"""When a version of a key was last wrapped or unwrapped with, in virtual seconds."""


@dataclass(frozen=True, slots=True)
class Write:
    """The operator's last write to a resource: which versions had passed the probe when (virtual seconds), and what was allowed."""

    at: float
    uid: str
    """Of the manifest that it was for."""
    proven: Proofs
    allowed: frozenset[Permission]
    ended_late: bool
    """Whether the pass ended without the answer, so that its record may come later."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of key that the operator made."""

    uid: str
    target: str
    to: str
    told: bool
    """Whether the pass that made it knew that it was made."""


@dataclass
class Ledger:
    """Follows one episode."""

    world: World
    position: int = 0
    truths: dict[str, Truth] = field(default_factory=dict)
    unrecorded: list[Change] = field(default_factory=list)
    _proven: Proofs = field(default_factory=dict)
    _writes: dict[str, Write] = field(default_factory=dict)
    _allowed: dict[str, set[Permission]] = field(default_factory=dict)
    _lives: int = 0

    async def begin(self) -> None:
        """Read the state at the start of the episode."""
        requests = await self.world.ground.control.requests(0)
        self.position = requests[-1]["n"] if requests else 0
        for target in (*self.world.targets, self.world.bystander):
            self.truths[target.name] = await target.truth()

    def step_begins(self) -> None:
        """From now on writes are measured by what is allowed now, or becomes so before the step ends."""
        self._allowed = {}
        self.take_permissions()
        if self.world.lives != self._lives:
            self._lives = self.world.lives
            self.forget_proofs()

    def forget_proofs(self) -> None:
        """Drop the proofs of an earlier process: they do not count for this one."""
        self._proven = {}

    def take_permissions(self) -> None:
        """Something may have changed what is allowed; what was allowed when the reconcile started remains so until it ends."""
        for name, permission in permissions_of(self.world).items():
            self._allowed.setdefault(name, set()).add(permission)

    async def others_acted(self) -> None:
        """Somebody else may have changed resources: their current state is the new baseline."""
        for target in self.world.targets:
            if await self._another_changed(target):
                self._writes.pop(target.name, None)

    async def _another_changed(self, target: Target) -> bool:
        """Whether a resource has changed, but not by the operator; its current state is then the new baseline."""
        before, truth = self.truths[target.name], await target.truth()
        self.truths[target.name] = truth
        if truth == before:
            return False
        # What the operator put it on before may have been there too short for anybody to see.
        self.unrecorded = [change for change in self.unrecorded if change.target != target.name or change.told]
        return True

    async def check(self, *, ended_late: bool = False, leapt: bool = False) -> None:
        """Check the operator's requests since the last check, and Azure's state, against the laws. Raises ViolationError."""
        requests = await self.world.ground.control.requests(self.position)
        if requests:
            self.position = requests[-1]["n"]
        written = self._read(requests, ended_late=ended_late)
        for target in (*self.world.targets, self.world.bystander):
            slow = not target.at_once and target.name in self._writes
            if target.name in written or (slow and leapt):
                await self._judge(target)
            elif leapt and target.name not in self._writes:
                # Azure follows new versions by itself: what changed while nothing of ours was under way is its doing.
                await self._another_changed(target)
        for target in self.world.targets:
            if target.at_once:
                self._writes.pop(target.name, None)

    def _read(self, requests: list[dict[str, Any]], *, ended_late: bool) -> set[str]:
        identity = self.world.ground.identity
        written: set[str] = set()
        for entry in requests:
            if entry["application"] == identity.application_client_id and entry["service"] == "vault":
                self._record_call(entry)
            elif (
                entry["service"] == "management"
                and entry["method"] not in {"GET", "HEAD"}
                and entry["principal"] == identity.managed_identity_principal_id
                and not self.world.neighbour.owns(entry["path"])
            ):
                written.add(self._write(entry, ended_late=ended_late))
        return written

    def _record_call(self, entry: dict[str, Any]) -> None:
        """Record a call to the vault; a refusal removes the proof of its version."""
        if entry["method"] == "GET":
            return
        found = _KEY_PATH.match(entry["path"])
        if found is None or entry["method"] != "POST":
            raise ViolationError(f"4 (a customer's key is never touched): {entry['method']} {entry['path']}")
        key, version, operation = found.groups()
        if entry["status"] != 200 or entry["fault"]:
            self._proven.pop((key, version, "wrapkey"), None)
            self._proven.pop((key, version, "unwrapkey"), None)
        else:
            self._proven[key, version, operation] = self.world.ground.time.now()

    def _write(self, entry: dict[str, Any], *, ended_late: bool) -> str:
        path = entry["path"].lower()
        about = (*self.world.targets, self.world.bystander)
        target = next((one for one in about if one.id.lower() in f"{path}/".replace("?", "/")), None)
        if target is None:
            raise ViolationError(f"2 (no unasked write): {entry['method']} {entry['path']}, which no manifest names")
        allowed = self._allowed.get(target.name)
        if not allowed:
            raise ViolationError(
                f"2 (no unasked write): {entry['method']} {entry['path']} ({entry['status']}), which no manifest allows now"
            )
        now = self.world.ground.time.now()
        manifest = self.world.manifests.get(target.name)
        uid = manifest.uid if manifest is not None else ""
        self._writes[target.name] = Write(now, uid, dict(self._proven), frozenset(allowed), ended_late or bool(entry["fault"]))
        return target.name

    async def _judge(self, target: Target) -> None:
        before, truth = self.truths[target.name], await target.truth()
        self.truths[target.name] = truth
        write = self._writes.get(target.name)
        if write is None or write.at < self.world.ground.time.now() - OPERATION_SECONDS:
            return
        if before.exists and truth.rest != before.rest:
            raise ViolationError(
                f"2 (no unasked write): more than the key of {target.name} has changed by the operator's write"
            )
        if (truth.uri or "").lower() == (before.uri or "").lower():
            return
        del self._writes[target.name]
        where = f"{target.name} from {before.uri or 'a Microsoft-managed key'} to {truth.uri or 'a Microsoft-managed key'}"
        if not any(permission.covers(truth) for permission in write.allowed):
            raise ViolationError(f"2 (no unasked write): {where}; allowed was {[*write.allowed] or 'nothing'}")
        if truth.uri is not None:
            self._judge_proof(truth, write, where)
        told = target.at_once and not write.ended_late
        change = Change(write.uid, target.name, truth.uri or "a Microsoft-managed key", told)
        # A change that nobody could look at before the next one is not seen by anybody.
        self.unrecorded = [one for one in self.unrecorded if one.target != target.name or one.told]
        self.unrecorded.append(change)

    def _judge_proof(self, truth: Truth, write: Write, where: str) -> None:
        key = truth.key.rsplit("/", 1)[-1]
        steps = [write.proven.get((key, truth.version, operation)) for operation in ("wrapkey", "unwrapkey")]
        known = self.world.vault.keys[key].find(truth.version)
        new = known is not None and write.at - known.made <= LATEST_MAX_AGE
        if new and any(permission.follows_azure for permission in write.allowed):
            return  # made while the request was as good as on its way: Azure took it, and nobody could have known it
        for at in steps:
            if at is None:
                raise ViolationError(f"1 (nothing unprobed): {where}, a version that this process has not just proven")
            if write.at - at > PROBE_MAX_AGE:
                raise ViolationError(f"1 (nothing unprobed): {where}, proven {write.at - at:.0f} s before")
