"""One slot: the worker process in it, its part of the job's cores, and one GPU where the job has any."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional

from racksack_agent import processes
from racksack_agent.supervisor import variables
from racksack_agent.sweep_runner import frames, worker
from racksack_agent.sweep_runner.batches import Batch

Plan = Dict[str, Any]

_PROGRESS = struct.Struct("=QQd")
_VERDICT = struct.Struct("=QQQQ")


class Slot:
    """A place for one worker."""

    def __init__(self, number: int, plan: Plan, plan_path: str) -> None:
        self.number = number
        self._plan = plan
        self._plan_path = plan_path
        gpus = plan["gpus"]
        self._gpu: Optional[Dict[str, Any]] = gpus[number % len(gpus)] if gpus else None
        self.cpu_ids = share(plan["cpu_ids"], plan["slots"], number)
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.channel: Optional[socket.socket] = None
        self.splitter = frames.Splitter()
        self.batches: Deque[Batch] = deque()
        self.is_up = False
        self.killed_for = ""  # why we ended it: timeout, oom
        self.deaths_in_a_row = 0
        self.batch_began_s = 0.0
        self._shared: Optional[mmap.mmap] = None

    def start(self, run: int, streams: tuple[int, int]) -> socket.socket:
        """Start a worker; returns our end of its socket. Raises OSError."""
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as shared, theirs:
            os.ftruncate(shared.fileno(), worker.SHARED_BYTES)
            self._shared = mmap.mmap(shared.fileno(), worker.SHARED_BYTES)
            settings = self._settings(run)
            argv = [
                self._plan["python"], worker.__file__, str(theirs.fileno()), str(shared.fileno()), self._plan_path,
                json.dumps(settings),
            ]  # fmt: skip
            self.process = subprocess.Popen(
                argv, env=self._environment(run), cwd=self._plan["work"], stdin=subprocess.DEVNULL,
                stdout=streams[0], stderr=streams[1], pass_fds=(theirs.fileno(), shared.fileno()),
                start_new_session=True,
            )  # fmt: skip
        ours.setblocking(True)
        self.channel, self.splitter, self.is_up, self.killed_for = ours, frames.Splitter(), False, ""
        return ours

    def _settings(self, run: int) -> Dict[str, Any]:
        extra = self._plan["runs"][run]["fixed"]
        scratch = f"{self._plan['folder']}/slots/{self.number}"
        return {"cpu_ids": self.cpu_ids, "extra": extra, "scratch": scratch}

    def _environment(self, run: int) -> Dict[str, str]:
        """The job's variables, with the threads and the one GPU of this slot."""
        plan = self._plan
        env = {**os.environ, **plan["runs"][run]["env"]}
        env["RACKSACK_SLOT"] = str(self.number)
        env["PYTHONUNBUFFERED"] = "1"
        if self._gpu is not None:
            variables.mask_gpus(env, [self._gpu])
            env["RACKSACK_GPUS"] = str(self._gpu["index"])
            env["RACKSACK_GPU_UUIDS"] = self._gpu["uuid"]
        return env

    @property
    def device(self) -> Optional[int]:
        """The index of its GPU on this node."""
        return int(self._gpu["index"]) if self._gpu is not None else None

    @property
    def pid(self) -> int:
        """Of the worker."""
        assert self.process is not None  # noqa: S101 - the caller started it
        return self.process.pid

    def send(self, batch: Batch) -> None:
        """Hand out a batch. Raises OSError when the worker is gone."""
        assert self.channel is not None  # noqa: S101 - the caller started it
        if not self.batches:
            self.batch_began_s = time.monotonic()
        self.batches.append(batch)
        self.channel.sendall(frames.encode(batch.message()))

    def progress(self) -> tuple[int, int, float]:
        """The batch, the index of the point in it, and since when (monotonic seconds, 0 between points)."""
        assert self._shared is not None  # noqa: S101 - the caller started it
        batch, index, began_s = _PROGRESS.unpack_from(self._shared)
        return int(batch), int(index), float(began_s)

    def pass_on(self, batch: int, index: int, rungs: int, stop: bool) -> None:
        """Tell the worker the verdict on a point that it works on: how many rungs were judged, and whether it stops."""
        assert self._shared is not None  # noqa: S101 - the caller started it
        _VERDICT.pack_into(self._shared, _PROGRESS.size, batch, index, rungs, int(stop))

    def end_if_overdue(self, limit_s: float, now_s: float) -> None:
        """Kill the worker if its point has run into its time limit; it is stopped first, so that no other is blamed."""
        seen = self.progress()
        if not self.batches or self.killed_for or seen[2] <= 0 or now_s - seen[2] < limit_s:
            return
        processes.send([self.pid], signal.SIGSTOP)
        if self.progress() == seen:
            self.kill("timeout")
        else:
            processes.send([self.pid], signal.SIGCONT)

    def kill(self, reason: str) -> None:
        """End the worker and all that it started; its death is then handled as any other."""
        self.killed_for = reason
        processes.send([self.pid], signal.SIGSTOP)  # it must not start anything while its children go
        processes.send([*processes.descendants(self.pid), self.pid], signal.SIGKILL)

    def let_go(self) -> None:
        """Close the way to the worker; one that lives ends by that."""
        if self.channel is not None:
            self.channel.close()
        self.channel = None

    def rss_bytes(self, proportional: bool = False) -> int:
        """Memory of the worker and all below it."""
        measure = processes.pss_bytes if proportional else processes.rss_bytes
        return sum(map(measure, [self.pid, *processes.descendants(self.pid)]))


def share(cpu_ids: List[int], slots: int, number: int) -> List[int]:
    """The cores of one slot: an equal part where there are enough, else all of them."""
    each = len(cpu_ids) // slots
    return cpu_ids[number * each : (number + 1) * each] if each else list(cpu_ids)
