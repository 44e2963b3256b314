"""Gives a node the uv that makes venvs fast, where it has none and the controller's own can run there.

Nothing depends on it: without uv the agent makes venvs with Python's own venv and pip, in seconds instead of tenths.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from racksack_controller.nodes.bootstrap import Ground
from racksack_controller.nodes.errors import NodeError, TransferFailed
from racksack_controller.nodes.transport import Transport

log = logging.getLogger(__name__)

GLIBC_OLDEST = (2, 17)  # what uv's Linux builds ask for (manylinux2014)


def controller_uv() -> Path | None:
    """The uv beside the controller, if it is installed."""
    try:
        import uv

        return Path(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None


def runs_there(ground: Ground, machine: str, libc: str) -> bool:
    """Whether a glibc program from a machine like ours (`machine`, `libc`) runs on that ground."""
    return ground.machine == machine and bool(libc) and _glibc(ground.libc) >= GLIBC_OLDEST


def own_libc() -> str:
    """`glibc 2.36`, or nothing where the C library is another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def _glibc(libc: str) -> tuple[int, ...]:
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", libc)
    return (int(found[1]), int(found[2])) if found else (0,)


async def push_uv(name: str, transport: Transport, ground: Ground) -> bool:
    """Put uv to `bin/uv` of the node's home; whether it works there. Failures are logged: jobs run without it."""
    binary = controller_uv()
    if binary is None or not runs_there(ground, os.uname().machine, own_libc()):
        return False
    remote = f"{ground.home}/bin/uv"
    try:
        if await _install(name, transport, binary, remote):
            return True
        await transport.run(["rm", "-f", remote + ".new"])
    except NodeError as error:
        log.warning("node %s got no uv (%s); venvs are made with pip", name, error)
    return False


async def _install(name: str, transport: Transport, binary: Path, remote: str) -> bool:
    """Raises NodeError. uv gets its name only once it is known to run: the agent looks for it at each launch."""
    await transport.run(["mkdir", "-p", remote.rpartition("/")[0]])
    try:
        await transport.push(binary, remote + ".new")
    except TransferFailed as error:
        log.warning("node %s got no uv (%s); venvs are made with pip", name, error)
        return False
    checked = await transport.run([remote + ".new", "--version"])
    if checked.exit_code != 0:
        log.warning("node %s cannot run the pushed uv (%s); venvs are made with pip", name, checked.stderr[-200:])
        return False
    return (await transport.run(["mv", "-f", remote + ".new", remote])).exit_code == 0
