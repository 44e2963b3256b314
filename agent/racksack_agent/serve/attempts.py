"""What is known of the attempts on this node: their folders are the truth, this only reads them, and settles those
that died.

An attempt is alive as long as its supervisor holds the lock of its folder: unlike a process id it cannot be
mistaken. If nobody holds it and there is no exit record, the attempt is lost: what is left of it is ended and the
record written, under that lock, so that two of us never do it at once and a supervisor that comes late finds the
record.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from racksack_agent import processes, records
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.serve import attempt_records
from racksack_agent.sessions import Sessions
from racksack_agent.supervisor import (
    limits,
    outputs,
    ram_shared,
    ramdisk,
    reaper,
    short_tmp,
    signals,
    variables,
)
from racksack_agent.supervisor.output_report import Gathered

Report = Dict[str, Any]

_START_S = 20.0  # how long a session may take to start its supervisor
_KILL_S = 5.0
_END_S = 2.0
_TAKEOVERS_MAX = 100  # a job that ends its supervisors as fast as they come is not to run beyond its limits for ever
_FORK_S = 1.0  # the fork server of a dead `serve` starts what it has read


class Attempts:
    """The attempts of one home."""

    def __init__(self, home: Home, boot_id: str, sessions: Optional[Sessions]) -> None:
        self._home = home
        self._boot_id = boot_id
        self._sessions = sessions
        self._ended: Dict[str, Report] = {}
        self._states: Dict[str, Tuple[int, int, Report]] = {}
        self.left_behind: set[str] = set()  # their `serve` died before it started them; see `relaunching`
        self.unwatched: set[str] = set()  # their supervisor was killed, the program or its exit status is there

    def names(self) -> list[str]:
        """All attempts that have a folder."""
        return [name for name in os.listdir(self._home.attempts) if attempt_records.NAME.fullmatch(name)]

    def reports(self) -> list[Report]:
        """The report of each."""
        found = (self.report(name) for name in self.names())
        return [report for report in found if report is not None]

    def living_processes(self) -> Dict[str, List[int]]:
        """The processes of each living attempt, by its name."""
        parent_of = processes.parents()
        found = {}
        for report in self.reports():
            if report["state"] != "ended" and report.get("node_pid"):
                started = reaper.read_started(self._home.attempt(report["attempt"]))
                root = started.reaper[0] if started and processes.is_alive(started.reaper) else report["node_pid"]
                found[report["attempt"]] = processes.below(root, parent_of)
        return found

    def report(self, name: str) -> Optional[Report]:
        """The latest report; None for a folder that is gone or not made ready yet. Raises OSError when a limit of this
        process was reached, never for what is wrong with one attempt.
        """
        try:
            return self._report(name)
        except Exception as problem:
            if isinstance(problem, OSError) and records.is_short(problem):
                raise
            return unusable(name, problem)

    def _report(self, name: str) -> Optional[Report]:
        folder = self._home.attempt(name)
        if name in self._ended:
            if os.path.isdir(folder.path):
                return self._ended[name]
            del self._ended[name]
        final = attempt_records.final_of(folder)
        if final is not None:
            self._ended[name] = self._believe(folder, final)
            return self._ended[name]
        return self._state(folder) or self._announced(folder)

    def _state(self, folder: AttemptFolder) -> Optional[Report]:
        """state.json, read again only when it was replaced: every second all living attempts are looked at."""
        try:
            info = os.stat(folder.state)
        except OSError:
            return None
        known = self._states.get(folder.name)
        if known is None or known[:2] != (info.st_ino, info.st_mtime_ns):
            report = attempt_records.state_of(folder)
            if report is None:
                return None
            known = self._states[folder.name] = (info.st_ino, info.st_mtime_ns, report)
        return known[2]

    def _announced(self, folder: AttemptFolder) -> Optional[Report]:
        """The report of an attempt whose supervisor has not said anything yet."""
        launch = attempt_records.launch_of(folder)
        if launch is None:
            return None
        return {
            "attempt": folder.name,
            "state": "preparing",
            "epoch": launch.get("epoch", ""),
            "boot_id": launch["boot_id"],
            "cpu_ids": launch["cpu_ids"],
        }

    def _believe(self, folder: AttemptFolder, final: Report) -> Report:
        """After a restart of the node: a record is only as good as the outputs that it counted reached the disk."""
        if final.get("boot_id") == self._boot_id or final.get("outcome") == "lost":
            return final
        gathered = Gathered()
        outputs.recount(folder.out, gathered)
        if (gathered.output_files, gathered.output_bytes) == (final["output_files"], final["output_bytes"]):
            return final
        reason = "the node was restarted before all of its outputs had reached the disk"
        final.update(
            outcome="lost", reason=reason, output_files=gathered.output_files, output_bytes=gathered.output_bytes,
            output_digest="",
        )  # fmt: skip
        records.replace(folder.exit, records.encode(final), sync=True)
        return final

    def rescan(self) -> list[str]:
        """Settle attempts that died; returns the names of all that may have changed."""
        names = set(self.names())
        for gone in [name for name in (*self._ended, *self._states) if name not in names]:
            self.forget(gone)
        living = [name for name in names if name not in self._ended]
        for name in living:
            try:
                self.settle(name)
            except Exception as problem:  # noqa: BLE001 - as in `report`
                if not (isinstance(problem, OSError) and records.is_short(problem)):
                    self._ended[name] = unusable(name, problem)
        return living

    def is_alive(self, name: str) -> bool:
        """Whether a supervisor has this attempt, or may still start."""
        folder = self._home.attempt(name)
        return not os.path.lexists(folder.exit) and attempt_records.launch_of(folder) is not None

    def settle(self, name: str) -> None:
        """Write the record of an attempt that is lost; nothing happens to one that is not."""
        folder = self._home.attempt(name)
        with held(folder) as ours:
            if not ours:
                keep_awake(folder)
                return
            if attempt_records.final_of(folder) is not None:
                return
            launch = attempt_records.launch_of(folder)
            if launch is None and not os.path.isdir(folder.path):
                return  # it was removed meanwhile
            if attempt_records.is_torn(folder) or launch is None:
                remove_torn(folder.exit)
                self._bury(folder, launch or attempt_records.stand_in(folder), "its records were damaged on the node")
                return
            if launch and launch["boot_id"] == self._boot_id and can_be_taken_over(folder):
                self.unwatched.add(name)
                return
            sentence = self._lost_sentence(folder, launch) if launch else ""
            if launch and not sentence and is_left_behind(launch):
                self.left_behind.add(name)
            if launch and sentence:
                self._bury(folder, launch, sentence)

    def _lost_sentence(self, folder: AttemptFolder, launch: Report) -> str:
        """Why an attempt without a supervisor is lost; empty while it may still start."""
        if launch["boot_id"] != self._boot_id:
            return "the node was restarted"
        if not never_began(folder):
            return "its supervisor was killed"
        if since_launch_s(launch) < _START_S:
            return ""
        return "its supervisor never started"

    def _bury(self, folder: AttemptFolder, launch: Report, sentence: str) -> None:
        end_rest(folder, launch)
        if self._sessions:
            self._sessions.end(folder.name)
        report = attempt_records.state_of(folder) or {
            "attempt": folder.name,
            "epoch": launch.get("epoch", ""),
            "boot_id": launch["boot_id"],
        }
        gathered = outputs.gather(folder, outputs.Wanted((), launch["max_output_bytes"], "none", "", 0))
        report.update(gathered.facts(), state="ended", outcome="lost", reason=sentence, ended_at_s=time.time())
        clean(folder, launch)
        records.replace_at_last(folder.exit, records.encode(report), [lambda: records.remove_file(folder.reserve)])
        records.tell(self._home.run, folder.name)

    def poke(self, name: str) -> None:
        """Let the supervisor look for a stop request; one that is yet to start looks by itself."""
        folder = self._home.attempt(name)
        with held(folder) as ours:
            if ours:
                return
        pid = supervisor_of(folder)
        if pid:
            processes.wake(pid)
            processes.send([pid], signals.STOP)

    def has_let_go(self, folder: AttemptFolder) -> bool:
        """Whether nobody holds the lock; between exit.json and its end a supervisor needs a moment."""
        give_up_s = time.monotonic() + _END_S
        while time.monotonic() < give_up_s:
            with held(folder) as ours:
                if ours:
                    return True
            time.sleep(0.005)
        return False

    def forget(self, name: str) -> None:
        """The folder was removed."""
        self._ended.pop(name, None)
        self._states.pop(name, None)


def unusable(name: str, problem: Exception) -> Report:
    """The report of an attempt whose folder cannot be worked with (a bad sector, rights that were taken away)."""
    reason = f"its folder on the node cannot be used: {type(problem).__name__}: {problem}"
    return {"attempt": name, "epoch": None, "state": "ended", "outcome": "lost", "reason": reason, "boot_id": ""}


def remove_torn(path: str) -> None:
    """Make way for a record where something else stands."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        records.remove_file(path)


def never_began(folder: AttemptFolder) -> bool:
    """Whether no supervisor ever had it: one writes its process id into the lock. To be asked under the lock."""
    return not os.path.exists(folder.exit) and not os.path.getsize(folder.lock)


def can_be_taken_over(folder: AttemptFolder) -> bool:
    """Whether an attempt without a supervisor needs only another one: its program is still waited for, or is known to
    have ended. To be asked under the lock.
    """
    started = reaper.read_started(folder)
    if started is None or _size(folder.takeovers) > _TAKEOVERS_MAX:
        return False
    if processes.is_alive(started.reaper):
        return True
    status = records.read(folder.status)
    return status is not None and status["status"] is not None


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def keep_awake(folder: AttemptFolder) -> None:
    """Continue a supervisor that somebody stopped: it enforces the limits and gathers the results."""
    pid = supervisor_of(folder)
    if pid:
        processes.wake(pid)


def supervisor_of(folder: AttemptFolder) -> int:
    """The process that holds the lock, 0 when it has not written its id yet."""
    try:
        with open(folder.lock, encoding="ascii") as file:
            return int(file.read().strip() or 0)
    except FileNotFoundError:
        return holder_of_removed(folder)
    except (OSError, ValueError):
        return 0


def holder_of_removed(folder: AttemptFolder) -> int:
    """The supervisor that holds the lock whose file somebody removed; 0 when there is none."""
    found = processes.with_argument(os.fsencode(folder.name), b"racksack-superv")
    return next((process for process in found if processes.has_open(process, folder.lock)), 0)


def since_launch_s(launch: Report) -> float:
    """How long ago an attempt of this start of the machine was launched, whatever was done to the clock since."""
    launched_s = launch.get("launched_monotonic_s")
    if isinstance(launched_s, (int, float)):
        return time.monotonic() - launched_s
    return time.time() - float(launch["launched_at_s"])  # an earlier version of us launched it


def is_left_behind(launch: Report) -> bool:
    """Whether the `serve` that was to start an attempt has gone, and its fork server with it."""
    launcher = launch.get("launcher")
    if not launcher or since_launch_s(launch) < _FORK_S:
        return False
    return bool(processes.name_of(launcher[0]) != launcher)


@contextlib.contextmanager
def held(folder: AttemptFolder) -> Iterator[bool]:
    """Take the attempt's lock if nobody has it; tells whether we do. A supervisor that starts meanwhile waits for
    us.
    """
    try:
        create = 0 if os.path.lexists(folder.lock) or holder_of_removed(folder) else os.O_CREAT
        lock = os.open(folder.lock, os.O_RDWR | create | os.O_CLOEXEC, 0o600)
    except OSError:  # it is gone, or is no folder at all
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def end_rest(folder: AttemptFolder, launch: Report) -> None:
    """Kill what a dead supervisor left, found as the reaper's descendants, by its environment, its mark and its cgroup,
    until nothing is found.
    """
    started = reaper.read_started(folder)
    group = started.limit["path"] if started else launch["limit"]["path"]
    give_up_s = time.monotonic() + _KILL_S
    while time.monotonic() < give_up_s:
        left = processes.marked(variables.marker(folder.path)) + processes.with_limit(processes.mark_of(folder.path))
        left += limits.members(group)
        if started and processes.is_alive(started.reaper):
            left += processes.descendants(started.reaper[0])
        if not left:
            return
        processes.send(left, signal.SIGKILL)
        time.sleep(0.02)


def clean(folder: AttemptFolder, launch: Report) -> None:
    """Undo what an attempt set up outside of its folder."""
    limits.remove_group(launch["limit"]["path"])
    ramdisk.remove(folder)
    short_tmp.remove(folder)
    ram_shared.leave(folder)
