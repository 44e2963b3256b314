"""The daemon's loop: take what happened, step, save what has changed, then act.

A step takes what has arrived, some hundred events at most, so a burst costs few transactions and none takes long.
Whoever posts an event may wait until it is saved. An action is started only after the step that asked for it was saved,
and never twice at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from racksack_controller.core.actions import Action, AttemptAction, SwitchOff, SwitchOn
from racksack_controller.core.decide import next_wake_s
from racksack_controller.core.events import ClockJumped, DependencyEnded, Event, RefusedError
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.policy import DEFAULT, Policy
from racksack_controller.core.power.plan import PowerPlan, plan_power
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.state import Changes, State
from racksack_controller.core.step import Settings, step
from racksack_controller.lookups import Lookups
from racksack_controller.store import Store, StoreError

log = logging.getLogger("racksack.loop")

STORE_RETRY_S = 2.0
IDLE_WAKE_S = 30.0
STEP_EVENTS_MAX = 300  # applied in one step, unless more were posted together
STEP_EVERY_S = 0.01  # under load, steps are at least this far apart, so that each takes many events
LONG_PLAN_S = 0.02  # after planning power for longer, planning rests
RESTS = 9.0  # so many times as long: a long queue before a large rack takes a tenth of the time at most
REST_MAX_S = 30.0
JUMP_S = 2.0  # NTP moves a clock by less without setting it

Posted = tuple[Event, asyncio.Future[None] | None]  # with the future of whoever waits until it is saved


def _steady_s() -> float:
    """Seconds that pass while this machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AttemptEffects(Protocol):
    """What carries actions about attempts out."""

    def start(self, actions: Sequence[AttemptAction]) -> None:
        """Begin these; each ends with an event and with `Loop.finished`."""


class PowerEffects(Protocol):
    """What switches nodes."""

    def start(self, actions: Sequence[SwitchOn | SwitchOff]) -> None:
        """Begin these; each ends with PowerSwitched and with `Loop.finished`."""


class Loop:
    """Holds the state, and everything that happens passes through it."""

    def __init__(
        self,
        state: State,
        store: Store,
        *,
        lost_after_s: float,
        policy: Policy = DEFAULT,
        power_policy: PowerPolicy = DEFAULT_POWER,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = _steady_s,
    ) -> None:
        """`clock`: Unix time, which may be set; `steady`: seconds that pass whatever it is set to."""
        self.state = state
        self.lost_after_s = lost_after_s
        self.unsaved_reason = ""  # why the last step could not be saved; nothing new is started meanwhile
        self._store = store
        self.policy = policy
        self.power_policy = power_policy
        self._clock, self._steady = clock, steady
        self._ahead_s = clock() - steady()  # changes only when the clock is set
        self._attempt_effects: AttemptEffects | None = None
        self._power_effects: PowerEffects | None = None
        self._power_rests_until_s = 0.0  # after a plan that took long
        self._power_wake_s: float | None = None  # when time alone may change what is to be done about power
        # What was posted together stays together; a key in between is of an action that is no longer under way.
        self._posted: deque[list[Posted] | str] = deque()
        self._under_way: set[str] = set()
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[Changes], None]] = []
        self._memory = PassMemory()
        self._stopping = False

    def attach(self, attempts: AttemptEffects, power: PowerEffects | None = None) -> None:
        """Say who carries actions out, and who switches nodes (None: nobody, and nothing is decided); before `run`."""
        self._attempt_effects = attempts
        self._power_effects = power

    def listen(self, listener: Callable[[Changes], None]) -> None:
        """Call `listener` with the changes of every saved step."""
        self._listeners.append(listener)

    def post(self, event: Event) -> None:
        """Something happened; called on the event loop's thread."""
        self._posted.append([(event, None)])
        self._wake.set()

    async def submit(self, event: Event) -> None:
        """Post an event and wait until its changes are saved."""
        await self.submit_all([event])

    async def submit_all(self, events: Sequence[Event]) -> None:
        """Post events that are saved in one transaction, all or none of them, and wait until they are."""
        running = asyncio.get_running_loop()
        futures: list[asyncio.Future[None]] = [running.create_future() for _ in events]
        self._posted.append(list(zip(events, futures, strict=True)))
        self._wake.set()
        await asyncio.gather(*futures)

    def finished(self, action: Action) -> None:
        """The action is no longer under way; its event was posted before.

        It counts as under way until that event is applied. A step may be waiting for its save just now, and would ask
        for the same action again: an attempt that has ended and is removed meanwhile would run twice.
        """
        self._posted.append(action.key)
        self._wake.set()

    def stop(self) -> None:
        """Let `run` return after the current step."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Step whenever something happened or time alone changes what is to be done."""
        running = asyncio.get_running_loop()
        if self.state.dependents:  # what ended just before the last controller did may not have been told
            self.post(DependencyEnded(tuple(self.state.dependents)))
        self.post(ClockJumped())
        while not self._stopping:
            self._wake.clear()
            next_step = running.time() + STEP_EVERY_S
            await self._step()
            if not self._wake.is_set():
                await self._wait()
            if (early := next_step - running.time()) > 0:
                await asyncio.sleep(early)

    async def _wait(self) -> None:
        now = self._clock()
        times = (next_wake_s(self.state, now, self.lost_after_s), self._power_wake_s)
        wake = min((time_s for time_s in times if time_s is not None), default=None)
        delay = IDLE_WAKE_S if wake is None else min(IDLE_WAKE_S, max(0.005, wake - now))
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return

    def reading(self) -> Reading:
        """What questions about this moment are answered from."""
        return Reading(self.state, self._clock(), self.policy, self.power_policy, self._memory.reservation)

    async def _step(self) -> None:
        now = self._clock()
        posted = [*self._jump(now), *self._informed(self._take_posted())]
        settings = Settings(policy=self.policy, power=self.power_policy, lost_after_s=self.lost_after_s)
        events = [event for event, _ in posted]
        planner = self._plan_power if self._power_effects is not None else None
        done = step(self.state, events, now, settings, self._memory, planner=planner)
        self._memory, self._power_wake_s = done.memory, done.power_wake_s
        for place, error in done.refused.items():
            self._refuse(*posted[place], error)
        await self._save(done.changes)
        for _, saved in posted:
            if saved is not None and not saved.done():
                saved.set_result(None)
        self._act(done.actions)

    def _jump(self, now: float) -> list[Posted]:
        """Whether the clock was set since the last step."""
        by_s = now - self._steady() - self._ahead_s
        self._ahead_s += by_s
        return [(ClockJumped(by_s), None)] if abs(by_s) >= JUMP_S else []

    def _take_posted(self) -> list[Posted]:
        """What has arrived; of very much the first part, so that no step takes long. The rest has the next step.

        Actions that have finished are under way no more from the step on that applies what was posted before.
        """
        posted: list[Posted] = []
        while self._posted:
            first = self._posted[0]
            if isinstance(first, str):
                self._under_way.discard(first)
            elif posted and len(posted) + len(first) > STEP_EVENTS_MAX:
                self._wake.set()
                break
            else:
                posted += first
            self._posted.popleft()
        return posted

    def _informed(self, events: Sequence[Posted]) -> list[Posted]:
        """The events with what the store has to say about them; those that it could not be asked for come again."""
        lookups, informed = Lookups(self.state, self._store), []
        for event, saved in events:
            try:
                informed.append((lookups.inform(event), saved))
            except StoreError as error:
                log.error("%s; asked again for %r", error, type(event).__name__)
                if saved is None:
                    self._posted.append([(event, None)])
                elif not saved.done():
                    saved.set_exception(error)
        return informed

    def _plan_power(self, state: State, now: float, policy: PowerPolicy, scheduling: Policy) -> PowerPlan:
        """Decide about power, unless the last plan took so long that planning pauses."""
        if now < self._power_rests_until_s <= now + REST_MAX_S:
            return PowerPlan((), self._power_rests_until_s)
        began_s = time.perf_counter()
        plan = plan_power(state, now, policy, scheduling)
        took_s = time.perf_counter() - began_s
        self._power_rests_until_s = now + min(REST_MAX_S, took_s + RESTS * took_s) if took_s > LONG_PLAN_S else now
        return plan

    def _refuse(self, event: Event, saved: asyncio.Future[None] | None, error: Exception) -> None:
        if not isinstance(error, RefusedError):
            log.error("event refused: %r", event, exc_info=error)
        if saved is not None and not saved.done():
            saved.set_exception(error)

    async def _save(self, changes: Changes) -> None:
        """Save, and go on trying: what is not saved must not be acted on, and nothing may be forgotten."""
        while changes:
            try:
                await self._store.save(changes)
                break
            except StoreError as error:
                if not self.unsaved_reason:
                    log.error("%s; no job is started until it can be", error)
                self.unsaved_reason = str(error)
                await asyncio.sleep(STORE_RETRY_S)
        self.unsaved_reason = ""
        for job, node, _at_s, sentence in changes.events:
            log.info("job=%s node=%s %s", job or "-", node or "-", sentence)
        for listener in self._listeners if changes else ():
            listener(changes)

    def _act(self, asked: Sequence[Action]) -> None:
        actions = [action for action in asked if action.key not in self._under_way]
        about_attempts = [action for action in actions if isinstance(action, AttemptAction)]
        switches = [action for action in actions if isinstance(action, SwitchOn | SwitchOff)]
        if about_attempts and self._attempt_effects is not None:
            self._under_way.update(action.key for action in about_attempts)
            self._attempt_effects.start(about_attempts)
        if switches and self._power_effects is not None:
            self._under_way.update(action.key for action in switches)
            self._power_effects.start(switches)
