"""Plays the steps of one episode and checks the laws after each; if a law is broken, it reports the steps."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.soak.actions import act, restore
from tests.soak.ledger import Ledger
from tests.soak.statements import lies, recorded, unsettled
from tests.soak.steps import CUSTOMER, Picks, Step, steps_of
from tests.soak.world import ViolationError, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmk_operator.kubernetes.client import ObjectReference
    from tests.soak.ground import Ground

DAY: Final = 90_000.0
LONGEST_STEP: Final = 240.0
"""Real seconds, on a machine that has much else to do: no step takes a tenth of that."""
INTERVAL: Final = 50.0
"""Longer than that of keys, with all its jitter."""
A_MOMENT: Final = 3.0
LOOKS: Final = 4
"""An accessible key is proven again within three steps (`core.access.probe_plan`); one more, because the first may come at once."""
LONGER_THAN_ANY_BACKOFF: Final = 310.0
ROUNDS_TO_REST: Final = 26
"""Two hours: a contested resource is Ready again an hour after the longest pause."""
REQUESTS_OF_A_PASS: Final = 10
PROPAGATION: Final = (0.0, 0.0, 20.0)
LAG: Final = (0.0, 20.0)
"""Seconds until Azure shows what it has accepted."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Which kind of resources, and from which seed the steps come."""

    kind: str
    seed: str
    length: int

    def steps(self) -> list[Step]:
        return [*steps_of(self.seed, self.length), Step("quiet", 0)]


@dataclass
class Result:
    """What became of an episode: how often each kind of step was possible, and the violation with what led to it."""

    done: Counter[str] = field(default_factory=Counter)
    violation: str | None = None
    at: int = 0
    trace: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Actions and passes."""
        return sum(self.done.values())


@dataclass
class Episode:
    """Drives a world."""

    world: World
    ledger: Ledger
    result: Result

    async def play(self, steps: Sequence[Step]) -> None:
        """Raises ViolationError."""
        await self.ledger.begin()
        self.world.changed = self.ledger.take_permissions
        for number, step in enumerate(steps):
            self.result.at = number
            watch = asyncio.get_running_loop().call_later(LONGEST_STEP * 0.95, self._tell_what_hangs)
            try:
                async with asyncio.timeout(LONGEST_STEP):
                    await self._step(step)
            except TimeoutError as error:
                raise ViolationError(f"5 (comes to rest): {step} has not ended after {LONGEST_STEP:.0f} s") from error
            finally:
                watch.cancel()

    def _tell_what_hangs(self) -> None:
        for task in asyncio.all_tasks():
            stack = io.StringIO()
            task.print_stack(file=stack)
            self.result.trace.append(stack.getvalue())

    async def _step(self, step: Step) -> None:
        picks = Picks(step.pick)
        self.ledger.step_begins()
        match step.what:
            case "pass":
                await self._pass(picks)
            case "crash in a pass":
                await self._interrupted(picks, None)
            case "race with a pass":
                await self._interrupted(picks, CUSTOMER[picks.of(CUSTOMER)])
            case "crash":
                await self.world.crash()
                self._tell("crash")
            case "a moment":
                await self.world.ground.time.leap(A_MOMENT)
                self._tell("a moment")
            case "seconds" | "minutes" | "an hour" | "a day":
                await self._time_passes(*_leaps(step.what, picks))
            case "quiet":
                await self._quiet(picks, everything=step.pick == 0 or bool(picks.of(3)))
            case _:
                await self._act(step.what, picks)

    def _tell(self, what: str, detail: object = "") -> None:
        self.result.done[what] += 1
        self.result.trace.append(f"{self.result.at:>5} {what}: {detail}" if detail else f"{self.result.at:>5} {what}")

    async def _act(self, what: str, picks: Picks) -> None:
        told = await act(what, self.world, picks)
        if told is None:
            return
        self._tell(what, told)
        if what in {"drift", "lock resource"}:
            await self.ledger.others_acted()

    async def _due(self, picks: Picks) -> ObjectReference:
        """An object that is due; virtual time passes until there is one."""
        life = await self.world.operator()
        while not (ready := life.agenda.ready()):
            after = life.agenda.next_due()
            await self._leap(max(after or 1.0, 0.01))
        return ready[picks.of(ready)]

    async def _pass(self, picks: Picks) -> None:
        reference = await self._due(picks)
        self.ledger.step_begins()
        await self.world.work(reference)
        self._tell("pass", reference)
        await self.ledger.check()
        await self.world.refresh()

    async def _interrupted(self, picks: Picks, action: str | None) -> None:
        reference = await self._due(picks)
        self.ledger.step_begins()
        after, answered = picks.of(REQUESTS_OF_A_PASS), bool(picks.of(2))

        async def meanwhile() -> None:
            if action is not None:
                await self.world.end_weather()
                told = await act(action, self.world, picks)
                self._tell("race", f"{action}: {told}")
                if action == "drift" and told is not None:
                    await self.ledger.others_acted()

        happened = await self.world.work(
            reference, interrupted_after=after, meanwhile=meanwhile if action is not None else None, answered=answered
        )
        what = "pass" if not happened else "crash in a pass" if action is None else "race with a pass"
        self._tell(what, f"{reference}, after {after} answers{' and the next' if answered else ''}" if happened else reference)
        await self.ledger.check(ended_late=happened)
        await self.world.refresh()

    async def _leap(self, seconds: float) -> None:
        await self.world.ground.time.leap(seconds)
        if seconds > 1:
            await self.ledger.check(leapt=True)
        if seconds > 10_000:
            await self.ledger.others_acted()

    async def _time_passes(self, *leaps: float) -> None:
        await self.world.operator()
        self.world.events_arrive()
        await self._drain()
        before = lies(self.world, self.ledger)
        for leap in leaps:
            await self._leap(leap)
            await self._drain()
            await self._withdraw_old_claims()
        self._tell("time passes", f"{sum(leaps):.0f} s")
        if len(leaps) >= LOOKS:
            await self.ledger.others_acted()
            still = before & lies(self.world, self.ledger)
            if still:
                raise ViolationError(f"4 (status never lies): for {sum(leaps):.0f} s and {len(leaps)} looks {sorted(still)}")

    async def _withdraw_old_claims(self) -> None:
        """What the operator's own task does again and again."""
        life = await self.world.operator()
        await life.old_claims.withdraw()
        left = life.claims_too_old()
        if left:
            raise ViolationError(f"10 (a claim grows old): not seen for three intervals, and still claimed: {left}")
        await self.world.refresh()

    async def _drain(self) -> None:
        async def after_each(reference: ObjectReference) -> None:
            self.result.done["pass"] += 1
            await self.ledger.check()
            await self.world.refresh()
            self.ledger.step_begins()

        self.ledger.step_begins()
        await self.world.drain(after_each)

    async def _quiet(self, picks: Picks, *, everything: bool) -> None:
        """Stop all faults, and perhaps restore everything: then every object must reach its final state and stay there."""
        self.world.faults.clear()
        if everything:
            self._tell("restore", await restore(self.world, picks))
        self._tell("quiet")
        await self.world.operator()
        self.world.events_arrive()
        await self._drain()
        left: list[str] = []
        for round_number in range(ROUNDS_TO_REST):
            await self._leap(LONGER_THAN_ANY_BACKOFF)
            await self._drain()
            await self.ledger.others_acted()
            left = unsettled(self.world, self.ledger)
            if not left and round_number:
                break
        if left:
            raise ViolationError(f"5 (converges when faults stop): {left}")
        if self.world.in_scope and all(key.there for key in self.world.keys.values()):
            await recorded(self.world, self.ledger.unrecorded)
            self.ledger.unrecorded.clear()


def _leaps(what: str, picks: Picks) -> tuple[float, ...]:
    """Virtual seconds after each of which whatever is due is worked on."""
    if what == "seconds":
        return ((5.0, 20.0, 50.0)[picks.of(3)],)
    if what == "minutes":
        return (INTERVAL,) * (LOOKS + picks.of(3))
    if what == "an hour":
        return ((700.0, 1900.0, 3600.0)[picks.of(3)], *(INTERVAL,) * LOOKS)
    return (DAY,)


async def play(ground: Ground, setting: Setting, steps: Sequence[Step] | None = None) -> Result:
    """Play an episode, or in its place other steps of the same setting, from the beginning."""
    result = Result()
    picks = Picks(hash_of(setting.seed))
    propagation, lag = PROPAGATION[picks.of(PROPAGATION)], LAG[picks.of(LAG)]
    await ground.control.clear_requests()
    world = await World.made(ground, setting.kind, propagation, lag)
    try:
        await Episode(world, Ledger(world), result).play(setting.steps() if steps is None else steps)
    except ViolationError as error:
        result.violation = str(error)
    finally:
        world.faults.clear()
        await ground.control.clear_faults()
        await world.close()
    return result


def hash_of(text: str) -> int:
    """A number of a text that is the same in every process."""
    return int.from_bytes(text.encode()[-8:], "big")
