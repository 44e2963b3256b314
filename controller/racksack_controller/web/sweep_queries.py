"""Asks the sandbox about a sweep's results, on behalf of whoever sent a request."""

from __future__ import annotations

import logging
from typing import TypeVar

import msgspec
from aiohttp import web

from racksack_controller.sandbox.operations import Query
from racksack_controller.sandbox.process import BusyError, FaultError, RefusedError
from racksack_controller.web.caller import refusal, while_connected
from racksack_controller.web.context import CONTEXT
from racksack_jobspecs.states import ExitCode

log = logging.getLogger("racksack.web")

CPU_S = 20.0
MEMORY_BYTES = 3 * 1024**3  # of address space: the store is mapped into it
T = TypeVar("T")


async def ask(request: web.Request, answer: type[T], sweep: int, name: str, **arguments: object) -> T:
    """What a query of `queries.QUERIES` gives. Raises ValueError with a sentence where it has no answer.

    Refuses with a sentence where it cannot be computed now, or at all.
    """
    context = request.app[CONTEXT]
    query = Query(str(context.store.path), sweep, name, arguments)
    caller = context.caller(request)
    user = caller.name if caller.uid is not None else f"at {request.remote}"
    try:
        work = context.sandbox.compute(
            user, "query", msgspec.msgpack.encode(query), cpu_s=CPU_S, memory_bytes=MEMORY_BYTES
        )
        data = await while_connected(request, work)
    except RefusedError as error:
        raise ValueError(str(error)) from None
    except BusyError as error:
        raise refusal(f"not possible now: {error}; try again", ExitCode.REFUSED) from None
    except FaultError as error:
        log.error("sweep=%s %s cannot be computed: %s", sweep, name, error)
        raise refusal("the controller could not compute this; see its log", ExitCode.ERROR) from None
    return msgspec.msgpack.decode(data, type=answer)
