"""Reads what users write, in the sandbox: job files, and which points their sweeps have.

Whatever a text costs there, it costs its own user: the others' texts are read beside it.
"""

from __future__ import annotations

import logging
import re

import msgspec

from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.intake.drop import DroppedFile
from racksack_controller.intake.ingest import IngestPostponed
from racksack_controller.sandbox.operations import Read
from racksack_controller.sandbox.pool import Sandbox
from racksack_controller.sandbox.process import BusyError, FaultError, RefusedError
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import SweepSpec
from racksack_jobspecs.yamltext import Problem

log = logging.getLogger("racksack.intake")

READ_CPU_S = 10.0
NUMBER_CPU_S = 15.0  # a grid of the largest size with a short constraint takes less; clients wait for half a minute

_decode_read = msgspec.msgpack.Decoder(Read).decode
_decode_pairs = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode
_encode = msgspec.msgpack.Encoder().encode


class Reader:
    """Reads for users in turn."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def read(self, owner: str, text: str) -> Read:
        """What a job file says. Raises JobFileError where it cannot be read at all, and IngestPostponed."""
        answer = await self._compute(owner, "read", text.encode("utf-8", "surrogatepass"), READ_CPU_S, "")
        return _decode_read(answer)

    async def spec(self, owner: str, text: str) -> JobSpec:
        """The spec of a job file. Raises JobFileError with all that is wrong with it, and IngestPostponed."""
        read = await self.read(owner, text)
        if read.spec is None:
            raise JobFileError(read.problems, read.submission)
        return read.spec

    async def points(self, owner: str, spec: SweepSpec) -> Ranges:
        """The numbers of a sweep's points. Raises JobFileError and IngestPostponed."""
        return Ranges(_decode_pairs(await self._compute(owner, "number", _encode(spec), NUMBER_CPU_S, "sweep.where")))

    async def _compute(self, owner: str, operation: str, payload: bytes, cpu_s: float, path: str) -> bytes:
        try:
            return await self._sandbox.compute(owner, operation, payload, cpu_s=cpu_s)
        except RefusedError as error:
            raise JobFileError([Problem(0, path, str(error))]) from None
        except FaultError as error:
            log.error("a text of %s could not be computed (%s): %s", owner, operation, error)
            raise JobFileError([Problem(0, path, f"the controller cannot read this ({error}); {OUR_FAULT}")]) from None
        except BusyError as error:
            raise IngestPostponed(str(error)) from None


_KEY_LINE = re.compile(r"""^submission:[ ]{0,9}["']?([A-Za-z0-9._:-]{1,200})["']?[ ]{0,9}$""", re.MULTILINE)


def legible_key(text: str) -> str:
    """The submission key of a text that may never be read, so that whoever waits for it hears of that; or nothing."""
    found = _KEY_LINE.search(text)
    return found[1] if found else ""


OUR_FAULT = "this is a bug in racksack: please report it, and write the file differently meanwhile"


def with_read(file: DroppedFile, read: Read) -> DroppedFile:
    """A dropped file with what it says."""
    return msgspec.structs.replace(
        file, spec=read.spec, problems=read.problems, submission=read.submission or file.submission
    )
