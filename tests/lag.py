"""How long the event loop lets others wait, watched while something happens to it.

What is asserted is processor time of the loop's own thread between two beats: on a machine that others use too, the
clock says more about them than about us. `waited_s` is the clock's figure, for a person to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

BEAT_S = 0.005
BUSY_S_MAX = 0.1  # the law: nothing delays others by more than this


@dataclass
class Lag:
    """The longest stretch without a beat."""

    busy_s: float = 0.0  # processor time of the loop's thread
    waited_s: float = 0.0  # by the clock, beyond the beat


@contextlib.asynccontextmanager
async def watched_loop() -> AsyncIterator[Lag]:
    """Watch the running loop until the block ends.

    What the tests before this one left is kept out of garbage collections: going through it is no work of the loop's.
    """
    lag = Lag()
    gc.collect()
    gc.freeze()
    beating = asyncio.create_task(_beat(lag))
    await asyncio.sleep(0)
    try:
        yield lag
        await asyncio.sleep(2 * BEAT_S)  # what came last counts as well
    finally:
        gc.unfreeze()
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat(lag: Lag) -> None:
    busy_s, clock_s = time.thread_time(), time.monotonic()
    while True:
        await asyncio.sleep(BEAT_S)
        busy, clock = time.thread_time(), time.monotonic()
        lag.busy_s = max(lag.busy_s, busy - busy_s)
        lag.waited_s = max(lag.waited_s, clock - clock_s - BEAT_S)
        busy_s, clock_s = busy, clock
