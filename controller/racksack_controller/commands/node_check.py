"""`racksack node check NAME`: try everything that a node needs, and say what is missing and how to mend it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import click
import msgspec

from racksack_controller.commands.finding import Finding
from racksack_controller.commands.power_check import check_power
from racksack_controller.commands.rehearse import RefusedError, RehearsalError, rehearse
from racksack_controller.config import Config, ConfigError, NodeConfig, load_config
from racksack_controller.main import DEFAULT_CONFIG
from racksack_controller.nodes import make_node
from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.node import Hello, Node
from racksack_jobspecs.resources import Inventory
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_memory

CLOCK_SKEW_S_MAX = 5.0
DISK_BYTES_MIN = 2 * 1024**3


@click.command("check", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--config", "path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--rehearse", "with_rehearsal", is_flag=True, help="Also switch the empty node off and on again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, path: Path, with_rehearsal: bool, as_json: bool) -> int:
    """Try a node of the configuration: SSH, Python, rsync, tmux, clock, disk, devices, and every way of its power.

    With --rehearse the running controller drains it, switches it off and on, and remembers how long both took. The
    node must be empty.
    """
    try:
        config = load_config(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        return ExitCode.USAGE
    if name not in config.nodes:
        click.echo(f"{path} has no node {name!r}; it has {', '.join(sorted(config.nodes))}", err=True)
        return ExitCode.NOT_FOUND
    findings = asyncio.run(_all(config, name))
    code = ExitCode.ERROR if any(finding.verdict == "bad" for finding in findings) else ExitCode.OK
    if with_rehearsal:
        try:
            findings += asyncio.run(rehearse(config.spool, name, lambda words: click.echo(words, err=True)))
        except RehearsalError as error:
            findings.append(Finding("rehearsal", "bad", str(error)))
            code = ExitCode.REFUSED if isinstance(error, RefusedError) else ExitCode.ERROR
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:8} {finding.what:9} {finding.sentence}")
    return code


async def _all(config: Config, name: str) -> list[Finding]:
    """Node and power. A node that is known to be off is no fault, so a device's word comes first."""
    power = await check_power(config, name)
    is_off = any("the server is off" in finding.sentence for finding in power)
    reach = await check(config.nodes[name])
    if is_off and reach[0].verdict == "bad":
        reach = [Finding("reach", "warning", "it is off, so nothing on it could be looked at")]
        power = [_not_now(finding) if finding.what == "ssh" else finding for finding in power]
    return reach + power


def _not_now(finding: Finding) -> Finding:
    """What could not be tried on a server that is off is no fault."""
    return finding if finding.verdict == "good" else Finding(finding.what, "warning", finding.sentence)


async def check(config: NodeConfig) -> list[Finding]:
    """Everything found out about a node over one connection."""
    node = make_node(config.name, config.reach)
    started = time.monotonic()
    try:
        hello = await node.connect()
        took = time.monotonic() - started
        inventory = config.complete(await node.probe())
        findings = [Finding("reach", "good", f"connected and agent started in {took:.2f} s")]
        return findings + _look_at(hello, inventory, time.time()) + await _look_at_disk(node)
    except NodeError as error:
        return [Finding("reach", "bad", str(error))]
    finally:
        await node.close()


def _look_at(hello: Hello, inventory: Inventory, now: float) -> list[Finding]:
    skew = hello.clock_s - now
    return [
        Finding("python", "good", hello.python),
        _tool("rsync", hello.rsync, "bad", "install rsync on it"),
        _tool("session", hello.session, "bad", "install tmux (or screen) on it"),
        _tool("uv", hello.uv, "warning", "venvs are made by venv and pip, which takes seconds instead of a blink"),
        Finding("clock", "warning", f"is {skew:+.0f} s off the controller's; run an NTP client on both")
        if abs(skew) > CLOCK_SKEW_S_MAX
        else Finding("clock", "good", f"within {CLOCK_SKEW_S_MAX:.0f} s of the controller's"),
        Finding("size", "good", f"{inventory.cpus} CPUs, {format_memory(inventory.ram_bytes)}"),
        Finding("gpus", "good", ", ".join(gpu.model for gpu in inventory.gpus) or "none"),
    ]


def _tool(what: str, found: str | None, verdict: str, remedy: str) -> Finding:
    return Finding(what, "good", found) if found else Finding(what, verdict, f"not found: {remedy}")


async def _look_at_disk(node: Node) -> list[Finding]:
    free = (await node.stats()).disk_free_bytes
    verdict = "good" if free >= DISK_BYTES_MIN else "warning"
    return [Finding("disk", verdict, f"{format_memory(max(free, 1))} free")]
