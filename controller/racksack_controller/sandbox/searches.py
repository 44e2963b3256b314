"""Searches that learn from results, each in a sandbox process of its own, as the sweeps see them.

What such a search costs its author decides: by the parameters, by the points drawn before, and by what his programs
return. In a thread it would share the interpreter with everybody's jobs, and could not be ended. The others, which
learn nothing, are bounded by their own measure and stay where they are.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sandbox import wire
from racksack_controller.sandbox.process import CPU_TO_CLOCK, environment
from racksack_controller.sandbox.search_operations import Begin, Go
from racksack_controller.sweeps.search.optuna_search import make_drawer
from racksack_controller.sweeps.search.protocol import Drawer, Known, Outcome
from racksack_controller.sweeps.search.samplers import SearchError
from racksack_jobspecs.sweep.spec import Params

BEGIN_CPU_S = 120.0  # to bring a search of the largest size to where it was
DRAW_CPU_S, DRAW_CPU_S_EACH = 20.0, 2.0
DRAWN_MAX = 64  # points of one request
MEMORY_BYTES = 1024**3
READ_BYTES = 1024**2

_decode_params = msgspec.msgpack.Decoder(list[Params]).decode


class Searches:
    """Makes them, and ends their processes."""

    def __init__(self) -> None:
        self._live: set[SearchProcess] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def make(
        self, sweep: Sweep, drawn: Sequence[Params], outcomes: Sequence[Outcome], known: Sequence[Known] = ()
    ) -> Drawer:
        """The search of a sweep; called in a thread. Raises SearchError."""
        if not sweep.sweep.is_adaptive:
            return make_drawer(sweep, drawn, outcomes, known)
        process = SearchProcess(self)
        with self._lock:
            self._live.add(process)
        if self._is_closed:
            process.close()
            raise SearchError("the controller is stopping")
        process.ask("begin_search", Begin(sweep, list(drawn), list(outcomes), list(known)), BEGIN_CPU_S)
        return process

    def forget(self, process: SearchProcess) -> None:
        """It has ended."""
        with self._lock:
            self._live.discard(process)

    def close(self) -> None:
        """End all processes, whatever they do; threads that wait for one go on at once."""
        with self._lock:
            self._is_closed = True
            live = list(self._live)
        for process in live:
            process.close()


class SearchProcess:
    """One search. Called in a thread, never by two at once, but for `close`."""

    def __init__(self, searches: Searches) -> None:
        self._searches = searches
        self._told: list[Outcome] = []
        try:
            self._process = subprocess.Popen(
                (sys.executable, "-P", "-m", "racksack_controller.sandbox.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise SearchError(f"no process could be started for the search ({error.strerror})") from error

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came of points; handed over with the next draw."""
        self._told += outcomes

    def draw(self, count: int) -> list[Params]:
        """The next points. Raises SearchError."""
        count = max(0, min(count, DRAWN_MAX))
        told, self._told = self._told, []
        return _decode_params(self.ask("draw_points", Go(told, count), DRAW_CPU_S + DRAW_CPU_S_EACH * count))

    def ask(self, operation: str, message: Begin | Go, cpu_s: float) -> bytes:
        """What an operation gives. Raises SearchError, and but for a refusal the process has ended then."""
        request = wire.encode(wire.Request(operation, msgspec.msgpack.encode(message), cpu_s, MEMORY_BYTES))
        try:
            reply = wire.decode_reply(self._exchange(request, CPU_TO_CLOCK * cpu_s))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            raise SearchError(_why(error, self._process.returncode, cpu_s)) from None
        if reply.kind == "ok":
            return reply.payload
        if reply.kind == "refused":
            raise SearchError(reply.sentence)
        self.close()
        if reply.kind == "memory":
            raise SearchError(
                f"choosing the next points takes more than {MEMORY_BYTES >> 20} MiB of memory; {_SMALLER}"
            )
        raise SearchError(f"the search failed: {reply.sentence}")

    def _exchange(self, request: bytes, clock_s: float) -> bytes:
        """Raises OSError, EOFError, TimeoutError."""
        to_it, from_it = self._process.stdin, self._process.stdout
        assert to_it is not None  # noqa: S101 - they are pipes
        assert from_it is not None  # noqa: S101
        to_it.write(wire.LENGTH.pack(len(request)) + request)
        to_it.flush()
        until_s = time.monotonic() + clock_s
        with selectors.DefaultSelector() as selector:
            selector.register(from_it, selectors.EVENT_READ)
            head = self._read(selector, from_it.fileno(), wire.LENGTH.size, until_s)
            (length,) = wire.LENGTH.unpack(head)
            if length > wire.REPLY_BYTES_MAX:
                raise EOFError
            return self._read(selector, from_it.fileno(), length, until_s)

    def _read(self, selector: selectors.BaseSelector, file: int, length: int, until_s: float) -> bytes:
        found = bytearray()
        while len(found) < length:
            if not selector.select(max(0.0, until_s - time.monotonic())):
                raise TimeoutError
            data = os.read(file, min(READ_BYTES, length - len(found)))
            if not data:
                raise EOFError
            found += data
        return bytes(found)

    def close(self) -> None:
        """End it at once, whatever it does. May be called by any thread, and twice."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        self._searches.forget(self)


_SMALLER = "use fewer parameters or points, or a search that does not learn, such as random"


def _why(error: Exception, code: int | None, cpu_s: float) -> str:
    if isinstance(error, TimeoutError):
        return "this machine is too busy to choose the next points now; resume the sweep later"
    if code == -24:  # SIGXCPU
        return f"choosing the next points takes more than {cpu_s:g} s of computing; {_SMALLER}"
    return "the process of the search ended; resume the sweep to begin it again"
