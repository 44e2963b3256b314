"""Runs one power driver by hand, on whichever server this is started: how the tests of the rack's BMCs use them.

Usage: drive_power.py '{"redfish": {...}}' WORD...     status, on, soft_off, hard_off or watts, in this order;
writes a line for each: the word and what came of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

from racksack_controller.config.plain_fields import Mistakes
from racksack_controller.config.power import parse_power
from racksack_controller.power.build import Means, build_power
from racksack_controller.power.driver import PowerDriver, PowerError, PowerReading
from racksack_controller.power.ipmi_helper import IpmiHelper


async def no_shell(*_: object) -> tuple[int, str, str]:
    """These drivers reach their servers by themselves."""
    raise OSError("there is no shell here")


async def drive(driver: PowerDriver, words: Sequence[str]) -> None:
    """Do one word after the other."""
    for word in words:
        try:
            done = await getattr(driver, word)()
        except PowerError as error:
            print(word, type(error).__name__, error, flush=True)
            continue
        print(word, done.state.value if isinstance(done, PowerReading) else done or "done", flush=True)


async def main(block: str, words: Sequence[str]) -> None:
    """Build the driver as the controller does, from the same configuration."""
    mistakes: Mistakes = []
    can = {"wol": {"on": ["way"]}, "ssh": {"off": ["way"]}}
    driver_block = json.loads(block)
    ways = can.get(next(iter(driver_block)), {"on": ["way"], "off": ["way"]})
    settings = parse_power({"drivers": {"way": driver_block}, **ways}, "power", mistakes)
    if settings is None:
        sys.exit(f"drive_power.py: {mistakes}")
    helper = IpmiHelper()
    power = build_power(settings, Means("server", no_shell, no_shell, helper))
    try:
        await drive(power.drivers["way"], words)
    finally:
        await power.close()
        await helper.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
