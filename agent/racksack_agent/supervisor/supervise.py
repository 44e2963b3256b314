"""Supervises one attempt: prepare, run, limit, end, record. Everything about an attempt happens here.

Order of things, each of which may be cut short by a stop or a fault: take the lock, copy the project, build the
venv, run the entrypoint within its limits, end what it left behind, gather the outputs, write exit.json. Whatever
happens, exit.json is written last, and its presence means that no process of the attempt is left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from typing import Any, Callable, Dict, Sequence

from racksack_agent import durable, process_title, processes, records
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import PrepareError
from racksack_agent.supervisor import (
    environment,
    job,
    masking,
    output_digest,
    outputs,
    panes,
    prepare,
    ram_shared,
    ramdisk,
    readable,
    reaper,
    short_tmp,
    signals,
)
from racksack_agent.supervisor.checkpoints.keeper import Keeper, Processes, Saved
from racksack_agent.supervisor.end import End, StopRequest
from racksack_agent.supervisor.output_report import Gathered
from racksack_agent.supervisor.panes import Pane
from racksack_agent.supervisor.terminal_echo import Echo

Order = Dict[str, Any]
Report = Dict[str, Any]

_REASON_MAX = 1000
_LOCK_WAIT_S = 10.0
_GO_LOOK_S = 1.0
_WORTH_A_FLUSH_S = 5.0  # a shorter attempt whose record a power cut takes is simply run again
_LAST_BYTES = 4096
_ROOM_BYTES_MIN = 64 * 1024
_OWN_SHARE_MAX = 0.5  # of what was free at its launch: above, an attempt that finds it full is itself the cause


def run(folder: AttemptFolder, pane: Pane, scope: str) -> None:
    """Supervise an attempt, unless another process has it or it has ended. `scope`: our cgroup, if it was delegated."""
    signals.block()
    lock = take_lock(folder)
    if lock is None or os.path.exists(folder.exit):
        return
    order = records.read(folder.launch)
    if order is None:
        return
    if scope:
        order["limit"]["path"] = f"{scope}/{folder.name}"
    process_title.set_title(f"racksack-supervisor {folder.name}")
    processes.become_subreaper()
    processes.take_mark(processes.mark_of(folder.path))
    Supervisor(folder, order, pane).supervise()


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


class Supervisor:
    """One attempt from its first step to its record."""

    def __init__(self, folder: AttemptFolder, order: Order, pane: Pane, *, under_scheduler: bool = False) -> None:
        self.folder = folder
        self.order = order
        self.pane = pane
        self.report = first_report(order)
        self.began_s: float | None = None  # of the program, by the machine's monotonic clock
        self.echo = Echo(folder.out, panes.open_terminal(pane, os.O_WRONLY | os.O_NONBLOCK))
        self.stop = StopRequest(folder.stop, self.echo, under_scheduler=under_scheduler)

    def supervise(self) -> None:
        """All of it."""
        try:
            started = reaper.read_started(self.folder)
            end = self.take_over(started) if started else self.prepare_and_run()
        except Exception as problem:  # noqa: BLE001 - a fault of ours must still end in a record
            end = End("lost", f"the agent failed while running this attempt: {type(problem).__name__}: {problem}")
        job.end_all(self.stop.grace_s)
        self.finish(end)

    def prepare_and_run(self) -> End:
        """Prepare and run; a failure to prepare, or a stop meanwhile, is an end too."""
        began_s = time.monotonic()
        try:
            self.stop.read()
            self.stop.check()
            prepared = prepare.prepare(self.folder, self.order, self.stop)
            self.stop.check()
        except PrepareError as problem:
            return self.stop.end() or End("prepare_failed", str(problem), at_fault=problem.at_fault)
        finally:
            self.report["prepare_s"] = round(time.monotonic() - began_s, 4)
        if self.order["go_within_s"] is not None:
            end = self.wait_for_go(self.order["go_within_s"])
            if end is not None:
                return end
        if self.order["cpu_ids"]:
            os.sched_setaffinity(0, self.order["cpu_ids"])  # the program inherits them
        stdin = panes.open_stdin(self.pane, self.order["interactive"])
        try:
            started = reaper.start(self.folder, self.order, prepared, stdin, self.pane)
        except processes.StartFailedError as problem:
            return End(
                "failed" if problem.at_fault == "job" else "prepare_failed", str(problem), at_fault=problem.at_fault
            )
        finally:
            os.close(stdin)
        return self.follow(started, took_over=False)

    def take_over(self, started: reaper.Started) -> End:
        """Go on where a supervisor was killed; its program has gone on meanwhile, or has ended."""
        if os.path.isdir(self.folder.work):
            os.chdir(self.folder.work)  # where the one before worked, too
        self.stop.read()
        self.echo.skip()
        with open(self.folder.takeovers, "ab") as file:
            file.write(b".")
        earlier = records.read(self.folder.state) or {}
        self.report.update({name: earlier[name] for name in ("prepare_s", "checkpoint") if name in earlier})
        return self.follow(started, took_over=True)

    def follow(self, started: reaper.Started, took_over: bool) -> End:
        """Say that the program runs, and see it to its end."""
        self.began_s = started.began_s
        self.report.update(state="running", started_at_s=started.started_at_s)
        publish(self.folder, self.report)
        running = job.follow(self.folder, self.order, started, took_over)
        keeper = running.keeper = self.keeper_of(running, started)
        end = job.watch(running, self.stop)
        if keeper is not None:
            keeper.close(end)
        self.report.update(ram_peak_bytes=running.ram_peak_bytes, cpu_s=round(running.cpu_s, 3))
        return end

    def keeper_of(self, running: job.Running, started: reaper.Started) -> Keeper | None:
        """What takes checkpoints, if the job asked for that; of a gang rank 0 alone saves."""
        wanted = self.order.get("checkpoint")
        if wanted is None or not wanted["saves"]:
            return None

        def tell(saved: Saved) -> None:
            self.report["checkpoint"] = saved
            publish(self.folder, self.report)

        program = Processes(running.tree.processes, lambda: processes.is_alive(started.main))
        return Keeper(self.folder, self.order, program, tell)

    def wait_for_go(self, within_s: float) -> End | None:
        """Say that all is prepared, and start only when told to. An end, if it comes to that instead."""
        self.report.update(state="prepared")
        publish(self.folder, self.report)
        give_up_s = time.monotonic() + within_s
        while not os.path.exists(self.folder.go):
            self.stop.wait(_GO_LOOK_S)  # `go` wakes us by the signal that announces a stop, too
            end = self.stop.end()
            if end is not None:
                return end
            if time.monotonic() > give_up_s:
                return End("lost", f"it was prepared, but not told to start within {within_s:g} s")
        return None

    def wanted(self) -> outputs.Wanted:
        """Which outputs are to come."""
        order, started = self.order, reaper.read_started(self.folder)
        return outputs.Wanted(
            order["outputs"],
            order["max_output_bytes"],
            "none" if order["sweep"] is not None else order["new_files"],
            f"{self.folder.home.snapshots}/{order['digest']}",
            started.files_since_ns if started else 0,
        )

    def finish(self, end: End) -> None:
        """Gather the outputs and write exit.json; no process of the attempt is left."""
        folder, order, report = self.folder, self.order, self.report
        masking.mask_logs(folder, order)
        gathered = outputs.gather(folder, self.wanted())
        environment.keep_venv(folder, self.wanted().since_ns)
        judge_outputs(end, gathered, folder.out, order["max_output_bytes"], order["environment"]["notes"])
        end.reason = masking.mask_text(end.reason, masking.values_of(order))
        blame_the_disk(end, folder, order.get("disk_free_bytes", 0))
        ramdisk.remove(folder)
        ram_shared.leave(folder)
        short_tmp.remove(folder)
        panes.close(self.pane, folder)
        ran_s = time.monotonic() - self.began_s if self.began_s is not None else 0.0
        # By the monotonic clock: whoever sets the other one makes no attempt end before it began.
        report.update(state="ended", ended_at_s=report["started_at_s"] + ran_s if ran_s else time.time())
        is_long = ran_s > _WORTH_A_FLUSH_S
        report["output_digest"] = secure_outputs(folder, end, flush=is_long)
        report.update(outcome=end.outcome, reason=end.reason)
        report.update(exit_code=end.exit_code, signal=end.signal, at_fault=end.at_fault)
        if end.outcome == "lost" and self.stop.reason == "scheduler":
            report["by_scheduler"] = True  # `serve` asks it why
        report.update(gathered.facts(), left_for_s=order["keep_left_s"] if gathered.left_files else None)
        records.replace_at_last(folder.exit, records.encode(report), room_makers(folder), sync=is_long)
        masking.forget(folder)
        records.remove_file(folder.reserve)
        records.tell(folder.home.run, folder.name)


def secure_outputs(folder: AttemptFolder, end: End, flush: bool) -> str:
    """Put the outputs on disk, if that is wanted, before the record that counts them, and return their digest. What
    cannot be written or read back is lost by the node's fault.
    """
    try:
        digest = output_digest.digest_of(folder.out)
        if flush:
            durable.sync_tree(folder.out)
    except OSError as problem:
        end.outcome, end.at_fault = "lost", "node"
        end.reason = f"its outputs could not be written to the node's disk and read back: {problem.strerror}"
        return ""
    return digest


def judge_outputs(end: End, gathered: Gathered, out: str, max_bytes: int, notes: Sequence[str]) -> None:
    """Let outputs that could not be gathered or were too large, and the job's own words, have their say."""
    if gathered.problem and end.outcome == "done":
        end.outcome, end.reason = "failed", gathered.problem
    elif gathered.problem:
        end.reason += "; " + gathered.problem
    if end.outcome == "failed":
        end.reason = own_words(out) or end.reason
        if notes and b"ModuleNotFoundError" in last_bytes(out + "/stderr.log"):
            end.reason += f"; {notes[0]}"
    large = sum(why == "max_output" for _, _, why in gathered.left)
    if large:
        files = "1 file" if large == 1 else f"{large} files"
        sentence = f"{files} did not fit into max_output ({job.gib(max_bytes)}) and stayed on the node"
        end.reason = "; ".join(filter(None, (end.reason, sentence)))


def room_makers(folder: AttemptFolder) -> list[Callable[[], None]]:
    """What can go on a full disk, so that the record can be written: the reserve, then all that is not sent back."""

    def drop_work() -> None:
        for path in (folder.tmp, folder.venv, folder.work):
            shutil.rmtree(path, ignore_errors=True)

    return [lambda: records.remove_file(folder.reserve), drop_work]


def blame_the_disk(end: End, folder: AttemptFolder, free_bytes: int) -> None:
    """An attempt that failed while the node's disk was full is lost by the node's fault, and runs elsewhere; unless it
    filled the disk itself; `free_bytes` is what was free when it was launched.
    """
    if end.outcome != "failed" or not disk_is_full(folder.out):
        return
    own_bytes = allocated_bytes(folder.path)
    if own_bytes > free_bytes * _OWN_SHARE_MAX:
        end.reason += (
            f"; the node's disk is full of its own files: they take {job.gib(own_bytes)}, and "
            f"{job.gib(free_bytes)} were free when it was launched"
        )
    else:
        end.reason += "; the node's disk is full"
        end.outcome, end.at_fault = "lost", "node"


def allocated_bytes(root: str) -> int:
    """The space that the files below `root` take on the disk."""
    return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry, _ in readable.walk(root))


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


def last_bytes(path: str) -> bytes:
    """The end of a file; nothing of what is no file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(file, _LAST_BYTES, max(0, os.fstat(file).st_size - _LAST_BYTES))
    except OSError:  # a folder
        return b""
    finally:
        os.close(file)


def first_report(order: Order) -> Report:
    """The report of an attempt that has just begun to prepare."""
    return {
        "attempt": order["attempt"],
        "state": "preparing",
        "epoch": order.get("epoch", ""),
        "boot_id": order["boot_id"],
        "node_pid": os.getpid(),
        "gpu_uuids": [gpu["uuid"] for gpu in order["gpus"]],
        "cpu_ids": order["cpu_ids"],
    }


def publish(folder: AttemptFolder, report: Report) -> None:
    """Replace state.json and tell every `serve`. On a full disk the job goes on all the same: exit.json will tell."""
    try:
        records.replace(folder.state, records.encode(report))
    except OSError as problem:
        if not records.is_full(problem):
            raise
    records.tell(folder.home.run, folder.name)
