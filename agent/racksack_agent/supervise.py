"""The program in an attempt's session: prepare, run, limit, end, record. Everything about an attempt happens here.

Order of things, each of which may be cut short by a stop or a fault: take the lock, copy the project, build the
venv, run the entrypoint within its limits, end what it left behind, gather the outputs, write exit.json. Whatever
happens, exit.json is written last, and its presence means that no process of the attempt is left.

A start must be cheap (a thousand short jobs are a thousand starts): modules imported here cost nothing to import,
the others are imported where they are needed.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import time

from racksack_agent import job, outputs, prepare, processes, records, signals
from racksack_agent.ending import End, StopRequest
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import PrepareError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict

    Order = Dict[str, Any]
    Report = Dict[str, Any]

_REASON_MAX = 1000
_LOCK_WAIT_S = 10.0
_WORTH_A_FLUSH_S = 5.0  # a shorter attempt whose record a power cut takes is simply run again
_ROOM_BYTES_MIN = 64 * 1024


def main(arguments: list[str]) -> None:
    """Run the attempt in the given folder, unless another supervisor has it or it has ended."""
    folder = AttemptFolder(arguments[0])
    signals.block()
    lock = take_lock(folder)
    if lock is None or os.path.exists(folder.exit):
        os._exit(0)
    with open(folder.order, "rb") as file:
        order = marshal.load(file)  # noqa: S302 - written by `serve`, as this user, a moment ago
    processes.become_subreaper()
    supervise(folder, order)
    os._exit(0)  # without Python's own tidying up, which would take a millisecond


def take_lock(folder: AttemptFolder) -> int | None:
    """The open lock of the attempt, or None when another process keeps it. A `serve` that looks at it has it for a
    moment.
    """
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_s = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > give_up_s:
                return None
            time.sleep(0.01)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def supervise(folder: AttemptFolder, order: Order) -> None:
    """From the first report to the last."""
    report = first_report(order)
    stop = StopRequest(folder.stop)
    os.write(1, f"racksack: attempt {folder.name}; what it prints appears here\r\n".encode())
    try:
        end = prepare_and_run(folder, order, report, stop)
    except Exception as problem:  # noqa: BLE001 - a fault of ours must still end in a record
        end = End("lost", f"the agent failed while it ran this attempt: {type(problem).__name__}: {problem}")
    job.end_all(stop.grace_s)
    finish(folder, order, report, end)


def prepare_and_run(folder: AttemptFolder, order: Order, report: Report, stop: StopRequest) -> End:
    """Prepare and run; a failure to prepare, or a stop meanwhile, is an end too."""
    began_s = time.monotonic()
    try:
        stop.read()
        stop.check()
        prepared = prepare.prepare(folder, order, stop)
        stop.check()
    except PrepareError as problem:
        return stop.end() or End("prepare_failed", str(problem))
    finally:
        report["prepare_s"] = round(time.monotonic() - began_s, 4)
    try:
        running = job.start(folder, order, prepared)
    except processes.StartFailedError as problem:
        return End("failed", str(problem))
    report.update(state="running", started_at_s=time.time())
    publish(folder, report)
    end = job.watch(running, stop)
    report.update(ram_peak_bytes=running.ram_peak_bytes, cpu_s=round(running.cpu_s, 3))
    return end


def finish(folder: AttemptFolder, order: Order, report: Report, end: End) -> None:
    """Gather the outputs and write exit.json; no process of the attempt is left."""
    gathered = outputs.gather(folder.work, folder.out, order["outputs"], order["max_output_bytes"])
    if gathered.problem and end.outcome == "done":
        end = End("failed", gathered.problem, end.exit_code, end.signal)
    elif gathered.problem:
        end.reason += "; " + gathered.problem
    if order["stage_in_ram"]:
        from racksack_agent import ramdisk

        ramdisk.remove(folder)
    if end.outcome == "failed":
        end.reason = own_words(folder.out) or end.reason
        if disk_is_full(folder.out):
            end.reason += "; the node's disk is full"
    report.update(state="ended", ended_at_s=time.time(), outcome=end.outcome, reason=end.reason)
    report.update(exit_code=end.exit_code, signal=end.signal, dropped=gathered.dropped)
    report.update(output_bytes=gathered.output_bytes, output_files=gathered.output_files)
    is_long = report["ended_at_s"] - report.get("started_at_s", report["ended_at_s"]) > _WORTH_A_FLUSH_S
    records.replace_at_last(folder.exit, records.encode(report).encode(), room_makers(folder), sync=is_long)
    records.remove_file(folder.reserve)
    records.tell(folder.home.run, folder.name)


def room_makers(folder: AttemptFolder) -> list[Callable[[], None]]:
    """What can go on a full disk, so that the record can be written: the reserve, then all that is not sent back."""

    def drop_work() -> None:
        import shutil

        for path in (folder.tmp, folder.venv, folder.work):
            shutil.rmtree(path, ignore_errors=True)

    return [lambda: records.remove_file(folder.reserve), drop_work]


def disk_is_full(out: str) -> bool:
    """Whether nothing more can be written: the program may have found no room even for saying so."""
    disk = os.statvfs(out)
    return disk.f_bavail * disk.f_frsize < _ROOM_BYTES_MIN or (disk.f_files > 0 and disk.f_favail == 0)


def own_words(out: str) -> str:
    """What the job itself gave as the reason of its failure: the beginning of out/error.txt."""
    try:
        file = os.open(out + "/error.txt", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return " ".join(os.read(file, _REASON_MAX).decode(errors="replace").split())
    except OSError:  # a folder
        return ""
    finally:
        os.close(file)


def first_report(order: Order) -> Report:
    """The report of an attempt that has just begun to prepare."""
    return {
        "attempt": order["attempt"],
        "state": "preparing",
        "boot_id": order["boot_id"],
        "node_pid": os.getpid(),
        "gpu_uuids": [gpu["uuid"] for gpu in order["gpus"]],
        "cpu_ids": order["cpu_ids"],
    }


def publish(folder: AttemptFolder, report: Report) -> None:
    """Replace state.json and tell every `serve`. On a full disk the job goes on all the same: exit.json will tell."""
    try:
        records.replace(folder.state, records.encode(report).encode())
    except OSError as problem:
        os.write(2, f"state.json could not be written: {problem}\n".encode())
    records.tell(folder.home.run, folder.name)
