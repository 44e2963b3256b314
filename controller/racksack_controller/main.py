"""Reads arguments and configuration, sets up logging and signals, and runs the controller until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from racksack_agent import process_title
from racksack_controller import logs, surroundings
from racksack_controller.config.config import (
    DEFAULT_CONFIG,
    Config,
    ConfigError,
    Defaults,
    Listen,
    NodeConfig,
    Watch,
    Web,
    load_config,
)
from racksack_controller.intake.spool import SpoolError, prepare
from racksack_controller.memory import give_large_blocks_back, leave_out_of_collections
from racksack_controller.nodes.settings import LocalSettings
from racksack_controller.power.secret import SecretError
from racksack_controller.store import StoreError
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import ExitCode

EMBEDDED_PORT = 8470
EMBEDDED_IDLE_S = 6 * 3600.0

log = logging.getLogger("racksack")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the controller; gives the exit code."""
    give_large_blocks_back()
    options = _parser().parse_args(arguments)
    try:
        notes = surroundings.make_fresh() if options.embedded else []
        read = partial(embedded_config, options.home) if options.embedded else partial(load_config, options.config)
        config = read()
        if options.check:
            count = len(config.nodes)
            print(f"{options.config}: OK, {count} node{'' if count == 1 else 's'}: {', '.join(sorted(config.nodes))}")
            return ExitCode.OK
        logs.set_up(options.home / "controller.log" if options.embedded else None)
        for note in notes:
            log.warning("%s", note)
        prepare(Spool(config.spool), config.group)
        return _run(config, read if config.path else None, EMBEDDED_IDLE_S if options.embedded else None)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.USAGE
    except (SpoolError, StoreError, SecretError, OSError) as error:
        print(f"racksack controller: {error}", file=sys.stderr)
        return ExitCode.ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("racksack controller", description="Run the controller in the foreground.")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="racksack.yaml (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--embedded", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, default=Path(), help=argparse.SUPPRESS)
    return parser


def embedded_config(home: Path) -> Config:
    """The controller of one machine and one user: HOME/racksack.yaml if there is one, else this machine as its node.

    Raises ConfigError.
    """
    spool = home / "spool"
    own = home / "racksack.yaml"
    if own.exists():
        return _at_home(load_config(own), home)
    name = socket.gethostname().split(".")[0] or "here"
    return Config(
        spool=spool,
        nodes={name: NodeConfig(name=name, reach=LocalSettings(home / "node"))},
        web=Web(listen=_free_address()),
        defaults=Defaults(time_limit_s=None),
        watch=Watch(settle_s=0.5, rescan_s=10.0),
    )


def _at_home(config: Config, home: Path) -> Config:
    """The same configuration with the spool in `home`, and this machine's node with it.

    Two embedded controllers must never share a node's folder: each would take the other's attempts for orphans.
    """
    nodes = {}
    for name, node in config.nodes.items():
        reach = node.reach
        if isinstance(reach, LocalSettings) and reach.home == config.spool / "node":
            reach = msgspec.structs.replace(reach, home=home / "node")
        nodes[name] = msgspec.structs.replace(node, reach=reach)
    return msgspec.structs.replace(config, spool=home / "spool", nodes=nodes)


def _free_address() -> Listen:
    """The usual port, or any free one where another controller has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", EMBEDDED_PORT))
        except OSError:
            return Listen("127.0.0.1", 0)
    return Listen("127.0.0.1", EMBEDDED_PORT)


def _run(config: Config, reread: Callable[[], Config] | None, idle_exit_s: float | None) -> int:
    # A job of this user that ends its helpers by name, with `pkill -f python`, is not to end the controller.
    process_title.set_title(" ".join(["racksack_controller", *sys.argv[1:]]))
    from racksack_controller.app import App  # after the arguments were found good: it takes a third of a second

    async def serve() -> None:
        app = App(config, reread)
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, app.stop)
        running.add_signal_handler(signal.SIGHUP, app.spawn_reload)
        await app.run(_announce, idle_exit_s=idle_exit_s)

    asyncio.run(serve())
    return ExitCode.OK


def _announce(address: str) -> None:
    leave_out_of_collections()
    log.info("ready web=%s", address or "none")
