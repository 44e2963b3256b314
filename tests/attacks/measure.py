"""Measures what attacks cost everybody else: `python -m tests.attacks.measure` as root, about a minute.

For each attack of one user, prints how late the event loop ever was, what the controller's memory grew by, and how long
a job file of another user waited meanwhile. The figures stand in docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from racksack_controller.app import App
from racksack_controller.config.limits import Limits
from tests.attacks.controllers import GOOD, config_of, drop, resident_bytes, running, submitted, until, upload
from tests.lag import watched_loop

EVE = 65534
FILES = 20  # of the attacker, one after another
LOOK_S = 3.0  # for how long the attack goes on before and while the other's file is dropped
HEAD = "project: up1\nentrypoint: main.py\n"


def sweep(params: str, rest: str) -> str:
    return f"{HEAD}sweep: {{function: f, params: {{{params}}}, {rest}}}\n"


def axes(count: int, values: str) -> str:
    return ", ".join(f"p{at}: '{values}'" for at in range(count))


CHOICES = ", ".join(f"{name}: 1:460:1" for name in "abc")
ATTACKS: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "a list multiplied in `where`": lambda: sweep("fast: [1, 2]", "where: 'fast in [1] * 100000000000'"),
    "text formatting in `where`": lambda: sweep("fast: [1, 2]", 'where: \'"%2000000000d" % fast == "1"\''),
    "a hundred logarithmic axes": lambda: sweep(axes(99, "log:1e-5:1e-1:99999"), "metric: value:max"),
    "a step without end": lambda: sweep("a: '0:1e299:1'", "metric: value:max"),
    "a hundred million combinations, a long `where`": lambda: sweep(
        CHOICES, "where: '" + " and ".join(["a * b * c % 7 > -1"] * 25) + "'"
    ),
    "a random search that finds nothing": lambda: sweep(
        axes(6, "1:50:1"), "where: 'p0 > p1 + 60', search: {kind: random, count: 500}"
    ),
    "half a million metrics": lambda: sweep("a: 1:2:1", f"metric: '{'m,' * 400_000}'"),
    "9,000 unknown keys": lambda: HEAD + "".join(f"entrypoin{at}: 1\n" for at in range(9000)),
    "an array of 100,000": lambda: HEAD + "hold: true\narray: 0-99999\n",
}


async def measured(name: str, text: str) -> None:
    root = Path(tempfile.mkdtemp(prefix="rs-at-", dir="/tmp"))
    config = msgspec.structs.replace(config_of(root), limits=Limits(jobs=10_000_000))
    try:
        async with running(config) as app:
            upload(app.spool, "up1", "def f(**params):\n    return 1\n")
            upload(app.spool, "up2")
            before = resident_bytes()
            async with watched_loop() as lag:
                files = 1 if "array" in text else FILES
                for number in range(files) if text else ():
                    hand_over(drop(app.spool, f".eve{number}", text), app, f"eve{number}")
                await asyncio.sleep(LOOK_S)
                waited_s = await other_waits_s(app)
                await asyncio.sleep(LOOK_S)
            grown = (resident_bytes() - before) / 2**20
        late = f"{lag.waited_s * 1000:.0f} ms ({lag.busy_s * 1000:.0f})"
        print(f"| {name} | {late} | {grown:+.0f} MiB | {waited_s:.2f} s |")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def hand_over(path: Path, app: App, name: str) -> None:
    """The file becomes another user's before it is met under its name."""
    os.chown(path, EVE, EVE)
    path.rename(app.spool.jobs / f"{name}.yaml")


async def other_waits_s(app: App) -> float:
    began = time.monotonic()
    drop(app.spool, "good", GOOD.format(project="up2") + "name: good\nhold: true\n")
    await until(lambda: submitted(app, "good"), "the other user's file")
    return time.monotonic() - began


def main() -> None:
    logging.disable(logging.ERROR)
    if os.geteuid() != 0:
        sys.exit("this needs root: the attacker and the one who waits are two users")
    print("| attack | lag of the loop by the clock (by its own processor time) | memory | another user's job waited |")
    print("| --- | --- | --- | --- |")
    for name, text in ATTACKS.items():
        asyncio.run(measured(name, text()))


if __name__ == "__main__":
    main()
