"""Runs the job's program within its limits, and ends it when there is a reason to, until no process of it is left."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Dict

from racksack_agent import processes, records
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import limits, shared_memory, signals
from racksack_agent.supervisor.checkpoints.keeper import Keeper
from racksack_agent.supervisor.end import End, StopRequest
from racksack_agent.supervisor.ending import Ending, Step, leftovers, steps_of
from racksack_agent.supervisor.log_times import LogTimes
from racksack_agent.supervisor.reaper import Started
from racksack_agent.supervisor.terminal_echo import Echo
from racksack_agent.supervisor.tree import Tree

Order = Dict[str, Any]

_TICK_S = 0.25
_FIRST_TICK_S = 0.08
_KILL_PAUSE_S = 0.03
_GIVE_UP_S = 60.0  # a process that SIGKILL does not end within this hangs in the kernel
_DOWN_S = 300.0  # so long after the signal of a machine that goes down its end by a signal is put down to that
_GIB = 1 << 30


class Running:
    """A job's processes and what is known of them."""

    def __init__(self, folder: AttemptFolder | None, order: Order, tree: Tree, limit: limits.Limit) -> None:
        self.folder = folder
        self.order = order
        self.tree = tree
        self.limit = limit
        self.began_s = time.monotonic()
        self.status: int | None = None
        self.status_read = 0
        self.ended_at_s: float | None = None
        self.ending: Ending | None = None
        self.warned = False
        self.ram_peak_bytes = 0
        self.cpu_s = 0.0
        self.stuck: list[int] = []
        self.times: LogTimes | None = None
        self.keeper: Keeper | None = None  # of its checkpoints
        self.shared_memory: set[str] = set()  # what it had in /dev/shm when it was ended


def follow(folder: AttemptFolder, order: Order, started: Started, took_over: bool) -> Running:
    """What has been started, by us or by a supervisor that is dead; then its ending is taken up where it was left."""
    limit = limits.observe(
        started.limit["kind"], started.limit["path"], order["ram_bytes"], ends_whole=order["sweep"] is None
    )
    tree = Tree(started, None if took_over else os.getpid(), folder.path, limit)
    limit.processes = tree.processes
    running = Running(folder, order, tree, limit)
    running.began_s = started.began_s
    running.times = LogTimes(folder.out)
    earlier = records.read(folder.ending) if took_over else None
    if earlier:
        running.warned = bool(earlier.get("warned"))
        if "outcome" in earlier:
            running.ending = Ending(End(earlier["outcome"], earlier["reason"]), [], float(earlier["kill_at_s"]))
    return running


def watch(running: Running, stop: StopRequest) -> End:
    """Wait until no process is left, ending them when there is a reason to. Returns what became of the attempt."""
    tick_s = _FIRST_TICK_S
    while not reap(running):
        now_s = time.monotonic()
        consider(running, stop, now_s)
        if running.times:
            running.times.look(now_s)
        if running.keeper:
            running.keeper.look()
        if running.ending and not step(running, running.ending, now_s):
            break
        stop.wait(min(tick_s, next_change_s(running) - now_s))
        if stop.took_interrupt():
            running.tree.interrupt()
        tick_s = _KILL_PAUSE_S if running.ending else max(tick_s, _TICK_S)
    end = conclude(running, stop)
    running.limit.close()
    shared_memory.remove_unused(running.shared_memory)
    return end


def reap(running: Running) -> bool:
    """Take what is known of processes that ended; True when none is left at all."""
    is_over = running.tree.reap(running)
    status = new_status(running)
    if status:
        running.cpu_s = max(running.cpu_s, float(status["cpu_s"]))
        running.ram_peak_bytes = max(running.ram_peak_bytes, int(status["ram_peak_bytes"]))
        if status["status"] is not None:
            running.status, running.ended_at_s = status["status"], status["ended_at_s"]
    return is_over


def new_status(running: Running) -> Dict[str, Any] | None:
    """What the reaper wrote, if it was not read before."""
    if running.folder is None:
        return None
    try:
        number = os.stat(running.folder.status).st_ino
    except FileNotFoundError:
        return None
    if number == running.status_read:
        return None
    running.status_read = number
    return records.read(running.folder.status)


def consider(running: Running, stop: StopRequest, now_s: float) -> None:
    """Begin an end, or hasten one, if there is a reason."""
    running.ram_peak_bytes = max(running.ram_peak_bytes, running.limit.used_bytes(now_s))
    running.tree.keep_awake(now_s)
    order, ending = running.order, running.ending
    left_s = running.began_s + order["time_limit_s"] - now_s if order["time_limit_s"] is not None else None
    if stop.requested and (ending is None or ending.end is None or stop.is_new()):
        begin_stop(running, stop, now_s)
    elif ending and ending.end:
        return
    elif isinstance(running.limit, limits.Watch) and running.limit.exceeded():
        begin(running, Ending(End("oom", ""), [Step(now_s, signal.SIGKILL, whole=True)], now_s))
    elif left_s is not None and left_s <= 0 and running.status is None:
        end = End("timeout", f"it reached its time limit of {order['time_limit_s']:g} s")
        begin(running, steps_of(end, signal.SIGTERM, now_s, order["grace_s"]))
    elif running.status is not None and not ending:
        begin(running, leftovers(now_s, order["grace_s"]))
    elif left_s is not None and order["warn_s"] and left_s <= order["warn_s"] and not running.warned and not ending:
        warn(running)


def begin_stop(running: Running, stop: StopRequest, now_s: float) -> None:
    """Begin the end that was asked for; a later request never gives more time than an earlier one left."""
    warn_s, warn_signal = 0.0, 0
    if stop.warn_s and not running.warned and running.status is None:
        warn_s, warn_signal = stop.warn_s, signals.number_of(running.order["warn_signal"])
        running.warned = True
    ending = steps_of(End(stop.outcome, stop.sentence), stop.signal, now_s, stop.grace_s, warn_s, warn_signal)
    if running.ending and running.ending.end:
        ending.end = running.ending.end
        ending.kill_at_s = min(ending.kill_at_s, running.ending.kill_at_s)
    begin(running, ending)


def begin(running: Running, ending: Ending) -> None:
    """Remember an end and its steps, also for a supervisor that may have to go on with it."""
    running.ending = ending
    if ending.end:
        if running.keeper:
            running.keeper.end_begins()
        running.shared_memory |= shared_memory.used_by(running.tree.processes())
        note(running, outcome=ending.end.outcome, reason=ending.end.reason, kill_at_s=ending.kill_at_s)


def warn(running: Running) -> None:
    """Tell the program that its time is nearly over."""
    running.warned = True
    note(running)
    if running.keeper:
        running.keeper.hurry()
    running.tree.signal_program(signals.number_of(running.order["warn_signal"]))


def note(running: Running, **facts: object) -> None:
    """Write ending.json. On a full disk the end goes on all the same."""
    if running.folder is None:
        return
    try:
        records.replace(running.folder.ending, records.encode({"warned": running.warned, **facts}))
    except OSError as problem:
        if not records.is_full(problem):
            raise


def step(running: Running, ending: Ending, now_s: float) -> bool:
    """Do what is due; False when killing has not helped for a minute. Once the program itself has ended, nobody is
    left who could need the rest of its processes.
    """
    if now_s >= ending.kill_at_s:
        found = running.tree.processes(also_hidden=True)
        processes.send(found, signal.SIGKILL)
        running.stuck = sorted(found) if now_s > ending.kill_at_s + _GIVE_UP_S else []
        return not running.stuck
    has_ended = running.status is not None and running.tree.program_has_ended()
    for due in ending.take_due(now_s, program_has_ended=has_ended):
        if due.whole:
            running.tree.signal_all(due.number)
        else:
            running.tree.signal_program(due.number)
    return True


def next_change_s(running: Running) -> float:
    """When something is due by the clock (monotonic seconds)."""
    limit_s, warn_s = running.order["time_limit_s"], running.order["warn_s"]
    if running.ending:
        soon_s = time.monotonic() + _KILL_PAUSE_S
        return max(running.ending.kill_at_s, soon_s)
    if limit_s is None:
        return float("inf")
    return float(running.began_s + limit_s - (warn_s if warn_s and not running.warned else 0.0))


def conclude(running: Running, stop: StopRequest) -> End:
    """What became of the attempt, from the program's status and from what ended it."""
    if running.status is None and running.folder is not None:
        return End("lost", "the processes that watched it were killed, so how it ended is unknown")
    status = running.status or 0
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    ending = running.ending.end if running.ending else None
    over = running.limit.exceeded()
    if ending and not (over and ending.outcome == "oom"):
        end = ending
    elif over and code != 0:
        limit_bytes = running.order["ram_bytes"]
        running.ram_peak_bytes = max(running.ram_peak_bytes, limit_bytes)
        end = End("oom", f"it used {gib(running.ram_peak_bytes)} of the {gib(limit_bytes)} of memory that it asked for")
    elif code == 0:
        end = End("done", "one of its processes was killed for lack of memory; the program went on" if over else "")
    elif stop.goes_down_within(_DOWN_S):
        end = End("lost", "the node is going down")
    else:
        end = End("failed", f"killed by {signals.name_of(number)}" if number else f"exit code {code}")
    end.exit_code, end.signal = code, number
    if running.stuck:
        end.reason += (
            f"; {len(running.stuck)} processes are stuck in the kernel and could not be killed: {running.stuck}"
        )
    return end


def gib(size_bytes: int) -> str:
    """A size for a sentence: 1.2G, 300M."""
    return f"{size_bytes / _GIB:.1f}G" if size_bytes >= _GIB else f"{size_bytes / (1 << 20):.0f}M"


def end_all(grace_s: float) -> None:
    """End what a preparation left behind. Costs one system call when there is nothing."""
    order = {"time_limit_s": None, "warn_s": None, "ram_bytes": 0, "grace_s": grace_s}
    rest = Running(None, order, Tree(None, os.getpid(), "", limits.Limit()), limits.Limit())
    rest.status = 0
    watch(rest, StopRequest(os.devnull, Echo("", None)))
