"""Tries everything that a node needs, over a connection of its own, and says what is missing and how to fix it."""

from __future__ import annotations

import asyncio
import time

from racksack_controller.checks.cluster import look_at_cluster
from racksack_controller.checks.power import check_power
from racksack_controller.config.config import Config, NodeConfig
from racksack_controller.nodes import make_node
from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.node import Hello, Node
from racksack_jobspecs.findings import Finding, Verdict, clock, failed, ok, warning
from racksack_jobspecs.resources import Inventory
from racksack_jobspecs.units import format_memory

DISK_BYTES_MIN = 2 * 1024**3
NO_UV = "not found: environments are built by venv and pip, which takes seconds rather than milliseconds"


async def check_node(config: Config, name: str) -> list[Finding]:
    """Node and power, both at once. A node that is known to be off is no fault, so a device's word comes first."""
    async with asyncio.TaskGroup() as group:
        asking, reaching = group.create_task(check_power(config, name)), group.create_task(_reach(config.nodes[name]))
    power, reach = asking.result(), reaching.result()
    is_off = any("the server is off" in finding.sentence for finding in power)
    if is_off and reach[0].verdict is Verdict.FAILED:
        reach = [warning("reach", "it is off, so nothing on it could be checked")]
        power = [_not_now(finding) if finding.what == "ssh" else finding for finding in power]
    return reach + power


def _not_now(finding: Finding) -> Finding:
    """What could not be tried on a server that is off is no fault."""
    return finding if finding.verdict is Verdict.OK else warning(finding.what, finding.sentence)


async def _reach(config: NodeConfig) -> list[Finding]:
    """Everything found out about a node over one connection."""
    node = make_node(config.name, config.reach, config.slurm)
    started = time.monotonic()
    try:
        hello = await node.connect()
        took = time.monotonic() - started
        skew_s = hello.clock_s - time.time()
        inventory = config.complete(await node.probe())
        findings = [ok("reach", f"connected and agent started in {took:.2f} s")]
        if config.slurm is not None:
            findings += look_at_cluster(config.slurm, await node.slurm())
        return findings + _look_at(hello, inventory, skew_s) + await _look_at_disk(node)
    except NodeError as error:
        return [failed("reach", str(error))]
    finally:
        await node.close()


def _look_at(hello: Hello, inventory: Inventory, skew_s: float) -> list[Finding]:
    return [
        ok("python", hello.python),
        _tool("rsync", hello.rsync, failed("rsync", "not found: install rsync on it")),
        _tool("session", hello.session, failed("session", "not found: install tmux (or screen) on it")),
        _tool("uv", hello.uv, warning("uv", NO_UV)),
        clock("clock", skew_s, "the controller's"),
        ok("size", f"{inventory.cpus} CPUs, {format_memory(inventory.ram_bytes)}"),
        _gpus(inventory),
    ]


def _gpus(inventory: Inventory) -> Finding:
    found = ", ".join(gpu.model for gpu in inventory.gpus) or "none"
    wrong = [*(gpu.sentence for gpu in inventory.set_aside), *inventory.problems]
    return warning("gpus", "; ".join([found, *wrong])) if wrong else ok("gpus", found)


def _tool(what: str, found: str | None, missing: Finding) -> Finding:
    return ok(what, found) if found else missing


async def _look_at_disk(node: Node) -> list[Finding]:
    return [free_space("disk", (await node.stats()).disk_free_bytes)]


def free_space(what: str, free_bytes: int) -> Finding:
    """Whether there is room on a disk for the work of more than a moment."""
    free = f"{format_memory(max(free_bytes, 1))} free"
    if free_bytes < DISK_BYTES_MIN:
        return warning(what, f"{free}, less than {format_memory(DISK_BYTES_MIN)}; make room on it")
    return ok(what, free)
