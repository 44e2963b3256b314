"""One sandbox process, as the controller sees it: started, asked, and killed when it takes too long."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import msgspec

from racksack_controller.sandbox import wire

CPU_TO_CLOCK = 6.0  # on a busy machine it may last so many times its processor time
CLOCK_S_LEAST = 60.0
RESIDENT_BYTES_MAX = 256 * 1024**2  # a process that is larger after its work is replaced
_ENV = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")  # of the controller's environment, which may hold secrets


class RefusedError(Exception):
    """It cannot be computed as it was asked; the sentence is for whoever asked."""


class TooMuchError(RefusedError):
    """It takes more time or memory than it may. The sentence says so."""


class FaultError(Exception):
    """Nobody foresaw this: the computation raised something, or its process died. What asked for it is set aside."""


class BusyError(Exception):
    """It was not computed now: try again later."""


class SandboxProcess:
    """A process that computes one request at a time. After any error but RefusedError it is of no more use."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.is_usable = True

    @classmethod
    async def start(cls) -> SandboxProcess:
        """Start one. Raises BusyError where none can be started now."""
        command = (sys.executable, "-P", "-m", "racksack_controller.sandbox.worker")
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, cwd="/", env=environment(), limit=2**20, start_new_session=True
            )
        except OSError as error:
            raise BusyError(f"no process could be started ({error.strerror})") from error
        return cls(process)

    async def ask(self, request: wire.Request) -> bytes:
        """What an operation gives. Raises RefusedError, TooMuchError, FaultError and BusyError."""
        try:
            async with asyncio.timeout(max(CLOCK_S_LEAST, CPU_TO_CLOCK * request.cpu_s)):
                reply = await self._exchange(request)
        except TimeoutError:
            await self.kill()
            raise BusyError(f"this machine is too busy to {_DOING.get(request.operation, 'compute')} it now") from None
        except (OSError, EOFError, msgspec.DecodeError):
            raise await self._how_it_ended(request) from None
        except BaseException:
            self.is_usable = False  # cancelled in the middle of an answer
            raise
        self.is_usable = reply.resident_bytes <= RESIDENT_BYTES_MAX
        if reply.kind == "refused":
            raise RefusedError(reply.sentence)
        if reply.kind == "memory":
            raise _too_much(request, f"{request.memory_bytes // 1024**2} MiB of memory")
        if reply.kind == "fault":
            raise FaultError(reply.sentence)
        return reply.payload

    async def _exchange(self, request: wire.Request) -> wire.Reply:
        to_it, from_it = self._process.stdin, self._process.stdout
        assert to_it is not None  # noqa: S101 - they are pipes
        assert from_it is not None  # noqa: S101
        data = wire.encode(request)
        to_it.write(wire.LENGTH.pack(len(data)) + data)
        await to_it.drain()
        (length,) = wire.LENGTH.unpack(await from_it.readexactly(wire.LENGTH.size))
        if length > wire.REPLY_BYTES_MAX:
            raise EOFError
        return wire.decode_reply(await from_it.readexactly(length))

    async def _how_it_ended(self, request: wire.Request) -> Exception:
        """Why a process said nothing more."""
        await self.kill()
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return _too_much(request, f"{request.cpu_s:g} s of computing")
        if code == -signal.SIGKILL:
            return _too_much(request, "the memory that this machine has left")
        return FaultError(f"the process that computed it ended with {_code(code)}")

    async def kill(self) -> None:
        """End one that answers no more."""
        if self._process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._process.wait()  # it may be ending by itself, with a code that says why
        await self.close()

    async def close(self) -> None:
        """End it at once, whatever it does."""
        self.is_usable = False
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
            with suppress(OSError):  # what was written last may not have arrived; the answer to it is missed already
                await self._process.stdin.wait_closed()


def environment() -> dict[str, str]:
    """Of a sandbox process."""
    return {**_ENV, **{name: os.environ[name] for name in _KEPT if name in os.environ}}


_DOING = {"read": "read", "number": "count", "query": "rank"}


def _too_much(request: wire.Request, what: str) -> TooMuchError:
    doing = {"read": "reading it", "number": "counting its points", "query": "ranking its points"}
    return TooMuchError(f"{doing.get(request.operation, 'it')} takes more than {what}; make it smaller")


def _code(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
