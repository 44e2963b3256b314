"""The runner of a sweep's attempt: gets chunks of points, keeps a worker in every slot busy, and writes down results.

Everything that passes between it and the controller is a file in the attempt's folder, so that a cut connection or a
dead `serve` costs nothing:

    sweep/plan.json        what to run and with what; written when the attempt was prepared
    sweep/inbox/N.json     chunk N, written by the operation `feed`
    sweep/control.json     what is wanted of the runner: `finish`, `back`; written by the operation `control`
    sweep/poke             a named pipe: a byte in it says that there is something new in one of the above
    sweep/results.bin      frames (see `frames`), only ever appended to

The runner never imports what the job imports: a GPU library lives and dies with its worker.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from typing import Any, Dict, List, Optional, Sequence

from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.sweep_runner import frames
from racksack_agent.sweep_runner.batches import Batch, Queue, ranges_of, waiting_of
from racksack_agent.sweep_runner.logs import BoundedLog
from racksack_agent.sweep_runner.memory import Memory
from racksack_agent.sweep_runner.slot import Slot

Plan = Dict[str, Any]

_TICK_S = 0.1
_LOOK_S = 1.0
_BEAT_S = 30.0
_TELL_S = 0.01
_PREFETCH = 2
_START_DEATHS_MAX = 3
_RESTART_PAUSE_S = 0.5
_END_S = 5.0
_OWN_SIGNAL_S = 0.3
_POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_READ_BYTES = 1 << 20


class Runner:
    """One attempt of a runner job, until it is told to finish."""

    def __init__(self, folder: AttemptFolder) -> None:
        self._folder = folder
        plan = records.read(folder.sweep_plan)
        assert plan is not None  # noqa: S101 - the supervisor wrote it before it started us
        self._plan: Plan = plan
        self._slots = [Slot(number, plan, folder.sweep_plan) for number in range(plan["slots"])]
        self._queue = Queue()
        self._memory = Memory(plan["limit"], plan["ram_bytes"])
        self._logs = (BoundedLog(1), BoundedLog(2))
        self._results = os.open(folder.sweep_results, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._selector = selectors.DefaultSelector()
        self._seen: set[int] = set()
        self._given_back: set[int] = set()
        self._run = 0
        self._finish = False
        self._stopped = False
        self._was_up = False
        self._began_s = time.monotonic()
        self._restarts = 0
        self._resume_at_s: Dict[int, float] = {}
        self._next_look_s = self._next_beat_s = self._next_tell_s = 0.0
        self._untold = False
        self.problem = ""

    def run(self) -> int:
        """Until finished, stopped, or no worker can be started; the exit code."""
        poke = os.open(self._folder.sweep_poke, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(poke, selectors.EVENT_READ, self._poked)
        for log in self._logs:
            self._selector.register(log.reader, selectors.EVENT_READ, log.copy)
        self._watch_signals()
        for slot in self._slots:
            self._start(slot)
        while not self._stopped and not self.problem and not self._is_finished():
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
            self._on_time(time.monotonic())
        self._end()
        return 1 if self.problem or self._stopped else 0

    def _is_finished(self) -> bool:
        return self._finish and not self._queue.waiting and not any(slot.batches for slot in self._slots)

    def _timeout_s(self) -> float:
        return _TELL_S if self._untold else _TICK_S

    def _watch_signals(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)

        def stop(*_: object) -> None:
            self._stopped = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        self._selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 1024))

    def _poked(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data == self._poked:
                os.read(key.fd, 1024)
        self._next_look_s = 0.0

    def _on_time(self, now_s: float) -> None:
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            self._read_inbox()
            self._read_control()
        for number, at_s in list(self._resume_at_s.items()):
            if now_s >= at_s:
                del self._resume_at_s[number]
                self._start(self._slots[number])
        self._guard(now_s)
        self._hand_out()
        if now_s >= self._next_beat_s and self._was_up:
            self._next_beat_s = now_s + _BEAT_S
            self._beat()
        if self._untold and now_s >= self._next_tell_s:
            self._untold = False
            self._next_tell_s = now_s + _TELL_S
            records.tell(self._folder.home.run, self._folder.name)

    # What is wanted.

    def _read_inbox(self) -> None:
        names = [name for name in os.listdir(self._folder.sweep_inbox) if name.endswith(".json")]
        for number in sorted(int(name[:-5]) for name in names):
            path = f"{self._folder.sweep_inbox}/{number}.json"
            chunk = records.read(path)
            if chunk is not None and number not in self._seen:
                self._seen.add(number)
                self._queue.add(waiting_of(number, chunk))
            records.remove_file(path)

    def _read_control(self) -> None:
        control = records.read(self._folder.sweep_control)
        if control is None:
            return
        self._finish = bool(control.get("finish"))
        self._pass_on(control.get("verdicts", ()))
        wanted = [chunk for chunk in control.get("back", ()) if chunk in self._seen - self._given_back]
        if not wanted:
            return
        self._given_back.update(wanted)
        found = self._queue.give_back(wanted)
        for chunk in wanted:
            self._write(frames.encode({"k": "back", "c": chunk, "p": ranges_of(found.get(chunk, []))}))

    def _pass_on(self, verdicts: Sequence[Sequence[int]]) -> None:
        """Verdicts on points that report: [point, how many rungs were judged, whether it stops]."""
        if not verdicts:
            return
        judged = {point: (rungs, bool(stop)) for point, rungs, stop in verdicts}
        for slot in self._slots:
            if slot.channel is None or not slot.batches:
                continue
            number, index, began_s = slot.progress()
            batch = slot.batches[0]
            if number != batch.number or began_s <= 0 or index >= len(batch.part[0]):
                continue
            found = judged.get(int(batch.part[0][index]))
            if found is not None:
                slot.pass_on(number, index, *found)

    # Workers.

    def _start(self, slot: Slot) -> None:
        channel = slot.start(self._run, (self._logs[0].writer, self._logs[1].writer))
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear(slot))

    def _hear(self, slot: Slot) -> None:
        if slot.channel is None:
            return
        try:
            data = slot.channel.recv(_READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self._died(slot)
            return
        for header, _, whole in slot.splitter.feed(data):
            self._take(slot, header, whole)

    def _take(self, slot: Slot, header: Dict[str, Any], whole: bytes) -> None:
        kind = header["k"]
        if kind == "report":
            self._write(whole)
        elif kind in ("ok", "fail"):
            self._write(whole)
            self._count(slot, header["n"] if kind == "ok" else len(header["p"]))
        elif kind == "up":
            slot.is_up, slot.deaths_in_a_row = True, 0
            if not self._was_up and all(other.is_up for other in self._slots):
                self._was_up = True
                self._ready()
        elif kind == "bad":
            self.problem = header["error"]

    def _count(self, slot: Slot, points: int) -> None:
        batch = slot.batches[0]
        batch.left -= points
        if batch.left == 0:
            slot.batches.popleft()
            now_s = time.monotonic()
            self._queue.speed.learn(len(batch.part[0]), max(1e-9, now_s - slot.batch_began_s))
            slot.batch_began_s = now_s
            self._hand_to(slot)

    def _hand_out(self) -> None:
        run = self._queue.next_run()
        if run is not None and run != self._run:
            if any(slot.batches for slot in self._slots):
                return
            self._change_run(run)
        for slot in self._slots:
            self._hand_to(slot)

    def _hand_to(self, slot: Slot) -> None:
        wanted = _PREFETCH if self._queue.speed.is_quick else 1
        while slot.is_up and slot.channel and len(slot.batches) < wanted and self._queue.next_run() == self._run:
            batch = self._queue.take(len(self._slots), slot.device)
            if batch is None:
                return
            try:
                slot.send(batch)
            except OSError:
                return  # it died; that is heard next

    def _change_run(self, run: int) -> None:
        """Other data, other variables: all workers anew."""
        self._run = run
        for slot in self._slots:
            self._retire(slot)
            self._start(slot)

    def _died(self, slot: Slot) -> None:
        """The worker is gone: blame the point that it was at, give the others to the next worker."""
        self._retire(slot)
        if self._ended_by(slot) in _POLITE:
            time.sleep(_OWN_SIGNAL_S)  # a stop goes to all of an attempt's processes: ours may be on its way
        blamed = None if self._stopped else self._blame(slot)
        for batch in list(slot.batches)[::-1]:
            part = self._unreported(slot, batch, blamed)
            self._queue.put_back(batch, self._run, part)
        slot.batches.clear()
        if self._stopped:
            return
        self._restarts += 1
        slot.deaths_in_a_row = 0 if blamed is not None else slot.deaths_in_a_row + 1
        if not slot.is_up and slot.deaths_in_a_row >= _START_DEATHS_MAX:
            self.problem = f"its worker ended {slot.deaths_in_a_row} times during start-up: {self._how(slot)}"
            return
        pause_s = 0.0 if slot.is_up else _RESTART_PAUSE_S
        self._resume_at_s[slot.number] = time.monotonic() + pause_s

    def _blame(self, slot: Slot) -> Optional[int]:
        """Record the failure of the point that the worker was at; its number, None when it was at none."""
        if not slot.batches:
            return None
        number, index, began_s = slot.progress()
        batch = slot.batches[0]
        done = len(batch.part[0]) - batch.left
        if number != batch.number or began_s <= 0 or index < done:
            return None
        point = int(batch.part[0][index])
        kind, sentence = self._verdict(slot)
        seconds = round(max(0.0, time.monotonic() - began_s), 3)
        self._write(frames.encode({"k": "fail", "c": batch.chunk, "p": [[point, kind, sentence, seconds]]}))
        return index

    def _verdict(self, slot: Slot) -> tuple[str, str]:
        if slot.killed_for == "timeout":
            return "timeout", f"it reached its time limit of {self._plan['point_timeout_s']:g} s"
        if slot.killed_for == "oom" or (self._ended_by(slot) == signal.SIGKILL and self._memory.was_kill()):
            limit = self._plan["ram_bytes"] >> 20
            return "oom", f"its worker was killed for lack of memory: this runner's {limit} MiB were used up"
        return "crash", f"its worker ended: {self._how(slot)}"

    def _ended_by(self, slot: Slot) -> int:
        code = slot.process.returncode if slot.process else 0
        return -code if code and code < 0 else 0

    def _how(self, slot: Slot) -> str:
        number = self._ended_by(slot)
        if number:
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            return f"killed by {name}"
        return f"exit code {slot.process.returncode if slot.process else 0}"

    def _unreported(self, slot: Slot, batch: Batch, blamed: Optional[int]) -> Any:  # noqa: ANN401
        points, values = batch.part
        done = len(points) - batch.left
        if batch is not slot.batches[0] or blamed is None:
            return points[done:], values[done:] if values is not None else None
        kept = [*points[done:blamed], *points[blamed + 1 :]]
        return kept, [*values[done:blamed], *values[blamed + 1 :]] if values is not None else None

    def _retire(self, slot: Slot) -> None:
        """Let go of a worker that has ended or is to end, and wait for its end."""
        if slot.channel is not None:
            self._selector.unregister(slot.channel)
        slot.let_go()
        if slot.process is not None:
            try:
                slot.process.wait(_END_S)
            except Exception:  # noqa: BLE001 - one that does not end by itself is ended
                slot.kill("stopped")
                slot.process.wait()

    def _guard(self, now_s: float) -> None:
        """End workers that are over their time or that take too much memory."""
        limit_s = self._plan["point_timeout_s"]
        for slot in self._slots if limit_s else ():
            if slot.channel is not None:
                slot.end_if_overdue(limit_s, now_s)
        if self._memory.is_watched:
            greedy = self._memory.look(self._slots, now_s)
            if greedy is not None and not greedy.killed_for:
                greedy.kill("oom")

    # What is told.

    def _ready(self) -> None:
        seconds = round(time.monotonic() - self._began_s, 3)
        ready = {"k": "ready", "c": 0, "slots": len(self._slots), "s": seconds, "ram": self._plan["in_ram"]}
        self._write(frames.encode(ready))

    def _beat(self) -> None:
        busy = sum(1 for slot in self._slots if slot.batches)
        beat = {"k": "beat", "c": 0, "busy": busy, "restarts": self._restarts, "waiting": self._queue.waiting}
        self._write(frames.encode(beat))

    def _write(self, data: bytes) -> None:
        """Append a frame; on a full disk wait for space, since nothing that was computed may be lost."""
        while data:
            try:
                data = data[os.write(self._results, data) :]
            except OSError as problem:
                if not records.is_full(problem) or self._stopped:
                    raise
                time.sleep(_LOOK_S)
        self._untold = True

    def _end(self) -> None:
        """Take what has arrived, end the workers, copy what they printed."""
        for slot in self._slots:
            if slot.channel is None:
                continue
            slot.channel.setblocking(False)
            try:
                while data := slot.channel.recv(_READ_BYTES):
                    for header, _, whole in slot.splitter.feed(data):
                        if header["k"] in ("ok", "fail", "report"):
                            self._write(whole)
            except (BlockingIOError, ConnectionResetError):
                pass
            slot.let_go()
        for slot in self._slots:
            self._join(slot)
        for log in self._logs:
            log.copy()
        os.close(self._results)
        records.tell(self._folder.home.run, self._folder.name)

    def _join(self, slot: Slot) -> None:
        if slot.process is None or slot.process.poll() is not None:
            return
        if self._stopped or self.problem:
            slot.kill("stopped")
        try:
            slot.process.wait(_END_S)
        except Exception:  # noqa: BLE001 - one that does not end by itself is ended
            slot.kill("stopped")
            slot.process.wait()


def main(arguments: List[str]) -> None:
    """`FOLDER`: run the sweep's attempt in it. What is wrong with the project is left where the supervisor looks."""
    folder = AttemptFolder(arguments[0])
    runner = Runner(folder)
    code = runner.run()
    if runner.problem:
        with open(folder.out + "/error.txt", "w", encoding="utf-8") as file:
            file.write(runner.problem + "\n")
        print(runner.problem, file=sys.stderr)
    sys.exit(code)
