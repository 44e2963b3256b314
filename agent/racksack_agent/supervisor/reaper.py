"""The parent of a job's program: it waits for the program and for all that it leaves behind, and writes down how they
ended. It does nothing else.

The supervisor decides, this one only waits, so that the loss of one loses nothing. If the supervisor is killed, the
program goes on and its exit status is in `status.json`; another supervisor takes over (see `serve.relaunching`). If
this one is killed, its children become the supervisor's, which then waits for them itself. Both are in sessions of
their own and answer to no signal that can be blocked: `kill 0` in a job reaches neither of them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

from racksack_agent import process_title, processes, records
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import captured, limits

if TYPE_CHECKING:
    from racksack_agent.supervisor.prepare import Prepared

Order = Dict[str, Any]

_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_MESSAGE_BYTES_MAX = 1 << 16
_OPEN_MAX = 4096  # of the few descriptors that a supervisor holds, none has a larger number


class Started:
    """What is known of a program that has been started: the content of `job.json`."""

    __slots__ = ("began_s", "files_since_ns", "limit", "main", "pane", "reaper", "started_at_s")

    def __init__(self, record: Dict[str, Any]) -> None:
        self.reaper: list[int] = record["reaper"]  # process id and start, see `processes.name_of`
        self.main: list[int] = record["main"]  # empty until it is known
        self.began_s: float = record["began_s"]  # the machine's monotonic clock
        self.started_at_s: float = record["started_at_s"]
        self.limit: Dict[str, str] = record["limit"]
        self.pane: list[Any] = record["pane"]
        self.files_since_ns: int = record["files_since_ns"]


def start(folder: AttemptFolder, order: Order, prepared: Prepared, stdin: int, pane: Sequence[Any]) -> Started:
    """Fork the reaper, which starts the program. Raises StartFailedError with the reason; ChildProcessError when the
    reaper was killed before that.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    supervisor = os.getpid()
    try:
        child = os.fork()
        if child == 0:
            _reap(folder, order, prepared, stdin, pane, writer, supervisor)
    finally:
        os.close(writer)
    try:
        message = json.loads(os.read(reader, _MESSAGE_BYTES_MAX) or b"{}")
    finally:
        os.close(reader)
    if "started" in message:
        return Started(message["started"])
    os.waitpid(child, 0)
    if "error" in message:
        raise processes.StartFailedError(message["error"], message["at_fault"])
    raise ChildProcessError("the process that was to start the program was killed")


def read_started(folder: AttemptFolder) -> Optional[Started]:
    """What an earlier supervisor started; None when it did not come to that, or that cannot be understood."""
    record = records.read(folder.job) if os.path.exists(folder.job) else None
    try:
        return Started(record) if record else None
    except (KeyError, TypeError):
        return None


def _reap(
    folder: AttemptFolder,
    order: Order,
    prepared: Prepared,
    stdin: int,
    pane: Sequence[Any],
    writer: int,
    supervisor: int,
) -> None:
    """The life of the reaper. Never returns."""
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        processes.become_subreaper()
        process_title.set_title(f"racksack-job {folder.name}")
        _keep_only((stdin, writer))
        main = _start(folder, order, prepared, stdin, pane, writer, supervisor)
        os.close(writer)
        if main:
            _wait(folder, main, supervisor)
    finally:
        os._exit(0)


def _keep_only(kept: Sequence[int]) -> None:
    """Close every other descriptor above the standard streams: above all the lock, which is to be the supervisor's."""
    first = 3
    for descriptor in (*sorted(set(kept)), _OPEN_MAX):
        os.closerange(first, descriptor)
        first = descriptor + 1


def _start(
    folder: AttemptFolder,
    order: Order,
    prepared: Prepared,
    stdin: int,
    pane: Sequence[Any],
    writer: int,
    supervisor: int,
) -> int:
    """Start the program and tell the supervisor; 0 if it could not be started.

    `job.json` is there before the program runs, so whatever happens to the supervisor from then on, it does not run
    twice. If the supervisor was killed before that, somebody may have called the attempt lost: nothing is started.
    """
    logs = [os.open(f"{folder.out}/{name}", _LOG_FLAGS, 0o644) for name in captured.STREAMS]
    captured.hold(folder)
    limit = limits.join_limit(
        order["limit"]["kind"], order["limit"]["path"], order["ram_bytes"], ends_whole=order["sweep"] is None
    )
    kind = "watch" if isinstance(limit, limits.Watch) else order["limit"]["kind"]
    record = {
        "reaper": processes.name_of(os.getpid()),
        "main": [],
        "began_s": time.monotonic(),
        "started_at_s": time.time(),
        "limit": {"kind": kind, "path": order["limit"]["path"]},
        "pane": list(pane),
        "files_since_ns": 0,
    }
    try:
        records.replace(folder.job, records.encode(record))
        record["files_since_ns"] = os.stat(folder.job).st_ctime_ns  # by the clock that its files will have
        if os.getppid() != supervisor:
            return 0
        main = processes.spawn(prepared.argv, prepared.env, (stdin, logs[0], logs[1]))
    except (processes.StartFailedError, OSError) as problem:
        limit.leave()
        limit.close()
        records.remove_file(folder.job)
        at_fault = problem.at_fault if isinstance(problem, processes.StartFailedError) else "node"
        os.write(writer, records.encode({"error": str(problem), "at_fault": at_fault}))
        return 0
    finally:
        for file in (*logs, stdin):
            os.close(file)
    limit.leave()
    record["main"] = processes.name_of(main) or [main, 0]
    try:
        records.replace(folder.job, records.encode(record))
    except OSError as problem:
        if not records.is_full(problem):
            raise
        # A full disk: without its name the program is still found as our child.
    os.write(writer, records.encode({"started": record}))
    return main


def _wait(folder: AttemptFolder, main: int, supervisor: int) -> None:
    """Take the results of all processes until none is left. The supervisor, if it still is the one that forked us, is
    woken by the signal that its own child's end would send.
    """
    status: Dict[str, Any] = {"status": None, "cpu_s": 0.0, "ram_peak_bytes": 0, "ended_at_s": None}
    is_told = True
    while True:
        try:
            process, result, usage = os.wait4(-1, 0 if is_told else os.WNOHANG)
        except ChildProcessError:
            break
        if process:
            status["cpu_s"] += usage.ru_utime + usage.ru_stime
            status["ram_peak_bytes"] = max(status["ram_peak_bytes"], usage.ru_maxrss * 1024)
        if process == main:
            status.update(status=result, ended_at_s=time.time())
            is_told = False  # soon: usually nothing is left, and then our end tells it
        elif not process:
            _write(folder, status)
            is_told = True
            if os.getppid() == supervisor:
                os.kill(supervisor, signal.SIGCHLD)
    _write(folder, status)


def _write(folder: AttemptFolder, status: Dict[str, Any]) -> None:
    """On a full disk into the space of the reserve, which is not needed for anything else while there is no record."""
    data = records.encode(status)
    records.replace_at_last(folder.status, data, [lambda: records.remove_file(folder.reserve)], sync=False)
