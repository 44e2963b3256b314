"""A sandbox process: computes one request after another until its input ends.

Before each it sets its own limits: the kernel ends it (SIGXCPU) when the processor time is used up, and refuses memory
beyond the bound, which Python raises as MemoryError. The controller sees either, says so, and starts another process.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from pathlib import Path

from racksack_controller.sandbox import operations, wire
from racksack_controller.sandbox.refused import RefusedError

NICE = 5  # below the controller, which answers everybody
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve requests on standard input and output."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not stand among the replies
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    while (data := wire.receive(sys.stdin.buffer)) is not None:
        wire.send(output, _answer(wire.decode_request(data)))


def _answer(request: wire.Request) -> wire.Reply:
    try:
        operation = operations.TABLE[request.operation]
        operations.prepare(request.operation)
        _limit(request.cpu_s, request.memory_bytes)
        try:
            payload = operation(request.payload)
        finally:
            _unlimit_memory()
    except MemoryError:
        return wire.Reply("memory", resident_bytes=_sizes()[1])
    except RefusedError as error:
        return wire.Reply("refused", sentence=str(error), resident_bytes=_sizes()[1])
    except Exception as error:  # noqa: BLE001 - told to the controller, which logs it
        return wire.Reply("fault", sentence=f"{type(error).__name__}: {error}", resident_bytes=_sizes()[1])
    if len(payload) > wire.REPLY_BYTES_MAX - 1024**2:
        return wire.Reply("memory", resident_bytes=_sizes()[1])
    return wire.Reply("ok", payload, resident_bytes=_sizes()[1])


def _limit(cpu_s: float, memory_bytes: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_limit = math.ceil(used.ru_utime + used.ru_stime + cpu_s)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_sizes()[0] + memory_bytes, hard))


def _unlimit_memory() -> None:
    """The reply itself must always find room."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _sizes() -> tuple[int, int]:
    """Bytes of address space, and of them in memory."""
    size, resident = Path("/proc/self/statm").read_bytes().split()[:2]
    return int(size) * _PAGE, int(resident) * _PAGE


if __name__ == "__main__":
    main()
