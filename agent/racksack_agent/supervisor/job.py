"""Runs the job's program in the pane, within its limits, until no process of it is left."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Dict

from racksack_agent import processes
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import limits, signals
from racksack_agent.supervisor.end import End, StopRequest
from racksack_agent.supervisor.log_times import LogTimes
from racksack_agent.supervisor.prepare import Prepared
from racksack_agent.supervisor.terminal_echo import Echo

Order = Dict[str, Any]

_TICK_S = 0.25
_FIRST_TICK_S = 0.08
_LEFTOVER_GRACE_S = 5.0
_KILL_PAUSE_S = 0.03
_GIVE_UP_S = 60.0  # a process that SIGKILL does not end within this hangs in the kernel
_GIB = 1 << 30
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Ending:
    """An end that has begun: what it makes of the attempt, and when patience is over."""

    __slots__ = ("end", "kill_at_s")

    def __init__(self, end: End | None, kill_at_s: float) -> None:
        self.end = end  # None: the program ended by itself and left processes behind
        self.kill_at_s = kill_at_s


class Running:
    """A job's processes and what is known of them."""

    def __init__(self, pid: int, order: Order, limit: limits.Limit) -> None:
        self.pid = pid
        self.order = order
        self.limit = limit
        self.began_s = time.monotonic()
        self.status: int | None = None
        self.ending: Ending | None = None
        self.ram_peak_bytes = 0
        self.cpu_s = 0.0
        self.stuck: list[int] = []
        self.times: LogTimes | None = None


def start(folder: AttemptFolder, order: Order, prepared: Prepared, terminal: int) -> Running:
    """Start the entrypoint with the pane as its stdin. Raises StartFailedError with the reason.

    The job inherits its cores and its memory group from us, so we take them on first; the group we leave again at once.
    """
    if order["cpu_ids"]:
        os.sched_setaffinity(0, order["cpu_ids"])
    logs = [os.open(f"{folder.out}/{name}.log", _LOG_FLAGS, 0o644) for name in ("stdout", "stderr")]
    limit = limits.join_limit(
        order["limit"]["kind"], order["limit"]["path"], order["ram_bytes"], ends_whole=order["sweep"] is None
    )
    try:
        pid = processes.spawn(prepared.argv, prepared.env, (terminal, logs[0], logs[1]))
    except processes.StartFailedError:
        limit.leave()
        limit.close()
        raise
    finally:
        for log in logs:
            os.close(log)
    limit.leave()
    running = Running(pid, order, limit)
    running.times = LogTimes(folder.out)
    return running


def watch(running: Running, stop: StopRequest) -> End:
    """Wait until no process is left, ending them when there is a reason to. Returns what became of the attempt."""
    tick_s = _FIRST_TICK_S
    while not reap(running):
        now_s = time.monotonic()
        consider(running, stop, now_s)
        if running.times:
            running.times.look(now_s)
        if running.ending and now_s >= running.ending.kill_at_s:
            if not kill_all(running, now_s):
                break
            tick_s = _KILL_PAUSE_S
        stop.wait(min(tick_s, next_change_s(running) - now_s))
        tick_s = max(tick_s, _TICK_S) if not running.ending else _KILL_PAUSE_S
    end = conclude(running)
    running.limit.close()
    return end


def reap(running: Running) -> bool:
    """Take the results of all processes that ended; True when none is left at all."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False
        running.cpu_s += usage.ru_utime + usage.ru_stime
        running.ram_peak_bytes = max(running.ram_peak_bytes, usage.ru_maxrss * 1024)
        if pid == running.pid:
            running.status = status


def consider(running: Running, stop: StopRequest, now_s: float) -> None:
    """Begin an end, or hasten one, if there is a reason."""
    running.ram_peak_bytes = max(running.ram_peak_bytes, running.limit.used_bytes(now_s))
    time_limit_s = running.order["time_limit_s"]
    if running.ending and running.ending.end:
        running.ending.kill_at_s = min(running.ending.kill_at_s, now_s + stop.grace_s)
    elif stop.requested:
        begin(running, End(stop.outcome, stop.sentence), stop.signal, now_s + stop.grace_s)
    elif isinstance(running.limit, limits.Watch) and running.limit.exceeded():
        begin(running, End("oom", ""), signal.SIGKILL, now_s)
    elif time_limit_s is not None and now_s - running.began_s >= time_limit_s and running.status is None:
        reason = f"it ran into its time limit of {time_limit_s:g} s"
        begin(running, End("timeout", reason), signal.SIGTERM, now_s + running.order["grace_s"])
    elif running.status is not None and not running.ending:
        begin(running, None, signal.SIGTERM, now_s + min(_LEFTOVER_GRACE_S, running.order["grace_s"]))


def begin(running: Running, end: End | None, first_signal: int, kill_at_s: float) -> None:
    """Signal the whole tree and remember when to stop being patient. A stopped process must wake up to end."""
    running.ending = Ending(end, kill_at_s)
    found = processes.descendants(os.getpid())
    processes.send(found, first_signal)
    processes.send(found, signal.SIGCONT)


def kill_all(running: Running, now_s: float) -> bool:
    """Kill whatever is left; False when it has not worked for a minute."""
    assert running.ending is not None  # noqa: S101 - the caller has looked
    found = set(processes.descendants(os.getpid())) | set(running.limit.left())
    processes.send(found, signal.SIGKILL)
    if now_s > running.ending.kill_at_s + _GIVE_UP_S:
        running.stuck = sorted(found)
        return False
    return True


def next_change_s(running: Running) -> float:
    """When something is due by the clock (monotonic seconds)."""
    due = [running.began_s + running.order["time_limit_s"]] if running.order["time_limit_s"] is not None else []
    if running.ending:
        due = [max(running.ending.kill_at_s, time.monotonic() + _KILL_PAUSE_S)]
    return min(due, default=float("inf"))


def conclude(running: Running) -> End:
    """What became of the attempt, from the program's status and from what ended it."""
    status = running.status or 0
    signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) and running.status is not None else None
    ending = running.ending.end if running.ending else None
    over = running.limit.exceeded()
    if ending and not (over and ending.outcome == "oom"):
        end = ending
    elif over and code != 0:
        limit_bytes = running.order["ram_bytes"]
        running.ram_peak_bytes = max(running.ram_peak_bytes, limit_bytes)
        end = End("oom", f"it used {gib(running.ram_peak_bytes)} of the {gib(limit_bytes)} of memory that it asked for")
    elif code == 0:
        end = End("done", "a process of it was ended for memory, the program went on" if over else "")
    else:
        end = End("failed", f"killed by {signals.name_of(signal)}" if signal else f"exit code {code}")
    end.exit_code, end.signal = code, signal
    if running.stuck:
        end.reason += f"; {len(running.stuck)} processes hang in the kernel and could not be ended: {running.stuck}"
    return end


def gib(size_bytes: int) -> str:
    """A size for a sentence: 1.2G, 300M."""
    return f"{size_bytes / _GIB:.1f}G" if size_bytes >= _GIB else f"{size_bytes / (1 << 20):.0f}M"


def end_all(grace_s: float) -> None:
    """End what a preparation left behind. Costs one system call when there is nothing."""
    order = {"time_limit_s": None, "ram_bytes": 0, "grace_s": grace_s}
    rest = Running(0, order, limits.Limit())
    rest.status = 0
    watch(rest, StopRequest(os.devnull, Echo("", None)))
